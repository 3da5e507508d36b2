//! Which crate may know which, and whether each says what it is.

use super::Source;
use crate::metadata::{Metadata, Package};

/// What a crate may stand on, as section 3 of the architecture has it.
struct Layer {
    name: &'static str,
    /// Crates of ours it may use.
    ours: &'static [&'static str],
    /// Crates of others it must not use.
    banned: &'static [&'static str],
}

const RUNTIME: [&str; 12] = [
    "axum",
    "hyper",
    "hyper-util",
    "kube-client",
    "kube-runtime",
    "reqwest",
    "rusqlite",
    "sqlx",
    "tokio",
    "tokio-tungstenite",
    "tonic",
    "tower",
];
const DATABASES: [&str; 2] = ["rusqlite", "sqlx"];
const PURE: [&str; 13] = [
    "axum",
    "hyper",
    "hyper-util",
    "kube",
    "kube-client",
    "kube-runtime",
    "reqwest",
    "rusqlite",
    "sqlx",
    "tokio",
    "tokio-tungstenite",
    "tonic",
    "tower",
];

const LAYERS: [Layer; 15] = [
    Layer { name: "fermion-api", ours: &[], banned: &RUNTIME },
    Layer { name: "fermion-cel", ours: &[], banned: &PURE },
    Layer { name: "fermion-scheduler", ours: &["fermion-api"], banned: &PURE },
    Layer { name: "fermion-sim", ours: &["fermion-api", "fermion-scheduler"], banned: &PURE },
    Layer { name: "fermion-store", ours: &["fermion-api"], banned: &["axum", "hyper", "kube", "kube-client", "kube-runtime", "tonic"] },
    Layer { name: "fermion-apiserver", ours: &["fermion-api", "fermion-cel", "fermion-store"], banned: &DATABASES },
    Layer { name: "fermion-controllers", ours: &["fermion-api", "fermion-scheduler"], banned: &DATABASES },
    Layer { name: "fermion-node", ours: &["fermion-api"], banned: &DATABASES },
    Layer { name: "fermion-gateway", ours: &["fermion-api"], banned: &DATABASES },
    Layer {
        name: "fermion-cli",
        ours: &[
            "fermion-api",
            "fermion-apiserver",
            "fermion-client",
            "fermion-controllers",
            "fermion-gateway",
            "fermion-node",
            "fermion-scheduler",
            "fermion-sim",
            "fermion-store",
        ],
        banned: &DATABASES,
    },
    Layer {
        name: "fermion-testkit",
        ours: &[
            "fermion-api",
            "fermion-apiserver",
            "fermion-controllers",
            "fermion-gateway",
            "fermion-node",
            "fermion-scheduler",
            "fermion-store",
        ],
        banned: &DATABASES,
    },
    Layer { name: "fermion-client", ours: &["fermion-api"], banned: &DATABASES },
    // Tests of three crates together; nothing stands on it but the fuzz targets.
    Layer { name: "fermion-laws", ours: &["fermion-apiserver", "fermion-cel", "fermion-store"], banned: &DATABASES },
    // A client of everything over sockets; of ours it needs the generated CRI client alone.
    Layer { name: "fermion-bench", ours: &["fermion-node"], banned: &DATABASES },
    Layer { name: "xtask", ours: &[], banned: &PURE },
];

/// The crate that only tests may use.
const TESTKIT: &str = "fermion-testkit";
/// The shortest first line of documentation that says something.
const DOCUMENTATION_LENGTH_MIN: usize = 40;

/// Dependencies that point the wrong way.
pub(super) fn direction(metadata: &Metadata) -> Vec<String> {
    metadata.members().flat_map(of_package).collect()
}

fn of_package(package: &Package) -> Vec<String> {
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == package.name) else {
        return vec![format!("{}: say in xtask/src/tidy/crates.rs which crates it may use", package.name)];
    };
    let mut problems = Vec::new();
    for dependency in &package.dependencies {
        let name = dependency.name.as_str();
        if dependency.kind.as_deref() == Some("dev") {
            // Tests may use what they like of others', and the testkit.
            continue;
        }
        let ours = name.starts_with("fermion-") || name == "xtask";
        if name == TESTKIT {
            problems.push(format!("{}: {TESTKIT} is for tests only; make it a dev-dependency", package.name));
        } else if ours && !layer.ours.contains(&name) {
            problems.push(format!("{}: must not know {name}; they meet in the API", package.name));
        } else if layer.banned.contains(&name) {
            problems.push(format!("{}: must not use {name}; see the layers in xtask/src/tidy/crates.rs", package.name));
        }
    }
    problems
}

/// Crates that do not say what they are.
pub(super) fn documentation(metadata: &Metadata, sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata.members() {
        let folder = package.manifest_path.trim_end_matches("/Cargo.toml");
        let roots: Vec<&Source> = sources
            .iter()
            .filter(|source| {
                ["src/lib.rs", "src/main.rs"]
                    .iter()
                    .any(|file| folder.ends_with(source.path.trim_end_matches(&format!("/{file}"))) && source.path.ends_with(file))
            })
            .collect();
        for source in roots {
            if !is_documented(&source.text) {
                problems.push(format!(
                    "{}: begins without saying what the crate is for, what it never does, and where to start reading",
                    source.path
                ));
            }
        }
    }
    problems
}

fn is_documented(text: &str) -> bool {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(str::len).sum::<usize>() >= DOCUMENTATION_LENGTH_MIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            name: name.to_owned(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
                .collect(),
            ..Package::default()
        }
    }

    #[test]
    fn parts_of_the_platform_never_see_each_other() {
        assert_eq!(of_package(&package("fermion-node", &[("fermion-api", None), ("tokio", None)])), Vec::<String>::new());
        assert_eq!(of_package(&package("fermion-node", &[("fermion-store", None)])).len(), 1);
        assert_eq!(of_package(&package("fermion-scheduler", &[("tokio", None), ("proptest", Some("dev"))])).len(), 1);
        assert_eq!(of_package(&package("fermion-cli", &[("fermion-testkit", None)])).len(), 1);
        assert_eq!(of_package(&package("fermion-cli", &[("fermion-testkit", Some("dev"))])), Vec::<String>::new());
        assert_eq!(of_package(&package("fermion-new", &[])).len(), 1, "a new crate takes its place in the list");
    }

    #[test]
    fn a_placeholder_is_no_documentation() {
        assert!(!is_documented("//! fermion-gateway\n"));
        assert!(!is_documented("fn main() {}"));
        assert!(is_documented("//! The resource API over HTTP, in the conventions of Kubernetes.\n\nmod a;"));
    }
}
