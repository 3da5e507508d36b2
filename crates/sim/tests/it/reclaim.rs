//! Whom to stop for a large gang.

use std::time::Duration;

use fermion_scheduler::preemption::Refusal;
use fermion_sim::experiments::reclaim;

#[test]
fn a_gang_stops_exactly_as_many_as_it_needs_and_an_impossible_one_is_told_why() {
    let result = reclaim::run(20, || Duration::ZERO);
    assert_eq!((result.victims, result.needed), (16, 16));
    assert_eq!(result.too_large.1, Err(Refusal::TooLarge { set: 0, room: 20 }));
    assert_eq!(result.not_enough.1, Err(Refusal::NotEnough));
}
