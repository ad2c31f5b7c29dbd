//! The settings of a topic, by Kafka's names: those that the durable embedded log takes.

use ports::{ErrorKind, PortError, Result};
use std::collections::BTreeMap;

/// Settings with their defaults, and the least and the most that they may be.
const NUMBERS: [(&str, i64, i64, i64); 4] = [
    ("max.message.bytes", 1 << 20, 1, 16 << 20),
    ("retention.bytes", -1, -1, i64::MAX),
    ("retention.ms", 7 * 24 * 60 * 60 * 1000, -1, i64::MAX),
    ("segment.bytes", 64 << 20, 1024, i32::MAX as i64),
];
const CLEANUP_POLICY: &str = "cleanup.policy";

/// Checks what is set.
pub(super) fn check(operation: &'static str, config: &BTreeMap<String, String>) -> Result<()> {
    config.iter().try_for_each(|(key, value)| check_one(operation, key, value))
}

fn check_one(operation: &'static str, key: &str, value: &str) -> Result<()> {
    let error = |kind, detail: String| Err(PortError::new(kind, operation, detail));
    if key == CLEANUP_POLICY {
        return match value {
            "delete" => Ok(()),
            "compact" | "compact,delete" | "delete,compact" => {
                error(ErrorKind::Unsupported, format!("{key}={value}: this log does not compact"))
            }
            _ => error(ErrorKind::Invalid, format!("{key}={value:?} is no policy")),
        };
    }
    let Some((_, _, min, max)) = NUMBERS.iter().find(|(known, ..)| *known == key) else {
        return error(ErrorKind::Invalid, format!("{key:?} is not a setting of this log"));
    };
    match value.parse::<i64>() {
        Ok(number) if (*min..=*max).contains(&number) => Ok(()),
        _ => error(ErrorKind::Invalid, format!("{key}={value:?} must be a whole number from {min} to {max}")),
    }
}

/// All settings in force.
pub(super) fn describe(config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let defaults = NUMBERS.iter().map(|(key, default, ..)| ((*key).to_owned(), default.to_string()));
    let mut all: BTreeMap<_, _> = defaults.collect();
    all.insert(CLEANUP_POLICY.to_owned(), "delete".to_owned());
    all.extend(config.clone());
    all
}

/// The largest record, as [`ports::Record::size`].
pub(super) fn message_bytes_max(config: &BTreeMap<String, String>) -> usize {
    describe(config).get("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(usize::MAX)
}
