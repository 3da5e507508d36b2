//! Taking the steps that were decided, and what their ends mean.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{News, Outcome, Worker};
use crate::events::Severity;
use crate::pod::decide::{Action, Start};
use crate::pod::state::{Failure, Operation, Step, containers};
use crate::pod::steps::{self, StartInput};
use crate::pod::{image, reference, volumes};

impl Worker {
    /// Whether a step failed so recently that it is not taken again yet.
    pub(super) fn must_wait(&self, operation: &Operation) -> bool {
        self.not_before.get(operation).is_some_and(|at| *at > Instant::now())
    }

    pub(super) fn spawn(&mut self, operation: Operation, step: impl Future<Output = Outcome> + Send + 'static) {
        self.facts.in_flight.insert(operation.clone());
        let key = operation.clone();
        let handle = self.steps.spawn(async move { (operation, step.await) });
        self.step_handles.insert(key, handle);
    }

    pub(super) fn act(&mut self, action: Action) {
        let shared = Arc::clone(&self.shared);
        let identity = self.identity.clone();
        match action {
            Action::FailPod(failure) => {
                self.fail(failure);
                self.wake_soon();
            }
            Action::MountVolumes => {
                if self.facts.in_flight.contains(&Operation::Volumes) {
                    return;
                }
                let pod = self.pod.clone();
                self.spawn(Operation::Volumes, async move {
                    let made = volumes::make(&shared, &identity, &pod).await;
                    Outcome::Volumes(made.map_err(|error| error.to_string()))
                });
            }
            Action::CreateSandbox { attempt } => {
                let spec = self.spec.clone();
                self.spawn(Operation::Sandbox, async move {
                    Outcome::Sandbox(attempt, steps::create_sandbox(&shared, &identity, &spec, attempt).await)
                });
            }
            Action::EnsureImage { container } => self.ensure_image(container),
            Action::StartContainer(start) => self.start_container(start),
            Action::KillContainer { id, name, grace, why } => self.kill_container(id, &name, grace, &why),
            Action::Abort(operation) => {
                if let Some(handle) = self.step_handles.get(&operation) {
                    handle.abort();
                }
            }
            Action::StopSandbox { id } => {
                if self.must_wait(&Operation::StopSandbox(id.clone())) {
                    return;
                }
                self.spawn(Operation::StopSandbox(id.clone()), async move {
                    Outcome::StopSandbox(steps::stop_sandbox(&shared, &id).await.map_err(|error| error.to_string()))
                });
            }
            Action::Cleanup => {
                if self.must_wait(&Operation::Cleanup) {
                    return;
                }
                let sandboxes: Vec<String> = self.observed.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
                self.spawn(Operation::Cleanup, async move { Outcome::Cleanup(steps::clean_up(&shared, &identity, &sandboxes).await) });
            }
            Action::Finalize => {
                // The last status is written first: usage is counted from it.
                let unwritten = !self.writes.is_empty() || self.acknowledged != self.pod.status;
                if unwritten || self.must_wait(&Operation::Finalize) {
                    return;
                }
                // Once the object is gone, the scheduler may give the room away at once.
                self.shared.pods.release(&self.identity.uid);
                self.spawn(Operation::Finalize, async move {
                    Outcome::Finalize(steps::finalize(&shared, &identity).await.map_err(|error| error.to_string()))
                });
            }
            Action::Forget => {}
        }
    }

    pub(super) fn wake_soon(&self) {
        // A full inbox wakes the worker just as well.
        let _ = self.own_inbox.try_send(News::Peers);
    }

    pub(super) fn ensure_image(&mut self, name: String) {
        let shared = Arc::clone(&self.shared);
        let (namespace, spec) = (self.identity.namespace.clone(), self.spec.clone());
        let Some((_, container)) = containers(&self.spec).find(|(_, container)| container.name == name) else { return };
        let container = container.clone();
        let about = reference(&self.pod, Some(&name));
        let inbox = self.own_inbox.clone();
        let told = name.clone();
        let tell: crate::official::Progress = Arc::new(move |text: &str| {
            // Progress is worth nothing when the worker is busy.
            let _ = inbox.try_send(News::Progress(told.clone(), text.to_owned()));
        });
        self.spawn(Operation::Image(name), async move {
            let image = container.image.clone().unwrap_or_default();
            let announce = || {
                shared.events.record(about.clone(), Severity::Normal, "Pulling", format!("Pulling image {image}"));
            };
            let result = image::ensure(&shared, &namespace, &spec, &container, tell, announce).await;
            match &result {
                Ok(true) => {
                    shared.events.record(about, Severity::Normal, "Pulled", format!("Image {image} is here now"));
                }
                Ok(false) => {}
                Err(missing) => {
                    shared.events.record(about, Severity::Warning, "Failed", missing.message.clone());
                }
            }
            Outcome::Image(result)
        });
    }

    pub(super) fn start_container(&mut self, start: Start) {
        let shared = Arc::clone(&self.shared);
        let Some((_, container)) = containers(&self.spec).find(|(_, container)| container.name == start.container) else {
            return;
        };
        let sandbox = self.observed.sandbox();
        let input = StartInput {
            identity: self.identity.clone(),
            pod: self.pod.clone(),
            spec: self.spec.clone(),
            container: container.clone(),
            sandbox_attempt: sandbox.map_or(0, |sandbox| sandbox.attempt),
            pod_ips: sandbox.map(|sandbox| sandbox.ips.clone()).unwrap_or_default(),
            places: self.places.clone(),
            start,
        };
        self.spawn(Operation::Start(input.container.name.clone()), async move {
            Outcome::Start(Box::pin(steps::start_container(&shared, input)).await)
        });
    }

    pub(super) fn kill_container(&mut self, id: String, name: &str, grace: Duration, why: &str) {
        let operation = Operation::Kill(id.clone());
        if self.must_wait(&operation) {
            return;
        }
        let again = self.step_handles.get(&operation).map(AbortHandle::abort).is_some();
        if !again {
            self.event(Some(name), Severity::Normal, "Killing", format!("Stopping container {name}: {why}"));
        }
        self.facts.kills.insert(id.clone(), grace);
        let shared = Arc::clone(&self.shared);
        let container = containers(&self.spec).find(|(_, container)| container.name == name).map(|(_, container)| container.clone());
        let pod = self.pod.clone();
        let ip = self.observed.sandbox().and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default();
        self.spawn(operation, async move {
            let killed = steps::kill_container(&shared, &pod, container.as_ref(), &id, ip, grace).await;
            Outcome::Kill(killed.map_err(|error| error.to_string()))
        });
    }

    /// Takes note of how a step ended.
    pub(super) fn finish(&mut self, done: Result<(Operation, Outcome), tokio::task::JoinError>) {
        self.stale = true;
        let Ok((operation, outcome)) = done else {
            // Aborted, or it panicked: whatever it was no longer runs.
            let handles = &mut self.step_handles;
            handles.retain(|_, handle| !handle.is_finished());
            self.facts.in_flight.retain(|operation| handles.contains_key(operation));
            return;
        };
        // A kill that was replaced by a quicker one leaves the newer handle in place.
        if self.step_handles.get(&operation).is_some_and(AbortHandle::is_finished) {
            self.step_handles.remove(&operation);
            self.facts.in_flight.remove(&operation);
        }
        match (operation, outcome) {
            (_, Outcome::Volumes(Ok((places, _)))) => {
                self.places = places;
                self.facts.volumes = Step::Done;
            }
            (_, Outcome::Volumes(Err(message))) => {
                self.event(None, Severity::Warning, "FailedMount", message.clone());
                // Files that cannot be refreshed stay as they are.
                if !self.facts.volumes.is_done() {
                    self.facts.volumes = self.failed(self.facts.volumes.failure(), "FailedMount", message);
                }
            }
            (_, Outcome::Sandbox(_, Ok(()))) => self.facts.sandbox = Step::Done,
            (_, Outcome::Sandbox(attempt, Err(error))) => {
                if error.name_taken {
                    self.facts.sandbox_attempt_min = attempt + 1;
                }
                self.event(None, Severity::Warning, "FailedCreatePodSandBox", error.message.clone());
                self.facts.sandbox = self.failed(self.facts.sandbox.failure(), "FailedCreatePodSandBox", error.message);
            }
            (Operation::Image(name), Outcome::Image(result)) => {
                self.facts.image_progress.remove(&name);
                let step = match result {
                    Ok(_) => Step::Done,
                    Err(missing) => {
                        let before = self.facts.images.get(&name).and_then(Step::failure).cloned();
                        self.failed(before.as_ref(), missing.reason, missing.message)
                    }
                };
                self.facts.images.insert(name, step);
            }
            (Operation::Start(name), Outcome::Start(result)) => {
                // The next start looks at the image afresh.
                self.facts.images.remove(&name);
                match result {
                    Ok(()) => {
                        self.facts.starts.remove(&name);
                    }
                    Err(error) => {
                        if error.reason == "CreateContainerConfigError" {
                            self.event(Some(&name), Severity::Warning, "Failed", error.message.clone());
                        }
                        let before = self.facts.starts.get(&name).cloned();
                        if let Step::Failed(failure) = self.failed(before.as_ref(), error.reason, error.message) {
                            self.facts.starts.insert(name, failure);
                        }
                    }
                }
            }
            (_, Outcome::Cleanup(Ok(()))) => self.facts.cleaned = true,
            (_, Outcome::Finalize(Ok(()))) => self.facts.gone = true,
            (operation, Outcome::Kill(result) | Outcome::StopSandbox(result) | Outcome::Cleanup(result) | Outcome::Finalize(result)) => {
                if let Err(message) = result {
                    self.not_before.insert(operation.clone(), Instant::now() + self.shared.limits.retry.base);
                    tracing::warn!(pod = self.identity.name, ?operation, message, "a step failed; it is taken again");
                    self.event(None, Severity::Warning, "FailedKillPod", message);
                }
            }
            (_, Outcome::Image(_) | Outcome::Start(_)) => {}
        }
    }

    pub(super) fn failed(&self, before: Option<&Failure>, reason: &'static str, message: String) -> Step {
        let count = before.map_or(0, |before| before.count) + 1;
        let delay = self.shared.limits.retry.delay(count);
        Step::Failed(Failure { reason, message, retry_at: Timestamp::now().saturating_add(delay).unwrap_or(Timestamp::MAX), count })
    }
}
