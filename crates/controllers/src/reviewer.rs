//! What would become of work that somebody thinks of submitting: whether it would start, and if not,
//! why, and what would help, in the words in which work that waits is told.
//!
//! What is made of an object is made by the controller of its kind, what its pods become by the API
//! (which is asked to make one of each set as a trial), and where they would go by the scheduler's own
//! plan ([`foresight`](crate::scheduler::foresight)). Nothing is written.
//!
//! On the server that leads, the scheduler's copies are looked at, with what it knows beside. Others
//! keep copies of their own from the first question on, for as long as questions come.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fermion_api::ai::{DevEnvironment, InferenceService, TrainingJob, Workload};
use fermion_api::compute::SchedulingReviewStatus;
use fermion_api::compute::scheduling_review::Outcome;
use fermion_api::reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::Shutdown;
use crate::error::chain;
use crate::scheduler::foresight::{Ask, Foreseen, Known, Tried, foresee};
use crate::scheduler::view::Copies;
use crate::workload::pods;
use crate::{dev_environment, inference_service, training_job};

/// How many questions are answered at the same time: each plans on all there is.
const REVIEWS_AT_ONCE: usize = 2;
/// How many may wait for an answer or be answered; a person asks again in a moment.
const REVIEWS_ASKED_MAX: usize = 64;
/// The most pods of an object that is asked about: as many as one set may have.
const PODS_MAX: i64 = fermion_api::ai::REPLICAS_MAX as i64;
/// How long an answer may take, what is copied first included. A request may take a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long copies of one's own are kept after the last question.
const COPIES_KEPT_FOR: Duration = Duration::from_mins(10);

/// Tells what would become of work. Clones are the same one.
#[derive(Clone)]
pub struct Reviewer {
    shared: Arc<Shared>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// As many questions wait as may.
    #[error("{REVIEWS_ASKED_MAX} questions wait for an answer; ask again in a moment")]
    Busy,
    /// The work has too many pods.
    #[error("it has {pods} pods, and no more than {PODS_MAX} can be asked about")]
    TooLarge { pods: i64 },
    /// It cannot be told now.
    #[error("it cannot be told now what would become of it: {story}; ask again in a moment")]
    NotNow { story: String },
}

impl Unanswered {
    fn not_now(story: impl Into<String>) -> Self {
        Self::NotNow { story: story.into() }
    }
}

struct Shared {
    client: Client,
    sources: Mutex<Sources>,
    places: Arc<Semaphore>,
    asked: AtomicUsize,
}

/// Where it is seen what there is.
#[derive(Default)]
struct Sources {
    leading: Option<Leading>,
    /// Tells one lead from the next.
    leads: u64,
    own: Option<OwnCopies>,
}

/// A scheduler that runs here.
struct Leading {
    number: u64,
    copies: Copies,
    ask: mpsc::Sender<Ask>,
}

/// Copies of this server's own. They are kept up to date until the sender goes.
struct OwnCopies {
    copies: Copies,
    used_at: Instant,
    _stop: watch::Sender<bool>,
}

/// As long as it is kept, a scheduler runs here.
pub(crate) struct Lead {
    reviewer: Reviewer,
    number: u64,
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut sources = self.reviewer.sources();
        if sources.leading.as_ref().is_some_and(|leading| leading.number == self.number) {
            sources.leading = None;
        }
    }
}

/// A question that waits or is answered.
struct Asked(Arc<Shared>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Reviewer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reviewer").finish_non_exhaustive()
    }
}

impl Reviewer {
    /// One that sees the API through this client, which needs every right: this is the platform itself.
    pub fn new(client: Client) -> Self {
        let (sources, places) = (Mutex::default(), Arc::new(Semaphore::new(REVIEWS_AT_ONCE)));
        Self { shared: Arc::new(Shared { client, sources, places, asked: AtomicUsize::new(0) }) }
    }

    /// A scheduler runs here, looks at these copies, and tells what it knows beside.
    pub(crate) fn lead(&self, copies: Copies, ask: mpsc::Sender<Ask>) -> Lead {
        let mut sources = self.sources();
        sources.leads += 1;
        let number = sources.leads;
        sources.leading = Some(Leading { number, copies, ask });
        sources.own = None;
        Lead { reviewer: self.clone(), number }
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.shared.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What would become of an object that was admitted and is not stored.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn review(&self, object: Value) -> Result<SchedulingReviewStatus, Unanswered> {
        if self.shared.asked.fetch_add(1, Ordering::AcqRel) >= REVIEWS_ASKED_MAX {
            self.shared.asked.fetch_sub(1, Ordering::AcqRel);
            return Err(Unanswered::Busy);
        }
        let _asked = Asked(Arc::clone(&self.shared));
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.answer(object)).await;
        answer.unwrap_or_else(|_| Err(Unanswered::not_now(format!("that took longer than {} s", ANSWER_TIMEOUT.as_secs()))))
    }

    async fn answer(&self, object: Value) -> Result<SchedulingReviewStatus, Unanswered> {
        let now = Timestamp::now();
        let name = object["metadata"]["name"].as_str().map(str::to_owned);
        let status = |outcome, reason: Option<&str>, message: String| SchedulingReviewStatus {
            outcome,
            name: name.clone(),
            queue: None,
            reason: reason.map(str::to_owned),
            message,
            waiting: None,
        };
        let place = Arc::clone(&self.shared.places).acquire_owned().await.map_err(|_| Unanswered::not_now("the server stops"))?;
        let copies = self.copies();
        copies.filled().await.map_err(|error| Unanswered::not_now(chain(&error)))?;
        let work = Work::of(object, now)?;
        if work.is_suspended() {
            return Ok(status(
                Outcome::Idle,
                Some(reason::SUSPENDED),
                "it is suspended, and nothing of it starts until it is resumed".to_owned(),
            ));
        }
        let tried = match self.tried(&work, &copies, now).await? {
            Ok(tried) => tried,
            Err((code, message)) => return Ok(status(Outcome::Refused, Some(code), message)),
        };
        let known = self.known(&copies).await?;
        let pods = tried.pods.len();
        // The place is given back when the plan is made, also if nobody waits for it any more.
        let planned = tokio::task::spawn_blocking(move || {
            let _place = place;
            foresee(&copies, &known, &tried, Timestamp::now())
        });
        let Foreseen { queue, placed, waiting } = planned.await.map_err(|error| Unanswered::not_now(error.to_string()))?;
        let answer = match &waiting {
            _ if placed == pods && pods > 0 => status(Outcome::Starts, None, "it starts: all its pods have a place now".to_owned()),
            _ if placed > 0 => status(Outcome::Starts, None, format!("it starts: {placed} of its {pods} pods have a place now")),
            Some(waiting) => status(Outcome::Waits, Some(&waiting.reason), waiting.message.clone()),
            None => status(Outcome::Idle, None, "there is nothing to start: no pod of it waits for a node of this scheduler".to_owned()),
        };
        Ok(SchedulingReviewStatus { queue, waiting, ..answer })
    }

    /// The pods of work as the API would take them, or code and sentence of why it would not.
    async fn tried(&self, work: &Work, copies: &Copies, now: Timestamp) -> Result<Result<Tried, (&'static str, String)>, Unanswered> {
        let workload = match work {
            Work::Pod(pod) => return Ok(Ok(Tried { workload: None, pods: vec![Arc::new((**pod).clone())] })),
            Work::Own(workload) | Work::Made(workload) => workload,
        };
        let namespace = workload.namespace().unwrap_or_default();
        let sum = workload.spec.pod_sets.iter().map(|set| i64::from(set.replicas)).sum();
        if sum > PODS_MAX {
            return Err(Unanswered::TooLarge { pods: sum });
        }
        if matches!(work, Work::Made(_)) && copies.workloads.get(&namespace, &workload.name_any()).is_some() {
            let message = format!("it needs the name of Workload {namespace}/{}, which belongs to somebody else", workload.name_any());
            return Ok(Err((reason::NAME_TAKEN, message)));
        }
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &namespace);
        let trial = PostParams { dry_run: true, field_manager: None };
        let mut all: Vec<Arc<Pod>> = Vec::new();
        let mut like: Option<(&str, Pod)> = None;
        for wanted in pods::wanted(workload) {
            if copies.pods.get(&namespace, &wanted.name).is_some() {
                let message = format!("cannot make pod {}: another pod has that name; delete it or rename this", wanted.name);
                return Ok(Err((reason::NAME_TAKEN, message)));
            }
            let mut pod = pods::make(workload, &wanted);
            if like.as_ref().is_none_or(|(set, _)| *set != wanted.set.name) {
                match api.create(&trial, &pod).await {
                    Ok(taken) => like = Some((&wanted.set.name, taken)),
                    Err(kube::Error::Api(refusal)) if (400..500).contains(&refusal.code) && refusal.code != 429 => {
                        return Ok(Err((reason::REFUSED, format!("cannot make pod {}: {}", wanted.name, refusal.message))));
                    }
                    Err(error) => return Err(Unanswered::not_now(chain(&error))),
                }
            }
            // What the API makes of one it makes of all that are alike.
            if let Some((_, taken)) = &like {
                pod.spec.clone_from(&taken.spec);
            }
            pod.metadata.uid = Some(format!("{}/{}", workload.uid().unwrap_or_default(), wanted.name));
            pod.metadata.creation_timestamp = Some(Time(now));
            all.push(Arc::new(pod));
        }
        Ok(Ok(Tried { workload: Some(Arc::new((**workload).clone())), pods: all }))
    }

    /// The copies that are looked at.
    fn copies(&self) -> Copies {
        let mut sources = self.sources();
        if let Some(leading) = &sources.leading {
            return leading.copies.clone();
        }
        let own = sources.own.get_or_insert_with(|| self.begin_copies());
        own.used_at = Instant::now();
        own.copies.clone()
    }

    /// Begins to keep copies, and sees to it that it ends.
    fn begin_copies(&self) -> OwnCopies {
        let (stop, stopped) = watch::channel(false);
        let copies = Copies::alone();
        tokio::spawn(copies.clone().run(self.shared.client.clone(), Shutdown::new(stopped.clone())));
        let reviewer = self.clone();
        tokio::spawn(async move {
            let mut due = Instant::now() + COPIES_KEPT_FOR;
            let gone = Shutdown::new(stopped).requested();
            let mut gone = std::pin::pin!(gone);
            loop {
                tokio::select! {
                    () = &mut gone => return,
                    () = tokio::time::sleep_until(due) => {}
                }
                let mut sources = reviewer.sources();
                match &sources.own {
                    Some(own) if own.used_at.elapsed() < COPIES_KEPT_FOR => due = own.used_at + COPIES_KEPT_FOR,
                    _ => {
                        sources.own = None;
                        return;
                    }
                }
            }
        });
        OwnCopies { copies, used_at: Instant::now(), _stop: stop }
    }

    /// What the scheduler knows beside the objects, where it runs here.
    async fn known(&self, copies: &Copies) -> Result<Known, Unanswered> {
        let ask = self.sources().leading.as_ref().map(|leading| leading.ask.clone());
        let Some(ask) = ask else {
            let known = Known::at_first(self.shared.client.clone(), copies).await;
            return known.map_err(|error| Unanswered::not_now(chain(&error)));
        };
        let starts = || Unanswered::not_now("the scheduler is being started");
        let (answer, known) = oneshot::channel();
        ask.send(answer).await.map_err(|_| starts())?;
        known.await.map_err(|_| starts())
    }
}

/// What would be placed.
enum Work {
    Pod(Box<Pod>),
    /// A Workload that somebody writes.
    Own(Box<Workload>),
    /// One that is made of something else.
    Made(Box<Workload>),
}

impl Work {
    /// What the controller of its kind makes of an object that is new.
    fn of(object: Value, now: Timestamp) -> Result<Self, Unanswered> {
        fn read<K: DeserializeOwned>(object: Value) -> Result<K, Unanswered> {
            serde_json::from_value(object).map_err(|error| Unanswered::not_now(error.to_string()))
        }
        let metadata = object["metadata"].clone();
        let mut workload = match object["kind"].as_str().unwrap_or_default() {
            "Pod" => return Ok(Self::Pod(Box::new(read(object)?))),
            "Workload" => return Ok(Self::Own(Box::new(read(object)?))),
            "TrainingJob" => training_job::first_workload(&read::<TrainingJob>(object)?, now),
            "DevEnvironment" => dev_environment::first_workload(&read::<DevEnvironment>(object)?, now),
            "InferenceService" => inference_service::first_workload(&read::<InferenceService>(object)?, now),
            other => return Err(Unanswered::not_now(format!("nothing is known of the kind {other}"))),
        };
        // As if it were made in the same moment.
        workload.metadata.uid = metadata["uid"].as_str().map(str::to_owned);
        workload.metadata.creation_timestamp = Some(Time(now));
        Ok(Self::Made(Box::new(workload)))
    }

    fn is_suspended(&self) -> bool {
        match self {
            Self::Pod(_) => false,
            Self::Own(workload) | Self::Made(workload) => workload.spec.suspend || workload.spec.closed.is_some(),
        }
    }
}
