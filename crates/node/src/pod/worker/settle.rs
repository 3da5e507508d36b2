//! From what containerd says to what the worker knows: probes, last words, peers, exits that are not
//! wholly known yet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{LAST_WORDS_BYTES, LAST_WORDS_LINES, News, OOM_SETTLE, Prober, Worker};
use crate::events::Severity;
use crate::pod::container::log_path;
use crate::pod::handler::Target;
use crate::pod::observe::{may_become_oom, observe};
use crate::pod::state::{ContainerSeen, ContainerState, Health, Operation, Peers, containers, prior_status};
use crate::pod::status::TERMINATION_MESSAGE_BYTES_MAX;
use crate::pod::{hosts, probes, reference};

impl Worker {
    pub(super) async fn look(&mut self) {
        match observe(&self.shared.cri, &self.identity.uid, &self.observed).await {
            Ok(observed) => {
                self.observed = observed;
                self.stale = false;
                if self.facts.runtime_error.take().is_some() {
                    tracing::info!(pod = self.identity.name, "containerd answers again");
                }
            }
            Err(error) => {
                if self.facts.runtime_error.is_none() {
                    tracing::warn!(pod = self.identity.name, %error, "cannot look at the pod's containers");
                }
                self.facts.runtime_error = Some(error.to_string());
            }
        }
        let sandboxes = self.observed.sandboxes.iter().map(|sandbox| &sandbox.id);
        let ids = sandboxes.chain(self.observed.containers.iter().map(|seen| &seen.id));
        self.shared.pods.route(&self.identity.uid, ids);
    }

    /// Follows from what was seen: probes run for running containers, last words are read, and an
    /// exit that is not wholly known yet counts as not yet happened.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        let running = |seen: &ContainerSeen| seen.state == ContainerState::Running;
        let observed = &self.observed;
        self.exits_expected.retain(|id, until| *until > now && observed.containers.iter().any(|seen| seen.id == *id && running(seen)));
        for seen in &mut self.observed.containers {
            if !may_become_oom(seen) {
                continue;
            }
            if self.oom.contains(&seen.id) {
                "OOMKilled".clone_into(&mut seen.reason);
                continue;
            }
            let since = *self.killed_since.entry(seen.id.clone()).or_insert(now);
            if now < since + OOM_SETTLE && self.facts.failed.is_none() && !self.facts.kills.contains_key(&seen.id) {
                seen.state = ContainerState::Running;
            }
        }
        let ids: BTreeSet<String> = self.observed.containers.iter().map(|seen| seen.id.clone()).collect();
        self.killed_since.retain(|id, _| ids.contains(id));
        self.oom.retain(|id| ids.contains(id));
        self.facts.health.retain(|id, _| ids.contains(id));
        self.facts.kills.retain(|id, _| ids.contains(id));
        self.facts.termination_messages.retain(|id, _| ids.contains(id));
        self.tend_probers();
        self.read_last_words();
    }

    pub(super) fn tend_probers(&mut self) {
        let live: BTreeSet<&String> =
            self.observed.containers.iter().filter(|seen| seen.state == ContainerState::Running).map(|seen| &seen.id).collect();
        self.probers.retain(|id, _| live.contains(id));
        let ip = self.observed.sandbox().and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default();
        let mut fresh = Vec::new();
        for seen in self.observed.containers.iter().filter(|seen| seen.state == ContainerState::Running) {
            let starting = self.facts.in_flight.contains(&Operation::Start(seen.name.clone()));
            if starting || self.probers.contains_key(&seen.id) {
                continue;
            }
            let Some((_, container)) = containers(&self.spec).find(|(_, container)| container.name == seen.name) else {
                continue;
            };
            let ip = if self.spec.host_network == Some(true) { self.shared.address.clone() } else { ip.clone() };
            let target = Target { cri: self.shared.cri.clone(), container_id: seen.id.clone(), container: container.clone(), ip };
            let mut health = probes::initial(&target);
            // A container that was ready before this process started stays so until a probe fails.
            let known = prior_status(&self.pod, &seen.name)
                .filter(|prior| prior.container_id.as_deref() == Some(&format!("containerd://{}", seen.id)));
            if let Some(known) = known {
                health.started |= known.started == Some(true);
                health.ready |= known.ready && health.started;
            }
            fresh.push((seen.id.clone(), seen.name.clone(), seen.started_at.unwrap_or_default(), target, health));
        }
        for (id, name, started_at, target, health) in fresh {
            self.facts.health.insert(id.clone(), health.clone());
            self.probers.insert(id.clone(), self.start_prober(id, name, started_at, target, health));
        }
    }

    pub(super) fn start_prober(&self, id: String, name: String, started_at: Timestamp, target: Target, health: Health) -> Prober {
        let (sender, mut receiver) = watch::channel(health);
        let inbox = self.own_inbox.clone();
        let recorder = self.shared.events.clone();
        let about = reference(&self.pod, Some(&name));
        let task = tokio::spawn(async move {
            let complain = |message: String| recorder.record(about.clone(), Severity::Warning, "Unhealthy", message);
            let forward = async {
                while receiver.changed().await.is_ok() {
                    let health = receiver.borrow_and_update().clone();
                    if inbox.send(News::Health(id.clone(), health)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(probes::watch(target, started_at, sender, complain), forward);
        });
        Prober { task }
    }

    pub(super) fn read_last_words(&mut self) {
        let mut found = Vec::new();
        for seen in self.observed.containers.iter().filter(|seen| seen.state == ContainerState::Exited) {
            if self.facts.termination_messages.contains_key(&seen.id) {
                continue;
            }
            let path = self.shared.layout.termination_file(&self.identity.uid, &seen.name, seen.attempt);
            let mut text = crate::logs::read_head(&path, TERMINATION_MESSAGE_BYTES_MAX as u64).unwrap_or_default();
            let fall_back = containers(&self.spec).any(|(_, container)| {
                container.name == seen.name && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
            });
            if text.is_empty() && fall_back && seen.exit_code != 0 {
                let log = self.shared.layout.pod_logs(&self.identity).join(log_path(&seen.name, seen.attempt));
                text = crate::logs::last_words(&log, LAST_WORDS_BYTES, LAST_WORDS_LINES).unwrap_or_default();
            }
            found.push((seen.id.clone(), text));
        }
        self.facts.termination_messages.extend(found);
    }

    /// Learns the addresses of the gang and keeps `/etc/hosts` up to date.
    pub(super) fn know_peers(&mut self, now: Timestamp) {
        let Some(sandbox) = self.observed.sandbox().filter(|sandbox| sandbox.ready) else { return };
        if self.facts.gone {
            return;
        }
        let peers = self.shared.pods.peers(&self.pod);
        if self.spec.host_network != Some(true) {
            let ip = sandbox.ips.first().map(String::as_str);
            let text = hosts::content(&self.identity, &self.pod, ip, &peers);
            let path = self.shared.layout.hosts_file(&self.identity.uid);
            if let Err(error) = hosts::write(&path, &text) {
                self.event(None, Severity::Warning, "FailedMount", format!("cannot write /etc/hosts: {error}"));
            }
        }
        self.facts.peers = if hosts::gang_key(&self.pod).is_some() {
            hosts::readiness(hosts::gang_size(&self.pod), &peers, self.peers_until, now)
        } else {
            Peers::Known
        };
    }
}
