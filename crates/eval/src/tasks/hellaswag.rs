//! HellaSwag (Zellers et al. 2019): WikiHow and ActivityNet sentences, with marks of their sources to take out.

use super::fields::{Fields, choices, field, index, text};
use super::item::{ChoiceItem, Choices};
use super::python::{capitalize, strip};

/// The layout of the data set: `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`.
pub(super) fn hellaswag(fields: &Fields) -> Result<ChoiceItem, String> {
    let (a, b) = (text(fields, "ctx_a")?, text(fields, "ctx_b")?);
    let context = clean(&format!("{}: {a} {}", text(fields, "activity_label")?, capitalize(b)));
    let endings: Vec<_> =
        choices(field(fields, "endings")?, "endings")?.iter().map(|text| clean(text)).collect();
    if endings.iter().any(String::is_empty) {
        return Err("field `endings` holds nothing but marks in brackets".into());
    }
    let gold = index(fields, "label", endings.len())?;
    Ok(ChoiceItem { description: String::new(), choices: Choices::Endings { context, endings }, gold })
}

/// Without marks in brackets; ` [title]` is the end of a sentence.
fn clean(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    without_brackets(&text).replace("  ", " ")
}

/// Without what the regular expression `\[.*?\]` finds: from each `[` to the next `]` of the same line.
fn without_brackets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        match inside.find([']', '\n']) {
            Some(close) if inside[close..].starts_with(']') => {
                kept.push_str(&rest[..open]);
                rest = &inside[close + 1..];
            }
            _ => {
                kept.push_str(&rest[..=open]);
                rest = inside;
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_the_source_are_taken_out() {
        assert_eq!(
            clean(" [header] How to row [title] Sit down. [step] Take  the oars [sic]."),
            " How to row. Sit down. Take the oars ."
        );
        assert_eq!(without_brackets("a [b [c] d] e"), "a  d] e");
        assert_eq!(without_brackets("a [b\n[c] d ["), "a [b\n d [");
    }
}
