//! The one place where a failure becomes an HTTP status and a Kubernetes `Status`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The most causes listed in one answer.
pub(crate) const CAUSES_MAX: usize = 100;

/// A refusal or failure, ready to be sent as a `Status`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) code: StatusCode,
    /// Stable word clients switch on: `NotFound`, `Conflict`, …
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after_s: Option<u32>,
}

pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) field: String,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What an error is about: `pods`, group and name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
}

impl About<'_> {
    /// `pods`, or `trainingjobs.ai.fermion.dev`.
    pub(crate) fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// What clients read to know what an error is about. What is empty is left out, as in
    /// Kubernetes.
    fn details(&self, kind: &str) -> Value {
        let given = [("group", self.group), ("kind", kind), ("name", self.name)];
        given.into_iter().filter(|(_, value)| !value.is_empty()).map(|(field, value)| (field.to_owned(), Value::from(value))).collect()
    }
}

impl ApiError {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, retry_after_s: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "this address needs a valid bearer token; sign in with `fermion login`")
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// A refusal that names what it is about, worded as kube-apiserver's: `pods "a" is forbidden: …`.
    pub(crate) fn forbidden_about(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let about = About { group, plural, kind: "", name };
        let subject = match (plural.is_empty(), name.is_empty()) {
            (true, _) => "forbidden".to_owned(),
            (false, true) => format!("{} is forbidden", about.resource()),
            (false, false) => format!("{} \"{name}\" is forbidden", about.resource()),
        };
        let mut details = json!({});
        for (field, text) in [("name", name), ("group", group), ("kind", plural)] {
            if !text.is_empty() {
                details[field] = text.into();
            }
        }
        Self { details: Some(details), ..Self::forbidden(format!("{subject}: {why}")) }
    }

    /// A refusal to do something with one object.
    pub(crate) fn forbidden_to(about: About<'_>, why: &str) -> Self {
        Self::forbidden_about(about.group, about.plural, about.name, why)
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn not_found(about: About<'_>) -> Self {
        Self {
            details: Some(about.details(about.plural)),
            ..Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{} \"{}\" not found", about.resource(), about.name))
        }
    }

    pub(crate) fn already_exists(about: About<'_>) -> Self {
        Self {
            details: Some(about.details(about.plural)),
            ..Self::new(StatusCode::CONFLICT, "AlreadyExists", format!("{} \"{}\" already exists", about.resource(), about.name))
        }
    }

    pub(crate) fn conflict(about: About<'_>, why: &str) -> Self {
        Self {
            details: Some(about.details(about.plural)),
            ..Self::new(
                StatusCode::CONFLICT,
                "Conflict",
                format!("Operation cannot be fulfilled on {} \"{}\": {why}", about.resource(), about.name),
            )
        }
    }

    pub(crate) fn invalid(about: About<'_>, mut causes: Vec<Cause>) -> Self {
        let more = causes.len().saturating_sub(CAUSES_MAX);
        causes.truncate(CAUSES_MAX);
        let mut sentences: Vec<String> = causes
            .iter()
            .map(|cause| if cause.field.is_empty() { cause.message.clone() } else { format!("{}: {}", cause.field, cause.message) })
            .collect();
        if more > 0 {
            sentences.push(format!("and {more} more"));
        }
        let listed = match sentences.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let subject = if about.group.is_empty() { about.kind.to_owned() } else { format!("{}.{}", about.kind, about.group) };
        let mut details = about.details(about.kind);
        details["causes"] =
            causes.iter().map(|cause| json!({"reason": cause.reason, "field": cause.field, "message": cause.message})).collect();
        Self {
            details: Some(details),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", format!("{subject} \"{}\" is invalid: {listed}", about.name))
        }
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(crate) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message) }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        let mut details = self.details.clone();
        if let Some(seconds) = self.retry_after_s {
            details.get_or_insert_with(|| json!({}))["retryAfterSeconds"] = seconds.into();
        }
        if let Some(details) = details {
            status["details"] = details;
        }
        status
    }

    /// What a store error means to a client that asked about `about`.
    pub(crate) fn from_store(error: &fermion_store::Error, about: About<'_>) -> Self {
        use fermion_store::Error as E;
        match error {
            E::Conflict { .. } => {
                Self::conflict(about, "the object has been modified; please apply your changes to the latest version and try again")
            }
            E::AlreadyExists { .. } => Self::already_exists(about),
            E::NotFound { .. } => Self::not_found(about),
            E::Fenced { .. } => Self::conflict(about, "another server leads now; what was decided before is void"),
            E::Compacted { oldest } => Self::expired(format!("too old resource version: the oldest still kept is {oldest}; list again")),
            E::Future { requested, newest } => Self {
                // Clients of Kubernetes know by this cause that they have to list anew.
                details: Some(json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]})),
                retry_after_s: Some(1),
                ..Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("Too large resource version: {requested}, current: {newest}"))
            },
            E::Invalid { what, reason } => Self::bad_request(format!("{what} cannot be stored: {reason}")),
            E::Exhausted { .. } => {
                Self { retry_after_s: Some(5), ..Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", error.to_string()) }
            }
            E::Closed => Self::unavailable("the server is shutting down"),
            other => {
                // The cause may hold paths of the machine: it is for the log, not for clients.
                tracing::error!(error = other as &dyn std::error::Error, resource = about.plural, "store failed");
                Self::unavailable("the database cannot answer now; the server's log says why")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.status().to_string()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
