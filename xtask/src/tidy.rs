//! `cargo xtask tidy`: the rules of the source tree that no compiler checks.

mod crates;
mod links;
mod reasons;
mod text;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::metadata::{self, Metadata};
use crate::process;
use crate::workspace::root;

/// A file of the source tree.
#[derive(Clone, Debug)]
struct Source {
    /// Path from the root.
    path: String,
    text: String,
}

pub(crate) fn run() -> Result<()> {
    let metadata = metadata::read()?;
    let sources = sources()?;
    let problems = problems(&metadata, &sources);
    if problems.is_empty() { Ok(()) } else { bail!("{} things to tidy:\n{}", problems.len(), problems.join("\n")) }
}

fn problems(metadata: &Metadata, sources: &[Source]) -> Vec<String> {
    let mut problems = crates::direction(metadata);
    problems.extend(crates::documentation(metadata, sources));
    problems.extend(sources.iter().flat_map(text::check));
    problems.extend(links::check(sources));
    problems.extend(reasons::check(sources));
    problems.sort();
    problems
}

/// Every file that is part of the tree, or is about to be.
fn sources() -> Result<Vec<Source>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = process::run(&mut git, "tidy reads the list of files from git; is this a clone?")?;
    let mut sources = Vec::new();
    for path in listed.stdout.lines() {
        let full: PathBuf = root().join(path);
        if !full.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        // What is no UTF-8 is a picture or an archive: only its path counts, for links.
        sources.push(Source { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default() });
    }
    Ok(sources)
}
