//! How long work is expected to run: as it was declared, as work like it took before, or as long as
//! it may.
//!
//! Where a person declares nothing, the mean of the last two that ended of the same person and kind
//! is taken. Source: Tsafrir, Etsion, Feitelson, *Backfilling Using System-Generated Predictions
//! Rather than User Runtime Estimates*, IEEE TPDS 18(6), 2007.
//!
//! Nothing is kept: what ended is read from the Workloads that there are, so it is the same after a
//! restart, and is as much as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use fermion_api::ai::Workload;
use fermion_api::ai::scheduling::EnvironmentKind;
use fermion_api::ai::workload::{EndedPods, Phase};
use fermion_api::{conditions, duration, labels};
use fermion_scheduler::Basis;
use kube::ResourceExt as _;

/// How many that ended speak for the next one.
const LOOKED_AT: usize = 2;

/// Run times of the last that ended, by person and kind.
pub(super) struct RunTimes<'w>(BTreeMap<(&'w str, EnvironmentKind), Vec<Ended>>);

/// Work that ended. The later one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ended {
    at: i64,
    run_ms: i64,
}

impl<'w> RunTimes<'w> {
    /// What those that ended tell.
    pub(super) fn of_ended(workloads: &'w [Arc<Workload>]) -> Self {
        let mut last: BTreeMap<_, Vec<Ended>> = BTreeMap::new();
        for workload in workloads {
            let (Some(ended), Some(key)) = (ended(workload), key(workload)) else { continue };
            let known = last.entry(key).or_default();
            known.push(ended);
            if known.len() > LOOKED_AT {
                known.sort_unstable();
                known.remove(0);
            }
        }
        Self(last)
    }

    /// How long a workload will run, in milliseconds, and on what that stands; `None` when nothing is
    /// known. `ran_ms` is how long it has by now; what was learned does not hold for work that has run
    /// longer.
    pub(super) fn of(&self, workload: &Workload, ran_ms: Option<i64>) -> Option<(i64, Basis)> {
        if let Some(declared) = workload.spec.scheduling.run_time() {
            return Some((i64::try_from(declared.as_millis()).ok()?, Basis::Declared));
        }
        let limit = workload.spec.max_duration.as_deref().and_then(|text| duration::parse(text).ok());
        let limit = limit.and_then(|limit| i64::try_from(limit.as_millis()).ok());
        let learned = self.learned(workload).filter(|run_ms| ran_ms.is_none_or(|ran_ms| ran_ms < *run_ms));
        match (learned, limit) {
            (Some(learned), limit) if limit.is_none_or(|limit| learned < limit) => Some((learned, Basis::Learned)),
            (_, limit) => limit.map(|limit| (limit, Basis::Limit)),
        }
    }

    fn learned(&self, workload: &Workload) -> Option<i64> {
        // What is replaced when it ends goes on until somebody stops it.
        let ended = self.0.get(&key(workload)?).filter(|_| workload.spec.ended_pods == EndedPods::Keep)?;
        let sum = ended.iter().fold(0_i64, |sum, one| sum.saturating_add(one.run_ms));
        Some(sum / i64::try_from(ended.len()).ok()?)
    }
}

/// Whose work of which kind it is; `None` for work of nobody.
fn key(workload: &Workload) -> Option<(&str, EnvironmentKind)> {
    let user = workload.annotations().get(labels::CREATED_BY).filter(|user| !user.is_empty())?;
    Some((user, workload.spec.environment))
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
    use serde_json::json;

    use super::*;

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
        let times = RunTimes::of_ended(&all);
        assert_eq!(times.of(&waits(json!({})), None), Some((30_000, Basis::Learned)));
        assert_eq!(RunTimes::of_ended(&all[1..2]).of(&waits(json!({})), None), Some((2_000, Basis::Learned)));
        assert_eq!(RunTimes::of_ended(&[]).of(&waits(json!({})), None), None);
    }

    #[test]
    fn what_is_declared_goes_before_what_is_learned_and_limits_bound_it() {
        let all = [ended_at(1, 30, "Succeeded")];
        let times = RunTimes::of_ended(&all);
        let of = |spec, ran_ms| times.of(&waits(spec), ran_ms);
        assert_eq!(of(json!({"scheduling": {"runTime": "2h"}}), None), Some((7_200_000, Basis::Declared)));
        assert_eq!(of(json!({"maxDuration": "1h"}), None), Some((30_000, Basis::Learned)));
        assert_eq!(of(json!({"maxDuration": "10s"}), None), Some((10_000, Basis::Limit)));
        assert_eq!(of(json!({"maxDuration": "1h"}), Some(29_999)), Some((30_000, Basis::Learned)));
        assert_eq!(of(json!({"maxDuration": "1h"}), Some(30_000)), Some((3_600_000, Basis::Limit)));
        assert_eq!(of(json!({}), Some(30_000)), None);
    }

    #[test]
    fn nothing_is_learned_from_others_or_of_other_kinds() {
        let all = [ended_at(1, 30, "Succeeded")];
        let times = RunTimes::of_ended(&all);
        assert_eq!(times.of(&waits(json!({"environment": "Inference"})), None), None);
        assert_eq!(times.of(&waits(json!({"endedPods": "Replace"})), None), None);
        let mut of_bob = waits(json!({}));
        of_bob.annotations_mut().insert(labels::CREATED_BY.to_owned(), "bob".to_owned());
        assert_eq!(times.of(&of_bob, None), None);
    }
}
