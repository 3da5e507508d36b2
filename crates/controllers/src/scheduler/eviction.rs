//! Stopping pods for work that goes before them: the Workload says why, then its pods are deleted,
//! each with its own grace period, in which it can save what it did. The Workload's controller
//! makes them anew, so it waits for a place and starts again by itself.

use std::sync::Arc;

use fermion_api::ai::Workload;
use fermion_api::{conditions, reason};
use fermion_scheduler::{Cause, Eviction, Plan};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;

use super::writes::REQUESTS_AT_ONCE;
use super::{Runner, log};
use crate::cache::key;
use crate::error::{Error, chain, describe};
use crate::events::Notice;
use crate::status;
use crate::workload::{EVICTED, remove};

/// How many are being stopped at the same time.
const EVICTIONS_AT_ONCE: usize = 32;

impl Runner {
    /// What is to be done for each who has to stop.
    fn evictions(&self, plan: &Plan) -> Vec<impl Future<Output = (Vec<Arc<Pod>>, bool)> + Send + 'static> {
        let scene = self.view.scene();
        let told = |eviction: &Eviction| {
            let workload = self.workload(&eviction.gang)?;
            let pods: Vec<Arc<Pod>> = eviction.members.iter().filter_map(|member| scene.members.get(member)).map(Arc::clone).collect();
            let notice = Notice::normal(code(eviction.cause), sentence(eviction));
            let (client, recorder, whole) = (self.client.clone(), self.recorder.clone(), eviction.whole.then(|| eviction.clone()));
            Some(async move {
                if let Some(eviction) = whole
                    && let Err(error) = tell_evicted(client.clone(), &workload, &eviction).await
                {
                    log(&describe(&*workload), &error);
                    return (Vec::new(), false);
                }
                recorder.tell(&*workload, &[notice]).await;
                stop(client, pods).await
            })
        };
        plan.evictions.iter().filter_map(told).collect()
    }

    /// Stops those who have to stop for others. One that cannot be told now is decided on anew in
    /// the next round. Answers whether all were told.
    pub(super) async fn evict(&mut self, plan: &Plan) -> bool {
        let all = self.evictions(plan);
        let outcomes: Vec<_> = futures::stream::iter(all).buffer_unordered(EVICTIONS_AT_ONCE).collect().await;
        let mut all = true;
        for (stopped, told) in outcomes {
            all &= told;
            for pod in stopped {
                self.view.touch(key(&*pod));
                self.evicted.extend(pod.metadata.uid.clone().map(|uid| (uid, (key(&*pod), Instant::now()))));
            }
        }
        all
    }
}

/// Says in the status of a Workload that it was stopped and why.
async fn tell_evicted(client: Client, workload: &Workload, eviction: &Eviction) -> Result<(), Error> {
    let mut new = workload.status.clone().unwrap_or_default();
    let generation = workload.metadata.generation;
    conditions::set(&mut new.conditions, EVICTED, true, code(eviction.cause), sentence(eviction), generation, Timestamp::now());
    let api: Api<Workload> = Api::namespaced(client, &workload.namespace().unwrap_or_default());
    status::write(&api, workload, workload.status.as_ref(), &new).await.map(drop)
}

/// Stops pods. Answers which were told so, and whether all were.
async fn stop(client: Client, pods: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, bool) {
    let send = |pod: Arc<Pod>| {
        let client = client.clone();
        async move {
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let answer = remove(&api, &pod).await;
            (pod, answer)
        }
    };
    let (mut stopped, mut all) = (Vec::new(), true);
    let mut answers = futures::stream::iter(pods).map(send).buffer_unordered(REQUESTS_AT_ONCE);
    while let Some((pod, answer)) = answers.next().await {
        match answer {
            Ok(()) => stopped.push(pod),
            Err(error) => {
                tracing::warn!(pod = describe(&*pod), error = chain(&error), "cannot stop a pod for others; trying again");
                all = false;
            }
        }
    }
    (stopped, all)
}

fn code(cause: Cause) -> &'static str {
    match cause {
        Cause::Reclaimed => reason::RECLAIMED,
        Cause::Spare | Cause::QueuePriority | Cause::Priority => reason::PREEMPTED,
        Cause::Incomplete => reason::INCOMPLETE,
    }
}

fn sentence(eviction: &Eviction) -> String {
    let for_whom = &eviction.claimant;
    match eviction.cause {
        Cause::Spare => format!("pods beyond the number it needs are stopped for {for_whom}; they start again when there is room"),
        Cause::Reclaimed => {
            format!(
                "stopped for {for_whom}, whose queue is guaranteed what this one used beyond its own guarantee; it starts again by itself"
            )
        }
        Cause::QueuePriority => {
            format!("stopped for {for_whom}, whose queue has a higher priority; it starts again by itself")
        }
        Cause::Priority => format!("stopped for {for_whom}, which has a higher priority; it starts again by itself"),
        Cause::Incomplete => {
            "stopped because it had fewer pods than it needs and there is no room for the rest; it starts again by itself, \
                              whole"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_sentence() {
        let causes = [Cause::Spare, Cause::Reclaimed, Cause::QueuePriority, Cause::Priority, Cause::Incomplete];
        let of = |cause| Eviction { gang: "lab/old".into(), members: vec![], whole: true, claimant: "lab/new".into(), cause };
        let lines: Vec<_> = causes.map(|cause| format!("{}: {}", code(cause), sentence(&of(cause)))).into();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
