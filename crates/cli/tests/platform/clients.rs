//! Real clients against the resource API: scripts of `kubectl`, of Python's and of Node's client,
//! and kube-rs. What the scripts print is written down under `tests/clients/answers`, beside what
//! a real kube-apiserver printed for the same scripts (see `tests/clients/README.md`).

mod comparison;
mod kube_rs;

use std::path::Path;

use fermion_testkit::{Client, Node, Platform, Suite, Whose};

use crate::FERMION;

/// The scripts, and what they printed.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

fn suites() -> Vec<Suite> {
    Suite::all(Path::new(SCRIPTS)).expect("the folder of scripts can be read")
}

/// Runs a script against a server of its own and compares what it prints with what is written down.
#[track_caller]
fn answers_as_written_down(client: Client, name: &str) {
    let suite = Suite::new(Path::new(SCRIPTS), client, name);
    let platform = Platform::start(FERMION, if suite.runs_containers() { Node::Local } else { Node::None });
    let printed = suite.run(&platform.kubeconfig(), &platform.server()).unwrap_or_else(|error| panic!("{error:#}"));
    suite.check(Whose::Fermion, &printed).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn kubectl_reads_objects_in_every_form() {
    answers_as_written_down(Client::Kubectl, "get");
}

#[test]
fn kubectl_makes_objects_from_everything() {
    answers_as_written_down(Client::Kubectl, "create");
}

#[test]
fn kubectl_applies_from_client_and_server() {
    answers_as_written_down(Client::Kubectl, "apply");
}

#[test]
fn kubectl_changes_objects_in_every_way() {
    answers_as_written_down(Client::Kubectl, "change");
}

#[test]
fn kubectl_deletes_with_owners_and_finalizers() {
    answers_as_written_down(Client::Kubectl, "delete");
}

#[test]
fn kubectl_watches_and_waits() {
    answers_as_written_down(Client::Kubectl, "watch");
}

#[test]
fn kubectl_finds_and_explains_what_is_served() {
    answers_as_written_down(Client::Kubectl, "discover");
}

#[test]
fn kubectl_tells_who_may_do_what() {
    answers_as_written_down(Client::Kubectl, "access");
}

#[test]
fn kubectl_describes_objects_and_shows_events() {
    answers_as_written_down(Client::Kubectl, "describe");
}

#[test]
fn kubectl_is_told_what_is_wrong_with_an_object() {
    answers_as_written_down(Client::Kubectl, "validate");
}

#[test]
fn kubectl_defines_kinds_at_run_time() {
    answers_as_written_down(Client::Kubectl, "custom");
}

#[test]
fn kubectl_handles_the_platforms_own_kinds() {
    answers_as_written_down(Client::Kubectl, "own");
}

#[test]
fn python_uses_the_typed_api() {
    answers_as_written_down(Client::Python, "typed");
}

#[test]
fn python_uses_the_dynamic_client() {
    answers_as_written_down(Client::Python, "dynamic");
}

#[test]
fn python_watches_and_resumes() {
    answers_as_written_down(Client::Python, "watching");
}

#[test]
fn python_applies_on_the_server() {
    answers_as_written_down(Client::Python, "apply");
}

#[test]
fn python_defines_kinds_at_run_time() {
    answers_as_written_down(Client::Python, "custom");
}

#[test]
fn python_elects_a_leader_by_lease() {
    answers_as_written_down(Client::Python, "leader");
}

#[test]
fn requests_on_the_wire_are_answered_as_written_down() {
    answers_as_written_down(Client::Python, "wire");
}

#[test]
fn python_works_in_running_containers() {
    answers_as_written_down(Client::Python, "containers");
}

#[test]
fn node_works_in_running_containers() {
    answers_as_written_down(Client::Node, "containers");
}

#[test]
fn node_uses_the_typed_api() {
    answers_as_written_down(Client::Node, "typed");
}

#[test]
fn node_handles_objects_of_any_kind() {
    answers_as_written_down(Client::Node, "objects");
}

#[test]
fn node_keeps_informers_up_to_date() {
    answers_as_written_down(Client::Node, "informer");
}

/// A script nobody runs proves nothing.
#[test]
fn every_script_is_run() {
    let tests = include_str!("clients.rs");
    for suite in suites() {
        let call = format!("answers_as_written_down(Client::{:?}, \"{}\");", suite.client, suite.name);
        assert!(tests.contains(&call), "{} is run by no test here", suite.full_name());
    }
}
