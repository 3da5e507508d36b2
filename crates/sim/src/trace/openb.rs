//! The traces of the FGD paper: nodes and pods of a production cluster of Alibaba's, 2023.
//!
//! Published at <https://github.com/hkust-adsl/kubernetes-scheduler-simulator> (`data/csv`).
//! Columns: nodes `sn,cpu_milli,memory_mib,gpu,model`; pods
//! `name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,…` where `gpu_spec` lists models
//! with `|` between and is empty, or not there at all, where any will do.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fermion_scheduler::device::{Device, DeviceRequest, Each, ModelId, ModelSet, Models, WHOLE};
use fermion_scheduler::node::Facts;
use fermion_scheduler::request::Request;
use fermion_scheduler::resource::ResourceId;
use serde::Deserialize;

const MIB: i64 = 1 << 20;

/// Nodes and pods, with the models both name.
#[derive(Clone, Debug)]
pub struct Trace {
    pub models: Models,
    pub nodes: Vec<(Facts, Vec<Device>)>,
    /// In the order of their names.
    pub pods: Vec<Request>,
}

#[derive(Deserialize)]
struct NodeRow {
    sn: String,
    cpu_milli: i64,
    memory_mib: i64,
    gpu: usize,
    model: String,
}

#[derive(Deserialize)]
struct PodRow {
    name: String,
    cpu_milli: i64,
    memory_mib: i64,
    num_gpu: u8,
    gpu_milli: u16,
    gpu_spec: Option<String>,
}

/// Reads the nodes with cards and one of the pod lists: `default`, `gpuspec33`, …
///
/// # Errors
/// When a file is not there or not in this form.
pub fn read(folder: &Path, list: &str) -> Result<Trace> {
    let mut models = Models::default();
    let mut model = |name: &str| -> Result<ModelId> { models.intern(name).with_context(|| format!("too many models at {name}")) };
    let mut nodes = Vec::new();
    for row in rows::<NodeRow>(&folder.join("openb/openb_node_list_gpu_node.csv"))? {
        let id = model(&row.model)?;
        let allocatable = [(ResourceId::CPU, row.cpu_milli), (ResourceId::MEMORY, row.memory_mib * MIB)].into_iter().collect();
        nodes.push((Facts { name: row.sn, open: true, allocatable, ..Facts::default() }, vec![Device::new(id, 0); row.gpu]));
    }
    let mut rows: Vec<PodRow> = rows(&folder.join(format!("openb/openb_pod_list_{list}.csv")))?;
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut pods = Vec::with_capacity(rows.len());
    for row in rows {
        let set: ModelSet = match row.gpu_spec.as_deref() {
            None | Some("") => ModelSet::ANY,
            Some(names) => names.split('|').map(&mut model).collect::<Result<_>>()?,
        };
        ensure!(row.gpu_milli <= WHOLE, "{} asks for {} thousandths of a card", row.name, row.gpu_milli);
        let each = if row.gpu_milli == WHOLE { Each::Whole } else { Each::Share { compute: row.gpu_milli, memory_mib: 0 } };
        let devices = (row.num_gpu > 0).then_some(DeviceRequest { models: set, count: row.num_gpu, each });
        let demand = [(ResourceId::CPU, row.cpu_milli), (ResourceId::MEMORY, row.memory_mib * MIB)].into_iter().collect();
        pods.push(Request { demand, devices, ..Request::default() });
    }
    Ok(Trace { models, nodes, pods })
}

fn rows<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let missing = || {
        format!(
            "cannot read {}: the traces are published at https://github.com/hkust-adsl/kubernetes-scheduler-simulator (data/csv); \
             put them there or name another folder with FERMION_TRACES",
            path.display()
        )
    };
    let mut reader = csv::Reader::from_path(path).with_context(missing)?;
    reader.deserialize().map(|row| row.with_context(|| format!("in {}", path.display()))).collect()
}
