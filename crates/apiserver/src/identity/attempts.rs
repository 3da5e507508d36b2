//! How often somebody may be wrong: failed sign-ins are counted by user name and by the address
//! they come from. Time is an argument; memory is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

/// Failed sign-ins after which a user name is locked.
pub(super) const FAILURES_OF_NAME_MAX: u32 = 5;
/// Failed sign-ins after which an address is locked: more, since many people may share one.
pub(super) const FAILURES_OF_PEER_MAX: u32 = 30;
/// How long a lock lasts after the last failure. From then on there is one try in that time.
pub(super) const LOCK_TIME: Duration = Duration::from_secs(60);
/// Time without a failure after which earlier ones are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// Names, and addresses, whose failures are remembered at the same time.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last_at: Timestamp,
}

/// Failures of one sort.
#[derive(Debug)]
struct Tally {
    failures_max: u32,
    entries: HashMap<String, Failures>,
}

impl Tally {
    fn new(failures_max: u32) -> Self {
        Self { failures_max, entries: HashMap::new() }
    }

    fn locked_until(&self, who: &str, now: Timestamp) -> Option<Timestamp> {
        let failures = self.entries.get(who)?;
        let until = failures.last_at + LOCK_TIME;
        (failures.count >= self.failures_max && now < until).then_some(until)
    }

    fn failed(&mut self, who: &str, now: Timestamp) {
        if !self.entries.contains_key(who) && self.entries.len() >= REMEMBERED_MAX {
            self.make_room(now);
        }
        let entry = self.entries.entry(who.to_owned()).or_insert(Failures { count: 0, last_at: now });
        if now > entry.last_at + FORGET_AFTER {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last_at = now;
    }

    /// Forgets what is over, or else the failure that is longest ago.
    fn make_room(&mut self, now: Timestamp) {
        self.entries.retain(|_, failures| now <= failures.last_at + FORGET_AFTER);
        if self.entries.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, failures)| failures.last_at).map(|(who, _)| who.clone())
        {
            self.entries.remove(&oldest);
        }
    }
}

/// Failed sign-ins.
#[derive(Debug)]
pub(super) struct Attempts {
    names: Tally,
    peers: Tally,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { names: Tally::new(FAILURES_OF_NAME_MAX), peers: Tally::new(FAILURES_OF_PEER_MAX) }
    }
}

impl Attempts {
    /// Until when nobody may try that name, or nobody from that address.
    pub(super) fn locked_until(&self, name: &str, peer: Option<IpAddr>, now: Timestamp) -> Option<Timestamp> {
        let of_peer = peer.and_then(|peer| self.peers.locked_until(&network(peer), now));
        self.names.locked_until(name, now).max(of_peer)
    }

    /// Notes a failure. Answers until when the name is locked, if it is now.
    pub(super) fn failed(&mut self, name: &str, peer: Option<IpAddr>, now: Timestamp) -> Option<Timestamp> {
        self.names.failed(name, now);
        if let Some(peer) = peer {
            self.peers.failed(&network(peer), now);
        }
        self.names.locked_until(name, now)
    }

    /// Notes that the name's owner got in. Failures of the address stay: it may try many names.
    pub(super) fn succeeded(&mut self, name: &str) {
        self.names.entries.remove(name);
    }
}

/// What an address is counted as. Of IPv6 whoever has one address has the 64 bits behind it too.
fn network(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    fn peer(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_name_is_locked_after_five_failures_and_then_has_one_try_a_minute() {
        let mut attempts = Attempts::default();
        for second in 0..4 {
            assert_eq!(attempts.failed("ann", None, at(second)), None);
        }
        assert_eq!(attempts.locked_until("ann", None, at(4)), None);
        assert_eq!(attempts.failed("ann", None, at(4)), Some(at(64)));
        assert_eq!(attempts.locked_until("ann", None, at(63)), Some(at(64)));
        assert_eq!(attempts.locked_until("bob", None, at(63)), None, "others go on");
        assert_eq!(attempts.locked_until("ann", None, at(64)), None);
        assert_eq!(attempts.failed("ann", None, at(64)), Some(at(124)), "one failure locks again");
        attempts.succeeded("ann");
        assert_eq!(attempts.failed("ann", None, at(65)), None);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut attempts = Attempts::default();
        for _ in 0..4 {
            attempts.failed("ann", None, at(0));
        }
        assert_eq!(attempts.failed("ann", None, at(16 * 60)), None);
    }

    #[test]
    fn an_address_that_tries_many_names_is_locked_with_its_network() {
        let mut attempts = Attempts::default();
        for index in 0..FAILURES_OF_PEER_MAX {
            attempts.failed(&format!("name{index}"), peer("2001:db8::1"), at(0));
        }
        attempts.succeeded("name1");
        assert!(attempts.locked_until("new", peer("2001:db8::2"), at(1)).is_some());
        assert!(attempts.locked_until("new", peer("2001:db8:0:1::2"), at(1)).is_none());
        assert_eq!(network("::ffff:10.0.0.1".parse().expect("an address")), "10.0.0.1");
    }

    #[test]
    fn memory_is_bounded() {
        let mut attempts = Attempts::default();
        for index in 0..REMEMBERED_MAX + 10 {
            let now = at(0) + Duration::from_millis(u64::try_from(index).expect("small"));
            attempts.failed(&format!("name{index}"), None, now);
        }
        assert_eq!(attempts.names.entries.len(), REMEMBERED_MAX);
        assert!(!attempts.names.entries.contains_key("name0"), "the oldest went");
    }
}
