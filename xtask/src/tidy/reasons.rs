//! Whether every code by which something explains itself has its page.

use std::collections::BTreeSet;

use super::Source;

const CODES: &str = "crates/api/src/reason.rs";
const PAGES: &str = "docs/errors/";
const INDEX: &str = "docs/errors/README.md";

/// Codes without a page, and pages that the index does not list.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let text = |path: &str| sources.iter().find(|source| source.path == path).map_or("", |source| source.text.as_str());
    let pages: BTreeSet<&str> =
        sources.iter().filter_map(|source| source.path.strip_prefix(PAGES)?.strip_suffix(".md")).filter(|page| *page != "README").collect();
    let unknown = codes(text(CODES)).filter(|code| !pages.contains(code));
    let mut problems: Vec<String> = unknown.map(|code| format!("{CODES}: `{code}` has no page {PAGES}{code}.md")).collect();
    let index = text(INDEX);
    let unlisted = pages.iter().filter(|page| !index.contains(&format!("({page}.md)")));
    problems.extend(unlisted.map(|page| format!("{INDEX}: does not list {page}.md")));
    problems
}

/// The texts of the constants.
fn codes(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once("= \"")?.1.strip_suffix("\";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_without_pages_and_pages_out_of_the_index_are_found() {
        let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let codes = "/// One.\npub const ONE: &str = \"One\";\npub const TWO: &str = \"Two\";\n";
        let problems = check(&[
            source(CODES, codes),
            source("docs/errors/One.md", "# One"),
            source("docs/errors/Three.md", "# Three"),
            source(INDEX, "[One](One.md)"),
        ]);
        assert_eq!(
            problems,
            ["crates/api/src/reason.rs: `Two` has no page docs/errors/Two.md", "docs/errors/README.md: does not list Three.md"]
        );
    }
}
