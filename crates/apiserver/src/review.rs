//! Reviews: who a token belongs to, and who may do what.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::Api;
use crate::authorize::{Attributes, authorize};
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::identity::{ADMINISTRATORS, COMPONENTS, Identity};
use crate::read::json_response;

pub(crate) async fn answer(
    api: &Arc<Api>,
    caller: &Identity,
    resource: &Resource,
    namespace: Option<&str>,
    mut review: Value,
) -> Result<Response<Body>> {
    let kind = review["kind"].as_str().unwrap_or_default();
    if kind != resource.kind || review["apiVersion"].as_str() != Some(&resource.api_version()) {
        return Err(ApiError::bad_request(format!("this address takes a {} of {}", resource.kind, resource.api_version())));
    }
    if namespace.is_some() {
        return Err(ApiError::no_route());
    }
    for field in ["spec", "metadata"] {
        if !matches!(review[field], Value::Null | Value::Object(_)) {
            return Err(ApiError::bad_request(format!("{field}: must be an object")));
        }
    }
    if let Some(error) = resource.validator.validate(&review).first() {
        return Err(ApiError::bad_request(format!("{}: {}", error.path, error.detail)));
    }
    let status = match resource.kind.as_str() {
        "TokenReview" => {
            let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
            // The token is not repeated in the answer.
            review["spec"] = json!({});
            match api.credentials.authenticate(&token).await? {
                Some(identity) => json!({"authenticated": true, "user": identity.user_info()}),
                None => json!({"authenticated": false, "error": "the token is unknown or has expired"}),
            }
        }
        "SelfSubjectReview" => json!({"userInfo": caller.user_info()}),
        "SelfSubjectAccessReview" => access(caller, &review["spec"])?,
        "SubjectAccessReview" => {
            let groups = review["spec"]["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            let name = review["spec"]["user"].as_str().unwrap_or_default().to_owned();
            access(&Identity { name, groups }, &review["spec"])?
        }
        "SelfSubjectRulesReview" => rules(caller),
        other => return Err(ApiError::internal(format!("{other} has no answer"))),
    };
    review["status"] = status;
    Ok(json_response(StatusCode::CREATED, &review))
}

fn access(identity: &Identity, spec: &Value) -> Result<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Object(_), _) => {
            let asked = &spec["resourceAttributes"];
            Attributes {
                verb: text(&asked["verb"]),
                group: text(&asked["group"]),
                resource: text(&asked["resource"]),
                subresource: text(&asked["subresource"]),
                namespace: text(&asked["namespace"]),
                name: text(&asked["name"]),
                path: None,
            }
        }
        (_, Value::Object(_)) => {
            let asked = &spec["nonResourceAttributes"];
            Attributes { verb: text(&asked["verb"]), path: Some(text(&asked["path"])), ..Attributes::default() }
        }
        _ => return Err(ApiError::bad_request("spec needs resourceAttributes or nonResourceAttributes")),
    };
    Ok(match authorize(identity, &attributes) {
        Ok(reason) => json!({"allowed": true, "reason": reason}),
        Err(reason) => json!({"allowed": false, "reason": reason}),
    })
}

/// What the caller may do, for `kubectl auth can-i --list`.
fn rules(identity: &Identity) -> Value {
    let everything = identity.groups.iter().any(|group| group == ADMINISTRATORS || group == COMPONENTS);
    let (resources, paths) = if everything {
        (json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]), json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]))
    } else {
        (
            json!([{
                "verbs": ["create"],
                "apiGroups": ["authorization.k8s.io", "authentication.k8s.io"],
                "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"],
            }]),
            json!([{"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version"]}]),
        )
    };
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
