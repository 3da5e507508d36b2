//! Pods of the platform, submitted and watched over HTTP.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{COMMAND, STEP_TIMEOUT};
use crate::platform::{Http, Lines, Platform};
use crate::target::Target as _;

const NAMESPACE: &str = "bench-start";

pub(super) struct Pods {
    http: Http,
    events: Lines,
    image: String,
}

fn collection() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

impl Pods {
    pub(super) async fn open(platform: &Platform, image: &str) -> anyhow::Result<Self> {
        platform.prepare(NAMESPACE).await?;
        let mut http = platform.connect().await?;
        let list = http.call(Method::GET, &collection(), Bytes::new(), StatusCode::OK).await?;
        let list: Value = serde_json::from_slice(&list).context("a list is JSON")?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list has a version")?;
        let events = platform.watch_lines(&collection(), version).await?;
        Ok(Self { http, events, image: image.to_owned() })
    }

    /// Submits a pod and waits until a watch says that its container runs.
    pub(super) async fn start(&mut self, name: &str) -> anyhow::Result<Duration> {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": self.image, "imagePullPolicy": "IfNotPresent", "command": COMMAND}],
            },
        });
        let begun = Instant::now();
        self.http.call(Method::POST, &collection(), pod.to_string().into(), StatusCode::CREATED).await?;
        self.event(name, "its container to run", |_, pod| pod["status"]["containerStatuses"][0]["state"]["running"].is_object()).await?;
        Ok(begun.elapsed())
    }

    /// Deletes a pod and waits until it is gone.
    pub(super) async fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.http.call(Method::DELETE, &format!("{}/{name}", collection()), Bytes::new(), StatusCode::OK).await?;
        self.event(name, "it to be gone", |type_, _| type_ == "DELETED").await
    }

    async fn event(&mut self, name: &str, what: &str, is_it: impl Fn(&str, &Value) -> bool) -> anyhow::Result<()> {
        let mut last = Value::Null;
        let wait = async {
            while let Some(line) = self.events.next().await? {
                let mut event: Value = serde_json::from_slice(&line).context("a watch's line is JSON")?;
                let pod = event["object"].take();
                if pod["metadata"]["name"] != name {
                    continue;
                }
                if is_it(event["type"].as_str().unwrap_or_default(), &pod) {
                    return Ok(());
                }
                last = pod;
            }
            anyhow::bail!("the watch ended")
        };
        let waited = tokio::time::timeout(STEP_TIMEOUT, wait).await;
        waited.with_context(|| format!("waited {} s for pod {name}: {what}; it was last {}", STEP_TIMEOUT.as_secs(), last["status"]))?
    }
}
