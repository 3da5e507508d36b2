//! The guides are typed in as they stand: every command of theirs that a reader should run.

use std::path::Path;
use std::process::Command;

use fermion_testkit::{Node, Platform};

use crate::FERMION;

/// The repository, in which a reader types.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The commands of a guide: its blocks marked `sh`, in order. `sh no-test` marks what only makes
/// sense outside a test.
fn commands(guide: &str) -> String {
    let text = std::fs::read_to_string(Path::new(ROOT).join(guide)).unwrap_or_else(|error| panic!("{guide}: {error}"));
    let mut commands = String::new();
    let mut taking = false;
    for line in text.lines() {
        match line {
            "```sh" => taking = true,
            line if line.starts_with("```") => taking = false,
            line if taking => {
                commands.push_str(line);
                commands.push('\n');
            }
            _ => {}
        }
    }
    commands
}

#[test]
fn every_command_of_the_first_job_guide_works() {
    let script = commands("docs/guides/first-job.md");
    assert!(script.lines().count() > 20, "the guide's commands were not found");
    let platform = Platform::start(FERMION, Node::Local);
    let tools = platform.home().join("tools");
    std::fs::create_dir(&tools).expect("a folder");
    let kubectl = std::env::var_os("FERMION_KUBECTL").expect("FERMION_KUBECTL names kubectl");
    std::os::unix::fs::symlink(kubectl, tools.join("kubectl")).expect("a link");
    let target = Path::new(FERMION).parent().and_then(Path::parent).expect("the binary is in a target folder");
    let path = std::env::var("PATH").expect("a PATH");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(ROOT)
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("FERMION_HOME", platform.home())
        .env("CARGO_TARGET_DIR", target)
        .env("NO_COLOR", "1")
        .output()
        .expect("bash runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the guide's commands ended with {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", output.status);
    // What the reader is promised to see.
    for promised in ["42", "is taken for a", "accuracy", "first-too-large condition met", "first-worker-0"] {
        assert!(stdout.contains(promised) || stderr.contains(promised), "{promised} in\n{stdout}\n{stderr}");
    }
    assert!(stderr.contains("spec.roles[0].replicas"), "the mistake was not refused with its path:\n{stderr}");
}
