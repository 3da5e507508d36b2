//! From a schema document to [`FieldTypes`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
        let mut compiler = Compiler { document: schema, types: &mut types, known: HashMap::new(), alike: HashMap::new() };
        let root = compiler.schema(&[schema], 0);
        let metadata =
            Compiler { document: &OBJECT_META, types: &mut types, known: HashMap::new(), alike: HashMap::new() }.schema(&[&OBJECT_META], 0);
        // The root may be shared with a part of it that says as little.
        let own = types.nodes[root].clone();
        types.nodes.push(own);
        let root = types.nodes.len() - 1;
        types.set_field(root, "metadata", metadata);
        types.root = root;
        types.nodes.shrink_to_fit();
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

struct Known {
    id: TypeId,
    /// Whether another node holds it.
    told: bool,
}

struct Compiler<'a> {
    document: &'a Value,
    types: &'a mut FieldTypes,
    /// The nodes there are, by the places in the document of the schemas that make them up. So a
    /// schema that holds itself has an end, by whatever way it does.
    known: HashMap<Vec<*const Map<String, Value>>, Known>,
    /// Nodes by what they say: schemas hold the same parts again and again, and each is kept once.
    alike: HashMap<TypeNode, TypeId>,
}

impl<'a> Compiler<'a> {
    /// The node of a value that all of these schemas describe.
    fn schema(&mut self, schemas: &[&'a Value], depth: usize) -> TypeId {
        let parts = self.parts(schemas);
        let place: Vec<*const Map<String, Value>> = parts.iter().map(|part| std::ptr::from_ref(*part)).collect();
        if let Some(known) = self.known.get_mut(&place) {
            known.told = true;
            return known.id;
        }
        if depth > SCHEMA_DEPTH_MAX || self.types.nodes.len() >= SCHEMA_NODES_MAX {
            return super::UNTYPED;
        }
        self.types.nodes.push(TypeNode::default());
        let id = self.types.nodes.len() - 1;
        // Known before it is complete, so that it may hold itself further down.
        self.known.insert(place.clone(), Known { id, told: false });
        let node = self.node(&parts, depth);
        match self.alike.entry(node) {
            // Nobody was told of the node yet, so that another one can stand for it.
            Entry::Occupied(same) if self.known.get(&place).is_some_and(|known| !known.told) => {
                if id + 1 == self.types.nodes.len() {
                    self.types.nodes.pop();
                }
                self.known.insert(place, Known { id: *same.get(), told: true });
                *same.get()
            }
            Entry::Occupied(same) => {
                self.types.nodes[id] = same.key().clone();
                id
            }
            Entry::Vacant(vacant) => {
                self.types.nodes[id] = vacant.key().clone();
                *vacant.insert(id)
            }
        }
    }

    fn node(&mut self, parts: &[&'a Map<String, Value>], depth: usize) -> TypeNode {
        let first = |keyword: &str| parts.iter().find_map(|part| part.get(keyword));
        let mut properties: Vec<(&'a str, Vec<&'a Value>)> = Vec::new();
        let mut values = Vec::new();
        let mut items = Vec::new();
        for part in parts {
            for (name, schema) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
                match properties.binary_search_by(|(other, _)| (*other).cmp(name)) {
                    Ok(place) => properties[place].1.push(schema),
                    Err(place) => properties.insert(place, (name, vec![schema])),
                }
            }
            values.extend(part.get("additionalProperties").filter(|schema| schema.is_object()));
            items.extend(part.get("items").filter(|schema| schema.is_object()));
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
        let schemas: Vec<&Value> = properties.iter().filter_map(|part| part.get("properties")?.get(name)).collect();
        let default = self.parts(&schemas).iter().find_map(|part| part.get("default").cloned());
        ListKey { name: name.into(), default }
    }

    /// The schemas, with those they refer to and are combined of, the nearest first.
    fn parts(&self, schemas: &[&'a Value]) -> Vec<&'a Map<String, Value>> {
        let mut open: Vec<&'a Value> = schemas.iter().rev().copied().collect();
        let mut parts: Vec<&'a Map<String, Value>> = Vec::new();
        let mut seen: Vec<&'a str> = Vec::new();
        while let Some(schema) = open.pop() {
            let Some(fields) = schema.as_object() else { continue };
            for keyword in ["oneOf", "anyOf", "allOf"] {
                let combined = fields.get(keyword).and_then(Value::as_array).into_iter().flatten();
                open.extend(combined.rev());
            }
            let says_something = STRUCTURAL.iter().any(|keyword| fields.contains_key(*keyword));
            if let Some(pointer) = fields.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'))
                && !seen.contains(&pointer)
                && let Some(target) = self.document.pointer(pointer)
            {
                seen.push(pointer);
                open.push(target);
            }
            if says_something {
                parts.push(fields);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schema_that_holds_itself_in_many_ways_takes_little() {
        // As JSONSchemaProps does: each field is itself or something else.
        let itself = json!({"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "object", "additionalProperties": {"$ref": "#/$defs/Tree"}}]});
        let fields: Map<String, Value> = ('a'..='j').map(|name| (name.to_string(), itself.clone())).collect();
        let schema = json!({"properties": {"spec": {"$ref": "#/$defs/Tree"}}, "$defs": {"Tree": {"properties": fields}}});
        let metadata_alone = FieldTypes::compile(&json!({})).nodes.len();
        let types = FieldTypes::compile(&schema);
        assert!(types.nodes.len() < metadata_alone + 50, "{}", types.nodes.len());
        assert!(types.root().field("spec").field("a").field("j").field("b").declares("c"));
    }
}
