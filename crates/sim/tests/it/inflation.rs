//! The inflation experiment on a small made-up cluster.

use fermion_sim::experiments::inflation::report::{Measured, POLICIES, runs};
use fermion_sim::statistics::Summary;
use fermion_sim::trace::synthetic;

#[test]
fn the_gradient_beats_chance_and_prices_beat_the_gradient_where_models_are_named() {
    let seeds = [1, 2, 3];
    let measured = Measured::of("synthetic", &synthetic::openb(7), &seeds);
    let unallocated = |name: &str| {
        let place = POLICIES.iter().position(|policy| policy.1 == name).expect("a policy");
        Summary::of(&measured.runs[place].iter().map(|run| run.unallocated_at_100).collect::<Vec<_>>()).mean
    };
    assert!(unallocated("FGD") < unallocated("Random"), "{} {}", unallocated("FGD"), unallocated("Random"));
    assert!(unallocated("BestFit") < unallocated("Random"));
    assert!(unallocated("ours") <= unallocated("FGD"), "{} {}", unallocated("ours"), unallocated("FGD"));
    let rows = runs(std::slice::from_ref(&measured)).json();
    assert_eq!(rows.as_array().map(Vec::len), Some(POLICIES.len() * seeds.len()));
    assert_eq!(Measured::of("synthetic", &synthetic::openb(7), &seeds).runs, measured.runs);
}

#[test]
fn policies_meet_the_same_pods() {
    let measured = Measured::of("synthetic", &synthetic::openb(7), &[4]);
    let tried = |place: usize| measured.runs[place][0].placed + measured.runs[place][0].failed;
    assert!((1..POLICIES.len()).all(|place| tried(place) == tried(0)));
}
