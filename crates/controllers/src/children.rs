//! The Workload that a controller keeps for its object.

use std::collections::BTreeMap;
use std::fmt::Debug;

use fermion_api::ai::Workload;
use fermion_api::ai::scheduling::Scheduling;
use fermion_api::ai::workload::WorkloadSpec;
use fermion_api::{duration, labels};
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt as _};

use crate::error::{Error, describe};
use crate::owner;

/// What the Workload should be.
pub(crate) struct Child {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Annotations to set; `None` leaves them as they are.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Annotations to take away unless they are set.
    pub annotations_removed: Vec<&'static str>,
    pub spec: WorkloadSpec,
}

/// What the scheduler is told of a Workload: what its owner was told, but no run time beyond its
/// time limit.
pub(crate) fn scheduling(told: &Scheduling, max_duration: Option<&str>) -> Scheduling {
    let limit = max_duration.and_then(|text| Some((duration::parse(text).ok()?, text)));
    let mut scheduling = told.clone();
    if let Some((limit, text)) = limit
        && scheduling.run_time().is_some_and(|declared| declared > limit)
    {
        scheduling.run_time = Some(text.to_owned());
    }
    scheduling
}

/// Makes the Workload, or changes the one that exists where it differs. An existing one of
/// another owner is left alone and reported.
pub(crate) async fn keep<K>(client: &Client, owner: &K, existing: Option<&Workload>, child: Child) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Debug,
{
    let namespace = owner.namespace().unwrap_or_default();
    let api: Api<Workload> = Api::namespaced(client.clone(), &namespace);
    let Some(existing) = existing else {
        let workload = new(owner, child);
        return match api.create(&PostParams::default(), &workload).await {
            // Made a moment ago and not in the cache yet.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            other => other.map(drop).map_err(Error::api("create", describe(&workload))),
        };
    };
    if !owner::is_controlled_by(existing, owner) {
        return Err(Error::NameTaken { object: describe(existing), wanted_by: describe(owner) });
    }
    if existing.metadata.deletion_timestamp.is_some() {
        // Made anew once it is gone.
        return Ok(());
    }
    let mut wanted = existing.clone();
    wanted.spec = child.spec;
    wanted.labels_mut().extend(child.labels);
    if let Some(annotations) = child.annotations {
        for name in child.annotations_removed {
            wanted.annotations_mut().remove(name);
        }
        wanted.annotations_mut().extend(annotations);
    }
    if wanted.spec == existing.spec && wanted.labels() == existing.labels() && wanted.annotations() == existing.annotations() {
        return Ok(());
    }
    // The resource version read goes along, so a writer in between is noticed.
    let answer = api.replace(&existing.name_any(), &PostParams::default(), &wanted).await;
    answer.map(drop).map_err(Error::api("change", describe(existing)))
}

/// The Workload that is made where there is none.
pub(crate) fn new<K: Resource<DynamicType = ()>>(owner: &K, child: Child) -> Workload {
    let mut workload = Workload::new(&child.name, child.spec);
    workload.metadata.namespace = owner.namespace();
    workload.metadata.owner_references = owner::references(owner);
    workload.metadata.labels = Some(child.labels);
    let mut annotations = child.annotations.unwrap_or_default();
    if let Some(creator) = owner.annotations().get(labels::CREATED_BY) {
        annotations.insert(labels::CREATED_BY.to_owned(), creator.clone());
    }
    workload.metadata.annotations = Some(annotations);
    workload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_runs_no_longer_than_its_limit() {
        let told = |run_time: Option<&str>| Scheduling { run_time: run_time.map(str::to_owned), urgent: true, ..Scheduling::default() };
        for (declared, limit, expected) in [
            (None, None, None),
            (None, Some("3h"), None),
            (Some("2h"), None, Some("2h")),
            (Some("2h"), Some("3h"), Some("2h")),
            (Some("1d"), Some("3h"), Some("3h")),
        ] {
            assert_eq!(scheduling(&told(declared), limit), told(expected), "{declared:?} {limit:?}");
        }
    }
}
