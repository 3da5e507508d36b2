//! Starts a home's containerd by hand, or takes it away: `containerd HOME [down | purge]`.
#![allow(clippy::print_stdout, reason = "it is a program to be run by hand")]

use std::path::PathBuf;

use fermion_node::runtime::{Runtime, RuntimeConfig, teardown};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let home = PathBuf::from(args.next().ok_or("usage: containerd HOME [down | purge]")?);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        None => {
            let runtime = Runtime::start(RuntimeConfig::new(&home)).await?;
            println!("socket  {}", runtime.socket().display());
            println!("network {} on {}", runtime.network().subnet, runtime.network().bridge);
            println!("cgroups below {}", runtime.cgroup_parent());
        }
        Some(word @ ("down" | "purge")) => {
            println!("{:?}", teardown(&home, word == "purge").await?);
        }
        Some(other) => return Err(format!("unknown word {other:?}").into()),
    }
    Ok(())
}
