//! The parameters of a query. Those that are not known are passed over.

use super::error::Refusal;
use crate::json::short;
use domain::schemas::registry::{Deleted, Page, SubjectPrefix};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The parameters of a query, by their names.
#[derive(Debug, Default)]
pub(super) struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    pub(super) fn read(query: Option<&'a str>) -> Result<Self, Refusal> {
        let decode = |text: &'a str| -> Result<Cow<'a, str>, Refusal> {
            if text.contains('+') {
                // Forms write a space so.
                let text = text.replace('+', " ");
                let decoded = percent_decode_str(&text).decode_utf8().map(Cow::into_owned);
                return decoded.map(Cow::Owned).map_err(|_| not_utf8());
            }
            percent_decode_str(text).decode_utf8().map_err(|_| not_utf8())
        };
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let read = |pair: &'a str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        };
        pairs.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// Whether a parameter says so.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(other) => {
                let message = format!("`{name}` must be `true` or `false` (given: {:?})", short(other));
                Err(Refusal::new(422, message))
            }
        }
    }

    /// The part of a list that `offset` and `limit` name. As with Confluent a negative limit is none.
    pub(super) fn page(&self) -> Result<Page, Refusal> {
        let number = |name: &str| {
            let Some(text) = self.text(name) else { return Ok(None) };
            text.parse::<i64>().map(Some).map_err(|_| {
                let message = format!("`{name}` must be a whole number (given: {:?})", short(text));
                Refusal::new(422, message)
            })
        };
        let offset = number("offset")?.unwrap_or(0);
        let offset = usize::try_from(offset)
            .map_err(|_| Refusal::new(422, format!("`offset` must not be negative (given: {offset})")))?;
        let limit = number("limit")?.and_then(|limit| usize::try_from(limit).ok());
        Ok(Page { offset, limit })
    }

    /// Which versions a list has.
    pub(super) fn deleted(&self) -> Result<Deleted, Refusal> {
        Ok(if self.flag("deletedOnly")? || self.flag("deleted_only")? {
            Deleted::Only
        } else if self.flag("deleted")? {
            Deleted::With
        } else {
            Deleted::Without
        })
    }

    /// Which subjects a list has.
    pub(super) fn prefix(&self) -> Result<SubjectPrefix, Refusal> {
        let prefix = self.text("subjectPrefix").map(SubjectPrefix::parse).transpose()?;
        Ok(prefix.unwrap_or_else(SubjectPrefix::all))
    }
}

fn not_utf8() -> Refusal {
    Refusal::new(422, "the query must be UTF-8 where it is percent-encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_numbers_are_read_or_refused() {
        let params = Params::read(Some("a=true&b=False&c=1&offset=2&limit=-1&later=x&d=a+b%2Bc")).unwrap();
        assert!(params.flag("a").unwrap() && !params.flag("b").unwrap() && !params.flag("none").unwrap());
        assert_eq!(params.flag("c").unwrap_err().code, 422);
        assert_eq!(params.page().unwrap(), Page { offset: 2, limit: None });
        assert_eq!(params.text("d"), Some("a b+c"));
        for wrong in ["offset=-1", "limit=x", "offset=1.5"] {
            assert_eq!(Params::read(Some(wrong)).unwrap().page().unwrap_err().code, 422, "{wrong}");
        }
        assert_eq!(Params::read(Some("a=%ff")).unwrap_err().code, 422);
    }
}
