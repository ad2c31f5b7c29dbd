//! Values that are written with a unit, and secrets.

use serde::{Deserialize, Deserializer, de};
use std::{fmt, time::Duration};

/// A time as `"500ms"`, `"30s"`, `"5m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(from)?.0;
        let wrong = || de::Error::custom(format!("`{text}` is no duration; write it as 500ms, 30s or 5m"));
        let time = humantime::parse_duration(text.trim()).map_err(|_| wrong())?;
        // More than a year is a slip, and would overflow where times are added up.
        if time > Duration::from_hours(366 * 24) { Err(wrong()) } else { Ok(Self(time)) }
    }
}

/// How long something is kept: a time, or a number of seconds, as files of Spring services have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl(pub(crate) Duration);

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(from)?.0;
        let wrong = || {
            de::Error::custom(format!("`{text}` is no duration; write it as 30s, 5m or 1h, or in seconds"))
        };
        match text.trim().parse().map(Duration::from_secs) {
            Ok(seconds) => Ok(Self(seconds)),
            Err(_) => humantime::parse_duration(text.trim()).map(Self).map_err(|_| wrong()),
        }
    }
}

/// A number of bytes, with or without `KiB`, `MiB`, `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) usize);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(from)?.0;
        parse_bytes(text.trim()).map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no size; write it in bytes, or as 64KiB or 8MiB"))
        })
    }
}

fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// A count, as a number or as its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(from)?.0;
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| de::Error::custom(format!("`{text}` is no whole number from 0 to {}", u32::MAX)))
    }
}

/// A text that no log, no error and no output shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(hidden)" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The value must not be in the message, which serde's own would be.
        Scalar::deserialize(from).map(|text| Self(text.0)).map_err(|_| de::Error::custom("must be a text"))
    }
}

/// Any scalar, as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar(pub(crate) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => {
                Ok(Self(value.to_string()))
            }
            _ => Err(de::Error::custom("must be a single value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("64KiB"), Some(64 << 10));
        assert_eq!(parse_bytes("8 MiB"), Some(8 << 20));
        for wrong in ["", "KiB", "8MB", "-1", "1.5MiB", "99999999999GiB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        let parse = |value| serde_json::from_value::<Time>(value);
        assert_eq!(parse(json!("500ms")).ok(), Some(Time(Duration::from_millis(500))));
        assert_eq!(parse(json!("5m")).ok(), Some(Time(Duration::from_mins(5))));
        assert!(parse(json!(30)).is_err() && parse(json!("-1s")).is_err() && parse(json!("9000y")).is_err());
    }

    #[test]
    fn a_secret_shows_itself_nowhere() {
        let secret: Secret = serde_json::from_value(json!("hunter2")).expect("a text");
        assert!(!format!("{secret:?}").contains("hunter2"));
        let wrong = serde_json::from_value::<Secret>(json!(["hunter2"])).expect_err("a list");
        assert!(!wrong.to_string().contains("hunter2"));
    }
}
