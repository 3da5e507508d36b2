//! Clusters described by groups of equal nodes.

use anyhow::{Context as _, Result, ensure};
use fermion_scheduler::device::{DEVICES_MAX, Device, Models};
use fermion_scheduler::node::Facts;
use fermion_scheduler::resource::ResourceId;
use serde::{Deserialize, Serialize};

use super::queues::{self, Queue};
use crate::trace::openb::Trace;

/// The most nodes of a described cluster.
pub const NODES_MAX: usize = 100_000;
const GIB: i64 = 1 << 30;

/// A group of equal nodes, as a file describes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Group {
    pub count: usize,
    /// Cores of a node.
    pub cpu: i64,
    pub memory_gib: i64,
    #[serde(default)]
    pub cards: usize,
    #[serde(default)]
    pub model: String,
    /// Racks that the nodes stand in, in equal parts.
    #[serde(default)]
    pub racks: usize,
}

/// A cluster, as a file describes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub nodes: Vec<Group>,
    #[serde(default)]
    pub queues: Vec<Queue>,
}

impl Description {
    /// The file that describes it.
    ///
    /// # Errors
    /// When it cannot be written in YAML.
    pub fn text(&self) -> Result<String> {
        serde_yaml::to_string(self).context("the description cannot be written")
    }
}

/// Nodes with their cards.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// Where there are none, all work is one queue's.
    pub queues: Vec<Queue>,
    pub models: Models,
    pub nodes: Vec<(Facts, Vec<Device>)>,
    made: usize,
}

impl Nodes {
    pub fn of(trace: &Trace) -> Self {
        Self { queues: Vec::new(), models: trace.models.clone(), nodes: trace.nodes.clone(), made: 0 }
    }

    /// Reads a description in YAML. `models` keep their numbers.
    ///
    /// # Errors
    /// When it is none, or describes more than [`NODES_MAX`] nodes.
    pub fn parse(text: &str, models: Models) -> Result<Self> {
        let description: Description =
            serde_yaml::from_str(text).context("this is no description of a cluster: see docs/guides/simulate.md")?;
        Self::described(description, models)
    }

    /// The same of a description that was read.
    ///
    /// # Errors
    /// When it describes what cannot be.
    pub fn described(description: Description, models: Models) -> Result<Self> {
        let mut nodes = Self { queues: description.queues, models, nodes: Vec::new(), made: 0 };
        for group in &description.nodes {
            nodes.add(group)?;
        }
        queues::check(&nodes.queues, nodes.cards())?;
        Ok(nodes)
    }

    /// Adds nodes like those with these cards, or else like a node with 12 cores and 96 GiB
    /// for each card.
    ///
    /// # Errors
    /// When there would be too many nodes or cards.
    pub fn add_like(&mut self, count: usize, cards: usize, model: &str) -> Result<()> {
        let id = self.models.id(model);
        let alike = self.nodes.iter().find(|(_, devices)| devices.len() == cards && devices.first().map(|device| device.model) == id);
        let (cpu, memory_gib) = alike.map_or((12 * cards as i64, 96 * cards as i64), |(facts, _)| {
            (facts.allocatable.get(ResourceId::CPU) / 1000, facts.allocatable.get(ResourceId::MEMORY) / GIB)
        });
        self.add(&Group { count, cpu, memory_gib, cards, model: model.to_owned(), racks: 0 })
    }

    fn add(&mut self, group: &Group) -> Result<()> {
        ensure!(self.nodes.len() + group.count <= NODES_MAX, "more than {NODES_MAX} nodes are not simulated");
        ensure!(group.cards <= DEVICES_MAX, "a node has at most {DEVICES_MAX} cards, not {}", group.cards);
        ensure!(group.cpu >= 0 && group.memory_gib >= 0, "a node cannot have {} cores and {} GiB", group.cpu, group.memory_gib);
        ensure!(group.cards == 0 || !group.model.is_empty(), "a group of nodes with {} cards names no model", group.cards);
        let devices = if group.cards == 0 {
            Vec::new()
        } else {
            let model = self.models.intern(&group.model).with_context(|| format!("{} is one model too many", group.model))?;
            vec![Device::new(model, 0); group.cards]
        };
        let amounts = [
            (ResourceId::CPU, group.cpu.saturating_mul(1000)),
            (ResourceId::MEMORY, group.memory_gib.saturating_mul(GIB)),
            (ResourceId::PODS, i64::from(u16::MAX)),
        ];
        for number in 0..group.count {
            let domains = if group.racks == 0 { Vec::new() } else { vec![format!("rack-{:04}", number * group.racks / group.count)] };
            let name = format!("described-{:06}", self.made);
            self.made += 1;
            let facts = Facts { name, open: true, allocatable: amounts.into_iter().collect(), domains, ..Facts::default() };
            self.nodes.push((facts, devices.clone()));
        }
        Ok(())
    }

    /// Takes away the last so many nodes whose cards are of a model.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn remove(&mut self, count: usize, model: &str) -> Result<()> {
        let id = self.models.id(model).with_context(|| format!("no node has cards of the model {model}"))?;
        let is_one = |devices: &[Device]| devices.first().is_some_and(|device| device.model == id);
        let there = self.nodes.iter().filter(|node| is_one(&node.1)).count();
        ensure!(there >= count, "there are {there} nodes with {model}, not {count}");
        let mut kept = there - count;
        self.nodes.retain(|(_, devices)| {
            if !is_one(devices) {
                return true;
            }
            let keep = kept > 0;
            kept = kept.saturating_sub(1);
            keep
        });
        Ok(())
    }

    pub fn cards(&self) -> u32 {
        self.nodes.iter().map(|node| node.1.len() as u32).sum()
    }

    /// How many cards most cards' nodes have: into parts of so many a job is cut.
    pub fn cards_of_a_node(&self) -> u32 {
        let mut cards = [0; DEVICES_MAX + 1];
        for (_, devices) in &self.nodes {
            cards[devices.len()] += devices.len();
        }
        (1..cards.len()).max_by_key(|size| cards[*size]).unwrap_or(1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "nodes:\n- {count: 4, cpu: 96, memoryGib: 768, cards: 8, model: H100, racks: 2}\n- {count: 2, cpu: 32, memoryGib: 128}\n";

    #[test]
    fn groups_become_nodes_and_can_grow_and_shrink() {
        let mut nodes = Nodes::parse(TEXT, Models::default()).expect("a description");
        assert_eq!((nodes.nodes.len(), nodes.cards(), nodes.cards_of_a_node()), (6, 32, 8));
        assert_eq!(nodes.nodes[2].0.domains, ["rack-0001"]);
        nodes.add_like(1, 8, "H100").expect("there is room");
        assert_eq!(nodes.nodes[6].0.allocatable, nodes.nodes[0].0.allocatable);
        nodes.remove(3, "H100").expect("there are five");
        assert_eq!(nodes.cards(), 16);
        assert!(nodes.remove(3, "H100").expect_err("two are left").to_string().contains("2 nodes with H100"));
    }

    #[test]
    fn what_is_no_cluster_is_refused() {
        for text in
            ["nodes: 3", "nodes:\n- {count: 1, cpu: 1, memoryGib: 1, gpus: 8}\n", "nodes:\n- {count: 1, cpu: 1, memoryGib: 1, cards: 8}\n"]
        {
            assert!(Nodes::parse(text, Models::default()).is_err(), "{text}");
        }
        let many = "nodes:\n- {count: 100001, cpu: 1, memoryGib: 1}\n";
        assert!(Nodes::parse(many, Models::default()).is_err());
    }
}
