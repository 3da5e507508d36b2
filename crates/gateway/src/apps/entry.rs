//! How a browser gets in: a ticket in a link becomes a cookie, and the link a clean one.

use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderValue, Request, StatusCode};
use jiff::Timestamp;
use serde_json::json;

use super::Visitor;
use crate::address::{self, AppAddress, TICKET_PARAMETER};
use crate::forward::headers::{self, SESSION_COOKIE};
use crate::gateway::Inner;
use crate::inbound::Inbound;
use crate::problem::Problem;
use crate::session::{Grant, Secret, TICKET_LIFETIME};

/// `POST …/ticket`: a link that lets a browser in, once, soon.
///
/// A ticket lets its holder in as the visitor, so only somebody who shows a token gets one:
/// a page of the app itself, which has the cookie, does not.
pub(super) fn issue(inner: &Inner, app: &AppAddress, visitor: Visitor, inbound: &Inbound) -> Result<Response, Problem> {
    if visitor.by_cookie {
        let message = "A ticket is given for a bearer token, not for a cookie.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    let ticket = random()?;
    let grant = Grant { app: app.clone(), username: visitor.person.username.clone().unwrap_or_default(), token: visitor.token };
    inner.sessions().add_ticket(&ticket, grant, Instant::now());
    let scheme = if inner.options.https { "https" } else { "http" };
    let path = app.cookie_path();
    let url = format!("{scheme}://{}{path}?{TICKET_PARAMETER}={}", inbound.host, ticket.as_str());
    let expires_at = Timestamp::now() + TICKET_LIFETIME;
    let mut response = Json(json!({"url": url, "expiresAt": expires_at.to_string()})).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `GET …?fermion_ticket=T`: begins a session and sends the browser to the same address
/// without the ticket.
///
/// The cookie is `SameSite=Lax` and not `Strict`: a link in a chat or on another site must
/// open an app in which one is signed in already. What Lax lets through beyond that, top-level
/// GETs, reads nothing and changes nothing; [`crate::origin`] checks the rest.
pub(super) fn exchange(inner: &Inner, app: &AppAddress, rest: &str, ticket: &str, request: &Request<Body>) -> Result<Response, Problem> {
    let now = Instant::now();
    let id = random()?;
    let begun = inner.sessions().exchange(ticket, app, &id, now);
    let signed_in = || headers::cookies(request.headers(), SESSION_COOKIE).any(|id| inner.sessions().resume(id, app, now).is_some());
    // Going back to a link that was used already is no reason to be shut out.
    if !begun && !signed_in() {
        return Err(Problem::unauthenticated(format!(
            "This link was used already, or is older than {} s. Get a new one with `fermion open`.",
            TICKET_LIFETIME.as_secs()
        )));
    }
    let query = request.uri().query().and_then(address::query_without_ticket);
    let mut response = redirect(StatusCode::SEE_OTHER, &format!("{}{rest}", app.prefix()), query.as_deref())?;
    if begun {
        let secure = if inner.options.https { "; Secure" } else { "" };
        let cookie = format!("{SESSION_COOKIE}={}; Path={}; HttpOnly; SameSite=Lax{secure}", id.as_str(), app.cookie_path());
        let cookie = HeaderValue::from_str(&cookie).map_err(|error| Problem::bad_request(error.to_string()))?;
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A redirect to a path of our own.
pub(super) fn redirect(status: StatusCode, path: &str, query: Option<&str>) -> Result<Response, Problem> {
    let location = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let location = HeaderValue::from_str(&location).map_err(|error| Problem::bad_request(error.to_string()))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

fn random() -> Result<Secret, Problem> {
    Secret::random().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the system gives no randomness");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "NoRandomness", "The server cannot make a secret now.")
    })
}
