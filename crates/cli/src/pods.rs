//! From what a person names to the pods behind it, and what those pods say.

mod follow;
mod printer;
mod waiting;

use fermion_api::ai::{DevEnvironment, InferenceService, TrainingJob};
use fermion_api::labels;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};

pub(crate) use fermion_client::containers::{container_started, reason_to_wait};
pub(crate) use fermion_client::logs::Start;
pub(crate) use follow::Follow;
pub(crate) use printer::Printer;
pub(crate) use waiting::why as why_waiting;

/// A kind whose objects have pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Job,
    Environment,
    Service,
    Pod,
}

impl Owner {
    const ALL: [Self; 4] = [Self::Job, Self::Environment, Self::Service, Self::Pod];

    /// What it is called in sentences.
    fn noun(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Environment => "environment",
            Self::Service => "service",
            Self::Pod => "pod",
        }
    }

    /// The prefixes that name it: `job/digits`.
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Job => &["job", "trainingjob", "trainingjobs", "tj"],
            Self::Environment => &["env", "environment", "devenvironment", "devenvironments", "dev"],
            Self::Service => &["service", "inferenceservice", "inferenceservices", "isvc"],
            Self::Pod => &["pod", "pods", "po"],
        }
    }

    /// The label by which its pods carry its name.
    pub(crate) fn label(self) -> Option<&'static str> {
        match self {
            Self::Job => Some(labels::TRAINING_JOB),
            Self::Environment => Some(labels::DEV_ENVIRONMENT),
            Self::Service => Some(labels::INFERENCE_SERVICE),
            Self::Pod => None,
        }
    }
}

/// What a person named: `digits`, `job/digits`, `pod/digits-worker-0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    owner: Option<Owner>,
    name: String,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (owner, name) = match text.split_once('/') {
            None => (None, text),
            Some((prefix, name)) => {
                let prefix = prefix.to_lowercase();
                let owner = Owner::ALL.into_iter().find(|owner| owner.prefixes().contains(&prefix.as_str()));
                (Some(owner.ok_or_else(|| format!("`{prefix}` is none of job, env, service, pod"))?), name)
            }
        };
        let fine = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if !fine {
            return Err("a name has letters, digits, `-` and `.` only; write NAME or KIND/NAME".to_owned());
        }
        Ok(Self { owner, name: name.to_owned() })
    }
}

/// An object that exists and has pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) owner: Owner,
    pub(crate) name: String,
}

impl Resolved {
    /// As it is told in sentences: "job `digits`".
    pub(crate) fn title(&self) -> String {
        format!("{} `{}`", self.owner.noun(), self.name)
    }

    /// As it is typed: `job/digits`.
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}", self.owner.prefixes()[0], self.name)
    }

    /// Its pods, in the order of their names.
    pub(crate) async fn pods(&self, session: &Session) -> Outcome<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
        let what = || format!("cannot read the pods of {} in namespace `{}`", self.title(), session.namespace);
        let mut pods = match self.owner.label() {
            None => vec![api.get(&self.name).await.attempt(what)?],
            Some(label) => api.list(&ListParams::default().labels(&format!("{label}={}", self.name))).await.attempt(what)?.items,
        };
        pods.sort_by_key(natural_order);
        Ok(pods)
    }
}

/// Sorts `worker-10` after `worker-9`.
fn natural_order(pod: &Pod) -> (String, u64, String) {
    let name = pod.name_any();
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name[stem.len()..].parse().unwrap_or(0);
    (stem.to_owned(), number, name.clone())
}

impl Target {
    /// Finds the object; a bare name is looked for in every kind that has pods.
    pub(crate) async fn resolve(&self, session: &Session) -> Outcome<Resolved> {
        let owners = self.owner.map_or_else(|| Owner::ALL.to_vec(), |owner| vec![owner]);
        let mut found = Vec::new();
        for owner in owners {
            if exists(session, owner, &self.name).await? {
                found.push(owner);
            }
        }
        match found.as_slice() {
            [owner] => Ok(Resolved { owner: *owner, name: self.name.clone() }),
            [] => {
                let noun = self.owner.map_or("job, environment, service or pod", Owner::noun);
                Err(Failure::new(format!("there is no {noun} `{}` in namespace `{}`", self.name, session.namespace))
                    .hint("`fermion status` lists what runs; -n NAMESPACE looks in another namespace")
                    .with_exit(Exit::Missing))
            }
            several => {
                let choices: Vec<_> = several.iter().map(|owner| format!("{}/{}", owner.prefixes()[0], self.name)).collect();
                Err(Failure::new(format!("`{}` names more than one object", self.name)).hint(format!("say which: {}", choices.join(", "))))
            }
        }
    }
}

async fn exists(session: &Session, owner: Owner, name: &str) -> Outcome<bool> {
    let (client, namespace) = (session.client.clone(), session.namespace.as_str());
    let found = match owner {
        Owner::Job => Api::<TrainingJob>::namespaced(client, namespace).get_metadata_opt(name).await.map(|found| found.is_some()),
        Owner::Environment => {
            Api::<DevEnvironment>::namespaced(client, namespace).get_metadata_opt(name).await.map(|found| found.is_some())
        }
        Owner::Service => Api::<InferenceService>::namespaced(client, namespace).get_metadata_opt(name).await.map(|found| found.is_some()),
        Owner::Pod => Api::<Pod>::namespaced(client, namespace).get_metadata_opt(name).await.map(|found| found.is_some()),
    };
    found.attempt(|| format!("cannot look for {} `{name}` in namespace `{namespace}`", owner.noun()))
}

/// The containers of a pod, in order; the first is the main one.
pub(crate) fn container_names(pod: &Pod) -> Vec<String> {
    pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| container.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_with_or_without_a_kind() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("digits"), Ok(Target { owner: None, name: "digits".to_owned() }));
        assert_eq!(target("tj/digits"), Ok(Target { owner: Some(Owner::Job), name: "digits".to_owned() }));
        assert_eq!(target("Pod/a-0"), Ok(Target { owner: Some(Owner::Pod), name: "a-0".to_owned() }));
        for wrong in ["", "job/", "what/x", "a/b/c", "../x", "a b", "a?x=1"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_tenth_worker_comes_after_the_ninth() {
        let pod = |name: &str| Pod {
            metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            ..Default::default()
        };
        let mut pods = [pod("a-worker-10"), pod("a-worker-9"), pod("a-launcher-0")];
        pods.sort_by_key(natural_order);
        assert_eq!(pods.map(|pod| pod.name_any()), ["a-launcher-0", "a-worker-9", "a-worker-10"]);
    }
}
