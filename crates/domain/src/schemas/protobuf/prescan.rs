//! One pass over a text's tokens before it is parsed: what would make the parser's work or memory grow out of
//! proportion is found here, and editions, which it does not know.
//!
//! The lexical rules are the parser's own for every text that it takes. A text that it does not take may be read
//! differently here, which is harmless: it is refused later.

use crate::schemas::{format::Position, format::SchemaProblem, limits};

/// Levels of brackets of any kind. The parser itself allows 31 messages within each other; the rest is for
/// values of options, which are read recursively.
const DEPTH_MAX: usize = 64;

/// Ranges of one `extensions` statement that has options, as the parser copies the options to each of them.
const RANGES_WITH_OPTIONS_MAX: usize = 64;

/// What came before, as far as names are concerned.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Name,
    Dot,
    Other,
}

pub(super) fn prescan(text: &str) -> Result<(), SchemaProblem> {
    Scan { text, at: 0, depth: 0, before: Before::Other, name_bytes: 0, ranges: None, is_first: true }.run()
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    before: Before,
    /// Bytes of the dotted name that is being read.
    name_bytes: usize,
    /// Ranges seen since `extensions`.
    ranges: Option<usize>,
    is_first: bool,
}

impl Scan<'_> {
    fn run(mut self) -> Result<(), SchemaProblem> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let start = self.at;
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.at += 1,
                b'#' => self.skip_line(),
                b'/' if bytes.get(start + 1) == Some(&b'/') => self.skip_line(),
                b'/' if bytes.get(start + 1) == Some(&b'*') => {
                    self.at = self.text[start + 2..]
                        .find("*/")
                        .map_or(bytes.len(), |length| start + 2 + length + 2);
                }
                b'"' | b'\'' => {
                    self.skip_string(byte);
                    self.other(start, byte)?;
                }
                b'A'..=b'Z' | b'a'..=b'z' | b'_' => {
                    self.at = end_of(bytes, start, |b| b.is_ascii_alphanumeric() || b == b'_');
                    self.name(start)?;
                }
                b'0'..=b'9' => {
                    self.at = end_of(bytes, start, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
                    self.before = Before::Other;
                    self.is_first = false;
                }
                b'.' => {
                    self.at += 1;
                    self.name_bytes = if self.before == Before::Other { 1 } else { self.name_bytes + 1 };
                    self.before = Before::Dot;
                    self.is_first = false;
                }
                _ => {
                    self.at += 1;
                    self.other(start, byte)?;
                }
            }
        }
        Ok(())
    }

    fn skip_line(&mut self) {
        self.at = self.text[self.at..].find('\n').map_or(self.text.len(), |length| self.at + length);
    }

    fn skip_string(&mut self, quote: u8) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at = (self.at + 1).min(bytes.len()),
                b'\n' => return,
                _ if byte == quote => return,
                _ => {}
            }
        }
        // The text may have been left within a character by an escape; slices begin at whole ones.
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
    }

    fn name(&mut self, start: usize) -> Result<(), SchemaProblem> {
        let name = &self.text[start..self.at];
        if self.is_first && name == "edition" {
            return Err(self.problem(
                start,
                "editions are not supported; begin the file with `syntax = \"proto3\";` or `syntax = \"proto2\";`",
            ));
        }
        self.is_first = false;
        self.name_bytes = if self.before == Before::Dot { self.name_bytes + name.len() } else { name.len() };
        self.before = Before::Name;
        if self.name_bytes > limits::NAME_BYTES_MAX {
            return Err(self.problem(
                start,
                &format!("a name has more than {} bytes; shorten it", limits::NAME_BYTES_MAX),
            ));
        }
        match name {
            "extensions" => self.ranges = Some(1),
            "to" | "max" => {}
            _ => self.ranges = None,
        }
        Ok(())
    }

    fn other(&mut self, start: usize, byte: u8) -> Result<(), SchemaProblem> {
        self.before = Before::Other;
        self.is_first = false;
        match byte {
            b'{' | b'[' | b'(' | b'<' => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(self.problem(
                        start,
                        &format!("brackets are nested more than {DEPTH_MAX} levels deep; flatten the schema"),
                    ));
                }
            }
            b'}' | b']' | b')' | b'>' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        match (byte, self.ranges) {
            (b',', Some(ranges)) => self.ranges = Some(ranges + 1),
            (b'[', Some(ranges)) if ranges > RANGES_WITH_OPTIONS_MAX => {
                return Err(self.problem(
                    start,
                    &format!(
                        "an `extensions` statement with options has {ranges} ranges, and \
                         {RANGES_WITH_OPTIONS_MAX} are the most; write several statements"
                    ),
                ));
            }
            (b'-', Some(_)) => {}
            _ => self.ranges = None,
        }
        Ok(())
    }

    fn problem(&self, at: usize, message: &str) -> SchemaProblem {
        SchemaProblem::new(message).at(Some(Position::of_offset(self.text, at)))
    }
}

fn end_of(bytes: &[u8], start: usize, is_part: impl Fn(u8) -> bool) -> usize {
    bytes[start..].iter().position(|byte| !is_part(*byte)).map_or(bytes.len(), |length| start + length)
}
