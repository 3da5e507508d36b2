//! Objects are made only in namespaces that exist and are not going away, and the namespaces that
//! the platform needs stay.

use axum::http::StatusCode;
use fermion_store::Key;
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::Api;
use crate::error::{About, ApiError, Result};
use crate::objects;
use crate::write::parse_stored;

/// Namespaces that nobody may delete.
const NEEDED: [&str; 2] = ["default", fermion_api::labels::SYSTEM_NAMESPACE];

/// Refuses to make something in a namespace that does not take it.
pub(super) async fn check_namespace(api: &Api, request: &Request<'_>) -> Result<()> {
    // At a subresource the object exists already: evicting from a namespace that ends is fine.
    if request.operation != Operation::Create || request.namespace.is_empty() || !request.origin.subresource.is_empty() {
        return Ok(());
    }
    let about = About { group: "", plural: "namespaces", kind: "Namespace", name: request.namespace };
    let stored = api
        .store
        .get(&Key::new("namespaces", "", request.namespace))
        .await
        .map_err(|error| ApiError::from_store(&error, about))?
        .ok_or_else(|| ApiError::not_found(about))?;
    takes_objects(request, &parse_stored(&stored)?)
}

fn takes_objects(request: &Request<'_>, namespace: &Value) -> Result<()> {
    if !objects::is_being_deleted(namespace) {
        return Ok(());
    }
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
    Err(ApiError {
        details: Some(details),
        ..ApiError::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!(
                "{} \"{}\" is forbidden: unable to create new content in namespace {name} because it is being terminated",
                request.resource.plural, request.name
            ),
        )
    })
}

/// Refuses to delete what the platform needs.
pub(super) fn check_deletion(request: &Request<'_>) -> Result<()> {
    if request.operation == Operation::Delete && request.resource.is_core("namespaces") && NEEDED.contains(&request.name) {
        return Err(ApiError::forbidden(format!("namespace \"{}\" is needed by the platform and cannot be deleted", request.name)));
    }
    Ok(())
}
