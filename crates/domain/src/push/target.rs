//! What a target may be.

use super::{request::is_header_text, signature::SigningKeys};
use crate::{
    error::{Error, ErrorCode, Result},
    subscriptions::{policy::PushTarget, show_duration},
};
use ports::{ErrorKind, Webhooks};
use std::{ops::RangeInclusive, time::Duration};

/// The most bytes of an address.
const URL_BYTES_MAX: usize = 2048;
/// How long an answer may be waited for.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// How many requests there may be at once.
pub(super) const CONCURRENCY: RangeInclusive<u32> = 1..=1000;
/// The most headers of a target, and the most bytes of a name and of a value.
const HEADERS_MAX: usize = 32;
const HEADER_NAME_BYTES_MAX: usize = 128;
const HEADER_VALUE_BYTES_MAX: usize = 4096;

/// Headers that a target cannot set: they frame the request, or carry what is the event's or the service's.
const RESERVED: [&str; 17] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The same by what they begin with.
const RESERVED_PREFIXES: [&str; 3] = ["ce-", "es-", "webhook-"];

/// Checks a target when it is defined, as far as that can be told without making a request.
///
/// # Errors
/// `InvalidRequest` that names the field, as `delivery.url`, what was wrong and what would be right, and
/// never a secret; `NotSupported` where this build can make no requests.
pub fn validate_target(target: &PushTarget, webhooks: &dyn Webhooks) -> Result<()> {
    validate(target)?;
    webhooks.check(&target.url).map_err(|error| match error.kind() {
        ErrorKind::Invalid | ErrorKind::Denied => Error::invalid("delivery.url", error.detail()),
        ErrorKind::Unsupported => {
            Error::new(ErrorCode::NotSupported, error.detail()).with_field("delivery.mode", error.detail())
        }
        _ => Error::from(error),
    })
}

/// The part that needs no port. Gives the keys that sign.
pub(super) fn validate(target: &PushTarget) -> Result<SigningKeys> {
    url(&target.url).map_err(|message| Error::invalid("delivery.url", message))?;
    if !TIMEOUT.contains(&target.timeout) {
        let (least, most) = (show_duration(*TIMEOUT.start()), show_duration(*TIMEOUT.end()));
        let given = show_duration(target.timeout);
        let message = format!("must lie between `{least}` and `{most}` (given: `{given}`)");
        return Err(Error::invalid("delivery.timeout", message));
    }
    if !CONCURRENCY.contains(&target.concurrency) {
        let (least, most) = (CONCURRENCY.start(), CONCURRENCY.end());
        let message = format!("must lie between {least} and {most} (given: {})", target.concurrency);
        return Err(Error::invalid("delivery.concurrency", message));
    }
    if target.headers.len() > HEADERS_MAX {
        let message = format!("must have at most {HEADERS_MAX} entries (given: {})", target.headers.len());
        return Err(Error::invalid("delivery.headers", message));
    }
    let mut names: Vec<String> = Vec::with_capacity(target.headers.len());
    for (name, value) in &target.headers {
        let lower = name.to_ascii_lowercase();
        let checked = if names.contains(&lower) {
            Err("is given twice; case makes no difference".to_owned())
        } else {
            header(&lower, value)
        };
        checked.map_err(|message| {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
            Error::invalid(format!("delivery.headers.{shown}"), message)
        })?;
        names.push(lower);
    }
    match &target.secret {
        None => Ok(SigningKeys::default()),
        Some(secret) => {
            SigningKeys::parse(secret).map_err(|message| Error::invalid("delivery.secret", message))
        }
    }
}

/// What an address must be whoever makes the requests. It may hold a secret, so it is not shown.
fn url(url: &str) -> std::result::Result<(), String> {
    const RIGHT: &str = "must be an address like `https://example.com/hook`";
    if url.is_empty() {
        return Err(format!("{RIGHT}; it is empty"));
    }
    if url.len() > URL_BYTES_MAX {
        return Err(format!("must have at most {URL_BYTES_MAX} bytes, has {}", url.len()));
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(format!(
            "{RIGHT}, of printable ASCII alone: other characters are percent-encoded, names of hosts in punycode"
        ));
    }
    let rest = url
        .split_once("://")
        .filter(|(scheme, _)| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
        .map(|(_, rest)| rest)
        .ok_or_else(|| format!("{RIGHT}, of the scheme `https` or `http`"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(format!("{RIGHT}; it names no host"));
    }
    if authority.contains('@') {
        return Err("must not hold a user or a password; say them in `delivery.headers`".to_owned());
    }
    if rest.contains('#') {
        return Err("must not have a fragment (`#…`), which is never sent".to_owned());
    }
    Ok(())
}

/// A header's name, in lower case, and its value. The value may be a secret, so it is not shown.
fn header(name: &str, value: &str) -> std::result::Result<(), String> {
    // RFC 9110, section 5.6.2.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Err(format!(
            "must have a name of 1 to {HEADER_NAME_BYTES_MAX} letters, digits and characters like `-` and `_`"
        ));
    }
    if RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err("is reserved: it frames the request, or is the event's or the service's".to_owned());
    }
    if value.len() > HEADER_VALUE_BYTES_MAX {
        let length = value.len();
        return Err(format!("must have at most {HEADER_VALUE_BYTES_MAX} bytes, has {length}"));
    }
    if !is_header_text(value) {
        return Err("must be printable ASCII without blanks around it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriptions::policy::PushFormat;
    use ports::{MockWebhooks, PortError};
    use proptest::prelude::*;

    fn target() -> PushTarget {
        PushTarget {
            url: "https://example.com/hook?token=1".to_owned(),
            format: PushFormat::Binary,
            secret: None,
            timeout: Duration::from_secs(15),
            headers: [("Authorization".to_owned(), "Bearer x".to_owned())].into(),
            concurrency: 16,
        }
    }

    fn refused(change: impl FnOnce(&mut PushTarget)) -> (String, String) {
        let mut target = target();
        change(&mut target);
        let error = validate(&target).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        (error.fields()[0].field.clone(), error.fields()[0].message.clone())
    }

    fn answering(kind: ErrorKind) -> MockWebhooks {
        let mut webhooks = MockWebhooks::new();
        webhooks.expect_check().returning(move |_| Err(PortError::new(kind, "webhooks.check", "is no good")));
        webhooks
    }

    #[test]
    fn a_good_target_is_taken() {
        let mut webhooks = MockWebhooks::new();
        webhooks
            .expect_check()
            .withf(|url| url == "https://example.com/hook?token=1")
            .return_once(|_| Ok(()));
        validate_target(&target(), &webhooks).unwrap();
    }

    #[test]
    fn an_address_that_is_none_is_refused_and_not_repeated() {
        for (url, word) in [
            (String::new(), "empty"),
            ("example.com/hunter2".to_owned(), "scheme"),
            ("ftp://example.com/hunter2".to_owned(), "scheme"),
            ("https:///hunter2".to_owned(), "no host"),
            ("https://user:hunter2@example.com/".to_owned(), "password"),
            ("https://example.com/hunter2#a".to_owned(), "fragment"),
            ("https://example.com/hunter2 a".to_owned(), "ASCII"),
            ("https://example.com\\@hunter2/".to_owned(), "ASCII"),
            ("https://exämple.com/hunter2".to_owned(), "ASCII"),
            (format!("https://example.com/{}", "hunter2".repeat(400)), "2048"),
        ] {
            let (field, message) = refused(|target| target.url = url);
            assert_eq!(field, "delivery.url");
            assert!(message.contains(word) && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn what_the_client_says_of_an_address_is_told_of_the_field() {
        let error = validate_target(&target(), &answering(ErrorKind::Denied)).unwrap_err();
        assert_eq!((error.code(), &*error.fields()[0].field), (ErrorCode::InvalidRequest, "delivery.url"));
        let error = validate_target(&target(), &answering(ErrorKind::Unsupported)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotSupported);
    }

    #[test]
    fn headers_that_are_not_the_targets_to_set_are_refused() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "webhook-id",
            "ce-type",
            "Es-Attempt",
            "traceparent",
        ] {
            let (field, message) =
                refused(|target| _ = target.headers.insert(name.to_owned(), "x".to_owned()));
            assert_eq!(field, format!("delivery.headers.{name}"));
            assert!(message.contains("reserved"), "{message}");
        }
        for name in ["", "a b", "a:b", "a\r\nb", "ä"] {
            assert!(refused(|t| _ = t.headers.insert(name.to_owned(), "x".to_owned())).1.contains("name"));
        }
        for value in ["hunter2\r\nx: y", "hunter2\0", " hunter2", "hünter2"] {
            let (field, message) = refused(|t| _ = t.headers.insert("x".to_owned(), value.to_owned()));
            assert_eq!(field, "delivery.headers.x");
            assert!(!message.contains("hunter2"), "{message}");
        }
        let twice = refused(|t| _ = t.headers.insert("authorization".to_owned(), "x".to_owned()));
        assert!(twice.1.contains("twice"), "{}", twice.1);
        let many = (0..40).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
        assert_eq!(refused(|target| target.headers = many).0, "delivery.headers");
    }

    #[test]
    fn numbers_have_ranges() {
        assert_eq!(refused(|target| target.timeout = Duration::ZERO).0, "delivery.timeout");
        assert_eq!(refused(|target| target.timeout = Duration::from_secs(301)).0, "delivery.timeout");
        assert_eq!(refused(|target| target.concurrency = 0).0, "delivery.concurrency");
        assert_eq!(refused(|target| target.concurrency = 1001).0, "delivery.concurrency");
        assert_eq!(refused(|target| target.secret = Some("x".to_owned())).0, "delivery.secret");
    }

    proptest! {
        #[test]
        fn no_address_is_too_strange(url in "(https?://)?.{0,40}") {
            let _ = validate(&PushTarget { url, ..target() });
        }
    }
}
