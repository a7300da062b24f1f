//! How values are distributed over decades.

use plotters::prelude::{PathElement, Rectangle, Text};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Chart, Colour, Description, Drawn, draw, text, ticks};
use crate::ReportError;

/// Values from `low` to `high`; an edge that is none is open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The lower edge.
    pub low: Option<f64>,
    /// The upper edge.
    pub high: Option<f64>,
    /// How many.
    pub count: f64,
}

const WIDTH: i32 = 480;
const HEIGHT: i32 = 270;
const LEFT: i32 = 46;
const TOP: i32 = 30;
const BOTTOM: i32 = 228;

/// The shares of all that fall into each bin, over a logarithmic axis; `marks` are values to point out.
///
/// # Errors
/// Those of plotters.
pub fn histogram(
    description: &Description<'_>,
    bins: &[Bin],
    marks: &[(&str, f64)],
) -> Result<Chart, ReportError> {
    draw(description, (WIDTH as u32, HEIGHT as u32), |area| paint(area, bins, marks))
}

fn paint(area: &Area<'_>, bins: &[Bin], marks: &[(&str, f64)]) -> Drawn {
    let edges: Vec<f64> = bins
        .iter()
        .flat_map(|bin| [bin.low, bin.high])
        .flatten()
        .filter(|edge| *edge > 0.0)
        .map(f64::log10)
        .collect();
    let (Some(low), Some(high)) =
        (edges.iter().copied().reduce(f64::min), edges.iter().copied().reduce(f64::max))
    else {
        return Ok(());
    };
    // what is below the lowest edge gets half a decade of its own
    let open = bins.iter().any(|bin| bin.low.is_none_or(|low| low <= 0.0));
    let (low, high) = (if open { low - 0.5 } else { low }, high.max(low + 1.0));
    let total: f64 = bins.iter().map(|bin| bin.count).sum();
    let share = |bin: &Bin| 100.0 * bin.count / total.max(1.0);
    let most = bins.iter().map(share).fold(0.0, f64::max).max(1e-9);
    let x = |log: f64| LEFT + (f64::from(WIDTH - 8 - LEFT) * (log - low) / (high - low)).round() as i32;
    let y = |share: f64| BOTTOM - (f64::from(BOTTOM - TOP) * share / (1.05 * most)).round() as i32;

    let (values, decimals) = ticks(0.0, most, 4.0);
    for value in values {
        let line = vec![(LEFT, y(value)), (WIDTH - 8, y(value))];
        area.draw(&PathElement::new(line, Colour::Grid.stand_in()))?;
        let style = text(12.0, Colour::Muted, HPos::Right, VPos::Center);
        area.draw(&Text::new(format!("{value:.decimals$} %"), (LEFT - 6, y(value)), style))?;
    }
    for bin in bins {
        let from = bin.low.filter(|low| *low > 0.0).map_or(low, f64::log10);
        let to = bin.high.map_or(high, f64::log10);
        let corners = [(x(from), y(share(bin))), ((x(to) - 1).max(x(from) + 1), BOTTOM)];
        area.draw(&Rectangle::new(corners, Colour::Model.stand_in().filled()))?;
    }
    let style = text(12.0, Colour::Muted, HPos::Center, VPos::Top);
    for decade in low.ceil() as i32..=high.floor() as i32 {
        area.draw(&Text::new(power_of_ten(decade), (x(f64::from(decade)), BOTTOM + 8), style.clone()))?;
    }
    let title = text(12.0, Colour::Muted, HPos::Center, VPos::Top);
    area.draw(&Text::new("KL divergence of a token, nats", ((LEFT + WIDTH) / 2, BOTTOM + 26), title))?;
    let mut marks: Vec<_> = marks
        .iter()
        .filter(|(_, value)| *value > 0.0)
        .map(|(label, value)| (x(value.log10()), label))
        .collect();
    marks.sort_unstable();
    for (n, (at, label)) in marks.iter().enumerate() {
        area.draw(&PathElement::new(vec![(*at, TOP - 24), (*at, BOTTOM)], Colour::Ink.stand_in()))?;
        // a label stands behind its mark, or before it where the next mark is near
        let near = marks.get(n + 1).is_some_and(|next| next.0 - at < 50);
        let (side, at) = if near { (HPos::Right, at - 4) } else { (HPos::Left, at + 4) };
        area.draw(&Text::new(
            (**label).to_owned(),
            (at, TOP - 26),
            text(12.0, Colour::Ink, side, VPos::Top),
        ))?;
    }
    Ok(())
}

/// `10⁻³`
fn power_of_ten(exponent: i32) -> String {
    let digits = exponent.to_string();
    let raised = digits.chars().map(|digit| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        _ => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    });
    std::iter::once("10".to_owned()).chain(raised.map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_raised() {
        assert_eq!(power_of_ten(-8), "10⁻⁸");
        assert_eq!(power_of_ten(-10), "10⁻¹⁰");
        assert_eq!(power_of_ten(0), "10⁰");
    }
}
