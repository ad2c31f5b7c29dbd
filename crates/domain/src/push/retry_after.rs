//! `Retry-After` (RFC 9110, section 10.2.3).

use jiff::{civil::DateTime, tz::TimeZone};
use ports::Timestamp;
use std::time::Duration;

/// The three ways to write a date (section 5.6.7); the last two are only read.
const DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// How long to wait from `now`: seconds, or what is left until a date, which is nothing for one that has
/// passed. `None` where the text is neither.
pub(super) fn parse(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than there is a number for is as long as can be said.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = DATES.iter().find_map(|format| DateTime::strptime(format, text).ok())?;
    let at = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    Some(Duration::from_millis(u64::try_from(at.saturating_sub(now.0)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const DATE: Timestamp = Timestamp(784_111_777_000);

    #[test]
    fn seconds_and_each_form_of_a_date_are_read() {
        let now = Timestamp(DATE.0 - 90_000);
        assert_eq!(parse("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 0 ", now), Some(Duration::ZERO));
        for date in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(date, now), Some(Duration::from_secs(90)), "{date}");
        }
    }

    #[test]
    fn a_date_that_has_passed_is_now() {
        let late = Timestamp(DATE.0 + 1);
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT", late), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_neither_says_nothing() {
        for text in ["", " ", "-1", "1.5", "soon", "Sun, 36 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"] {
            assert_eq!(parse(text, DATE), None, "{text}");
        }
        assert!(parse("99999999999999999999999999", DATE) > Some(Duration::from_secs(1 << 30)));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,60}", now in any::<i64>()) {
            parse(&text, Timestamp(now));
        }
    }
}
