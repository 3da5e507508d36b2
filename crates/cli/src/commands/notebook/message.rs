//! Messages of the Jupyter protocol, as far as running one piece of code needs them.

use serde_json::{Value, json};

/// Version of the protocol we write.
const PROTOCOL: &str = "5.3";

/// Which of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// What a message means for the code that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Output(Stream, String),
    /// The value of the last expression, as text.
    Value(String),
    Raised {
        traceback: String,
    },
    /// Nothing more will come for this code.
    Done,
    Other,
}

/// The message that runs code.
pub(super) fn execute_request(message_id: &str, session_id: &str, code: &str, at: jiff::Timestamp) -> Value {
    json!({
        "channel": "shell",
        "header": {
            "msg_id": message_id, "session": session_id, "username": "fermion",
            "date": at.to_string(), "msg_type": "execute_request", "version": PROTOCOL,
        },
        "parent_header": {},
        "metadata": {},
        "content": {
            "code": code, "silent": false, "store_history": false, "user_expressions": {},
            "allow_stdin": false, "stop_on_error": true,
        },
        "buffers": [],
    })
}

/// Reads a message; those that answer other requests are [`Reply::Other`].
pub(super) fn read(message: &Value, message_id: &str) -> Reply {
    if message["parent_header"]["msg_id"].as_str() != Some(message_id) {
        return Reply::Other;
    }
    let content = &message["content"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match message["header"]["msg_type"].as_str().unwrap_or_default() {
        "stream" => {
            let stream = if content["name"] == "stderr" { Stream::Stderr } else { Stream::Stdout };
            Reply::Output(stream, text(&content["text"]))
        }
        "execute_result" | "display_data" => Reply::Value(text(&content["data"]["text/plain"])),
        "error" => {
            let lines: Vec<String> =
                content["traceback"].as_array().into_iter().flatten().map(|line| without_escapes(&text(line))).collect();
            let summary = format!("{}: {}", text(&content["ename"]), text(&content["evalue"]));
            Reply::Raised { traceback: if lines.is_empty() { without_escapes(&summary) } else { lines.join("\n") } }
        }
        // The kernel says so after all output of the code.
        "status" if content["execution_state"] == "idle" => Reply::Done,
        _ => Reply::Other,
    }
}

/// Tracebacks are coloured with escape sequences; the text alone is kept.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.peek() == Some(&'[') {
            for inner in characters.by_ref() {
                if inner.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if character == '\n' || !character.is_control() {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, content: Value) -> Value {
        json!({"header": {"msg_type": kind}, "parent_header": {"msg_id": "m"}, "content": content})
    }

    #[test]
    fn messages_of_our_code_are_read_and_others_are_not() {
        let read_ours = |message: &Value| read(message, "m");
        assert_eq!(
            read_ours(&message("stream", json!({"name": "stdout", "text": "2\n"}))),
            Reply::Output(Stream::Stdout, "2\n".to_owned())
        );
        assert_eq!(read_ours(&message("execute_result", json!({"data": {"text/plain": "4"}}))), Reply::Value("4".to_owned()));
        assert_eq!(read_ours(&message("status", json!({"execution_state": "busy"}))), Reply::Other);
        assert_eq!(read_ours(&message("status", json!({"execution_state": "idle"}))), Reply::Done);
        assert_eq!(read(&message("stream", json!({"name": "stdout", "text": "x"})), "another"), Reply::Other);
    }

    #[test]
    fn a_traceback_loses_its_colours() {
        let raised = message("error", json!({"ename": "E", "evalue": "v", "traceback": ["\u{1b}[0;31mE\u{1b}[0m: v", "line\u{7}"]}));
        assert_eq!(read(&raised, "m"), Reply::Raised { traceback: "E: v\nline".to_owned() });
    }
}
