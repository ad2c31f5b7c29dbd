//! Times as they stand on the wire.

use crate::json::push_string;
use domain::event::{parse_time, time_text};
use ports::Timestamp;

/// 9999-12-31T23:59:59.999Z, the last moment that four digits of a year can say.
pub(crate) const MAX: i64 = 253_402_300_799_999;

/// RFC 3339 in UTC with milliseconds, as a JSON string.
pub(crate) fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    if !(0..=MAX).contains(&time.0) {
        push_string(out, &time_text(time));
        return;
    }
    let (seconds, millis) = (time.0 / 1000, time.0 % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's `civil_from_days`, for days from 1970 on: years begin in March, so that the day
    // that may be missing is the last one.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);

    let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
    let fields = [
        (1, 4, year),
        (6, 2, month),
        (9, 2, day),
        (12, 2, second / 3600),
        (15, 2, second / 60 % 60),
        (18, 2, second % 60),
        (21, 3, millis),
    ];
    for (at, digits, mut number) in fields {
        for digit in text[at..at + digits].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    out.extend_from_slice(&text);
}

/// Reads a time that a place may begin at: between 1970 and 9999.
pub(crate) fn read_time(text: &str) -> Option<Timestamp> {
    parse_time(text).filter(|time| (0..=MAX).contains(&time.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The last moment that jiff, and with it the domain, writes as a date.
    const JIFF_MAX: i64 = 253_402_207_200_000;

    fn written(ms: i64) -> String {
        let mut out = Vec::new();
        push_time(&mut out, Timestamp(ms));
        serde_json::from_slice(&out).unwrap()
    }

    proptest! {
        #[test]
        fn times_are_written_as_the_domain_writes_them(ms in prop_oneof![0..=JIFF_MAX, i64::MIN..0]) {
            prop_assert_eq!(written(ms), time_text(Timestamp(ms)));
        }
    }

    #[test]
    fn the_ends_of_months_and_years_are_right() {
        for ms in [0, 951_782_399_999, 951_782_400_000, 951_868_800_000, 4_107_542_400_000] {
            assert_eq!(written(ms), time_text(Timestamp(ms)));
        }
        assert_eq!(written(MAX), "9999-12-31T23:59:59.999Z");
    }
}
