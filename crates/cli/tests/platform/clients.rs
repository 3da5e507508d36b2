//! Real clients against the resource API: scripts of `kubectl`, of Python's and of Node's client,
//! and kube-rs. What the scripts print is written down under `tests/clients/answers`, beside what
//! a real kube-apiserver printed for the same scripts (see `tests/clients/README.md`).

mod comparison;
mod kube_rs;

use std::path::Path;

use fermion_testkit::{Client, Database, Node, Platform, Suite, Whose};

use crate::FERMION;

/// The scripts, and what they printed.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

fn suites() -> Vec<Suite> {
    Suite::all(Path::new(SCRIPTS)).expect("the folder of scripts can be read")
}

/// Runs a script against a server of its own and compares what it prints with what is written down,
/// which is the same for both databases.
#[track_caller]
fn answers_as_written_down(database: Database, client: Client, name: &str) {
    let suite = Suite::new(Path::new(SCRIPTS), client, name);
    let node = if suite.runs_containers() { Node::Local } else { Node::None };
    let platform = Platform::start_on(FERMION, node, database);
    let printed = suite.run(&platform.kubeconfig(), &platform.server()).unwrap_or_else(|error| panic!("{error:#}"));
    suite.check(Whose::Fermion, &printed).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Makes two tests of each script: `on_sqlite::NAME` and `on_postgres::NAME`.
macro_rules! scripts {
    ($($test:ident: $client:ident $name:literal;)+) => {
        /// What the tests run.
        const RUN: &[(Client, &str)] = &[$((Client::$client, $name)),+];

        scripts!(@ on_sqlite Sqlite $($test $client $name),+);
        scripts!(@ on_postgres Postgres $($test $client $name),+);
    };
    (@ $on:ident $database:ident $($test:ident $client:ident $name:literal),+) => {
        mod $on {
            use super::{Client, Database, answers_as_written_down};

            $(
                #[test]
                fn $test() {
                    answers_as_written_down(Database::$database, Client::$client, $name);
                }
            )+
        }
    };
}

scripts! {
    kubectl_reads_objects_in_every_form: Kubectl "get";
    kubectl_makes_objects_from_everything: Kubectl "create";
    kubectl_applies_from_client_and_server: Kubectl "apply";
    kubectl_changes_objects_in_every_way: Kubectl "change";
    kubectl_deletes_with_owners_and_finalizers: Kubectl "delete";
    kubectl_watches_and_waits: Kubectl "watch";
    kubectl_finds_and_explains_what_is_served: Kubectl "discover";
    kubectl_tells_who_may_do_what: Kubectl "access";
    kubectl_describes_objects_and_shows_events: Kubectl "describe";
    kubectl_finds_the_pods_behind_a_service: Kubectl "endpoints";
    kubectl_is_told_what_is_wrong_with_an_object: Kubectl "validate";
    kubectl_defines_kinds_at_run_time: Kubectl "custom";
    kubectl_handles_the_platforms_own_kinds: Kubectl "own";
    python_uses_the_typed_api: Python "typed";
    python_uses_the_dynamic_client: Python "dynamic";
    python_watches_and_resumes: Python "watching";
    python_applies_on_the_server: Python "apply";
    python_defines_kinds_at_run_time: Python "custom";
    python_elects_a_leader_by_lease: Python "leader";
    requests_on_the_wire_are_answered_as_written_down: Python "wire";
    python_works_in_running_containers: Python "containers";
    node_works_in_running_containers: Node "containers";
    node_uses_the_typed_api: Node "typed";
    node_handles_objects_of_any_kind: Node "objects";
    node_keeps_informers_up_to_date: Node "informer";
}

/// A script nobody runs proves nothing.
#[test]
fn every_script_is_run() {
    for suite in suites() {
        assert!(RUN.contains(&(suite.client, suite.name.as_str())), "{} is run by no test here", suite.full_name());
    }
}
