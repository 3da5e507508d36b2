//! `cargo xtask up`: from a clean clone to a platform that runs the example.

mod example;
mod fermion;

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::console::{self, Console};
use crate::home::Home;
use crate::server::Process;
use crate::{HomeArgument, packages, server, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct UpArguments {
    #[command(flatten)]
    home: HomeArgument,
    /// Address the server listens on
    #[arg(long, default_value = "127.0.0.1:6780")]
    listen: SocketAddr,
    /// Start the platform and do not run the example
    #[arg(long)]
    no_example: bool,
}

pub(crate) fn run(arguments: UpArguments) -> Result<()> {
    let console = Console::new();
    let home = arguments.home.home()?;
    packages::install(&console, &packages::TO_RUN)?;
    let binary = workspace::build_fermion(&console)?;
    if let Some(process) = Process::running(&home)?
        && process.program_was_replaced()
    {
        console.step("the program has changed since the server was started; starting it anew (containers go on)");
        process.stop(&console)?;
    }
    server::start(&console, &binary, &home, arguments.listen)?;
    console.step(&format!("the platform is ready at http://{}", arguments.listen));
    let fermion = fermion::Fermion::new(&binary, &home);
    console.timed("this machine becomes a node", || fermion.wait_for_node())?;
    let results = if arguments.no_example { None } else { Some(example::run(&console, &fermion)?) };

    if let Some(results) = results {
        results.print()?;
    }
    let announced = announcement(&home)?;
    console::heading("The platform")?;
    console::answer(&format!("address        http://{}", arguments.listen))?;
    for line in &announced {
        console::answer(line)?;
    }
    if !announced.is_empty() {
        console::answer("               (said this once; keep it)")?;
        forget_announcement(&home)?;
    }
    console::heading("What to look at next")?;
    for line in next_steps(&binary.display().to_string(), &home, arguments.no_example) {
        console::answer(&line)?;
    }
    Ok(())
}

/// What the server tells the person who started it first, line by line.
fn announcement(home: &Home) -> Result<Vec<String>> {
    let file = home.announcement();
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text.lines().map(aligned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// It has been told, once; an `up` that fails before tells it the next time.
fn forget_announcement(home: &Home) -> Result<()> {
    let file = home.announcement();
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
}

/// `name: value` with the value in the column of the others.
fn aligned(line: &str) -> String {
    match line.split_once(": ") {
        Some((name, value)) => format!("{name:<14} {value}"),
        None => line.to_owned(),
    }
}

fn next_steps(binary: &str, home: &Home, no_example: bool) -> Vec<String> {
    let namespace = if no_example { "default" } else { "examples" };
    let mut lines = Vec::new();
    if !home.is_default() {
        lines.push(format!("export FERMION_HOME={}", home.path().display()));
    }
    lines.extend([
        format!("export KUBECONFIG={}", home.kubeconfig().display()),
        format!("kubectl get trainingjobs,devenvironments,inferenceservices,pods -n {namespace}"),
        format!("alias fermion={binary}"),
        "fermion status".to_owned(),
        "fermion run -- python -c 'print(6 * 7)'".to_owned(),
    ]);
    if !no_example {
        lines.push("fermion -n examples open notebook".to_owned());
        lines.push("fermion -n examples ssh notebook".to_owned());
        lines.push("fermion -n examples chat chat 'What is a fermion?'".to_owned());
    }
    lines.push("cargo xtask down            # stops it; --purge also deletes the data".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_told_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::new(Some(directory.path().to_owned())).expect("a home");
        fs::write(home.announcement(), "administrator: admin\npassword: secret\n").expect("written");
        assert_eq!(announcement(&home).expect("readable"), ["administrator  admin", "password       secret"]);
        forget_announcement(&home).expect("removed");
        assert!(announcement(&home).expect("readable").is_empty());
    }
}
