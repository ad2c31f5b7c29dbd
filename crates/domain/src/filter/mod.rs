//! Filters and key expressions in CEL, the Common Expression Language, over an event's attributes, key,
//! headers and decoded value.
//!
//! # Names
//!
//! | name | what it is |
//! | --- | --- |
//! | `id` `source` `type` `subject` `tenantid` `userid` `correlationid` `causationid` | the attribute, a string |
//! | `time` | when it happened, a timestamp |
//! | `extensions` | further CloudEvents extensions: a map of strings |
//! | `headers` | the record's other headers: a map of strings; bytes where a value is not UTF-8, null where it is null, a list where a name comes more than once |
//! | `key` | a string; bytes where it is not UTF-8 |
//! | `data` | the value, read as JSON: whole numbers are ints (uints above the ints), objects are maps |
//! | `topic` `partition` `offset` | where the event lies: a string and two ints |
//! | `timestamp` | the record's, a timestamp |
//!
//! A missing attribute, key or value is `null`: `subject == null` tells, `subject == 'x'` is false, and
//! `subject.startsWith('x')` is an error. Fields of maps are asked for with `has(headers.trace)`. Any other
//! name is refused when the expression is compiled.
//!
//! # Language
//!
//! Operators, literals, `has`, `all`, `exists`, `exists_one`, `map`, `filter` and `in` as the CEL
//! specification has them, numbers of different types compared by value, `&&` and `||` taking the side that
//! decides when the other is an error. Functions: `size contains startsWith endsWith matches int uint
//! double string bytes bool dyn timestamp duration`, and of timestamps `getFullYear getMonth getDate
//! getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes getSeconds getMilliseconds`, in UTC (the
//! hours, minutes and seconds of durations are totals). The pattern of `matches` is a literal, so that it
//! is compiled once. Messages, `type()` and optionals are left out.
//!
//! # What always holds
//!
//! 1. The value is read only if the expression names `data`, and then only when evaluation comes to it (what a value
//!    says of its event, where headers do not, was read before); of the headers only those are read that carry an attribute that is named.
//! 2. Compiling is bounded by the length of the text, its nesting, and the size of its patterns together; the parser
//!    runs on a stack of its own, where its panic is an error as any other.
//! 3. Evaluating is bounded by [`FilterLimits::cost_max`], which each step and each 16 bytes that are read
//!    or made use up: time and memory are in proportion to it and to the one reading of the value, whatever
//!    the expression and the event. Using it up is an error that no operator swallows.
//! 4. An error in evaluation is no match. It is never a panic.
//!
//! The parser is the `cel` crate's; its tree is brought into one of our own (`lower.rs`), with names
//! resolved and patterns compiled, since an evaluation that can be stopped when it costs too much, and reads
//! an event in place, is not to be had from it.

mod eval;
mod functions;
mod input;
mod lower;
mod node;
mod parse;
#[cfg(test)]
mod tests;
mod value;

use self::{
    eval::Evaluation,
    input::{Input, Wanted},
    node::Node,
    value::Value,
};
use crate::event_schemas::Metadata;
use bytes::Bytes;
use ports::{PartitionId, Record, StoredRecord};
use std::fmt;

/// Bounds on expressions and on what evaluating them may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterLimits {
    /// The most bytes of an expression's text; [`FilterLimits::TEXT_BYTES_MAX`] at most.
    pub text_bytes_max: usize,
    /// How deep parentheses, brackets, braces and conditionals may be nested;
    /// [`FilterLimits::NESTING_MAX`] at most.
    pub nesting_max: usize,
    /// What one evaluation may cost: one a step, and one for each 16 bytes that are read or made; `matches`
    /// costs 1 to 64 for each byte that it looks through, by the size of its pattern.
    pub cost_max: u64,
    /// The most bytes of a value that is read as JSON. A longer one is an error in evaluation.
    pub data_bytes_max: usize,
    /// The most bytes of the key that a key expression makes. A longer one is an error in evaluation.
    pub key_bytes_max: usize,
}

impl FilterLimits {
    /// The most bytes of an expression's text that any limit allows.
    pub const TEXT_BYTES_MAX: usize = parse::TEXT_BYTES_MAX;
    /// The deepest nesting that any limit allows.
    pub const NESTING_MAX: usize = parse::NESTING_MAX;
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self {
            text_bytes_max: 4096,
            nesting_max: 32,
            cost_max: 200_000,
            data_bytes_max: 1 << 20,
            key_bytes_max: 1024,
        }
    }
}

/// Why an expression was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct FilterError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// An event to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct FilterInput<'a> {
    /// The topic that it lies in.
    pub topic: &'a str,
    /// The partition that it lies in.
    pub partition: PartitionId,
    /// The event.
    pub record: &'a StoredRecord,
    /// Its value as JSON, where the record has it in another form.
    pub decoded: Option<&'a Bytes>,
    /// What its value says of it, where its headers do not.
    pub metadata: Option<&'a Metadata>,
}

/// Which events are wanted.
#[derive(Clone)]
pub struct Filter(Expression);

impl Filter {
    /// Compiles a filter. Errors say where in the text they are. Takes milliseconds; evaluating takes
    /// microseconds, so compile once.
    pub fn compile(text: &str, limits: &FilterLimits) -> Result<Self, FilterError> {
        let expression = Expression::compile(text, limits)?;
        match expression.root.never_bool() {
            Some(what) => Err(FilterError {
                line: 1,
                column: 1,
                message: format!(
                    "a filter must be true or false, this is always {what}; compare it with something"
                ),
            }),
            None => Ok(Self(expression)),
        }
    }

    /// Whether the event's value may have to be read.
    pub fn needs_data(&self) -> bool {
        self.0.wanted.data()
    }

    /// Whether an attribute is named that a record's headers leave out.
    pub(crate) fn lacks(&self, record: &Record) -> bool {
        self.0.wanted.lacks(record)
    }

    /// The expression as it was given.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether the event is wanted. `Err` says in a sentence why that could not be told; to a caller it is
    /// no match, to be counted.
    pub fn matches(&self, input: &FilterInput<'_>) -> Result<bool, String> {
        self.0.evaluate(input, |value| match value {
            Value::Bool(matches) => Ok(matches),
            other => Err(format!("the filter gives {} where it must give true or false", other.kind())),
        })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.text).finish()
    }
}

/// What makes two events copies of each other.
#[derive(Clone)]
pub struct KeyExpression(Expression);

impl KeyExpression {
    /// Compiles a key expression. Errors say where in the text they are.
    pub fn compile(text: &str, limits: &FilterLimits) -> Result<Self, FilterError> {
        Expression::compile(text, limits).map(Self)
    }

    /// Whether the event's value may have to be read.
    pub fn needs_data(&self) -> bool {
        self.0.wanted.data()
    }

    /// The expression as it was given.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The event's key: strings and bytes as they are, ints, uints and bools as they are written,
    /// timestamps as RFC 3339. Anything else, null and the empty key among it, is an error in a sentence, so
    /// that events without a key are not taken for copies of each other.
    pub fn evaluate(&self, input: &FilterInput<'_>) -> Result<Bytes, String> {
        let key_bytes_max = self.0.limits.key_bytes_max;
        self.0.evaluate(input, |value| {
            let key = match value {
                Value::Bytes(bytes) => bytes.as_slice().to_vec(),
                Value::String(_) | Value::Int(_) | Value::UInt(_) | Value::Bool(_) | Value::Timestamp(_) => {
                    value.to_text().unwrap_or_default().into_bytes()
                }
                other => {
                    return Err(format!(
                        "the key is {}; it must be a string, bytes or a whole number",
                        other.kind()
                    ));
                }
            };
            match key.len() {
                0 => Err("the key is empty".to_owned()),
                length if length > key_bytes_max => {
                    Err(format!("the key has {length} bytes, and at most {key_bytes_max} are taken"))
                }
                _ => Ok(key.into()),
            }
        })
    }
}

impl fmt::Debug for KeyExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyExpression").field(&self.0.text).finish()
    }
}

#[derive(Clone)]
struct Expression {
    text: std::sync::Arc<str>,
    root: std::sync::Arc<Node>,
    wanted: Wanted,
    limits: FilterLimits,
}

impl Expression {
    fn compile(text: &str, limits: &FilterLimits) -> Result<Self, FilterError> {
        let (root, wanted) = parse::compile(text, limits)?;
        Ok(Self { text: text.into(), root: root.into(), wanted, limits: limits.clone() })
    }

    fn evaluate<T>(
        &self,
        input: &FilterInput<'_>,
        read: impl FnOnce(Value<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let input = Input::new(*input, self.wanted, self.limits.data_bytes_max);
        let value = Evaluation::new(&input, self.limits.cost_max).run(&self.root)?;
        read(value)
    }
}
