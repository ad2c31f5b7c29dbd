//! JSON to bytes, by Avro's JSON encoding, taken somewhat more freely: a field that is left out has its default,
//! and where a union has one branch besides null its value need not be named.

use super::{AvroSchema, Type};
use crate::schemas::{format::ValueProblem, limits};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Values that one value may be made of: defaults may stand for more than is written.
const STEPS_MAX: usize = 1_000_000;

pub(super) fn encode(schema: &AvroSchema, value: &Value) -> Result<Bytes, ValueProblem> {
    let mut encoder = Encoder { schema, out: Vec::new(), path: String::new(), depth: 0, left: STEPS_MAX };
    encoder.value(schema.root, value)?;
    Ok(encoder.out.into())
}

/// Whether a JSON value is one of a type, as a default: that of a union is one of any branch, and is not named.
/// `steps` is what is left to all defaults of a schema.
pub(super) fn check_default(
    schema: &AvroSchema,
    of: usize,
    default: &Value,
    steps: &mut usize,
) -> Result<(), ValueProblem> {
    let mut encoder = Encoder { schema, out: Vec::new(), path: String::new(), depth: 0, left: *steps };
    let checked = encoder.default(of, default);
    *steps = encoder.left;
    checked
}

struct Encoder<'a> {
    schema: &'a AvroSchema,
    out: Vec<u8>,
    path: String,
    /// Levels of types: records may hold each other in defaults without any JSON between.
    depth: usize,
    /// How many more values there may be.
    left: usize,
}

impl Encoder<'_> {
    fn wrong(&self, message: impl Into<String>) -> ValueProblem {
        ValueProblem::new(self.path.trim_start_matches('.'), message)
    }

    fn expected(&self, what: &str, value: &Value) -> ValueProblem {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.wrong(format!("expected {what}, found {found}"))
    }

    fn within(
        &mut self,
        step: std::fmt::Arguments<'_>,
        encode: impl FnOnce(&mut Self) -> Result<(), ValueProblem>,
    ) -> Result<(), ValueProblem> {
        let length = self.path.len();
        let _ = self.path.write_fmt(step);
        encode(self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn enter(&mut self) -> Result<(), ValueProblem> {
        self.depth += 1;
        if self.depth > limits::VALUE_DEPTH_MAX * 2 {
            return Err(self.wrong("it is nested too deep; does a default hold itself?"));
        }
        let left = self.left.checked_sub(1);
        self.left = left.ok_or_else(|| self.wrong("it has too many parts; do defaults multiply?"))?;
        Ok(())
    }

    fn value(&mut self, of: usize, value: &Value) -> Result<(), ValueProblem> {
        self.enter()?;
        self.of_type(of, value)?;
        self.depth -= 1;
        Ok(())
    }

    fn of_type(&mut self, of: usize, value: &Value) -> Result<(), ValueProblem> {
        let schema = self.schema;
        match (&schema.types[of], value) {
            (Type::Union(branches), value) => self.union(branches, value)?,
            (Type::Array(items), Value::Array(values)) => {
                if !values.is_empty() {
                    self.long(values.len() as i64);
                    for (index, value) in values.iter().enumerate() {
                        self.within(format_args!("[{index}]"), |encoder| encoder.value(*items, value))?;
                    }
                }
                self.long(0);
            }
            (Type::Map(of), Value::Object(members)) => {
                if !members.is_empty() {
                    self.long(members.len() as i64);
                    for (key, value) in members {
                        self.bytes(key.as_bytes());
                        self.within(format_args!(".{key}"), |encoder| encoder.value(*of, value))?;
                    }
                }
                self.long(0);
            }
            (Type::Record { .. }, Value::Object(members)) => self.record(of, members)?,
            (of, value) => self.scalar(of, value)?,
        }
        Ok(())
    }

    fn scalar(&mut self, of: &Type, value: &Value) -> Result<(), ValueProblem> {
        match (of, value) {
            (Type::Null, Value::Null) => {}
            (Type::Boolean, Value::Bool(value)) => self.out.push(u8::from(*value)),
            (Type::Int, value) => {
                let whole = whole(value).and_then(|value| i32::try_from(value).ok());
                let whole = whole.ok_or_else(|| self.expected("a whole number of 32 bits", value))?;
                self.long(whole.into());
            }
            (Type::Long, value) => {
                let whole = whole(value).ok_or_else(|| self.expected("a whole number of 64 bits", value))?;
                self.long(whole);
            }
            (Type::Float, value) => {
                let number = number(value).ok_or_else(|| self.expected("a number", value))?;
                let single = number as f32;
                if number.is_finite() && !single.is_finite() {
                    return Err(self.wrong("the number does not fit a float; declare a double"));
                }
                self.out.extend(single.to_le_bytes());
            }
            (Type::Double, value) => {
                let number = number(value).ok_or_else(|| self.expected("a number", value))?;
                self.out.extend(number.to_le_bytes());
            }
            (Type::Bytes, Value::String(text)) => {
                let bytes = self.latin(text)?;
                self.bytes(&bytes);
            }
            (Type::Fixed { name, size }, Value::String(text)) => {
                let bytes = self.latin(text)?;
                if bytes.len() != *size {
                    return Err(self.wrong(format!(
                        "`{}` has {size} bytes, and {} are given",
                        name.full,
                        bytes.len()
                    )));
                }
                self.out.extend(bytes);
            }
            (Type::String, Value::String(text)) => self.bytes(text.as_bytes()),
            (Type::Enum { name, symbols, .. }, Value::String(symbol)) => {
                let Some(index) = symbols.iter().position(|known| known == symbol) else {
                    let some: Vec<&str> = symbols.iter().take(20).map(String::as_str).collect();
                    return Err(self.wrong(format!("`{}` is one of {}", name.full, some.join(", "))));
                };
                self.long(index as i64);
            }
            (of, value) => {
                let what = match of {
                    Type::Boolean => "a boolean",
                    Type::Bytes | Type::Fixed { .. } => {
                        "a string of characters up to U+00FF, one for each byte"
                    }
                    Type::String => "a string",
                    Type::Enum { .. } => "a string that is one of the enum's symbols",
                    Type::Array(_) => "an array",
                    Type::Map(_) | Type::Record { .. } => "an object",
                    _ => "null",
                };
                return Err(self.expected(what, value));
            }
        }
        Ok(())
    }

    fn record(&mut self, of: usize, members: &Map<String, Value>) -> Result<(), ValueProblem> {
        let schema = self.schema;
        let Type::Record { name, fields } = &schema.types[of] else { return Ok(()) };
        let mut given = 0;
        for field in fields {
            let value = members.get(&field.name);
            given += usize::from(value.is_some());
            self.within(format_args!(".{}", field.name), |encoder| match (value, &field.default) {
                (Some(value), _) => encoder.value(field.of, value),
                (None, Some(default)) => encoder.default(field.of, default),
                (None, None) => {
                    Err(encoder.wrong(format!("it is not given, and `{}` has no default for it", name.full)))
                }
            })?;
        }
        if given < members.len() {
            let unknown = members.keys().find(|key| !fields.iter().any(|field| field.name == **key));
            let unknown = unknown.map(String::as_str).unwrap_or_default();
            return self.within(format_args!(".{unknown}"), |encoder| {
                Err(encoder.wrong(format!("`{}` has no such field; leave it out", name.full)))
            });
        }
        Ok(())
    }

    fn union(&mut self, branches: &[usize], value: &Value) -> Result<(), ValueProblem> {
        let schema = self.schema;
        let position =
            |name: &str| branches.iter().position(|branch| schema.types[*branch].branch_name() == name);
        if value.is_null() {
            let Some(index) = position("null") else { return Err(self.no_branch(branches)) };
            self.long(index as i64);
            return Ok(());
        }
        if let Value::Object(members) = value
            && let (1, Some((name, inner))) = (members.len(), members.iter().next())
            && let Some(index) = position(name)
        {
            self.long(index as i64);
            return self.within(format_args!(".{name}"), |encoder| encoder.value(branches[index], inner));
        }
        let mut others =
            branches.iter().enumerate().filter(|(_, branch)| !matches!(schema.types[**branch], Type::Null));
        let (Some((index, branch)), None) = (others.next(), others.next()) else {
            return Err(self.no_branch(branches));
        };
        self.long(index as i64);
        self.value(*branch, value)
    }

    fn no_branch(&self, branches: &[usize]) -> ValueProblem {
        let names: Vec<&str> =
            branches.iter().take(20).map(|branch| self.schema.types[*branch].branch_name()).collect();
        self.wrong(format!(
            "expected a value of a branch of the union, as `{{\"branch\": value}}`; the branches are {}",
            names.join(", ")
        ))
    }

    /// A default: as any value, but that a union's is not named.
    fn default(&mut self, of: usize, default: &Value) -> Result<(), ValueProblem> {
        self.enter()?;
        let schema = self.schema;
        match (&schema.types[of], default) {
            (Type::Union(branches), default) => {
                let (length, depth, path) = (self.out.len(), self.depth, self.path.len());
                let mut first = None;
                for (index, branch) in branches.iter().enumerate() {
                    self.long(index as i64);
                    match self.default(*branch, default) {
                        Ok(()) => {
                            first = None;
                            break;
                        }
                        Err(problem) => {
                            self.out.truncate(length);
                            self.depth = depth;
                            self.path.truncate(path);
                            first = first.or(Some(problem));
                        }
                    }
                }
                if let Some(problem) = first {
                    return Err(problem);
                }
                if branches.is_empty() {
                    return Err(self.no_branch(branches));
                }
            }
            (Type::Array(items), Value::Array(values)) => {
                if !values.is_empty() {
                    self.long(values.len() as i64);
                    for (index, value) in values.iter().enumerate() {
                        self.within(format_args!("[{index}]"), |encoder| encoder.default(*items, value))?;
                    }
                }
                self.long(0);
            }
            (Type::Map(of), Value::Object(members)) => {
                if !members.is_empty() {
                    self.long(members.len() as i64);
                    for (key, value) in members {
                        self.bytes(key.as_bytes());
                        self.within(format_args!(".{key}"), |encoder| encoder.default(*of, value))?;
                    }
                }
                self.long(0);
            }
            (Type::Record { name, fields }, Value::Object(members)) => {
                for field in fields {
                    let given = members.get(&field.name).or(field.default.as_ref());
                    self.within(format_args!(".{}", field.name), |encoder| match given {
                        Some(value) => encoder.default(field.of, value),
                        None => Err(encoder
                            .wrong(format!("it is not given, and `{}` has no default for it", name.full))),
                    })?;
                }
            }
            (of, default) => self.scalar(of, default)?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// Bytes as Avro has them in JSON: characters, one for each byte.
    fn latin(&self, text: &str) -> Result<Vec<u8>, ValueProblem> {
        let bytes = text.chars().map(|character| u8::try_from(u32::from(character)));
        bytes.collect::<Result<_, _>>().map_err(|_| {
            self.wrong("bytes are given as characters up to U+00FF, one for each byte, and there are others")
        })
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }
}

/// A whole number; `1.0` is one.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float =
            number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0)?;
        (!number.is_u64()).then_some(float as i64)
    })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(name) => match name.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}
