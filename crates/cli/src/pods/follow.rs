//! Reads one container's log, as it grows and across broken connections.

use std::time::Duration;

use futures::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::lines::{self, Place};
use super::state::{container, container_finished, container_started};
use crate::failure::{Attempt as _, Failure, Outcome};

/// How often a container that has not started is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
/// First and longest pause before a broken stream is taken up again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a server may be away before following it is given up.
const AWAY_MAX: Duration = Duration::from_secs(600);

/// From where a log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// Only this many of the newest lines.
    pub(crate) tail: Option<i64>,
    /// Only lines of this many last seconds.
    pub(crate) since_s: Option<i64>,
}

/// A container whose log is read.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    pub(crate) api: Api<Pod>,
    pub(crate) pod: String,
    pub(crate) container: String,
    /// Number of this reader, handed back with each line.
    pub(crate) number: usize,
}

/// A line and the number of its reader.
pub(crate) type Numbered = (usize, Vec<u8>);

/// How a stream ended.
enum Ended {
    /// The server closed it in order.
    Whole,
    Broken,
    /// Nobody takes the lines any more.
    Unwanted,
}

impl Follow {
    /// Reads what there is.
    pub(crate) async fn once(&self, start: Start, previous: bool, lines: &mpsc::Sender<Numbered>) -> Outcome<()> {
        let parameters = LogParams { previous, ..self.parameters(start) };
        let mut stream = self.api.log_stream(&self.pod, &parameters).await.attempt(|| self.what())?;
        let broken = |error: std::io::Error| Failure::new(self.what()).because(error);
        while let Some(line) = lines::next(&mut stream).await.map_err(broken)? {
            if lines.send((self.number, line.text)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Reads until the container has ended for good or its pod is gone. A server that goes
    /// away meanwhile is waited for.
    pub(crate) async fn to_the_end(&self, start: Start, lines: &mpsc::Sender<Numbered>) -> Outcome<()> {
        let mut place = Place::default();
        let mut uid: Option<String> = None;
        let mut restarts = 0;
        let mut trouble = Trouble::default();
        loop {
            let pod = match self.api.get_opt(&self.pod).await {
                Ok(pod) => pod,
                Err(error) => {
                    trouble.wait(error, &|| self.what()).await?;
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
                Err(kube::Error::Api(status)) if finished => return Err(Failure::of_request(self.what(), kube::Error::Api(status))),
                Err(error) => trouble.wait(error, &|| self.what()).await?,
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
        lines: &mpsc::Sender<Numbered>,
    ) -> Result<Ended, kube::Error> {
        let mut parameters = LogParams { previous, follow, timestamps: true, ..self.parameters(start) };
        if let Some(since) = place.since() {
            parameters = LogParams { since_time: Some(since), since_seconds: None, tail_lines: None, ..parameters };
        }
        let stream = self.api.log_stream(&self.pod, &parameters).await?;
        Ok(self.pass_on(stream, place, lines).await)
    }

    async fn pass_on(&self, stream: impl AsyncBufRead, place: &mut Place, lines: &mpsc::Sender<Numbered>) -> Ended {
        let mut stream = std::pin::pin!(stream);
        let mut catching = place.catching_up();
        loop {
            match lines::next(&mut stream).await {
                Ok(Some(line)) => {
                    if catching.is_new(&line) {
                        place.advance(&line);
                        if lines.send((self.number, line.text)).await.is_err() {
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

    fn what(&self) -> String {
        format!("cannot read the log of container `{}` of pod `{}`", self.container, self.pod)
    }
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
    async fn wait(&mut self, error: kube::Error, what: &(dyn Fn() -> String + Sync)) -> Outcome<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !passes(&error) || since.elapsed() > AWAY_MAX {
            return Err(Failure::of_request(what(), error));
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
