//! The job's own numbers: JSON lines from a file on one of its volumes or from its output.

use fermion_api::ai::TrainingJob;
use fermion_api::ai::training_job::{METRICS_HISTORY_MAX, TrainingJobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::workload::pods;

/// How much of the end of a file or of the output is read.
const TAIL_BYTES: i64 = 64 * 1024;
const TAIL_LINES: i64 = 500;
/// Longer lines are no metrics.
const LINE_LENGTH_MAX: usize = 2_048;
/// The most names of metrics kept.
const NAMES_MAX: usize = 100;

/// A line of metrics.
type Line = Map<String, Value>;

/// Reads the end of a job's metrics; `None` if there is nothing to read from.
pub(super) async fn read(client: &Client, job: &TrainingJob) -> Result<Option<Vec<Line>>, Error> {
    let Some(source) = &job.spec.metrics else { return Ok(None) };
    let namespace = job.namespace().unwrap_or_default();
    let role = match &source.role {
        Some(name) => job.spec.roles.iter().find(|role| role.name == *name),
        None => job.spec.roles.first(),
    };
    let Some(role) = role else { return Ok(None) };
    let Some(container) = role.template.spec.as_ref().and_then(|spec| spec.containers.first()) else { return Ok(None) };
    let pod = pods::name(&job.name_any(), &role.name, 0);
    let text = if let Some(path) = &source.file {
        file(client, &namespace, &pod, &container.name, path).await
    } else {
        output(client, &namespace, &pod, &container.name).await
    };
    match text {
        Ok(text) => Ok(Some(parse(&text))),
        // Not written yet, or the pod is gone.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 400 => Ok(None),
        Err(error) => Err(Error::api("read the metrics of", format!("Pod {namespace}/{pod}"))(error)),
    }
}

async fn output(client: &Client, namespace: &str, pod: &str, container: &str) -> Result<String, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let parameters = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(TAIL_LINES),
        limit_bytes: Some(TAIL_BYTES),
        ..LogParams::default()
    };
    api.logs(pod, &parameters).await
}

async fn file(client: &Client, namespace: &str, pod: &str, container: &str, path: &str) -> Result<String, kube::Error> {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("container", container)
        .append_pair("path", path)
        .append_pair("tailBytes", &TAIL_BYTES.to_string())
        .finish();
    let address = format!("/api/v1/namespaces/{namespace}/pods/{pod}/file?{query}");
    let request = http::Request::get(address).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

/// The lines that are JSON objects; a line cut off at the start of the tail is not.
fn parse(text: &str) -> Vec<Line> {
    let lines = text.lines().filter(|line| line.len() <= LINE_LENGTH_MAX && line.trim_start().starts_with('{'));
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Puts the lines into the status: the newest value of each name, and the last lines.
pub(super) fn merge(status: &mut TrainingJobStatus, lines: Vec<Line>) {
    if lines.is_empty() {
        return;
    }
    let newest = status.metrics.get_or_insert_default();
    for (name, value) in lines.iter().flatten() {
        if newest.len() < NAMES_MAX || newest.contains_key(name) {
            newest.insert(name.clone(), value.clone());
        }
    }
    let surplus = lines.len().saturating_sub(METRICS_HISTORY_MAX);
    status.metrics_history = lines.into_iter().skip(surplus).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_json_objects_count() {
        let text = "33, \"loss\": 1}\n{\"epoch\": 1, \"loss\": 0.5}\nstarting\n[1]\n{\"epoch\": 2, \"accuracy\": 0.9}\n{\"epoch\": 3, \"lo";
        let lines = parse(text);
        assert_eq!(lines.len(), 2);
        let mut status = TrainingJobStatus::default();
        merge(&mut status, lines);
        let metrics = Value::Object(status.metrics.expect("metrics"));
        assert_eq!(metrics, serde_json::json!({"epoch": 2, "loss": 0.5, "accuracy": 0.9}));
    }

    #[test]
    fn the_last_lines_are_kept() {
        let text = (0..METRICS_HISTORY_MAX + 5).map(|step| format!("{{\"step\": {step}}}")).collect::<Vec<_>>().join("\n");
        let mut status = TrainingJobStatus::default();
        merge(&mut status, parse(&text));
        assert_eq!(status.metrics_history.len(), METRICS_HISTORY_MAX);
        assert_eq!(status.metrics_history[0]["step"], 5);
        merge(&mut status, Vec::new());
        assert_eq!(status.metrics_history.len(), METRICS_HISTORY_MAX, "nothing read is no reason to forget");
    }
}
