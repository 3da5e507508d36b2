//! `fermion secrets`: the keys that Secrets are encrypted with.

use serde::Deserialize;
use serde_json::json;

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SecretsCommand {
    /// Make a new key and encrypt every Secret anew with it
    ///
    /// The server adds the new key to its file, writes every Secret anew, and cuts off the history
    /// that is encrypted with the old keys. It goes on serving meanwhile; watches of Secrets start
    /// over. When it is interrupted, its next start finishes the work.
    RotateKey(RotateKeyArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateKeyArguments {
    /// Forget the old keys afterwards: backups made before can then be read only with a copy of them
    #[arg(long)]
    drop_old: bool,
}

/// What the server did.
#[derive(Deserialize)]
struct Rotated {
    rewritten: usize,
    keys: Vec<String>,
}

pub(crate) async fn run(command: SecretsCommand, session: &Session) -> Outcome<Exit> {
    let SecretsCommand::RotateKey(arguments) = command;
    let body = json!({"dropOld": arguments.drop_old}).to_string().into_bytes();
    let request = http::Request::post("/secrets/rotate-key")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| Failure::new("cannot write the request").because(error))?;
    let rotated: Rotated = session.client.request(request).await.attempt(|| "the key of Secrets was not replaced".to_owned())?;
    output::line(&format!("Secrets are encrypted with key {}", rotated.keys.first().map_or("?", String::as_str)))?;
    output::note(&format!("{} Secrets were written anew", rotated.rewritten));
    if let Some((_, old)) = rotated.keys.split_first()
        && !old.is_empty()
    {
        output::note(&format!("old keys are kept: {}; `fermion secrets rotate-key --drop-old` forgets them", old.join(", ")));
    }
    Ok(Exit::Done)
}
