//! `kubectl logs`.

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

fn is_running(pod: &Pod, container: &str, attempt: u32) -> bool {
    container_state(pod, container).is_some_and(|status| {
        status.restart_count.unsigned_abs() == attempt
            && status.state.as_ref().is_some_and(|state| state.terminated.is_none())
            && status.last_state.as_ref().and_then(|last| last.terminated.as_ref()).is_none_or(|last| {
                // A container that waits for its restart shows the ended attempt as its last state.
                status.state.as_ref().is_some_and(|state| state.running.is_some()) || last.container_id.is_none()
            })
    })
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
