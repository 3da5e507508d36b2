//! Which replica answers a request.

use std::time::Instant;

/// What the choice looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Requests it is busy with.
    pub(crate) outstanding: usize,
    /// It could not be connected to a moment ago.
    pub(crate) quarantined: bool,
}

impl Candidate {
    pub(crate) fn of(load: &crate::directory::Load, now: Instant) -> Self {
        Self { outstanding: load.outstanding(), quarantined: load.is_quarantined(now) }
    }
}

/// The candidate with the fewest outstanding requests; `random` decides among equals. A
/// quarantined one is chosen only when there is no other: it would otherwise draw every
/// request, having none outstanding.
pub(crate) fn pick(candidates: &[Candidate], random: u32) -> Option<usize> {
    let rank = |candidate: &Candidate| (candidate.quarantined, candidate.outstanding);
    let best = candidates.iter().map(rank).min()?;
    let mut equals = candidates.iter().enumerate().filter(|(_, candidate)| rank(candidate) == best).map(|(index, _)| index);
    let count = equals.clone().count();
    equals.nth(random as usize % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(outstanding: usize, quarantined: bool) -> Candidate {
        Candidate { outstanding, quarantined }
    }

    #[test]
    fn the_least_busy_replica_is_picked() {
        let candidates = [candidate(3, false), candidate(1, false), candidate(2, false)];
        assert!((0..10).all(|random| pick(&candidates, random) == Some(1)));
    }

    #[test]
    fn ties_are_spread() {
        let candidates = [candidate(1, false), candidate(0, false), candidate(0, false)];
        assert_eq!((pick(&candidates, 0), pick(&candidates, 1), pick(&candidates, u32::MAX)), (Some(1), Some(2), Some(2)));
    }

    #[test]
    fn a_quarantined_replica_is_the_last_resort() {
        assert_eq!(pick(&[candidate(0, true), candidate(9, false)], 0), Some(1));
        assert_eq!(pick(&[candidate(2, true), candidate(1, true)], 0), Some(1));
        assert_eq!(pick(&[], 0), None);
    }
}
