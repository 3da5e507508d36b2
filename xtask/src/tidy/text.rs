//! What no file may hold.

use super::Source;

/// The longest source file, in lines.
const LINES_MAX: usize = 900;
/// Endings of files whose length counts.
const CODE: [&str; 5] = [".rs", ".py", ".ts", ".tsx", ".sh"];
/// Files made by programs.
const GENERATED: [&str; 4] = ["Cargo.lock", "package-lock.json", ".snap", ".proto"];

/// Words, in two halves so that this file does not hold them, and what to do instead.
const WORDS: [(&str, &str, &str); 8] = [
    ("to", "do!(", "do it, or leave it out"),
    ("unimple", "mented!(", "do it, or leave it out"),
    ("FIX", "ME", "fix it, or file it"),
    ("XX", "X:", "fix it, or file it"),
    ("#[ig", "nore", "a test runs or does not exist"),
    ("db", "g!(", "use tracing"),
    ("/ro", "ot/", "a path of somebody's machine"),
    ("/Us", "ers/", "a path of somebody's machine"),
];
/// Homes of people; `work` is the home inside our containers.
const HOMES: (&str, &str) = ("/ho", "me/");
const HOME_IN_CONTAINERS: &str = "work";

pub(super) fn check(source: &Source) -> Vec<String> {
    let path = &source.path;
    if GENERATED.iter().any(|ending| path.ends_with(ending)) {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let lines = source.text.lines().count();
    if CODE.iter().any(|ending| path.ends_with(ending)) && lines > LINES_MAX {
        problems.push(format!("{path}: has {lines} lines; split it (at most {LINES_MAX})"));
    }
    for (number, line) in source.text.lines().enumerate() {
        for (one, other, advice) in WORDS {
            if line.contains(&format!("{one}{other}")) {
                problems.push(format!("{path}:{}: holds `{one}{other}`: {advice}", number + 1));
            }
        }
        let home = format!("{}{}", HOMES.0, HOMES.1);
        for (_, after) in line.match_indices(&home).map(|(at, _)| line.split_at(at + home.len())) {
            if !after.starts_with(HOME_IN_CONTAINERS) && after.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                problems.push(format!("{path}:{}: holds a path in somebody's home", number + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        check(&Source { path: "a.rs".to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn unfinished_work_and_paths_of_machines_are_found() {
        assert_eq!(found("fn a() {}\n"), 0);
        assert_eq!(found(&format!("    {}{})", "to", "do!(")), 1);
        assert_eq!(found(&format!("#[ig{}]", "nore")), 1);
        assert_eq!(found(&format!("cd /ho{}ada/x", "me/")), 1);
        assert_eq!(found(&format!("mountPath: /ho{}work", "me/")), 0);
        assert_eq!(found(&"x\n".repeat(LINES_MAX + 1)), 1);
    }
}
