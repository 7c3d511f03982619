//! The system's clock and randomness. Everything else gets them as parameters.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::id::{Entropy, Stream};
use crate::domain::time::{Clock, Timestamp};

/// How far ahead of the system's clock this one may be and come back little by little. Further, the
/// system's clock was wrong before, and what is stored of that time is passed over.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// While it is ahead it goes this much slower, one part in so many: slow enough that no delay is felt to
/// be longer, and an hour is made up for within a night.
const SLOWER_BY: u32 = 8;

/// The system's clock, but for steps back: delays go by the time that passes, and no moment comes twice.
#[derive(Debug, Default)]
pub struct SystemClock {
    /// A moment of the monotonic clock, and what this one showed then.
    last: Mutex<Option<(Instant, Duration)>>,
}

impl SystemClock {
    /// What is shown at a moment at which the system's clock shows `wall`.
    fn at(&self, monotonic: Instant, wall: Duration) -> Duration {
        let mut last = self.last.lock().expect("no reader of the clock panics");
        let shown = match *last {
            None => wall,
            Some((then, shown)) => {
                let passed = monotonic.saturating_duration_since(then);
                let ahead = (shown + passed).saturating_sub(wall);
                match ahead {
                    ahead if ahead > AHEAD_MAX => wall,
                    ahead => wall.max(shown + passed - (passed / SLOWER_BY).min(ahead)),
                }
            }
        };
        *last = Some((monotonic, shown));
        shown
    }
}

/// What the system's clock shows, since 1970.
#[expect(clippy::disallowed_methods, reason = "this is where the system's clock belongs")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "this is where the system's clock belongs")]
fn monotonic() -> Instant {
    Instant::now()
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let shown = self.at(monotonic(), wall());
        Timestamp::from_unix_nanos(i128::try_from(shown.as_nanos()).unwrap_or(0))
    }

    fn resume(&self, last: Timestamp) {
        let seen = u64::try_from(last.unix_nanos()).map(Duration::from_nanos);
        let shown = self.at(monotonic(), wall());
        if let Ok(seen) = seen
            && seen > shown
        {
            *self.last.lock().expect("no reader of the clock panics") = Some((monotonic(), seen));
        }
    }
}

/// The system's randomness.
#[derive(Debug, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is where the system's randomness belongs")]
    fn fill(&self, _: Stream, out: &mut [u8]) {
        // Without randomness no key, nonce or id may be made; there is nothing to fall back to.
        getrandom::fill(out).expect("the kernel gives randomness once it has booted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// What is shown while the system's clock goes as told: seconds that pass, and what it shows then.
    fn shown(clock: &SystemClock, steps: &[(u64, Duration)]) -> Vec<Duration> {
        let begin = monotonic();
        let at = |(passed, wall): &(u64, Duration)| {
            clock.at(begin + Duration::from_secs(*passed), *wall)
        };
        steps.iter().map(at).collect()
    }

    #[test]
    fn a_clock_that_is_put_back_holds_nothing_up() {
        let (noon, second) = (Duration::from_secs(1_800_000_000), Duration::from_secs(1));
        let back = noon - HOUR;
        let steps = [(0, noon), (0, back), (8, back + 8 * second), (16, back + 16 * second)];
        let shown = shown(&SystemClock::default(), &steps);
        assert_eq!(shown, [noon, noon, noon + 7 * second, noon + 14 * second]);
    }

    #[test]
    fn what_was_made_up_for_is_the_systems_clock_again() {
        let noon = Duration::from_secs(1_800_000_000);
        let back = noon - HOUR;
        let steps = [(0, noon), (9 * 3600, back + 9 * HOUR), (9 * 3600, noon + 20 * HOUR)];
        let shown = shown(&SystemClock::default(), &steps);
        assert_eq!(shown[1..], [back + 9 * HOUR, noon + 20 * HOUR], "and it follows a step ahead");
    }

    #[test]
    fn a_store_from_an_hour_ahead_is_gone_on_with_and_one_from_next_year_is_not() {
        let now = Timestamp::from_unix_nanos(i128::try_from(wall().as_nanos()).expect("a moment"));
        for (ahead, is_kept) in [(3600, true), (365 * 24 * 3600, false)] {
            let clock = SystemClock::default();
            let last = now.plus(ahead * 1_000_000_000);
            clock.resume(last);
            assert_eq!(clock.now() >= last, is_kept, "{ahead} s");
        }
    }
}
