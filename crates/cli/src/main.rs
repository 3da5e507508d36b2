//! The `fermion` binary: the server, and the commands people use it with.
//!
//! Invariants
//! - Every command but `server`, `teardown`, `sim`, those of `commands/store.rs` and the hidden `start-container` is a plain client
//!   of the API over HTTP: it never opens the store and never calls another crate of the server.
//! - What goes to standard output is the answer; progress, hints and errors go to standard
//!   error, so that output can be piped.
//! - A token is sent only to the server it was issued for, and is never printed.
//!
//! Start with [`arguments`] for what can be typed, then `commands/` for what it does.

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod allocator;
mod arguments;
mod commands;
mod connection;
mod failure;
mod output;
mod pods;
mod resources;
mod server;
mod terminal;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::Style;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::new("cannot start the runtime").because(error)),
    };
    let outcome = runtime.block_on(commands::run(arguments));
    // A read of standard input that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => report(&failure),
    }
}

/// Tells the person what went wrong, and the caller by the exit code.
fn report(failure: &Failure) -> ExitCode {
    if !failure.is_silent() {
        let style = Style::of(std::io::stderr().is_terminal());
        eprint!("{}", failure.render(style));
    }
    failure.exit().into()
}
