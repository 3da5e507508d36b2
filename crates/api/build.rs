//! Finds the kinds: files `src/GROUP/KIND.rs` with a line `crate::kind!(NAME);`.
//!
//! For each it writes an entry of the registry and, where the group's own file does not declare
//! the module, the module. So a kind is one file, and nothing else has to be edited.

#![allow(clippy::print_stdout, reason = "a build script talks to cargo by its output")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// How the line begins that says that a file holds a kind.
const MARK: &str = "crate::kind!(";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src");
    let sources = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("src");
    let (mut modules, mut entries) = (String::new(), String::new());
    for folder in sorted(&sources)?.into_iter().filter(|path| path.is_dir()) {
        for file in sorted(&folder)? {
            let text = if file.extension().is_some_and(|extension| extension == "rs") { fs::read_to_string(&file)? } else { continue };
            let Some(marked) = text.lines().find_map(|line| line.strip_prefix(MARK)?.split(')').next()) else { continue };
            let (kind, access) = marked.split_once(',').map_or((marked, "Full"), |(kind, access)| (kind.trim(), access.trim()));
            let (group, module) = (name(&folder), name(&file));
            let declared = fs::read_to_string(folder.with_extension("rs")).unwrap_or_default();
            let path = if declared.lines().any(|line| line.trim_end().ends_with(&format!("mod {module};"))) {
                format!("crate::{group}::{module}")
            } else {
                // Writing to a String cannot fail.
                let _ = writeln!(modules, "#[path = {:?}]\npub mod {group}_{module};", file.display().to_string());
                format!("crate::declared::{group}_{module}")
            };
            let _ = writeln!(entries, "        $what::of::<{path}::{kind}>(Access::{access}),");
        }
    }
    let generated = format!(
        "{modules}\nmacro_rules! every_declared_kind {{\n    ($what:ident) => {{ vec![\n{entries}    ] }};\n}}\npub(crate) use every_declared_kind;\n"
    );
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("declared.rs"), generated)
}

/// What is in a folder, by name, so that what is built does not depend on the file system.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
