//! Validation of objects against the schema of their kind.
//!
//! A kind's schema is compiled once into a [`Validator`], a flat table of nodes in which patterns
//! are compiled and references resolved; checking an object then takes microseconds. Schemas are
//! what `kube::CustomResourceExt::crd()` and [`for_core`] make: structural ones in the sense of
//! Kubernetes, in which every field that may be set is declared.
//!
//! For a write, in this order: [`Validator::default`], which also drops nulls that stand for
//! "unset"; [`Validator::validate`]; [`Validator::check_rules`] on what is valid so far; and, where
//! unknown fields are to be dropped instead of refused, [`Validator::prune`].

mod check;
mod compile;
mod core_kinds;
mod format;
mod normalize;
pub(crate) mod outline;
mod problem;
pub(crate) mod rules;

use std::collections::{HashMap, HashSet};

use regex::Regex;
use serde_json::Value;

pub use core_kinds::for_core;
pub use format::{is_duration, is_int_or_string, is_quantity};
pub use problem::{FieldError, JsonType, Problem};

/// One validation reports at most this many errors.
pub const ERRORS_MAX: usize = 100;

/// Objects nested more deeply are refused.
pub const OBJECT_DEPTH_MAX: usize = 100;

/// Schemas nested more deeply are refused.
pub const SCHEMA_DEPTH_MAX: usize = 100;

/// A schema may hold this many subschemas, references counted once.
pub const SCHEMA_NODES_MAX: usize = 100_000;

/// A compiled pattern may use this many bytes.
pub const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A keyword has a value that it cannot have.
    #[error("schema {path}: {keyword}: {detail}")]
    Malformed {
        /// Where in the schema, as a JSON pointer.
        path: String,
        /// The keyword.
        keyword: String,
        /// What is wrong with its value.
        detail: String,
    },
    /// A keyword that would restrict objects but is not implemented. Ignoring it would accept what
    /// the schema's author meant to refuse.
    #[error("schema {path}: the keyword {keyword:?} is not supported; remove it")]
    Unsupported {
        /// Where in the schema, as a JSON pointer.
        path: String,
        /// The keyword.
        keyword: String,
    },
    /// Larger than [`SCHEMA_DEPTH_MAX`] or [`SCHEMA_NODES_MAX`] allow.
    #[error("schema {path}: too large; at most {SCHEMA_DEPTH_MAX} levels and {SCHEMA_NODES_MAX} parts")]
    TooLarge {
        /// Where the limit was met.
        path: String,
    },
}

/// A compiled schema of a whole object: `apiVersion`, `kind` and `metadata` are allowed at the root
/// and checked whether or not the schema mentions them.
#[derive(Debug)]
pub struct Validator {
    nodes: Vec<Node>,
    root: NodeId,
}

/// Index into [`Validator::nodes`].
type NodeId = usize;

/// One subschema.
#[derive(Debug, Default)]
struct Node {
    /// The types a value may have; empty for any.
    types: Vec<JsonType>,
    nullable: bool,
    int_or_string: Option<IntOrString>,
    properties: HashMap<Box<str>, NodeId>,
    required: Vec<Box<str>>,
    additional: Additional,
    items: Option<NodeId>,
    allowed_values: Option<Vec<Value>>,
    text: TextRules,
    number: NumberRules,
    count: CountRules,
    all_of: Vec<NodeId>,
    any_of: Vec<NodeId>,
    one_of: Vec<NodeId>,
    not: Option<NodeId>,
    default: Option<Value>,
    /// The properties that have a default, by name.
    property_defaults: Vec<(Box<str>, Value)>,
    /// Properties that only the combined schemas (`allOf` and so on) declare.
    declared_in_combined: HashSet<Box<str>>,
    /// A combined schema accepts properties that it does not declare.
    combined_is_open: bool,
    /// The rules of `x-kubernetes-validations`.
    rules: Option<rules::Rules>,
    /// Whether there are rules at this node or below.
    has_rules: bool,
}

/// What a `x-kubernetes-int-or-string` field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum IntOrString {
    /// Any integer or text.
    Any,
    /// A port or a percentage.
    PortOrPercent,
    /// An amount of a resource; other numbers are accepted too, as in Kubernetes.
    Quantity,
}

/// What holds for properties that are not declared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
enum Additional {
    /// Nothing is said: they are unknown.
    #[default]
    Unknown,
    /// They are forbidden in so many words, which tells the forms of a `oneOf` apart.
    Forbidden,
    /// They may be anything.
    Anything,
    /// They must be this.
    Schema(NodeId),
}

#[derive(Debug, Default)]
struct TextRules {
    length_min: Option<u64>,
    length_max: Option<u64>,
    pattern: Option<Regex>,
    format: Option<format::TextFormat>,
}

#[derive(Debug, Default)]
struct NumberRules {
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    multiple_of: Option<f64>,
    format: Option<format::IntegerFormat>,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    value: f64,
    exclusive: bool,
}

#[derive(Debug, Default)]
struct CountRules {
    items_min: Option<u64>,
    items_max: Option<u64>,
    unique_items: bool,
    properties_min: Option<u64>,
    properties_max: Option<u64>,
    /// The fields that together tell the items of a list apart.
    map_keys: Vec<Box<str>>,
}

impl Validator {
    /// Compiles the schema of a kind. `$ref` may point inside the document.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        compile::compile(schema, compile::Extent::Object)
    }

    /// Compiles everything of a kind's schema but its rules, which are checked one by one where
    /// their author waits for an answer.
    pub(crate) fn compile_structure(schema: &Value) -> Result<Self, SchemaError> {
        compile::compile(schema, compile::Extent::ObjectWithoutRules)
    }

    /// Compiles the schema of a value that is no whole object.
    pub(crate) fn compile_value(schema: &Value) -> Result<Self, SchemaError> {
        compile::compile(schema, compile::Extent::Value)
    }

    /// Everything that is wrong with the object, at most [`ERRORS_MAX`] errors; empty if it is
    /// valid. [`Problem::Unknown`] marks fields that the schema does not know: a strict decoding
    /// error (400), or a warning. All other problems make the object invalid (422).
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        check::check(self, object)
    }

    /// Every rule (`x-kubernetes-validations`) that the object breaks, at most [`ERRORS_MAX`]. The
    /// object is valid by [`Validator::validate`]; `old` is the stored one on an update.
    pub fn check_rules(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        rules::check(self, object, old)
    }

    /// Removes the fields that the schema does not know. Answers their paths, at most
    /// [`ERRORS_MAX`] of them, for warnings.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        normalize::prune(self, object)
    }

    /// Removes nulls from fields that cannot be null (they stand for "unset"), then sets what is
    /// unset and has a default. Defaults do not make parents: `spec.a.b` is set only if `spec.a`
    /// is there, or has a default itself.
    pub fn default(&self, object: &mut Value) {
        normalize::default(self, object);
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }
}

impl Node {
    fn declares(&self, property: &str) -> bool {
        self.properties.contains_key(property) || self.declared_in_combined.contains(property)
    }

    fn is_open(&self) -> bool {
        self.combined_is_open || matches!(self.additional, Additional::Anything | Additional::Schema(_))
    }
}

#[cfg(test)]
mod tests;
