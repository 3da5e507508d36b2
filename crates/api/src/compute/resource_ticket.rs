//! ResourceTicket: a request for more, for a while.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks;
use super::entitlement::{Entitlement, Span, Stand};
use crate::{Invalid, Refused, Rules, labels};

/// A ResourceTicket asks for what its person or group may have in this project for a span of time,
/// on top of what policies give. An administrator decides in its status, which other people cannot
/// write: `kubectl patch resourceticket NAME --subresource=status --type=merge -p
/// '{"status":{"decision":{"verdict":"Approved"}}}'`.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "ResourceTicket",
    namespaced,
    status = "ResourceTicketStatus",
    derive = "PartialEq",
    shortname = "ticket",
    category = "fermion",
    selectable = ".status.phase",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.group"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.span.from"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.span.until"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTicketSpec {
    /// For whom; who made the ticket when neither a user nor a group is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// For every member of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What is asked for.
    pub asked: Entitlement,
    /// From when until when. The end is required.
    pub span: Span,
    /// Why it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub reason: Option<String>,
}

/// What was observed of and decided on a ResourceTicket.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTicketStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub phase: Phase,
    /// What an administrator decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The generation of the ticket that the decision was seen on: a change asks anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_generation: Option<i64>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// What an administrator decided.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    pub verdict: Verdict,
    /// What the person should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

/// Words of a decision.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Verdict {
    Approved,
    Refused,
    /// It was approved and does not hold any more.
    Disabled,
}

/// Phases of a ResourceTicket.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Nobody decided yet.
    #[default]
    Requested,
    /// Approved; its time has not come yet.
    Approved,
    /// It holds.
    Active,
    Refused,
    /// An administrator took it out of force.
    Disabled,
    /// Its time is over.
    Expired,
}

/// What can happen to a ResourceTicket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Approved,
    Refused,
    Disabled,
    /// The asked span began.
    SpanBegan,
    /// The asked span is over.
    SpanEnded,
    /// Its person changed what is asked for.
    Changed,
}

impl Phase {
    pub const ALL: [Self; 6] = [Self::Requested, Self::Approved, Self::Active, Self::Refused, Self::Disabled, Self::Expired];

    /// The next phase.
    ///
    /// # Errors
    /// When the event cannot happen in this phase.
    pub fn apply(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        match (self, event) {
            // A verdict can be changed as long as the time is not over.
            (Self::Requested | Self::Approved | Self::Refused | Self::Disabled, E::Approved) => Ok(Self::Approved),
            (Self::Active, E::Approved) => Ok(Self::Active),
            (Self::Requested | Self::Approved | Self::Active | Self::Refused | Self::Disabled, E::Refused) => Ok(Self::Refused),
            (Self::Approved | Self::Active | Self::Disabled, E::Disabled) => Ok(Self::Disabled),
            (Self::Approved | Self::Active, E::SpanBegan) => Ok(Self::Active),
            (Self::Requested | Self::Approved | Self::Active | Self::Refused | Self::Disabled | Self::Expired, E::SpanEnded) => {
                Ok(Self::Expired)
            }
            (Self::Requested | Self::Approved | Self::Active | Self::Refused | Self::Disabled | Self::Expired, E::Changed) => {
                Ok(Self::Requested)
            }
            (Self::Requested | Self::Refused, E::Disabled | E::SpanBegan)
            | (Self::Disabled, E::SpanBegan)
            | (Self::Expired, E::Approved | E::Refused | E::Disabled | E::SpanBegan) => Err(Refused::new(self, event)),
        }
    }
}

impl Event {
    pub const ALL: [Self; 6] = [Self::Approved, Self::Refused, Self::Disabled, Self::SpanBegan, Self::SpanEnded, Self::Changed];
}

impl ResourceTicket {
    /// Whether it is for this person.
    pub fn is_for(&self, user: &str, groups: &[String]) -> bool {
        match (&self.spec.user, &self.spec.group) {
            (Some(named), _) => named == user,
            (None, Some(group)) => groups.contains(group),
            (None, None) => {
                let annotations = self.metadata.annotations.as_ref();
                annotations.and_then(|annotations| annotations.get(labels::CREATED_BY)).is_some_and(|creator| creator == user)
            }
        }
    }

    /// Whether what it asks for is to be given at a moment. A change since the decision takes it away at
    /// once.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.observe(now).phase == Phase::Active
    }

    /// Status at a moment: what was decided and what time it is.
    pub fn observe(&self, now: Timestamp) -> ResourceTicketStatus {
        let mut status = self.status.clone().unwrap_or_default();
        let mut events = Vec::new();
        let changed = status.decided_generation.is_some_and(|seen| self.metadata.generation != Some(seen));
        if changed {
            // Nobody decided on this version.
            status.decision = None;
            status.decided_generation = None;
            events.push(Event::Changed);
        }
        if let Some(decision) = &mut status.decision {
            decision.at.get_or_insert(Time(now));
            status.decided_generation = self.metadata.generation;
            events.push(match decision.verdict {
                Verdict::Approved => Event::Approved,
                Verdict::Refused => Event::Refused,
                Verdict::Disabled => Event::Disabled,
            });
        }
        match self.spec.span.stand(now) {
            Stand::Before => {}
            Stand::Within => events.push(Event::SpanBegan),
            Stand::After => events.push(Event::SpanEnded),
        }
        for event in events {
            // What the phase does not allow changes nothing.
            status.phase = status.phase.apply(event).unwrap_or(status.phase);
        }
        status.observed_generation = self.metadata.generation;
        status
    }
}

impl Rules for ResourceTicket {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        if spec.user.is_some() && spec.group.is_some() {
            problems.push(Invalid::new("spec.group", "cannot be named beside a user"));
        }
        for (field, name) in [("spec.user", &spec.user), ("spec.group", &spec.group)] {
            if let Some(name) = name {
                checks::subjects(field, std::slice::from_ref(name), &mut problems);
            }
        }
        spec.asked.check("spec.asked", &mut problems);
        spec.span.check("spec.span", &mut problems);
        if spec.span.until.is_none() {
            problems.push(Invalid::new("spec.span.until", "is required: a ticket is for a while"));
        }
        problems
    }
}

crate::kind!(ResourceTicket);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_answers_every_event() {
        insta::assert_snapshot!(crate::rules::matrix(&Phase::ALL, &Event::ALL, Phase::apply));
    }

    fn ticket() -> ResourceTicket {
        let span = serde_json::json!({"from": "2026-01-10T00:00:00Z", "until": "2026-01-20T00:00:00Z"});
        let spec = serde_json::json!({"user": "ann", "asked": {"resources": {"gpu.fermion.dev/h100-sxm5-80gb": "4"}}, "span": span});
        let mut ticket = ResourceTicket::new("t", serde_json::from_value(spec).expect("a spec"));
        ticket.metadata.generation = Some(1);
        ticket
    }

    fn at(day: u32) -> Timestamp {
        format!("2026-01-{day:02}T00:00:00Z").parse().expect("a time")
    }

    #[test]
    fn an_approved_ticket_holds_in_its_time() {
        let mut ticket = ticket();
        assert_eq!(ticket.observe(at(5)).phase, Phase::Requested);
        assert_eq!(ticket.observe(at(15)).phase, Phase::Requested, "time alone gives nothing");
        let decision = Decision { verdict: Verdict::Approved, note: None, at: None };
        ticket.status = Some(ResourceTicketStatus { decision: Some(decision), ..ticket.observe(at(5)) });
        for (day, phase) in [(6, Phase::Approved), (10, Phase::Active), (19, Phase::Active), (20, Phase::Expired), (25, Phase::Expired)] {
            let status = ticket.observe(at(day));
            assert_eq!(status.phase, phase, "{day}");
            assert_eq!(status.decision.as_ref().and_then(|decision| decision.at.clone()), Some(Time(at(6))), "it was seen on the 6th");
            ticket.status = Some(status);
            let again = ticket.observe(at(day));
            assert_eq!(ticket.status, Some(again), "looking twice changes nothing");
        }
    }

    #[test]
    fn a_ticket_can_be_disabled_and_approved_again_and_a_change_asks_anew() {
        let mut ticket = ticket();
        let decide = |ticket: &mut ResourceTicket, verdict| {
            let mut status = ticket.status.clone().unwrap_or_default();
            status.decision = Some(Decision { verdict, note: None, at: None });
            ticket.status = Some(status);
            let status = ticket.observe(at(15));
            ticket.status = Some(status.clone());
            status.phase
        };
        assert_eq!(decide(&mut ticket, Verdict::Approved), Phase::Active);
        assert_eq!(decide(&mut ticket, Verdict::Disabled), Phase::Disabled);
        assert_eq!(decide(&mut ticket, Verdict::Approved), Phase::Active);
        assert_eq!(decide(&mut ticket, Verdict::Refused), Phase::Refused);
        assert_eq!(decide(&mut ticket, Verdict::Approved), Phase::Active);
        ticket.metadata.generation = Some(2);
        let changed = ticket.observe(at(15));
        assert_eq!((changed.phase, changed.decision), (Phase::Requested, None));
        assert!(!ticket.holds(at(15)));
    }
}
