//! When a line was written, as RFC 3339 in UTC with milliseconds. Takes the system's clock reading, gives text.
//! Surprise: the second shown last is kept a thread, because on a busy thread the next line is of the same one.

use std::cell::RefCell;
use std::fmt;
use std::time::SystemTime;

pub struct Timestamp(pub SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thread_local! {
            /// Without its fraction.
            static SHOWN: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
        }
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        SHOWN.with_borrow_mut(|(second, text)| {
            if *second != since.as_secs() {
                *second = since.as_secs();
                *text = to_the_second(*second);
            }
            write!(f, "{text}.{:03}Z", since.subsec_millis())
        })
    }
}

/// `2026-11-20T13:48:00` of seconds since 1970.
fn to_the_second(since: u64) -> String {
    let (days, seconds) = (since / 86_400, since % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Days since 1970-01-01 → year, month, day of the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |seconds: u64| {
            Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7)).to_string()
        };
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.007Z");
        assert_eq!(at(1_795_132_799), "2026-11-19T23:59:59.007Z");
        assert_eq!(at(4_102_444_800), "2100-01-01T00:00:00.007Z");
    }
}
