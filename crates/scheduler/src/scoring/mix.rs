//! What is usually asked for: shapes of members with their frequencies.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::{Each, ModelSet, WHOLE};
use crate::request::Request;
use crate::resource::ResourceId;

/// What matters of a request for the question which idle cards it could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Thousandths of a core.
    pub cpu: i64,
    pub cards: u8,
    /// Thousandths of each card.
    pub compute: u16,
    pub models: ModelSet,
}

impl Shape {
    /// Slices count as shares of nothing, as their compute differs by model.
    pub fn of(request: &Request) -> Self {
        let cpu = request.demand.get(ResourceId::CPU);
        let Some(devices) = request.devices else { return Self { cpu, cards: 0, compute: 0, models: ModelSet::ANY } };
        let compute = match devices.each {
            Each::Whole => WHOLE,
            Each::Share { compute, .. } => compute,
            Each::Slice { .. } => 0,
        };
        Self { cpu, cards: devices.count, compute, models: devices.models }
    }

    pub fn demand(&self) -> i64 {
        i64::from(self.cards) * i64::from(self.compute)
    }
}

/// Shapes and their weights, which sum to one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mix {
    pub shapes: Vec<(Shape, f64)>,
}

impl Mix {
    /// The most frequent shapes, which together make up `part` (0 to 1) of all requests.
    pub fn typical<'r>(requests: impl IntoIterator<Item = &'r Request>, part: f64) -> Self {
        let mut counts: BTreeMap<Shape, u64> = BTreeMap::new();
        for request in requests {
            *counts.entry(Shape::of(request)).or_default() += 1;
        }
        Self::typical_of(&counts, part)
    }

    /// The same of shapes that were counted.
    pub(crate) fn typical_of(counts: &BTreeMap<Shape, u64>, part: f64) -> Self {
        let all: u64 = counts.values().sum();
        // Stable: of equally frequent ones the largest comes first.
        let mut shapes: Vec<(Shape, u64)> = counts.iter().rev().map(|(shape, count)| (*shape, *count)).collect();
        shapes.sort_by_key(|entry| std::cmp::Reverse(entry.1));
        let mut covered = 0;
        let mut length = 0;
        while (covered as f64) < part * all as f64 && length < shapes.len() {
            covered += shapes[length].1;
            length += 1;
        }
        shapes.truncate(length);
        Self { shapes: shapes.into_iter().map(|(shape, count)| (shape, count as f64 / covered as f64)).collect() }
    }

    /// The part of requests that would have to be others to get from one mix to the other, 0 to 1.
    pub(crate) fn distance(&self, other: &Self) -> f64 {
        let weight = |mix: &Self, shape: &Shape| mix.shapes.iter().find(|one| one.0 == *shape).map_or(0.0, |one| one.1);
        let shapes: BTreeSet<&Shape> = self.shapes.iter().chain(&other.shapes).map(|(shape, _)| shape).collect();
        shapes.into_iter().map(|shape| (weight(self, shape) - weight(other, shape)).abs()).sum::<f64>() / 2.0
    }
}
