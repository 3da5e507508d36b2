//! What a client script printed, step by step, without what differs from run to run.

use std::sync::LazyLock;

use regex::Regex;

/// How a script says that a step begins; the rest of the line is its title.
const STEP: &str = "### ";

/// Patterns of what differs from run to run, and what is written instead. Applied in order.
const RULES: [(&str, &str); 15] = [
    // Go's library that compares values prints one space or another, so that nobody reads it.
    ("\u{a0}", " "),
    // Times of metadata and conditions, with and without fractions of a second.
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
    // The same as `kubectl describe` prints them, and as Python does.
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "<time>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00:00", "<time>"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
    // Also where JSON is quoted inside of JSON.
    (r#"(\\?"?resourceVersion\\?"?: ?)\\?"?\d+\\?"?"#, "$1<version>"),
    (r"(ResourceVersion in record) \(\d+\)", "$1 (<version>)"),
    (r#"("?continue"?: ?)"[^"]+""#, "$1<token>"),
    // Scripts give the prefix `made-` to names that the server completes.
    (r"\bmade-[a-z0-9]{5}\b", "made-<random>"),
    // How kubectl's own log begins its lines: level, time, process.
    (r"(?m)^[IWE]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "<log> "),
    // Ages stand in a table's cell by themselves, or in brackets as `describe` shows repeats.
    // Twice, since two that stand beside each other share the blank between them.
    (r"(?m)(^|\s)(\d{1,3}s|\d{1,2}m(\d+s)?)(\s|$)", "$1<age>$4"),
    (r"(?m)(^|\s)(\d{1,3}s|\d{1,2}m(\d+s)?)(\s|$)", "$1<age>$4"),
    (r"<age> \(x(\d+) over [0-9ms]+\)", "<age> (x$1)"),
    // Where the words of a table stand depends on how wide an age or a uid was.
    (r"(?m)(\S)[ \t]{2,}", "$1  "),
    (r"(?m)[ \t]+$", ""),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> =
    LazyLock::new(|| RULES.iter().map(|(pattern, text)| (Regex::new(pattern).expect("the patterns are tested"), *text)).collect());

/// A script's output, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// Title and text of each step, in order.
    pub steps: Vec<(String, String)>,
}

impl Transcript {
    /// Takes an output apart. What stands before the first step belongs to none and is dropped.
    pub fn parse(text: &str) -> Self {
        let mut steps: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if let Some(title) = line.strip_prefix(STEP) {
                steps.push((title.trim().to_owned(), String::new()));
            } else if let Some((_, text)) = steps.last_mut() {
                text.push_str(line);
                text.push('\n');
            }
        }
        for (_, text) in &mut steps {
            text.truncate(text.trim_end().len());
        }
        Self { steps }
    }

    /// What a step printed.
    pub fn step(&self, title: &str) -> Option<&str> {
        self.steps.iter().find(|(found, _)| found == title).map(|(_, text)| text.as_str())
    }

    /// Titles that stand in it more than once: a step is known by its title.
    pub fn repeated(&self) -> Vec<&str> {
        let titles: Vec<&str> = self.steps.iter().map(|(title, _)| title.as_str()).collect();
        titles.iter().enumerate().filter(|(index, title)| titles[..*index].contains(title)).map(|(_, title)| *title).collect()
    }

    /// Titles of the steps whose text is not the same in both, or that only one of them has.
    pub fn differing<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let missing = other.steps.iter().filter(|(title, _)| self.step(title).is_none());
        let changed = self.steps.iter().filter(|(title, text)| other.step(title) != Some(text));
        changed.chain(missing).map(|(title, _)| title.as_str()).collect()
    }
}

/// How `kubectl` begins a line of a list of what is wrong.
const WRONG: &str = "* ";

/// Takes away what differs from run to run: times, ages, uids, versions, widths of columns, the
/// order of what is wrong, and the given texts (addresses, folders), each replaced by its name.
pub fn normalize(text: &str, given: &[(String, &str)]) -> String {
    let mut text = text.replace('\r', "");
    for (found, name) in given {
        text = text.replace(found, name);
    }
    for (pattern, replacement) in &*COMPILED {
        text = pattern.replace_all(&text, *replacement).into_owned();
    }
    in_order(&text)
}

/// Sorts what stands together in a list of what is wrong: kube-apiserver goes through the fields of
/// a schema in any order.
fn in_order(text: &str) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    for listed in lines.chunk_by_mut(|one, two| one.starts_with(WRONG) && two.starts_with(WRONG)) {
        listed.sort_unstable();
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_known_by_their_titles() {
        let one = Transcript::parse("noise\n### first\na\n\n### second\nb\n");
        assert_eq!(one.steps, [("first".to_owned(), "a".to_owned()), ("second".to_owned(), "b".to_owned())]);
        let two = Transcript::parse("### first\na\n### second\nc\n### third\n");
        assert_eq!(one.differing(&two), ["second", "third"]);
        assert_eq!(two.differing(&one), ["second", "third"]);
        assert_eq!(Transcript::parse("### a\n### b\n### a\n").repeated(), ["a"]);
    }

    #[test]
    fn what_differs_from_run_to_run_is_named() {
        let clean = |text: &str| normalize(text, &[("http://127.0.0.1:4711".to_owned(), "<server>")]);
        assert_eq!(clean("at http://127.0.0.1:4711/api"), "at <server>/api");
        assert_eq!(clean("resourceVersion: \"123\""), "resourceVersion: <version>");
        assert_eq!(clean("\"resourceVersion\":\"123\","), "\"resourceVersion\":<version>,");
        assert_eq!(clean("resourceVersion: \"\""), "resourceVersion: \"\"");
        assert_eq!(clean(r#"{\"resourceVersion\":\"298\",\"a\":1}"#), r#"{\"resourceVersion\":<version>,\"a\":1}"#);
        assert_eq!(
            clean("precondition (1), the ResourceVersion in record (630)."),
            "precondition (1), the ResourceVersion in record (<version>)."
        );
        assert_eq!(clean("-\u{a0}\t\t\"true\",\n\u{a0}\u{a0}\tArgs:\n"), "-  \"true\",\n  \tArgs:\n");
        assert_eq!(clean("wrong:\n* b\n* a\n\n* c\n* b\n"), "wrong:\n* a\n* b\n\n* b\n* c\n");
        assert_eq!(clean("uid: 2f0e6f4e-9d35-4a8d-8b0a-0d9c3c3e9a11"), "uid: <uid>");
        assert_eq!(clean("NAME   DATA   AGE\nsettings   1   3m20s\n"), "NAME  DATA  AGE\nsettings  1  <age>\n");
        assert_eq!(clean("W1122 15:57:05.740451   16344 prune.go:71] late"), "<log> prune.go:71] late");
        assert_eq!(clean("cpu:  100m"), "cpu:  100m", "a quantity is no age");
        assert_eq!(clean("2s   2s   Normal"), "<age>  <age>  Normal");
        assert_eq!(clean("3s (x2 over 5s)  Normal"), "<age> (x2)  Normal");
        assert_eq!(clean("    - name: a"), "    - name: a", "the indentation of YAML stays");
        assert_eq!(clean("2026-11-22T10:00:00Z 2026-11-22T10:00:00.123456Z"), "<time> <time>");
        assert_eq!(clean("configmap/made-x2b4z created"), "configmap/made-<random> created");
    }
}
