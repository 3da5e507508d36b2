//! `fermion wait`: until an environment runs, a service is ready, a job has ended.

use std::time::Duration;

use fermion_api::ai::{DevEnvironment, InferenceService, TrainingJob, Workload, dev_environment, inference_service};
use fermion_api::assets::Image;
use fermion_api::conditions;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output::Progress;
use crate::pods::{Owner, Resolved, Target, why_waiting};

/// How often the object is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion wait env/notebook
  fermion wait service/chat --timeout 30m
  fermion wait job/digits            the exit code is the job's")]
pub(crate) struct WaitArguments {
    /// NAME, or job/NAME, env/NAME, service/NAME, pod/NAME
    target: Target,
    /// Wait until it does not exist
    #[arg(long)]
    gone: bool,
    /// How long
    #[arg(long, default_value = "10m", value_name = "SPAN", value_parser = fermion_api::duration::parse)]
    timeout: Duration,
}

/// How something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// What was waited for has come.
    There(Exit),
    /// It will not come by itself.
    Hopeless(String),
    Waiting(String),
}

pub(crate) async fn run(arguments: WaitArguments, session: &Session) -> Outcome<Exit> {
    let began = Instant::now();
    let mut progress = Progress::new();
    loop {
        let last;
        if arguments.gone {
            match arguments.target.resolve(session).await {
                Err(failure) if failure.exit() == Exit::Missing => return Ok(Exit::Done),
                Err(failure) => return Err(failure),
                Ok(resolved) => last = format!("{} is still there", resolved.title()),
            }
        } else {
            let resolved = arguments.target.resolve(session).await?;
            match look(session, &resolved).await? {
                Standing::There(exit) => return Ok(exit),
                Standing::Hopeless(why) => {
                    progress.clear();
                    return Err(Failure::new(format!("{} does not come up", resolved.title())).why(why).hint(format!(
                        "fermion logs -n {} {}; fermion status",
                        session.namespace,
                        resolved.reference()
                    )));
                }
                Standing::Waiting(text) => last = format!("{}: {text}", resolved.title()),
            }
        }
        if began.elapsed() > arguments.timeout {
            progress.clear();
            return Err(Failure::new(format!("waited {:?} in vain", arguments.timeout)).why(last).hint("--timeout waits longer"));
        }
        progress.say(&last);
        tokio::select! {
            () = sleep(LOOK_INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    }
}

async fn look(session: &Session, resolved: &Resolved) -> Outcome<Standing> {
    let (client, namespace, name) = (session.client.clone(), session.namespace.as_str(), resolved.name.as_str());
    let what = || format!("cannot read {} in namespace `{namespace}`", resolved.title());
    let standing = match resolved.owner {
        Owner::Job => {
            let job = Api::<TrainingJob>::namespaced(client, namespace).get(name).await.attempt(what)?;
            let status = job.status.unwrap_or_default();
            if status.phase.is_final() {
                return Ok(Standing::There(super::run::follow::result(name, &status)));
            }
            Standing::Waiting(format!("{:?}", status.phase).to_lowercase())
        }
        Owner::Environment => {
            let environment = Api::<DevEnvironment>::namespaced(client, namespace).get(name).await.attempt(what)?;
            let status = environment.status.unwrap_or_default();
            of_environment(status.phase, environment.spec.suspend, ready_message(&status.conditions))
        }
        Owner::Service => {
            let service = Api::<InferenceService>::namespaced(client, namespace).get(name).await.attempt(what)?;
            let current = service.metadata.generation;
            let status = service.status.unwrap_or_default();
            // A change that nobody has looked at yet says nothing about the new revision.
            let seen = status.observed_generation >= current;
            of_service(status.phase, seen, ready_message(&status.conditions))
        }
        Owner::Pod => {
            let pod = Api::<Pod>::namespaced(client, namespace).get(name).await.attempt(what)?;
            match (fermion_api::pod::ready(&pod), fermion_api::pod::ended(&pod)) {
                (true, _) | (_, true) => Standing::There(Exit::Done),
                _ => Standing::Waiting(fermion_api::pod::phase(&pod).to_lowercase()),
            }
        }
    };
    Ok(match standing {
        Standing::Waiting(text) => Standing::Waiting(details(session, resolved).await?.unwrap_or(text)),
        other => other,
    })
}

fn ready_message(conditions: &[Condition]) -> String {
    conditions::find(conditions, "Ready").map(|ready| ready.message.clone()).unwrap_or_default()
}

fn or(message: String, phase: &impl std::fmt::Debug) -> String {
    if message.is_empty() { format!("{phase:?}").to_lowercase() } else { message }
}

fn of_environment(phase: dev_environment::Phase, suspended: bool, message: String) -> Standing {
    use dev_environment::Phase;
    match phase {
        Phase::Running => Standing::There(Exit::Done),
        Phase::Failed => Standing::Hopeless(or(message, &phase)),
        Phase::Stopped | Phase::Stopping if suspended => Standing::Hopeless("it is stopped (spec.suspend)".to_owned()),
        Phase::Starting | Phase::Stopping | Phase::Stopped => Standing::Waiting(or(message, &phase)),
    }
}

fn of_service(phase: inference_service::Phase, seen: bool, message: String) -> Standing {
    use inference_service::Phase;
    match phase {
        Phase::Ready if seen => Standing::There(Exit::Done),
        Phase::Degraded if seen => Standing::Hopeless(or(message, &phase)),
        Phase::Suspended if seen => Standing::Hopeless("it is suspended (spec.suspend)".to_owned()),
        Phase::Starting | Phase::Progressing | Phase::Ready | Phase::Degraded | Phase::Suspended => Standing::Waiting(or(message, &phase)),
    }
}

/// Why the pods do not run yet; `None` when they do, or nobody knows.
async fn details(session: &Session, resolved: &Resolved) -> Outcome<Option<String>> {
    let pods = resolved.pods(session).await?;
    let workload = match resolved.owner.label() {
        Some(label) => {
            let api: Api<Workload> = Api::namespaced(session.client.clone(), &session.namespace);
            let mine = ListParams::default().labels(&format!("{label}={}", resolved.name));
            api.list(&mine).await.attempt(|| "cannot list the workloads".to_owned())?.items.into_iter().next()
        }
        None => None,
    };
    // People who may not see images just do not see their progress.
    let images = Api::<Image>::all(session.client.clone()).list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    Ok(why_waiting(workload.as_ref(), &pods, &images))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_judged_by_its_newest_revision_only() {
        use inference_service::Phase;
        let said = || "2 of 2".to_owned();
        assert_eq!(of_service(Phase::Ready, true, said()), Standing::There(Exit::Done));
        assert_eq!(of_service(Phase::Ready, false, said()), Standing::Waiting(said()));
        assert_eq!(of_service(Phase::Degraded, true, "crashed".to_owned()), Standing::Hopeless("crashed".to_owned()));
        assert_eq!(of_service(Phase::Starting, true, String::new()), Standing::Waiting("starting".to_owned()));
    }

    #[test]
    fn a_stopped_environment_is_not_waited_for() {
        use dev_environment::Phase;
        assert!(matches!(of_environment(Phase::Stopped, true, String::new()), Standing::Hopeless(_)));
        assert!(matches!(of_environment(Phase::Stopped, false, String::new()), Standing::Waiting(_)));
        assert_eq!(of_environment(Phase::Running, false, String::new()), Standing::There(Exit::Done));
    }
}
