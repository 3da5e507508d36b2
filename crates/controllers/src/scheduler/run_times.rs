//! How long work is expected to run: as it was declared, as work like it took before, or as long as
//! it may.
//!
//! Where a person declares nothing, the mean of the last two of the same person and kind that ended
//! before it was submitted is taken; where none had, the first one that ended. So an estimate is made
//! once, as in the source, and does not change with each work that ends. Source: Tsafrir, Etsion,
//! Feitelson, *Backfilling Using System-Generated Predictions Rather than User Runtime Estimates*, IEEE
//! TPDS 18(6), 2007.
//!
//! All is read from the Workloads that there are, so it is the same after a restart, and is as much as
//! they are.

use std::collections::{BTreeMap, BTreeSet};

use fermion_api::ai::Workload;
use fermion_api::ai::scheduling::EnvironmentKind;
use fermion_api::ai::workload::{EndedPods, Phase};
use fermion_api::{conditions, duration, labels};
use fermion_scheduler::Basis;
use kube::ResourceExt as _;

use crate::cache::{Key, key};

/// How many that ended speak for the next one.
const LOOKED_AT: usize = 2;

/// A person and a kind of work.
type Who = (String, EnvironmentKind);

/// Run times of what ended, by person and kind.
#[derive(Default)]
pub(super) struct RunTimes {
    known: BTreeMap<Key, Known>,
    ended: BTreeMap<Who, BTreeSet<(Ended, Key)>>,
    /// What has not ended, by the time of its submission.
    asking: BTreeMap<Who, BTreeSet<(i64, Key)>>,
}

/// What is known of a workload.
#[derive(Clone, PartialEq)]
struct Known {
    who: Who,
    created_at: i64,
    ended: Option<Ended>,
}

/// Work that ended. The later one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ended {
    at: i64,
    run_ms: i64,
}

impl RunTimes {
    /// What all of these tell.
    pub(super) fn of_all<'w>(workloads: impl IntoIterator<Item = &'w Workload>) -> Self {
        let mut times = Self::default();
        for workload in workloads {
            times.note(&key(workload), Some(workload));
        }
        times
    }

    /// A workload is now this, or gone. Answers for which others it changes what is learned.
    pub(super) fn note(&mut self, name: &Key, workload: Option<&Workload>) -> Vec<Key> {
        let now = workload.and_then(|workload| {
            Some(Known { who: whose(workload)?, created_at: super::snapshot::created_at(workload), ended: ended(workload) })
        });
        let before = self.known.get(name);
        if before == now.as_ref() {
            return Vec::new();
        }
        let before = before.cloned();
        let mut affected = Vec::new();
        if let Some(known) = before {
            if let Some(ended) = known.ended {
                let all = self.ended.entry(known.who.clone()).or_default();
                all.remove(&(ended, name.clone()));
                affected.extend(affected_by(all, ended, self.asking.get(&known.who)));
                if all.is_empty() {
                    self.ended.remove(&known.who);
                }
            } else if let Some(asking) = self.asking.get_mut(&known.who) {
                asking.remove(&(known.created_at, name.clone()));
                if asking.is_empty() {
                    self.asking.remove(&known.who);
                }
            }
            self.known.remove(name);
        }
        if let Some(known) = now {
            if let Some(ended) = known.ended {
                let all = self.ended.entry(known.who.clone()).or_default();
                affected.extend(affected_by(all, ended, self.asking.get(&known.who)));
                all.insert((ended, name.clone()));
            } else {
                self.asking.entry(known.who.clone()).or_default().insert((known.created_at, name.clone()));
            }
            self.known.insert(name.clone(), known);
        }
        affected
    }

    /// How long a workload will run, in milliseconds, and on what that stands; `None` when nothing is
    /// known. `ran_ms` is how long it has by now; what was learned does not hold for work that has run
    /// longer.
    pub(super) fn of(&self, workload: &Workload, ran_ms: Option<i64>) -> Option<(i64, Basis)> {
        if let Some(declared) = workload.spec.scheduling.run_time() {
            return Some((i64::try_from(declared.as_millis()).ok()?, Basis::Declared));
        }
        let limits = [&workload.spec.max_duration, &workload.spec.owner_max_duration];
        let limit = limits.into_iter().flatten().filter_map(|text| duration::parse(text).ok()).min();
        let limit = limit.and_then(|limit| i64::try_from(limit.as_millis()).ok());
        let learned = self.learned(workload).filter(|run_ms| ran_ms.is_none_or(|ran_ms| ran_ms < *run_ms));
        match (learned, limit) {
            (Some(learned), limit) if limit.is_none_or(|limit| learned < limit) => Some((learned, Basis::Learned)),
            (_, limit) => limit.map(|limit| (limit, Basis::Limit)),
        }
    }

    fn learned(&self, workload: &Workload) -> Option<i64> {
        // What is replaced when it ends goes on until somebody stops it.
        let ended = self.ended.get(&whose(workload)?).filter(|_| workload.spec.ended_pods == EndedPods::Keep)?;
        let bound = (Ended { at: super::snapshot::created_at(workload), run_ms: i64::MAX }, Key::default());
        let mut last: Vec<Ended> = ended.range(..bound).rev().take(LOOKED_AT).map(|(ended, _)| *ended).collect();
        if last.is_empty() {
            last.extend(ended.first().map(|(ended, _)| *ended));
        }
        let sum = last.iter().fold(0_i64, |sum, one| sum.saturating_add(one.run_ms));
        sum.checked_div(i64::try_from(last.len()).ok()?)
    }
}

/// Who learns something else when this one is added to those that ended, or taken from them: what was
/// submitted after it and before the second one after it, and, before the first of all, everything.
fn affected_by(all: &BTreeSet<(Ended, Key)>, ended: Ended, asking: Option<&BTreeSet<(i64, Key)>>) -> Vec<Key> {
    let is_first = all.first().is_none_or(|(first, _)| *first >= ended);
    let from = if is_first { i64::MIN } else { ended.at };
    let later = all.range((ended, Key::default())..).nth(LOOKED_AT - 1);
    let until = later.map_or(i64::MAX, |(later, _)| later.at);
    let none = BTreeSet::new();
    let from_then = asking.unwrap_or(&none).range((from, Key::default())..);
    from_then.take_while(|(created_at, _)| *created_at <= until).map(|(_, name)| name.clone()).collect()
}

/// Whose work of which kind it is; `None` for work of nobody.
fn whose(workload: &Workload) -> Option<Who> {
    let user = workload.annotations().get(labels::CREATED_BY).filter(|user| !user.is_empty())?;
    Some((user.clone(), workload.spec.environment))
}

/// When a workload ended, and how long it ran; `None` for one that did not, or had no places.
fn ended(workload: &Workload) -> Option<Ended> {
    let status = workload.status.as_ref().filter(|status| matches!(status.phase, Phase::Succeeded | Phase::Failed))?;
    if workload.spec.ended_pods != EndedPods::Keep {
        return None;
    }
    let began_at = status.admitted_at.as_ref()?.0.as_millisecond();
    // It has no places from the moment on at which it is over.
    let at = conditions::find(&status.conditions, "Admitted")?.last_transition_time.0.as_millisecond();
    let run_ms = at.checked_sub(began_at).filter(|run_ms| *run_ms > 0)?;
    Some(Ended { at, run_ms })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    /// What these tell, each under a name of its own.
    fn of_ended(workloads: &[Arc<Workload>]) -> RunTimes {
        let named = |(number, workload): (usize, &Arc<Workload>)| {
            let mut workload = (**workload).clone();
            workload.metadata.name = Some(format!("w{number}"));
            workload
        };
        let workloads: Vec<Workload> = workloads.iter().enumerate().map(named).collect();
        RunTimes::of_all(&workloads)
    }

    /// Work of Ada that ended after so many seconds, at a minute of the day.
    fn ended_at(minute: u32, seconds: u32, phase: &str) -> Arc<Workload> {
        let (began, ended) = (format!("2026-06-01T00:{:02}:00Z", minute - 1), format!("2026-06-01T00:{:02}:{seconds:02}Z", minute - 1));
        let admitted = json!({"type": "Admitted", "status": "False", "reason": "Succeeded", "message": "", "lastTransitionTime": ended});
        let mut object = waits(json!({}));
        object.status = serde_json::from_value(json!({"phase": phase, "admittedAt": began, "conditions": [admitted]})).expect("a status");
        Arc::new(object)
    }

    fn waits(spec: serde_json::Value) -> Workload {
        let mut object = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload",
            "metadata": {"name": "w", "namespace": "n", "annotations": {"fermion.dev/created-by": "ada"}},
            "spec": {"podSets": []},
        });
        for (name, value) in spec.as_object().expect("an object") {
            object["spec"][name] = value.clone();
        }
        serde_json::from_value(object).expect("a workload")
    }

    #[test]
    fn the_last_two_that_ended_speak_for_the_next_one() {
        let all = [ended_at(9, 40, "Succeeded"), ended_at(1, 2, "Succeeded"), ended_at(5, 20, "Failed"), ended_at(10, 59, "Running")];
        let times = of_ended(&all);
        assert_eq!(times.of(&waits(json!({})), None), Some((30_000, Basis::Learned)));
        assert_eq!(of_ended(&all[1..2]).of(&waits(json!({})), None), Some((2_000, Basis::Learned)));
        assert_eq!(of_ended(&[]).of(&waits(json!({})), None), None);
    }

    #[test]
    fn what_is_declared_goes_before_what_is_learned_and_limits_bound_it() {
        let all = [ended_at(1, 30, "Succeeded")];
        let times = of_ended(&all);
        let of = |spec, ran_ms| times.of(&waits(spec), ran_ms);
        assert_eq!(of(json!({"scheduling": {"runTime": "2h"}}), None), Some((7_200_000, Basis::Declared)));
        assert_eq!(of(json!({"maxDuration": "1h"}), None), Some((30_000, Basis::Learned)));
        assert_eq!(of(json!({"maxDuration": "10s"}), None), Some((10_000, Basis::Limit)));
        assert_eq!(of(json!({"maxDuration": "1h"}), Some(29_999)), Some((30_000, Basis::Learned)));
        assert_eq!(of(json!({"maxDuration": "1h"}), Some(30_000)), Some((3_600_000, Basis::Limit)));
        assert_eq!(of(json!({"ownerMaxDuration": "1h"}), None), Some((30_000, Basis::Learned)));
        assert_eq!(of(json!({"ownerMaxDuration": "10s"}), None), Some((10_000, Basis::Limit)));
        assert_eq!(of(json!({"maxDuration": "1h", "ownerMaxDuration": "2h"}), Some(30_000)), Some((3_600_000, Basis::Limit)));
        assert_eq!(of(json!({}), Some(30_000)), None);
    }

    #[test]
    fn nothing_is_learned_from_others_or_of_other_kinds() {
        let all = [ended_at(1, 30, "Succeeded")];
        let times = of_ended(&all);
        assert_eq!(times.of(&waits(json!({"environment": "Inference"})), None), None);
        assert_eq!(times.of(&waits(json!({"endedPods": "Replace"})), None), None);
        let mut of_bob = waits(json!({}));
        of_bob.annotations_mut().insert(labels::CREATED_BY.to_owned(), "bob".to_owned());
        assert_eq!(times.of(&of_bob, None), None);
    }

    #[test]
    fn an_estimate_is_made_once_and_those_that_learn_something_else_are_named() {
        let at = |name: &str, created: &str| {
            let mut workload = waits(json!({}));
            workload.metadata.name = Some(name.to_owned());
            workload.metadata.creation_timestamp = Some(serde_json::from_value(json!(created)).expect("a time"));
            workload
        };
        let (early, late) = (at("early", "2026-06-01T00:00:30Z"), at("late", "2026-06-01T00:06:00Z"));
        let mut times = RunTimes::of_all([&early, &late]);
        let names = |keys: Vec<Key>| keys.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        let end = |times: &mut RunTimes, name: &str, minute: u32, seconds: u32| {
            names(times.note(&("n".into(), name.into()), Some(&ended_at(minute, seconds, "Succeeded"))))
        };
        let learned = |times: &RunTimes| [&early, &late].map(|workload| times.of(workload, None).map(|(run_ms, _)| run_ms / 1000));
        assert_eq!(end(&mut times, "a", 2, 10), ["early", "late"]);
        assert_eq!(learned(&times), [Some(10), Some(10)]);
        assert_eq!(end(&mut times, "b", 4, 20), ["late"]);
        assert_eq!(learned(&times), [Some(10), Some(15)]);
        // Ended after both were submitted.
        assert_eq!(end(&mut times, "c", 9, 50), Vec::<String>::new());
        assert_eq!(learned(&times), [Some(10), Some(15)]);
        assert_eq!(names(times.note(&("n".into(), "a".into()), None)), ["early", "late"]);
        assert_eq!(learned(&times), [Some(20), Some(20)]);
        assert!(times.note(&("n".into(), "b".into()), Some(&ended_at(4, 20, "Succeeded"))).is_empty(), "nothing is new");
    }
}
