//! `kubectl logs`.

use std::cmp::Ordering;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::query::Query;
use super::{Refusal, find_container, find_pod};
use crate::logs::{self, Options};
use crate::pod::Identity;
use crate::pod::container::log_path;
use crate::shared::Shared;

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod_name, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let options = options(&query, Timestamp::now())?;
    let pod = find_pod(&shared, &namespace, &pod_name)?;
    find_container(&pod, &container)?;
    let previous = query.flag("previous")?;
    let directory = shared.layout.pod_logs(&Identity::of(&pod, &shared.name));
    let attempts = attempts(&directory.join(&container));
    let attempt = if previous { attempts.iter().rev().nth(1) } else { attempts.last() };
    let Some(&attempt) = attempt else {
        return Err(no_log(&pod, &container, previous));
    };
    let file = directory.join(log_path(&container, attempt));
    let uid = pod.metadata.uid.clone();
    let is_running = move || {
        let runs =
            shared.pods.find(&namespace, &pod_name).is_some_and(|pod| pod.metadata.uid == uid && is_running(&pod, &container, attempt));
        std::future::ready(runs)
    };
    let chunks = logs::stream(file, options, is_running);
    let body = stream::unfold(chunks, |mut chunks| async move { Some((chunks.recv().await?, chunks)) });
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

fn options(query: &Query, now: Timestamp) -> Result<Options, Refusal> {
    let since_seconds: Option<u64> = query.number("sinceSeconds")?;
    let since_time = query
        .get("sinceTime")
        .map(|text| {
            let wrong = |_| Refusal::bad_request(format!("sinceTime={text}: must be like 2030-01-31T23:59:59Z"));
            text.parse::<Timestamp>().map_err(wrong)
        })
        .transpose()?;
    if since_seconds.is_some() && since_time.is_some() {
        return Err(Refusal::bad_request("give sinceSeconds or sinceTime, not both"));
    }
    let since = since_seconds.map(|seconds| now.saturating_sub(Duration::from_secs(seconds)).unwrap_or(Timestamp::MIN)).or(since_time);
    Ok(Options {
        follow: query.flag("follow")?,
        tail_lines: query.number("tailLines")?,
        since,
        timestamps: query.flag("timestamps")?,
        limit_bytes: query.number("limitBytes")?,
    })
}

/// The attempts that have a log, in order.
fn attempts(directory: &FilePath) -> Vec<u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok()).collect();
    found.sort_unstable();
    found
}

fn container_state<'a>(pod: &'a Pod, container: &str) -> Option<&'a k8s_openapi::api::core::v1::ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.into_iter().find(|status| status.name == container)
}

/// Whether that attempt of a container may still write, as far as the status tells.
fn is_running(pod: &Pod, container: &str, attempt: u32) -> bool {
    let Some(status) = container_state(pod, container).filter(|_| !fermion_api::pod::ended(pod)) else { return false };
    match status.restart_count.unsigned_abs().cmp(&attempt) {
        // The status is older than the log.
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => {
            let state = status.state.clone().unwrap_or_default();
            let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            // One that ended and waits for its restart is its own last state.
            let is_its_last = last.is_some_and(|last| last.container_id == status.container_id);
            state.running.is_some() || (state.waiting.is_some() && !is_its_last)
        }
    }
}

fn no_log(pod: &Pod, container: &str, previous: bool) -> Refusal {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if previous {
        return Refusal::bad_request(format!("container {container} in pod {name} did not run before"));
    }
    let waiting = container_state(pod, container).and_then(|status| status.state.as_ref()?.waiting.as_ref());
    let why = waiting.map_or_else(
        || "it has not run".to_owned(),
        |waiting| {
            let reason = waiting.reason.clone().unwrap_or_default();
            let text = waiting.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default();
            format!("{reason}{text}")
        },
    );
    Refusal::bad_request(format!("container {container} in pod {name} is waiting to start: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn following_ends_with_the_attempt() {
        let running = json!({"running": {}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
        // phase, restart count, state, last state -> attempt 1 may still write
        for (phase, count, state, last, expected) in [
            ("Running", 1, running.clone(), ended("a"), true),
            ("Running", 1, ended("b"), json!(null), false),
            ("Running", 1, waiting.clone(), ended("b"), false),
            ("Running", 1, waiting.clone(), ended("a"), true),
            ("Running", 0, waiting.clone(), ended("a"), true),
            ("Running", 2, running, ended("b"), false),
            ("Failed", 1, waiting, json!(null), false),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "status": {
                "phase": phase,
                "containerStatuses": [{
                    "name": "c", "image": "", "imageID": "", "ready": false, "containerID": "b",
                    "restartCount": count, "state": state, "lastState": last,
                }],
            }}))
            .expect("a pod");
            assert_eq!(is_running(&pod, "c", 1), expected, "{phase} {count} {state} {last}");
        }
    }

    #[test]
    fn options_are_read_or_refused() {
        let now = Timestamp::from_second(1000).expect("in range");
        let read = |query: &str| options(&Query::parse(Some(query)), now);
        let all = read("follow=true&tailLines=5&sinceSeconds=10&timestamps=1&limitBytes=7").expect("fine");
        let since = Timestamp::from_second(990).ok();
        assert_eq!(all, Options { follow: true, tail_lines: Some(5), since, timestamps: true, limit_bytes: Some(7) });
        for wrong in ["tailLines=-1", "tailLines=x", "sinceTime=now", "sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z", "follow=maybe"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
