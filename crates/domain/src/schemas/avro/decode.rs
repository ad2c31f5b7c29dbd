//! Bytes to JSON, by Avro's JSON encoding.
//!
//! A value may take no byte at all (null, an empty record), so a few bytes can announce any number of them; types
//! may be recursive, so a few more can nest them. Both have bounds that follow the payload's size.

use super::{AvroSchema, Type};
use crate::schemas::{format::ValueProblem, limits};
use std::fmt::Write as _;

/// Values that a payload may hold beyond sixteen for each of its bytes.
const VALUES_FREE: usize = 10_000;

pub(super) fn decode(schema: &AvroSchema, payload: &[u8]) -> Result<Vec<u8>, ValueProblem> {
    let mut decoder = Decoder {
        schema,
        rest: payload,
        out: Vec::with_capacity(payload.len() * 2),
        path: String::new(),
        depth: 0,
        left: payload.len() * 16 + VALUES_FREE,
    };
    decoder.value(schema.root)?;
    if !decoder.rest.is_empty() {
        return Err(ValueProblem::new(
            "",
            format!("{} bytes follow the value; is it of this schema?", decoder.rest.len()),
        ));
    }
    Ok(decoder.out)
}

struct Decoder<'a> {
    schema: &'a AvroSchema,
    rest: &'a [u8],
    out: Vec<u8>,
    path: String,
    depth: usize,
    /// How many more values there may be.
    left: usize,
}

impl<'a> Decoder<'a> {
    fn wrong(&self, message: impl Into<String>) -> ValueProblem {
        ValueProblem::new(self.path.trim_start_matches('.'), message)
    }

    fn within(
        &mut self,
        step: std::fmt::Arguments<'_>,
        decode: impl FnOnce(&mut Self) -> Result<(), ValueProblem>,
    ) -> Result<(), ValueProblem> {
        let length = self.path.len();
        let _ = self.path.write_fmt(step);
        decode(self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn value(&mut self, of: usize) -> Result<(), ValueProblem> {
        if self.depth >= limits::VALUE_DEPTH_MAX * 2 {
            return Err(self.wrong("the value is nested too deep"));
        }
        let Some(left) = self.left.checked_sub(1) else {
            return Err(self.wrong("the value has more parts than its bytes can stand for"));
        };
        self.left = left;
        self.depth += 1;
        self.of_type(of)?;
        self.depth -= 1;
        Ok(())
    }

    fn of_type(&mut self, of: usize) -> Result<(), ValueProblem> {
        let schema = self.schema;
        match &schema.types[of] {
            Type::Null => self.put("null"),
            Type::Boolean => match self.take(1)? {
                [0] => self.put("false"),
                [1] => self.put("true"),
                _ => return Err(self.wrong("a boolean is a byte 0 or 1")),
            },
            Type::Int => {
                let value = self.long()?;
                let value = i32::try_from(value).map_err(|_| self.wrong("an int has more than 32 bits"))?;
                self.json(&value)?;
            }
            Type::Long => {
                let value = self.long()?;
                self.json(&value)?;
            }
            Type::Float => {
                let bytes = self.array()?;
                self.float(f32::from_le_bytes(bytes).into(), |decoder| {
                    decoder.json(&f32::from_le_bytes(bytes))
                })?;
            }
            Type::Double => {
                let bytes = self.array()?;
                let value = f64::from_le_bytes(bytes);
                self.float(value, |decoder| decoder.json(&value))?;
            }
            Type::Bytes => {
                let bytes = self.bytes()?;
                self.latin(bytes)?;
            }
            Type::Fixed { size, .. } => {
                let bytes = self.take(*size)?;
                self.latin(bytes)?;
            }
            Type::String => {
                let text = self.text()?;
                self.json(text)?;
            }
            Type::Enum { name, symbols, .. } => {
                let index = self.long()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                let symbol =
                    symbol.ok_or_else(|| self.wrong(format!("`{}` has no symbol {index}", name.full)))?;
                self.json(symbol)?;
            }
            Type::Array(items) => {
                self.put("[");
                let mut index = 0_usize;
                self.blocks(|decoder| {
                    decoder.comma(index);
                    decoder.within(format_args!("[{index}]"), |decoder| decoder.value(*items))?;
                    index += 1;
                    Ok(())
                })?;
                self.put("]");
            }
            Type::Map(values) => {
                self.put("{");
                let mut index = 0_usize;
                self.blocks(|decoder| {
                    decoder.comma(index);
                    index += 1;
                    let key = decoder.text()?;
                    decoder.json(key)?;
                    decoder.put(":");
                    decoder.within(format_args!(".{key}"), |decoder| decoder.value(*values))
                })?;
                self.put("}");
            }
            Type::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                let branch = *branch.ok_or_else(|| self.wrong(format!("the union has no branch {index}")))?;
                let of = &schema.types[branch];
                if matches!(of, Type::Null) {
                    self.put("null");
                } else {
                    self.put("{");
                    self.json(of.branch_name())?;
                    self.put(":");
                    self.value(branch)?;
                    self.put("}");
                }
            }
            Type::Record { fields, .. } => {
                self.put("{");
                for (index, field) in fields.iter().enumerate() {
                    self.comma(index);
                    self.json(&field.name)?;
                    self.put(":");
                    self.within(format_args!(".{}", field.name), |decoder| decoder.value(field.of))?;
                }
                self.put("}");
            }
        }
        Ok(())
    }

    /// The blocks of an array or a map: a number of items, or its negative and the block's bytes, until zero.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), ValueProblem>,
    ) -> Result<(), ValueProblem> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.put(",");
        }
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueProblem> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| self.wrong(error.to_string()))
    }

    fn float(
        &mut self,
        value: f64,
        finite: impl FnOnce(&mut Self) -> Result<(), ValueProblem>,
    ) -> Result<(), ValueProblem> {
        if value.is_nan() {
            self.put("\"NaN\"");
        } else if value.is_infinite() {
            self.put(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
        } else {
            return finite(self);
        }
        Ok(())
    }

    fn latin(&mut self, bytes: &[u8]) -> Result<(), ValueProblem> {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        self.json(&text)
    }

    fn text(&mut self) -> Result<&'a str, ValueProblem> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.wrong("a string is not UTF-8"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], ValueProblem> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| self.wrong("a length is negative"))?;
        self.take(length)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueProblem> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ValueProblem> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.wrong(format!("{length} bytes are to come, and {} are left", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn long(&mut self) -> Result<i64, ValueProblem> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(self.wrong("a number has more than 64 bits"))
    }
}
