//! `fermion chat`: talks to a service that speaks the OpenAI chat API, and prints the
//! answer as it comes.

use std::io::Write as _;

use fermion_api::ai::InferenceService;
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use kube::Api;
use serde_json::{Value, json};

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;

/// The longest line of an event stream.
const EVENT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: fermion chat -n examples chat 'What is a fermion?'")]
pub(crate) struct ChatArguments {
    /// Name of the inference service
    service: String,
    /// What to say; standard input when left out
    prompt: Option<String>,
    /// Instructions that go before it
    #[arg(long)]
    system: Option<String>,
    /// Name of the model; the service's own when left out
    #[arg(long)]
    model: Option<String>,
    /// The longest answer
    #[arg(long, default_value_t = 512, value_name = "TOKENS")]
    max_tokens: u32,
    /// How freely words are chosen
    #[arg(long)]
    temperature: Option<f32>,
}

pub(crate) async fn run(arguments: ChatArguments, session: &Session) -> Outcome<Exit> {
    let service = &arguments.service;
    super::delete::check_name(service)?;
    let api: Api<InferenceService> = Api::namespaced(session.client.clone(), &session.namespace);
    let found = api.get(service).await.attempt(|| format!("cannot read service `{service}` in namespace `{}`", session.namespace))?;
    let prompt = match arguments.prompt {
        Some(prompt) => prompt,
        None => std::io::read_to_string(std::io::stdin()).map_err(|error| Failure::new("cannot read the prompt").because(error))?,
    };
    let mut messages = Vec::new();
    if let Some(system) = &arguments.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": prompt}));
    let model = arguments.model.or_else(|| found.spec.model.as_ref().map(|model| model.name.clone())).unwrap_or_else(|| service.clone());
    let mut body = json!({"model": model, "messages": messages, "stream": true, "max_tokens": arguments.max_tokens});
    if let Some(temperature) = arguments.temperature {
        body["temperature"] = json!(temperature);
    }
    let request = http::Request::post(format!("/services/{}/{service}/v1/chat/completions", session.namespace))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "text/event-stream")
        .body(body.to_string().into_bytes())
        .map_err(|error| Failure::new("cannot write the request").because(error))?;
    let stream = session.client.request_stream(request).await.attempt(|| format!("service `{service}` did not answer"))?;
    let mut stream = std::pin::pin!(stream);
    let mut out = std::io::stdout();
    let mut whole = false;
    while let Some(piece) = next_piece(&mut stream).await? {
        match piece {
            Piece::Text(text) => {
                // A model's words are hostile text too; only its line breaks and tabs pass.
                for (index, line) in text.split('\n').enumerate() {
                    let line = line.split('\t').map(output::plain).collect::<Vec<_>>().join("\t");
                    write!(out, "{}{line}", if index > 0 { "\n" } else { "" })?;
                }
                out.flush()?;
            }
            Piece::Failed(why) => {
                writeln!(out)?;
                return Err(Failure::new(format!("service `{service}` broke off its answer")).why(why));
            }
            Piece::Nothing => {}
            Piece::End => {
                whole = true;
                break;
            }
        }
    }
    writeln!(out)?;
    if whole {
        return Ok(Exit::Done);
    }
    Err(Failure::new(format!("the answer of service `{service}` is not whole"))
        .why("the stream ended before its end mark")
        .hint("ask again; `fermion logs` of the service says what happened"))
}

/// What one event of the stream says.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Nothing,
    Failed(String),
    End,
}

/// Reads the next event; `None` at the end of the stream.
async fn next_piece(stream: &mut (impl AsyncBufRead + Unpin)) -> Outcome<Option<Piece>> {
    let broken = |why: String| Failure::new("lost the connection in the middle of the answer").why(why).hint("ask again");
    let mut line = Vec::new();
    let limited = EVENT_BYTES_MAX as u64;
    let count =
        futures::AsyncReadExt::take(stream, limited).read_until(b'\n', &mut line).await.map_err(|error| broken(error.to_string()))?;
    if count == 0 {
        return Ok(None);
    }
    if count == EVENT_BYTES_MAX {
        return Err(broken(format!("an event is longer than {EVENT_BYTES_MAX} bytes")));
    }
    Ok(Some(piece(&String::from_utf8_lossy(&line))))
}

/// Reads one line of the stream.
/// Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html>
fn piece(line: &str) -> Piece {
    let Some(data) = line.trim_end().strip_prefix("data:").map(str::trim_start) else { return Piece::Nothing };
    if data == "[DONE]" {
        return Piece::End;
    }
    let Ok(event) = serde_json::from_str::<Value>(data) else { return Piece::Failed(format!("an event is not JSON: {data}")) };
    if let Some(error) = event.get("error") {
        return Piece::Failed(error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned));
    }
    match event["choices"][0]["delta"]["content"].as_str() {
        Some(text) => Piece::Text(text.to_owned()),
        None => Piece::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_words_marks_or_errors() {
        assert_eq!(piece("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\r\n"), Piece::Text("Hi".to_owned()));
        assert_eq!(piece("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}"), Piece::Nothing);
        assert_eq!(piece("data: {\"choices\":[],\"usage\":{}}"), Piece::Nothing);
        assert_eq!(piece(": comment"), Piece::Nothing);
        assert_eq!(piece("data: [DONE]"), Piece::End);
        assert_eq!(piece("data: {\"error\":{\"message\":\"no room\"}}"), Piece::Failed("no room".to_owned()));
    }
}
