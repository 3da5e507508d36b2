//! Whether the links of documents lead somewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

/// Links of Markdown files to files and headings that are not there.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let files: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let folders: BTreeSet<String> = files.iter().flat_map(|path| parents(path)).collect();
    let headings: BTreeMap<&str, BTreeSet<String>> =
        sources.iter().filter(|source| is_markdown(&source.path)).map(|source| (source.path.as_str(), anchors(&source.text))).collect();
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| is_markdown(&source.path)) {
        for (line, link) in links(&source.text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { Some(source.path.clone()) } else { resolve(&source.path, path) };
            let there = target.as_deref().is_some_and(|target| files.contains(target) || folders.contains(target) || target.is_empty());
            let heading = match (target.as_deref().and_then(|target| headings.get(target)), anchor) {
                (Some(known), Some(anchor)) => known.contains(anchor),
                _ => true,
            };
            if !there || !heading {
                problems.push(format!("{}:{line}: the link `{link}` leads nowhere", source.path));
            }
        }
    }
    problems
}

fn is_markdown(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| ending == "md")
}

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

/// Targets of `[text](target)` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, later)) = after.split_once(')') else { break };
            let target = target.split(' ').next().unwrap_or_default().trim_matches(['<', '>']);
            found.push((number, target.to_owned()));
            rest = later;
        }
    }
    found
}

/// Lines outside of code blocks, without code spans.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
            lines.push((number + 1, outside));
        }
    }
    lines
}

/// The headings' anchors, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            let title = line.trim_start_matches('#').trim();
            let kept = title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>();
            anchors.insert(kept.replace(' ', "-"));
        }
    }
    anchors
}

/// A path as seen from a file; `None` when it leaves the tree.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn links_to_what_is_not_there_are_found() {
        let sources = [
            source(
                "docs/a.md",
                "# One Two\n[b](b.md) [up](../README.md#start) [self](#one-two) [out](https://x.y/) [dir](../docs/) `[code](no)`\n",
            ),
            source("docs/b.md", "```\n[in code](no)\n```\n"),
            source("README.md", "## Start\n"),
        ];
        assert_eq!(check(&sources), Vec::<String>::new());
        let sources = [source("docs/a.md", "[x](c.md)\n[y](#no)\n[z](../../etc)\n")];
        assert_eq!(
            check(&sources),
            [
                "docs/a.md:1: the link `c.md` leads nowhere",
                "docs/a.md:2: the link `#no` leads nowhere",
                "docs/a.md:3: the link `../../etc` leads nowhere",
            ]
        );
    }
}
