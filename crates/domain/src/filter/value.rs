//! Values, most of them borrowed from the event or the expression, and how they compare.

use super::eval::{Budget, Fault};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map as JsonMap, Value as Json};
use std::{cmp::Ordering, rc::Rc};

/// A string.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// Bytes.
#[derive(Clone, Debug)]
pub(super) enum Octets<'a> {
    Borrowed(&'a [u8]),
    Made(Rc<[u8]>),
}

impl Octets<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Json(&'a [Json]),
    Made(Rc<[Value<'a>]>),
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(list) => list.len(),
            Self::Made(list) => list.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(list) => list.get(index).map(Value::of_json),
            Self::Made(list) => list.get(index).cloned(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    Json(&'a JsonMap<String, Json>),
    /// No key comes twice.
    Made(Rc<[(Value<'a>, Value<'a>)]>),
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(map) => map.len(),
            Self::Made(map) => map.len(),
        }
    }

    /// Looks up a field by its name.
    pub(super) fn field(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, Fault> {
        match self {
            Self::Json(map) => {
                budget.take_bytes(name.len())?;
                Ok(map.get(name).map(Value::of_json))
            }
            Self::Made(map) => {
                budget.take(map.len() as u64 * (1 + name.len() as u64 / 16))?;
                let is_it = |(key, _): &&(Value<'a>, Value<'a>)| matches!(key, Value::String(text) if text.as_str() == name);
                Ok(map.iter().find(is_it).map(|(_, value)| value.clone()))
            }
        }
    }

    /// Looks up a key of any type.
    pub(super) fn get(&self, key: &Value<'_>, budget: &mut Budget) -> Result<Option<Value<'a>>, Fault> {
        if let Value::String(text) = key {
            return self.field(text.as_str(), budget);
        }
        match self {
            Self::Json(_) => Ok(None),
            Self::Made(map) => {
                for (other, value) in map.iter() {
                    if equal(other, key, budget)? {
                        return Ok(Some(value.clone()));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Its keys in order. What that takes is taken from the budget.
    pub(super) fn keys(&self, budget: &mut Budget) -> Result<List<'a>, Fault> {
        budget.take(self.len() as u64)?;
        Ok(List::Made(match self {
            Self::Json(map) => map.keys().map(|key| Value::String(Text::Borrowed(key))).collect(),
            Self::Made(map) => map.iter().map(|(key, _)| key.clone()).collect(),
        }))
    }
}

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Octets<'a>),
    List(List<'a>),
    Map(Map<'a>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
}

impl<'a> Value<'a> {
    pub(super) fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => Self::Bool(*bool),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Self::Int(int),
                (None, Some(uint)) => Self::UInt(uint),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(list) => Self::List(List::Json(list)),
            Json::Object(map) => Self::Map(Map::Json(map)),
        }
    }

    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::String(Text::Made(text.into()))
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::UInt(_) => "a uint",
            Self::Double(_) => "a double",
            Self::String(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Timestamp(_) => "a timestamp",
            Self::Duration(_) => "a duration",
        }
    }

    /// As `string()` writes it.
    pub(super) fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Bool(bool) => bool.to_string(),
            Self::Int(int) => int.to_string(),
            Self::UInt(uint) => uint.to_string(),
            Self::Double(double) => double.to_string(),
            Self::String(text) => text.as_str().to_owned(),
            Self::Bytes(bytes) => std::str::from_utf8(bytes.as_slice()).ok()?.to_owned(),
            Self::Timestamp(timestamp) => timestamp.to_string(),
            Self::Duration(duration) => {
                let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
                let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
                let fraction = format!("{:09}", nanos.unsigned_abs());
                let fraction = fraction.trim_end_matches('0');
                let point = if fraction.is_empty() { "" } else { "." };
                format!("{sign}{}{point}{fraction}s", seconds.unsigned_abs())
            }
            Self::Null | Self::List(_) | Self::Map(_) => return None,
        })
    }
}

/// Whether two values are equal: numbers by value whatever their types, values of other types never.
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Result<bool, Fault> {
    budget.take(1)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for index in 0..a.len() {
                match (a.get(index), b.get(index)) {
                    (Some(a), Some(b)) if equal(&a, &b, budget)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            let keys = a.keys(budget)?;
            for index in 0..keys.len() {
                let Some(key) = keys.get(index) else { return Ok(false) };
                match (a.get(&key, budget)?, b.get(&key, budget)?) {
                    (Some(a), Some(b)) if equal(&a, &b, budget)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        _ => order(a, b, budget)? == Some(Ordering::Equal),
    })
}

/// How two values of types that have an order among each other compare; `None` for others, and for a
/// number that is none.
pub(super) fn order(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Result<Option<Ordering>, Fault> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::UInt(a), Value::UInt(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::UInt(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::UInt(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Int(a), Value::Double(b)) => whole_with_double(i128::from(*a), *b),
        (Value::UInt(a), Value::Double(b)) => whole_with_double(i128::from(*a), *b),
        (Value::Double(a), Value::Int(b)) => whole_with_double(i128::from(*b), *a).map(Ordering::reverse),
        (Value::Double(a), Value::UInt(b)) => whole_with_double(i128::from(*b), *a).map(Ordering::reverse),
        (Value::String(a), Value::String(b)) => {
            budget.take_bytes(a.as_str().len().min(b.as_str().len()))?;
            Some(a.as_str().cmp(b.as_str()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.take_bytes(a.as_slice().len().min(b.as_slice().len()))?;
            Some(a.as_slice().cmp(b.as_slice()))
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        _ => None,
    })
}

/// Exactly, where a cast to a double would round.
fn whole_with_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // A cast saturates, and i128 holds every int and uint: what is beyond compares as it should.
    let floor = double.floor() as i128;
    Some(whole.cmp(&floor).then(if double > double.floor() { Ordering::Less } else { Ordering::Equal }))
}
