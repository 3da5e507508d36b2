//! Why pods do not run yet: no room, an image being built, an error that is tried again.

use fermion_api::ai::Workload;
use fermion_api::assets::Image;
use fermion_api::assets::image::Phase;
use k8s_openapi::api::core::v1::Pod;

use super::{container_names, container_started, reason_to_wait};

/// Why a workload's pods do not run yet, in words; `None` once one of them does.
pub(crate) fn why<'a>(
    workload: Option<&Workload>,
    pods: impl IntoIterator<Item = &'a Pod> + Clone,
    images: impl IntoIterator<Item = &'a Image>,
) -> Option<String> {
    let runs = |pod: &Pod| container_names(pod).iter().any(|name| container_started(pod, name));
    if pods.clone().into_iter().any(runs) {
        return None;
    }
    if let Some(waiting) = workload.and_then(|workload| workload.status.as_ref()?.waiting.as_ref()) {
        return Some(format!("waiting: {} (place {} in its queue)", waiting.message, waiting.position));
    }
    let wanted: Vec<&str> = pods
        .clone()
        .into_iter()
        .flat_map(|pod| pod.spec.iter().flat_map(|spec| &spec.containers))
        .filter_map(|container| container.image.as_deref())
        .collect();
    let building = images.into_iter().filter(|image| wanted.contains(&image.spec.reference.as_str())).find_map(|image| {
        let status = image.status.as_ref().filter(|status| status.phase == Phase::Building)?;
        Some(format!("building image {}: {}", image.spec.reference, status.progress.as_deref().unwrap_or("in work")))
    });
    building.or_else(|| {
        Some(match pods.into_iter().find_map(reason_to_wait) {
            Some(reason) => format!("starting: {reason}"),
            None => "starting".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(status: serde_json::Value) -> Workload {
        let workload = json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "a"}, "spec": {"podSets": []}, "status": status});
        serde_json::from_value(workload).expect("a workload")
    }

    fn pod(state: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a-worker-0"}, "spec": {"containers": [{"name": "main", "image": "fermion.dev/python:latest"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        }))
        .expect("a pod")
    }

    fn image(phase: &str) -> Image {
        serde_json::from_value(json!({
            "apiVersion": "assets.fermion.dev/v1alpha1", "kind": "Image", "metadata": {"name": "python"},
            "spec": {"reference": "fermion.dev/python:latest"}, "status": {"phase": phase, "progress": "step 3 of 5: pip packages"},
        }))
        .expect("an image")
    }

    #[test]
    fn every_way_to_wait_has_its_words() {
        assert_eq!(why(None, &[], &[]).as_deref(), Some("starting"));
        let waiting = workload(json!({"waiting": {"reason": "InsufficientResources", "message": "1 more cpu is needed", "position": 3}}));
        assert_eq!(why(Some(&waiting), &[], &[]).as_deref(), Some("waiting: 1 more cpu is needed (place 3 in its queue)"));
        let failing = [pod(json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}))];
        assert_eq!(why(None, &failing, &[image("Present")]).as_deref(), Some("starting: ErrImagePull: no such image"));
        let building = [image("Building")];
        assert_eq!(why(None, &failing, &building).as_deref(), Some("building image fermion.dev/python:latest: step 3 of 5: pip packages"));
        assert_eq!(why(Some(&waiting), &[pod(json!({"running": {}}))], &building), None);
    }
}
