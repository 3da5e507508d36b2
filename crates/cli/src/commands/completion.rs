//! `fermion completion`: what the shell needs to complete commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::failure::{Exit, Outcome};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: fermion completion bash > /etc/bash_completion.d/fermion")]
pub(crate) struct CompletionArguments {
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &CompletionArguments) -> Outcome<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::arguments::Arguments::command(), "fermion", &mut script);
    output::write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
