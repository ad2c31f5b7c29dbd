//! The settings of a topic, by Kafka's names.

use super::fault::Fault;
use ports::ErrorKind;
use std::collections::BTreeMap;

/// What was set for a topic, as it was written. What is not in it has its default.
pub(crate) type Explicit = BTreeMap<String, String>;

/// The settings in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `max.message.bytes`: the largest record.
    pub(crate) max_message_bytes: usize,
    /// `retention.bytes`: what a partition may hold; `None` is no limit.
    pub(crate) retention_bytes: Option<u64>,
    /// `retention.ms`: how long a record is kept after it was appended; `None` is for ever.
    pub(crate) retention_ms: Option<i64>,
    /// `segment.bytes`: where a segment ends. A batch that is larger has one to itself.
    pub(crate) segment_bytes: u64,
}

const CLEANUP_POLICY: &str = "cleanup.policy";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const RETENTION_BYTES: &str = "retention.bytes";
const RETENTION_MS: &str = "retention.ms";
const SEGMENT_BYTES: &str = "segment.bytes";
const KNOWN: [&str; 5] = [CLEANUP_POLICY, MAX_MESSAGE_BYTES, RETENTION_BYTES, RETENTION_MS, SEGMENT_BYTES];

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_message_bytes: 1 << 20,
            retention_bytes: None,
            retention_ms: Some(7 * 24 * 60 * 60 * 1000),
            segment_bytes: 64 << 20,
        }
    }
}

impl Settings {
    /// Checks what was set. `message_bytes_max` is the most that `max.message.bytes` may be.
    pub(crate) fn parse(explicit: &Explicit, message_bytes_max: usize) -> Result<Self, Fault> {
        let mut settings = Self::default();
        for (key, value) in explicit {
            match key.as_str() {
                CLEANUP_POLICY => cleanup_policy(value)?,
                MAX_MESSAGE_BYTES => {
                    settings.max_message_bytes = number(key, value, 1, message_bytes_max as i64)? as usize;
                }
                RETENTION_BYTES => {
                    settings.retention_bytes = limit(number(key, value, -1, i64::MAX)?).map(|n| n as u64)
                }
                RETENTION_MS => settings.retention_ms = limit(number(key, value, -1, i64::MAX)?),
                SEGMENT_BYTES => {
                    settings.segment_bytes = number(key, value, 1024, i64::from(i32::MAX))? as u64
                }
                _ => {
                    return Err(Fault::new(
                        ErrorKind::Invalid,
                        format!("{key:?} is not a setting of this log; known are {}", KNOWN.join(", ")),
                    ));
                }
            }
        }
        Ok(settings)
    }

    /// All settings, by name.
    pub(crate) fn describe(&self) -> BTreeMap<String, String> {
        let unlimited = |limit: Option<String>| limit.unwrap_or_else(|| "-1".to_owned());
        let all = [
            (CLEANUP_POLICY, "delete".to_owned()),
            (MAX_MESSAGE_BYTES, self.max_message_bytes.to_string()),
            (RETENTION_BYTES, unlimited(self.retention_bytes.map(|n| n.to_string()))),
            (RETENTION_MS, unlimited(self.retention_ms.map(|n| n.to_string()))),
            (SEGMENT_BYTES, self.segment_bytes.to_string()),
        ];
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn limit(number: i64) -> Option<i64> {
    (number >= 0).then_some(number)
}

fn cleanup_policy(value: &str) -> Result<(), Fault> {
    match value {
        "delete" => Ok(()),
        "compact" | "compact,delete" | "delete,compact" => Err(Fault::new(
            ErrorKind::Unsupported,
            format!("{CLEANUP_POLICY}={value}: this log does not compact; it takes {CLEANUP_POLICY}=delete"),
        )),
        _ => Err(Fault::new(
            ErrorKind::Invalid,
            format!("{CLEANUP_POLICY}={value:?} is no policy; this log takes {CLEANUP_POLICY}=delete"),
        )),
    }
}

fn number(key: &str, value: &str, min: i64, max: i64) -> Result<i64, Fault> {
    value.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(|| {
        Fault::new(ErrorKind::Invalid, format!("{key}={value:?} must be a whole number from {min} to {max}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, value: &str) -> Result<Settings, Fault> {
        Settings::parse(&[(key.to_owned(), value.to_owned())].into(), 8 << 20)
    }

    #[test]
    fn what_is_described_parses_back() {
        let settings = Settings { retention_bytes: Some(5), retention_ms: None, ..Settings::default() };
        assert_eq!(Settings::parse(&settings.describe(), 8 << 20), Ok(settings));
    }

    #[test]
    fn a_setting_that_is_not_known_or_not_honoured_is_named() {
        let unknown = parse("retention.hours", "3").unwrap_err();
        assert_eq!(unknown.kind, ErrorKind::Invalid);
        assert!(
            unknown.detail.contains("retention.hours") && unknown.detail.contains("retention.ms"),
            "{unknown:?}"
        );
        let compact = parse("cleanup.policy", "compact").unwrap_err();
        assert_eq!(compact.kind, ErrorKind::Unsupported);
        assert!(compact.detail.contains("cleanup.policy"), "{compact:?}");
        for (key, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "10"),
            ("max.message.bytes", "0"),
            ("max.message.bytes", "99999999999"),
            ("cleanup.policy", "burn"),
        ] {
            let fault = parse(key, value).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::Invalid, "{key}={value}");
            assert!(fault.detail.contains(key), "{fault:?}");
        }
    }
}
