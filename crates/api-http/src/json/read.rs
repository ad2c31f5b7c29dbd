//! Reads JSON values as slices of the text that they stand in.
//!
//! `serde_json` checks the grammar once and gives each member's raw text; what a member means is read from
//! that text only where it is needed. Raw values are passed over without recursion, so that no nesting is
//! too deep for the stack; whoever keeps a value checks its depth with [`depth_within`].

use base64::{Engine, prelude::BASE64_STANDARD};
use domain::{Error, ErrorCode, Result};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// The most levels of arrays and objects in a value that is kept: what most readers take without being
/// told, less what an answer puts around it.
pub(crate) const DEPTH_MAX: usize = 100;

/// Calls `each` with the name and the raw value of each member of the object `text`, in its order, equal
/// names as often as they stand there.
///
/// # Errors
/// `text` is no JSON or no object, or what `each` says.
pub(crate) fn members<'a>(
    text: &'a str,
    mut each: impl FnMut(Cow<'a, str>, &'a str) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let visitor = Members { each: &mut each, failed: &mut failed };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_map(visitor).and_then(|()| deserializer.end());
    outcome(read, failed, text, '{', "a JSON object")
}

/// Calls `each` with the index and the raw value of each element of the array `text`.
///
/// # Errors
/// `text` is no JSON or no array, or what `each` says.
pub(crate) fn elements<'a>(text: &'a str, mut each: impl FnMut(usize, &'a str) -> Result<()>) -> Result<()> {
    let mut failed = None;
    let visitor = Elements { each: &mut each, failed: &mut failed };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_seq(visitor).and_then(|()| deserializer.end());
    outcome(read, failed, text, '[', "a JSON array")
}

fn outcome(
    read: serde_json::Result<()>,
    failed: Option<Error>,
    text: &str,
    opens: char,
    expected: &str,
) -> Result<()> {
    let Err(error) = read else { return Ok(()) };
    if let Some(failed) = failed {
        return Err(failed);
    }
    let detail = match text.trim_start_matches([' ', '\t', '\r', '\n']).chars().next() {
        None => format!("the body is empty; it must be {expected}"),
        Some(first) if first == opens => format!("the body is not valid JSON: {error}"),
        Some(_) => format!("the body must be {expected}, not {}", kind(text)),
    };
    Err(Error::new(ErrorCode::InvalidRequest, detail))
}

struct Members<'f, F> {
    each: &'f mut F,
    failed: &'f mut Option<Error>,
}

impl<'a, F: FnMut(Cow<'a, str>, &'a str) -> Result<()>> Visitor<'a> for Members<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let value: &'a RawValue = map.next_value()?;
            if let Err(error) = (self.each)(name, value.get()) {
                *self.failed = Some(error);
                return Err(serde::de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

struct Elements<'f, F> {
    each: &'f mut F,
    failed: &'f mut Option<Error>,
}

impl<'a, F: FnMut(usize, &'a str) -> Result<()>> Visitor<'a> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        let mut index = 0;
        while let Some(value) = seq.next_element::<&'a RawValue>()? {
            if let Err(error) = (self.each)(index, value.get()) {
                *self.failed = Some(error);
                return Err(serde::de::Error::custom("refused"));
            }
            index += 1;
        }
        Ok(())
    }
}

/// A member's name, borrowed where it holds no escape.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> std::result::Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Whether the raw value is `null`, which says the same as leaving the member out.
pub(crate) fn is_null(raw: &str) -> bool {
    raw == "null"
}

/// The text of a raw string, borrowed where it holds no escape.
pub(crate) fn string<'a>(field: &str, raw: &'a str) -> Result<Cow<'a, str>> {
    let Some(inner) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) else {
        return Err(wrong_type(field, "a string", raw));
    };
    if !inner.as_bytes().contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw)
        .map(Cow::Owned)
        .map_err(|_| Error::invalid(field, "holds an escape that stands for no character"))
}

/// A raw whole number.
pub(crate) fn integer(field: &str, raw: &str) -> Result<i64> {
    raw.parse().map_err(|_| {
        let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if is_number {
            Error::invalid(
                field,
                format!("must be a whole number of at most 18 digits (given: {})", shown(raw)),
            )
        } else {
            wrong_type(field, "a whole number", raw)
        }
    })
}

/// The bytes of a raw string of base64.
pub(crate) fn base64_bytes(field: &str, raw: &str) -> Result<Vec<u8>> {
    let text = string(field, raw)?;
    BASE64_STANDARD
        .decode(text.as_bytes())
        .map_err(|error| Error::invalid(field, format!("must be base64 (RFC 4648, with padding): {error}")))
}

/// Whether no more than `most` arrays and objects stand within each other in the raw value.
pub(crate) fn depth_within(raw: &str, most: usize) -> bool {
    let bytes = raw.as_bytes();
    // All brackets together are no more: nearly every value, and quickly seen.
    if memchr::memchr2_iter(b'[', b'{', bytes).nth(most).is_none() {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > most {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The error for a value of the wrong type.
pub(crate) fn wrong_type(field: &str, expected: &str, raw: &str) -> Error {
    Error::invalid(field, format!("must be {expected}, not {}", kind(raw)))
}

/// The error for a member whose name is not known.
pub(crate) fn unknown_field(field: String, name: &str, known: &[&str]) -> Error {
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, short(name)), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
        .min();
    let message = match nearest {
        Some((_, nearest)) => format!("is not a known field; did you mean `{nearest}`?"),
        None => format!("is not a known field; known are {}", known.join(", ")),
    };
    Error::invalid(field, message)
}

/// What of a name is worth being compared and shown.
pub(crate) fn short(name: &str) -> &str {
    let end = name.char_indices().nth(80).map_or(name.len(), |(end, _)| end);
    &name[..end]
}

fn shown(raw: &str) -> String {
    raw.chars().take(40).collect()
}

fn kind(raw: &str) -> &'static str {
    match raw.trim_start_matches([' ', '\t', '\r', '\n']).as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "something that is no JSON",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names_and_values(text: &str) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        members(text, |name, raw| {
            found.push((name.into_owned(), raw.to_owned()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn members_come_raw_and_in_order_and_equal_names_twice() {
        let found = names_and_values(r#" {"a": 1.50, "\u0062":[1 , {"x":null}], "a":"\n"} "#).unwrap();
        let expected = [("a", "1.50"), ("b", r#"[1 , {"x":null}]"#), ("a", r#""\n""#)];
        assert_eq!(found, expected.map(|(name, raw)| (name.to_owned(), raw.to_owned())));
    }

    #[test]
    fn what_is_no_object_is_said_to_be_so() {
        for (text, says) in [
            ("", "empty"),
            ("  ", "empty"),
            ("[]", "not an array"),
            ("\"x\"", "not a string"),
            ("null", "not null"),
            ("{\"a\":1}{\"b\":2}", "not valid JSON"),
            ("{\"a\":", "not valid JSON"),
            ("{\"a\":\"\u{1}\"}", "not valid JSON"),
        ] {
            let error = names_and_values(text).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest);
            assert!(error.detail().contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let error = unknown_field("typ".into(), "typ", &["id", "type", "data"]);
        assert!(error.detail().contains("did you mean `type`?"), "{error}");
        let error = unknown_field("flabbergast".into(), "flabbergast", &["id", "type"]);
        assert!(error.detail().contains("known are id, type"), "{error}");
    }

    #[test]
    fn brackets_within_strings_are_no_depth() {
        let text = format!("[\"{}\\\"{}\"]", "[".repeat(200), "{".repeat(200));
        assert!(depth_within(&text, 1));
        assert!(depth_within(&"[]".repeat(200), 1));
        assert!(!depth_within("[[]]", 1));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_as_serde_json_would(text in "[\\[\\]{}\",:0-9a-z\\\\ .-]{0,40}") {
            let read = names_and_values(&text);
            let expected = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
            // serde_json refuses numbers beyond f64 and lone surrogates where it decodes them.
            if expected.is_ok() {
                prop_assert!(read.is_ok());
            }
            if let Err(error) = read {
                prop_assert_eq!(error.code(), ErrorCode::InvalidRequest);
            }
        }

        #[test]
        fn a_string_reads_back_as_it_was(text in any::<String>()) {
            let raw = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(string("f", &raw).unwrap(), text);
        }
    }
}
