//! A report as one HTML file: no script, nothing loaded from anywhere, charts inside.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};

use crate::document::Document;
use crate::{Report, ReportError};

/// The names end in `.html`, so that minijinja escapes what is put into them.
const PAGE: &str = "page.html";

/// The page's text.
///
/// # Errors
/// A chart or the page cannot be written.
pub fn write(report: &Report) -> Result<String, ReportError> {
    render(Document::new(report)?)
}

/// A document's page.
pub(crate) fn render(document: Document) -> Result<String, ReportError> {
    let failed =
        |error: minijinja::Error| ReportError::Rendering { format: "HTML", reason: format!("{error:#}") };
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.add_template(PAGE, include_str!("page.html")).map_err(failed)?;
    let page = environment.get_template(PAGE).map_err(failed)?;
    page.render(context! { document => Serde(document), style => include_str!("style.css") }).map_err(failed)
}
