//! `fermion node assign` and `unassign`: nodes in a partition, several in one change.

use fermion_api::compute::Partition;
use fermion_api::compute::partition::PartitionNode;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;

/// How often a change is made anew when somebody else changes the partition meanwhile.
const TRIES_MAX: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Membership {
    /// Names of the nodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Partition
    #[arg(long, value_name = "NAME")]
    partition: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AssignArguments {
    #[command(flatten)]
    membership: Membership,
    /// Lets them be used in their HPC partition
    #[arg(long)]
    authorize: bool,
}

pub(crate) async fn assign(arguments: AssignArguments, session: &Session) -> Outcome<Exit> {
    let AssignArguments { membership: Membership { nodes: names, partition }, authorize } = arguments;
    let nodes: Api<Node> = Api::all(session.client.clone());
    let mut missing = Vec::new();
    for name in &names {
        if nodes.get_metadata_opt(name).await.attempt(|| format!("cannot look for node `{name}`"))?.is_none() {
            missing.push(name.as_str());
        }
    }
    if !missing.is_empty() {
        let failure = Failure::new(format!("nothing was assigned: there is no node {}", missing.join(", ")));
        return Err(failure.hint("`fermion node add` adds machines, `kubectl get nodes` lists those there are"));
    }
    let change = |now: &[PartitionNode]| {
        let mut all = now.to_vec();
        for name in &names {
            match all.iter_mut().find(|node| node.name == *name) {
                Some(node) => node.authorized |= authorize,
                None => all.push(PartitionNode { name: name.clone(), authorized: authorize }),
            }
        }
        all
    };
    write(session, &partition, change).await
}

pub(crate) async fn unassign(arguments: Membership, session: &Session) -> Outcome<Exit> {
    let Membership { nodes, partition } = arguments;
    write(session, &partition, |now| now.iter().filter(|node| !nodes.contains(&node.name)).cloned().collect()).await
}

/// Changes the nodes of a partition, whoever else does so.
async fn write(session: &Session, name: &str, change: impl Fn(&[PartitionNode]) -> Vec<PartitionNode>) -> Outcome<Exit> {
    let partitions: Api<Partition> = Api::all(session.client.clone());
    let what = || format!("cannot change partition `{name}`");
    let mut tries = 0;
    loop {
        tries += 1;
        let partition = partitions.get(name).await.attempt(what)?;
        let nodes = change(&partition.spec.nodes);
        if nodes == partition.spec.nodes {
            output::note(&format!("nothing to change: partition {name} has {} nodes", nodes.len()));
            return Ok(Exit::Done);
        }
        let body = json!({"metadata": {"resourceVersion": partition.resource_version()}, "spec": {"nodes": nodes}});
        match partitions.patch(name, &PatchParams::default(), &Patch::Merge(body)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() && tries < TRIES_MAX => {}
            other => {
                let partition = other.attempt(what)?;
                output::note(&format!("partition {name} has {} nodes now", partition.spec.nodes.len()));
                return Ok(Exit::Done);
            }
        }
    }
}
