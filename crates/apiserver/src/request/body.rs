//! Bodies of requests: read within their bounds, and taken for what their content type says.

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use crate::error::{ApiError, Result};
use crate::patch::PatchKind;
use crate::patch::yaml::{self, YamlError};
use crate::protobuf;
use crate::write::{DeleteOptions, WriteOptions};

use super::{Query, duplicate_fields};

/// The largest body read, in bytes, as in Kubernetes.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The most levels of JSON read: the bound of the parser, which stops there.
const JSON_DEPTH_MAX: usize = 128;

const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What a body holds, and which of its fields it holds twice.
pub(crate) struct Sent<T> {
    what: T,
    duplicates: Vec<String>,
}

impl<T> Sent<T> {
    /// What was sent; what is told of it when it is written is noted in the options.
    pub(crate) fn note(self, options: &mut WriteOptions) -> T {
        options.duplicates = self.duplicates;
        self.what
    }
}

impl From<Value> for Sent<Value> {
    fn from(what: Value) -> Self {
        Self { what, duplicates: Vec::new() }
    }
}

/// Reads an object in JSON, YAML or, for the kinds kubectl sends that way, Kubernetes protobuf.
pub(crate) async fn object(request: Request<Body>) -> Result<Sent<Value>> {
    let media = media_type(request.headers());
    let body = read(request).await?;
    match media.as_str() {
        "application/json" | "" => parse_noting_duplicates(&body),
        YAML => parse_yaml(&body).map(Sent::from),
        PROTOBUF => parse_protobuf(&body).map(Sent::from),
        other => Err(ApiError::unsupported_media_type(format!("{}: send application/json or {YAML}", other.escape_default()))),
    }
}

/// Reads an object that may be left out.
pub(crate) async fn optional(request: Request<Body>) -> Result<Value> {
    Ok(given(request).await?.unwrap_or_else(|| json!({})))
}

/// What the body of a PATCH asks for.
pub(crate) enum Change {
    Patch(PatchKind, Value),
    Apply(Value),
}

/// Reads the body of a PATCH.
pub(crate) async fn change(request: Request<Body>) -> Result<Sent<Change>> {
    let media = media_type(request.headers());
    let body = read(request).await?;
    if media == "application/apply-patch+yaml" {
        return Ok(Sent { what: Change::Apply(parse_yaml(&body)?), duplicates: Vec::new() });
    }
    let kind = PatchKind::from_content_type(&media).ok_or_else(|| {
        ApiError::unsupported_media_type(
            "send application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json or application/apply-patch+yaml",
        )
    })?;
    let Sent { what: patch, duplicates } = parse_noting_duplicates(&body)?;
    Ok(Sent { what: Change::Patch(kind, patch), duplicates })
}

/// Reads the options of a deletion, which its query may hold as well.
pub(crate) async fn delete_options(query: &Query, request: Request<Body>) -> Result<DeleteOptions> {
    DeleteOptions::parse(query, given(request).await?.as_ref())
}

/// What a body holds that may be empty. Whoever sends one without a content type sends JSON.
async fn given(request: Request<Body>) -> Result<Option<Value>> {
    let media = media_type(request.headers());
    let body = read(request).await?;
    match (body.is_empty(), media.as_str()) {
        (true, _) => Ok(None),
        (false, PROTOBUF) => parse_protobuf(&body).map(Some),
        (false, YAML) => parse_yaml(&body).map(Some),
        (false, _) => parse_json(&body).map(Some),
    }
}

fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Reads a whole body, of at most [`BODY_BYTES_MAX`].
pub(crate) async fn read(request: Request<Body>) -> Result<Bytes> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(format!("the body is larger than {BODY_BYTES_MAX} bytes")))
        }
        Err(_) => Err(ApiError::bad_request("the body ended before it was complete")),
    }
}

/// Reads JSON; of a field that is given twice the last value counts.
pub(crate) fn parse_json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|error| not_json(&error))
}

fn parse_noting_duplicates(body: &[u8]) -> Result<Sent<Value>> {
    let (what, duplicates) = duplicate_fields::read(body).map_err(|error| not_json(&error))?;
    Ok(Sent { what, duplicates })
}

fn not_json(error: &serde_json::Error) -> ApiError {
    let what = if error.to_string().starts_with("recursion limit") {
        format!("the body is nested more than {JSON_DEPTH_MAX} levels deep")
    } else {
        format!("the body is not JSON: {error}")
    };
    ApiError::bad_request(what)
}

fn parse_yaml(body: &[u8]) -> Result<Value> {
    yaml::parse(body).map_err(|error| match error {
        YamlError::Malformed { .. } => ApiError::bad_request(error.to_string()),
        YamlError::TooLarge => ApiError::too_large(error.to_string()),
    })
}

fn parse_protobuf(body: &[u8]) -> Result<Value> {
    protobuf::decode(body).map_err(|error| ApiError::unsupported_media_type(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(media: &str, body: impl Into<Body>) -> Request<Body> {
        Request::post("/").header(header::CONTENT_TYPE, media).body(body.into()).expect("a request")
    }

    #[test]
    fn json_is_read_to_its_greatest_depth_and_no_deeper() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_json(nested(JSON_DEPTH_MAX - 1).as_bytes()).is_ok());
        for deep in [nested(JSON_DEPTH_MAX + 1), nested(1_000_000)] {
            let refused = parse_json(deep.as_bytes()).expect_err("a refusal");
            assert_eq!(refused.message, "the body is nested more than 128 levels deep");
            assert_eq!(parse_noting_duplicates(deep.as_bytes()).err().expect("a refusal"), refused);
        }
    }

    #[tokio::test]
    async fn the_content_type_says_how_a_body_is_read() {
        for (media, text) in [
            ("application/json", r#"{"kind": "A", "a": [1]}"#),
            ("application/yaml", "kind: A\na:\n- 1\n"),
            ("Application/YAML; charset=utf-8", r#"{"kind": "A", "a": [1]}"#),
        ] {
            let sent = object(request(media, text)).await.expect("an object");
            assert_eq!(sent.what, json!({"kind": "A", "a": [1]}), "{media}");
        }
        for (media, text, code) in [
            ("application/json", "kind: A\n", 400),
            ("application/yaml", "a: 1\na: 2\n", 400),
            ("application/yaml", "a: [", 400),
            ("text/yaml", "kind: A\n", 415),
        ] {
            let refused = object(request(media, text)).await.err().expect("a refusal");
            assert_eq!(refused.code.as_u16(), code, "{media} {text}");
        }
        let long = format!("a: '{}'\n", "x".repeat(yaml::YAML_BYTES_MAX));
        assert_eq!(object(request(YAML, long)).await.err().expect("a refusal").code.as_u16(), 413);
        let large = vec![b' '; BODY_BYTES_MAX + 1];
        assert_eq!(object(request("application/json", large)).await.err().expect("a refusal").code.as_u16(), 413);
    }

    #[tokio::test]
    async fn options_of_a_deletion_may_be_left_out() {
        let query = Query::default();
        assert_eq!(delete_options(&query, request("", "")).await.expect("options").grace_s, None);
        for (media, text) in [("", r#"{"gracePeriodSeconds": 5}"#), ("application/yaml", "gracePeriodSeconds: 5\n")] {
            assert_eq!(delete_options(&query, request(media, text)).await.expect("options").grace_s, Some(5), "{media}");
        }
    }
}
