//! Placements a second: everything has room, so everything is placed.

use std::time::Duration;

use fermion_scheduler::scoring::Placement;
use fermion_sim::experiments::throughput::{self, Load};

#[test]
fn every_pod_and_every_gang_is_placed() {
    for (shapes, gang) in [(1, 1), (5, 1), (1, 4), (1, 50)] {
        let load = Load { nodes: 100, pods: 200, shapes, gang, placement: Placement::Scarcity };
        let mut clock = 0;
        let speed = throughput::run(load, || {
            clock += 1;
            Duration::from_micros(clock)
        });
        assert_eq!((speed.placed, speed.decisions.len()), (200, 200 / gang), "{load:?}");
        assert!((speed.quantile_us(0.99) - 1.0).abs() < 1e-9);
    }
}
