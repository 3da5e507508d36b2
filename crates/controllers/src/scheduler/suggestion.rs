//! What would let a gang start, as status fields and sentences.

use fermion_api::ai::workload::Suggestion;
use fermion_api::quantity;
use fermion_scheduler::Remedy;
use fermion_scheduler::queue::State;
use jiff::Timestamp;

use super::sentence::whose;

/// More names than this are not listed in a sentence.
const NAMES_TOLD_MAX: usize = 5;

/// A change in the words of the API.
pub(super) fn suggestion(remedy: &Remedy) -> Suggestion {
    let amount = |resource: &str, amount| quantity::format(resource, amount);
    let of = |action: &str, message: String| Suggestion { action: action.to_owned(), target: None, resource: None, amount: None, message };
    let about = |action: &str, target: Option<String>, resource: &str, milli, message: String| Suggestion {
        target,
        resource: Some(resource.to_owned()),
        amount: Some(amount(resource, milli)),
        ..of(action, message)
    };
    match remedy {
        Remedy::SetState { queue, state } => {
            let word = match state {
                State::Up => "UP",
                State::Down => "DOWN",
                State::Drain => "DRAIN",
                State::Inactive => "INACTIVE",
            };
            Suggestion {
                target: Some(queue.clone()),
                amount: Some(word.to_owned()),
                ..of("SetQueueState", format!("set the state of queue `{queue}` to {word}"))
            }
        }
        Remedy::Allow { queue } => Suggestion {
            target: Some(queue.clone()),
            ..of("AllowInQueue", format!("use another queue, or let the user into queue `{queue}` (spec.allowed)"))
        },
        Remedy::EndOne { subject, .. } => {
            Suggestion { target: Some(whose(subject)), ..of("EndOne", format!("end a workload of {}", whose(subject))) }
        }
        Remedy::RaiseRunning { subject, to } => Suggestion {
            target: Some(whose(subject)),
            amount: Some(to.to_string()),
            ..of("RaiseRunning", format!("allow {} {to} workloads that run at once", whose(subject)))
        },
        Remedy::AskLess { resource, by } => {
            about("AskForLess", None, resource, *by, format!("ask for {} {resource} less", amount(resource, *by)))
        }
        Remedy::WaitUntil { at } => {
            let at = Timestamp::from_millisecond(*at).map(|at| at.to_string()).unwrap_or_default();
            Suggestion { amount: Some(at.clone()), ..of("WaitForWindow", format!("wait until {at}")) }
        }
        Remedy::OpenWindow { rule } => {
            Suggestion { target: Some(rule.clone()), ..of("OpenWindow", format!("add these hours to the time window `{rule}`")) }
        }
        Remedy::RaiseCeiling { subject, resource, by } => about(
            "RaiseQuota",
            Some(whose(subject)),
            resource,
            *by,
            format!("raise what {} may have by {} {resource}", whose(subject), amount(resource, *by)),
        ),
        Remedy::RaiseLimit { queue, resource, by } => about(
            "RaiseLimit",
            Some(queue.clone()),
            resource,
            *by,
            format!("raise the limit of queue `{queue}` by {} {resource}", amount(resource, *by)),
        ),
        Remedy::EndUseOf { subject, resource, amount: most } => about(
            "EndUse",
            Some(whose(subject)),
            resource,
            *most,
            format!("end work of {} that holds {} {resource}", whose(subject), amount(resource, *most)),
        ),
        Remedy::EndUseIn { queue, resource, amount: most } => about(
            "EndUse",
            Some(queue.clone()),
            resource,
            *most,
            format!("end work in queue `{queue}` that holds {} {resource}", amount(resource, *most)),
        ),
        Remedy::FewerPods { pods } => {
            Suggestion { amount: Some(pods.to_string()), ..of("FewerPods", format!("ask for {pods} pods, for which there is room")) }
        }
        Remedy::LessEach { resource, amount: most } => {
            about("AskForLess", None, resource, *most, format!("ask for at most {} {resource} in each pod", amount(resource, *most)))
        }
        Remedy::FewerCards { cards } => {
            Suggestion { amount: Some(cards.to_string()), ..of("FewerAccelerators", format!("ask for {cards} accelerators in each pod")) }
        }
        Remedy::AnyDomain => {
            of("AnyDomain", "let its pods run in different domains (spec.scheduling.topology.preferred in place of required)".to_owned())
        }
        Remedy::AnyNode => of("AnyNode", "take back what its pods demand of nodes: nodeSelector, affinity, missing tolerations".to_owned()),
        Remedy::OpenNode { node } => Suggestion {
            target: Some(node.clone()),
            ..of("OpenNode", format!("open node `{node}` to pods: make it ready, or uncordon it"))
        },
        Remedy::End { gangs } => {
            let told = gangs.iter().take(NAMES_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = gangs.len().saturating_sub(NAMES_TOLD_MAX);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            Suggestion { target: Some(told.clone()), ..of("EndWork", format!("end {told}{rest}")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use fermion_scheduler::Subject;

    use super::*;

    #[test]
    fn every_remedy_has_a_sentence() {
        let ada = || Subject::Person("ada".into());
        let remedies = [
            Remedy::SetState { queue: "q".into(), state: State::Up },
            Remedy::Allow { queue: "q".into() },
            Remedy::EndOne { subject: ada(), environment: None },
            Remedy::RaiseRunning { subject: ada(), to: 4 },
            Remedy::AskLess { resource: "cpu".into(), by: 1500 },
            Remedy::WaitUntil { at: 1_767_225_600_000 },
            Remedy::OpenWindow { rule: "office".into() },
            Remedy::RaiseCeiling { subject: ada(), resource: "cpu".into(), by: 2000 },
            Remedy::RaiseLimit { queue: "q".into(), resource: "cpu".into(), by: 2000 },
            Remedy::EndUseOf { subject: ada(), resource: "cpu".into(), amount: 2000 },
            Remedy::EndUseIn { queue: "q".into(), resource: "cpu".into(), amount: 2000 },
            Remedy::FewerPods { pods: 3 },
            Remedy::LessEach { resource: "memory".into(), amount: 1_073_741_824_000 },
            Remedy::FewerCards { cards: 2 },
            Remedy::AnyDomain,
            Remedy::AnyNode,
            Remedy::OpenNode { node: "a".into() },
            Remedy::End { gangs: (0..7).map(|index| format!("lab/w{index}")).collect() },
        ];
        let lines: Vec<_> = remedies.iter().map(suggestion).map(|told| format!("{}: {}", told.action, told.message)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
