//! The system's clock and randomness. Everything else gets them as parameters.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::id::{Entropy, Stream};
use crate::domain::time::{Clock, Timestamp};

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the system's clock belongs")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_nanos(i128::try_from(since.as_nanos()).unwrap_or(0))
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
