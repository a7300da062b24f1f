//! Charts as SVG that stands inside a page: colours are the page's CSS variables, so that they follow its light or dark
//! scheme, and the size is the view box alone, so that they scale to any width.
//!
//! plotters draws them, in colours that stand for the names of variables; the names are put in afterwards.

mod histogram;
mod intervals;
mod lines;
mod stacked;

use std::fmt::Write;

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, TextStyle};
use serde::Serialize;

use crate::ReportError;

pub use histogram::{Bin, histogram};
pub use intervals::{Interval, intervals};
pub use lines::{Axes, Series, lines};
pub use stacked::{Bar, stacked};

/// A finished chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chart {
    /// What stands above it.
    pub caption: String,
    /// The `svg` element.
    pub svg: String,
}

/// What a chart is called, and what it shows, for those who do not see it.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// Of the chart in its page: letters, digits and hyphens.
    pub id: &'a str,
    /// What stands above it.
    pub caption: &'a str,
    /// What it shows, in full.
    pub text: &'a str,
}

/// A colour of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Of text.
    Ink,
    /// Of labels.
    Muted,
    /// Of grid lines.
    Grid,
    /// Of the model measured.
    Model,
    /// Of what it is compared with.
    Base,
    /// Of a part of a whole, counted from 0.
    Part(usize),
}

/// Colours that the page has for parts.
pub const PARTS: usize = 6;

impl Colour {
    /// The CSS variable's name.
    fn variable(self) -> String {
        match self {
            Self::Ink => "ink".into(),
            Self::Muted => "muted".into(),
            Self::Grid => "grid".into(),
            Self::Model => "model".into(),
            Self::Base => "base".into(),
            Self::Part(n) => format!("part-{}", n % PARTS),
        }
    }

    /// The colour that stands for it while plotters draws.
    fn stand_in(self) -> RGBColor {
        let number = match self {
            Self::Ink => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Model => 3,
            Self::Base => 4,
            Self::Part(n) => 5 + (n % PARTS) as u8,
        };
        RGBColor(1, 0, number)
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Ink, Self::Muted, Self::Grid, Self::Model, Self::Base]
            .into_iter()
            .chain((0..PARTS).map(Self::Part))
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws a chart of `size` and makes it fit for the page.
fn draw(
    description: &Description<'_>,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<Chart, ReportError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area)
            .and_then(|()| area.present())
            .map_err(|error| ReportError::Rendering { format: "SVG", reason: error.to_string() })?;
    }
    Ok(Chart { caption: description.caption.to_owned(), svg: fit(&svg, description, size) })
}

fn fit(svg: &str, description: &Description<'_>, (width, height): (u32, u32)) -> String {
    let (_, mut inner) = svg.split_once('>').map(|(tag, inner)| (tag, inner.to_owned())).unwrap_or_default();
    for colour in Colour::all() {
        let RGBColor(r, g, b) = colour.stand_in();
        let variable = colour.variable();
        for property in ["fill", "stroke"] {
            let drawn = format!("{property}=\"#{r:02X}{g:02X}{b:02X}\"");
            inner = inner.replace(&drawn, &format!("style=\"{property}:var(--{variable})\""));
        }
    }
    let Description { id, caption, text } = description;
    let mut whole = String::new();
    let _ = write!(
        whole,
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-text\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-text\">{}</desc>{inner}",
        escape(caption),
        escape(text)
    );
    whole
}

/// Text as XML and HTML take it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A label that leaves room for a figure beside it: of long ones, the middle is left out.
fn shortened(label: &str) -> String {
    const MOST: usize = 42;
    let letters: Vec<char> = label.chars().collect();
    if letters.len() <= MOST {
        return label.to_owned();
    }
    let half = (MOST - 1) / 2;
    let (start, end) = (letters[..half].iter(), letters[letters.len() - half..].iter());
    start.chain(&['…']).chain(end).collect()
}

/// Text of `size` pixels, by the point named.
fn text(size: f64, colour: Colour, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    /// What plotters divides sizes by before it writes them into SVG.
    const PLOTTERS: f64 = 1.24;
    TextStyle {
        font: ("sans-serif", PLOTTERS * size).into_font(),
        color: colour.stand_in().to_backend_color(),
        pos: Pos::new(horizontal, vertical),
    }
}

/// A step of 1, 2 or 5 times a power of ten that cuts `span` into about `parts`.
fn step(span: f64, parts: f64) -> f64 {
    let raw = span / parts;
    if !(raw.is_finite() && raw > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= 0.999 * raw);
    factor.unwrap_or(10.0) * power
}

/// The ticks of an axis from `low` to `high`, and how many decimals their labels need.
fn ticks(low: f64, high: f64, parts: f64) -> (Vec<f64>, usize) {
    let step = step(high - low, parts);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    ((first..=last).map(|n| n as f64 * step).collect(), decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_lose_their_middle() {
        assert_eq!(shortened("tiny-q4.gguf"), "tiny-q4.gguf");
        let short = shortened(&format!("{}é{}", "a".repeat(40), "z".repeat(40)));
        assert_eq!(short, format!("{}…{}", "a".repeat(20), "z".repeat(20)));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 1.0, 4.0), (vec![0.0, 0.5, 1.0], 1));
        assert_eq!(ticks(0.0, 87.0, 4.0), (vec![0.0, 50.0], 0));
        let (ticks, decimals) = ticks(0.011, 0.05, 4.0);
        assert_eq!(ticks.len(), 4, "{ticks:?}");
        assert_eq!(decimals, 2);
    }
}
