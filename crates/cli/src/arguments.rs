//! What can be typed after `fermion`.

use clap::{Parser, Subcommand};

use crate::commands::{
    apply, call, chat, completion, delete, exec, explain, export, follow, get, import, login, logs, node, notebook, open, run, secrets,
    sim, status, store, top, usage, wait,
};
use crate::connection::ConnectionArguments;
use crate::server::{ServerArgs, StartContainerArgs, TeardownArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong arguments
  3    what was asked for does not exist
  4    not logged in, or not allowed
  5    the server cannot be reached
  130  interrupted
  `run` and `exec` end with the code of the job or command.

Where commands go: --server (FERMION_SERVER), else where `fermion login` logged in, else the
server on this machine, by $FERMION_HOME/kubeconfig.";

/// Develop, train and serve models on the Fermion platform.
#[derive(Debug, Parser)]
#[command(name = "fermion", version, after_help = EXIT_CODES, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command as a training job and follow it; the exit code is the job's
    Run(run::RunArguments),
    /// Follow a job that was submitted elsewhere; the exit code is the job's
    Follow(follow::FollowArguments),
    /// Wait until an environment runs, a service is ready, or a job has ended
    Wait(wait::WaitArguments),
    /// Print the logs of a job, service, environment or pod
    Logs(logs::LogsArguments),
    /// Run a command, or a shell, in a job, environment, service or pod
    #[command(visible_alias = "ssh")]
    Exec(exec::ExecArguments),
    /// Print and open the address of an environment's app
    Open(open::OpenArguments),
    /// Show nodes, pools, queues, and what runs and waits and why
    Status(status::StatusArguments),
    /// Say why work waits, or would wait, until when, and what would let it start
    Explain(explain::ExplainArguments),
    /// Show what nodes and pods use now
    Top(top::TopArguments),
    /// Show which pod held what, when and for how long
    Usage(usage::UsageArguments),
    /// List or show objects of any kind
    Get(get::GetArguments),
    /// Write a list to a file: CSV, XLSX or JSON
    Export(export::ExportArguments),
    /// Create or change objects as the rows of a file say
    Import(import::ImportArguments),
    /// Create or change objects from YAML or JSON
    Apply(apply::ApplyArguments),
    /// Delete objects
    Delete(delete::DeleteArguments),
    /// Send a request to an inference service
    Call(call::CallArguments),
    /// Chat with a language model that an inference service serves
    Chat(chat::ChatArguments),
    /// Add machines to the platform
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Work with a Jupyter environment from the command line
    #[command(subcommand)]
    Notebook(notebook::NotebookCommand),
    /// Simulate a cluster with some work, and with changes to either
    Sim(sim::SimArguments),
    /// Replace the key that Secrets are encrypted with
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Log in to a server with a token
    Login(login::LoginArguments),
    /// Print the completion script of a shell
    Completion(completion::CompletionArguments),
    /// Run the server
    Server(ServerArgs),
    /// Copy the whole database into a file; the server may run
    Backup(store::BackupArguments),
    /// Put a backup where there is no database yet
    Restore(store::RestoreArguments),
    /// Check the database, or copy it to another
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Remove every container, mount and network of a stopped server
    Teardown(TeardownArgs),
    /// Start a container on behalf of a server, whatever becomes of that
    #[command(hide = true)]
    StartContainer(StartContainerArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_names_every_command() {
        insta::assert_snapshot!(Arguments::command().term_width(100).render_help());
    }
}
