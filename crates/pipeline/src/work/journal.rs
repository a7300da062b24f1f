//! The journal: a line for what the run is about, then one for every finished step.
//!
//! A line begins with 16 hexadecimal digits: the beginning of the SHA-256 of the previous line's digits and this line's
//! JSON. So a line that was changed, lost or put elsewhere is noticed. The last line alone may be broken, as a step that was
//! being noted when the process ended was not finished; it is dropped.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Step;
use super::fingerprint::{Fingerprint, hexadecimal};

/// Version of the directory's format.
pub(super) const FORMAT: u32 = 1;

const DIGITS: usize = 16;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub slmc_work: u32,
    pub batch_tokens: usize,
    pub inputs: Fingerprint,
}

/// A finished step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub step: Step,
    pub pieces: Vec<Piece>,
    /// TOML, which reads every float back as it was.
    pub facts: String,
}

/// Some bytes of the data file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Piece {
    pub name: String,
    pub offset: u64,
    pub bytes: u64,
    pub sha256: String,
}

/// The digits of the line before, from which the next line's follow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chain(String);

impl Chain {
    /// `content` as the next line.
    pub fn line(&mut self, content: &impl Serialize) -> serde_json::Result<String> {
        let json = serde_json::to_string(content)?;
        self.0 = self.digits(&json);
        Ok(format!("{} {json}\n", self.0))
    }

    /// The JSON of the next line, if it is whole.
    fn check<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let (digits, json) = line.split_at_checked(DIGITS)?;
        let json = json.strip_prefix(' ')?;
        if digits != self.digits(json) {
            return None;
        }
        self.0 = digits.to_owned();
        Some(json)
    }

    fn digits(&self, json: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.0);
        hash.update(json);
        hexadecimal(&hash.finalize()[..DIGITS / 2])
    }
}

/// A journal as it was found.
#[derive(Debug, PartialEq)]
pub(super) struct Journal {
    pub header: Header,
    pub entries: Vec<Entry>,
    pub chain: Chain,
    /// Bytes up to the end of the last whole line.
    pub bytes: u64,
}

/// Why a journal is of no use.
#[derive(Debug, PartialEq)]
pub(super) enum Broken {
    Version,
    Line(usize),
}

impl Journal {
    /// Reads what [`Chain::line`] wrote.
    pub fn parse(content: &[u8]) -> Result<Self, Broken> {
        let mut chain = Chain::default();
        let mut lines = content.split_inclusive(|b| *b == b'\n').enumerate().peekable();
        let (mut header, mut entries, mut bytes) = (None, Vec::new(), 0);
        while let Some((number, line)) = lines.next() {
            let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            let Some(json) = text.and_then(|text| chain.check(text)) else {
                if number > 0 && lines.peek().is_none() {
                    break;
                }
                return Err(Broken::Line(number + 1));
            };
            if number == 0 {
                header = Some(parse_header(json)?);
            } else {
                entries.push(serde_json::from_str(json).map_err(|_| Broken::Line(number + 1))?);
            }
            bytes += line.len() as u64;
        }
        Ok(Self { header: header.ok_or(Broken::Line(1))?, entries, chain, bytes })
    }
}

/// The version comes first: another one may have another header.
fn parse_header(json: &str) -> Result<Header, Broken> {
    let value: serde_json::Value = serde_json::from_str(json).map_err(|_| Broken::Line(1))?;
    if value.get("slmc_work").and_then(serde_json::Value::as_u64) != Some(FORMAT.into()) {
        return Err(Broken::Version);
    }
    serde_json::from_value(value).map_err(|_| Broken::Line(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(block: usize) -> Entry {
        let piece = Piece { name: "blk".into(), offset: 1, bytes: u64::MAX, sha256: "00".into() };
        Entry { step: Step::RoundedBlock(block), pieces: vec![piece], facts: "x = 0.1\n".into() }
    }

    fn journal(slmc_work: u32) -> String {
        let mut chain = Chain::default();
        let header = Header { slmc_work, batch_tokens: 4096, inputs: Fingerprint::default() };
        let mut text = chain.line(&header).unwrap();
        (0..3).for_each(|block| text += &chain.line(&entry(block)).unwrap());
        text
    }

    #[test]
    fn a_journal_reads_back() {
        let text = journal(FORMAT);
        let read = Journal::parse(text.as_bytes()).unwrap();
        assert_eq!(read.entries, [entry(0), entry(1), entry(2)]);
        assert_eq!(read.bytes, text.len() as u64);
        assert_eq!(Journal::parse(journal(FORMAT + 1).as_bytes()), Err(Broken::Version));
    }

    #[test]
    fn only_the_last_line_may_be_broken() {
        let text = journal(FORMAT);
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        for cut in 0..=text.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            match Journal::parse(&text.as_bytes()[..cut]) {
                Ok(read) => {
                    assert_eq!(read.entries.len() + 1, whole, "{cut}");
                    assert_eq!(read.bytes, ends[whole - 1] as u64);
                }
                Err(broken) => assert!(whole == 0 && broken == Broken::Line(1), "{cut}"),
            }
        }
        // without its end a line and the next are one
        for at in (0..text.len()).filter(|at| !ends.contains(&(at + 1))) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let line = ends.iter().filter(|end| **end <= at).count() + 1;
            match Journal::parse(&bytes) {
                Ok(read) => assert!(line == 4 && read.entries.len() == 2, "{at}"),
                Err(broken) => assert!(line < 4 && broken == Broken::Line(line), "{at}: {broken:?}"),
            }
        }
    }

    #[test]
    fn lines_cannot_be_left_out_or_exchanged() {
        let text = journal(FORMAT);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let without = [lines[0], lines[2], lines[3]].concat();
        assert_eq!(Journal::parse(without.as_bytes()), Err(Broken::Line(2)));
        let exchanged = [lines[0], lines[2], lines[1], lines[3]].concat();
        assert_eq!(Journal::parse(exchanged.as_bytes()), Err(Broken::Line(2)));
    }
}
