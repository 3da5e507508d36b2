//! What a person or a program is told when the gateway answers instead of the container.

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

/// Pages of the gateway itself load nothing and run no script.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// An answer that is not the container's: which status, a stable code for programs, and a
/// sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Stable code; the guide lists them all.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Seconds after which trying again makes sense; a page then reloads by itself.
    pub(crate) retry_after_s: Option<u32>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after_s: None }
    }

    pub(crate) fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The HTTP answer: a page for browsers, otherwise a Kubernetes `Status`.
    pub(crate) fn into_response(self, form: Form) -> Response {
        let (content_type, body) = match form {
            Form::Page => ("text/html; charset=utf-8", self.page()),
            Form::Json => ("application/json", self.json()),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
        headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(http::header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fermion\""));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        response
    }

    fn json(&self) -> String {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status.as_u16(),
        })
        .to_string()
    }

    fn page(&self) -> String {
        let reload = self.retry_after_s.map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">")).unwrap_or_default();
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">{reload}\
             <title>{reason}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:15vh auto;padding:0 1rem}}\
             h1{{font-size:1.25rem}}p{{white-space:pre-wrap;overflow-wrap:anywhere}}small{{color:#666}}</style></head>\
             <body><h1>{reason}</h1><p>{message}</p><small>Fermion gateway, {code}</small></body></html>\n",
            reason = escape(self.reason),
            message = escape(&self.message),
            code = self.status.as_u16(),
        )
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Page,
    Json,
}

impl Form {
    /// A page for whoever names `text/html` (browsers do, for a navigation), JSON otherwise.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let names_html = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("text/html"));
        if headers.get_all(ACCEPT).iter().any(names_html) { Self::Page } else { Self::Json }
    }
}

/// Text as it may stand in HTML, attributes included.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_bring_markup_into_the_page() {
        let problem = Problem::bad_request("<script>alert('x')</script>");
        assert!(!problem.page().contains("<script"));
    }

    #[test]
    fn only_who_names_html_gets_a_page() {
        let mut headers = HeaderMap::new();
        assert_eq!(Form::wanted(&headers), Form::Json);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        assert_eq!(Form::wanted(&headers), Form::Json);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml;q=0.9"));
        assert_eq!(Form::wanted(&headers), Form::Page);
    }
}
