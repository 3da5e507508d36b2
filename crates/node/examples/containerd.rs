//! Starts a home's containerd by hand, builds an official image into it, or takes it away:
//! `containerd HOME [image NAME | down | purge]`.
#![allow(clippy::print_stdout, reason = "it is a program to be run by hand")]

use std::path::PathBuf;

use fermion_node::image::{Builder, BuilderConfig};
use fermion_node::runtime::{Runtime, RuntimeConfig, teardown};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let home = PathBuf::from(args.next().ok_or("usage: containerd HOME [image NAME | down | purge]")?);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        None => {
            let runtime = Runtime::start(RuntimeConfig::new(&home)).await?;
            println!("socket  {}", runtime.socket().display());
            println!("network {} on {}", runtime.network().subnet, runtime.network().bridge);
            println!("cgroups below {}", runtime.cgroup_parent());
        }
        Some("image") => {
            let name = args.next().and_then(|name| name.into_string().ok()).ok_or("which image?")?;
            let runtime = Runtime::start(RuntimeConfig::new(&home)).await?;
            let builder = Builder::new(&BuilderConfig::new(&home), runtime.cri())?;
            let built = builder.ensure(&name, |now| println!("{}/{} {}", now.step, now.total, now.message)).await;
            let built = built.map_err(|error| error.to_string())?;
            println!("{built:?}");
        }
        Some(word @ ("down" | "purge")) => {
            println!("{:?}", teardown(&home, word == "purge").await?);
        }
        Some(other) => return Err(format!("unknown word {other:?}").into()),
    }
    Ok(())
}
