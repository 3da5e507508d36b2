//! `fermion call`: one HTTP request to an inference service.

use futures::AsyncReadExt as _;
use http::Method;

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;

/// The most of an answer that is printed.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion call digits /predict --data '{\"images\": [[0, 0, 5]]}'
  fermion call chat /v1/models")]
pub(crate) struct CallArguments {
    /// Name of the inference service
    service: String,
    /// Path at the service
    #[arg(default_value = "/")]
    path: String,
    /// What to send, as POST; - reads standard input
    #[arg(short, long)]
    data: Option<String>,
    /// Its media type
    #[arg(long, default_value = "application/json")]
    content_type: String,
}

pub(crate) async fn run(arguments: CallArguments, session: &Session) -> Outcome<Exit> {
    let service = &arguments.service;
    super::delete::check_name(service)?;
    if !arguments.path.starts_with('/') {
        return Err(Failure::new(format!("`{}` is not a path", arguments.path)).hint(format!("write /{}", arguments.path)));
    }
    let body = match arguments.data.as_deref() {
        Some("-") => {
            Some(std::io::read_to_string(std::io::stdin()).map_err(|error| Failure::new("cannot read standard input").because(error))?)
        }
        other => other.map(str::to_owned),
    };
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = http::Request::builder().method(method).uri(format!("/services/{}/{service}{}", session.namespace, arguments.path));
    if body.is_some() {
        request = request.header(http::header::CONTENT_TYPE, arguments.content_type);
    }
    let request = request.body(body.unwrap_or_default().into_bytes()).map_err(|error| {
        Failure::new("cannot write the request").because(error).hint("spaces and other letters in a path are written as %20 and the like")
    })?;
    let stream = session.client.request_stream(request).await.attempt(|| format!("service `{service}` did not answer"))?;
    let mut answer = Vec::new();
    std::pin::pin!(stream.take(ANSWER_BYTES_MAX))
        .read_to_end(&mut answer)
        .await
        .map_err(|error| Failure::new(format!("service `{service}` broke off its answer")).because(error))?;
    let text = String::from_utf8_lossy(&answer);
    let end = if text.ends_with('\n') { "" } else { "\n" };
    output::write(&format!("{text}{end}"))?;
    Ok(Exit::Done)
}
