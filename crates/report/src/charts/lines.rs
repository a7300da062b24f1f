//! Values along an axis, a line each.

use plotters::prelude::{Circle, PathElement, Text};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Chart, Colour, Description, Drawn, draw, text, ticks};
use crate::ReportError;

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its colour.
    pub colour: Colour,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How a chart of lines looks.
#[derive(Clone, Debug)]
pub struct Axes<'a> {
    /// Width and height.
    pub size: (u32, u32),
    /// What the horizontal axis counts; none if empty.
    pub along: &'a str,
    /// A value of the vertical axis, with the decimals that tell ticks apart.
    pub label: fn(f64, usize) -> String,
    /// Whether the vertical axis begins at 0.
    pub from_zero: bool,
    /// The vertical axis reaches at least to here.
    pub at_least: f64,
    /// Whether points are marked.
    pub dots: bool,
}

/// The lines, the last one above the others.
///
/// # Errors
/// Those of plotters.
pub fn lines(
    description: &Description<'_>,
    axes: &Axes<'_>,
    series: &[Series],
) -> Result<Chart, ReportError> {
    draw(description, axes.size, |area| paint(area, axes, series))
}

fn paint(area: &Area<'_>, axes: &Axes<'_>, series: &[Series]) -> Drawn {
    let points = || series.iter().flat_map(|series| &series.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = points().map(of);
        (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((left, right), (mut low, mut high)) = (range(|p| p.0), range(|p| p.1));
    if !(left.is_finite() && right.is_finite() && low.is_finite() && high.is_finite()) {
        return Ok(());
    }
    high = high.max(axes.at_least);
    low = if axes.from_zero { 0.0 } else { low - 0.08 * (high - low) };
    if high <= low {
        high = low + 1.0;
    }
    high += 0.06 * (high - low);
    let (width, height) = (axes.size.0 as i32, axes.size.1 as i32);
    let small = width < 300;
    let font = if small { 11.0 } else { 12.0 };
    let (first, top) = (if small { 34 } else { 50 }, 10);
    let bottom = height - if axes.along.is_empty() { 20 } else { 42 };
    let last = width - 10;
    let x = |value: f64| {
        let part = if right > left { (value - left) / (right - left) } else { 0.5 };
        first + 4 + (f64::from(last - first - 8) * part).round() as i32
    };
    let y = |value: f64| bottom - (f64::from(bottom - top) * (value - low) / (high - low)).round() as i32;

    let (values, decimals) = ticks(low, high, if small { 3.0 } else { 4.0 });
    for value in values {
        let line = vec![(first, y(value)), (last, y(value))];
        area.draw(&PathElement::new(line, Colour::Grid.stand_in()))?;
        let style = text(font, Colour::Muted, HPos::Right, VPos::Center);
        area.draw(&Text::new((axes.label)(value, decimals), (first - 5, y(value)), style))?;
    }
    let (values, decimals) = ticks(left, right, if small { 3.0 } else { 6.0 });
    for value in values.into_iter().filter(|_| decimals == 0) {
        let style = text(font, Colour::Muted, HPos::Center, VPos::Top);
        area.draw(&Text::new(format!("{value}"), (x(value), bottom + 6), style))?;
    }
    for series in series {
        let path: Vec<_> = series.points.iter().map(|p| (x(p.0), y(p.1))).collect();
        let colour = series.colour.stand_in();
        area.draw(&PathElement::new(path.clone(), colour.stroke_width(2)))?;
        if axes.dots {
            for point in path {
                area.draw(&Circle::new(point, if small { 2 } else { 3 }, colour.filled()))?;
            }
        }
    }
    if !axes.along.is_empty() {
        let style = text(font, Colour::Muted, HPos::Center, VPos::Top);
        area.draw(&Text::new(axes.along.to_owned(), ((first + last) / 2, bottom + 24), style))?;
    }
    Ok(())
}
