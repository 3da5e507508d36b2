//! The state that rounds hand on to each other, held against a plan from nothing now and then.
//!
//! A [`Planner`] that is kept works on what changed, and not on all there is. It must never matter
//! that it was kept: where a comparison shows another plan, or it comes upon a broken invariant
//! of its own, it is thrown away, that is told and counted, and the plan from nothing holds. The
//! same where the clock went back, as what is kept has gone on in time already.
//!
//! Whoever begins to lead begins with an empty one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fermion_scheduler::{Past, Plan, Planner, Snapshot};

use super::snapshot::Scene;
use super::view::News;
use crate::counts::{Counts, Reset};

/// Rounds from one comparison to the next.
const CHECK_ROUNDS: u32 = 64;
/// With more nodes and gangs than this a plan from nothing would hold up the rounds.
const CHECK_SIZE_MAX: usize = 4_096;

/// Plans round after round.
pub(super) struct Keeper {
    /// `None` until the first round, and while a round is under way: one that does not come to
    /// its end leaves nothing behind.
    planner: Option<Planner>,
    /// What a planner that is made anew should know, of [`CHECK_ROUNDS`] rounds ago at most.
    past: Past,
    /// When the last round was, in milliseconds since the epoch.
    at: i64,
    /// Rounds since the last comparison.
    rounds: u32,
    counts: Counts,
}

impl Keeper {
    pub(super) fn new(counts: Counts) -> Self {
        Self { planner: None, past: Past::default(), at: i64::MIN, rounds: 0, counts }
    }

    /// Begins with what a scheduler before this one knew of the past.
    pub(super) fn begin_with(&mut self, past: Past) {
        self.past = past;
    }

    /// What a scheduler after this one should know of the past.
    pub(super) fn past(&self) -> Past {
        self.planner.as_ref().map_or_else(|| self.past.clone(), Planner::past)
    }

    /// Decides with what was kept from the rounds before. `quiet` leaves out what would help.
    pub(super) fn plan(&mut self, scene: &Scene, news: &News, quiet: bool) -> Plan {
        let size = scene.nodes.len() + scene.gangs.len();
        self.plan_by(
            scene.now,
            size,
            quiet,
            || scene.snapshot(),
            |planner| {
                show(planner, scene, news);
                planner.set_quiet(quiet);
                planner.plan(scene.now)
            },
        )
    }

    fn plan_by(
        &mut self,
        now: i64,
        size: usize,
        quiet: bool,
        snapshot: impl Fn() -> Snapshot,
        decide: impl FnOnce(&mut Planner) -> Plan,
    ) -> Plan {
        let before = std::mem::replace(&mut self.at, now);
        let Some(mut planner) = self.planner.take() else { return self.plan_anew(&snapshot(), quiet) };
        if now < before {
            tracing::warn!(by_ms = before.saturating_sub(now), "the clock went back; the scheduler lays out its state anew");
            self.counts.count(Reset::ClockWentBack);
            self.past = planner.past();
            return self.plan_anew(&snapshot(), quiet);
        }
        self.rounds += 1;
        let due = self.rounds >= CHECK_ROUNDS;
        if due {
            self.rounds = 0;
            self.past = planner.past();
        }
        // What is in an unknown state after that is dropped with it.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let plan = decide(&mut planner);
            (plan, planner)
        }));
        let Ok((plan, planner)) = decided else {
            tracing::error!("what the scheduler kept between rounds broke a rule of its own; it begins anew");
            self.counts.count(Reset::Panicked);
            return self.plan_anew(&snapshot(), quiet);
        };
        if due && size <= CHECK_SIZE_MAX {
            let expected = self.plan_anew(&snapshot(), quiet);
            if expected != plan {
                tracing::warn!("what the scheduler kept between rounds led to another plan than the same from nothing; it begins anew");
                self.counts.count(Reset::Differed);
                return expected;
            }
        }
        self.planner = Some(planner);
        plan
    }

    /// Makes a planner, decides with it, and keeps it.
    fn plan_anew(&mut self, snapshot: &Snapshot, quiet: bool) -> Plan {
        let mut planner = Planner::of(snapshot, &self.past);
        planner.set_quiet(quiet);
        let plan = planner.plan(snapshot.now);
        self.planner = Some(planner);
        self.rounds = 0;
        plan
    }
}

/// Shows a planner what is new.
pub(super) fn show(planner: &mut Planner, scene: &Scene, news: &News) {
    match news {
        News::Nothing => {}
        News::All => planner.show(&scene.snapshot()),
        News::Some { gangs, nodes, heads } => {
            if *heads {
                planner.set_pools(&scene.pools);
                planner.set_queues(&scene.queues);
                planner.set_rules(&scene.rules);
                planner.set_models(&scene.models);
            }
            for name in nodes {
                match scene.nodes.get(name) {
                    Some(node) => planner.set_node(node.clone()),
                    None => planner.remove_node(name),
                }
            }
            for id in gangs {
                match scene.gangs.get(id) {
                    Some(gang) => planner.set_gang(Arc::clone(gang)),
                    None => planner.remove_gang(id),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fermion_scheduler::{Amounts, Gang, Member, MemberSet, Node, PlacedMember, Pool, Queue, plan_after};

    use super::*;

    const START: i64 = 1_000_000;

    fn cpus(count: i128) -> Amounts {
        BTreeMap::from([("cpu".to_owned(), count * 1000)])
    }

    fn node(name: &str) -> Node {
        Node { name: name.into(), pool: "local".into(), ready: true, schedulable: true, allocatable: cpus(4), ..Node::default() }
    }

    /// Two nodes of four processors, and gangs of one member that ask for three.
    fn snapshot(gangs: usize, now: i64) -> Snapshot {
        let gang = |number: usize| {
            let pending = vec![Member { id: format!("g{number:03}-0"), requests: cpus(3), ..Member::default() }];
            let sets = vec![MemberSet { name: "worker".into(), min: 1, settled: 0, pending }];
            Gang { id: format!("g{number:03}"), queue: "default".into(), created_at: number as i64, sets, ..Gang::default() }
        };
        Snapshot {
            // With shares that decay, the past matters.
            pools: vec![Pool { name: "local".into(), half_life_ms: Some(60_000), ..Pool::default() }],
            queues: vec![Queue { name: "default".into(), pool: "local".into(), ..Queue::default() }],
            nodes: vec![node("a"), node("b")],
            gangs: (0..gangs).map(gang).collect(),
            now,
            ..Snapshot::default()
        }
    }

    /// The same once the plan was carried out.
    fn carried_out(mut snapshot: Snapshot, plan: &Plan) -> Snapshot {
        for bind in &plan.binds {
            let gang = snapshot.gangs.iter_mut().find(|gang| gang.id == bind.gang).expect("a gang");
            let Member { id, requests, .. } = gang.sets[0].pending.remove(0);
            gang.sets[0].settled = 1;
            gang.started_at = snapshot.now;
            let node = snapshot.nodes.iter_mut().find(|node| node.name == bind.node).expect("a node");
            for (name, amount) in &requests {
                *node.used.entry(name.clone()).or_default() += amount;
            }
            gang.placed.push(PlacedMember { id, node: bind.node.clone(), requests, ..PlacedMember::default() });
        }
        snapshot
    }

    fn next(keeper: &mut Keeper, seen: &Snapshot) -> Plan {
        let decide = |planner: &mut Planner| {
            planner.show(seen);
            planner.plan(seen.now)
        };
        keeper.plan_by(seen.now, seen.nodes.len() + seen.gangs.len(), false, || seen.clone(), decide)
    }

    fn counted(counts: &Counts) -> Vec<String> {
        let text = counts.metrics_text();
        text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0")).map(str::to_owned).collect()
    }

    #[test]
    fn rounds_with_what_was_kept_are_those_from_nothing() {
        let counts = Counts::default();
        let mut keeper = Keeper::new(counts.clone());
        let mut past = Past::default();
        let mut seen = snapshot(3, START);
        for round in 0..i64::from(CHECK_ROUNDS) * 2 + 2 {
            seen.now = START + round * 1000;
            // Now and then a node is closed, and who runs there longest ends.
            seen.nodes[1].schedulable = round % 7 != 0;
            let plan = next(&mut keeper, &seen);
            let (expected, after) = plan_after(&seen, &past);
            assert_eq!(plan, expected, "round {round}");
            past = after;
            seen = carried_out(seen, &plan);
            if round % 5 == 4 {
                let number = seen.gangs.iter().position(|gang| !gang.placed.is_empty()).expect("one runs");
                let ended = seen.gangs.remove(number);
                for member in &ended.placed {
                    seen.nodes.iter_mut().find(|node| node.name == member.node).expect("a node").used.clear();
                }
                let mut next = snapshot(1, START).gangs.remove(0);
                next.id = format!("h{round:03}");
                next.created_at = 1000 + round;
                next.sets[0].pending[0].id = format!("h{round:03}-0");
                seen.gangs.push(next);
            }
        }
        assert!(counted(&counts).is_empty(), "{:?}", counted(&counts));
    }

    #[test]
    fn another_plan_than_from_nothing_is_counted_and_mended() {
        let counts = Counts::default();
        let mut keeper = Keeper::new(counts.clone());
        let mut seen = snapshot(3, START);
        let plan = next(&mut keeper, &seen);
        seen = carried_out(seen, &plan);
        let right = next(&mut keeper, &seen);
        assert!(right.waits.iter().any(|waiting| !waiting.remedies.is_empty()), "{right:?}");
        // One that says nothing of what would help stands for one that went wrong.
        keeper.planner.as_mut().expect("it is kept").set_quiet(true);
        let wrong = (keeper.rounds..CHECK_ROUNDS - 1).map(|_| next(&mut keeper, &seen)).filter(|plan| *plan != right).count();
        assert_eq!(wrong, CHECK_ROUNDS as usize - 2, "nobody compared yet");
        assert!(counted(&counts).is_empty());
        for _ in 0..=CHECK_ROUNDS {
            assert_eq!(next(&mut keeper, &seen), right);
        }
        assert_eq!(counted(&counts), ["fermion_scheduler_planner_resets_total{reason=\"differed\"} 1"]);
    }

    #[test]
    fn a_round_that_breaks_off_leaves_nothing_behind() {
        let counts = Counts::default();
        let mut keeper = Keeper::new(counts.clone());
        let seen = snapshot(3, START);
        let right = next(&mut keeper, &seen);
        let plan = keeper.plan_by(
            seen.now,
            seen.nodes.len() + seen.gangs.len(),
            false,
            || seen.clone(),
            |planner| {
                planner.remove_node("a");
                panic!("as a broken invariant would");
            },
        );
        assert_eq!(plan, right);
        assert_eq!(next(&mut keeper, &seen), right);
        assert_eq!(counted(&counts), ["fermion_scheduler_planner_resets_total{reason=\"panicked\"} 1"]);
    }

    #[test]
    fn a_clock_that_went_back_is_no_trouble() {
        let counts = Counts::default();
        let mut keeper = Keeper::new(counts.clone());
        let first = snapshot(3, START);
        let plan = next(&mut keeper, &first);
        let mut seen = carried_out(first, &plan);
        seen.now = START + 10_000;
        next(&mut keeper, &seen);
        let past = keeper.planner.as_ref().expect("it is kept").past();
        seen.now = START + 2_000;
        assert_eq!(next(&mut keeper, &seen), plan_after(&seen, &past).0);
        assert_eq!(counted(&counts), ["fermion_scheduler_planner_resets_total{reason=\"clock-went-back\"} 1"]);
    }

    #[test]
    fn large_states_are_not_compared() {
        let counts = Counts::default();
        let mut keeper = Keeper::new(counts.clone());
        let mut seen = snapshot(0, START);
        seen.nodes = (0..=CHECK_SIZE_MAX).map(|number| node(&format!("n{number:05}"))).collect();
        next(&mut keeper, &seen);
        keeper.rounds = CHECK_ROUNDS - 1;
        let other = Plan { served: vec!["another".into()], ..Plan::default() };
        assert_eq!(keeper.plan_by(seen.now, seen.nodes.len() + seen.gangs.len(), false, || seen.clone(), |_| other.clone()), other);
        seen.nodes.pop();
        keeper.rounds = CHECK_ROUNDS - 1;
        assert_eq!(
            keeper.plan_by(seen.now, seen.nodes.len() + seen.gangs.len(), false, || seen.clone(), |_| other.clone()),
            Plan::default()
        );
        assert_eq!(counted(&counts), ["fermion_scheduler_planner_resets_total{reason=\"differed\"} 1"]);
    }
}
