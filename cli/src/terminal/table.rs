//! Tables on standard output.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Row, Table, TableStyle};

/// One rule, under the header.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A plain table; the first column is left-aligned, the others right-aligned.
pub fn table<H: AsRef<str>, R: Into<Row>>(
    header: impl AsRef<[H]>,
    rows: impl IntoIterator<Item = R>,
) -> Table {
    let header = header.as_ref().iter().map(AsRef::as_ref);
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    if header.clone().any(|title| !title.is_empty()) {
        table.set_header(header);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
