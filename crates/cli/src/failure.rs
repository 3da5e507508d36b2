//! What a person is told when a command fails: what failed, why, and what to do.

use std::error::Error as StdError;
use std::fmt::{self, Display, Write as _};
use std::process::ExitCode;

use crate::output::{Style, Tone, plain};

/// How a command ended. The numbers are part of the interface; `fermion --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done,
    /// It failed.
    Failed,
    /// What was asked for does not exist.
    Missing,
    /// The server does not know the caller, or the caller may not do this.
    Denied,
    /// The server cannot be reached.
    Unreachable,
    /// Ctrl-C.
    Interrupted,
    /// The code of the job or remote command.
    Of(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            // 2 is what clap ends with on wrong arguments.
            Exit::Missing => 3,
            Exit::Denied => 4,
            Exit::Unreachable => 5,
            Exit::Interrupted => 130,
            Exit::Of(code) => code,
        })
    }
}

/// A failure as it is shown.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: Vec<String>,
    hint: Option<String>,
    exit: Exit,
    silent: bool,
}

/// The answer of everything that can fail in front of a person.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Vec::new(), hint: None, exit: Exit::Failed, silent: false }
    }

    /// Adds the cause and the causes below it.
    pub(crate) fn because(mut self, cause: impl Into<Box<dyn StdError>>) -> Self {
        let cause = cause.into();
        let mut next: Option<&(dyn StdError + 'static)> = Some(cause.as_ref());
        while let Some(error) = next {
            let text = error.to_string();
            // Many errors repeat their source in their own text.
            if !self.why.iter().any(|said| said.contains(&text)) {
                self.why.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds a cause in words.
    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether there is nothing to say: whoever read our output has gone.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The text for standard error.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut text = format!("{} {}\n", style.paint(Tone::Bad, "error:"), plain(&self.what));
        for why in &self.why {
            let _ = writeln!(text, "  {} {}", style.paint(Tone::Faint, "why:"), indented(why));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  {} {}", style.paint(Tone::Note, "hint:"), indented(hint));
        }
        text
    }

    /// A request that failed, told by what was attempted.
    pub(crate) fn of_request(what: impl Into<String>, error: kube::Error) -> Self {
        let failure = Self::new(what);
        match error {
            kube::Error::Api(status) => failure.of_status(&status),
            kube::Error::Service(error) => {
                let error: Box<dyn StdError> = error;
                let failure = failure.because(error);
                if failure.why.iter().any(|why| why.contains("certificate")) {
                    return failure
                        .hint("--certificate-authority names the file of who signs the server's certificate")
                        .with_exit(Exit::Unreachable);
                }
                failure.unreachable()
            }
            kube::Error::HyperError(error) => failure.because(Box::<dyn StdError>::from(error)).unreachable(),
            kube::Error::UpgradeConnection(error) => failure
                .because(Box::<dyn StdError>::from(error))
                .hint("the server refused to open a stream; the pod may just have ended: look with `fermion get pods`"),
            other => failure.because(Box::<dyn StdError>::from(other)),
        }
    }

    fn unreachable(self) -> Self {
        self.hint("is the server running? `cargo xtask up` or `fermion server` starts one; --server names another")
            .with_exit(Exit::Unreachable)
    }

    fn of_status(mut self, status: &kube::core::Status) -> Self {
        let message = if status.message.is_empty() { status.reason.as_str() } else { status.message.as_str() };
        self.why.push(message.to_owned());
        for cause in status.details.iter().flat_map(|details| &details.causes) {
            if !message.contains(&cause.message) {
                let field = if cause.field.is_empty() { String::new() } else { format!("{}: ", cause.field) };
                self.why.push(format!("{field}{}", cause.message));
            }
        }
        match status.code {
            401 => {
                self.hint("log in with `fermion login SERVER`, or give a token by FERMION_TOKEN or --token-file").with_exit(Exit::Denied)
            }
            403 => self.hint("ask an administrator for the right to do this").with_exit(Exit::Denied),
            404 if message.starts_with("namespaces ") => {
                self.hint("a project is a namespace: `fermion get namespaces` lists them, -n names another").with_exit(Exit::Missing)
            }
            404 => self.hint("`fermion get KIND` lists what there is; -n NAMESPACE looks in another namespace").with_exit(Exit::Missing),
            409 if status.is_already_exists() => self.hint("choose another name, or delete the one that is there"),
            409 => self.hint("somebody else changed it meanwhile; do it again"),
            429 | 503 | 504 => self.hint("the server is busy or starting; try again in a moment"),
            507 => self.hint(
                "the disk of the server's database is full; free some space there: under its FERMION_HOME, or on PostgreSQL's machine",
            ),
            500 => self.hint("this is a fault of the server; its log says more ($FERMION_HOME/log/server.log)"),
            _ => self,
        }
    }
}

/// Later lines of a text stand under its first.
fn indented(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n       ")
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.render(Style::Plain).trim_end())
    }
}

impl From<std::io::Error> for Failure {
    /// Only writing to standard output is passed up without words of its own.
    fn from(error: std::io::Error) -> Self {
        let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        let mut failure = Self::new("cannot write the output").because(Box::<dyn StdError>::from(error));
        failure.silent = gone;
        failure
    }
}

/// Puts words to a failed request.
pub(crate) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn attempt(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure::of_request(what(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(kube::core::Status::failure(message, reason).with_code(code)))
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let missing = Failure::of_request(
            "cannot read trainingjob `digits` in namespace `examples`",
            status(404, "NotFound", "trainingjobs.ai.fermion.dev \"digits\" not found"),
        );
        assert_eq!(missing.exit(), Exit::Missing);
        insta::assert_snapshot!(missing);
        let denied = Failure::of_request("cannot list pods", status(401, "Unauthorized", "the token is not known"));
        assert_eq!(denied.exit(), Exit::Denied);
        insta::assert_snapshot!(denied);
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let failure = Failure::new("no pod `\u{1b}[2J`").why("line one\nline \u{7}two");
        assert!(!failure.to_string().contains(['\u{1b}', '\u{7}']));
        insta::assert_snapshot!(failure);
    }
}
