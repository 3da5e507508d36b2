//! Reviews: who a token belongs to, who may do what, and what would become of work.

pub(crate) mod foresight;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::Api;
use crate::authorize::{Attributes, authorize};
use crate::catalog::Resource;
use crate::dispatch::with_warnings;
use crate::error::{ApiError, Cause, Result};
use crate::field_validation::Form;
use crate::identity::Identity;
use crate::identity::authenticator::AUDIENCE;
use crate::read::json_response;
use crate::write::WriteOptions;

pub(crate) async fn answer(
    api: &Arc<Api>,
    caller: &Identity,
    resource: &Resource,
    namespace: Option<&str>,
    mut review: Value,
    options: &WriteOptions,
) -> Result<Response<Body>> {
    let kind = review["kind"].as_str().unwrap_or_default();
    if kind != resource.kind || review["apiVersion"].as_str() != Some(&resource.api_version()) {
        return Err(ApiError::bad_request(format!("this address takes a {} of {}", resource.kind, resource.api_version())));
    }
    // What a client says of the answer does not matter.
    if let Some(fields) = review.as_object_mut() {
        fields.remove("status");
    }
    for field in ["spec", "metadata"] {
        if !matches!(review[field], Value::Null | Value::Object(_)) {
            return Err(ApiError::bad_request(format!("{field}: must be an object")));
        }
    }
    let mut warnings = Vec::new();
    Form::of(resource).settle(&mut review, options, &mut warnings)?;
    if let Some(error) = resource.validator.validate(&review).first() {
        return Err(ApiError::bad_request(format!("{}: {}", error.path, error.detail)));
    }
    let status = match resource.kind.as_str() {
        "TokenReview" => {
            let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
            let asked: Vec<String> = texts(&review["spec"]["audiences"]);
            let audiences = if asked.is_empty() { vec![AUDIENCE.to_owned()] } else { asked };
            // The token is not repeated in the answer.
            review["spec"] = json!({});
            match api.judge(&token, &audiences).await? {
                Some(known) => json!({"authenticated": true, "user": known.identity.user_info(), "audiences": known.audiences}),
                None => json!({"authenticated": false, "error": "the token is unknown, has expired, or is meant for somebody else"}),
            }
        }
        "SelfSubjectReview" => json!({"userInfo": caller.user_info()}),
        "SelfSubjectAccessReview" => access(api, resource, caller, &review["spec"])?,
        "SubjectAccessReview" => access(api, resource, &subject(resource, &review["spec"])?, &review["spec"])?,
        "LocalSubjectAccessReview" => {
            let asked = &review["spec"]["resourceAttributes"]["namespace"];
            if asked.as_str() != namespace || !review["spec"]["nonResourceAttributes"].is_null() {
                return Err(invalid(resource, "spec.resourceAttributes.namespace", "must match metadata.namespace"));
            }
            access(api, resource, &subject(resource, &review["spec"])?, &review["spec"])?
        }
        "SchedulingReview" => foresight::answer(api, caller, resource, namespace, &review, options, &mut warnings).await?,
        "SelfSubjectRulesReview" => rules(api, caller, review["spec"]["namespace"].as_str().unwrap_or_default()),
        other => return Err(ApiError::internal(format!("{other} has no answer"))),
    };
    review["status"] = status;
    Ok(with_warnings(json_response(StatusCode::CREATED, &review), &warnings))
}

fn invalid(resource: &Resource, field: &str, message: &str) -> ApiError {
    let cause = Cause { field: field.to_owned(), reason: "FieldValueInvalid", message: message.to_owned() };
    ApiError::invalid(resource.about(""), vec![cause])
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whom a review asks about.
fn subject(resource: &Resource, spec: &Value) -> Result<Identity> {
    let identity = Identity {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        extra: spec["extra"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect::<BTreeMap<_, _>>(),
    };
    if identity.name.is_empty() && identity.groups.is_empty() {
        return Err(invalid(resource, "spec.user", "at least one of user or group must be specified"));
    }
    Ok(identity)
}

fn access(api: &Api, resource: &Resource, identity: &Identity, spec: &Value) -> Result<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let asked = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (asked @ Value::Object(_), Value::Null) => Attributes {
            verb: text(&asked["verb"]),
            group: text(&asked["group"]),
            resource: text(&asked["resource"]),
            subresource: text(&asked["subresource"]),
            namespace: text(&asked["namespace"]),
            name: text(&asked["name"]),
            path: None,
        },
        (Value::Null, asked @ Value::Object(_)) => {
            Attributes { verb: text(&asked["verb"]), path: Some(text(&asked["path"])), ..Attributes::default() }
        }
        _ => {
            return Err(invalid(
                resource,
                "spec.resourceAttributes",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    let decision = authorize(&api.access.rules(), identity, &asked);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    Ok(status)
}

/// What the caller may do in a namespace, for `kubectl auth can-i --list`.
fn rules(api: &Api, identity: &Identity, namespace: &str) -> Value {
    let effective = api.access.rules().effective(identity, namespace);
    let (resources, paths): (Vec<_>, Vec<_>) = effective.into_iter().partition(|rule| rule.non_resource_urls.is_empty());
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if identity.api_key().is_some() {
        status["incomplete"] = true.into();
        status["evaluationError"] = "the API key narrows what its owner may do; rules that overlap in part are left out".into();
    }
    status
}
