//! Why a gang does not start, and what would make it start now.
//!
//! Every answer is found by trying: a constraint is named only if the gang fits once that
//! constraint alone is lifted, and a change is suggested only if the gang fits once it is
//! made. Where no single constraint is to blame, the fewest that are together are named.
//! How much is missing is the least that would have to be added, exact for gangs of equal
//! members.

mod missing;

use std::collections::BTreeMap;

pub use self::missing::{Missing, Room};
use crate::cluster::NodeId;
use crate::device::Each;
use crate::engine::{Engine, Members, Millis, Work, WorkId};
use crate::gang::{self, Topology};
use crate::preemption::Candidate;
use crate::request::{Constraints, Request};
use crate::resource::{Demand, ResourceId};
use crate::snapshot::Toleration;

/// The most constraints that are lifted together.
const TOGETHER_MAX: usize = 3;
/// The most closed nodes that are tried one by one.
const CLOSED_TRIED_MAX: usize = 64;

/// What is asked for of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    Amount(ResourceId),
    /// Cards of the accelerators the gang accepts.
    Cards,
}

/// Something that keeps a gang from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constraint {
    /// Places are kept free for work before it.
    Reservations,
    /// The gang must be in one domain of a level.
    Topology,
    /// Only so many of its members may be on one node.
    PerNode,
    /// Its selector, affinity and tolerations.
    Nodes,
    /// Nodes that are not ready or cordoned.
    Closed,
    /// There is too little of something.
    Short(Asked),
}

/// Why a gang waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Lifted together, these let it start; none of them can be left out. Empty when more than
    /// three would have to be.
    pub constraints: Vec<Constraint>,
    /// Whether it would not start on empty nodes either.
    pub permanent: bool,
    /// What is missing of each [`Constraint::Short`].
    pub missing: BTreeMap<Asked, Missing>,
    /// When it is expected to start if nothing changes; `None` when never.
    pub start: Option<Estimate>,
    pub changes: Vec<Change>,
}

/// When a gang is expected to start, and from what that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub at: Millis,
    /// Running work whose end it waits for.
    pub after: Vec<WorkId>,
    /// Whether all of those have a declared or learned run time. If not, they are expected to
    /// run as long again as they have.
    pub known: bool,
}

/// A change by which the gang would start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Fewer members of the one set it has; the most that fit.
    Fewer {
        members: u32,
    },
    /// Less of something for each member of a set; the most that fits.
    Less {
        set: usize,
        resource: ResourceId,
        amount: i64,
    },
    /// Fewer cards, or a smaller part of one in thousandths, for each member of a set.
    FewerCards {
        set: usize,
        count: u8,
    },
    SmallerShare {
        set: usize,
        compute: u16,
    },
    /// Not in one domain.
    AnyDomain,
    /// On any node.
    AnyNode,
    /// More members on one node.
    AnyPerNode,
    /// A closed node is opened.
    Open(NodeId),
    /// These end.
    End(Vec<WorkId>),
}

impl Engine {
    /// Why the work does not start now; `None` when it would. Of those that wait the
    /// reservations count that were made in the last round for others.
    pub fn explain(&mut self, now: Millis, work: &Work) -> Option<Explanation> {
        if self.fits(work) {
            return None;
        }
        let estimate = self.estimate(now, work);
        Some(self.without_reservations(|engine| {
            let mut explanation = engine.explain_unreserved(work);
            explanation.start = estimate;
            explanation
        }))
    }

    fn explain_unreserved(&mut self, work: &Work) -> Explanation {
        let constraints = if self.fits(work) { vec![Constraint::Reservations] } else { self.blocking(work) };
        let permanent = self.when_empty(|empty| !empty.fits(work));
        let short = constraints.iter().filter_map(|constraint| match constraint {
            Constraint::Short(asked) => Some(*asked),
            _ => None,
        });
        let lifted: Vec<Constraint> = constraints.iter().copied().filter(|one| !matches!(one, Constraint::Short(_))).collect();
        let missing: Vec<(Asked, Option<Missing>)> = short.map(|asked| (asked, self.missing(work, &lifted, asked))).collect();
        let missing = missing.into_iter().filter_map(|(asked, missing)| Some((asked, missing?))).collect();
        let changes = if constraints == [Constraint::Reservations] { Vec::new() } else { self.changes(work, &self.everybody()) };
        Explanation { constraints, permanent, missing, start: None, changes }
    }

    fn everybody(&self) -> Vec<Candidate> {
        self.running().keys().map(|work| Candidate { work: *work, tier: 0 }).collect()
    }

    /// Changes of which each alone would let the work start with no place kept for others; none
    /// when it would start then anyway. `running` are those whose end is a change.
    pub(crate) fn changes_for(&mut self, work: &Work, running: &[Candidate]) -> Vec<Change> {
        self.without_reservations(|engine| if engine.fits(work) { Vec::new() } else { engine.changes(work, running) })
    }

    pub(crate) fn fits(&mut self, work: &Work) -> bool {
        let sets = self.sets(work);
        gang::seat(&mut self.cluster, &sets, work.topology).is_some_and(|placed| {
            gang::unseat(&mut self.cluster, &placed);
            true
        })
    }

    /// The fewest constraints by whose lifting the work fits.
    fn blocking(&mut self, work: &Work) -> Vec<Constraint> {
        let possible = self.possible(work);
        for size in 1..=TOGETHER_MAX.min(possible.len()) {
            let mut picked: Vec<usize> = (0..size).collect();
            loop {
                let lifted: Vec<Constraint> = picked.iter().map(|place| possible[*place]).collect();
                if self.fits_lifted(work, &lifted) {
                    return lifted;
                }
                // The next choice in lexicographic order.
                let Some(turn) = (0..size).rev().find(|turn| picked[*turn] + (size - turn) < possible.len()) else { break };
                picked[turn] += 1;
                for later in turn + 1..size {
                    picked[later] = picked[later - 1] + 1;
                }
            }
        }
        Vec::new()
    }

    /// Constraints the work is under, those that are easiest to lift first.
    fn possible(&mut self, work: &Work) -> Vec<Constraint> {
        let mut possible = Vec::new();
        if work.topology.required.is_some() {
            possible.push(Constraint::Topology);
        }
        if work.sets.iter().any(|set| set.per_node_max.is_some()) {
            possible.push(Constraint::PerNode);
        }
        let mut asked: Vec<Asked> = work.sets.iter().flat_map(|set| set.request.demand.iter()).map(|(id, _)| Asked::Amount(id)).collect();
        if work.sets.iter().any(|set| set.request.devices.is_some()) {
            asked.push(Asked::Cards);
        }
        asked.sort_unstable();
        asked.dedup();
        // Cards first: they are what is scarce.
        possible.extend(asked.into_iter().rev().map(Constraint::Short));
        if self.cluster.nodes().any(|(_, node)| !node.facts.open) {
            possible.push(Constraint::Closed);
        }
        let bound = |set: &Members| set.request.constraints != Constraints::default();
        if work.sets.iter().any(bound) || self.cluster.nodes().any(|(_, node)| !node.facts.taints.is_empty()) {
            possible.push(Constraint::Nodes);
        }
        possible
    }

    /// Whether the work fits when these are lifted.
    pub fn fits_lifted(&mut self, work: &Work, lifted: &[Constraint]) -> bool {
        if lifted.contains(&Constraint::Reservations) {
            let others: Vec<Constraint> = lifted.iter().copied().filter(|one| *one != Constraint::Reservations).collect();
            return self.without_reservations(|engine| engine.fits_lifted(work, &others));
        }
        let opened = if lifted.contains(&Constraint::Closed) { self.open_all() } else { Vec::new() };
        let fits = self.fits(&without(work, lifted));
        for node in opened {
            self.cluster.set_open(node, false);
        }
        fits
    }

    fn open_all(&mut self) -> Vec<NodeId> {
        let closed: Vec<NodeId> = self.closed();
        for node in &closed {
            self.cluster.set_open(*node, true);
        }
        closed
    }

    fn closed(&self) -> Vec<NodeId> {
        self.cluster.nodes().filter(|(_, node)| !node.facts.open).map(|(id, _)| id).collect()
    }

    /// Changes that are each enough, found with no reservation in the way.
    fn changes(&mut self, work: &Work, all: &[Candidate]) -> Vec<Change> {
        let mut changes = Vec::new();
        if let [set] = &work.sets[..] {
            let members = largest(0, i64::from(set.count), |count| self.fits(&changed(work, 0, |set| set.count = count as u32)));
            changes.extend(members.filter(|count| *count > 0).map(|members| Change::Fewer { members: members as u32 }));
        }
        for (place, set) in work.sets.iter().enumerate() {
            for (resource, amount) in set.request.demand.iter().collect::<Vec<_>>() {
                let fit = largest(0, amount, |less| {
                    self.fits(&changed(work, place, |set| set.request.demand = replaced(&set.request.demand, resource, less)))
                });
                changes.extend(fit.filter(|amount| *amount > 0).map(|amount| Change::Less { set: place, resource, amount }));
            }
            let Some(devices) = set.request.devices else { continue };
            let count = largest(0, i64::from(devices.count), |less| self.fits(&changed(work, place, |set| fewer_cards(set, less))));
            changes.extend(count.filter(|count| *count > 0).map(|count| Change::FewerCards { set: place, count: count as u8 }));
            if let Each::Share { compute, .. } = devices.each {
                let fit = largest(0, i64::from(compute), |less| self.fits(&changed(work, place, |set| smaller_share(set, less))));
                changes.extend(fit.filter(|part| *part > 0).map(|part| Change::SmallerShare { set: place, compute: part as u16 }));
            }
        }
        let lifts =
            [(Constraint::Topology, Change::AnyDomain), (Constraint::PerNode, Change::AnyPerNode), (Constraint::Nodes, Change::AnyNode)];
        for (constraint, change) in lifts {
            if self.possible(work).contains(&constraint) && self.fits_lifted(work, &[constraint]) {
                changes.push(change);
            }
        }
        for node in self.closed().into_iter().take(CLOSED_TRIED_MAX) {
            self.cluster.set_open(node, true);
            let fits = self.fits(work);
            self.cluster.set_open(node, false);
            if fits {
                changes.push(Change::Open(node));
                break;
            }
        }
        changes.extend(self.victims(work, all).ok().filter(|victims| !victims.is_empty()).map(Change::End));
        changes
    }

    fn estimate(&mut self, now: Millis, work: &Work) -> Option<Estimate> {
        let reservation = match self.reservations().iter().find(|reservation| reservation.work == work.id) {
            Some(reservation) => reservation.clone(),
            None => self.look_ahead(now, work)?,
        };
        let after = reservation.awaits().to_vec();
        let known = after.iter().all(|id| self.running().get(id).is_some_and(|running| running.ends_at.is_some_and(|end| end > now)));
        Some(Estimate { at: reservation.start_at, after, known })
    }
}

/// The largest value in `low..high` that holds, where all below one that holds do too. `high`
/// does not hold.
fn largest(low: i64, high: i64, mut holds: impl FnMut(i64) -> bool) -> Option<i64> {
    let (mut low, mut high) = (low, high);
    if low >= high || !holds(low) {
        return None;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

fn changed(work: &Work, place: usize, change: impl FnOnce(&mut Members)) -> Work {
    let mut work = work.clone();
    change(&mut work.sets[place]);
    work
}

fn replaced(demand: &Demand, resource: ResourceId, amount: i64) -> Demand {
    demand.iter().map(|(id, before)| (id, if id == resource { amount } else { before })).collect()
}

fn fewer_cards(set: &mut Members, count: i64) {
    set.request.devices = set.request.devices.filter(|_| count > 0);
    if let Some(devices) = &mut set.request.devices {
        devices.count = count as u8;
    }
}

fn smaller_share(set: &mut Members, part: i64) {
    if let Some(devices) = &mut set.request.devices
        && let Each::Share { compute, .. } = &mut devices.each
    {
        *compute = part as u16;
    }
}

/// The work as it would be without these constraints.
fn without(work: &Work, lifted: &[Constraint]) -> Work {
    let mut work = work.clone();
    for constraint in lifted {
        match constraint {
            Constraint::Topology => work.topology = Topology { required: None, ..work.topology },
            Constraint::PerNode => work.sets.iter_mut().for_each(|set| set.per_node_max = None),
            Constraint::Nodes => work.sets.iter_mut().for_each(|set| set.request.constraints = anywhere()),
            Constraint::Short(asked) => work.sets.iter_mut().for_each(|set| set.request = asking_no(&set.request, *asked)),
            Constraint::Closed | Constraint::Reservations => {}
        }
    }
    work
}

fn anywhere() -> Constraints {
    Constraints { tolerations: vec![Toleration::default()], ..Constraints::default() }
}

fn asking_no(request: &Request, asked: Asked) -> Request {
    let mut request = request.clone();
    match asked {
        Asked::Amount(id) => request.demand = replaced(&request.demand, id, 0),
        Asked::Cards => request.devices = None,
    }
    request
}
