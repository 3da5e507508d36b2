//! Every input that was ever worth keeping, tried again without a fuzzer.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fermion_laws::{Law, NAMES};

/// Inputs without which a corpus has been lost.
const CORPUS_FILES_MIN: usize = 20;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files of a folder; none if there is none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Holds a law against all that is kept for it.
fn holds(name: &str) {
    let kept = files(&fuzz_folder().join("corpus").join(name));
    assert!(kept.len() >= CORPUS_FILES_MIN, "fuzz/corpus/{name} has only {} files", kept.len());
    let found = files(&fuzz_folder().join("found").join(name));
    let mut law = Law::named(name);
    let mut broken = Vec::new();
    for file in kept.iter().chain(&found) {
        let bytes = fs::read(file).unwrap();
        if catch_unwind(AssertUnwindSafe(|| law.check(&bytes))).is_err() {
            broken.push(file.display().to_string());
            law = Law::named(name);
        }
    }
    assert!(broken.is_empty(), "the law {name:?} is broken by:\n{}", broken.join("\n"));
}

#[test]
fn bodies_are_read_or_refused() {
    holds("bodies");
}

#[test]
fn rules_end_within_what_they_cost() {
    holds("cel");
}

#[test]
fn owners_of_fields_are_kept() {
    holds("managed_fields");
}

#[test]
fn definitions_that_pass_can_be_served_and_described() {
    holds("openapi");
}

#[test]
fn patches_do_what_the_standards_say() {
    holds("patch");
}

#[test]
fn databases_select_what_selectors_say() {
    holds("selectors");
}

#[test]
fn every_law_has_a_fuzz_target() {
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for name in NAMES {
        let target = fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("target!(\"{name}\")")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    assert_eq!(files(&fuzz_folder().join("fuzz_targets")).len(), NAMES.len());
}
