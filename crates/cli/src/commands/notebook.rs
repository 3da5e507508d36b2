//! `fermion notebook`: runs code in a Jupyter kernel of an environment, through the
//! platform's proxy.
//!
//! Protocol: <https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html>
//! and <https://jupyter-client.readthedocs.io/en/stable/messaging.html>.

mod kernel;
mod message;

use std::time::Duration;

use fermion_api::ai::DevEnvironment;
use fermion_api::ai::dev_environment::AppKind;
use kube::Api;

use self::kernel::Kernel;
use self::message::{Reply, Stream};
use super::open::running_app;
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output::{self, plain};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum NotebookCommand {
    /// Run code in a kernel and print what it says
    #[command(after_help = "Example: fermion notebook run -n examples notebook 'print(1 + 1)'")]
    Run(RunArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// Name of the environment
    environment: String,
    /// The code; standard input when left out
    code: Option<String>,
    /// Name of the Jupyter app; the environment's own when left out
    #[arg(long)]
    app: Option<String>,
    /// How long the code may run
    #[arg(long, default_value = "10m", value_name = "SPAN", value_parser = fermion_api::duration::parse)]
    timeout: Duration,
}

pub(crate) async fn run(command: NotebookCommand, session: &Session) -> Outcome<Exit> {
    let NotebookCommand::Run(arguments) = command;
    let environment = arguments.environment.as_str();
    super::delete::check_name(environment)?;
    let app = match &arguments.app {
        Some(app) => app.clone(),
        None => jupyter_app(session, environment).await?,
    };
    let app = running_app(session, environment, Some(&app)).await?;
    let code = match arguments.code {
        Some(code) => code,
        None => std::io::read_to_string(std::io::stdin()).map_err(|error| Failure::new("cannot read the code").because(error))?,
    };
    let kernel = Kernel::start(session, &format!("/apps/{}/{environment}/{app}", session.namespace)).await?;
    let work = tokio::time::timeout(arguments.timeout, execute(&kernel, session, &code));
    let outcome = tokio::select! {
        outcome = work => outcome.unwrap_or_else(|_| Err(Failure::new("the code ran too long").why(format!("it did not end within {:?}", arguments.timeout)).hint("--timeout gives it longer"))),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    };
    // The kernel would hold its memory until the environment stops.
    let stopped = kernel.stop(session).await;
    let exit = outcome?;
    stopped?;
    Ok(exit)
}

/// The name of the environment's Jupyter app.
async fn jupyter_app(session: &Session, environment: &str) -> Outcome<String> {
    let api: Api<DevEnvironment> = Api::namespaced(session.client.clone(), &session.namespace);
    let found =
        api.get(environment).await.attempt(|| format!("cannot read environment `{environment}` in namespace `{}`", session.namespace))?;
    found.spec.apps.iter().find(|app| app.kind == AppKind::Jupyter).map(|app| app.name.clone()).ok_or_else(|| {
        Failure::new(format!("environment `{environment}` has no app of kind Jupyter"))
            .hint("add {name: jupyter, kind: Jupyter} to its spec.apps, or name another with --app")
            .with_exit(Exit::Missing)
    })
}

async fn execute(kernel: &Kernel, session: &Session, code: &str) -> Outcome<Exit> {
    let mut channel = kernel.connect(session).await?;
    channel.execute(code).await?;
    loop {
        match channel.next().await? {
            Reply::Output(Stream::Stdout, text) => output::write(&shown(&text))?,
            Reply::Output(Stream::Stderr, text) => eprint!("{}", shown(&text)),
            Reply::Value(text) => output::line(&shown(&text))?,
            Reply::Raised { traceback } => {
                eprintln!("{traceback}");
                return Ok(Exit::Failed);
            }
            Reply::Done => return Ok(Exit::Done),
            Reply::Other => {}
        }
    }
}

/// A program's text with its line breaks and tabs, and nothing that steers the terminal.
fn shown(text: &str) -> String {
    text.split_inclusive(['\n', '\t']).fold(String::new(), |mut whole, part| {
        let body = part.trim_end_matches(['\n', '\t']);
        whole.push_str(&plain(body));
        whole.push_str(&part[body.len()..]);
        whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_stay_and_escapes_do_not() {
        assert_eq!(shown("a\tb\nc\u{1b}[2J\n"), "a\tb\nc\\u{1b}[2J\n");
    }
}
