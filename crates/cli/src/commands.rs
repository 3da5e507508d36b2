//! The commands, one file each.

pub(crate) mod apply;
pub(crate) mod call;
pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod follow;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod notebook;
pub(crate) mod open;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod top;
pub(crate) mod usage;
pub(crate) mod wait;

use crate::arguments::{Arguments, Command};
use crate::failure::{Exit, Failure, Outcome};
use crate::server;

/// Does what was typed.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Exit> {
    let connection = arguments.connection;
    match arguments.command {
        Command::Server(mut options) => {
            options.home = options.home.or(connection.home);
            Box::pin(server::run(options)).await.map_err(|error| of_server("the server stopped", &error))?;
            Ok(Exit::Done)
        }
        Command::Teardown(mut options) => {
            options.home = options.home.or(connection.home);
            server::teardown(options).await.map_err(|error| of_server("cannot remove everything the server started", &error))?;
            Ok(Exit::Done)
        }
        Command::StartContainer(options) => {
            server::start_container(options).await.map_err(|error| of_server("the answer cannot be given", &error))?;
            Ok(Exit::Done)
        }
        Command::Backup(options) => store::backup(options, connection.home).await,
        Command::Restore(options) => store::restore(options, connection.home).await,
        Command::Store(command) => store::run(command, connection.home).await,
        Command::Sim(options) => sim::run(&options, &connection).await,
        Command::Completion(options) => completion::run(&options),
        Command::Login(options) => login::run(options, &connection).await,
        Command::Run(options) => run::run(options, &connection.session()?).await,
        Command::Follow(options) => follow::run(options, &connection.session()?).await,
        Command::Wait(options) => wait::run(options, &connection.session()?).await,
        Command::Call(options) => call::run(options, &connection.session()?).await,
        Command::Logs(options) => logs::run(options, &connection.session()?).await,
        Command::Exec(options) => exec::run(options, &connection.session()?).await,
        Command::Explain(options) => explain::run(options, &connection.session()?).await,
        Command::Open(options) => open::run(options, &connection.session()?).await,
        Command::Status(options) => status::run(options, &connection.session()?).await,
        Command::Top(options) => top::run(options, &connection.session()?).await,
        Command::Usage(options) => usage::run(options, &connection.session()?).await,
        Command::Get(options) => get::run(options, &connection.session()?).await,
        Command::Export(options) => export::run(options, &connection.session()?).await,
        Command::Import(options) => import::run(options, &connection.session()?).await,
        Command::Apply(options) => apply::run(options, &connection.session()?).await,
        Command::Delete(options) => delete::run(options, &connection.session()?).await,
        Command::Chat(options) => chat::run(options, &connection.session()?).await,
        Command::Secrets(command) => secrets::run(command, &connection.session()?).await,
        Command::Node(node::NodeCommand::Add(options)) => node::add(options, &connection.session()?).await,
        Command::Node(node::NodeCommand::Assign(options)) => node::assign(options, &connection.session()?).await,
        Command::Node(node::NodeCommand::Unassign(options)) => node::unassign(options, &connection.session()?).await,
        Command::Node(node::NodeCommand::Template) => node::print_template(),
        Command::Notebook(command) => notebook::run(command, &connection.session()?).await,
    }
}

fn of_server(what: &str, error: &anyhow::Error) -> Failure {
    error.chain().fold(Failure::new(what), |failure, cause| failure.why(cause.to_string()))
}
