//! JSON as Python's `json.dumps` writes it, which is what transformers' `tojson` calls.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// The options of `json.dumps` that `tojson` passes on.
pub(super) struct Options {
    /// Spaces a level; everything on one line if `None`.
    pub indent: Option<usize>,
    /// Whether other characters than ASCII are escaped.
    pub ensure_ascii: bool,
    /// Between items, and between key and value; Python's own if `None`.
    pub separators: Option<(String, String)>,
    /// Whether keys are sorted.
    pub sort_keys: bool,
}

/// The JSON text of a value.
pub(super) fn to_string(value: &impl Serialize, options: &Options) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    if options.sort_keys {
        value.sort_all_objects();
    }
    let (item, key) = match &options.separators {
        Some((item, key)) => (item.as_str(), key.as_str()),
        None if options.indent.is_some() => (",", ": "),
        None => (", ", ": "),
    };
    let layout = Layout {
        item,
        key,
        // Deeper than any page is wide serves nobody and multiplies the output.
        indent: options.indent.map(|width| width.min(64)),
        ensure_ascii: options.ensure_ascii,
        depth: 0,
        empty: true,
    };
    let mut out = Vec::new();
    Value::serialize(&value, &mut Serializer::with_formatter(&mut out, layout))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

struct Layout<'a> {
    item: &'a str,
    key: &'a str,
    indent: Option<usize>,
    ensure_ascii: bool,
    depth: usize,
    /// Whether nothing was written since the last opening bracket.
    empty: bool,
}

impl Layout<'_> {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn begin_item<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.empty = false;
        self.line(out)
    }

    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        match self.indent {
            Some(width) => write!(out, "\n{:1$}", "", width * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for Layout<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            return CompactFormatter.write_string_fragment(out, fragment);
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => out.write_all(&[byte])?,
                _ => write!(out, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}
