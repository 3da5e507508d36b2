//! What a member would rather have of its node.
//!
//! Weights of the terms that hold on a node add up, as those of preferred node affinity do in Kubernetes
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity-weight>). Here the
//! sum decides before the score of the placement policy, which chooses among nodes with equal sums.

use std::collections::BTreeMap;

use crate::matching;
use crate::snapshot::Term;

/// The highest level that a node can have. Sums of weights with a wider range are scaled to it.
pub const LEVEL_MAX: u16 = (1 << 11) - 1;

/// A term that adds to what a node is worth where it holds, or takes from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Preferred {
    pub weight: i32,
    pub term: Term,
}

/// How much a node is preferred: 0 where all holds that takes from its worth and nothing that adds to
/// it, [`LEVEL_MAX`] at most.
pub fn level(preferred: &[Preferred], labels: &BTreeMap<String, String>, name: &str) -> u16 {
    let (mut worth, mut range) = (0_u64, 0_u64);
    for one in preferred {
        let weight = u64::from(one.weight.unsigned_abs());
        range += weight;
        if matching::holds(&one.term, labels, name) == (one.weight > 0) {
            worth += weight;
        }
    }
    let level = if range > u64::from(LEVEL_MAX) { worth * u64::from(LEVEL_MAX) / range } else { worth };
    u16::try_from(level).unwrap_or(LEVEL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Operator, Requirement};

    fn in_zone(weight: i32, zone: &str) -> Preferred {
        let labels = vec![Requirement { key: "zone".into(), operator: Operator::In, values: vec![zone.into()] }];
        Preferred { weight, term: Term { labels, names: Vec::new() } }
    }

    fn levels(preferred: &[Preferred]) -> [u16; 3] {
        ["a", "b", "c"].map(|zone| level(preferred, &BTreeMap::from([("zone".to_owned(), zone.to_owned())]), zone))
    }

    #[test]
    fn weights_of_terms_that_hold_add_up() {
        assert_eq!(levels(&[]), [0, 0, 0]);
        assert_eq!(levels(&[in_zone(5, "a"), in_zone(7, "b"), in_zone(3, "a")]), [8, 7, 0]);
    }

    #[test]
    fn what_takes_from_a_node_puts_it_below_all_others() {
        assert_eq!(levels(&[in_zone(-5, "a"), in_zone(2, "b")]), [0, 7, 5]);
    }

    #[test]
    fn sums_beyond_the_range_keep_their_order() {
        let levels = levels(&[in_zone(i32::MAX, "a"), in_zone(i32::MAX / 2, "b"), in_zone(i32::MIN, "c")]);
        assert!(levels[0] > levels[1] && levels[1] > levels[2], "{levels:?}");
        assert_eq!(levels[2], 0);
    }
}
