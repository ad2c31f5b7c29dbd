//! Names and coordinates.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The number of a partition within its topic, from 0.
pub type PartitionId = u32;

/// The place of a record within its partition, from 0. Offsets only grow; gaps are legal.
pub type Offset = u64;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than `max` characters.
    #[error("must have at most {max} characters, has {length}")]
    TooLong {
        /// The most it may have.
        max: usize,
        /// What it has.
        length: usize,
    },
    /// `.` or `..`.
    #[error("must not be `.` or `..`")]
    Dots,
    /// A character outside `[A-Za-z0-9._-]`.
    #[error("may hold only letters, digits, `.`, `_` and `-`, not {character:?}")]
    Character {
        /// The first character at fault.
        character: char,
    },
}

fn check(name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(character) =
        name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        return Err(NameError::Character { character });
    }
    if name.len() > max {
        return Err(NameError::TooLong { max, length: name.len() });
    }
    if matches!(name, "." | "..") {
        return Err(NameError::Dots);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most characters that such a name may have.
            pub const LENGTH_MAX: usize = $max;

            /// Checks `name` and keeps it.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name, $max)?;
                Ok(Self(name.into()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }
    };
}

name! {
    /// The name of a topic: `[A-Za-z0-9._-]{1,249}`, neither `.` nor `..`; Kafka's own rule, held to
    /// on every log. Cloning is cheap.
    TopicName, 249
}

name! {
    /// The name of a consumer group, and of the subscription that it belongs to: a topic's rule with
    /// at most 200 characters, so that the names of topics derived from it fit.
    GroupId, 200
}

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: TopicName, partition: PartitionId) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Numbers the assignments that a member has been given, so that what was done under an older one is
/// recognised. Grows with each assignment of one membership; unique in one process for one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule_and_say_what_is_wrong() {
        assert!(TopicName::new("Orders.v1_x-2").is_ok());
        assert!(TopicName::new(&"a".repeat(249)).is_ok());
        assert_eq!(TopicName::new(""), Err(NameError::Empty));
        assert_eq!(TopicName::new("."), Err(NameError::Dots));
        assert_eq!(TopicName::new(".."), Err(NameError::Dots));
        assert_eq!(TopicName::new("a/b"), Err(NameError::Character { character: '/' }));
        assert_eq!(TopicName::new("a\0"), Err(NameError::Character { character: '\0' }));
        assert_eq!(TopicName::new("é"), Err(NameError::Character { character: 'é' }));
        assert_eq!(TopicName::new(&"a".repeat(250)), Err(NameError::TooLong { max: 249, length: 250 }));
        assert_eq!(GroupId::new(&"a".repeat(201)), Err(NameError::TooLong { max: 200, length: 201 }));
    }
}
