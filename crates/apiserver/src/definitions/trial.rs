//! A definition without a server: why it would be refused, or what it would serve. For checks of
//! what holds for every definition.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::{Definition, check, status};
use crate::managed_fields::FieldTypes;
use crate::openapi::OpenApiKind;
use crate::schema::{Problem, Validator, for_core};

/// What definitions themselves must fit.
static OF_DEFINITIONS: LazyLock<Validator> =
    LazyLock::new(|| Validator::compile(&for_core::<CustomResourceDefinition>()).expect("a test compiles the schemas of all core kinds"));

/// One version of a kind, as it is served.
#[derive(Debug)]
pub struct Served {
    /// What OpenAPI says of it.
    pub openapi: OpenApiKind,
    /// Its schema, compiled.
    pub validator: Arc<Validator>,
    /// Its lists and maps, as server-side apply sees them.
    pub field_types: Arc<FieldTypes>,
}

/// Takes a new definition through everything that a write of it goes through.
///
/// # Errors
/// With the sentences it is refused with.
///
/// # Panics
/// When it passes every check and cannot be served all the same.
pub fn try_definition(mut definition: Value) -> Result<Vec<Served>, Vec<String>> {
    OF_DEFINITIONS.default(&mut definition);
    let malformed: Vec<String> = OF_DEFINITIONS
        .validate(&definition)
        .into_iter()
        .filter(|error| error.problem != Problem::Unknown)
        .map(|error| error.to_string())
        .collect();
    if !malformed.is_empty() {
        return Err(malformed);
    }
    OF_DEFINITIONS.prune(&mut definition);
    check::set_defaults(&mut definition);
    let refused = check::check(&definition, None);
    if !refused.is_empty() {
        return Err(refused.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect());
    }
    definition["status"] = status::settled(&definition, &status::Taken::default(), Timestamp::UNIX_EPOCH);
    let built = Definition::build(&definition, None).expect("what passes every check can be served");
    let served = std::iter::zip(built.resources, built.openapi).map(|(resource, openapi)| Served {
        openapi: (*openapi).clone(),
        validator: resource.validator.clone(),
        field_types: resource.field_types.clone(),
    });
    Ok(served.collect())
}
