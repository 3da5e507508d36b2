//! Licences, sources and duplicate versions of what we stand on, judged by `deny.toml`.
//!
//! `deny.toml` is written for cargo-deny, and cargo-deny reads it too. It is judged here
//! because building cargo-deny costs more than building the platform; the three checks below
//! are the ones we use of it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::metadata::Metadata;
use crate::workspace::root;

/// `deny.toml`, as far as it is judged.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    graph: Option<toml::Value>,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Bans {
    #[serde(default)]
    skip: Vec<Skip>,
}

#[derive(Debug, Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

pub(crate) fn run(metadata: &Metadata) -> Result<()> {
    let file = root().join("deny.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let rules: Rules = toml::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?;
    let problems = problems(&rules, metadata);
    if problems.is_empty() { Ok(()) } else { bail!("{}\n  the rules are in deny.toml", problems.join("\n")) }
}

fn problems(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let _ = &rules.graph;
    let mut problems = Vec::new();
    for package in metadata.others() {
        let title = format!("{} {}", package.name, package.version);
        let exception = rules.licenses.exceptions.iter().find(|exception| exception.name == package.name);
        let allowed = |licence: &str| {
            let list = exception.map_or(&[][..], |exception| exception.allow.as_slice());
            rules.licenses.allow.iter().chain(list).any(|allowed| allowed == licence)
        };
        match (&package.license, &package.license_file) {
            (Some(licence), _) => match expression::holds(licence, &allowed) {
                Ok(true) => {}
                Ok(false) => problems.push(format!("{title}: licence `{licence}` is not allowed")),
                Err(why) => problems.push(format!("{title}: licence `{licence}` cannot be read: {why}")),
            },
            (None, Some(file)) => problems.push(format!("{title}: its licence is only in its file `{file}`; read it and add an exception")),
            (None, None) => problems.push(format!("{title}: it has no licence")),
        }
        let source = package.source.as_deref().unwrap_or_default();
        let registry = source.trim_start_matches("registry+").trim_start_matches("sparse+");
        if !rules.sources.allow_registry.iter().any(|allowed| allowed == registry) {
            problems.push(format!("{title}: it comes from `{source}`, which is not allowed"));
        }
    }
    problems.extend(duplicate_problems(rules, &metadata.duplicates()));
    problems
}

/// The list of known duplicates only shrinks: one that is none any more leaves it.
fn duplicate_problems(rules: &Rules, found: &BTreeMap<&str, Vec<&str>>) -> Vec<String> {
    let known = |name: &str| rules.bans.skip.iter().any(|skip| skip.name == name);
    let fresh = found.iter().filter(|(name, _)| !known(name)).map(|(name, versions)| {
        format!("{name} is there in versions {}; bring its users to one, or add it to bans.skip with the reason", versions.join(" and "))
    });
    let stale = rules.bans.skip.iter().filter(|skip| !found.contains_key(skip.name.as_str()));
    fresh.chain(stale.map(|skip| format!("{} is no duplicate any more; take it out of bans.skip", skip.name))).collect()
}

/// SPDX expressions. Source: <https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/>
mod expression {
    /// Whether an expression can be met with the allowed licences.
    pub(super) fn holds(text: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
        // Older packages write `A/B` for `A OR B`.
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let value = either(&mut rest, allowed)?;
        if rest.is_empty() { Ok(value) } else { Err(format!("`{}` is not expected", rest[0])) }
    }

    fn either(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
        let mut value = both(rest, allowed)?;
        while take(rest, "OR") {
            // Both sides are read, whatever the first one says.
            value |= both(rest, allowed)?;
        }
        Ok(value)
    }

    fn both(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
        let mut value = one(rest, allowed)?;
        while take(rest, "AND") {
            value &= one(rest, allowed)?;
        }
        Ok(value)
    }

    fn one(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
        if take(rest, "(") {
            let value = either(rest, allowed)?;
            return if take(rest, ")") { Ok(value) } else { Err("a bracket is not closed".to_owned()) };
        }
        let [name, after @ ..] = *rest else { return Err("it ends too early".to_owned()) };
        *rest = after;
        if take(rest, "WITH") {
            let [exception, after @ ..] = *rest else { return Err("it ends too early".to_owned()) };
            *rest = after;
            return Ok(allowed(&format!("{name} WITH {exception}")) || allowed(name));
        }
        Ok(allowed(name))
    }

    fn take(rest: &mut &[&str], word: &str) -> bool {
        match *rest {
            [first, after @ ..] if *first == word => {
                *rest = after;
                true
            }
            _ => false,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::holds;

        #[test]
        fn expressions_are_read_with_their_brackets() {
            let allowed = |licence: &str| matches!(licence, "MIT" | "Apache-2.0");
            for (text, value) in [
                ("MIT", true),
                ("GPL-3.0", false),
                ("GPL-3.0 OR MIT", true),
                ("GPL-3.0 AND MIT", false),
                ("MIT/Apache-2.0", true),
                ("(GPL-3.0 OR MIT) AND Apache-2.0", true),
                ("GPL-3.0 OR MIT AND Zlib", false),
                ("Apache-2.0 WITH LLVM-exception", true),
            ] {
                assert_eq!(holds(text, &allowed), Ok(value), "{text}");
            }
            for wrong in ["", "MIT OR", "(MIT", "MIT MIT", "OR"] {
                assert!(holds(wrong, &allowed).is_err() || holds(wrong, &allowed) == Ok(false), "{wrong}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(skip: &str) -> Rules {
        let text = format!("[licenses]\nallow = ['MIT']\n[bans]\nskip = [{skip}]\n[sources]\nallow-registry = []\n");
        toml::from_str(&text).expect("rules")
    }

    #[test]
    fn the_list_of_duplicates_only_shrinks() {
        let found = BTreeMap::from([("a", vec!["1.0.0", "2.0.0"])]);
        assert_eq!(duplicate_problems(&rules("{ crate = 'a', reason = 'x' }"), &found), Vec::<String>::new());
        assert!(duplicate_problems(&rules(""), &found)[0].contains("1.0.0 and 2.0.0"));
        assert!(duplicate_problems(&rules("{ crate = 'b', reason = 'x' }"), &BTreeMap::new())[0].contains("no duplicate any more"));
    }
}
