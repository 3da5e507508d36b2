//! Startup, liveness and readiness probes of one running container.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;
use tokio::sync::watch;

use super::handler::{Handler, Target};
use super::state::Health;

/// Defaults of the API.
const PERIOD_S: i32 = 10;
const TIMEOUT_S: i32 = 1;
const FAILURES: i32 = 3;
const SUCCESSES: i32 = 1;

/// What a container without probes, or one just started, counts as.
pub(crate) fn initial(target: &Target) -> Health {
    let started = target.container.startup_probe.is_none();
    Health { started, ready: started && target.container.readiness_probe.is_none(), unhealthy: None }
}

/// Probes the container for as long as it is polled, or until a probe says that it must go.
/// `complain` is told of each failure.
pub(crate) async fn watch(target: Target, started_at: Timestamp, health: watch::Sender<Health>, complain: impl Fn(String) + Sync) {
    let container = &target.container;
    if let Some(probe) = &container.startup_probe
        && !health.borrow().started
    {
        let mut verdict = Verdict::new(probe, false);
        let passed = run(&target, probe, started_at, &mut verdict, |news, why| match news {
            Some(true) => Some(true),
            Some(false) => {
                complain(format!("Startup probe failed: {why}"));
                Some(false)
            }
            None => {
                complain(format!("Startup probe failed: {why}"));
                None
            }
        })
        .await;
        match passed {
            Ok(()) => health.send_modify(|health| {
                health.started = true;
                health.ready = container.readiness_probe.is_none();
            }),
            Err(why) => {
                give_up(&health, format!("its startup probe failed: {why}"));
                return;
            }
        }
    }
    let liveness = async {
        let Some(probe) = &container.liveness_probe else { return std::future::pending().await };
        let mut verdict = Verdict::new(probe, true);
        let failed = run(&target, probe, started_at, &mut verdict, |news, why| {
            if !why.is_empty() {
                complain(format!("Liveness probe failed: {why}"));
            }
            (news == Some(false)).then_some(false)
        })
        .await;
        if let Err(why) = failed {
            give_up(&health, format!("its liveness probe failed: {why}"));
        }
    };
    let readiness = async {
        let Some(probe) = &container.readiness_probe else { return std::future::pending().await };
        let mut verdict = Verdict::new(probe, health.borrow().ready);
        // Never ends: readiness comes and goes.
        let _: Result<(), String> = run(&target, probe, started_at, &mut verdict, |news, why| {
            if !why.is_empty() {
                complain(format!("Readiness probe failed: {why}"));
            }
            if let Some(ready) = news {
                health.send_if_modified(|health| std::mem::replace(&mut health.ready, ready) != ready);
            }
            None
        })
        .await;
    };
    tokio::select! {
        () = liveness => {}
        () = readiness => {}
    }
}

fn give_up(health: &watch::Sender<Health>, why: String) {
    health.send_modify(|health| {
        health.ready = false;
        health.unhealthy = Some(why);
    });
}

/// Checks again and again. `judge` hears what each check changed, and why it failed (empty if it
/// did not), and ends the loop with its answer.
async fn run(
    target: &Target,
    probe: &Probe,
    started_at: Timestamp,
    verdict: &mut Verdict,
    judge: impl Fn(Option<bool>, &str) -> Option<bool>,
) -> Result<(), String> {
    let Some(handler) = Handler::of_probe(probe) else {
        // Admission refuses probes without a handler; one that slipped in changes nothing.
        return std::future::pending().await;
    };
    let seconds = |value: Option<i32>, default: i32| {
        Duration::from_secs(u64::from(value.filter(|value| *value > 0).unwrap_or(default).unsigned_abs()))
    };
    let timeout = seconds(probe.timeout_seconds, TIMEOUT_S);
    let delay = Duration::from_secs(u64::from(probe.initial_delay_seconds.unwrap_or(0).max(0).unsigned_abs()));
    let age = Duration::try_from(Timestamp::now().duration_since(started_at)).unwrap_or_default();
    tokio::time::sleep(delay.saturating_sub(age)).await;
    let mut ticks = tokio::time::interval(seconds(probe.period_seconds, PERIOD_S));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = target.run(handler, timeout).await;
        let news = verdict.hear(result.is_ok());
        let why = result.err().unwrap_or_default();
        match judge(news, &why) {
            Some(true) => return Ok(()),
            Some(false) => return Err(why),
            None => {}
        }
    }
}

/// Turns single results into a lasting verdict by the probe's thresholds.
#[derive(Debug)]
struct Verdict {
    holds: bool,
    in_a_row: i32,
    failures_needed: i32,
    successes_needed: i32,
}

impl Verdict {
    fn new(probe: &Probe, holds: bool) -> Self {
        let or = |value: Option<i32>, default| value.filter(|value| *value > 0).unwrap_or(default);
        Self {
            holds,
            in_a_row: 0,
            failures_needed: or(probe.failure_threshold, FAILURES),
            successes_needed: or(probe.success_threshold, SUCCESSES),
        }
    }

    /// Counts a result: positive numbers count successes in a row, negative ones failures.
    /// Answers the verdict when a threshold is reached, whether or not that changes it.
    fn hear(&mut self, success: bool) -> Option<bool> {
        self.in_a_row = if success { self.in_a_row.max(0) + 1 } else { self.in_a_row.min(0) - 1 };
        if self.in_a_row >= self.successes_needed {
            self.holds = true;
        } else if -self.in_a_row >= self.failures_needed {
            self.holds = false;
        } else {
            return None;
        }
        Some(self.holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_decide_when_a_verdict_turns() {
        let probe = Probe { failure_threshold: Some(2), success_threshold: Some(2), ..Probe::default() };
        let mut verdict = Verdict::new(&probe, false);
        let heard: Vec<Option<bool>> = [true, true, false, true, false, false, true].into_iter().map(|ok| verdict.hear(ok)).collect();
        assert_eq!(heard, [None, Some(true), None, None, None, Some(false), None]);
        let mut verdict = Verdict::new(&Probe::default(), true);
        assert_eq!([false, false, false].map(|ok| verdict.hear(ok)), [None, None, Some(false)]);
    }
}
