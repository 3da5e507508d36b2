//! The log of one container, as it grows and across broken connections and restarts.

mod lines;

use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use futures::{AsyncBufRead, FutureExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::containers::{container, container_finished, container_started};
use lines::Place;

/// How often a container that has not started is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
/// First and longest pause before a broken stream is taken up again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a server may be away before following it is given up.
const AWAY_MAX: Duration = Duration::from_mins(10);
/// Lines that wait for the caller before reading stops.
const LINES_WAITING_MAX: usize = 64;

/// From where a log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Only this many of the newest lines.
    pub tail: Option<i64>,
    /// Only lines of this many last seconds.
    pub since_s: Option<i64>,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The server refused, or stayed away for too long.
    #[error("cannot read the log of container `{container}` of pod `{pod}`")]
    Refused {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// What the server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The connection broke.
    #[error("cannot read the log of container `{container}` of pod `{pod}`")]
    Broken {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
}

/// A container whose log is read. Lines come without their end, as the container wrote them; very
/// long ones are cut.
///
/// ```
/// # fermion_testkit::with_server(async |server| {
/// # let client = fermion_client::Client::from_home(server.home()).await?;
/// # server.run_pod("digits-worker-0", &["epoch 1", "epoch 2"]).await?;
/// # server.end_pod("digits-worker-0").await?;
/// use fermion_client::Log;
/// use fermion_client::logs::Start;
/// use futures::TryStreamExt as _;
///
/// let log = Log::new(client.pods(), "digits-worker-0", "main");
/// // Until the container has ended for good.
/// let lines: Vec<Vec<u8>> = log.follow(Start::default()).try_collect().await?;
/// assert_eq!(lines, [b"epoch 1", b"epoch 2"]);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Log {
    api: Api<Pod>,
    pod: String,
    container: String,
}

/// How a stream ended.
enum Ended {
    /// The server closed it in order.
    Whole,
    Broken,
    /// Nobody takes the lines any more.
    Unwanted,
}

impl Log {
    /// Of a container of a pod.
    pub fn new(api: Api<Pod>, pod: impl Into<String>, container: impl Into<String>) -> Self {
        Self { api, pod: pod.into(), container: container.into() }
    }

    /// What there is now; or, if `previous`, what there was before the container's last restart.
    pub fn now(&self, start: Start, previous: bool) -> impl Stream<Item = Result<Vec<u8>, LogError>> + Send + use<'_> {
        read(move |lines| async move { self.once(start, previous, &lines).await })
    }

    /// Reads until the container has ended for good or its pod is gone. A server that goes away
    /// meanwhile is waited for; no line is lost or repeated by that.
    pub fn follow(&self, start: Start) -> impl Stream<Item = Result<Vec<u8>, LogError>> + Send + use<'_> {
        read(move |lines| async move { self.to_the_end(start, &lines).await })
    }

    async fn once(&self, start: Start, previous: bool, lines: &mpsc::Sender<Vec<u8>>) -> Result<(), LogError> {
        let parameters = LogParams { previous, ..self.parameters(start) };
        let mut stream = self.api.log_stream(&self.pod, &parameters).await.map_err(|error| self.refused(error))?;
        let broken = |source| LogError::Broken { pod: self.pod.clone(), container: self.container.clone(), source };
        while let Some(line) = lines::next(&mut stream).await.map_err(broken)? {
            if lines.send(line.text).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn to_the_end(&self, start: Start, lines: &mpsc::Sender<Vec<u8>>) -> Result<(), LogError> {
        let mut place = Place::default();
        let mut uid: Option<String> = None;
        let mut restarts = 0;
        let mut trouble = Trouble::default();
        loop {
            let pod = match self.api.get_opt(&self.pod).await {
                Ok(pod) => pod,
                Err(error) => {
                    trouble.wait(error).await.map_err(|error| self.refused(error))?;
                    continue;
                }
            };
            let Some(pod) = pod else { return Ok(()) };
            if uid.get_or_insert_with(|| pod.uid().unwrap_or_default()) != pod.uid().unwrap_or_default().as_str() {
                // Another pod took the name; its log is another log.
                return Ok(());
            }
            let finished = container_finished(&pod, &self.container);
            if !container_started(&pod, &self.container) {
                if finished {
                    return Ok(());
                }
                sleep(LOOK_INTERVAL).await;
                continue;
            }
            let restarts_now = container(&pod, &self.container).map_or(0, |status| status.restart_count);
            if restarts_now > restarts && place != Place::default() {
                // The container was restarted while we were not reading: first the rest of
                // what the one before wrote. The node may have dropped that already.
                let _ = self.stream(start, true, false, &mut place, lines).await;
            }
            restarts = restarts_now;
            match self.stream(start, false, !finished, &mut place, lines).await {
                Ok(Ended::Unwanted) => return Ok(()),
                Ok(Ended::Whole) if finished => return Ok(()),
                Ok(Ended::Whole) => {
                    trouble = Trouble::default();
                    sleep(LOOK_INTERVAL).await;
                }
                Ok(Ended::Broken) => sleep(RETRY_PAUSE).await,
                Err(kube::Error::Api(status)) if finished => return Err(self.refused(kube::Error::Api(status))),
                Err(error) => trouble.wait(error).await.map_err(|error| self.refused(error))?,
            }
        }
    }

    /// One stream from the place on.
    async fn stream(
        &self,
        start: Start,
        previous: bool,
        follow: bool,
        place: &mut Place,
        lines: &mpsc::Sender<Vec<u8>>,
    ) -> Result<Ended, kube::Error> {
        let mut parameters = LogParams { previous, follow, timestamps: true, ..self.parameters(start) };
        if let Some(since) = place.since() {
            parameters = LogParams { since_time: Some(since), since_seconds: None, tail_lines: None, ..parameters };
        }
        let stream = self.api.log_stream(&self.pod, &parameters).await?;
        Ok(self.pass_on(stream, place, lines).await)
    }

    async fn pass_on(&self, stream: impl AsyncBufRead, place: &mut Place, lines: &mpsc::Sender<Vec<u8>>) -> Ended {
        let mut stream = std::pin::pin!(stream);
        let mut catching = place.catching_up();
        loop {
            match lines::next(&mut stream).await {
                Ok(Some(line)) => {
                    if catching.is_new(&line) {
                        place.advance(&line);
                        if lines.send(line.text).await.is_err() {
                            return Ended::Unwanted;
                        }
                    }
                }
                Ok(None) => return Ended::Whole,
                Err(_) => return Ended::Broken,
            }
        }
    }

    fn parameters(&self, start: Start) -> LogParams {
        LogParams { container: Some(self.container.clone()), tail_lines: start.tail, since_seconds: start.since_s, ..LogParams::default() }
    }

    fn refused(&self, error: kube::Error) -> LogError {
        LogError::Refused { pod: self.pod.clone(), container: self.container.clone(), source: Box::new(error) }
    }
}

/// A stream of the lines that a reader sends, and of its error if it ends with one. The reader works
/// while the stream is asked for lines; dropping the stream ends it.
fn read<F>(reader: impl FnOnce(mpsc::Sender<Vec<u8>>) -> F) -> impl Stream<Item = Result<Vec<u8>, LogError>> + Send
where
    F: Future<Output = Result<(), LogError>> + Send,
{
    let (sender, mut receiver) = mpsc::channel(LINES_WAITING_MAX);
    let reading = reader(sender).into_stream().filter_map(|ended| std::future::ready(ended.err().map(Err)));
    let lines = stream::poll_fn(move |context| receiver.poll_recv(context)).map(Ok);
    // Lines first, so that an error comes after everything that was read before it.
    stream::select_with_strategy(lines, reading, |(): &mut ()| stream::PollNext::Left)
}

/// Requests that fail one after the other.
struct Trouble {
    since: Option<Instant>,
    pause: Duration,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { since: None, pause: RETRY_PAUSE }
    }
}

impl Trouble {
    /// Waits before the next attempt, or gives up.
    async fn wait(&mut self, error: kube::Error) -> Result<(), kube::Error> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !passes(&error) || since.elapsed() > AWAY_MAX {
            return Err(error);
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY_PAUSE_MAX);
        Ok(())
    }
}

/// Whether the same request may succeed a little later.
fn passes(error: &kube::Error) -> bool {
    match error {
        // 400: the container is between two states and has no log just now.
        kube::Error::Api(status) => matches!(status.code, 400 | 404 | 409 | 429 | 500 | 502 | 503 | 504),
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::{Body, Bytes};
    use axum::extract::{RawQuery, State};
    use axum::response::IntoResponse;
    use axum::routing::get;
    use axum::{Json, Router};
    use futures::TryStreamExt as _;
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    /// A server that goes away in the middle of lines, of requests and of the log.
    #[derive(Default)]
    struct Unreliable {
        streams: AtomicUsize,
        looks: AtomicUsize,
        /// How often the log is cut before it is given whole.
        cuts: usize,
    }

    const LOG: [&str; 6] = [
        "2026-01-01T00:00:01.5Z one",
        "2026-01-01T00:00:02.1Z two",
        "2026-01-01T00:00:02.1Z two again",
        "2026-01-01T00:00:02.1Z two at last",
        "2026-01-01T00:00:03Z three",
        "2026-01-01T00:00:09Z end",
    ];

    async fn pod(State(server): State<Arc<Unreliable>>) -> impl IntoResponse {
        if server.looks.fetch_add(1, Ordering::SeqCst) == 1 {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(json!({"kind": "Status", "status": "Failure", "code": 503, "reason": "", "message": "starting"})),
            );
        }
        let ended = server.streams.load(Ordering::SeqCst) > server.cuts;
        let state: Value = if ended { json!({"terminated": {"exitCode": 0}}) } else { json!({"running": {}}) };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a-0", "namespace": "n", "uid": "u"},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state},
            ]},
        });
        (StatusCode::OK, Json(pod))
    }

    async fn log(State(server): State<Arc<Unreliable>>, RawQuery(query): RawQuery) -> impl IntoResponse {
        let query: std::collections::HashMap<String, String> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        assert_eq!(query["timestamps"], "true");
        let since = query.get("sinceTime").map(|since| since.parse::<jiff::Timestamp>().expect("a time"));
        let lines = LOG.iter().filter(|line| {
            let at = line.split(' ').next().and_then(|at| at.parse::<jiff::Timestamp>().ok());
            since.is_none_or(|since| at >= Some(since))
        });
        let whole: String = lines.flat_map(|line| [*line, "\n"]).collect();
        let number = server.streams.fetch_add(1, Ordering::SeqCst);
        if number >= server.cuts {
            return Body::from(whole);
        }
        // In the middle of a line, a little further each time.
        let cut = whole.len().min(40 + 17 * number);
        let part = Bytes::from(whole[..cut].to_owned());
        let stream = futures::stream::iter([Ok(part), Err(std::io::Error::other("the server was killed"))]);
        Body::from_stream(stream)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_killed_costs_no_line_and_repeats_none() {
        for cuts in 0..6 {
            let server = Arc::new(Unreliable { cuts, ..Unreliable::default() });
            let router = Router::new()
                .route("/api/v1/namespaces/n/pods/a-0", get(pod))
                .route("/api/v1/namespaces/n/pods/a-0/log", get(log))
                .with_state(server);
            let client = kube::Client::new(router, "n");
            let log = Log::new(Api::namespaced(client, "n"), "a-0", "main");
            let lines: Vec<Vec<u8>> = log.follow(Start::default()).try_collect().await.expect("it ends");
            let read: Vec<String> = lines.into_iter().map(|line| String::from_utf8(line).expect("text")).collect();
            assert_eq!(read, ["one", "two", "two again", "two at last", "three", "end"], "{cuts} cuts");
        }
    }
}
