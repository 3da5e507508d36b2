//! From a schema document to [`FieldTypes`].

use std::collections::HashMap;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::{FieldTypes, ListKey, ListType, TypeId, TypeNode};
use crate::managed_fields::core_types;

/// Schemas nested more deeply are untyped from there on.
const SCHEMA_DEPTH_MAX: usize = 100;
/// At most this many nodes are made of one schema; what is beyond is untyped.
const SCHEMA_NODES_MAX: usize = 100_000;

/// The schema of metadata, which kinds of one's own leave open.
static OBJECT_META: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = crate::schema::for_core::<ObjectMeta>();
    core_types::annotate("ObjectMeta", &mut schema);
    schema
});

impl FieldTypes {
    /// Compiles the schema of a kind: `x-kubernetes-list-type`, `x-kubernetes-list-map-keys` and
    /// `x-kubernetes-map-type`, wherever they stand. `$ref` may point inside the document.
    ///
    /// A schema that cannot be followed leaves what is there untyped; whether it is valid is for
    /// [`crate::schema::Validator::compile`] to say.
    pub fn compile(schema: &Value) -> Self {
        let mut types = Self::untyped();
        let mut compiler = Compiler { document: schema, types: &mut types, references: HashMap::new() };
        let root = compiler.schema(&[schema], 0);
        let metadata = Compiler { document: &OBJECT_META, types: &mut types, references: HashMap::new() }.schema(&[&OBJECT_META], 0);
        types.set_field(root, "metadata", metadata);
        types.root = root;
        types
    }

    /// Marks fields, each by its path (`spec.containers`), as there in every object of the kind.
    /// Paths that the schema does not declare are left out.
    #[must_use]
    pub fn with_always_there(mut self, paths: &[&str]) -> Self {
        for path in paths {
            self.mark_always_there(path);
        }
        self
    }

    fn mark_always_there(&mut self, path: &str) {
        let mut parent = self.root;
        for name in path.split('.') {
            let Some(child) = self.field_of(parent, name) else { return };
            // Nodes may be shared with other fields, of which nothing is said.
            let node = &self.nodes[child];
            let copy = TypeNode { fields: node.fields.clone(), list: node.list.clone(), ..*node };
            self.nodes.push(copy);
            let copied = self.nodes.len() - 1;
            self.set_field(parent, name, copied);
            parent = copied;
        }
        self.nodes[parent].always_there = true;
    }

    fn field_of(&self, id: TypeId, name: &str) -> Option<TypeId> {
        let fields = &self.nodes[id].fields;
        fields.binary_search_by(|(field, _)| field.as_ref().cmp(name)).ok().map(|place| fields[place].1)
    }

    fn set_field(&mut self, id: TypeId, name: &str, child: TypeId) {
        let fields = &mut self.nodes[id].fields;
        match fields.binary_search_by(|(field, _)| field.as_ref().cmp(name)) {
            Ok(place) => fields[place].1 = child,
            Err(place) => fields.insert(place, (name.into(), child)),
        }
    }
}

struct Compiler<'a> {
    document: &'a Value,
    types: &'a mut FieldTypes,
    /// Nodes of schemas that are referred to, by pointer; they may refer to themselves.
    references: HashMap<&'a str, TypeId>,
}

impl<'a> Compiler<'a> {
    /// The node of a value that all of these schemas describe.
    fn schema(&mut self, schemas: &[&'a Value], depth: usize) -> TypeId {
        let parts = self.parts(schemas);
        // Nothing but a reference: everyone who refers to it shares its node.
        let reference = match parts.as_slice() {
            [Part { through: Some(pointer), .. }] => Some(*pointer),
            _ => None,
        };
        if let Some(id) = reference.and_then(|pointer| self.references.get(pointer)) {
            return *id;
        }
        if depth > SCHEMA_DEPTH_MAX || self.types.nodes.len() >= SCHEMA_NODES_MAX {
            return super::UNTYPED;
        }
        self.types.nodes.push(TypeNode::default());
        let id = self.types.nodes.len() - 1;
        if let Some(pointer) = reference {
            self.references.insert(pointer, id);
        }
        let node = self.node(&parts, depth);
        self.types.nodes[id] = node;
        id
    }

    fn node(&mut self, parts: &[Part<'a>], depth: usize) -> TypeNode {
        let first = |keyword: &str| parts.iter().find_map(|part| part.fields.get(keyword));
        let mut properties: Vec<(&'a str, Vec<&'a Value>)> = Vec::new();
        let mut values = Vec::new();
        let mut items = Vec::new();
        for part in parts {
            for (name, schema) in part.fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
                match properties.binary_search_by(|(other, _)| (*other).cmp(name)) {
                    Ok(place) => properties[place].1.push(schema),
                    Err(place) => properties.insert(place, (name, vec![schema])),
                }
            }
            values.extend(part.fields.get("additionalProperties").filter(|schema| schema.is_object()));
            items.extend(part.fields.get("items").filter(|schema| schema.is_object()));
        }
        let list = match first("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => ListType::Set,
            Some("map") => {
                let keys = first("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
                ListType::Map(keys.map(|name| self.list_key(name, &items)).collect())
            }
            _ => ListType::Atomic,
        };
        TypeNode {
            fields: properties.into_iter().map(|(name, schemas)| (name.into(), self.schema(&schemas, depth + 1))).collect(),
            values: (!values.is_empty()).then(|| self.schema(&values, depth + 1)),
            items: (!items.is_empty()).then(|| self.schema(&items, depth + 1)),
            list: if list == ListType::Map(Vec::new()) { ListType::Atomic } else { list },
            atomic: first("x-kubernetes-map-type").is_some_and(|kind| kind == "atomic"),
            always_there: false,
        }
    }

    fn list_key(&self, name: &str, items: &[&'a Value]) -> ListKey {
        let properties = self.parts(items);
        let schemas: Vec<&Value> = properties.iter().filter_map(|part| part.fields.get("properties")?.get(name)).collect();
        let default = self.parts(&schemas).iter().find_map(|part| part.fields.get("default").cloned());
        ListKey { name: name.into(), default }
    }

    /// The schemas, with those they refer to and are combined of, the nearest first.
    fn parts(&self, schemas: &[&'a Value]) -> Vec<Part<'a>> {
        let mut open: Vec<(&'a Value, Option<&'a str>)> = schemas.iter().rev().map(|schema| (*schema, None)).collect();
        let mut parts: Vec<Part<'a>> = Vec::new();
        let mut seen: Vec<&'a str> = Vec::new();
        while let Some((schema, through)) = open.pop() {
            let Some(fields) = schema.as_object() else { continue };
            for keyword in ["oneOf", "anyOf", "allOf"] {
                let combined = fields.get(keyword).and_then(Value::as_array).into_iter().flatten();
                open.extend(combined.rev().map(|schema| (schema, through)));
            }
            let says_something = STRUCTURAL.iter().any(|keyword| fields.contains_key(*keyword));
            if let Some(pointer) = fields.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'))
                && !seen.contains(&pointer)
                && let Some(target) = self.document.pointer(pointer)
            {
                seen.push(pointer);
                open.push((target, Some(pointer)));
            }
            if says_something {
                parts.push(Part { fields, through });
            }
        }
        parts
    }
}

/// Keywords that shape a node; a schema without any adds nothing to those it is combined with.
const STRUCTURAL: [&str; 8] = [
    "properties",
    "additionalProperties",
    "items",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

/// One of the schemas that describe a value together.
struct Part<'a> {
    fields: &'a Map<String, Value>,
    /// The pointer it was found by, if it is only referred to.
    through: Option<&'a str>,
}
