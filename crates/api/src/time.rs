//! Points in time: microseconds since 1970 (UTC) in the database, RFC 3339 on the wire.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    pub fn plus_ms(self, ms: i64) -> Time {
        Time(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to `self`; negative when the clock was set back between them.
    pub fn since_ms(self, earlier: Time) -> i64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// A date, a date with time, or a duration from `now` (`90s`, `30m`, `8h`, `7d`, `2w`).
    pub fn parse_until(text: &str, now: Time) -> Result<Time, String> {
        match parse_duration_ms(text) {
            Ok(ms) => Ok(now.plus_ms(ms)),
            Err(_) => Self::parse(text).ok_or_else(|| unread(text)),
        }
    }

    /// A date, a date with time, or a duration before `now`.
    pub fn parse_since(text: &str, now: Time) -> Result<Time, String> {
        match parse_duration_ms(text) {
            Ok(ms) => Ok(now.plus_ms(-ms)),
            Err(_) => Self::parse(text).ok_or_else(|| unread(text)),
        }
    }

    /// The end of a time that is looked back on: a date is meant with its whole day; else as [`Time::parse_since`].
    pub fn parse_through(text: &str, now: Time) -> Result<Time, String> {
        let at = Self::parse_since(text, now)?;
        match text.parse::<Timestamp>().is_err() && parse_duration_ms(text).is_err() {
            true => Ok(at.plus_ms(86_400_000)),
            false => Ok(at),
        }
    }

    /// RFC 3339, or a plain date taken as midnight UTC.
    pub fn parse(text: &str) -> Option<Time> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Some(Time(at.as_microsecond()));
        }
        let date: jiff::civil::Date = text.parse().ok()?;
        let at = date.to_zoned(TimeZone::UTC).ok()?;
        Some(Time(at.timestamp().as_microsecond()))
    }
}

/// What is wrong with a text that is to name a time by a date or a duration.
pub fn unread(text: &str) -> String {
    too_far(text)
        .or_else(|| parse_duration_ms(text).err().filter(|why| why.contains(TOO_LONG)))
        .unwrap_or_else(|| format!("`{text}` is neither a duration such as 8h or 7d nor a date such as 2027-01-31"))
}

/// The words about a time that is written well and later than any that can be kept.
fn too_far(text: &str) -> Option<String> {
    let last = Timestamp::from_second(Timestamp::MAX.as_second()).ok()?;
    let pieces = Pieces::parse(text).ok()?;
    let is_a_time = pieces.offset().is_some() || pieces.time().is_none();
    (is_a_time && pieces.date() >= last.to_zoned(TimeZone::UTC).date())
        .then(|| format!("`{text}` is too far away: the last time is {last}"))
}

const TOO_LONG: &str = "is too long: it may be 1000 years (365000d) at most";

/// Milliseconds of `90s`, `30m`, `8h`, `7d`, `2w`; a bare number is seconds.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let bad = || format!("`{text}` is not a duration; write it as 90s, 30m, 8h, 7d or 2w");
    let number: i64 = text[..digits].parse().map_err(|_| bad())?;
    let unit_ms = match &text[digits..] {
        "" | "s" => 1000,
        "ms" => 1,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return Err(bad()),
    };
    // 1000 years: past every use, well inside what a Time can hold.
    number
        .checked_mul(unit_ms)
        .filter(|ms| *ms <= 1000 * 365 * 86_400_000)
        .ok_or_else(|| format!("`{text}` {TOO_LONG}"))
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at =
            Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX });
        // MAX and MIN print; rounding is not needed at microseconds.
        write!(f, "{at}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Time::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(too_far(&text).unwrap_or_else(|| "not an RFC 3339 time".into())))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// How long ago, for people: `just now`, `42s`, `3 min ago`.
pub fn ago(then: Time, now: Time) -> String {
    let seconds = now.since_ms(then) / 1000;
    match seconds {
        ..0 => then.to_string(),
        0..=1 => "just now".into(),
        2..=89 => format!("{seconds}s ago"),
        90..=5399 => format!("{} min ago", (seconds + 30) / 60),
        5400..=129_599 => format!("{} h ago", (seconds + 1800) / 3600),
        _ => format!("{} d ago", (seconds + 43_200) / 86_400),
    }
}

/// A length of time for people: `850ms`, `12.3s`, `4m05s`, `2h13m`.
pub fn duration_words(ms: i64) -> String {
    match ms {
        ..=999 => format!("{}ms", ms.max(0)),
        1000..=59_999 => format!("{:.1}s", ms as f64 / 1000.0),
        60_000..=3_599_999 => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A length of time that somebody chose, as one types it: `90d`, `8h`, `5m`, `30s`, and `1d 12h` where one unit does not do; less than a second is told in parts of one.
pub fn lifetime_words(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    if ms < 1000 {
        return format!("{}s", ms as f64 / 1000.0);
    }
    let mut left = ms;
    let mut words = Vec::new();
    for (unit, word) in UNITS {
        if left >= unit {
            words.push(format!("{}{word}", left / unit));
            left %= unit;
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_length_of_time_reads_as_it_is_typed() {
        let words = [0, 250, 1000, 300_000, 90 * 86_400_000, 36 * 3_600_000, 3_661_500].map(lifetime_words);
        assert_eq!(words, ["0s", "0.25s", "1s", "5m", "90d", "1d 12h", "1h 1m 1s"]);
    }

    #[test]
    fn times_print_and_read_back_as_rfc_3339() {
        let at = Time(1_795_000_000_123_456);
        assert_eq!(Time::parse(&at.to_string()), Some(at));
        assert_eq!(Time::parse("2026-11-21"), Some(Time(1_795_219_200_000_000)));
        assert_eq!(Time::parse("yesterday"), None);
    }

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(parse_duration_ms("8h"), Ok(28_800_000));
        assert_eq!(parse_duration_ms("15"), Ok(15_000));
        for bad in ["", "h", "-3h", "8 parsecs", "99999999999999999999h", "9999999999999w"] {
            assert!(parse_duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_or_length_beyond_all_limits_is_told_of_with_the_limit() {
        for far in [
            "9999-12-31T23:59:59Z",
            "9999-12-31",
            "9999-12-30T23:00:00Z",
            "9999-12-31T00:00:00+01:00",
        ] {
            let words = format!("`{far}` is too far away: the last time is 9999-12-30T22:00:00Z");
            assert_eq!(Time::parse_until(far, Time(0)), Err(words.clone()));
            let read: Result<Time, _> = serde_json::from_value(far.into());
            assert_eq!(read.unwrap_err().to_string(), words);
        }
        let long = Err("`9999999w` is too long: it may be 1000 years (365000d) at most".to_owned());
        assert_eq!(Time::parse_until("9999999w", Time(0)), long);
        for bad in ["soon", "9999-12-31T23:59:59", "2026-13-01"] {
            assert!(
                Time::parse_until(bad, Time(0)).unwrap_err().contains("is neither"),
                "{bad}"
            );
        }
        assert!(Time::parse("9999-12-30T22:00:00Z").is_some());
    }
}
