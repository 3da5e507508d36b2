//! The terminal's page: one file that loads nothing else.

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response as HttpResponse};
use sha2::{Digest as _, Sha256};

const PAGE: &str = include_str!("terminal.html");

/// Allows the page's own script, by its digest, and a WebSocket to where the page is from.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode(Sha256::digest(script(PAGE)));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    HeaderValue::try_from(policy).expect("base64 and fixed text are header characters")
});

pub(super) fn response() -> Response {
    let mut response = HttpResponse::new(Body::from(PAGE));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What stands between the script tags: what a browser takes the digest of.
fn script(page: &str) -> &str {
    let (_, after) = page.split_once("<script>").unwrap_or_default();
    after.split_once("</script>").unwrap_or_default().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_that_its_policy_allows() {
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert!(script(PAGE).contains("WebSocket"));
        assert!(POLICY.to_str().expect("text").contains("script-src 'sha256-"));
    }
}
