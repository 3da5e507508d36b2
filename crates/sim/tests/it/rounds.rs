//! Rounds of a full cluster: what ended makes room, what came waits.

use std::time::Duration;

use fermion_sim::experiments::rounds::{self, News, Size};

#[test]
fn only_an_end_lets_something_start() {
    let mut clock = 0;
    let rounds = rounds::run(Size { nodes: 8, running: 40, waiting: 64 }, || {
        clock += 1;
        Duration::from_micros(clock)
    });
    assert_eq!((rounds[0].news, rounds[0].binds, rounds[0].waits), (News::Everything, 0, 64));
    let before: Vec<_> = rounds.iter().take_while(|round| round.news != News::End).collect();
    assert!(before.len() == 3 && before.iter().all(|round| round.binds == 0), "the cluster is full");
    assert!(rounds.iter().filter(|round| round.news == News::End).any(|round| round.binds > 0));
    assert!(rounds.iter().all(|round| round.time == Duration::from_micros(1)));
}
