//! What flags and settings spell, as values.

use std::fmt::Display;
use std::str::FromStr;

use slmc_pipeline::jobs::quantize::Device;
use slmc_pipeline::{Precision, choose_precision};

use crate::failure::Failure;

/// `2%` or `0.02`.
pub fn share(option: &str, text: &str) -> Result<f64, Failure> {
    let (number, unit) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number / unit),
        _ => Err(Failure::usage(format!("{option} {text}: expected a share such as 2% or 0.02"))),
    }
}

/// `700MB`, `1.5GiB`, `7515936`: decimal and binary units, or bytes.
pub fn bytes(option: &str, text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: Option<f64> = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "kb" => Some(1e3),
        "mb" => Some(1e6),
        "gb" => Some(1e9),
        "kib" => Some(1024.0),
        "mib" => Some(1024.0 * 1024.0),
        "gib" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };
    let number = digits.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    match (number, factor) {
        (Some(number), Some(factor)) if number * factor >= 1.0 && number * factor < 9e18 => {
            Ok((number * factor) as u64)
        }
        _ => {
            Err(Failure::usage(format!("{option} {text}: expected a size such as 700MB, 1.5GiB or 7515936")))
        }
    }
}

/// `0.9B`, `350M`, `9437184`.
pub fn count(option: &str, text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: Option<f64> = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => Some(1.0),
        "k" => Some(1e3),
        "m" => Some(1e6),
        "b" => Some(1e9),
        _ => None,
    };
    let number = digits.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    match (number, factor) {
        (Some(number), Some(factor)) if (1.0..9e18).contains(&(number * factor)) => {
            Ok((number * factor) as u64)
        }
        _ => Err(Failure::usage(format!("{option} {text}: expected a number such as 0.9B, 350M or 9437184"))),
    }
}

pub fn parse<T: FromStr<Err: Display>>(option: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|error| Failure::usage(format!("{option} {value}: {error}")))
}

pub fn parse_or<T: FromStr<Err: Display>>(
    option: &str,
    value: Option<impl AsRef<str>>,
    default: T,
) -> Result<T, Failure> {
    value.map_or(Ok(default), |value| parse(option, value.as_ref()))
}

/// `--precision`; without it the usual one, or the fastest.
pub fn precision(
    typed: Option<&String>,
    usual: Option<Precision>,
    device: Device,
) -> Result<Precision, Failure> {
    let asked = typed.map(|name| parse("--precision", name)).transpose()?;
    choose_precision(asked.or(usual), device).map_err(|error| Failure::usage(error.to_string()))
}

pub fn parse_all<T: FromStr<Err: Display>>(
    option: &str,
    typed: &[String],
    file: &[String],
) -> Result<Vec<T>, Failure> {
    let values = if typed.is_empty() { file } else { typed };
    values.iter().map(|value| parse(option, value)).collect()
}
