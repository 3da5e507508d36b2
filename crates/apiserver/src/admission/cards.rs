//! Parts of accelerator cards in what is submitted: what cannot be asked for is refused when it is
//! asked for, with what can be instead. And the annotation that says which cards a pod has: it is
//! written with the pod's node and by nothing else, so that nobody talks themselves out of what
//! they hold.
//!
//! Only what is new is looked at: work that was taken stays as it is when a model changes.

use std::sync::Arc;

use fermion_api::ai::{DevEnvironment, InferenceService, Submission, TrainingJob, Workload};
use fermion_api::compute::AcceleratorModel;
use fermion_api::{Invalid, cards, labels, pod};
use fermion_store::{Key, Stored};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde::Deserialize;
use serde_json::Value;

use super::queues::{by_the_platform, refused, submitted};
use super::{Operation, Request};
use crate::Api;
use crate::error::{ApiError, Result};
use crate::follow::Items;

/// Where models are stored.
pub(crate) const MODELS: &str = "acceleratormodels.compute.fermion.dev";

/// Reads a stored model.
pub(crate) fn read(stored: &Stored) -> Result<AcceleratorModel, String> {
    serde_json::from_slice(&stored.body).map_err(|error| error.to_string())
}

fn is_pod(request: &Request<'_>) -> bool {
    request.resource.is_core("pods") && request.origin.subresource.is_empty() && request.operation != Operation::Delete
}

/// Which cards it has is not for a new pod to say, nor for the template it comes from.
pub(super) fn set_default(request: &Request<'_>, object: &mut Value) {
    if is_pod(request)
        && request.operation == Operation::Create
        && let Some(annotations) = object["metadata"]["annotations"].as_object_mut()
    {
        annotations.remove(labels::CARDS);
    }
}

/// Refuses what cannot be asked for.
pub(super) async fn check(api: &Api, request: &Request<'_>, object: &Value) -> Result<()> {
    if by_the_platform(request) || !(is_pod(request) || submitted(request).is_some()) {
        return Ok(());
    }
    if let Some(old) = request.old.filter(|_| is_pod(request)) {
        let cards = |pod: &Value| pod["metadata"]["annotations"][labels::CARDS].clone();
        return if cards(old) == cards(object) {
            Ok(())
        } else {
            Err(refused(request, &format!("the annotation {} is written with the pod's node, and cannot be changed", labels::CARDS)))
        };
    }
    let new = asked(request, object)?;
    if !new.iter().any(|(_, requests)| cards::asks_for_part(requests)) {
        return Ok(());
    }
    let failed = |error: fermion_store::Error| ApiError::from_store(&error, request.resource.about(request.name));
    let models: Items<AcceleratorModel> = api.models.all(&api.store).await.map_err(failed)?;
    // Those the platform knows hold also in the moment before they are made.
    let model =
        |name: &str| -> Option<Arc<AcceleratorModel>> { models.get(&Key::new(MODELS, "", name)).cloned().or_else(|| cards::known(name)) };
    let problems = |asked: Vec<(String, pod::Resources)>| -> Vec<(String, String)> {
        asked.into_iter().filter_map(|(field, requests)| Some((field, cards::settle(requests, model).err()?))).collect()
    };
    let before = request.old.map(|old| asked(request, old)).transpose()?.map(problems).unwrap_or_default();
    let found: Vec<_> = problems(new).into_iter().filter(|problem| !before.contains(problem)).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(super::invalid(request, found.into_iter().map(|(field, why)| Invalid::new(field, why)).collect()))
}

/// What each pod of an object asks for, with the field that says so.
fn asked(request: &Request<'_>, object: &Value) -> Result<Vec<(String, pod::Resources)>> {
    match request.resource.plural.as_str() {
        "pods" => {
            let pod = Pod::deserialize(object).map_err(|error| ApiError::internal(error.to_string()))?;
            Ok(pod.spec.iter().map(|spec| ("spec.containers".to_owned(), pod::requests(spec))).collect())
        }
        "trainingjobs" => of_work::<TrainingJob>(object, |place| format!("spec.roles[{place}].template.spec.containers")),
        "workloads" => of_work::<Workload>(object, |place| format!("spec.podSets[{place}].template.spec.containers")),
        "devenvironments" => of_work::<DevEnvironment>(object, |_| "spec.template.spec.containers".to_owned()),
        _ => of_work::<InferenceService>(object, |_| "spec.template.spec.containers".to_owned()),
    }
}

fn of_work<T: Submission>(object: &Value, field: impl Fn(usize) -> String) -> Result<Vec<(String, pod::Resources)>> {
    let typed = T::deserialize(object).map_err(|error| ApiError::internal(error.to_string()))?;
    let spec = |template: Option<&k8s_openapi::api::core::v1::PodTemplateSpec>| -> Option<PodSpec> { template?.spec.clone() };
    let templates = typed.pods().into_iter().enumerate();
    Ok(templates.filter_map(|(place, (_, template))| Some((field(place), pod::requests(&spec(template)?)))).collect())
}
