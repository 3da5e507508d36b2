//! `fermion node`: adds machines to the platform, one or many.

mod assign;
mod list_file;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use fermion_api::labels;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

pub(crate) use self::assign::{AssignArguments, Membership, assign, unassign};
use self::list_file::{Machine, Password, Problem, TEMPLATE};
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output::{self, Cell, Style, Table, Tone};

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Namespace of the passwords, which only administrators read.
const NAMESPACE: &str = labels::SYSTEM_NAMESPACE;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeCommand {
    /// Add one machine, or those that a file lists
    #[command(after_help = "\
Examples:
  fermion node template > nodes.txt         a file to fill in
  fermion node add -f nodes.txt
  fermion node add n1 --address 10.0.0.11 --bmc-address 10.0.1.11 --bmc-mac 3c:ec:ef:00:00:01 --password-file root.txt
A file with a mistake in it adds nothing. Passwords are kept in sealed Secrets and nowhere else.")]
    Add(AddArguments),
    /// Put nodes into a partition, one or many
    #[command(after_help = "\
Examples:
  fermion node assign n1 --partition training
  fermion node assign n1 n2 n3 --partition hpc --authorize
All of them or none; those that are there already stay as they are, and are authorised where that is asked.")]
    Assign(AssignArguments),
    /// Take nodes out of the partition they are in, one or many
    #[command(after_help = "\
Examples:
  fermion node unassign n1 n2 --partition hpc
A node that is in a resource group, or authorised, is refused: take it out of the group first.")]
    Unassign(Membership),
    /// Print the form of the file that `fermion node add -f` reads
    Template,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// Name of the machine, which is its host name
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// File that lists machines; - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", conflicts_with_all = ["name", "address", "bmc_address", "bmc_mac", "password_file"])]
    file: Option<PathBuf>,
    /// Its IP address
    #[arg(long, value_name = "IP", required_unless_present = "file")]
    address: Option<String>,
    /// IP address of its management controller
    #[arg(long, value_name = "IP")]
    bmc_address: Option<String>,
    /// MAC address of its management controller
    #[arg(long, value_name = "MAC")]
    bmc_mac: Option<String>,
    /// File that holds the password of its root
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Pool it belongs to
    #[arg(long, default_value = fermion_api::compute::pool::LOCAL)]
    pool: String,
}

pub(crate) fn print_template() -> Outcome<Exit> {
    output::write(TEMPLATE)?;
    Ok(Exit::Done)
}

pub(crate) async fn add(arguments: AddArguments, session: &Session) -> Outcome<Exit> {
    let machines = match &arguments.file {
        Some(path) => {
            let text = read(path)?;
            list_file::parse(&text).map_err(|problems| wrong(&path.display().to_string(), &problems))?
        }
        None => vec![one(&arguments)?],
    };
    let mut table = Table::new(["NAME", "ADDRESS", "OUTCOME"]);
    let mut failed = 0;
    for machine in &machines {
        let (outcome, tone) = match add_machine(session, machine, &arguments.pool).await {
            Ok(()) => ("added".to_owned(), Tone::Good),
            // Nobody else will be let in either.
            Err(failure) if failure.exit() == Exit::Denied || failure.exit() == Exit::Unreachable => return Err(failure),
            Err(failure) => {
                failed += 1;
                (failure.render(Style::Plain).lines().collect::<Vec<_>>().join(" "), Tone::Bad)
            }
        };
        table.push(vec![Cell::new(&machine.name), Cell::new(machine.address.to_string()), Cell::toned(outcome, tone)]);
    }
    output::write(&table.render(Style::of_stdout()))?;
    output::note(&format!("{} added, {failed} not", machines.len() - failed));
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

/// The machine that the command line names.
fn one(arguments: &AddArguments) -> Outcome<Machine> {
    let password = arguments.password_file.as_deref().map(read).transpose()?;
    let words = [
        arguments.name.as_deref().unwrap_or_default(),
        arguments.address.as_deref().unwrap_or_default(),
        arguments.bmc_address.as_deref().unwrap_or("-"),
        arguments.bmc_mac.as_deref().unwrap_or("-"),
    ];
    let password = password.as_deref().map(|text| Password::new(text.trim_end_matches(['\r', '\n'])));
    list_file::machine(words, password).map_err(|messages| {
        let problems: Vec<Problem> = messages.into_iter().map(|message| Problem { line: 0, message }).collect();
        wrong("the command line", &problems)
    })
}

fn wrong(place: &str, problems: &[Problem]) -> Failure {
    let failure = Failure::new(format!("nothing was added: {place} is not right"));
    let failure = problems.iter().fold(failure, |failure, problem| failure.why(problem.to_string()));
    failure.hint("`fermion node template` prints the form of the file")
}

fn read(path: &Path) -> Outcome<String> {
    let unreadable = |error: std::io::Error| Failure::new(format!("cannot read {}", path.display())).because(error);
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
    };
    if read.map_err(unreadable)? as u64 > FILE_BYTES_MAX {
        return Err(
            Failure::new(format!("{} is larger than {} MiB", path.display(), FILE_BYTES_MAX >> 20)).hint("split it into several files")
        );
    }
    Ok(text)
}

/// Makes the Node and, where there is a password, its Secret. Without the Secret there is no Node.
async fn add_machine(session: &Session, machine: &Machine, pool: &str) -> Outcome<()> {
    let nodes: Api<Node> = Api::all(session.client.clone());
    let what = || format!("cannot add node `{}`", machine.name);
    let node = nodes.create(&PostParams::default(), &node(machine, pool)).await.attempt(what)?;
    let Some(password) = &machine.password else { return Ok(()) };
    let secrets: Api<Secret> = Api::namespaced(session.client.clone(), NAMESPACE);
    let made = secrets.create(&PostParams::default(), &secret(&node, password)).await;
    if made.is_err() {
        let preconditions = Preconditions { uid: node.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        nodes
            .delete(&machine.name, &parameters)
            .await
            .attempt(|| format!("cannot take back node `{}`, whose password could not be kept", machine.name))?;
    }
    made.map(drop).attempt(|| format!("cannot keep the password of node `{}`", machine.name))
}

fn node(machine: &Machine, pool: &str) -> Node {
    let mut annotations = json!({});
    if let Some(address) = machine.bmc_address {
        annotations[labels::BMC_ADDRESS] = address.to_string().into();
    }
    if let Some(mac) = &machine.bmc_mac {
        annotations[labels::BMC_MAC] = mac.clone().into();
    }
    let node = json!({
        "metadata": {
            "name": machine.name,
            "labels": {labels::POOL: pool, "kubernetes.io/hostname": machine.name},
            "annotations": annotations,
        },
        "spec": {},
        "status": {"addresses": [
            {"type": "InternalIP", "address": machine.address.to_string()},
            {"type": "Hostname", "address": machine.name},
        ]},
    });
    serde_json::from_value(node).expect("a node is written by its type")
}

/// The password, which goes when its node goes.
fn secret(node: &Node, password: &Password) -> Secret {
    let secret = json!({
        "metadata": {
            "name": labels::node_password_secret(&node.name_any()),
            "namespace": NAMESPACE,
            "ownerReferences": node.owner_ref(&()),
        },
        "type": "Opaque",
        "stringData": {"username": "root", "password": password.reveal()},
    });
    let mut secret = secret;
    let owner = secret["metadata"]["ownerReferences"].take();
    secret["metadata"]["ownerReferences"] = json!([owner]);
    serde_json::from_value(secret).expect("a secret is written by its type")
}
