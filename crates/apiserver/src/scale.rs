//! The scale subresource (autoscaling/v1): the number of replicas of any kind that declares
//! where it stands.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use fermion_store::Key;
use serde_json::{Value, json};

use crate::Api;
use crate::admission::{self, Admitted, Operation, Origin};
use crate::catalog::Resource;
use crate::dispatch::with_warnings;
use crate::error::{ApiError, Cause, Result};
use crate::field_validation::Form;
use crate::patch::{self, MergeStrategy, PatchKind};
use crate::read::json_response;
use crate::write::{WriteOptions, parse_stored};

impl Api {
    pub(crate) async fn get_scale(&self, resource: &Arc<Resource>, key: &Key) -> Result<Response<Body>> {
        let object = parse_stored(&self.read(resource, key).await?)?;
        Ok(json_response(StatusCode::OK, &scale_of(resource, &object)?))
    }

    pub(crate) async fn patch_scale(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: Key,
        kind: PatchKind,
        change: &Value,
        options: &WriteOptions,
    ) -> Result<Response<Body>> {
        let object = parse_stored(&self.read(resource, &key).await?)?;
        let scale = patch::apply(kind, &scale_of(resource, &object)?, change, &MergeStrategy::UNSUPPORTED)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        self.set_scale(origin, resource, key, &scale, options).await
    }

    /// Applies a Scale: whoever sends one owns the number of replicas.
    pub(crate) async fn apply_scale(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: Key,
        scale: &Value,
        options: &WriteOptions,
    ) -> Result<Response<Body>> {
        if scale["apiVersion"] != "autoscaling/v1" || scale["kind"] != "Scale" {
            return Err(ApiError::bad_request("this address takes apiVersion \"autoscaling/v1\", kind \"Scale\""));
        }
        let (mut scale, mut warnings) = (scale.clone(), Vec::new());
        Form::of_scale().settle(&mut scale, options, &mut warnings)?;
        let options = &options.without_duplicates();
        let old = scale_of(resource, &parse_stored(&self.read(resource, &key).await?)?)?;
        let asked = admission::Request::of_action(origin, resource, Operation::Update, &key, options.dry_run);
        let asked = admission::Request { old: Some(&old), ..asked };
        let Admitted { object: scale, warnings: of_admission } = self.admit_action(&asked, scale).await?;
        warnings.extend(of_admission);
        let paths = resource.scale.as_ref().ok_or_else(ApiError::no_route)?;
        let mut configuration = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": scale["metadata"]});
        if !scale["spec"]["replicas"].is_null() {
            *place(&mut configuration, &paths.spec_replicas_path) = replicas(resource, &key.name, &scale)?.into();
        }
        let written = self.server_side_apply(origin, resource, key, configuration, options).await?;
        warnings.extend(written.warnings);
        let object = parse_stored(&written.object)?;
        Ok(with_warnings(json_response(StatusCode::OK, &scale_of(resource, &object)?), &warnings))
    }

    pub(crate) async fn set_scale(
        &self,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        key: Key,
        scale: &Value,
        options: &WriteOptions,
    ) -> Result<Response<Body>> {
        let (mut scale, mut warnings) = (scale.clone(), Vec::new());
        Form::of_scale().settle(&mut scale, options, &mut warnings)?;
        let options = &options.without_duplicates();
        let old = scale_of(resource, &parse_stored(&self.read(resource, &key).await?)?)?;
        let asked = admission::Request::of_action(origin, resource, Operation::Update, &key, options.dry_run);
        let asked = admission::Request { old: Some(&old), ..asked };
        let Admitted { object: scale, warnings: of_admission } = self.admit_action(&asked, scale).await?;
        warnings.extend(of_admission);
        let replicas = replicas(resource, &key.name, &scale)?;
        let paths = resource.scale.as_ref().ok_or_else(ApiError::no_route)?;
        let mut change = json!({});
        *place(&mut change, &paths.spec_replicas_path) = replicas.into();
        if let Some(version) = scale["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty()) {
            change["metadata"]["resourceVersion"] = version.into();
        }
        let written = self.patch(origin, resource, key, PatchKind::Merge, &change, options).await?;
        warnings.extend(written.warnings);
        let object = parse_stored(&written.object)?;
        Ok(with_warnings(json_response(StatusCode::OK, &scale_of(resource, &object)?), &warnings))
    }
}

fn replicas(resource: &Resource, name: &str, scale: &Value) -> Result<i64> {
    match &scale["spec"]["replicas"] {
        Value::Null => Ok(0),
        value => value.as_i64().filter(|replicas| *replicas >= 0).ok_or_else(|| {
            let cause = Cause {
                field: "spec.replicas".to_owned(),
                reason: "FieldValueInvalid",
                message: "must be a whole number, zero or more".to_owned(),
            };
            ApiError::invalid(resource.about(name), vec![cause])
        }),
    }
}

fn scale_of(resource: &Resource, object: &Value) -> Result<Value> {
    let paths = resource.scale.as_ref().ok_or_else(ApiError::no_route)?;
    let at = |path: &str| segments(path).try_fold(object, |value, field| value.get(field)).cloned().unwrap_or(Value::Null);
    let metadata = &object["metadata"];
    let selector = paths.label_selector_path.as_deref().map(at).unwrap_or_default();
    Ok(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": at(&paths.spec_replicas_path).as_i64().unwrap_or(0)},
        "status": {
            "replicas": at(&paths.status_replicas_path).as_i64().unwrap_or(0),
            "selector": selector.as_str().unwrap_or_default(),
        },
    }))
}

/// The fields of a simple path: `.spec.replicas`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|segment| !segment.is_empty())
}

fn place<'a>(object: &'a mut Value, path: &str) -> &'a mut Value {
    segments(path).fold(object, |value, field| &mut value[field])
}
