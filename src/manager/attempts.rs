//! Attempts to join that fail, by address: who guesses tokens is slowed down, and a log or an audit
//! that anybody can write to does not grow without bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use crate::domain::time::{Nanoseconds, Timestamp};

/// Failed attempts that an address has in a minute. An engine with a wrong token makes five for each
/// `docker swarm join`.
pub(super) const ATTEMPTS_MAX: u32 = 20;
const WINDOW: Nanoseconds = 60_000_000_000;
/// Addresses that are remembered at once. Beyond them those are forgotten that may try again, and all
/// further ones count as one.
const ADDRESSES_MAX: usize = 4096;
/// What stands for the further ones.
const FURTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// How often addresses have failed of late.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, (Timestamp, u32)>>);

impl Attempts {
    /// True for an address that has failed too often, and has to wait.
    pub(super) fn is_barred(&self, addr: IpAddr, now: Timestamp) -> bool {
        let known = self.0.lock().expect("a count is never left half put");
        known
            .get(&place_in(&known, addr))
            .is_some_and(|(since, count)| *count >= ATTEMPTS_MAX && now < since.plus(WINDOW))
    }

    /// Counts an attempt that failed.
    pub(super) fn note(&self, addr: IpAddr, now: Timestamp) {
        let mut known = self.0.lock().expect("a count is never left half put");
        if known.len() >= ADDRESSES_MAX {
            known.retain(|_, (since, _)| now < since.plus(WINDOW));
        }
        let place = place_in(&known, addr);
        let (since, count) = known.entry(place).or_insert((now, 0));
        if now >= since.plus(WINDOW) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }
}

fn place_in(known: &HashMap<IpAddr, (Timestamp, u32)>, addr: IpAddr) -> IpAddr {
    let network = network_of(addr);
    match known.contains_key(&network) || known.len() < ADDRESSES_MAX {
        true => network,
        false => FURTHER,
    }
}

/// Of IPv6, whoever has one address has a network of 64 bits.
fn network_of(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_waits() {
        let attempts = Attempts::default();
        let addr = |text: &str| text.parse::<IpAddr>().expect("an address");
        let at = |seconds: i64| Timestamp::ZERO.plus(seconds * 1_000_000_000);
        for _ in 0..ATTEMPTS_MAX {
            assert!(!attempts.is_barred(addr("10.0.0.1"), at(0)));
            attempts.note(addr("10.0.0.1"), at(0));
            attempts.note(addr("2001:db8::1"), at(0));
        }
        assert!(attempts.is_barred(addr("10.0.0.1"), at(59)));
        assert!(attempts.is_barred(addr("::ffff:10.0.0.1"), at(59)), "the same by another name");
        assert!(attempts.is_barred(addr("2001:db8::2"), at(59)), "of the same network");
        assert!(!attempts.is_barred(addr("10.0.0.2"), at(59)), "another");
        assert!(!attempts.is_barred(addr("10.0.0.1"), at(60)), "after a minute");
    }

    #[test]
    fn no_more_addresses_are_remembered_than_stated() {
        let attempts = Attempts::default();
        for number in 1..=10_000_u32 {
            attempts.note(IpAddr::V4(number.into()), Timestamp::ZERO);
        }
        assert_eq!(attempts.0.lock().expect("a test's lock").len(), ADDRESSES_MAX + 1);
        let further = IpAddr::V4(20_000.into());
        assert!(attempts.is_barred(further, Timestamp::ZERO), "all further ones wait together");
        assert!(!attempts.is_barred(further, Timestamp::ZERO.plus(WINDOW)), "after a minute");
    }
}
