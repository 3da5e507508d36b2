//! What one member asks of a node.

use std::collections::BTreeMap;

use crate::device::{DeviceRequest, Each, WHOLE};
use crate::matching;
use crate::preference::Preferred;
use crate::resource::Demand;
use crate::sharing::Sharing;
use crate::snapshot::{Taint, Term, Toleration};

/// What one member asks of its node. Members with equal requests are placed alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Cards not included.
    pub demand: Demand,
    pub devices: Option<DeviceRequest>,
    pub constraints: Constraints,
    /// Decides among the nodes that the constraints allow, before any score.
    pub preferred: Vec<Preferred>,
    pub sharing: Sharing,
}

impl Request {
    /// Cards asked for, in thousandths of a card. Slices count as their compute part only once
    /// they are placed, as it differs by model; here as none.
    pub fn cards(&self) -> i64 {
        self.devices.map_or(0, |request| {
            let each = match request.each {
                Each::Whole => WHOLE,
                Each::Share { compute, .. } => compute,
                Each::Slice { .. } => 0,
            };
            i64::from(request.count) * i64::from(each)
        })
    }
}

/// Which nodes a member may run on at all. Meaning of the parts:
/// <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constraints {
    /// Labels the node must have.
    pub selector: BTreeMap<String, String>,
    /// One of these terms must hold; an empty list asks nothing.
    pub affinity: Vec<Term>,
    pub tolerations: Vec<Toleration>,
}

impl Constraints {
    /// Whether a node with these labels and taints will do.
    pub fn allow(&self, name: &str, labels: &BTreeMap<String, String>, taints: &[Taint]) -> bool {
        matching::selected(&self.selector, labels)
            && matching::attracted(&self.affinity, labels, name)
            && matching::tolerated(&self.tolerations, taints)
    }
}
