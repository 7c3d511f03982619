//! Moments and spans, to and from the well-known messages.

use crate::domain::time::{Nanoseconds, Timestamp};

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// The message of a moment.
pub fn timestamp(moment: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(moment.subsec_nanos());
    prost_types::Timestamp {
        seconds: moment.unix_seconds(),
        nanos: nanos.expect("the part below a second has nine digits"),
    }
}

/// The moment of a message. One outside of years 1 to 9999 becomes the nearest end of that range.
pub fn timestamp_from(message: prost_types::Timestamp) -> Timestamp {
    let seconds = i128::from(message.seconds) * i128::from(NANOS);
    Timestamp::from_unix_nanos(seconds + i128::from(message.nanos))
}

/// The message of a span. For an optional span write `span.map(duration)`: absent stays absent,
/// which leaves the choice to the engine, while zero would be one.
pub fn duration(span: Nanoseconds) -> prost_types::Duration {
    let nanos = i32::try_from(span % NANOS);
    prost_types::Duration {
        seconds: span / NANOS,
        nanos: nanos.expect("the part below a second has nine digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_both_ways() {
        let moments = [
            Timestamp::ZERO,
            Timestamp::from_unix_nanos(-1),
            Timestamp::from_unix_nanos(0),
            Timestamp::from_unix_nanos(1_795_224_583_705_953_400),
        ];
        for moment in moments {
            let message = timestamp(moment);
            assert!((0..1_000_000_000).contains(&message.nanos), "{moment}");
            assert_eq!(timestamp_from(message), moment);
        }
    }

    #[test]
    fn moments_that_no_clock_shows_are_moved_into_range() {
        let wild = prost_types::Timestamp { seconds: i64::MIN, nanos: i32::MIN };
        assert_eq!(timestamp_from(wild), Timestamp::ZERO);
        let wild = prost_types::Timestamp { seconds: i64::MAX, nanos: i32::MAX };
        assert_eq!(timestamp_from(wild).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn both_parts_of_a_span_have_its_sign() {
        let cases = [
            (0, 0, 0),
            (10_000_000_000, 10, 0),
            (1_500_000_000, 1, 500_000_000),
            (-1_500_000_000, -1, -500_000_000),
            (i64::MIN, -9_223_372_036, -854_775_808),
        ];
        for (span, seconds, nanos) in cases {
            assert_eq!(duration(span), prost_types::Duration { seconds, nanos });
        }
    }
}
