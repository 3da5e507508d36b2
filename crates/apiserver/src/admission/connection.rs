//! Streams into containers: what webhooks are told of them.

use axum::http::Uri;
use serde_json::{Map, Value, json};

use super::Request;
use crate::Api;
use crate::error::{ApiError, Result};
use crate::request::decode;

/// Words of a command that webhooks are told of.
const COMMAND_WORDS_MAX: usize = 10_000;

impl Api {
    /// Asks webhooks whether a stream may be opened. What they may not do is open another one.
    pub(crate) async fn admit_connection(&self, request: &Request<'_>, uri: &Uri) -> Result<()> {
        let options = options(request.origin.subresource, uri.query().unwrap_or_default())?;
        let admitted = self.admit_action(request, options.clone()).await?;
        if admitted.object != options {
            return Err(ApiError::internal("Internal error occurred: a webhook changed the options of a stream, which is not supported"));
        }
        Ok(())
    }
}

/// The query as the object that it stands for: PodExecOptions and the like.
fn options(subresource: &str, query: &str) -> Result<Value> {
    let kind = match subresource {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let mut options = Map::new();
    let mut command: Vec<Value> = Vec::new();
    let mut ports: Vec<Value> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
            return Err(ApiError::bad_request("the query is not valid percent-encoded UTF-8"));
        };
        match name.as_str() {
            "command" if command.len() < COMMAND_WORDS_MAX => command.push(value.into()),
            "command" => return Err(ApiError::bad_request(format!("a command of more than {COMMAND_WORDS_MAX} words"))),
            "ports" => ports.extend(value.split(',').filter_map(|port| port.parse::<u16>().ok()).map(Value::from)),
            "container" => drop(options.insert(name, value.into())),
            "stdin" | "stdout" | "stderr" | "tty" => {
                let set = matches!(value.as_str(), "" | "1" | "t" | "T" | "true" | "TRUE" | "True");
                options.insert(name, set.into());
            }
            _ => {}
        }
    }
    if !command.is_empty() {
        options.insert("command".to_owned(), command.into());
    }
    if !ports.is_empty() {
        options.insert("ports".to_owned(), ports.into());
    }
    let mut object = json!({"apiVersion": "v1", "kind": kind});
    object.as_object_mut().expect("made as an object above").extend(options);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_told_the_whole_command() {
        assert_eq!(
            options("exec", "command=sh&command=-c&command=echo+%26&container=main&stdin=true&stdout=1&tty=false").ok(),
            Some(json!({
                "apiVersion": "v1", "kind": "PodExecOptions", "command": ["sh", "-c", "echo &"],
                "container": "main", "stdin": true, "stdout": true, "tty": false,
            }))
        );
        assert!(options("exec", "command=%ff").is_err());
    }
}
