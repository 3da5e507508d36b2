//! Why a gang waits, as status fields and as a sentence. This is the one place that words it.

use std::collections::HashMap;

use fermion_api::ai::workload::{EstimateBasis, Waiting};
use fermion_api::{quantity, reason};
use fermion_scheduler as plan;
use fermion_scheduler::{CardsAsked, NoCard, PartSize, Place, Ruling, Shortage, Subject, Wait};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::suggestion;

/// What nodes that are not ready say of it, by their names.
pub(super) type Troubles = HashMap<String, String>;

/// What the status of a waiting Workload says. `spread` is what its constraints of spreading leave it.
pub(super) fn waiting(waiting: &plan::Waiting, troubles: &Troubles, spread: Option<&str>) -> Waiting {
    let shortage = match &waiting.wait {
        Wait::InsufficientResources(shortage) | Wait::ExceedsCapacity(shortage) => Some(shortage),
        Wait::QueueNotFound
        | Wait::QueueClosed
        | Wait::MembersMissing { .. }
        | Wait::NoReadyNode { .. }
        | Wait::NoMatchingNode { .. }
        | Wait::NoArrangement { .. }
        | Wait::NoCard(_)
        | Wait::NoEmptyNode { .. }
        | Wait::NoDomain { .. }
        | Wait::NotSpread { .. }
        | Wait::TooFewNodes { .. }
        | Wait::Ruled(_)
        | Wait::Evicting { .. }
        | Wait::BehindOthers { .. } => None,
    };
    let ruled = match &waiting.wait {
        Wait::Ruled(rulings) => rulings.iter().find_map(|ruling| match ruling {
            Ruling::Ceiling { resource, missing, .. } | Ruling::QueueLimit { resource, missing, .. } => Some((resource.clone(), *missing)),
            Ruling::NotAllowed { .. } | Ruling::Running { .. } | Ruling::Window { .. } => None,
        }),
        _ => None,
    };
    let short = shortage.map(|shortage| (shortage.resource.clone(), shortage.missing)).or(ruled);
    let place = match (&waiting.wait, shortage.map(|shortage| &shortage.place)) {
        (_, Some(Place::Pool { pool })) => Some(pool.clone()),
        (_, Some(Place::Node { node, .. })) => Some(node.clone()),
        (Wait::NoCard(lack), None) => lack.nearest.as_ref().map(|(node, _)| node.clone()),
        (Wait::NoReadyNode { pool, node }, None) => Some(node.clone().unwrap_or_else(|| pool.clone())),
        (
            Wait::NoMatchingNode { pool, .. }
            | Wait::NoArrangement { pool }
            | Wait::NoDomain { pool }
            | Wait::NotSpread { pool }
            | Wait::NoEmptyNode { pool }
            | Wait::TooFewNodes { pool, .. },
            None,
        ) => Some(pool.clone()),
        (_, None) => None,
    };
    // A guess from unknown run times would be told as if it were known.
    let start = waiting.start.filter(|start| start.known).and_then(|start| Timestamp::from_millisecond(start.at).ok());
    Waiting {
        reason: code(&waiting.wait).to_owned(),
        message: whole(waiting, troubles, spread),
        position: i32::try_from(waiting.position).unwrap_or(i32::MAX),
        missing: short.as_ref().map(|(resource, missing)| quantity::format(resource, *missing)),
        resource: short.map(|(resource, _)| resource),
        place,
        estimated_start: start.map(Time),
        estimate_basis: waiting.start.filter(|_| start.is_some()).map(|start| match start.basis {
            plan::Basis::Limit => EstimateBasis::TimeLimits,
            plan::Basis::Declared => EstimateBasis::DeclaredRunTimes,
            plan::Basis::Learned => EstimateBasis::LearnedRunTimes,
        }),
        suggestions: waiting.remedies.iter().map(suggestion::suggestion).collect(),
    }
}

/// The stable code of a wait.
pub(super) fn code(wait: &Wait) -> &'static str {
    match wait {
        Wait::QueueNotFound => reason::QUEUE_NOT_FOUND,
        Wait::QueueClosed => reason::QUEUE_CLOSED,
        Wait::MembersMissing { .. } => reason::MEMBERS_MISSING,
        Wait::NoReadyNode { .. } => reason::NO_READY_NODE,
        Wait::NoMatchingNode { .. } => reason::NO_MATCHING_NODE,
        Wait::ExceedsCapacity(_) => reason::EXCEEDS_CAPACITY,
        Wait::InsufficientResources(_) => reason::INSUFFICIENT_RESOURCES,
        Wait::NoArrangement { .. } | Wait::NoDomain { .. } | Wait::NotSpread { .. } | Wait::NoCard(_) | Wait::TooFewNodes { .. } => {
            reason::INSUFFICIENT_RESOURCES
        }
        Wait::NoEmptyNode { .. } => reason::NO_EMPTY_NODE,
        Wait::BehindOthers { .. } => reason::BEHIND_OTHERS,
        Wait::Evicting { .. } => reason::WAITING_FOR_EVICTIONS,
        Wait::Ruled(rulings) => match rulings.first() {
            Some(Ruling::NotAllowed { .. }) => reason::QUEUE_NOT_ALLOWED,
            Some(Ruling::Running { .. }) => reason::TOO_MANY_RUNNING,
            Some(Ruling::Window { .. }) => reason::OUTSIDE_HOURS,
            Some(Ruling::Ceiling { .. }) => reason::QUOTA_EXCEEDED,
            Some(Ruling::QueueLimit { .. }) | None => reason::QUEUE_LIMIT,
        },
    }
}

/// The sentence, and what constraints of spreading leave to who lacks a place.
pub(super) fn whole(waiting: &plan::Waiting, troubles: &Troubles, spread: Option<&str>) -> String {
    let sentence = sentence(&waiting.wait, &waiting.queue, troubles);
    match (spread, &waiting.wait) {
        (
            Some(spread),
            Wait::NoReadyNode { .. }
            | Wait::NoMatchingNode { .. }
            | Wait::ExceedsCapacity(_)
            | Wait::InsufficientResources(_)
            | Wait::NoArrangement { .. }
            | Wait::NoDomain { .. }
            | Wait::NotSpread { .. }
            | Wait::NoCard(_)
            | Wait::TooFewNodes { .. }
            | Wait::NoEmptyNode { .. },
        ) => format!("{sentence}; {spread}"),
        _ => sentence,
    }
}

/// The sentence for people: what is in the way and, where there is something, what to do.
pub(super) fn sentence(wait: &Wait, queue: &str, troubles: &Troubles) -> String {
    match wait {
        Wait::QueueNotFound => format!("queue `{queue}` does not exist; create it, or name another one in spec.queue"),
        Wait::QueueClosed => format!("queue `{queue}` starts nothing while its state is DOWN or INACTIVE"),
        Wait::MembersMissing { present, wanted } => format!("{present} of the {wanted} pods it needs exist yet"),
        Wait::NoReadyNode { node: Some(node), .. } => match troubles.get(node) {
            Some(trouble) => format!("it needs node `{node}`, which is not ready for new pods: {trouble}"),
            None => format!("it needs node `{node}`, which is not ready for new pods"),
        },
        Wait::NoReadyNode { pool, node: None } => format!("pool `{pool}` has no nodes"),
        Wait::NoMatchingNode { pool, member } => {
            format!(
                "no node of pool `{pool}` that queue `{queue}` gives out meets the nodeSelector, affinity and tolerations of pod {}",
                short(member)
            )
        }
        Wait::ExceedsCapacity(shortage) => format!("it asks for more than there is: {}", lack(shortage, "in all")),
        Wait::InsufficientResources(shortage) => lack(shortage, "free"),
        Wait::NoArrangement { pool } => {
            format!("its pods ask for different amounts, and no way was found to fit them together into what is free in pool `{pool}`")
        }
        Wait::NoCard(lack) => no_card(lack),
        Wait::NoDomain { pool } => {
            format!(
                "pool `{pool}` has room for its pods, but not for all of them in one domain of the level that spec.scheduling.topology.required or their podAffinity names"
            )
        }
        Wait::NotSpread { pool } => {
            format!(
                "pool `{pool}` has room for its pods, but where it has, their topologySpreadConstraints do not let all of them go at once"
            )
        }
        Wait::TooFewNodes { pool, members } => {
            format!("{members} of its pods want a node of their own by podAntiAffinity, and fewer nodes of pool `{pool}` have room for one")
        }
        Wait::NoEmptyNode { pool } => {
            format!("work of queue `{queue}` has its nodes to itself, and too few nodes of pool `{pool}` that would do run nothing")
        }
        Wait::BehindOthers { ahead } => format!("there is room, but it is kept for {ahead}, which goes first"),
        Wait::Evicting { members: 1 } => "a pod of others is being stopped to make room for it".to_owned(),
        Wait::Evicting { members } => format!("{members} pods of others are being stopped to make room for it"),
        Wait::Ruled(rulings) => rulings.iter().map(ruling).collect::<Vec<_>>().join("; and "),
    }
}

fn ruling(ruling: &Ruling) -> String {
    match ruling {
        Ruling::NotAllowed { queue } => format!("queue `{queue}` is for other people"),
        Ruling::Running { subject, environment, running, max } => {
            let kind = environment.map_or_else(|| "workloads".to_owned(), |kind| format!("workloads of the kind {kind:?}"));
            format!("{running} {kind} of {} run, and no more than {max} may at once", whose(subject))
        }
        Ruling::Window { opens_at } => match opens_at.and_then(|at| Timestamp::from_millisecond(at).ok()) {
            Some(at) => format!("work of this kind may not run now; its next hours begin at {at}"),
            None => "work of this kind may not run now, and no hours for it are set in the time to come".to_owned(),
        },
        Ruling::Ceiling { subject, resource, missing } => {
            format!(
                "it would take {} beyond what they may have at once, by {} {resource}",
                whose(subject),
                quantity::format(resource, *missing)
            )
        }
        Ruling::QueueLimit { queue, resource, missing } => {
            format!("it would take queue `{queue}` beyond its limit, by {} {resource}", quantity::format(resource, *missing))
        }
    }
}

/// Somebody, in words.
pub(super) fn whose(subject: &Subject) -> String {
    match subject {
        Subject::Tenant(name) => format!("tenant `{name}`"),
        Subject::Organization(name) => format!("organisation `{name}`"),
        Subject::Project(name) => format!("project `{name}`"),
        Subject::Member { project, user } => format!("user `{user}` in project `{project}`"),
        Subject::Person(user) => format!("user `{user}`"),
    }
}

fn no_card(lack: &NoCard) -> String {
    let model = &lack.model;
    let words = |cards: &CardsAsked| match cards {
        CardsAsked::Whole(1) => "1 whole card".to_owned(),
        CardsAsked::Whole(count) => format!("{count} whole cards"),
        CardsAsked::Part(PartSize::Share { compute, memory_mib: 0 }) => format!("{compute} thousandths of a card"),
        CardsAsked::Part(PartSize::Share { compute, memory_mib }) => format!("{compute} thousandths of a card with {memory_mib}Mi"),
        CardsAsked::Part(PartSize::Slice(name)) => format!("slice {name} of a card"),
    };
    let asked = words(&lack.asked);
    match &lack.nearest {
        Some((node, CardsAsked::Whole(0))) => {
            format!("it needs {asked} of {model}; there is enough in sum, but only as parts of cards: `{node}` has no whole card free")
        }
        Some((node, has)) => {
            format!(
                "it needs {asked} of {model}; there is enough in sum, but in pieces: the most that is free together, on `{node}`, is {}",
                words(has)
            )
        }
        None => format!("it needs {asked} of {model}, and no card has it free in one piece"),
    }
}

fn short(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}

fn lack(shortage: &Shortage, how: &str) -> String {
    let amount = |value| format!("{} {}", quantity::format(&shortage.resource, value), shortage.resource);
    let (asked, available, missing) = (amount(shortage.asked), amount(shortage.available), amount(shortage.missing));
    match &shortage.place {
        Place::Pool { pool } => {
            format!("its {} pods need {asked} together; pool `{pool}` has {available} {how}: {missing} too little", shortage.members)
        }
        Place::Node { node, .. } if shortage.members == 1 => {
            format!("it needs {asked}; the node with the most room for it, `{node}`, has {available} {how}: {missing} too little")
        }
        Place::Node { node, placed } => format!(
            "{placed} of its {} pods have room; the next one needs {asked}, and the node with the most room left, `{node}`, has {available} {how}: {missing} too little",
            shortage.members
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_start_says_what_it_stands_on_and_a_guess_is_not_told() {
        let told = |known, basis| {
            let start = Some(plan::Start { at: 60_000, known, basis });
            let wait = Wait::Evicting { members: 1 };
            let told = plan::Waiting { gang: "n/w".into(), queue: "q".into(), position: 1, wait, start, remedies: Vec::new() };
            let told = waiting(&told, &Troubles::new(), None);
            (told.estimated_start.is_some(), told.estimate_basis)
        };
        assert_eq!(told(true, plan::Basis::Limit), (true, Some(EstimateBasis::TimeLimits)));
        assert_eq!(told(true, plan::Basis::Declared), (true, Some(EstimateBasis::DeclaredRunTimes)));
        assert_eq!(told(true, plan::Basis::Learned), (true, Some(EstimateBasis::LearnedRunTimes)));
        assert_eq!(told(false, plan::Basis::Learned), (false, None));
    }

    #[test]
    fn every_wait_has_a_sentence() {
        let shortage = |resource: &str, place, members| Shortage {
            resource: resource.into(),
            asked: 4_294_967_296_000,
            available: 1_073_741_824_000,
            missing: 3_221_225_472_000,
            place,
            members,
        };
        let share = |compute, memory_mib| CardsAsked::Part(PartSize::Share { compute, memory_mib });
        let no_card = |asked, nearest: Option<CardsAsked>| {
            Wait::NoCard(NoCard { model: "a100".into(), asked, nearest: nearest.map(|has| ("a".to_owned(), has)) })
        };
        let waits = [
            Wait::QueueNotFound,
            Wait::QueueClosed,
            Wait::MembersMissing { present: 1, wanted: 4 },
            Wait::NoReadyNode { pool: "local".into(), node: Some("a".into()) },
            Wait::NoReadyNode { pool: "local".into(), node: Some("b".into()) },
            Wait::NoReadyNode { pool: "local".into(), node: None },
            Wait::NoMatchingNode { pool: "local".into(), member: "n/w-worker-0".into() },
            Wait::ExceedsCapacity(shortage("memory", Place::Node { node: "a".into(), placed: 0 }, 1)),
            Wait::InsufficientResources(shortage("memory", Place::Pool { pool: "local".into() }, 4)),
            Wait::InsufficientResources(shortage("memory", Place::Node { node: "a".into(), placed: 3 }, 4)),
            Wait::BehindOthers { ahead: "n/large".into() },
            Wait::Evicting { members: 1 },
            Wait::Evicting { members: 3 },
            Wait::Ruled(vec![Ruling::NotAllowed { queue: "q".into() }]),
            Wait::Ruled(vec![Ruling::Running { subject: Subject::Person("ada".into()), environment: None, running: 3, max: 3 }]),
            Wait::Ruled(vec![Ruling::Window { opens_at: Some(1_767_225_600_000) }]),
            Wait::Ruled(vec![
                Ruling::Ceiling { subject: Subject::Project("lab".into()), resource: "memory".into(), missing: 1_073_741_824_000 },
                Ruling::QueueLimit { queue: "q".into(), resource: "cpu".into(), missing: 1500 },
            ]),
            Wait::NoArrangement { pool: "local".into() },
            Wait::NoEmptyNode { pool: "local".into() },
            Wait::NoDomain { pool: "local".into() },
            Wait::NotSpread { pool: "local".into() },
            Wait::TooFewNodes { pool: "local".into(), members: 4 },
            no_card(CardsAsked::Whole(2), Some(CardsAsked::Whole(0))),
            no_card(CardsAsked::Whole(2), Some(CardsAsked::Whole(1))),
            no_card(share(300, 24_576), Some(share(500, 1024))),
            no_card(CardsAsked::Part(PartSize::Slice("mig-3g.40gb".into())), None),
        ];
        let troubles = Troubles::from([("b".to_owned(), "containerd does not answer".to_owned())]);
        let lines: Vec<_> = waits.iter().map(|wait| format!("{}: {}", code(wait), sentence(wait, "default", &troubles))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
