//! Tables on standard output.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// One rule, under the header.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A plain table; the first column is left-aligned, the others right-aligned.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    if header.iter().any(|title| !title.is_empty()) {
        table.set_header(header);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
