//! Wholes and their parts, as bars of one scale.

use plotters::prelude::Rectangle;
use plotters::prelude::Text;
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Chart, Colour, Description, Drawn, draw, shortened, text};
use crate::ReportError;

/// One whole.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is.
    pub label: String,
    /// Its parts, in the order of their colours.
    pub parts: Vec<f64>,
    /// The whole as people read it.
    pub shown: String,
}

const WIDTH: i32 = 480;
const ROW: i32 = 62;
const BAR: i32 = 26;

/// One bar below the other, all from the left edge, the longest as wide as the chart.
///
/// # Errors
/// Those of plotters.
pub fn stacked(description: &Description<'_>, bars: &[Bar]) -> Result<Chart, ReportError> {
    let height = ROW * bars.len() as i32;
    draw(description, (WIDTH as u32, height as u32), |area| {
        let longest = bars.iter().map(|bar| bar.parts.iter().sum::<f64>()).fold(0.0, f64::max);
        for (n, bar) in bars.iter().enumerate() {
            one(area, bar, ROW * n as i32, longest)?;
        }
        Ok(())
    })
}

fn one(area: &Area<'_>, bar: &Bar, top: i32, longest: f64) -> Drawn {
    let left = text(13.0, Colour::Ink, HPos::Left, VPos::Top);
    let right = text(13.0, Colour::Muted, HPos::Right, VPos::Top);
    area.draw(&Text::new(shortened(&bar.label), (0, top + 4), left))?;
    area.draw(&Text::new(bar.shown.clone(), (WIDTH, top + 4), right))?;
    let mut before = 0.0;
    let at = |value: f64| (f64::from(WIDTH) * value / longest).round() as i32;
    for (n, part) in bar.parts.iter().enumerate() {
        let (from, to) = (at(before), at(before + part));
        before += part;
        if to > from {
            // a hair of the page between neighbours
            let to = if to - from > 3 { to - 1 } else { to };
            let corners = [(from, top + 24), (to, top + 24 + BAR)];
            area.draw(&Rectangle::new(corners, Colour::Part(n).stand_in().filled()))?;
        }
    }
    Ok(())
}
