//! Seating a gang: all the members it needs, or none.
//!
//! Sets are seated one after the other, each member on the best node at that moment. For
//! members that are all alike this finds a place whenever there is one. With several sets the
//! first choice may block a later one, so a bounded search follows, which is exact on small
//! clusters.

use crate::cluster::{ClassId, Cluster, NodeId, Run};
use crate::node::Seat;
use crate::scoring::Placement;

/// No cluster has more levels of domains than this.
const LEVELS_MAX: usize = 16;
/// The most domains of one level that are tried, the tightest first.
const DOMAINS_TRIED_MAX: usize = 64;
/// The most steps of the search over several sets.
const SEARCH_STEPS_MAX: u32 = 20_000;
/// The most (set, node) pairs the search is tried on; it recurses once per pair.
const SEARCH_PAIRS_MAX: usize = 256;

/// Members of a gang that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Set {
    pub class: ClassId,
    /// How many are to be seated.
    pub count: u32,
    /// The most of them on one node; `None` for as many as have room.
    pub per_node_max: Option<u32>,
}

/// How close together a gang must be, by levels of domains; level 0 is the widest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Topology {
    /// All members in one domain of this level.
    pub required: Option<usize>,
    /// Rather in one domain of this level, else of the next wider one, and so on.
    pub preferred: Option<usize>,
}

/// A member in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which of the sets it is of.
    pub set: usize,
    pub node: NodeId,
    pub seat: Seat,
}

/// Seats all members of all sets, or changes nothing.
pub fn seat(cluster: &mut Cluster, sets: &[Set], topology: Topology) -> Option<Vec<Placed>> {
    if !may_fit(cluster, sets, None) {
        return None;
    }
    let narrowest = topology.preferred.max(topology.required).map(|level| level.min(LEVELS_MAX));
    for level in (topology.required.unwrap_or(0)..narrowest.map_or(0, |level| level + 1)).rev() {
        for run in tightest_domains(cluster, sets, level) {
            if let Some(placed) = seat_in(cluster, sets, Some(&run)) {
                return Some(placed);
            }
        }
    }
    if topology.required.is_some() { None } else { seat_in(cluster, sets, None) }
}

/// Frees the seats again, the last first.
pub fn unseat(cluster: &mut Cluster, placed: &[Placed]) {
    for one in placed.iter().rev() {
        cluster.give_back(one.node, &one.seat);
    }
}

/// Whether every set alone has room. [`Placement::Random`] counts nodes only.
fn may_fit(cluster: &mut Cluster, sets: &[Set], within: Option<&Run>) -> bool {
    let counts_nodes = cluster.placement() == Placement::Random;
    sets.iter().all(|set| {
        let room = cluster.room(set.class, within);
        if counts_nodes { set.count == 0 || room > 0 } else { room >= set.count }
    })
}

/// Domains in which every set alone has room, those with the least to spare first.
fn tightest_domains(cluster: &mut Cluster, sets: &[Set], level: usize) -> Vec<Run> {
    let runs: Vec<Run> = cluster.domains(level).iter().map(|domain| domain.run.clone()).collect();
    let mut fit: Vec<(u32, Run)> = Vec::new();
    for run in runs {
        if may_fit(cluster, sets, Some(&run)) {
            let spare = sets.iter().map(|set| cluster.room(set.class, Some(&run)).saturating_sub(set.count)).fold(0, u32::saturating_add);
            fit.push((spare, run));
        }
    }
    fit.sort_by_key(|(spare, run)| (*spare, run.start));
    fit.truncate(DOMAINS_TRIED_MAX);
    fit.into_iter().map(|(_, run)| run).collect()
}

fn seat_in(cluster: &mut Cluster, sets: &[Set], within: Option<&Run>) -> Option<Vec<Placed>> {
    if let Some(placed) = greedy(cluster, sets, within) {
        return Some(placed);
    }
    if sets.len() < 2 || sets.iter().any(|set| set.per_node_max.is_some()) {
        return None;
    }
    search(cluster, sets, within)
}

/// Sets with the least room relative to what they need go first.
fn greedy(cluster: &mut Cluster, sets: &[Set], within: Option<&Run>) -> Option<Vec<Placed>> {
    let mut order: Vec<(u32, usize)> =
        sets.iter().enumerate().map(|(place, set)| (cluster.room(set.class, within) / set.count.max(1), place)).collect();
    order.sort_unstable();
    let mut placed: Vec<Placed> = Vec::new();
    for (_, place) in order {
        let set = sets[place];
        let mut closed: Vec<NodeId> = Vec::new();
        let mut left = set.count;
        while left > 0 {
            let Some(node) = cluster.best(set.class, within) else { break };
            placed.push(Placed { set: place, node, seat: cluster.take(set.class, node) });
            left -= 1;
            if let Some(most) = set.per_node_max {
                let here = placed.iter().rev().filter(|one| one.set == place && one.node == node).count();
                if here >= most as usize {
                    cluster.set_open(node, false);
                    closed.push(node);
                }
            }
        }
        for node in closed {
            cluster.set_open(node, true);
        }
        if left > 0 {
            unseat(cluster, &placed);
            return None;
        }
    }
    Some(placed)
}

/// For each set in turn, how many of its members each node takes.
fn search(cluster: &mut Cluster, sets: &[Set], within: Option<&Run>) -> Option<Vec<Placed>> {
    let all = 0..cluster.len();
    let nodes: Vec<NodeId> = cluster.nodes_in(within.unwrap_or(&all)).to_vec();
    let mut useful: Vec<Vec<NodeId>> = Vec::new();
    for set in sets {
        useful.push(nodes.iter().copied().filter(|node| cluster.room_on(set.class, *node) > 0).collect());
    }
    if useful.iter().map(Vec::len).sum::<usize>() > SEARCH_PAIRS_MAX {
        return None;
    }
    let mut search = Search { cluster, sets, useful: &useful, placed: Vec::new(), steps: 0 };
    search.from(0, 0, sets[0].count).then_some(search.placed)
}

struct Search<'s> {
    cluster: &'s mut Cluster,
    sets: &'s [Set],
    useful: &'s [Vec<NodeId>],
    placed: Vec<Placed>,
    steps: u32,
}

impl Search<'_> {
    /// Seats `left` members of a set on its nodes from the `turn`-th on, then the sets after it.
    /// Answers whether all are seated; if not, nothing is.
    fn from(&mut self, set: usize, turn: usize, left: u32) -> bool {
        self.steps += 1;
        if self.steps > SEARCH_STEPS_MAX {
            return false;
        }
        if left == 0 {
            let next = set + 1;
            return next == self.sets.len() || self.from(next, 0, self.sets[next].count);
        }
        let Some(&node) = self.useful[set].get(turn) else { return false };
        let class = self.sets[set].class;
        let most = self.cluster.room_on(class, node).min(left);
        for _ in 0..most {
            let seat = self.cluster.take(class, node);
            self.placed.push(Placed { set, node, seat });
        }
        for taken in (0..=most).rev() {
            if self.from(set, turn + 1, left - taken) {
                return true;
            }
            if taken > 0 {
                let last = self.placed.pop().expect("as many were seated here");
                self.cluster.give_back(node, &last.seat);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Facts;
    use crate::request::Request;
    use crate::resource::ResourceId;
    use crate::scoring::Mix;

    fn cluster(cores: &[i64]) -> Cluster {
        let mut cluster = Cluster::new(Placement::BestFit, Mix::default());
        for (number, cores) in cores.iter().enumerate() {
            let allocatable = [(ResourceId::CPU, cores * 1000)].into_iter().collect();
            let domains = vec![format!("zone{}", number / 4), format!("rack{}", number / 2)];
            cluster.add(Facts { name: format!("n{number}"), open: true, allocatable, domains, ..Facts::default() }, Vec::new());
        }
        cluster
    }

    fn set(cluster: &mut Cluster, cores: i64, count: u32) -> Set {
        let demand = [(ResourceId::CPU, cores * 1000)].into_iter().collect();
        let class = cluster.class(&Request { demand, ..Request::default() });
        Set { class, count, per_node_max: None }
    }

    fn names(cluster: &Cluster, placed: &[Placed]) -> Vec<String> {
        let mut names: Vec<String> = placed.iter().map(|one| cluster.node(one.node).expect("there").facts.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_gang_is_seated_whole_or_not_at_all() {
        let mut cluster = cluster(&[4, 4]);
        let five = set(&mut cluster, 2, 5);
        assert_eq!(seat(&mut cluster, &[five], Topology::default()), None);
        assert_eq!(cluster.room(five.class, None), 4);
        let placed = seat(&mut cluster, &[Set { count: 4, ..five }], Topology::default()).expect("there is room for four");
        assert_eq!(cluster.room(five.class, None), 0);
        unseat(&mut cluster, &placed);
        assert_eq!(cluster.room(five.class, None), 4);
    }

    #[test]
    fn sets_that_stand_in_each_others_way_are_rearranged() {
        let mut cluster = cluster(&[5, 4]);
        // Two of 2 fill the second node best, but then 3 and 2 must share the first.
        let sets = [set(&mut cluster, 3, 1), set(&mut cluster, 2, 3)];
        assert_eq!(seat(&mut cluster, &sets, Topology::default()).map(|placed| placed.len()), Some(4));
    }

    #[test]
    fn a_required_domain_is_kept_and_the_tightest_is_taken() {
        let mut cluster = cluster(&[4, 4, 4, 2, 4, 4, 4, 4]);
        let rack = Topology { required: Some(1), preferred: None };
        let three = set(&mut cluster, 2, 3);
        let placed = seat(&mut cluster, &[three], rack).expect("a rack has room for three");
        assert_eq!(names(&cluster, &placed), ["n2", "n2", "n3"]);
        let five = set(&mut cluster, 2, 5);
        assert_eq!(seat(&mut cluster, &[five], rack), None);
        let rather = Topology { required: Some(0), preferred: Some(1) };
        let placed = seat(&mut cluster, &[five], rather).expect("a zone has room for five");
        assert!(names(&cluster, &placed).iter().all(|name| ["n4", "n5", "n6", "n7"].contains(&name.as_str())), "a zone with room to spare");
    }

    #[test]
    fn no_node_takes_more_members_than_allowed() {
        let mut cluster = cluster(&[8, 8, 8]);
        let three = Set { per_node_max: Some(1), ..set(&mut cluster, 1, 3) };
        let placed = seat(&mut cluster, &[three], Topology::default()).expect("one on each");
        assert_eq!(names(&cluster, &placed), ["n0", "n1", "n2"]);
        let four = Set { count: 4, ..three };
        assert_eq!(seat(&mut cluster, &[four], Topology::default()), None);
        assert!(cluster.nodes().all(|(_, node)| node.facts.open), "nodes are closed only while the gang is seated");
    }
}
