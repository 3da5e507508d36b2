//! Work that comes and goes on a made-up cluster.

use fermion_scheduler::scoring::Placement;
use fermion_sim::experiments::steady::{Scheduler, run};
use fermion_sim::trace::synthetic;

#[test]
fn everything_that_has_room_starts_and_bounded_moves_shorten_the_waits_of_large_work() {
    let mut trace = synthetic::openb(5);
    trace.nodes.retain(|(facts, _)| facts.name.ends_with(['2', '5', '8']));
    let peer = run(&trace, 0.9, 1, Scheduler::Skipping(Placement::BestFit));
    let ours = run(&trace, 0.9, 1, Scheduler::Ours { estimates: false, moves: true });
    assert_eq!((peer.impossible, ours.impossible), (0, 0));
    assert_eq!(peer.large_wait_s.len(), ours.large_wait_s.len(), "both meet the same work");
    assert!((1.0..100.0).contains(&ours.allocated), "{}", ours.allocated);
    assert!(peer.moves < 1e-9 && (1e-9..1.5).contains(&ours.moves), "{} {}", peer.moves, ours.moves);
    assert!(ours.large_s(0.99) < peer.large_s(0.99), "{} {}", ours.large_s(0.99), peer.large_s(0.99));
}
