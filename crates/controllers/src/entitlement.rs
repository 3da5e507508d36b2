//! Says of ResourcePolicies and ResourceTickets whether they hold now.

use std::sync::Arc;
use std::time::Duration;

use fermion_api::compute::resource_policy::Phase;
use fermion_api::compute::{ResourcePolicy, ResourceTicket};
use fermion_api::conditions;
use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt as _};

use crate::error::Error;
use crate::events::{Notice, Recorder};
use crate::{Options, Shutdown, reconciling, status};

struct Context {
    client: Client,
    recorder: Recorder,
    sweep: Duration,
}

/// Runs until shutdown.
pub(crate) async fn run(client: Client, options: Options, shutdown: Shutdown) {
    let recorder = Recorder::new(client.clone(), "entitlement-controller");
    let context = Arc::new(Context { client: client.clone(), recorder, sweep: options.sweep });
    let policies =
        reconciling::run("resource policy", client.clone(), Vec::new(), Arc::clone(&context), reconcile_policy, shutdown.clone());
    let tickets = reconciling::run("resource ticket", client, Vec::new(), context, reconcile_ticket, shutdown);
    futures::future::join(policies, tickets).await;
}

/// Looks again when the moment comes, and anyway.
fn again(at: Option<Timestamp>, sweep: Duration) -> Action {
    let until = at.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
    Action::requeue(until.map_or(sweep, |until| until.min(sweep)))
}

async fn reconcile_policy(policy: Arc<ResourcePolicy>, context: Arc<Context>) -> Result<Action, Error> {
    let now = Timestamp::now();
    let phase = policy.spec.phase(now);
    let mut new = policy.status.clone().unwrap_or_default();
    new.phase = Some(phase);
    new.observed_generation = policy.metadata.generation;
    let (holds, why, message) = match phase {
        Phase::Active => (true, "Active", "it holds"),
        Phase::Scheduled => (false, "Scheduled", "its time has not come yet (spec.validity.from)"),
        Phase::Disabled => (false, "Disabled", "it was taken out of force (spec.enabled)"),
        Phase::Expired => (false, "Expired", "its time is over (spec.validity.until)"),
    };
    conditions::set(&mut new.conditions, "Active", holds, why, message, policy.metadata.generation, now);
    let api: Api<ResourcePolicy> = Api::all(context.client.clone());
    status::write(&api, &*policy, policy.status.as_ref(), &new).await?;
    Ok(again(policy.spec.validity.as_ref().and_then(|validity| validity.next_change(now)), context.sweep))
}

async fn reconcile_ticket(ticket: Arc<ResourceTicket>, context: Arc<Context>) -> Result<Action, Error> {
    use fermion_api::compute::resource_ticket::Phase;
    let now = Timestamp::now();
    let before = ticket.status.as_ref().map(|status| status.phase);
    let mut new = ticket.observe(now);
    let note = new.decision.as_ref().and_then(|decision| decision.note.as_deref()).map(|note| format!(": {note}")).unwrap_or_default();
    let (holds, why, message) = match new.phase {
        Phase::Requested => (false, "Requested", "waits for the decision of an administrator".to_owned()),
        Phase::Approved => (false, "Approved", format!("was approved; its time has not come yet{note}")),
        Phase::Active => (true, "Active", format!("holds{note}")),
        Phase::Refused => (false, "Refused", format!("was refused{note}")),
        Phase::Disabled => (false, "Disabled", format!("was taken out of force{note}")),
        Phase::Expired => (false, "Expired", "its time is over".to_owned()),
    };
    conditions::set(&mut new.conditions, "Active", holds, why, &message, ticket.metadata.generation, now);
    let api: Api<ResourceTicket> = Api::namespaced(context.client.clone(), &ticket.namespace().unwrap_or_default());
    let written = status::write(&api, &*ticket, ticket.status.as_ref(), &new).await?;
    if written && before.is_some_and(|before| before != new.phase) {
        context.recorder.tell(&*ticket, &[Notice::normal(why, &message)]).await;
    }
    Ok(again(ticket.spec.span.next_change(now), context.sweep))
}
