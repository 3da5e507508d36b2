//! The platform's answers beside those of a real kube-apiserver: wherever they differ, the
//! difference is listed in `docs/kubernetes-compatibility.md` with its reason.
//!
//! Kubernetes' answers are written down in the tree, by `cargo xtask compare --record`. So every
//! run of the tests compares with Kubernetes, and needs no Kubernetes to do so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fermion_testkit::{Suite, Whose};

use super::suites;

/// The list of differences.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes-compatibility.md");
/// The shortest reason that says something.
const REASON_LENGTH_MIN: usize = 15;
/// Stands in the list for all steps of a script.
const WHOLE_SCRIPT: &str = "*";

/// Script and step.
type Place = (String, String);

/// The rows of the list: `| script | step | Fermion | Kubernetes | why |`.
fn listed(document: &str) -> BTreeMap<Place, String> {
    let mut found = BTreeMap::new();
    let table = document.split("<!-- differences -->").nth(1).expect("the document holds the list between two marks");
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| script |")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [script, step, ours, theirs, why] = cells.as_slice() else { panic!("a row has five cells: {line}") };
        assert!(!ours.is_empty() && !theirs.is_empty(), "say what each of them does: {line}");
        assert!(why.len() >= REASON_LENGTH_MIN, "say why: {line}");
        let place = (script.trim_matches('`').to_owned(), (*step).to_owned());
        assert!(found.insert(place, (*why).to_owned()).is_none(), "listed twice: {line}");
    }
    found
}

/// Steps in which the two answer differently.
fn differing(suite: &Suite) -> Vec<Place> {
    let place = |step: &str| (suite.full_name(), step.to_owned());
    let ours = suite.answers(Whose::Fermion).expect("what the platform answers is written down");
    if !suite.answers_file(Whose::Kubernetes).exists() {
        return vec![place(WHOLE_SCRIPT)];
    }
    let theirs = suite.answers(Whose::Kubernetes).expect("what Kubernetes answers is written down");
    ours.differing(&theirs).into_iter().map(place).collect()
}

/// Both answers to one step, for people.
fn both(suites: &[Suite], (script, step): &Place) -> String {
    let suite = suites.iter().find(|suite| suite.full_name() == *script).expect("it was found there");
    let text = |whose| suite.answers(whose).ok().and_then(|answers| answers.step(step).map(str::to_owned));
    format!(
        "{script}: {step}\n--- Fermion\n{}\n--- Kubernetes\n{}\n",
        text(Whose::Fermion).unwrap_or_else(|| "(no such step)".to_owned()),
        text(Whose::Kubernetes).unwrap_or_else(|| "(no such step)".to_owned())
    )
}

#[test]
fn every_difference_from_kubernetes_is_listed_with_its_reason() {
    let document = std::fs::read_to_string(Path::new(DOCUMENT)).expect("the document can be read");
    let listed = listed(&document);
    let suites = suites();
    let found: BTreeSet<Place> = suites.iter().flat_map(differing).collect();
    let unlisted: Vec<String> = found.iter().filter(|place| !listed.contains_key(place)).map(|place| both(&suites, place)).collect();
    assert!(unlisted.is_empty(), "{} differences are not listed:\n\n{}", unlisted.len(), unlisted.join("\n"));
    let gone: Vec<&Place> = listed.keys().filter(|place| !found.contains(place)).collect();
    assert!(gone.is_empty(), "these are listed, but the answers are the same now, or the step is gone: {gone:#?}");
}

#[test]
fn the_list_is_read_row_by_row() {
    let document = "text\n<!-- differences -->\n| script | step | Fermion | Kubernetes | why |\n|---|---|---|---|---|\n| `kubectl-get` | a table | short | long | people read it more easily |\n<!-- differences -->\n";
    let place = ("kubectl-get".to_owned(), "a table".to_owned());
    assert_eq!(listed(document).into_iter().collect::<Vec<_>>(), [(place, "people read it more easily".to_owned())]);
}
