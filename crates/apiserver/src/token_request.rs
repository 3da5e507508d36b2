//! TokenRequest: a token of a ServiceAccount, as `kubectl create token` asks for it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use fermion_store::Key;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Api;
use crate::catalog::Resource;
use crate::error::{About, ApiError, Cause, Result};
use crate::identity::authenticator::AUDIENCE;
use crate::identity::service_account::{ClaimedObjects, Claims, Reference};
use crate::identity::session::no_random;
use crate::objects;
use crate::read::json_response;
use crate::write::{WriteOptions, parse_stored};

/// How long a token is good when nobody says, in seconds.
const LIFETIME_DEFAULT_S: i64 = 3600;
/// The shortest time, in seconds, as in Kubernetes.
const LIFETIME_MIN_S: i64 = 600;
/// The longest time, in seconds; who asks for more gets this.
const LIFETIME_MAX_S: i64 = 365 * 24 * 3600;
/// More cannot be asked for, as in Kubernetes.
const LIFETIME_ASKED_MAX_S: i64 = 1 << 32;
/// The most audiences of one token.
const AUDIENCES_MAX: usize = 16;

impl Api {
    /// Answers a POST to `serviceaccounts/NAME/token`.
    pub(crate) async fn request_token(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        namespace: &str,
        name: &str,
        mut request: Value,
        options: &WriteOptions,
    ) -> Result<Response<Body>> {
        if request["kind"] != "TokenRequest" || request["apiVersion"] != "authentication.k8s.io/v1" {
            return Err(ApiError::bad_request("this address takes a TokenRequest of authentication.k8s.io/v1"));
        }
        let account = parse_stored(&self.read(resource, &resource.key(Some(namespace), name)).await?)?;
        let (audiences, lifetime_s) = terms(name, &request["spec"])?;
        let mut about =
            ClaimedObjects { namespace: namespace.to_owned(), serviceaccount: reference(&account), pod: None, secret: None, node: None };
        self.bind_token(name, &request["spec"]["boundObjectRef"], &mut about).await?;
        let claims = Claims::new(audiences.clone(), self.now(), lifetime_s, uuid::Uuid::new_v4().to_string(), about);
        let expires_at = Timestamp::from_second(claims.exp).map_err(|error| ApiError::internal(error.to_string()))?;
        let token = if options.dry_run { String::new() } else { self.signer()?.sign(&claims).map_err(no_random)? };
        request["metadata"] = json!({"name": name, "namespace": namespace, "creationTimestamp": objects::time_text(self.now())});
        request["spec"]["audiences"] = audiences.into();
        request["spec"]["expirationSeconds"] = lifetime_s.into();
        request["status"] = json!({"token": token, "expirationTimestamp": objects::time_text(expires_at)});
        Ok(json_response(StatusCode::CREATED, &request))
    }

    /// Finds the object that a token is bound to, so that it ends with it.
    async fn bind_token(&self, account: &str, wanted: &Value, about: &mut ClaimedObjects) -> Result<()> {
        if wanted.is_null() {
            return Ok(());
        }
        let text = |field: &str| wanted[field].as_str().unwrap_or_default();
        let (plural, namespace) = match (text("apiVersion"), text("kind")) {
            ("v1" | "", "Pod") => ("pods", about.namespace.as_str()),
            ("v1" | "", "Secret") => ("secrets", about.namespace.as_str()),
            ("v1" | "", "Node") => ("nodes", ""),
            (version, kind) => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {}, Kind={}: use a Pod, a Secret or a Node of v1",
                    version.escape_default(),
                    kind.escape_default()
                )));
            }
        };
        let error_about = About { group: "", plural, kind: text("kind"), name: text("name") };
        let stored = self.store.get(&Key::new(plural, namespace, text("name"))).await;
        let stored = stored.map_err(|error| ApiError::from_store(&error, error_about))?;
        let object = parse_stored(&stored.ok_or_else(|| ApiError::not_found(error_about))?)?;
        if !text("uid").is_empty() && text("uid") != objects::text(&object, "uid") {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                text("uid").escape_default()
            );
            return Err(ApiError::conflict(error_about, &why));
        }
        let found = Some(reference(&object));
        match plural {
            "pods" => {
                if object["spec"]["serviceAccountName"] != *account {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                about.pod = found;
            }
            "secrets" => about.secret = found,
            _ => about.node = found,
        }
        Ok(())
    }
}

fn reference(object: &Value) -> Reference {
    Reference { name: objects::text(object, "name").to_owned(), uid: objects::text(object, "uid").to_owned() }
}

/// For whom and how long a token is, in seconds.
fn terms(name: &str, spec: &Value) -> Result<(Vec<String>, i64)> {
    let invalid = |field: &str, message: String| {
        let about = About { group: "authentication.k8s.io", plural: "tokenrequests", kind: "TokenRequest", name };
        ApiError::invalid(about, vec![Cause { field: field.to_owned(), reason: "FieldValueInvalid", message }])
    };
    let audiences = match &spec["audiences"] {
        Value::Null => Vec::new(),
        Value::Array(list) if list.len() <= AUDIENCES_MAX && list.iter().all(|one| one.as_str().is_some_and(|text| !text.is_empty())) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => return Err(invalid("spec.audiences", format!("must be up to {AUDIENCES_MAX} texts"))),
    };
    let audiences = if audiences.is_empty() { vec![AUDIENCE.to_owned()] } else { audiences };
    let seconds = match &spec["expirationSeconds"] {
        Value::Null => LIFETIME_DEFAULT_S,
        value => value.as_i64().ok_or_else(|| invalid("spec.expirationSeconds", "must be a whole number".to_owned()))?,
    };
    if seconds < LIFETIME_MIN_S {
        return Err(invalid(
            "spec.expirationSeconds",
            format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes"),
        ));
    }
    if seconds > LIFETIME_ASKED_MAX_S {
        return Err(invalid(
            "spec.expirationSeconds",
            format!("Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds"),
        ));
    }
    Ok((audiences, seconds.min(LIFETIME_MAX_S)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_audiences_have_bounds() {
        let terms = |spec: Value| super::terms("robot", &spec).map_err(|error| error.message);
        assert_eq!(terms(json!({})), Ok((vec!["fermion".to_owned()], 3600)));
        assert_eq!(terms(json!({"audiences": ["a", "b"], "expirationSeconds": 600})), Ok((vec!["a".to_owned(), "b".to_owned()], 600)));
        assert_eq!(terms(json!({"expirationSeconds": 1_000_000_000})).map(|(_, seconds)| seconds), Ok(LIFETIME_MAX_S));
        assert_eq!(
            terms(json!({"expirationSeconds": 599})),
            Err("TokenRequest.authentication.k8s.io \"robot\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes".to_owned())
        );
        for bad in [
            json!({"expirationSeconds": "1h"}),
            json!({"expirationSeconds": 1_u64 << 33}),
            json!({"audiences": "a"}),
            json!({"audiences": [""]}),
            json!({"audiences": vec!["a"; 17]}),
        ] {
            assert!(terms(bad.clone()).is_err(), "{bad}");
        }
    }
}
