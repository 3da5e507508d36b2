//! Stopping pods for work that goes before them: the Workload says why, then its pods are deleted,
//! each with its own grace period, in which it can save what it did. The Workload's controller
//! makes them anew, so it waits for a place and starts again by itself.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use fermion_api::ai::Workload;
use fermion_api::{conditions, reason};
use fermion_scheduler::{Cause, Eviction, Plan};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;

use super::writes::{Done, REQUESTS_AT_ONCE};
use super::{Runner, log};
use crate::cache::key;
use crate::error::{Error, chain, describe};
use crate::events::{Notice, Recorder};
use crate::status;
use crate::workload::{EVICTED, remove};

impl Runner {
    /// Stops those who have to stop for others. From now on they are planned with as if they had been told;
    /// who could not be told is decided on anew.
    pub(super) fn evict(&mut self, plan: &Plan) {
        for eviction in &plan.evictions {
            let Some(workload) = self.workload(&eviction.gang) else { continue };
            let members = &self.view.scene().members;
            let pods: Vec<Arc<Pod>> = eviction.members.iter().filter_map(|member| members.get(member)).map(Arc::clone).collect();
            for pod in &pods {
                self.view.touch(key(&**pod));
                self.evicted.extend(pod.metadata.uid.clone().map(|uid| (uid, (key(&**pod), Instant::now()))));
            }
            let number = self.order.begin();
            let all = pods.clone();
            let told = tell_and_stop(self.client.clone(), self.recorder.clone(), workload, pods, eviction.clone());
            // What panicked has told nobody, as far as is known; what waits for it has to hear of it.
            let told = AssertUnwindSafe(told).catch_unwind().map(|kept| kept.unwrap_or(all));
            self.writes.add(told.map(move |kept| Done::Evicted { number, kept }));
        }
    }

    /// One was told to stop, or could not be: then what counted on that is decided on anew.
    pub(super) fn evicted(&mut self, number: u64, kept: &[Arc<Pod>]) {
        if !kept.is_empty() {
            self.unfinished = true;
            for pod in kept {
                self.view.touch(key(&**pod));
                self.evicted.retain(|uid, _| pod.metadata.uid.as_ref() != Some(uid));
            }
            for bind in self.order.failed(number) {
                self.forget_bind(&bind.pod);
            }
        }
        for bind in self.order.ended(number) {
            let given = bind.pod.metadata.uid.as_ref().and_then(|uid| self.assumed.get(uid));
            if given.is_some_and(|given| given.node == bind.node) {
                self.send_bind(bind);
            }
        }
    }
}

/// Says of somebody that they stop, and stops their pods. Answers which could not be.
async fn tell_and_stop(
    client: Client,
    recorder: Recorder,
    workload: Arc<Workload>,
    pods: Vec<Arc<Pod>>,
    eviction: Eviction,
) -> Vec<Arc<Pod>> {
    // Its controller reads there why the pods end.
    if eviction.whole
        && let Err(error) = tell_evicted(client.clone(), &workload, &eviction).await
    {
        log(&describe(&*workload), &error);
        return pods;
    }
    let notices = [Notice::normal(code(eviction.cause), sentence(&eviction))];
    let ((), kept) = futures::future::join(recorder.tell(&*workload, &notices), stop(client, pods)).await;
    kept
}

/// Says in the status of a Workload that it was stopped and why.
async fn tell_evicted(client: Client, workload: &Workload, eviction: &Eviction) -> Result<(), Error> {
    let mut new = workload.status.clone().unwrap_or_default();
    let generation = workload.metadata.generation;
    conditions::set(&mut new.conditions, EVICTED, true, code(eviction.cause), sentence(eviction), generation, Timestamp::now());
    let api: Api<Workload> = Api::namespaced(client, &workload.namespace().unwrap_or_default());
    status::write(&api, workload, workload.status.as_ref(), &new).await.map(drop)
}

/// Stops pods. Answers which could not be.
async fn stop(client: Client, pods: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    let send = |pod: Arc<Pod>| {
        let client = client.clone();
        async move {
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let error = remove(&api, &pod).await.err()?;
            tracing::warn!(pod = describe(&*pod), error = chain(&error), "cannot stop a pod for others; trying again");
            Some(pod)
        }
    };
    let answers = futures::stream::iter(pods).map(send).buffer_unordered(REQUESTS_AT_ONCE);
    answers.filter_map(std::future::ready).collect().await
}

fn code(cause: Cause) -> &'static str {
    match cause {
        Cause::Reclaimed => reason::RECLAIMED,
        Cause::Spare | Cause::QueuePriority | Cause::Priority => reason::PREEMPTED,
        Cause::Incomplete => reason::INCOMPLETE,
        Cause::Moved => reason::MOVED,
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
        Cause::Moved => {
            format!("moved to make room for {for_whom}: a place elsewhere is kept for it, where it starts again by itself")
        }
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
        let causes = [Cause::Spare, Cause::Reclaimed, Cause::QueuePriority, Cause::Priority, Cause::Incomplete, Cause::Moved];
        let of = |cause| Eviction { gang: "lab/old".into(), members: vec![], whole: true, claimant: "lab/new".into(), cause };
        let lines: Vec<_> = causes.map(|cause| format!("{}: {}", code(cause), sentence(&of(cause)))).into();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
