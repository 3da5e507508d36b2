//! How many pods a second are placed, in memory, when every node is scored exactly.
//!
//! The shapes of kube-scheduler's performance tests: `SchedulingBasic` (nodes of 4 cores,
//! 32 GiB and 110 pods; pods of 100 thousandths of a core and 500 MiB) and its gangs in racks
//! (<https://github.com/kubernetes/kubernetes/tree/master/test/integration/scheduler_perf>,
//! kubernetes#139859). There each pod also passes through an API server; here nothing does, so
//! figures of the two are no comparison of whole systems.

use std::time::Duration;

use fermion_scheduler::cluster::Cluster;
use fermion_scheduler::gang::{self, Set, Topology};
use fermion_scheduler::node::Facts;
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;
use fermion_scheduler::scoring::{Mix, Placement};

use crate::random::Random;

/// Racks that nodes stand in, in turn.
const RACKS: usize = 50;
const MIB: i64 = 1 << 20;

/// What is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub nodes: usize,
    pub pods: usize,
    /// How many different shapes of pods come in random order; 1 is `SchedulingBasic`.
    pub shapes: usize,
    /// Pods of a gang, which must stand in one rack; 1 for pods of their own.
    pub gang: usize,
    pub placement: Placement,
}

/// What it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    pub placed: usize,
    /// From the first decision to the last.
    pub total: Duration,
    /// Of each decision, a pod's or a gang's, sorted.
    pub decisions: Vec<Duration>,
}

impl Speed {
    pub fn pods_per_s(&self) -> f64 {
        self.placed as f64 / self.total.as_secs_f64()
    }

    /// The time below which a `part` (0 to 1) of the decisions took, in microseconds.
    pub fn quantile_us(&self, part: f64) -> f64 {
        let place = (part * self.decisions.len() as f64).ceil() as usize;
        self.decisions[place.clamp(1, self.decisions.len()) - 1].as_secs_f64() * 1e6
    }
}

/// Places all pods. `clock` says how much time has passed since some moment.
pub fn run(load: Load, mut clock: impl FnMut() -> Duration) -> Speed {
    let requests = shapes(load.shapes);
    let mut cluster = Cluster::new(load.placement, Mix::typical(&requests, 1.0));
    for number in 0..load.nodes {
        let allocatable = [(ResourceId::CPU, 4000), (ResourceId::MEMORY, 32 * 1024 * MIB), (ResourceId::PODS, 110)].into_iter().collect();
        let domains = vec![format!("rack-{:02}", number % RACKS)];
        cluster.add(Facts { name: format!("node-{number:06}"), open: true, allocatable, domains, ..Facts::default() }, Vec::new());
    }
    let classes: Vec<_> = requests.iter().map(|request| cluster.class(request)).collect();
    // The order of nodes and each class's tournament are made once in a scheduler's life.
    for class in &classes {
        cluster.room(*class, None);
    }
    let mut random = Random::new(1);
    let topology = Topology { required: (load.gang > 1).then_some(0), preferred: None };
    let mut speed = Speed { placed: 0, total: Duration::ZERO, decisions: Vec::with_capacity(load.pods / load.gang) };
    let start = clock();
    let mut before = start;
    for _ in 0..load.pods / load.gang {
        let class = classes[random.below(classes.len())];
        let placed = if load.gang == 1 {
            let node = cluster.best(class, None);
            node.map_or(0, |node| {
                cluster.take(class, node);
                1
            })
        } else {
            let set = Set { class, count: load.gang as u32, per_node_max: None };
            gang::seat(&mut cluster, &[set], topology).map_or(0, |placed| placed.len())
        };
        speed.placed += placed;
        let now = clock();
        speed.decisions.push(now.saturating_sub(before));
        before = now;
    }
    speed.total = before.saturating_sub(start);
    speed.decisions.sort_unstable();
    speed
}

/// Pods of `SchedulingBasic`, and others that are a little larger each.
fn shapes(count: usize) -> Vec<Request> {
    let pod = |more: i64| {
        let demand = [(ResourceId::CPU, 100 + more), (ResourceId::MEMORY, (500 + more) * MIB), (ResourceId::PODS, 1)];
        Request { demand: demand.into_iter().collect(), ..Request::default() }
    };
    (0..count as i64).map(pod).collect()
}
