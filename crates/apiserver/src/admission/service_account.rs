//! The account as which a pod's processes act.

use serde_json::Value;

use super::Request;

/// The account of a pod that names none.
const DEFAULT: &str = "default";

/// Names the account of a pod. `serviceAccount` is the same field by its old name.
pub(super) fn set_default(request: &Request<'_>, pod: &mut Value) {
    if !request.resource.is_core("pods") || !request.origin.subresource.is_empty() {
        return;
    }
    // A pod without a spec, or with another thing in its place, is refused by the schema.
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let given = |field: &str| spec.get(field).and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = given("serviceAccountName").or_else(|| given("serviceAccount")).unwrap_or(DEFAULT).to_owned();
    spec.insert("serviceAccountName".to_owned(), name.into());
}
