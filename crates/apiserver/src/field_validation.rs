//! Fields that a body holds in vain: those that its kind does not know, and those that it holds
//! twice. They are refused, dropped with a warning, or dropped, as the client asks
//! (`fieldValidation`); also in bodies that ask for something and are not stored.

use std::sync::LazyLock;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::policy::v1::Eviction;
use serde_json::Value;

use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::request::Query;
use crate::schema::{Problem, Validator, for_core};
use crate::write::WriteOptions;

/// What is done about such fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

impl FieldValidation {
    pub(crate) fn parse(query: &Query) -> Result<Self> {
        match query.get("fieldValidation") {
            Some("Strict") => Ok(Self::Strict),
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some(other) => Err(ApiError::bad_request(format!("fieldValidation={other}: must be Strict, Warn or Ignore"))),
        }
    }
}

/// A kind that bodies can be of.
pub(crate) struct Form<'a> {
    kind: &'a str,
    version: &'a str,
    validator: &'a Validator,
}

impl<'a> Form<'a> {
    pub(crate) fn of(resource: &'a Resource) -> Self {
        Self { kind: &resource.kind, version: &resource.version, validator: &resource.validator }
    }

    /// What is sent to the `scale` of an object.
    pub(crate) fn of_scale() -> Self {
        static SCALE: LazyLock<Validator> = LazyLock::new(compiled::<Scale>);
        Self::of_action("Scale", &SCALE)
    }

    /// What is sent to the `binding` of a pod.
    pub(crate) fn of_binding() -> Self {
        static BINDING: LazyLock<Validator> = LazyLock::new(compiled::<Binding>);
        Self::of_action("Binding", &BINDING)
    }

    /// What is sent to the `eviction` of a pod.
    pub(crate) fn of_eviction() -> Self {
        static EVICTION: LazyLock<Validator> = LazyLock::new(compiled::<Eviction>);
        Self::of_action("Eviction", &EVICTION)
    }

    /// What is sent to the `token` of a service account.
    pub(crate) fn of_token_request() -> Self {
        static TOKEN_REQUEST: LazyLock<Validator> = LazyLock::new(compiled::<TokenRequest>);
        Self::of_action("TokenRequest", &TOKEN_REQUEST)
    }

    fn of_action(kind: &'static str, validator: &'static Validator) -> Self {
        Form { kind, version: "v1", validator }
    }

    /// Drops what is unknown.
    ///
    /// # Errors
    /// When it is to be refused, or what is given twice is.
    pub(crate) fn settle(&self, body: &mut Value, options: &WriteOptions, warnings: &mut Vec<String>) -> Result<()> {
        if options.field_validation != FieldValidation::Ignore {
            let unknown = self.validator.validate(body).into_iter().filter(|error| error.problem == Problem::Unknown);
            let unknown = unknown.map(|error| format!("unknown field \"{}\"", error.path));
            let twice = options.duplicates.iter().map(|path| format!("duplicate field \"{path}\""));
            let wrong: Vec<String> = unknown.chain(twice).collect();
            if !wrong.is_empty() {
                if options.field_validation == FieldValidation::Strict {
                    return Err(ApiError::bad_request(format!(
                        "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
                        self.kind,
                        self.version,
                        self.kind,
                        wrong.join(", ")
                    )));
                }
                warnings.extend(wrong);
            }
        }
        self.validator.prune(body);
        Ok(())
    }
}

fn compiled<T: schemars::JsonSchema>() -> Validator {
    Validator::compile(&for_core::<T>()).expect("a test compiles the schemas of all core kinds")
}
