//! A small cluster and work for it, made up from a seed: for tests, and where no recorded
//! trace is at hand. Shaped after the openb traces, claimed to be nothing but small.

use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelId, ModelSet, Models};
use fermion_scheduler::node::Facts;
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;

use super::openb::Trace;
use crate::random::Random;

/// Cards and models of the node shapes, and how many there are of each.
const NODES: [(usize, &str, usize); 4] = [(8, "large", 24), (2, "small", 16), (4, "middle", 4), (1, "small", 4)];
const CORES_EACH: i64 = 12;
const GIB: i64 = 1 << 30;
/// Shares of a card that pods ask for, in thousandths.
const SHARES: [u16; 5] = [810, 470, 320, 650, 230];

/// Nodes, and pods that ask for about as many cards as there are.
pub fn openb(seed: u64) -> Trace {
    let mut random = Random::new(seed);
    let mut models = Models::default();
    let mut nodes = Vec::new();
    for (cards, name, count) in NODES {
        let model = models.intern(name).expect("three models");
        for _ in 0..count {
            let cores = CORES_EACH * cards as i64 * 1000;
            let allocatable = [(ResourceId::CPU, cores), (ResourceId::MEMORY, cores * GIB / 250)].into_iter().collect();
            let name = format!("node-{:03}", nodes.len());
            nodes.push((Facts { name, open: true, allocatable, ..Facts::default() }, vec![Device::new(model, 0); cards]));
        }
    }
    let capacity: i64 = nodes.iter().map(|node| node.1.len() as i64 * 1000).sum();
    let small = models.id("small").expect("it was made above");
    let mut pods = Vec::new();
    let mut asked = 0;
    while asked < capacity {
        let pod = pod(&mut random, small);
        asked += pod.cards();
        pods.push(pod);
    }
    Trace { models, nodes, pods }
}

fn pod(random: &mut Random, small: ModelId) -> Request {
    let any = ModelSet::ANY;
    let (cores, devices) = match random.below(100) {
        0..13 => (2 + 2 * random.below(6), None),
        13..50 => {
            let share = Each::Share { compute: SHARES[random.below(SHARES.len())], memory_mib: 0 };
            (4 + random.below(4), Some(DeviceRequest { models: any, count: 1, each: share }))
        }
        50..62 => {
            let models = [small].into_iter().collect();
            (8, Some(DeviceRequest { models, count: 1, each: Each::Whole }))
        }
        62..96 => (8, Some(DeviceRequest { models: any, count: 1, each: Each::Whole })),
        _ => (64, Some(DeviceRequest { models: any, count: 8, each: Each::Whole })),
    };
    let cores = cores as i64;
    let demand = [(ResourceId::CPU, cores * 1000), (ResourceId::MEMORY, cores * 2 * GIB)].into_iter().collect();
    Request { demand, devices, ..Request::default() }
}
