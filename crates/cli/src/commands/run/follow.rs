//! Follows a job: why it waits, what its replicas print, how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fermion_api::ai::training_job::Phase;
use fermion_api::ai::{TrainingJob, TrainingJobStatus, Workload};
use fermion_api::assets::Image;
use fermion_api::{conditions, labels};
use fermion_client::Log;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::commands::logs::{LINES_WAITING_MAX, STREAMS_MAX};
use crate::connection::Session;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{self, Progress, Style};
use crate::pods::{Follow, Printer, Start, container_names, container_started, why_waiting};

/// How long the logs may take to end after the job has.
const DRAIN_WAIT: Duration = Duration::from_secs(20);

/// A change of something the job depends on.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, and is taken apart at once")]
enum Change {
    Job(Event<TrainingJob>),
    Workload(Event<Workload>),
    Pod(Event<Pod>),
    Image(Event<Image>),
}

/// What is known of the job.
struct View {
    name: String,
    job: TrainingJob,
    gone: bool,
    workload: Option<Workload>,
    pods: BTreeMap<String, Pod>,
    images: BTreeMap<String, Image>,
}

/// Readers of the logs.
struct Readers {
    api: Api<Pod>,
    job: String,
    tasks: JoinSet<Outcome<()>>,
    /// Containers that have a reader, by the pod's UID.
    known: BTreeSet<(String, String)>,
    /// What their lines are called.
    origins: Vec<String>,
    sender: mpsc::Sender<(usize, Vec<u8>)>,
    told_of_limit: bool,
}

pub(crate) async fn to_the_end(session: &Session, job: &TrainingJob) -> Outcome<Exit> {
    let name = job.name_any();
    let mut changes = changes(session, &name);
    let mut view = View::new(job);
    let mut progress = Progress::new();
    let (sender, mut lines) = mpsc::channel(LINES_WAITING_MAX);
    let mut readers = Readers {
        api: Api::namespaced(session.client.clone(), &session.namespace),
        job: name.clone(),
        tasks: JoinSet::new(),
        known: BTreeSet::new(),
        origins: Vec::new(),
        sender,
        told_of_limit: false,
    };
    let replicas: i32 = job.spec.roles.iter().map(|role| role.replicas).sum();
    let mut printer = Printer::new(std::io::stdout(), Style::of_stdout(), replicas > 1);
    while !view.ended() {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(change)) => view.take(change),
                Some(Err(error)) => view.trouble(error, &mut progress)?,
                None => return Err(Failure::new(format!("cannot go on following job `{name}`")).hint(reattach(session, &name))),
            },
            Some((number, line)) = lines.recv() => {
                progress.clear();
                printer.line(number, &readers.origins[number], &line)?;
                continue;
            }
            Some(ended) = readers.tasks.join_next() => {
                tell_reader(ended);
                continue;
            }
            _ = tokio::signal::ctrl_c() => {
                progress.clear();
                output::note(&format!("\nstopped following; job {name} goes on. {}", reattach(session, &name)));
                return Ok(Exit::Interrupted);
            }
        }
        readers.add(&view);
        if let Some(text) = view.waits_for() {
            progress.say(&text);
        }
    }
    // Pods that came and went between two looks have logs too.
    readers.add(&view);
    let drain = async {
        loop {
            tokio::select! {
                biased;
                Some((number, line)) = lines.recv() => {
                    progress.clear();
                    printer.line(number, &readers.origins[number], &line)?;
                }
                ended = readers.tasks.join_next() => match ended {
                    Some(ended) => tell_reader(ended),
                    None => break,
                },
            }
        }
        while let Ok((number, line)) = lines.try_recv() {
            printer.line(number, &readers.origins[number], &line)?;
        }
        Ok::<_, Failure>(())
    };
    match tokio::time::timeout(DRAIN_WAIT, drain).await {
        Ok(drained) => drained?,
        Err(_) => output::note(&format!("the logs did not end in time; the rest: {}", reattach(session, &name))),
    }
    progress.clear();
    view.result()
}

fn reattach(session: &Session, name: &str) -> String {
    let place = &session.namespace;
    format!("Follow it again: fermion logs -n {place} -f job/{name}. Stop it: fermion delete -n {place} trainingjob {name}")
}

/// A reader's own trouble does not end the job.
fn tell_reader(ended: Result<Outcome<()>, tokio::task::JoinError>) {
    if let Ok(Err(error)) = ended {
        output::note(error.to_string().trim_end());
    }
}

type Changes = BoxStream<'static, Result<Change, watcher::Error>>;

/// Every change of the job, its workload and pods, and of images being built.
fn changes(session: &Session, name: &str) -> Changes {
    let (client, namespace) = (session.client.clone(), session.namespace.as_str());
    let mine = watcher::Config::default().labels(&format!("{}={name}", labels::TRAINING_JOB));
    let only_job = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let job = watch(Api::<TrainingJob>::namespaced(client.clone(), namespace), only_job);
    let workloads = watch(Api::<Workload>::namespaced(client.clone(), namespace), mine.clone());
    let pods = watch(Api::<Pod>::namespaced(client.clone(), namespace), mine);
    // People who may not see images just do not see their progress.
    let images = watch(Api::<Image>::all(client), watcher::Config::default())
        .default_backoff()
        .filter(|image| futures::future::ready(image.is_ok()));
    stream::select_all([
        patient(job, Change::Job),
        patient(workloads, Change::Workload),
        patient(pods, Change::Pod),
        images.map(|image| image.map(Change::Image)).boxed(),
    ])
    .boxed()
}

fn patient<K: Send + 'static>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    into: fn(Event<K>) -> Change,
) -> Changes {
    events.default_backoff().map(move |event| event.map(into)).boxed()
}

impl View {
    fn new(job: &TrainingJob) -> Self {
        Self { name: job.name_any(), job: job.clone(), gone: false, workload: None, pods: BTreeMap::new(), images: BTreeMap::new() }
    }

    fn take(&mut self, change: Change) {
        match change {
            // Another job may have taken the name; ours is gone then.
            Change::Job(Event::Apply(job) | Event::InitApply(job)) if job.uid() == self.job.uid() => self.job = job,
            Change::Job(Event::Apply(_) | Event::InitApply(_) | Event::Delete(_)) => self.gone = true,
            Change::Workload(Event::Apply(workload) | Event::InitApply(workload)) => self.workload = Some(workload),
            Change::Workload(Event::Delete(_)) => self.workload = None,
            Change::Pod(Event::Init) => self.pods.clear(),
            Change::Pod(Event::Apply(pod) | Event::InitApply(pod)) => {
                self.pods.insert(pod.name_any(), pod);
            }
            Change::Pod(Event::Delete(pod)) => {
                self.pods.remove(&pod.name_any());
            }
            Change::Image(Event::Apply(image) | Event::InitApply(image)) => {
                self.images.insert(image.spec.reference.clone(), image);
            }
            Change::Image(Event::Delete(image)) => {
                self.images.remove(&image.spec.reference);
            }
            Change::Job(Event::Init | Event::InitDone)
            | Change::Workload(Event::Init | Event::InitDone)
            | Change::Pod(Event::InitDone)
            | Change::Image(Event::Init | Event::InitDone) => {}
        }
    }

    /// A watch that failed: most come back by themselves.
    fn trouble(&self, error: watcher::Error, progress: &mut Progress) -> Outcome<()> {
        let denied = match &error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status)) => matches!(status.code, 401 | 403),
            _ => false,
        };
        if denied {
            return Err(Failure::new(format!("cannot follow job `{}`", self.name))
                .because(error)
                .hint("the job goes on; ask an administrator for the right to watch it")
                .with_exit(Exit::Denied));
        }
        progress.say("the server does not answer just now; trying again");
        Ok(())
    }

    fn phase(&self) -> Phase {
        self.job.status.as_ref().map(|status| status.phase).unwrap_or_default()
    }

    fn ended(&self) -> bool {
        self.gone || self.phase().is_final()
    }

    /// What the job waits for, in words; `None` once it runs.
    fn waits_for(&self) -> Option<String> {
        if self.job.spec.suspend {
            return Some("suspended; it starts when spec.suspend is cleared".to_owned());
        }
        let pods: Vec<&Pod> = self.pods.values().collect();
        why_waiting(self.workload.as_ref(), pods, self.images.values())
    }

    /// How the job ended, as an exit code and in words.
    fn result(&self) -> Outcome<Exit> {
        if self.gone {
            return Err(Failure::new(format!("job `{}` was deleted before it ended", self.name)).with_exit(Exit::Missing));
        }
        Ok(result(&self.name, &self.job.status.clone().unwrap_or_default()))
    }
}

/// How an ended job ended, as an exit code; a failure is also told in words.
pub(crate) fn result(name: &str, status: &TrainingJobStatus) -> Exit {
    if status.phase == Phase::Succeeded {
        return Exit::Done;
    }
    let said =
        conditions::find(&status.conditions, "Complete").map(|complete| complete.message.clone()).filter(|message| !message.is_empty());
    output::note(&format!("job {name} failed: {}", output::plain(&said.unwrap_or_else(|| "it gave no reason".to_owned()))));
    let code = status.exit_code.filter(|code| *code != 0).unwrap_or(1);
    Exit::Of(u8::try_from(code & 0xff).ok().filter(|code| *code != 0).unwrap_or(1))
}

impl Readers {
    /// Starts a reader for every container that has begun to run.
    fn add(&mut self, view: &View) {
        for pod in view.pods.values() {
            for container in container_names(pod) {
                let key = (pod.uid().unwrap_or_default(), container.clone());
                if self.known.contains(&key) || !container_started(pod, &container) {
                    continue;
                }
                if self.tasks.len() >= STREAMS_MAX {
                    if !self.told_of_limit {
                        output::note(&format!("only the first {STREAMS_MAX} logs are shown; the others: fermion logs pod/NAME"));
                        self.told_of_limit = true;
                    }
                    return;
                }
                self.known.insert(key);
                let name = pod.name_any();
                let short = name.strip_prefix(&format!("{}-", self.job)).unwrap_or(&name);
                let number = self.origins.len();
                self.origins.push(if container_names(pod).len() > 1 { format!("{short}/{container}") } else { short.to_owned() });
                let reader = Follow { log: Log::new(self.api.clone(), name, container), number };
                let sender = self.sender.clone();
                self.tasks.spawn(async move { reader.to_the_end(Start::default(), &sender).await });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(status: serde_json::Value) -> TrainingJob {
        serde_json::from_value(json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a", "uid": "1"},
            "spec": {"roles": [{"name": "worker", "template": {"spec": {"containers": [{"name": "main", "image": "fermion.dev/python:latest"}]}}}]},
            "status": status,
        }))
        .expect("a job")
    }

    fn pod(state: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a-worker-0", "uid": "p"}, "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn a_job_says_what_it_waits_for() {
        let mut view = View::new(&job(json!({})));
        assert_eq!(view.waits_for().as_deref(), Some("starting"));
        let workload = serde_json::from_value(json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "a"}, "spec": {"podSets": []},
            "status": {"waiting": {"reason": "InsufficientResources", "message": "1 more cpu is needed", "position": 3}},
        }));
        view.take(Change::Workload(Event::Apply(workload.expect("a workload"))));
        assert_eq!(view.waits_for().as_deref(), Some("waiting: 1 more cpu is needed (place 3 in its queue)"));
        view.workload = None;
        view.take(Change::Pod(Event::Apply(pod(json!({"running": {}})))));
        assert_eq!(view.waits_for(), None);
    }

    #[test]
    fn the_exit_code_is_the_jobs() {
        let result = |status: serde_json::Value| View::new(&job(status)).result().expect("ended");
        assert_eq!(result(json!({"phase": "Succeeded", "exitCode": 0})), Exit::Done);
        assert_eq!(result(json!({"phase": "Failed", "exitCode": 42})), Exit::Of(42));
        assert_eq!(result(json!({"phase": "Failed"})), Exit::Of(1));
        assert_eq!(result(json!({"phase": "Failed", "exitCode": 256})), Exit::Of(1));
    }

    #[test]
    fn a_job_of_the_same_name_is_not_ours() {
        let mut view = View::new(&job(json!({})));
        let mut other = job(json!({"phase": "Succeeded"}));
        other.metadata.uid = Some("2".to_owned());
        view.take(Change::Job(Event::Apply(other)));
        assert!(view.ended());
        assert_eq!(view.result().err().map(|failure| failure.exit()), Some(Exit::Missing));
    }
}
