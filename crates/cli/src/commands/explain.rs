//! `fermion explain`: why work waits, until when, and what would let it start.

use fermion_api::ai::Workload;
use fermion_api::ai::workload::{EstimateBasis, Phase};
use fermion_api::conditions;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;
use crate::pods::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion explain digits
  fermion explain job/digits
  fermion explain workload/digits -n lab")]
pub(crate) struct ExplainArguments {
    /// NAME, or workload/NAME, job/NAME, env/NAME, service/NAME
    target: String,
}

pub(crate) async fn run(arguments: ExplainArguments, session: &Session) -> Outcome<Exit> {
    let now = Timestamp::now();
    let texts: Vec<String> = workloads(&arguments.target, session).await?.iter().map(|workload| explained(workload, now)).collect();
    output::write(&texts.join("\n"))?;
    Ok(Exit::Done)
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

/// How a Workload stands, in lines.
fn explained(workload: &Workload, now: Timestamp) -> String {
    let status = workload.status.clone().unwrap_or_default();
    let mut lines =
        vec![format!("{} is {}, in queue {}", workload.name_any(), format!("{:?}", status.phase).to_lowercase(), workload.spec.queue)];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<10}{}", output::plain(&text)));
    if let Some(waiting) = &status.waiting {
        line("place", format!("{} of those that wait in its queue", waiting.position));
        line("why", format!("{} ({})", waiting.message, waiting.reason));
        if let (Some(resource), Some(missing)) = (&waiting.resource, &waiting.missing) {
            let place = waiting.place.as_ref().map(|place| format!(" on {place}")).unwrap_or_default();
            line("missing", format!("{missing} {resource}{place}"));
        }
        if let Some(start) = &waiting.estimated_start {
            let basis = match waiting.estimate_basis {
                Some(EstimateBasis::TimeLimits) => "by the time limits of what runs",
                Some(EstimateBasis::LearnedRunTimes) => "by how long such work took before",
                Some(EstimateBasis::DeclaredRunTimes) | None => "by the run times that were declared",
            };
            let minutes = start.0.duration_since(now).as_secs().max(0).div_euclid(60);
            line("start", format!("{}, in about {minutes} min, {basis}", start.0));
        }
        for (index, suggestion) in waiting.suggestions.iter().enumerate() {
            line(if index == 0 { "to start" } else { "or" }, suggestion.message.clone());
        }
    } else {
        let told = conditions::find(&status.conditions, "Admitted").map(|admitted| admitted.message.clone());
        let text = match status.phase {
            Phase::Pending => "the scheduler has not looked at it yet".to_owned(),
            Phase::Admitted | Phase::Running | Phase::Suspended | Phase::Succeeded | Phase::Failed => told.unwrap_or_default(),
        };
        if !text.is_empty() {
            line("why", text);
        }
    }
    if let Some(evicted) = conditions::find(&status.conditions, "Evicted").filter(|evicted| evicted.status == "True") {
        line("before", evicted.message.clone());
    }
    lines.join("\n") + "\n"
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
}
