//! Worst cases, side by side.

use slmc_pipeline::jobs::worst::{Outlook, WorstCase};

use super::format::percent;
use super::table::table;

/// Characters of the text before a place that are shown.
const SHOWN_BEFORE: usize = 240;

/// Each case as its text and a table of both models.
pub fn print(cases: &[WorstCase]) {
    for (index, case) in cases.iter().enumerate() {
        let place = &case.place;
        println!(
            "\n{}. window {}, mean KL {:.4}; after {} tokens {:.4}:",
            index + 1,
            place.window,
            place.mean_kl,
            place.position + 1,
            place.kl
        );
        println!("{}⟨{}⟩", end_of(&case.context), shown(&case.token));
        let probability = |nll: f64| percent((-nll).exp());
        let rows = [
            [format!("⟨{}⟩", shown(&case.token)), probability(place.base_nll), probability(place.nll)],
            ["likeliest".to_owned(), likeliest(&case.base), likeliest(&case.model)],
        ];
        println!("{}", table(["", "base", "model"], rows));
        println!(" the base goes on: {}", shown(&case.base.continuation));
        println!("the model goes on: {}", shown(&case.model.continuation));
    }
}

fn likeliest(outlook: &Outlook) -> String {
    let each = outlook.likeliest.iter().map(|c| format!("⟨{}⟩ {}", shown(&c.text), percent(c.probability)));
    each.collect::<Vec<_>>().join("\n")
}

/// Text on one line, so that a cell stays one.
fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push('⏎'),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// The last characters of a text.
fn end_of(text: &str) -> String {
    let cut = text.chars().count().saturating_sub(SHOWN_BEFORE);
    let end: String = text.chars().skip(cut).collect();
    format!("{}{}", if cut > 0 { "…" } else { "" }, shown(&end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_on_its_line_and_cannot_steer_a_terminal() {
        assert_eq!(shown("a\nb\u{1b}[2J수"), "a⏎b\\u{1b}[2J수");
        assert_eq!(end_of("short"), "short");
        let long = end_of(&"수".repeat(300));
        assert_eq!((long.chars().count(), long.starts_with('…')), (241, true));
    }
}
