//! Values with their intervals, one below the other.

use plotters::prelude::{Circle, PathElement, Text};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Chart, Colour, Description, Drawn, draw, shortened, text, ticks};
use crate::ReportError;

/// A value and where it may lie.
#[derive(Clone, Debug)]
pub struct Interval {
    /// What it is a value of.
    pub label: String,
    /// The colour of its mark.
    pub colour: Colour,
    /// The value.
    pub value: f64,
    /// The ends of its interval.
    pub bounds: Option<(f64, f64)>,
    /// The value as people read it.
    pub shown: String,
}

const WIDTH: i32 = 480;
const ROW: i32 = 46;

/// A dot for each value on a line for its interval, over one axis that begins where the intervals do.
///
/// # Errors
/// Those of plotters.
pub fn intervals(
    description: &Description<'_>,
    rows: &[Interval],
    label: fn(f64, usize) -> String,
) -> Result<Chart, ReportError> {
    let height = ROW * rows.len() as i32 + 30;
    draw(description, (WIDTH as u32, height as u32), |area| paint(area, rows, label))
}

fn paint(area: &Area<'_>, rows: &[Interval], label: fn(f64, usize) -> String) -> Drawn {
    let ends = || {
        rows.iter()
            .flat_map(|row| [row.bounds.map_or(row.value, |b| b.0), row.bounds.map_or(row.value, |b| b.1)])
    };
    let (low, high) = (ends().fold(f64::INFINITY, f64::min), ends().fold(f64::NEG_INFINITY, f64::max));
    if !(low.is_finite() && high.is_finite()) {
        return Ok(());
    }
    let room = if high > low { 0.08 * (high - low) } else { 0.5 * high.abs().max(1e-9) };
    let (low, high) = (low - room, high + room);
    let x = |value: f64| 8 + (f64::from(WIDTH - 16) * (value - low) / (high - low)).round() as i32;
    let bottom = ROW * rows.len() as i32;
    let (values, decimals) = ticks(low, high, 5.0);
    for value in values {
        area.draw(&PathElement::new(vec![(x(value), 4), (x(value), bottom)], Colour::Grid.stand_in()))?;
        let style = text(12.0, Colour::Muted, HPos::Center, VPos::Top);
        area.draw(&Text::new(label(value, decimals), (x(value).clamp(22, WIDTH - 22), bottom + 6), style))?;
    }
    for (n, row) in rows.iter().enumerate() {
        let top = ROW * n as i32;
        let (left, right) =
            (text(13.0, Colour::Ink, HPos::Left, VPos::Top), text(13.0, Colour::Ink, HPos::Right, VPos::Top));
        area.draw(&Text::new(shortened(&row.label), (0, top + 2), left))?;
        area.draw(&Text::new(row.shown.clone(), (WIDTH, top + 2), right))?;
        let (colour, at) = (row.colour.stand_in(), top + 27);
        if let Some((low, high)) = row.bounds {
            let line = vec![(x(low), at), (x(high), at)];
            area.draw(&PathElement::new(line, colour.stroke_width(2)))?;
            for end in [low, high] {
                let cap = vec![(x(end), at - 4), (x(end), at + 4)];
                area.draw(&PathElement::new(cap, colour.stroke_width(2)))?;
            }
        }
        area.draw(&Circle::new((x(row.value), at), 4, colour.filled()))?;
    }
    Ok(())
}
