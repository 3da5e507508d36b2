//! `fermion explain`: why work waits, or would wait if it were submitted, until when, and what would
//! let it start.

use fermion_api::ai::Workload;
use fermion_api::ai::workload::{EstimateBasis, Phase, Waiting};
use fermion_api::compute::scheduling_review::Outcome as Foreseen;
use fermion_api::compute::{SchedulingReview, SchedulingReviewSpec, SchedulingReviewStatus};
use fermion_api::conditions;
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, ResourceExt as _};

use super::apply::{Source, read_objects};
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;
use crate::pods::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion explain digits
  fermion explain job/digits
  fermion explain workload/digits -n lab
  fermion explain -f job.yaml")]
pub(crate) struct ExplainArguments {
    /// NAME, or workload/NAME, job/NAME, env/NAME, service/NAME
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    target: Option<String>,
    /// Work that is not submitted yet: a file, a directory, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<Source>,
}

pub(crate) async fn run(arguments: ExplainArguments, session: &Session) -> Outcome<Exit> {
    let now = Timestamp::now();
    let texts: Vec<String> = match &arguments.target {
        Some(target) => workloads(target, session).await?.iter().map(|workload| explained(workload, now)).collect(),
        None => {
            let objects = read_objects(&arguments.files)?;
            if objects.is_empty() {
                return Err(Failure::new("there is nothing to explain").why("the files hold no objects"));
            }
            let mut texts = Vec::new();
            for object in &objects {
                texts.push(foreseen(&review(object, session).await?, object, now));
            }
            texts
        }
    };
    output::write(&texts.join("\n"))?;
    Ok(Exit::Done)
}

/// What would become of an object if it were submitted now.
async fn review(object: &DynamicObject, session: &Session) -> Outcome<SchedulingReviewStatus> {
    let what = || format!("cannot tell what would become of {}", title(object));
    let namespace = object.namespace().unwrap_or_else(|| session.namespace.clone());
    super::delete::check_name(&namespace)?;
    let object = serde_json::to_value(object).map_err(|error| Failure::new(what()).because(error))?;
    let api: Api<SchedulingReview> = Api::namespaced(session.client.clone(), &namespace);
    let answer = api.create(&PostParams::default(), &SchedulingReview::new("", SchedulingReviewSpec { object })).await.attempt(what)?;
    answer.status.ok_or_else(|| Failure::new(what()).why("the server's answer has no status"))
}

/// The name of an object, or what it begins with.
fn title(object: &DynamicObject) -> String {
    object.metadata.name.clone().or_else(|| object.metadata.generate_name.clone()).unwrap_or_else(|| "an object without a name".to_owned())
}

/// What would become of an object, in lines.
fn foreseen(status: &SchedulingReviewStatus, object: &DynamicObject, now: Timestamp) -> String {
    let would = match status.outcome {
        Foreseen::Starts => "start now",
        Foreseen::Waits => "wait",
        Foreseen::Refused => "be refused",
        Foreseen::Idle => "start nothing",
    };
    let queue = status.queue.as_ref().map(|queue| format!(", in queue {queue}")).unwrap_or_default();
    let mut lines = Lines(vec![output::plain(&format!("{} would {would}{queue}", title(object)))]);
    match (&status.waiting, status.outcome) {
        (Some(waiting), Foreseen::Waits) => lines.waiting(waiting, now),
        (waiting, _) => {
            let reason = status.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            lines.line("why", &format!("{}{reason}", status.message));
            if let Some(waiting) = waiting {
                lines.line("the rest", &format!("{} ({})", waiting.message, waiting.reason));
            }
        }
    }
    lines.text()
}

/// The Workloads that are meant: one of this name, or those of a job, environment or service.
async fn workloads(target: &str, session: &Session) -> Outcome<Vec<Workload>> {
    let api: Api<Workload> = Api::namespaced(session.client.clone(), &session.namespace);
    let kinds = ["workload/", "workloads/", "wl/"];
    let named = kinds.iter().find_map(|kind| target.strip_prefix(kind));
    if named.is_some() || !target.contains('/') {
        let name = named.unwrap_or(target);
        super::delete::check_name(name)?;
        let what = || format!("cannot read workload `{name}` in namespace `{}`", session.namespace);
        if named.is_some() {
            return Ok(vec![api.get(name).await.attempt(what)?]);
        }
        if let Some(found) = api.get_opt(name).await.attempt(what)? {
            return Ok(vec![found]);
        }
    }
    let resolved = target.parse::<Target>().map_err(Failure::new)?.resolve(session).await?;
    let Some(label) = resolved.owner.label() else {
        return Err(Failure::new(format!("{} is no workload", resolved.title())).hint("name a workload, job, environment or service"));
    };
    let mine = ListParams::default().labels(&format!("{label}={}", resolved.name));
    let found = api.list(&mine).await.attempt(|| "cannot list the workloads".to_owned())?.items;
    if found.is_empty() {
        return Err(
            Failure::new(format!("{} has no workload now", resolved.title())).hint("it is stopped or has ended; `fermion status` shows it")
        );
    }
    Ok(found)
}

/// Lines about one object.
struct Lines(Vec<String>);

impl Lines {
    fn line(&mut self, name: &str, text: &str) {
        self.0.push(format!("  {name:<10}{}", output::plain(text)));
    }

    /// Why it waits, until when, and what would help.
    fn waiting(&mut self, waiting: &Waiting, now: Timestamp) {
        self.line("place", &format!("{} of those that wait in its queue", waiting.position));
        self.line("why", &format!("{} ({})", waiting.message, waiting.reason));
        if let (Some(resource), Some(missing)) = (&waiting.resource, &waiting.missing) {
            let place = waiting.place.as_ref().map(|place| format!(" on {place}")).unwrap_or_default();
            self.line("missing", &format!("{missing} {resource}{place}"));
        }
        if let Some(start) = &waiting.estimated_start {
            let basis = match waiting.estimate_basis {
                Some(EstimateBasis::TimeLimits) => "by the time limits of what runs",
                Some(EstimateBasis::LearnedRunTimes) => "by how long such work took before",
                Some(EstimateBasis::DeclaredRunTimes) | None => "by the run times that were declared",
            };
            let minutes = start.0.duration_since(now).as_secs().max(0).div_euclid(60);
            self.line("start", &format!("{}, in about {minutes} min, {basis}", start.0));
        }
        for (index, suggestion) in waiting.suggestions.iter().enumerate() {
            self.line(if index == 0 { "to start" } else { "or" }, &suggestion.message);
        }
    }

    fn text(self) -> String {
        self.0.join("\n") + "\n"
    }
}

/// How a Workload stands, in lines.
fn explained(workload: &Workload, now: Timestamp) -> String {
    let status = workload.status.clone().unwrap_or_default();
    let phase = format!("{:?}", status.phase).to_lowercase();
    let mut lines = Lines(vec![format!("{} is {phase}, in queue {}", workload.name_any(), workload.spec.queue)]);
    if let Some(waiting) = &status.waiting {
        lines.waiting(waiting, now);
    } else {
        let told = conditions::find(&status.conditions, "Admitted").map(|admitted| admitted.message.clone());
        let text = match status.phase {
            Phase::Pending => "the scheduler has not looked at it yet".to_owned(),
            Phase::Admitted | Phase::Running | Phase::Suspended | Phase::Succeeded | Phase::Failed => told.unwrap_or_default(),
        };
        if !text.is_empty() {
            lines.line("why", &text);
        }
    }
    if let Some(evicted) = conditions::find(&status.conditions, "Evicted").filter(|evicted| evicted.status == "True") {
        lines.line("before", &evicted.message);
    }
    lines.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_waiting_workload_is_explained_in_full() {
        let object = json!({
            "apiVersion": "ai.fermion.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "train"},
            "spec": {"queue": "research", "podSets": []},
            "status": {
                "phase": "Pending",
                "conditions": [{
                    "type": "Evicted", "status": "True", "reason": "Reclaimed", "message": "stopped for lab/other",
                    "lastTransitionTime": "2026-06-01T00:00:00Z",
                }],
                "waiting": {
                    "reason": "InsufficientResources", "message": "it needs 4 cards", "position": 3, "resource": "cpu", "missing": "2",
                    "place": "node-a", "estimatedStart": "2026-06-01T01:30:00Z", "estimateBasis": "DeclaredRunTimes",
                    "suggestions": [{"action": "EndWork", "message": "end lab/old"}, {"action": "FewerPods", "message": "ask for 2 pods"}],
                },
            },
        });
        let workload: Workload = serde_json::from_value(object).expect("a workload");
        insta::assert_snapshot!(explained(&workload, "2026-06-01T00:00:00Z".parse().expect("a time")));
    }

    #[test]
    fn what_is_foreseen_is_told_in_the_same_words() {
        let object: DynamicObject =
            serde_json::from_value(json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "train"}}))
                .expect("an object");
        let waiting = json!({
            "reason": "InsufficientResources", "message": "it needs 4 cards", "position": 3,
            "suggestions": [{"action": "FewerPods", "message": "ask for 2 pods"}],
        });
        let statuses = [
            json!({"outcome": "Starts", "queue": "research", "message": "it starts: all its pods have a place now"}),
            json!({"outcome": "Starts", "queue": "research", "message": "it starts: 1 of its 3 pods have a place now", "waiting": waiting}),
            json!({"outcome": "Waits", "queue": "research", "reason": "InsufficientResources", "message": "it needs 4 cards", "waiting": waiting}),
            json!({"outcome": "Refused", "reason": "Forbidden", "message": "queue \"research\" takes no new work"}),
            json!({"outcome": "Idle", "reason": "Suspended", "message": "it is suspended, and nothing of it starts until it is resumed"}),
        ];
        let now = "2026-06-01T00:00:00Z".parse().expect("a time");
        let texts = statuses.map(|status| foreseen(&serde_json::from_value(status).expect("a status"), &object, now));
        insta::assert_snapshot!(texts.join("\n"));
    }
}
