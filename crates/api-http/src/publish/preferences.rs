//! What the head of a publish request asks for: an idempotency key, and an answer before the event is
//! durable.

use bytestring::ByteString;
use domain::{Error, Result, publish::Item};
use http::HeaderMap;

/// The header with the key of the one event of a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The preference (RFC 7240) for an answer that does not wait.
pub(super) const RESPOND_ASYNC: &str = "respond-async";
/// The most characters of a key.
const KEY_MAX: usize = 255;

/// The key of a request. As the draft of the header has it, it may stand in quotes, which are no part of it.
///
/// # Errors
/// It is given twice, is empty or too long, or holds what is not visible ASCII.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<ByteString>> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid(IDEMPOTENCY_KEY, "is given twice"));
    }
    let wrong = || {
        Error::invalid(
            IDEMPOTENCY_KEY,
            format!("must have 1 to {KEY_MAX} visible ASCII characters, quoted or not"),
        )
    };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let key = inner.filter(|inner| !inner.contains(['"', '\\'])).unwrap_or(text);
    if !(1..=KEY_MAX).contains(&key.len()) || key.contains('\t') {
        return Err(wrong());
    }
    Ok(Some(key.into()))
}

/// Gives the key of the header to the event of a request.
///
/// # Errors
/// The request is a batch, or the event has another key.
pub(super) fn give_key(key: &ByteString, items: &mut [Item], is_batch: bool) -> Result<()> {
    if is_batch {
        let wrong = "is for one event; give `idempotencykey` with each event of a batch";
        return Err(Error::invalid(IDEMPOTENCY_KEY, wrong));
    }
    for event in items.iter_mut().flatten() {
        if event.idempotency_key.as_ref().is_some_and(|own| own != key) {
            let wrong = "must be the `idempotencykey` of the event where both are given";
            return Err(Error::invalid(IDEMPOTENCY_KEY, wrong));
        }
        event.idempotency_key = Some(key.clone());
    }
    Ok(())
}

/// An error about the key, as one about the header; `Err` with any other as it is.
pub(super) fn of_header(error: Error) -> std::result::Result<Error, Error> {
    const FIELD: &str = "idempotencykey";
    let Some(wrong) = error.fields().iter().find(|wrong| wrong.field == FIELD) else { return Err(error) };
    let detail = error.detail().replace(FIELD, IDEMPOTENCY_KEY);
    Ok(Error::new(error.code(), detail).with_field(IDEMPOTENCY_KEY, &wrong.message))
}

/// Whether the answer is not to wait for the log.
pub(super) fn respond_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|preference| {
        let name = preference.split(';').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case(RESPOND_ASYNC)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{ErrorCode, Event};

    fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_the_same_quoted_or_not() {
        let key = |value: &str| idempotency_key(&headers(&[(IDEMPOTENCY_KEY, value)]));
        assert_eq!(key("order-1").unwrap().as_deref(), Some("order-1"));
        assert_eq!(key("\"order-1\"").unwrap().as_deref(), Some("order-1"));
        assert_eq!(
            key("\"a\"b\"").unwrap().as_deref(),
            Some("\"a\"b\""),
            "these are no quotes around a text"
        );
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
        for bad in ["", "\"\"", "a\tb", "\u{e9}", &"x".repeat(256)] {
            assert_eq!(key(bad).unwrap_err().fields()[0].field, IDEMPOTENCY_KEY, "{bad:?}");
        }
        let twice = headers(&[(IDEMPOTENCY_KEY, "a"), (IDEMPOTENCY_KEY, "a")]);
        assert!(idempotency_key(&twice).is_err());
    }

    #[test]
    fn the_header_is_for_one_event_and_does_not_contradict_it() {
        let with = |own: Option<&str>| -> Vec<Item> {
            vec![Ok(Event { idempotency_key: own.map(Into::into), ..Event::default() })]
        };
        let mut items = with(None);
        give_key(&"a".into(), &mut items, false).unwrap();
        assert_eq!(items[0].as_ref().unwrap().idempotency_key.as_deref(), Some("a"));
        give_key(&"a".into(), &mut with(Some("a")), false).unwrap();
        assert!(give_key(&"a".into(), &mut with(Some("b")), false).is_err());
        assert!(give_key(&"a".into(), &mut with(None), true).is_err());
    }

    #[test]
    fn a_fault_of_the_key_is_the_headers_where_it_came_there() {
        let error = Error::new(ErrorCode::IdempotencyKeyReused, "`idempotencykey` was used")
            .with_field("idempotencykey", "was used");
        let error = of_header(error).unwrap();
        assert_eq!(error.detail(), "`idempotency-key` was used");
        assert_eq!(error.fields()[0].field, IDEMPOTENCY_KEY);
        assert!(of_header(Error::invalid("type", "is wrong")).is_err());
    }

    #[test]
    fn the_preference_is_found_among_others() {
        for (value, asked) in [
            ("respond-async", true),
            ("Respond-Async", true),
            ("return=minimal, respond-async; wait=10", true),
            ("return=minimal", false),
            ("respond-asynchronously", false),
            ("handling=\"respond-async\"", false),
        ] {
            assert_eq!(respond_async(&headers(&[("prefer", value)])), asked, "{value}");
        }
        assert!(respond_async(&headers(&[("prefer", "return=minimal"), ("prefer", "respond-async")])));
    }
}
