//! AdmissionReview: what webhooks are sent, and what they answer. Pure functions.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rules::operation;
use crate::admission::{Operation, Request};
use crate::catalog::Resource;

const API_VERSION: &str = "admission.k8s.io/v1";

/// A question to webhooks, without its uid: that is another one for each.
pub(super) struct Review<'a> {
    request: &'a Request<'a>,
    object: Option<&'a Value>,
    /// The version of the resource in which it is asked.
    version: &'a str,
}

/// What a webhook decided.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// Why the object is refused; none if it is allowed.
    pub(super) refusal: Option<Refusal>,
    /// A JSON patch (RFC 6902).
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
}

/// A refusal, as the webhook worded it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) details: Option<Value>,
}

impl<'a> Review<'a> {
    pub(super) fn new(request: &'a Request<'a>, object: Option<&'a Value>, version: &'a str) -> Self {
        Self { request, object, version }
    }

    /// The question as it is sent.
    pub(super) fn to_json(&self, uid: &str) -> Value {
        let request = self.request;
        let resource = request.resource;
        let group = &resource.group;
        // What stands in the address: at a subresource the object has a kind of its own.
        let kind = |version: &str| match self.object.filter(|_| !request.origin.subresource.is_empty()) {
            Some(object) => kind_of(&in_version(resource, object, version)),
            None => json!({"group": group, "version": version, "kind": resource.kind}),
        };
        let plural = |version: &str| json!({"group": group, "version": version, "resource": resource.plural});
        let shown = |object: Option<&Value>| object.map(|object| in_version(resource, object, self.version).into_owned());
        // Kubernetes counts a namespace as being inside of itself.
        let namespace = if resource.is_core("namespaces") { request.name } else { request.namespace };
        let mut asked = json!({
            "uid": uid,
            "kind": kind(self.version),
            "resource": plural(self.version),
            "requestKind": kind(&resource.version),
            "requestResource": plural(&resource.version),
            "name": request.name,
            "operation": operation(request.operation),
            "userInfo": request.origin.caller.user_info(),
            "object": shown(self.object),
            "oldObject": shown(request.old),
            "dryRun": request.dry_run,
            "options": options(request),
        });
        if !namespace.is_empty() {
            asked["namespace"] = namespace.into();
        }
        if !request.origin.subresource.is_empty() {
            asked["subResource"] = request.origin.subresource.into();
            asked["requestSubResource"] = request.origin.subresource.into();
        }
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "request": asked})
    }
}

/// An object as it is in another version of its resource: versions differ in nothing but their name.
/// What is no object of the resource stays as it is.
pub(super) fn in_version<'o>(resource: &Resource, object: &'o Value, version: &str) -> Cow<'o, Value> {
    if version == resource.version || object["apiVersion"] != resource.api_version() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    object["apiVersion"] = format!("{}/{version}", resource.group).into();
    Cow::Owned(object)
}

fn kind_of(object: &Value) -> Value {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    json!({"group": group, "version": version, "kind": object["kind"]})
}

fn options(request: &Request<'_>) -> Value {
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"apiVersion": "meta.k8s.io/v1", "kind": kind});
    if request.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

/// Reads an answer. Says why it is none to this question.
pub(super) fn read(answer: &[u8], uid: &str) -> Result<Verdict, String> {
    // The answer is not repeated: it may hold parts of the object.
    let answer: Value = serde_json::from_slice(answer).map_err(|_| "the answer is not JSON".to_owned())?;
    if answer["apiVersion"] != API_VERSION || answer["kind"] != "AdmissionReview" {
        return Err(format!("the answer is not an AdmissionReview of {API_VERSION}"));
    }
    let response = answer["response"].as_object().ok_or("the answer has no response")?;
    let field = |name: &str| response.get(name).unwrap_or(&Value::Null);
    if field("uid") != uid {
        return Err("the answer's response.uid is not that of the request".to_owned());
    }
    let allowed = field("allowed").as_bool().ok_or("the answer's response.allowed is not true or false")?;
    let warnings = field("warnings").as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if !allowed {
        let status = field("status");
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        let refusal = Refusal {
            code: status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default(),
            reason: text("reason"),
            message: text("message"),
            details: Some(status["details"].clone()).filter(Value::is_object),
        };
        return Ok(Verdict { refusal: Some(refusal), patch: None, warnings });
    }
    let patch = match (field("patch"), field("patchType").as_str()) {
        (Value::Null, None) => None,
        (Value::Null, Some(_)) => return Err("the answer has response.patchType, but no response.patch".to_owned()),
        (Value::String(patch), Some("JSONPatch")) => {
            let bytes = STANDARD.decode(patch).map_err(|_| "the answer's response.patch is not base64")?;
            Some(serde_json::from_slice(&bytes).map_err(|_| "the answer's response.patch is not JSON")?)
        }
        (Value::String(_), _) => return Err("the answer's response.patchType must be JSONPatch".to_owned()),
        _ => return Err("the answer's response.patch is not base64".to_owned()),
    };
    Ok(Verdict { refusal: None, patch, warnings })
}

/// The reasons of `Status` that clients know; others say nothing to them.
pub(super) fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "AlreadyExists",
        "Conflict",
        "Gone",
        "Invalid",
        "Timeout",
        "TooManyRequests",
        "BadRequest",
        "InternalError",
        "ServiceUnavailable",
    ];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Result<Verdict, String> {
        read(json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}).to_string().as_bytes(), "u")
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(answer(json!({"uid": "u", "allowed": true})), Ok(Verdict::default()));
        let patch = STANDARD.encode(r#"[{"op":"add","path":"/a","value":1}]"#);
        let verdict =
            answer(json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": patch, "warnings": ["careful"]})).unwrap();
        assert_eq!(verdict.patch, Some(json!([{"op": "add", "path": "/a", "value": 1}])));
        assert_eq!(verdict.warnings, ["careful"]);
        let verdict =
            answer(json!({"uid": "u", "allowed": false, "status": {"code": 403, "message": "no", "reason": "Forbidden"}})).unwrap();
        let expected = Refusal { code: 403, reason: "Forbidden".to_owned(), message: "no".to_owned(), details: None };
        assert_eq!(verdict.refusal, Some(expected));
        assert_eq!(answer(json!({"uid": "u", "allowed": false})).unwrap().refusal, Some(Refusal::default()));
    }

    #[test]
    fn what_is_no_answer_is_no_verdict() {
        for response in [
            json!(null),
            json!({}),
            json!({"uid": "other", "allowed": true}),
            json!({"uid": "u"}),
            json!({"uid": "u", "allowed": "true"}),
            json!({"uid": "u", "allowed": true, "patch": "W10="}),
            json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}),
            json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "MergePatch"}),
            json!({"uid": "u", "allowed": true, "patch": "!", "patchType": "JSONPatch"}),
            json!({"uid": "u", "allowed": true, "patch": "bm8=", "patchType": "JSONPatch"}),
        ] {
            assert!(answer(response.clone()).is_err(), "{response}");
        }
        assert!(read(b"<html>", "u").is_err());
        assert!(
            read(br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","response":{"uid":"u","allowed":true}}"#, "u")
                .is_err()
        );
    }
}
