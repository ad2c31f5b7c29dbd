//! The functions of the language, and arithmetic.

use super::{
    eval::{Budget, Fault},
    node::Arithmetic,
    value::{List, Octets, Value},
};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::Offset};

/// A function, without `matches`, whose pattern is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    ToInt,
    ToUInt,
    ToDouble,
    ToText,
    ToBytes,
    ToBool,
    Dyn,
    ToTimestamp,
    ToDuration,
    GetFullYear,
    GetMonth,
    GetDate,
    GetDayOfMonth,
    GetDayOfWeek,
    GetDayOfYear,
    GetHours,
    GetMinutes,
    GetSeconds,
    GetMilliseconds,
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `size(x)`.
    Global,
    /// `x.contains(y)`.
    Method,
    /// Both.
    Either,
}

/// Name, how it is called, and with how many arguments, the one before the dot included.
const FUNCTIONS: [(&str, Function, Style, usize); 23] = [
    ("size", Function::Size, Style::Either, 1),
    ("contains", Function::Contains, Style::Method, 2),
    ("startsWith", Function::StartsWith, Style::Method, 2),
    ("endsWith", Function::EndsWith, Style::Method, 2),
    ("int", Function::ToInt, Style::Global, 1),
    ("uint", Function::ToUInt, Style::Global, 1),
    ("double", Function::ToDouble, Style::Global, 1),
    ("string", Function::ToText, Style::Global, 1),
    ("bytes", Function::ToBytes, Style::Global, 1),
    ("bool", Function::ToBool, Style::Global, 1),
    ("dyn", Function::Dyn, Style::Global, 1),
    ("timestamp", Function::ToTimestamp, Style::Global, 1),
    ("duration", Function::ToDuration, Style::Global, 1),
    ("getFullYear", Function::GetFullYear, Style::Method, 1),
    ("getMonth", Function::GetMonth, Style::Method, 1),
    ("getDate", Function::GetDate, Style::Method, 1),
    ("getDayOfMonth", Function::GetDayOfMonth, Style::Method, 1),
    ("getDayOfWeek", Function::GetDayOfWeek, Style::Method, 1),
    ("getDayOfYear", Function::GetDayOfYear, Style::Method, 1),
    ("getHours", Function::GetHours, Style::Method, 1),
    ("getMinutes", Function::GetMinutes, Style::Method, 1),
    ("getSeconds", Function::GetSeconds, Style::Method, 1),
    ("getMilliseconds", Function::GetMilliseconds, Style::Method, 1),
];

/// The function of that name, how it is called, and with how many arguments.
pub(super) fn find(name: &str) -> Option<(Function, Style, usize)> {
    FUNCTIONS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, function, style, count)| (*function, *style, *count))
}

/// The names of all functions and macros.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let others = ["matches", "has", "all", "exists", "exists_one", "map", "filter"];
    FUNCTIONS.iter().map(|(name, ..)| *name).chain(others)
}

/// Calls a function with as many arguments as it takes.
pub(super) fn call<'a>(
    function: Function,
    arguments: &[Value<'a>],
    budget: &mut Budget,
) -> Result<Value<'a>, Fault> {
    match arguments {
        [value] => of_one(function, value, budget),
        [text, part] => of_texts(function, text, part, budget),
        _ => Err(Fault::new("a function got other arguments than it takes")),
    }
}

fn of_texts(
    function: Function,
    text: &Value<'_>,
    part: &Value<'_>,
    budget: &mut Budget,
) -> Result<Value<'static>, Fault> {
    let (Value::String(text), Value::String(part)) = (text, part) else {
        return Err(Fault::new(format!(
            "{}() takes strings, not {} and {}",
            name(function),
            text.kind(),
            part.kind()
        )));
    };
    let (text, part) = (text.as_str(), part.as_str());
    budget.take_bytes(if function == Function::Contains { text.len() + part.len() } else { part.len() })?;
    Ok(Value::Bool(match function {
        Function::Contains => text.contains(part),
        Function::StartsWith => text.starts_with(part),
        _ => text.ends_with(part),
    }))
}

fn of_one<'a>(function: Function, value: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Fault> {
    let refused = || Fault::new(format!("{}() does not take {}", name(function), value.kind()));
    Ok(match (function, value) {
        (Function::Dyn, value) => value.clone(),
        (Function::Size, Value::String(text)) => {
            budget.take_bytes(text.as_str().len())?;
            Value::Int(text.as_str().chars().count() as i64)
        }
        (Function::Size, Value::Bytes(bytes)) => Value::Int(bytes.as_slice().len() as i64),
        (Function::Size, Value::List(list)) => Value::Int(list.len() as i64),
        (Function::Size, Value::Map(map)) => Value::Int(map.len() as i64),
        (Function::ToInt, _) => Value::Int(to_whole(value, budget)?.ok_or_else(refused).and_then(in_range)?),
        (Function::ToUInt, Value::Timestamp(_)) => return Err(refused()),
        (Function::ToUInt, _) => {
            Value::UInt(to_whole(value, budget)?.ok_or_else(refused).and_then(in_range)?)
        }
        (Function::ToDouble, Value::Int(int)) => Value::Double(*int as f64),
        (Function::ToDouble, Value::UInt(uint)) => Value::Double(*uint as f64),
        (Function::ToDouble, Value::Double(double)) => Value::Double(*double),
        (Function::ToDouble, Value::String(text)) => {
            budget.take_bytes(text.as_str().len())?;
            Value::Double(
                text.as_str().parse().map_err(|_| Fault::new("double() got a string that is no number"))?,
            )
        }
        (Function::ToText, Value::String(_)) | (Function::ToBytes, Value::Bytes(_)) => value.clone(),
        (Function::ToText, _) => {
            if let Value::Bytes(bytes) = value {
                budget.take_bytes(2 * bytes.as_slice().len())?;
            }
            let text = value.to_text().ok_or_else(refused)?;
            budget.take_bytes(text.len())?;
            Value::text(text)
        }
        (Function::ToBytes, Value::String(text)) => {
            budget.take_bytes(text.as_str().len())?;
            Value::Bytes(Octets::Made(text.as_str().as_bytes().into()))
        }
        (Function::ToBool, Value::Bool(bool)) => Value::Bool(*bool),
        (Function::ToBool, Value::String(text)) => Value::Bool(match text.as_str() {
            "true" | "True" | "TRUE" | "t" | "1" => true,
            "false" | "False" | "FALSE" | "f" | "0" => false,
            _ => return Err(Fault::new("bool() got a string that is neither true nor false")),
        }),
        (Function::ToTimestamp, Value::Timestamp(timestamp)) => Value::Timestamp(*timestamp),
        (Function::ToTimestamp, Value::Int(seconds)) => Value::Timestamp(
            Timestamp::from_second(*seconds)
                .map_err(|_| Fault::new("timestamp() got seconds beyond the year 9999"))?,
        ),
        (Function::ToTimestamp, Value::String(text)) => {
            budget.take_bytes(text.as_str().len())?;
            Value::Timestamp(timestamp(text.as_str()).ok_or_else(|| Fault::new(BAD_TIMESTAMP))?)
        }
        (Function::ToDuration, Value::Duration(duration)) => Value::Duration(*duration),
        (Function::ToDuration, Value::String(text)) => {
            budget.take_bytes(text.as_str().len())?;
            Value::Duration(duration(text.as_str()).ok_or_else(|| Fault::new(BAD_DURATION))?)
        }
        (_, Value::Timestamp(timestamp)) => {
            Value::Int(part(function, &Offset::UTC.to_datetime(*timestamp)).ok_or_else(refused)?)
        }
        (Function::GetHours, Value::Duration(duration)) => Value::Int(duration.as_hours()),
        (Function::GetMinutes, Value::Duration(duration)) => Value::Int(duration.as_mins()),
        (Function::GetSeconds, Value::Duration(duration)) => Value::Int(duration.as_secs()),
        _ => return Err(refused()),
    })
}

pub(super) const BAD_TIMESTAMP: &str = "timestamp() takes RFC 3339, as in timestamp('2026-01-31T12:00:00Z')";
pub(super) const BAD_DURATION: &str =
    "duration() takes numbers with units, as in duration('1h30m') or duration('0.5s')";

/// RFC 3339.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A sign and numbers with the units h, m, s, ms, us and ns.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    let is_of_it =
        |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'h' | 'm' | 's' | 'u' | 'n' | 'µ');
    text.chars().all(is_of_it).then(|| text.parse().ok()).flatten()
}

fn part(function: Function, at: &DateTime) -> Option<i64> {
    Some(match function {
        Function::GetFullYear => i64::from(at.year()),
        Function::GetMonth => i64::from(at.month()) - 1,
        Function::GetDate => i64::from(at.day()),
        Function::GetDayOfMonth => i64::from(at.day()) - 1,
        Function::GetDayOfWeek => i64::from(at.weekday().to_sunday_zero_offset()),
        Function::GetDayOfYear => i64::from(at.day_of_year()) - 1,
        Function::GetHours => i64::from(at.hour()),
        Function::GetMinutes => i64::from(at.minute()),
        Function::GetSeconds => i64::from(at.second()),
        Function::GetMilliseconds => i64::from(at.millisecond()),
        _ => return None,
    })
}

/// A value as a whole number, cut towards zero; of a timestamp, the seconds since 1970.
fn to_whole(value: &Value<'_>, budget: &mut Budget) -> Result<Option<i128>, Fault> {
    Ok(Some(match value {
        Value::Int(int) => i128::from(*int),
        Value::UInt(uint) => i128::from(*uint),
        Value::Double(double) if double.is_finite() => *double as i128,
        Value::Double(_) => return Err(Fault::new("infinity and NaN are no whole numbers")),
        Value::String(text) => {
            budget.take_bytes(text.as_str().len())?;
            text.as_str().parse().map_err(|_| Fault::new("a string is no whole number"))?
        }
        Value::Timestamp(timestamp) => i128::from(timestamp.as_second()),
        _ => return Ok(None),
    }))
}

fn in_range<T: TryFrom<i128>>(whole: i128) -> Result<T, Fault> {
    T::try_from(whole).map_err(|_| Fault::new("a number is out of range"))
}

/// `+ - * / %`.
pub(super) fn calculate<'a>(
    arithmetic: Arithmetic,
    left: &Value<'a>,
    right: &Value<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, Fault> {
    let too_large = || overflow(arithmetic);
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => match arithmetic {
            Arithmetic::Add => a.checked_add(*b),
            Arithmetic::Subtract => a.checked_sub(*b),
            Arithmetic::Multiply => a.checked_mul(*b),
            Arithmetic::Divide | Arithmetic::Remainder if *b == 0 => return Err(by_zero()),
            Arithmetic::Divide => a.checked_div(*b),
            Arithmetic::Remainder => a.checked_rem(*b),
        }
        .map(Value::Int)
        .ok_or_else(too_large),
        (Value::UInt(a), Value::UInt(b)) => match arithmetic {
            Arithmetic::Add => a.checked_add(*b),
            Arithmetic::Subtract => a.checked_sub(*b),
            Arithmetic::Multiply => a.checked_mul(*b),
            Arithmetic::Divide | Arithmetic::Remainder if *b == 0 => return Err(by_zero()),
            Arithmetic::Divide => a.checked_div(*b),
            Arithmetic::Remainder => a.checked_rem(*b),
        }
        .map(Value::UInt)
        .ok_or_else(too_large),
        (Value::Double(a), Value::Double(b)) => match arithmetic {
            Arithmetic::Add => Ok(Value::Double(a + b)),
            Arithmetic::Subtract => Ok(Value::Double(a - b)),
            Arithmetic::Multiply => Ok(Value::Double(a * b)),
            Arithmetic::Divide => Ok(Value::Double(a / b)),
            Arithmetic::Remainder => Err(cannot(arithmetic, left, right)),
        },
        (Value::Timestamp(a), Value::Timestamp(b)) if arithmetic == Arithmetic::Subtract => {
            Ok(Value::Duration(a.duration_since(*b)))
        }
        (Value::Timestamp(a), Value::Duration(b)) => match arithmetic {
            Arithmetic::Add => a.checked_add(*b).map(Value::Timestamp).map_err(|_| too_large()),
            Arithmetic::Subtract => a.checked_sub(*b).map(Value::Timestamp).map_err(|_| too_large()),
            _ => Err(cannot(arithmetic, left, right)),
        },
        (Value::Duration(a), Value::Timestamp(b)) if arithmetic == Arithmetic::Add => {
            b.checked_add(*a).map(Value::Timestamp).map_err(|_| too_large())
        }
        (Value::Duration(a), Value::Duration(b)) => match arithmetic {
            Arithmetic::Add => a.checked_add(*b).map(Value::Duration).ok_or_else(too_large),
            Arithmetic::Subtract => a.checked_sub(*b).map(Value::Duration).ok_or_else(too_large),
            _ => Err(cannot(arithmetic, left, right)),
        },
        _ if arithmetic == Arithmetic::Add => concatenate(left, right, budget),
        _ => Err(cannot(arithmetic, left, right)),
    }
}

fn concatenate<'a>(left: &Value<'a>, right: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Fault> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => {
            budget.take_bytes(a.as_str().len() + b.as_str().len())?;
            Ok(Value::text([a.as_str(), b.as_str()].concat()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.take_bytes(a.as_slice().len() + b.as_slice().len())?;
            Ok(Value::Bytes(Octets::Made([a.as_slice(), b.as_slice()].concat().into())))
        }
        (Value::List(a), Value::List(b)) => {
            budget.take((a.len() + b.len()) as u64)?;
            let elements =
                |list: &List<'a>| (0..list.len()).filter_map(|index| list.get(index)).collect::<Vec<_>>();
            Ok(Value::List(List::Made([elements(a), elements(b)].concat().into())))
        }
        _ => Err(cannot(Arithmetic::Add, left, right)),
    }
}

pub(super) fn overflow(arithmetic: Arithmetic) -> Fault {
    Fault::new(format!("`{}` is beyond the range of its type", arithmetic.sign()))
}

fn by_zero() -> Fault {
    Fault::new("a number is divided by zero")
}

fn cannot(arithmetic: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Fault {
    Fault::new(format!("`{}` does not take {} and {}", arithmetic.sign(), left.kind(), right.kind()))
}

fn name(function: Function) -> &'static str {
    FUNCTIONS.iter().find(|(_, known, ..)| *known == function).map_or("", |(name, ..)| *name)
}
