//! Writing a status: only what changed, and only if nobody wrote in between.

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::error::{Error, describe};

/// The merge patch (RFC 7396) that turns `old` into `new`; `None` if they are equal.
pub(crate) fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        let change = match old.get(name) {
            Some(before) => merge_patch(before, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    Some(Value::Object(patch))
}

/// Writes the parts of the status that differ, on the condition that the object is still the
/// one that was read. Says whether anything was written.
pub(crate) async fn write<K, S>(api: &Api<K>, object: &K, old: Option<&S>, new: &S) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    S: Serialize,
{
    let json = |status: &S| serde_json::to_value(status).map_err(|source| Error::Json { object: describe(object), source });
    let old = old.map(json).transpose()?.unwrap_or_else(|| json!({}));
    let Some(patch) = merge_patch(&old, &json(new)?) else { return Ok(false) };
    let version = object.resource_version().ok_or_else(|| Error::Incomplete { object: describe(object), field: "resourceVersion" })?;
    let body = json!({"metadata": {"resourceVersion": version}, "status": patch});
    api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(body))
        .await
        .map_err(Error::api("write the status of", describe(object)))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_hold_only_what_changed() {
        let old = json!({"phase": "Pending", "waiting": {"reason": "a", "place": "b"}, "list": [1, 2], "same": {"x": 1}});
        let new = json!({"phase": "Running", "waiting": {"reason": "a"}, "list": [1], "same": {"x": 1}, "added": 1});
        let patch = json!({"phase": "Running", "waiting": {"place": null}, "list": [1], "added": 1});
        assert_eq!(merge_patch(&old, &new), Some(patch));
        assert_eq!(merge_patch(&new, &new), None);
        assert_eq!(merge_patch(&json!({"waiting": {}}), &json!({})), Some(json!({"waiting": null})));
    }
}
