//! Fitting members onto nodes.
//!
//! Members that ask for the same and accept the same nodes form a class. The greedy pass puts
//! the largest class first, each member on the node it fills most; for one class alone it is
//! exact. With several classes it can miss an arrangement, so a bounded search follows, which
//! is exact on all but large cases.

use std::collections::BTreeMap;

use crate::matching::suits;
use crate::snapshot::{Amounts, Member, Milli, Node};

/// The most steps of the search over several classes.
const SEARCH_STEPS_MAX: u32 = 20_000;
/// The most (class, node) pairs the search is tried on; it recurses once per pair.
const SEARCH_PAIRS_MAX: usize = 512;

/// Nodes and what is free on them, in a fixed order.
#[derive(Clone, Copy)]
pub(crate) struct Rooms<'r> {
    pub nodes: &'r [&'r Node],
    /// As long as `nodes`. May be negative where a node shrank.
    pub free: &'r [Amounts],
}

/// What is free once some members took their place, without a copy of every node.
pub(crate) struct Remaining<'r> {
    free: &'r [Amounts],
    changed: BTreeMap<usize, Amounts>,
}

impl Remaining<'_> {
    pub(crate) fn at(&self, place: usize) -> &Amounts {
        self.changed.get(&place).unwrap_or(&self.free[place])
    }

    fn take(&mut self, place: usize, requests: &Amounts, times: Milli) {
        take(self.changed.entry(place).or_insert_with(|| self.free[place].clone()), requests, times);
    }
}

/// Equal members of a gang.
pub(crate) struct Class<'a> {
    pub member: &'a Member,
    /// Ids of all of them.
    pub ids: Vec<&'a str>,
    /// Nodes they may run on, room aside, as places in [`Rooms`].
    pub suited: Vec<usize>,
}

/// Members and where they go, as places in [`Rooms`].
pub(crate) type Placed<'a> = Vec<(&'a str, usize)>;

/// How far the greedy pass came.
pub(crate) struct Stuck<'r> {
    /// The class one more member of which fits nowhere.
    pub class: usize,
    pub placed: usize,
    /// What is free once those are placed.
    pub remaining: Remaining<'r>,
}

/// Sorts members into classes, the largest first. `open` says which nodes count at all.
pub(crate) fn classes<'a>(members: &[&'a Member], nodes: &[&Node], open: impl Fn(usize) -> bool) -> Vec<Class<'a>> {
    let mut classes: Vec<Class<'a>> = Vec::new();
    for &member in members {
        match classes.iter_mut().find(|class| same(class.member, member)) {
            Some(class) => class.ids.push(&member.id),
            None => classes.push(Class {
                member,
                ids: vec![&member.id],
                suited: (0..nodes.len()).filter(|&place| open(place) && suits(member, nodes[place])).collect(),
            }),
        }
    }
    let weight = |class: &Class<'_>| {
        let share = |&place: &usize| dominant_share(&class.member.requests, &nodes[place].allocatable);
        class.suited.iter().map(share).fold(f64::INFINITY, f64::min)
    };
    // Stable: equal classes stay in the order of their members.
    classes.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    classes
}

/// Whether two members ask for the same and accept the same nodes.
pub(crate) fn same(a: &Member, b: &Member) -> bool {
    a.requests == b.requests
        && a.part == b.part
        && a.node_selector == b.node_selector
        && a.tolerations == b.tolerations
        && a.affinity == b.affinity
        && a.preferred == b.preferred
        && a.alone == b.alone
}

/// The largest part that `amounts` takes of `whole`, over all resources.
pub(crate) fn dominant_share(amounts: &Amounts, whole: &Amounts) -> f64 {
    amounts.iter().filter(|(_, amount)| **amount > 0).map(|(name, amount)| share(*amount, get(whole, name))).fold(0.0, f64::max)
}

/// `part` of `whole`; of nothing, everything is infinitely much.
pub(crate) fn share(part: Milli, whole: Milli) -> f64 {
    if whole <= 0 { f64::INFINITY } else { part as f64 / whole as f64 }
}

pub(crate) fn get(amounts: &Amounts, name: &str) -> Milli {
    amounts.get(name).copied().unwrap_or(0)
}

/// Whether the amounts asked for are free.
pub(crate) fn fits(requests: &Amounts, free: &Amounts) -> bool {
    requests.iter().all(|(name, amount)| *amount <= 0 || *amount <= get(free, name))
}

pub(crate) fn take(free: &mut Amounts, requests: &Amounts, times: Milli) {
    for (name, amount) in requests {
        let left = free.entry(name.clone()).or_default();
        *left = left.saturating_sub(amount.saturating_mul(times));
    }
}

/// How many members like this one fit into what is free, at most `wanted`.
fn count(requests: &Amounts, free: &Amounts, wanted: usize) -> usize {
    requests
        .iter()
        .filter(|(_, amount)| **amount > 0)
        .map(|(name, amount)| usize::try_from((get(free, name) / amount).max(0)).unwrap_or(usize::MAX))
        .fold(wanted, usize::min)
}

/// Places every member, or says how far that goes.
pub(crate) fn place<'a, 'r>(classes: &[Class<'a>], rooms: Rooms<'r>) -> Result<Placed<'a>, Stuck<'r>> {
    let stuck = match greedy(classes, rooms) {
        Ok(placed) => return Ok(placed),
        Err(stuck) => stuck,
    };
    let pairs: usize = classes.iter().map(|class| class.suited.len()).sum();
    if classes.len() < 2 || pairs > SEARCH_PAIRS_MAX || !possible(classes, rooms) {
        return Err(stuck);
    }
    let remaining = Remaining { free: rooms.free, changed: BTreeMap::new() };
    let mut search = Search { classes, remaining, chosen: Vec::new(), steps: 0 };
    if search.from(0, 0, classes[0].ids.len()) { Ok(search.placed()) } else { Err(stuck) }
}

fn greedy<'a, 'r>(classes: &[Class<'a>], rooms: Rooms<'r>) -> Result<Placed<'a>, Stuck<'r>> {
    let mut remaining = Remaining { free: rooms.free, changed: BTreeMap::new() };
    let mut placed = Placed::new();
    for (index, class) in classes.iter().enumerate() {
        for id in &class.ids {
            let Some(place) = best(class, rooms.nodes, &remaining) else {
                return Err(Stuck { class: index, placed: placed.len(), remaining });
            };
            remaining.take(place, &class.member.requests, 1);
            placed.push((id, place));
        }
    }
    Ok(placed)
}

/// The node a member fills most, of those without accelerators it does not ask for, if any.
fn best(class: &Class<'_>, nodes: &[&Node], remaining: &Remaining<'_>) -> Option<usize> {
    let requests = &class.member.requests;
    let fit = class.suited.iter().copied().filter(|&place| fits(requests, remaining.at(place)));
    fit.min_by(|&a, &b| {
        let unwanted = |place: usize| unwanted_devices(class.member, nodes[place]);
        unwanted(a).cmp(&unwanted(b)).then_with(|| {
            let fill = |place: usize| fill(requests, nodes[place], remaining.at(place));
            // The fuller first; nodes come sorted by name, and `min_by` keeps the first of equals.
            fill(b).total_cmp(&fill(a))
        })
    })
}

/// Devices of the node (resources with a domain, such as `gpu.fermion.dev/a100`) that the
/// member does not ask for.
fn unwanted_devices(member: &Member, node: &Node) -> usize {
    let device = |(name, amount): &(&String, &Milli)| name.contains('/') && **amount > 0 && get(&member.requests, name) == 0;
    node.allocatable.iter().filter(device).count()
}

/// The largest used part of any resource that is asked for, once the member is there.
fn fill(requests: &Amounts, node: &Node, free: &Amounts) -> f64 {
    let used = |(name, amount): (&String, &Milli)| {
        let whole = get(&node.allocatable, name);
        share(whole.saturating_sub(get(free, name)).saturating_add(*amount), whole)
    };
    requests.iter().filter(|(_, amount)| **amount > 0).map(used).fold(0.0, f64::max)
}

/// Whether nothing obvious stands against an arrangement: each class fits when alone, and the
/// sums do.
fn possible(classes: &[Class<'_>], rooms: Rooms<'_>) -> bool {
    let alone = |class: &Class<'_>| {
        let wanted = class.ids.len();
        let mut room = 0_usize;
        for &place in &class.suited {
            room = room.saturating_add(count(&class.member.requests, &rooms.free[place], wanted));
        }
        room >= wanted
    };
    classes.iter().all(alone) && crate::shortage::of_sums(classes, rooms).is_none()
}

/// The search: for each class in turn, how many of its members each node takes.
struct Search<'a, 'c> {
    classes: &'c [Class<'a>],
    remaining: Remaining<'c>,
    /// (class, place, how many) of the way taken.
    chosen: Vec<(usize, usize, usize)>,
    steps: u32,
}

impl<'a> Search<'a, '_> {
    /// Places `left` members of `class` on its nodes from the `turn`-th on, then the classes
    /// after it.
    fn from(&mut self, class: usize, turn: usize, left: usize) -> bool {
        self.steps += 1;
        if self.steps > SEARCH_STEPS_MAX {
            return false;
        }
        let classes = self.classes;
        if left == 0 {
            let next = class + 1;
            return next == classes.len() || self.from(next, 0, classes[next].ids.len());
        }
        let Some(&place) = classes[class].suited.get(turn) else { return false };
        let requests = &classes[class].member.requests;
        for taken in (0..=count(requests, self.remaining.at(place), left)).rev() {
            self.remaining.take(place, requests, taken as Milli);
            self.chosen.push((class, place, taken));
            if self.from(class, turn + 1, left - taken) {
                return true;
            }
            self.chosen.pop();
            self.remaining.take(place, requests, -(taken as Milli));
        }
        false
    }

    fn placed(&self) -> Placed<'a> {
        let mut next = vec![0; self.classes.len()];
        let mut placed = Placed::new();
        for &(class, place, taken) in &self.chosen {
            for _ in 0..taken {
                placed.push((self.classes[class].ids[next[class]], place));
                next[class] += 1;
            }
        }
        placed
    }
}
