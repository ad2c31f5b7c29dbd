//! A target as a client says it, in both fronts' words.

use super::target::{CONCURRENCY, validate};
use crate::{
    error::{Error, Result},
    subscriptions::{
        one_of, parse_duration,
        policy::{PushFormat, PushTarget},
    },
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// What `delivery.timeout` and `delivery.concurrency` are where a client does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
const CONCURRENCY_DEFAULT: u32 = 16;
/// What is shown in the place of what is never given back.
const MASK: &str = "***";

/// The fields of `delivery` that say how to push. What is `None` was left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewPush {
    /// `delivery.url`.
    pub url: Option<String>,
    /// `delivery.format`.
    pub format: Option<String>,
    /// `delivery.secret`.
    pub secret: Option<String>,
    /// `delivery.timeout`.
    pub timeout: Option<String>,
    /// `delivery.headers`.
    pub headers: Option<BTreeMap<String, String>>,
    /// `delivery.concurrency`.
    pub concurrency: Option<i64>,
}

impl fmt::Debug for NewPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address, the secret and the headers may each hold a credential.
        f.debug_struct("NewPush").field("named", &self.named()).finish_non_exhaustive()
    }
}

impl NewPush {
    /// The first field that was named: with another mode than `push` it would have no effect.
    pub(crate) fn named(&self) -> Option<&'static str> {
        [
            (self.url.is_some(), "delivery.url"),
            (self.format.is_some(), "delivery.format"),
            (self.secret.is_some(), "delivery.secret"),
            (self.timeout.is_some(), "delivery.timeout"),
            (self.headers.is_some(), "delivery.headers"),
            (self.concurrency.is_some(), "delivery.concurrency"),
        ]
        .into_iter()
        .find_map(|(is_named, field)| is_named.then_some(field))
    }

    /// Says again what is masked where a target is shown: what was read and not changed stays.
    pub(crate) fn unmask(&mut self, old: &PushTarget) {
        if self.url.as_ref().is_some_and(|url| *url == old.shown_url()) {
            self.url = Some(old.url.clone());
        }
        if self.secret.as_deref() == Some(MASK) {
            self.secret.clone_from(&old.secret);
        }
        for (name, value) in self.headers.iter_mut().flatten() {
            if value == MASK
                && let Some(known) = old.headers.get(name)
            {
                value.clone_from(known);
            }
        }
    }

    /// The target, with what was left out decided. Whether its address may be reached is not looked at:
    /// [`validate_target`](super::validate_target) does.
    ///
    /// # Errors
    /// `InvalidRequest` that names the field, and no secret.
    pub(crate) fn decide(&self) -> Result<PushTarget> {
        let url = self.url.clone().ok_or_else(|| {
            Error::invalid("delivery.url", "is missing; with `delivery.mode` `push` it says where to push to")
        })?;
        let format = match self.format.as_deref() {
            None | Some("binary") => PushFormat::Binary,
            Some("structured") => PushFormat::Structured,
            Some("batch") => PushFormat::Batch,
            Some(other) => {
                return Err(one_of("delivery.format", other, "`binary`, `structured` or `batch`"));
            }
        };
        let timeout = match self.timeout.as_deref() {
            None => TIMEOUT_DEFAULT,
            Some(text) => {
                parse_duration(text).map_err(|message| Error::invalid("delivery.timeout", message))?
            }
        };
        let concurrency = match self.concurrency {
            None => CONCURRENCY_DEFAULT,
            Some(given) => u32::try_from(given).map_err(|_| {
                let (least, most) = (CONCURRENCY.start(), CONCURRENCY.end());
                let message = format!("must lie between {least} and {most} (given: {given})");
                Error::invalid("delivery.concurrency", message)
            })?,
        };
        let (secret, headers) = (self.secret.clone(), self.headers.clone().unwrap_or_default());
        let target = PushTarget { url, format, secret, timeout, headers, concurrency };
        validate(&target)?;
        Ok(target)
    }
}

impl PushTarget {
    /// The address as it may be shown: what its query says is masked, as it may be a credential.
    pub fn shown_url(&self) -> String {
        let Some((address, query)) = self.url.split_once('?') else { return self.url.clone() };
        let mut shown = format!("{address}?");
        for (index, part) in query.split('&').enumerate() {
            if index > 0 {
                shown.push('&');
            }
            match part.split_once('=') {
                Some((name, value)) if !value.is_empty() => {
                    shown.push_str(name);
                    shown.push('=');
                    shown.push_str(MASK);
                }
                Some(_) => shown.push_str(part),
                // A query without names may be a credential as a whole.
                None if part.is_empty() => {}
                None => shown.push_str(MASK),
            }
        }
        shown
    }

    /// The secret as it may be shown: whether there is one.
    pub fn shown_secret(&self) -> Option<&'static str> {
        self.secret.as_ref().map(|_| MASK)
    }

    /// The headers as they may be shown: their names, each with a mask for its value.
    pub fn shown_headers(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.headers.keys().map(|name| (&**name, MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> NewPush {
        NewPush { url: Some("https://example.com/hook".to_owned()), ..NewPush::default() }
    }

    /// A definition that is read, changed and written back must not lose its secrets, nor send the mask.
    #[test]
    fn what_was_shown_masked_and_is_said_again_stays_as_it_was() {
        let old = PushTarget {
            url: "https://example.com/hook?token=hunter2".to_owned(),
            format: PushFormat::Binary,
            secret: Some("whsec_hunter2".to_owned()),
            timeout: TIMEOUT_DEFAULT,
            headers: BTreeMap::from([("x-a".to_owned(), "1".to_owned())]),
            concurrency: 1,
        };
        let headers = [("x-a", MASK), ("x-b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut new = NewPush {
            url: Some(old.shown_url()),
            secret: old.shown_secret().map(str::to_owned),
            headers: Some(headers.into()),
            ..NewPush::default()
        };
        new.unmask(&old);
        assert_eq!((new.url.as_deref(), &new.secret), (Some(&*old.url), &old.secret));
        let headers = new.headers.unwrap();
        assert_eq!([&*headers["x-a"], &*headers["x-b"]], ["1", "2"]);
    }

    fn field(change: impl FnOnce(&mut NewPush)) -> String {
        let mut new = new();
        change(&mut new);
        new.decide().unwrap_err().fields()[0].field.clone()
    }

    #[test]
    fn what_is_left_out_is_decided() {
        let target = new().decide().unwrap();
        assert_eq!((target.format, target.timeout), (PushFormat::Binary, Duration::from_secs(15)));
        assert_eq!((target.concurrency, target.secret, target.headers.len()), (16, None, 0));
    }

    #[test]
    fn a_bad_field_is_named() {
        assert_eq!(field(|new| new.url = None), "delivery.url");
        assert_eq!(field(|new| new.url = Some("ftp://example.com".to_owned())), "delivery.url");
        assert_eq!(field(|new| new.format = Some("xml".to_owned())), "delivery.format");
        assert_eq!(field(|new| new.secret = Some("hunter2".to_owned())), "delivery.secret");
        assert_eq!(field(|new| new.timeout = Some("-1s".to_owned())), "delivery.timeout");
        assert_eq!(field(|new| new.timeout = Some("0s".to_owned())), "delivery.timeout");
        assert_eq!(field(|new| new.concurrency = Some(-1)), "delivery.concurrency");
        assert_eq!(field(|new| new.concurrency = Some(0)), "delivery.concurrency");
        let host = [("Host".to_owned(), "x".to_owned())];
        assert_eq!(field(|new| new.headers = Some(host.into())), "delivery.headers.Host");
    }

    #[test]
    fn nothing_that_may_be_a_credential_is_shown() {
        for (url, shown) in [
            ("https://example.com/hook", "https://example.com/hook"),
            (
                "https://example.com/hook?token=hunter2&a=&b=hunter2",
                "https://example.com/hook?token=***&a=&b=***",
            ),
            ("https://example.com/?hunter2", "https://example.com/?***"),
            ("https://example.com/?", "https://example.com/?"),
        ] {
            let mut new = new();
            new.url = Some(url.to_owned());
            new.secret = Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
            new.headers = Some([("authorization".to_owned(), "hunter2".to_owned())].into());
            let target = new.decide().unwrap();
            assert_eq!(target.shown_url(), shown);
            assert_eq!(target.shown_secret(), Some("***"));
            assert_eq!(target.shown_headers().collect::<Vec<_>>(), [("authorization", "***")]);
            let logged = format!("{new:?} {target:?}");
            assert!(!logged.contains("hunter2") && !logged.contains("MfKQ"), "{logged}");
        }
    }
}
