//! Work that comes and goes on a made-up cluster.

use fermion_scheduler::scoring::Placement;
use fermion_sim::experiments::steady::{Scheduler, run};
use fermion_sim::trace::synthetic;

#[test]
fn everything_that_has_room_starts_and_reservations_shorten_the_waits_of_large_work() {
    let trace = synthetic::openb(5);
    let peer = run(&trace, 0.95, 1, Scheduler::Skipping(Placement::BestFit));
    let ours = run(&trace, 0.95, 1, Scheduler::Ours { estimates: false, moves: false });
    let moving = run(&trace, 0.95, 1, Scheduler::Ours { estimates: false, moves: true });
    assert_eq!((peer.impossible, ours.impossible, moving.impossible), (0, 0, 0));
    assert_eq!(peer.large_wait_s.len(), ours.large_wait_s.len(), "both meet the same work");
    assert!((1.0..100.0).contains(&ours.allocated), "{}", ours.allocated);
    assert!(ours.moves < 1e-9 && (1e-9..1.05).contains(&moving.moves), "{} {}", ours.moves, moving.moves);
    assert!(ours.large_s(0.99) < peer.large_s(0.99), "{} {}", ours.large_s(0.99), peer.large_s(0.99));
}
