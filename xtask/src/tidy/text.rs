//! What no file may hold.

use super::Source;

/// The longest source file, in lines.
const LINES_MAX: usize = 900;
/// Endings of files whose length counts.
const CODE: [&str; 5] = [".rs", ".py", ".ts", ".tsx", ".sh"];
/// Files made by programs.
const GENERATED: [&str; 4] = ["Cargo.lock", "package-lock.json", ".snap", ".proto"];

/// Words, in two halves so that this file does not hold them, and what to do instead.
const WORDS: [(&str, &str, &str); 6] = [
    ("to", "do!(", "do it, or leave it out"),
    ("unimple", "mented!(", "do it, or leave it out"),
    ("FIX", "ME", "fix it, or file it"),
    ("XX", "X:", "fix it, or file it"),
    ("#[ig", "nore", "a test runs or does not exist"),
    ("db", "g!(", "use tracing"),
];
/// Homes of people, in two halves as well. Tests may make up some.
const HOMES: [(&str, &str); 3] = [("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/")];
/// The home inside our containers.
const HOME_IN_CONTAINERS: &str = "work";

/// Folders of the pure crates: what they need comes in as an argument.
const PURE: [&str; 2] = ["crates/api/src/", "crates/scheduler/src/"];
/// What a pure crate does not do.
const IMPURE: [&str; 9] =
    ["::now()", "std::env::", "std::fs::", "std::net::", "std::process::", "std::thread::", "async fn", "getrandom", "tokio::"];

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
    let pure = PURE.iter().any(|folder| path.starts_with(folder));
    let mut in_tests = path.contains("/tests/");
    for (number, line) in source.text.lines().enumerate() {
        // Tests stand at the end of a file.
        in_tests |= line.starts_with("#[cfg(test)]");
        for (one, other, advice) in WORDS {
            if line.contains(&format!("{one}{other}")) {
                problems.push(format!("{path}:{}: holds `{one}{other}`: {advice}", number + 1));
            }
        }
        let impure = IMPURE.iter().filter(|word| pure && !in_tests && line.contains(**word) && !line.trim_start().starts_with("//"));
        problems.extend(impure.map(|word| format!("{path}:{}: a pure crate has no `{word}`; take it as an argument", number + 1)));
        for home in HOMES.map(|(one, other)| format!("{one}{other}")) {
            for after in line.match_indices(&home).map(|(at, _)| &line[at + home.len()..]) {
                let somebody = after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') && !after.starts_with(HOME_IN_CONTAINERS);
                if somebody && !in_tests {
                    problems.push(format!("{path}:{}: holds a path in somebody's home", number + 1));
                }
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
        assert_eq!(found(&format!("#[cfg(test)]\nlet path = \"/ro{}.npmrc\";", "ot/")), 0);
        assert_eq!(found(&format!("mountPath: /ho{}work", "me/")), 0);
        let pure = |text: &str| check(&Source { path: "crates/scheduler/src/plan.rs".to_owned(), text: text.to_owned() }).len();
        assert_eq!(pure("let now = Instant::now();\n"), 1);
        assert_eq!(pure("#[cfg(test)]\nlet now = Instant::now();\n"), 0);
        assert_eq!(found(&"x\n".repeat(LINES_MAX + 1)), 1);
    }
}
