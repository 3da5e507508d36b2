//! Objects are made only in namespaces that exist and are not going away, and the namespaces that
//! the platform needs stay.

use axum::http::StatusCode;
use fermion_store::{Key, Stored};
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::Api;
use crate::error::{About, ApiError, Result};
use crate::objects;

/// Namespaces that nobody may delete.
const NEEDED: [&str; 2] = ["default", fermion_api::labels::SYSTEM_NAMESPACE];

/// Where namespaces are stored.
pub(crate) const NAMESPACES: &str = "namespaces";

/// Whether a namespace takes objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Active,
    Terminating,
}

/// Reads a stored namespace.
pub(crate) fn read(stored: &Stored) -> Result<Phase, String> {
    let namespace: Value = serde_json::from_slice(&stored.body).map_err(|error| error.to_string())?;
    Ok(if objects::is_being_deleted(&namespace) { Phase::Terminating } else { Phase::Active })
}

/// Refuses to make something in a namespace that does not take it.
pub(super) async fn check_namespace(api: &Api, request: &Request<'_>) -> Result<()> {
    // At a subresource the object exists already: evicting from a namespace that ends is fine.
    if request.operation != Operation::Create || request.namespace.is_empty() || !request.origin.subresource.is_empty() {
        return Ok(());
    }
    let about = About { group: "", plural: NAMESPACES, kind: "Namespace", name: request.namespace };
    let failed = |error| ApiError::from_store(&error, about);
    let key = Key::new(NAMESPACES, "", request.namespace);
    let followed = api.namespaces.all(&api.store).await.map_err(failed)?;
    let phase = match followed.get(&key) {
        Some(phase) => **phase,
        // Made on another server that shares the database, and not heard of here yet.
        None => read(&api.store.get(&key).await.map_err(failed)?.ok_or_else(|| ApiError::not_found(about))?).map_err(ApiError::internal)?,
    };
    match phase {
        Phase::Active => Ok(()),
        Phase::Terminating => Err(terminating(request)),
    }
}

fn terminating(request: &Request<'_>) -> ApiError {
    let name = request.namespace;
    // Controllers look for this cause to tell an end from a lack of rights.
    let details = json!({
        "group": request.resource.group,
        "kind": request.resource.plural,
        "name": request.name,
        "causes": [{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {name} is being terminated"),
            "field": "metadata.namespace",
        }],
    });
    ApiError {
        details: Some(details),
        ..ApiError::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!(
                "{} \"{}\" is forbidden: unable to create new content in namespace {name} because it is being terminated",
                request.resource.plural, request.name
            ),
        )
    }
}

/// Refuses to delete what the platform needs.
pub(super) fn check_deletion(request: &Request<'_>) -> Result<()> {
    if request.operation == Operation::Delete && request.resource.is_core("namespaces") && NEEDED.contains(&request.name) {
        return Err(ApiError::forbidden_about("", NAMESPACES, request.name, "this namespace may not be deleted"));
    }
    Ok(())
}
