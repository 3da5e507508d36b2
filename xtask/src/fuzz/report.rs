//! What libFuzzer wrote, read.

use std::fmt::Write as _;

/// Lines of a panic that are shown.
const PANIC_LINES_MAX: usize = 12;
/// Characters of each.
const LINE_CHARACTERS_MAX: usize = 400;

/// How a run went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) executions: u64,
    /// Edges of the program that were reached.
    pub(super) edges: u64,
    /// Inputs that reach something no other does.
    pub(super) inputs: u64,
    pub(super) finding: Option<Finding>,
}

/// An input that breaks a law, takes too long or too much memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The file that holds it.
    file: String,
    /// What the program said.
    said: Vec<String>,
}

impl Report {
    /// Reads the log of one run.
    pub(super) fn read(log: &str) -> Self {
        let mut report = Self::default();
        for line in log.lines() {
            if let Some(rest) = line.strip_prefix('#') {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let number = |text: &str| text.split('/').next().and_then(|text| text.parse().ok());
                let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| number(words.get(at + 1)?));
                report.executions = words.first().and_then(|first| number(first)).unwrap_or(report.executions);
                report.edges = after("cov:").unwrap_or(report.edges);
                report.inputs = after("corp:").unwrap_or(report.inputs);
            } else if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                report.executions = count.trim().parse().unwrap_or(report.executions);
            }
        }
        let file = log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, file)| file.trim().to_owned());
        report.finding = file.map(|file| Finding { file, said: said(log) });
        report
    }

    /// One line for people.
    pub(super) fn line(&self, name: &str) -> String {
        let found = if self.finding.is_some() { "FOUND SOMETHING" } else { "nothing found" };
        format!("{name:<16} {:>11} executions {:>7} edges {:>6} inputs  {found}", self.executions, self.edges, self.inputs)
    }
}

impl Finding {
    /// What was found, and how to see it again.
    pub(super) fn told(&self, name: &str) -> String {
        let mut text = String::new();
        for line in &self.said {
            let line: String = line.chars().take(LINE_CHARACTERS_MAX).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "    the input: {}", self.file);
        let _ = write!(text, "    again: cargo nextest run -p fermion-laws, which fails until the law of {name} holds for it");
        text
    }
}

/// The panic, or what libFuzzer complained of.
fn said(log: &str) -> Vec<String> {
    let from = ["panicked at", "ERROR: libFuzzer", "==ERROR", "out-of-memory"];
    let lines = log.lines().skip_while(|line| !from.iter().any(|start| line.contains(start)));
    lines
        .take_while(|line| !line.starts_with("stack backtrace") && !line.starts_with("note:"))
        .take(PANIC_LINES_MAX)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_findings_is_counted() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 10 ft: 10 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                   #4096\tpulse  cov: 3811 ft: 9999 corp: 300/20Kb lim: 43 exec/s: 900 rss: 100Mb\n\
                   #5000\tDONE   cov: 3820 ft: 10001 corp: 301/20Kb lim: 43 exec/s: 900 rss: 100Mb\n\
                   stat::number_of_executed_units: 5001\n";
        assert_eq!(Report::read(log), Report { executions: 5001, edges: 3820, inputs: 301, finding: None });
    }

    #[test]
    fn a_finding_is_told_with_its_input() {
        let log = "#8\tNEW    cov: 12 ft: 13 corp: 2/3b lim: 4 exec/s: 0 rss: 40Mb L: 2/2 MS: 1 ChangeBit-\n\
                   thread '<unnamed>' panicked at crates/laws/src/patch.rs:10:5:\nnot equal\nstack backtrace:\n   0: x\n\
                   artifact_prefix='fuzz/found/patch/'; Test unit written to fuzz/found/patch/crash-1\n";
        let report = Report::read(log);
        assert_eq!((report.executions, report.edges), (8, 12));
        assert!(report.line("patch").contains("FOUND"));
        let told = report.finding.expect("a finding").told("patch");
        assert!(told.contains("not equal") && told.contains("fuzz/found/patch/crash-1") && !told.contains("0: x"), "{told}");
    }
}
