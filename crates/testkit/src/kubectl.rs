//! The real `kubectl`, run against a platform under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl Output {
    pub(crate) fn new(output: std::process::Output, command: String) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command,
        }
    }

    /// Standard output of a command that must succeed.
    ///
    /// # Panics
    /// When it failed, with what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "`{}` ended with {}\n--- stdout\n{}\n--- stderr\n{}", self.command, self.code, self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a command that must fail.
    ///
    /// # Panics
    /// When it succeeded.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(self.code != 0, "`{}` succeeded\n--- stdout\n{}\n--- stderr\n{}", self.command, self.stdout, self.stderr);
        self.stderr
    }
}

/// `kubectl` with the kubeconfig of one platform.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(home: &Path) -> Self {
        let program = std::env::var_os("FERMION_KUBECTL")
            .expect("FERMION_KUBECTL must name kubectl 1.31 or newer: run the tests with `cargo xtask test`, which finds or installs one");
        Self { program: program.into(), home: home.to_owned() }
    }

    /// The command, ready for more settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", self.home.join("kubeconfig"))
            // Its caches are of this platform only.
            .env("HOME", self.home.join("kubectl-home"))
            .env("KUBECACHEDIR", self.home.join("kubectl-cache"));
        command
    }

    /// Runs it to the end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    /// Runs it to the end with text on standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        use std::io::Write as _;
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.program.display()));
        // One that reads no input may be gone already.
        let _gone = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("kubectl ends");
        Output::new(output, format!("kubectl {}", arguments.join(" ")))
    }

    /// Starts it and lets it go on.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> crate::Running {
        crate::Running::start(&mut self.command(arguments))
    }

    /// The program itself, for commands that are run by another one.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Applies a manifest that must be accepted.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.run_with(&["apply", "-f", "-"], manifest).ok()
    }

    /// One field of one object, as `-o jsonpath` prints it.
    pub fn field(&self, namespace: &str, object: &str, path: &str) -> Result<String, String> {
        let output = self.run(&["get", "-n", namespace, object, "-o", &format!("jsonpath={path}")]);
        if output.code == 0 { Ok(output.stdout) } else { Err(output.stderr) }
    }

    /// Waits until a field has a value.
    ///
    /// # Panics
    /// When it never has.
    #[track_caller]
    pub fn wait_field(&self, namespace: &str, object: &str, path: &str, wanted: &str) {
        self.wait_field_within(crate::wait::SOON, namespace, object, path, wanted);
    }

    /// Waits until a field has a value, for a given time.
    ///
    /// # Panics
    /// When it never has.
    #[track_caller]
    pub fn wait_field_within(&self, limit: std::time::Duration, namespace: &str, object: &str, path: &str, wanted: &str) {
        crate::eventually_within(limit, &format!("{object} {path} = {wanted}"), || match self.field(namespace, object, path) {
            Ok(value) if value == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}
