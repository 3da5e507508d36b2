//! Admission by queues: everything gets its turn, and what is lent is had back.

use std::time::Duration;

use fermion_sim::experiments::admission::{Admitted, Shape, run};

fn ran(shape: Shape) -> Admitted {
    let mut clock = 0;
    let ran = run(shape, || {
        clock += 1;
        Duration::from_micros(clock)
    });
    ran.expect("the accounts can be made")
}

#[test]
fn every_workload_starts_and_no_sooner_than_the_units_allow() {
    let shape = Shape { cohorts: 2, queues: 3, counts: [35, 10, 5], ..Shape::BASELINE };
    for shape in [shape, Shape { gap_ms: [0; 3], ..shape }] {
        let found = ran(shape);
        assert_eq!(found.starts, shape.workloads() + found.stops, "{shape:?}");
        assert!(found.makespan_ms >= shape.bound_ms() && found.decisions >= found.starts, "{found:?}");
    }
}

#[test]
fn what_is_lent_is_had_back() {
    let found = ran(Shape { queues: 3, ..Shape::BASELINE });
    assert!(found.borrowed > 0 && found.stops > 0 && found.stops <= found.borrowed, "{found:?}");
}
