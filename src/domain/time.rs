//! Moments and spans of time as the Engine API writes them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A span in nanoseconds, as every duration of the Engine API.
pub type Nanoseconds = i64;

/// Where "now" comes from. Production passes the system's clock, tests one that is moved by hand.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Tells it of a moment that has been: a store was last written then.
    fn resume(&self, _last: Timestamp) {}
}

/// A moment in UTC with nanoseconds. Its text is RFC 3339 with up to nine fractional digits,
/// trailing zeros left out, and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

const YEAR_ONE: time::Date = match time::Date::from_ordinal_date(1, 1) {
    Ok(date) => date,
    Err(_) => panic!("the first day of year one is a date"),
};

/// Nanoseconds in a second.
const NANOS: i128 = 1_000_000_000;

impl Timestamp {
    /// The zero time of the Engine API, `0001-01-01T00:00:00Z`.
    pub const ZERO: Timestamp = Timestamp(OffsetDateTime::new_utc(YEAR_ONE, time::Time::MIDNIGHT));

    /// The moment this many nanoseconds after 1970. Moments outside of years 1 to 9999 become the
    /// nearest end of that range.
    pub fn from_unix_nanos(nanos: i128) -> Timestamp {
        let clamped = nanos.clamp(Self::ZERO.0.unix_timestamp_nanos(), 253_402_300_799 * NANOS);
        Timestamp(OffsetDateTime::from_unix_timestamp_nanos(clamped).unwrap_or(Self::ZERO.0))
    }

    /// Nanoseconds since 1970.
    pub fn unix_nanos(self) -> i128 {
        self.0.unix_timestamp_nanos()
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// The part below a second, in nanoseconds.
    pub fn subsec_nanos(self) -> u32 {
        self.0.nanosecond()
    }

    /// This moment and `span` nanoseconds more.
    pub fn plus(self, span: Nanoseconds) -> Timestamp {
        Self::from_unix_nanos(self.unix_nanos() + i128::from(span))
    }

    /// How long from now until this moment; zero when it has passed.
    pub fn after(self, now: Timestamp) -> Duration {
        let nanos = self.unix_nanos() - now.unix_nanos();
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// Parses RFC 3339 with any offset.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self::from_unix_nanos(parsed.unix_timestamp_nanos()))
    }
}

/// Reads a span as people write it: `30d`, `12h`, `90m`, `45s`, `2w`, and several of them together.
pub fn parse_span(text: &str) -> Option<Nanoseconds> {
    let mut rest = text;
    let mut nanos: Nanoseconds = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: Nanoseconds = rest[..digits].parse().ok()?;
        let seconds = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        nanos = nanos.checked_add(count.checked_mul(seconds)?.checked_mul(1_000_000_000)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(nanos)
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

/// The longest text of a moment: `2026-11-21T01:25:44.705953412Z`.
const TEXT_LEN_MAX: usize = 30;

impl Timestamp {
    /// The text with all nine fractional digits, as log lines have it.
    pub fn full_text(self) -> String {
        let mut text = [0; TEXT_LEN_MAX];
        self.write_full(&mut text);
        std::str::from_utf8(&text).expect("digits and punctuation are ASCII").to_owned()
    }

    /// Writes the text of the moment. Lists hold thousands of them, so it is written digit by digit.
    fn write(self, text: &mut [u8; TEXT_LEN_MAX]) -> &str {
        self.write_full(text);
        // Without trailing zeros, and without the point when nothing follows it.
        let mut end = 29;
        while text[end - 1] == b'0' && end > 20 {
            end -= 1;
        }
        if end == 20 {
            end = 19;
        }
        text[end] = b'Z';
        std::str::from_utf8(&text[..=end]).expect("digits and punctuation are ASCII")
    }

    fn write_full(self, text: &mut [u8; TEXT_LEN_MAX]) {
        let (year, month, day) = self.0.to_calendar_date();
        let (hour, minute, second, nanos) = self.0.to_hms_nano();
        text.copy_from_slice(b"0000-00-00T00:00:00.000000000Z");
        put(&mut text[0..4], year.unsigned_abs());
        put(&mut text[5..7], u32::from(u8::from(month)));
        put(&mut text[8..10], u32::from(day));
        put(&mut text[11..13], u32::from(hour));
        put(&mut text[14..16], u32::from(minute));
        put(&mut text[17..19], u32::from(second));
        put(&mut text[20..29], nanos);
    }
}

/// Writes the decimal digits of a number, from the right.
fn put(text: &mut [u8], mut number: u32) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit fits a byte");
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write(&mut [0; TEXT_LEN_MAX]))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.write(&mut [0; TEXT_LEN_MAX]))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let seconds = |text| parse_span(text).map(|nanos| nanos / 1_000_000_000);
        assert_eq!(seconds("30d"), Some(2_592_000));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!([seconds("45s"), seconds("2w")], [Some(45), Some(1_209_600)]);
        for bad in ["", "5", "h", "5x", "-5s", "1.5h", "5 s", "99999999999w", "5\u{e4}"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_written_as_the_engine_writes_them() {
        let cases = [
            (Timestamp::ZERO, "0001-01-01T00:00:00Z"),
            (Timestamp::from_unix_nanos(1_795_224_583_705_953_400), "2026-11-21T01:29:43.7059534Z"),
            (Timestamp::from_unix_nanos(1_795_224_583 * NANOS), "2026-11-21T01:29:43Z"),
        ];
        for (time, text) in cases {
            assert_eq!(time.to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(time));
        }
        let whole = Timestamp::from_unix_nanos(1_795_224_583 * NANOS);
        assert_eq!(whole.full_text(), "2026-11-21T01:29:43.000000000Z");
        let offset = Timestamp::parse("2026-11-21T02:29:43+01:00");
        assert_eq!(offset, Some(Timestamp::from_unix_nanos(1_795_224_583 * NANOS)));
    }
}
