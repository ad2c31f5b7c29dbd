//! The seven levels, made of the one question that a format answers: can this schema read what that one wrote?
//!
//! | level | asks | of |
//! | --- | --- | --- |
//! | `BACKWARD` | the new one reads what the former wrote | the latest version |
//! | `FORWARD` | the former reads what the new one wrote | the latest version |
//! | `FULL` | both | the latest version |
//! | `…_TRANSITIVE` | the same | every version |
//! | `NONE` | nothing | |
//!
//! Where the new one must read what was written before, it must not use what a former one reserved either.
//!
//! With parsed schemas kept, a check costs what its comparisons cost: linear in the number of versions.

use super::format::{Incompatibility, ParsedSchema};
use std::fmt;

/// How a new version of a subject must relate to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum CompatibilityLevel {
    /// Anything goes.
    None,
    /// Readers of the new version read what the latest one wrote.
    Backward,
    /// Readers of the new version read what any one wrote.
    BackwardTransitive,
    /// Readers of the latest version read what the new one writes.
    Forward,
    /// Readers of any version read what the new one writes.
    ForwardTransitive,
    /// Both, for the latest version.
    Full,
    /// Both, for every version.
    #[default]
    FullTransitive,
}

impl CompatibilityLevel {
    /// Every level.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// The level of a name on the wire, whatever its case; `None` for one that is not known.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether every former version counts, not the latest alone.
    pub fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    fn reads_backward(self) -> bool {
        matches!(self, Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive)
    }

    fn reads_forward(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }

    /// Compares a new schema with the former versions, which are given in order, the oldest first.
    ///
    /// The answer carries the differences of the newest version that it is at odds with, and of no other, as the
    /// others mostly say the same again.
    pub fn check(self, new: &ParsedSchema, former: &[ParsedSchema]) -> Verdict {
        let compared = if self.is_transitive() { former.len() } else { former.len().min(1) };
        for (index, old) in former.iter().enumerate().rev().take(compared) {
            let mut differences = Vec::new();
            if self.reads_backward() {
                differences
                    .extend(in_direction(Direction::Backward, ParsedSchema::incompatibilities(new, old)));
                differences
                    .extend(in_direction(Direction::Backward, ParsedSchema::reused_reservations(new, old)));
            }
            if self.reads_forward() {
                differences
                    .extend(in_direction(Direction::Forward, ParsedSchema::incompatibilities(old, new)));
            }
            if !differences.is_empty() {
                return Verdict { against: Some(index), differences };
            }
        }
        Verdict { against: None, differences: Vec::new() }
    }
}

fn in_direction(direction: Direction, found: Vec<Incompatibility>) -> impl Iterator<Item = Difference> {
    found.into_iter().map(move |incompatibility| Difference { direction, incompatibility })
}

impl fmt::Display for CompatibilityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who cannot read whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The new schema reads what the former one wrote.
    Backward,
    /// The former schema reads what the new one writes.
    Forward,
}

/// A difference that a level does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Who cannot read whom.
    pub direction: Direction,
    /// What cannot be read.
    pub incompatibility: Incompatibility,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.direction {
            Direction::Backward => "the new schema cannot read what the former one wrote",
            Direction::Forward => "the former schema cannot read what the new one writes",
        };
        write!(f, "{who}: {}", self.incompatibility)
    }
}

/// What a level says of a new schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The index, among the former versions, of the newest that the new schema is at odds with.
    pub against: Option<usize>,
    /// Why; empty if it is compatible.
    pub differences: Vec<Difference>,
}

impl Verdict {
    /// Whether the new schema may follow.
    pub fn is_compatible(&self) -> bool {
        self.against.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::{SchemaType, parse};
    use CompatibilityLevel::{
        Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive, None,
    };

    fn schemas(texts: &[&str]) -> Vec<ParsedSchema> {
        texts.iter().map(|text| parse(SchemaType::Avro, &format!("\"{text}\""), &[]).unwrap()).collect()
    }

    /// The levels that take a new schema after former ones.
    fn taken(new: &str, former: &[&str]) -> Vec<CompatibilityLevel> {
        let (new, former) = (&schemas(&[new])[0], schemas(former));
        CompatibilityLevel::ALL
            .into_iter()
            .filter(|level| level.check(new, &former).is_compatible())
            .collect()
    }

    #[test]
    fn each_level_asks_its_directions_of_its_versions() {
        assert_eq!(taken("int", &[]), CompatibilityLevel::ALL);
        assert_eq!(taken("int", &["int", "int"]), CompatibilityLevel::ALL);
        // A long reads what was written as an int, and not the other way round.
        assert_eq!(taken("long", &["int"]), [None, Backward, BackwardTransitive]);
        assert_eq!(taken("int", &["long"]), [None, Forward, ForwardTransitive]);
        assert_eq!(taken("boolean", &["int"]), [None]);
        // The latest version alone, and every one.
        assert_eq!(taken("int", &["boolean", "int"]), [None, Backward, Forward, Full]);
        assert_eq!(taken("long", &["boolean", "int"]), [None, Backward]);
        assert_eq!(taken("int", &["int", "long"]), [None, Forward, ForwardTransitive]);
        assert_eq!(taken("long", &["int", "long"]), [None, Backward, BackwardTransitive, Forward, Full]);
    }

    #[test]
    fn a_verdict_tells_the_newest_version_that_it_is_against_and_in_which_direction() {
        let (new, former) = (&schemas(&["int"])[0], schemas(&["boolean", "long", "int"]));
        let verdict = FullTransitive.check(new, &former);
        assert_eq!(verdict.against, Some(1));
        let [difference] = verdict.differences.as_slice() else { panic!("{verdict:?}") };
        assert_eq!(difference.direction, Direction::Backward);
        let shown = difference.to_string();
        assert!(
            shown.starts_with("the new schema cannot read what the former one wrote: TYPE_MISMATCH at /: "),
            "{shown}"
        );
    }

    #[test]
    fn what_was_reserved_is_refused_where_older_values_are_read() {
        let protobuf = |body: &str| parse(SchemaType::Protobuf, body, &[]).unwrap();
        let old = protobuf("message A { reserved 2; }");
        let new = protobuf("message A { optional int32 a = 2; }");
        for level in CompatibilityLevel::ALL {
            let verdict = level.check(&new, std::slice::from_ref(&old));
            assert_eq!(
                verdict.is_compatible(),
                matches!(level, None | Forward | ForwardTransitive),
                "{level}"
            );
            assert!(level.check(&old, std::slice::from_ref(&new)).is_compatible(), "{level}");
        }
    }

    #[test]
    fn levels_are_called_as_confluents_api_does() {
        for level in CompatibilityLevel::ALL {
            assert_eq!(CompatibilityLevel::from_name(level.as_str()), Some(level));
        }
        assert_eq!(CompatibilityLevel::default().as_str(), "FULL_TRANSITIVE");
        assert_eq!(CompatibilityLevel::from_name("full_transitive"), Some(FullTransitive));
        assert_eq!(CompatibilityLevel::from_name("ALL"), Option::None);
    }
}
