//! From a schema document to a [`Validator`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::format::{IntegerFormat, TextFormat};
use super::{
    Additional, Bound, CountRules, IntOrString, JsonType, Node, NodeId, NumberRules, PATTERN_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_NODES_MAX,
    SchemaError, TextRules, Validator, core_kinds, rules,
};

/// Keywords that restrict objects and are not implemented.
const UNSUPPORTED: [&str; 12] = [
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords beside a `$ref` that only describe.
const ANNOTATIONS: [&str; 7] = ["description", "title", "deprecated", "readOnly", "writeOnly", "examples", "example"];

/// Fields that are quantities in Kubernetes' own types. Where a schema is inlined into another
/// kind's, the field's description replaces the type's, and nothing else tells a quantity.
const QUANTITY_FIELDS: [&str; 2] = ["divisor", "sizeLimit"];

/// How the descriptions of Kubernetes' own types begin that need more than their schema says.
const QUANTITY_DESCRIPTION: &str = "Quantity is a fixed-point representation of a number";
const INT_OR_STRING_DESCRIPTION: &str = "IntOrString is a type that can hold an int32 or a string";
const FIELDS_DESCRIPTION: &str = "FieldsV1 stores a set of fields";

static OBJECT_META: LazyLock<Value> = LazyLock::new(core_kinds::for_core::<ObjectMeta>);

/// What is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The schema of whole objects.
    Object,
    /// The same without its rules: to tell whether the rest of it is in order.
    ObjectWithoutRules,
    /// The schema of a value inside of objects.
    Value,
}

pub(super) fn compile(schema: &Value, extent: Extent) -> Result<Validator, SchemaError> {
    let mut compiler =
        Compiler { document: schema, nodes: Vec::new(), references: HashMap::new(), alike: HashMap::new(), metadata: None, extent };
    let mut root = compiler.schema(schema, &Place::root())?;
    if extent != Extent::Value {
        // The root may be shared with a definition that refers to it, which is no whole object.
        root = compiler.resource(root)?;
    }
    compiler.link();
    let mut nodes = compiler.nodes;
    nodes.shrink_to_fit();
    Ok(Validator { nodes, root })
}

/// Where in the document the compiler is.
struct Place<'a> {
    path: String,
    depth: usize,
    /// The property whose schema this is.
    property: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn root() -> Self {
        Self { path: "#".to_owned(), depth: 0, property: None }
    }

    fn child(&self, keyword: &str) -> Place<'static> {
        Place { path: format!("{}/{keyword}", self.path), depth: self.depth + 1, property: None }
    }

    fn property(&self, name: &'a str) -> Place<'a> {
        Place { path: format!("{}/properties/{name}", self.path), depth: self.depth + 1, property: Some(name) }
    }

    fn malformed(&self, keyword: &str, detail: impl Into<String>) -> SchemaError {
        SchemaError::Malformed { path: self.path.clone(), keyword: keyword.to_owned(), detail: detail.into() }
    }
}

struct Compiler<'a> {
    document: &'a Value,
    nodes: Vec<Node>,
    references: HashMap<String, NodeId>,
    /// Nodes that others can share, by what they say.
    alike: HashMap<Shape, NodeId>,
    /// The node of `metadata`, once needed.
    metadata: Option<NodeId>,
    extent: Extent,
}

impl Compiler<'_> {
    fn reserve(&mut self, place: &Place<'_>) -> Result<NodeId, SchemaError> {
        if place.depth > SCHEMA_DEPTH_MAX || self.nodes.len() >= SCHEMA_NODES_MAX {
            return Err(SchemaError::TooLarge { path: place.path.clone() });
        }
        self.nodes.push(Node::default());
        Ok(self.nodes.len() - 1)
    }

    fn schema(&mut self, schema: &Value, place: &Place<'_>) -> Result<NodeId, SchemaError> {
        match schema {
            Value::Bool(accepts) => {
                let id = self.reserve(place)?;
                self.nodes[id].additional = Additional::Anything;
                if !accepts {
                    let anything = self.schema(&Value::Bool(true), place)?;
                    self.nodes[id].not = Some(anything);
                }
                Ok(id)
            }
            Value::Object(schema) => {
                if let Some(reference) = schema.get("$ref") {
                    return self.reference(schema, reference, place);
                }
                let id = self.reserve(place)?;
                let node = self.keywords(schema, place)?;
                if schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
                    self.nodes[id] = node;
                    return self.resource(id);
                }
                // The root is made that of a whole object.
                Ok(if place.depth == 0 { self.keep(id, node) } else { self.share(id, node) })
            }
            _ => Err(place.malformed("(schema)", "expected an object or a boolean")),
        }
    }

    fn keep(&mut self, id: NodeId, node: Node) -> NodeId {
        self.nodes[id] = node;
        id
    }

    /// Takes a node that was there before if it says the same: schemas hold the same parts again
    /// and again, such as a text, or all of a probe, and with its parts taken as well each is kept once.
    fn share(&mut self, id: NodeId, node: Node) -> NodeId {
        let Some(shape) = Shape::of(&node) else { return self.keep(id, node) };
        match self.alike.entry(shape) {
            Entry::Occupied(known) => {
                // Of a node whose parts were all known nothing is left.
                if id + 1 == self.nodes.len() {
                    self.nodes.pop();
                }
                *known.get()
            }
            Entry::Vacant(vacant) => {
                vacant.insert(id);
                self.keep(id, node)
            }
        }
    }

    fn reference(&mut self, schema: &Map<String, Value>, reference: &Value, place: &Place<'_>) -> Result<NodeId, SchemaError> {
        let pointer = reference
            .as_str()
            .and_then(|reference| reference.strip_prefix('#'))
            .ok_or_else(|| place.malformed("$ref", "only references inside the document work"))?;
        let target = self.target(pointer, place)?;
        let only_describes = schema.keys().all(|keyword| keyword == "$ref" || ANNOTATIONS.contains(&keyword.as_str()));
        if only_describes {
            return Ok(target);
        }
        let id = self.reserve(place)?;
        let rest: Map<String, Value> =
            schema.iter().filter(|(keyword, _)| *keyword != "$ref").map(|(keyword, value)| (keyword.clone(), value.clone())).collect();
        let mut node = self.keywords(&rest, place)?;
        node.all_of.push(target);
        self.nodes[id] = node;
        Ok(id)
    }

    /// The node of the definition at a pointer, compiled once.
    fn target(&mut self, pointer: &str, place: &Place<'_>) -> Result<NodeId, SchemaError> {
        if let Some(id) = self.references.get(pointer) {
            return Ok(*id);
        }
        let document = self.document;
        let schema = document.pointer(pointer).ok_or_else(|| place.malformed("$ref", format!("nothing is at {pointer:?}")))?;
        // Known before it is complete, so that it may refer to itself further down.
        let id = self.reserve(place)?;
        self.references.insert(pointer.to_owned(), id);
        let inside = Place { path: format!("#{pointer}"), depth: place.depth + 1, property: None };
        let real = self.schema(schema, &inside)?;
        self.nodes[id].all_of = vec![real];
        if self.refers(real, id) {
            return Err(place.malformed("$ref", format!("{pointer:?} refers to itself")));
        }
        self.references.insert(pointer.to_owned(), real);
        Ok(real)
    }

    /// Whether a value at `from` is checked by `to` without going down into it: a loop.
    fn refers(&self, from: NodeId, to: NodeId) -> bool {
        let mut open = vec![from];
        let mut seen = HashSet::new();
        while let Some(id) = open.pop() {
            if id == to {
                return true;
            }
            if seen.insert(id) {
                let node = &self.nodes[id];
                open.extend(node.all_of.iter().chain(&node.any_of).chain(&node.one_of));
                open.extend(node.not);
            }
        }
        false
    }

    fn keywords(&mut self, schema: &Map<String, Value>, place: &Place<'_>) -> Result<Node, SchemaError> {
        let mut node = Node::default();
        let mut exclusive = (false, false);
        for (keyword, value) in schema {
            match keyword.as_str() {
                "type" => types(&mut node, value, place)?,
                "nullable" => node.nullable |= boolean(keyword, value, place)?,
                "properties" => {
                    for (name, schema) in map(keyword, value, place)? {
                        let child = self.schema(schema, &place.property(name))?;
                        node.properties.insert(name.as_str().into(), child);
                    }
                }
                "required" => {
                    node.required = texts(keyword, value, place)?;
                }
                "additionalProperties" => {
                    node.additional = match value {
                        Value::Bool(true) => Additional::Anything,
                        Value::Bool(false) => Additional::Forbidden,
                        schema => Additional::Schema(self.schema(schema, &place.child(keyword))?),
                    };
                }
                "items" => node.items = Some(self.schema(value, &place.child(keyword))?),
                "enum" => match value {
                    Value::Array(values) => node.allowed_values = Some(values.clone()),
                    _ => return Err(place.malformed(keyword, "expected a list")),
                },
                "const" => node.allowed_values = Some(vec![value.clone()]),
                "minLength" => node.text.length_min = Some(count(keyword, value, place)?),
                "maxLength" => node.text.length_max = Some(count(keyword, value, place)?),
                "pattern" => node.text.pattern = Some(pattern(value, place)?),
                "minimum" => {
                    let value = number(keyword, value, place)?;
                    node.number.minimum = Some(Bound { value, exclusive: false });
                }
                "maximum" => {
                    let value = number(keyword, value, place)?;
                    node.number.maximum = Some(Bound { value, exclusive: false });
                }
                "exclusiveMinimum" => {
                    if let Value::Bool(flag) = value {
                        exclusive.0 = *flag;
                    } else {
                        let value = number(keyword, value, place)?;
                        node.number.minimum = Some(Bound { value, exclusive: true });
                    }
                }
                "exclusiveMaximum" => {
                    if let Value::Bool(flag) = value {
                        exclusive.1 = *flag;
                    } else {
                        let value = number(keyword, value, place)?;
                        node.number.maximum = Some(Bound { value, exclusive: true });
                    }
                }
                "multipleOf" => {
                    let value = number(keyword, value, place)?;
                    if value <= 0.0 {
                        return Err(place.malformed(keyword, "expected a positive number"));
                    }
                    node.number.multiple_of = Some(value);
                }
                "minItems" => node.count.items_min = Some(count(keyword, value, place)?),
                "maxItems" => node.count.items_max = Some(count(keyword, value, place)?),
                "uniqueItems" => node.count.unique_items |= boolean(keyword, value, place)?,
                "minProperties" => node.count.properties_min = Some(count(keyword, value, place)?),
                "maxProperties" => node.count.properties_max = Some(count(keyword, value, place)?),
                "allOf" => node.all_of = self.list(keyword, value, place)?,
                "anyOf" => node.any_of = self.list(keyword, value, place)?,
                "oneOf" => node.one_of = self.list(keyword, value, place)?,
                "not" => node.not = Some(self.schema(value, &place.child(keyword))?),
                "default" => node.default = Some(value.clone()),
                "format" => {
                    let name = value.as_str().unwrap_or_default();
                    node.text.format = TextFormat::parse(name);
                    node.number.format = IntegerFormat::parse(name);
                }
                "x-kubernetes-int-or-string" if boolean(keyword, value, place)? => {
                    node.int_or_string = Some(int_or_string(schema, place));
                }
                "x-kubernetes-list-type" if value == "set" => node.count.unique_items = true,
                "x-kubernetes-list-map-keys" => {
                    node.count.map_keys = texts(keyword, value, place)?;
                }
                "x-kubernetes-validations" if self.extent == Extent::ObjectWithoutRules => {}
                "x-kubernetes-validations" => {
                    let is_root = place.depth == 0 && self.extent == Extent::Object;
                    let compiled = rules::compile(schema, is_root || schema.get("x-kubernetes-embedded-resource").is_some());
                    node.rules = compiled.map_err(|mistakes| {
                        let told: Vec<String> =
                            mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.path, mistake.message)).collect();
                        place.malformed(keyword, told.join("; "))
                    })?;
                }
                unsupported if UNSUPPORTED.contains(&unsupported) => {
                    return Err(SchemaError::Unsupported { path: place.path.clone(), keyword: keyword.clone() });
                }
                // Notes for people and for other tools.
                _ => {}
            }
        }
        if let (true, Some(bound)) = (exclusive.0, &mut node.number.minimum) {
            bound.exclusive = true;
        }
        if let (true, Some(bound)) = (exclusive.1, &mut node.number.maximum) {
            bound.exclusive = true;
        }
        let preserves = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if (preserves || describes(schema, FIELDS_DESCRIPTION)) && !matches!(node.additional, Additional::Schema(_)) {
            node.additional = Additional::Anything;
        }
        Ok(node)
    }

    fn list(&mut self, keyword: &str, value: &Value, place: &Place<'_>) -> Result<Vec<NodeId>, SchemaError> {
        let Value::Array(schemas) = value else {
            return Err(place.malformed(keyword, "expected a list of schemas"));
        };
        let place = place.child(keyword);
        schemas.iter().map(|schema| self.schema(schema, &place)).collect()
    }

    /// Makes the node one of a whole object, which has a type and metadata besides its own fields.
    fn resource(&mut self, id: NodeId) -> Result<NodeId, SchemaError> {
        let text = self.reserve(&Place::root())?;
        self.nodes[text].types = vec![JsonType::String];
        for property in ["apiVersion", "kind"] {
            self.nodes[id].properties.entry(property.into()).or_insert(text);
        }
        if self.nodes[id].types.is_empty() {
            self.nodes[id].types = vec![JsonType::Object];
        }
        let declared = self.nodes[id].properties.get("metadata").copied();
        let says_enough = declared.is_some_and(|metadata| {
            let node = &self.nodes[metadata];
            !node.properties.is_empty() || !node.all_of.is_empty()
        });
        if !says_enough {
            let metadata = self.metadata()?;
            self.nodes[id].properties.insert("metadata".into(), metadata);
        }
        Ok(id)
    }

    fn metadata(&mut self) -> Result<NodeId, SchemaError> {
        if let Some(id) = self.metadata {
            return Ok(id);
        }
        let mut inner = Compiler {
            document: &OBJECT_META,
            nodes: std::mem::take(&mut self.nodes),
            references: HashMap::new(),
            alike: HashMap::new(),
            metadata: None,
            extent: self.extent,
        };
        let compiled = inner.schema(&OBJECT_META, &Place::root());
        self.nodes = inner.nodes;
        let id = compiled?;
        self.metadata = Some(id);
        Ok(id)
    }

    /// A schema that says nothing accepts everything, unless it is a part of another one that says
    /// which fields there are.
    fn open_what_says_nothing(&mut self) {
        let parts: HashSet<NodeId> = self.nodes.iter().flat_map(|node| combined(node).chain(node.not)).collect();
        for (id, node) in self.nodes.iter_mut().enumerate() {
            let says_nothing = node.types.is_empty()
                && node.properties.is_empty()
                && node.additional == Additional::Unknown
                && combined(node).next().is_none();
            if says_nothing && !parts.contains(&id) {
                node.additional = Additional::Anything;
            }
        }
    }

    /// Fills in what depends on other nodes, when all are there.
    fn link(&mut self) {
        self.open_what_says_nothing();
        rules::mark(&mut self.nodes);
        for id in 0..self.nodes.len() {
            if accepts_null(&self.nodes, id, 0) {
                self.nodes[id].nullable = true;
            }
            let mut defaults: Vec<(Box<str>, Value)> = self.nodes[id]
                .properties
                .iter()
                .filter_map(|(name, child)| self.nodes[*child].default.clone().map(|default| (name.clone(), default)))
                .collect();
            defaults.sort_by(|(one, _), (two, _)| one.cmp(two));
            self.nodes[id].property_defaults = defaults;

            let mut open: Vec<NodeId> = combined(&self.nodes[id]).collect();
            let mut seen = HashSet::from([id]);
            while let Some(part) = open.pop() {
                if !seen.insert(part) {
                    continue;
                }
                open.extend(combined(&self.nodes[part]));
                let names: Vec<Box<str>> = self.nodes[part].properties.keys().cloned().collect();
                let is_open = matches!(self.nodes[part].additional, Additional::Anything | Additional::Schema(_));
                let node = &mut self.nodes[id];
                node.declared_in_combined.extend(names);
                node.combined_is_open |= is_open;
            }
        }
    }
}

/// What a node says, if that is little enough to be compared.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    types: Vec<JsonType>,
    nullable: bool,
    int_or_string: Option<IntOrString>,
    properties: Vec<(Box<str>, NodeId)>,
    required: Vec<Box<str>>,
    additional: Additional,
    items: Option<NodeId>,
    text_format: Option<TextFormat>,
    integer_format: Option<IntegerFormat>,
    map_keys: Vec<Box<str>>,
    combined: [Vec<NodeId>; 3],
}

impl Shape {
    fn of(node: &Node) -> Option<Self> {
        // Every field is named, so that a new one cannot be forgotten.
        let Node {
            types,
            nullable,
            int_or_string,
            properties,
            required,
            additional,
            items,
            allowed_values: None,
            text: TextRules { length_min: None, length_max: None, pattern: None, format: text_format },
            number: NumberRules { minimum: None, maximum: None, multiple_of: None, format: integer_format },
            count:
                CountRules { items_min: None, items_max: None, unique_items: false, properties_min: None, properties_max: None, map_keys },
            all_of,
            any_of,
            one_of,
            not: None,
            default: None,
            property_defaults: _,
            declared_in_combined: _,
            combined_is_open: _,
            rules: None,
            has_rules: _,
        } = node
        else {
            return None;
        };
        let mut properties: Vec<_> = properties.iter().map(|(name, id)| (name.clone(), *id)).collect();
        properties.sort_unstable();
        Some(Self {
            types: types.clone(),
            nullable: *nullable,
            int_or_string: *int_or_string,
            properties,
            required: required.clone(),
            additional: *additional,
            items: *items,
            text_format: *text_format,
            integer_format: *integer_format,
            map_keys: map_keys.clone(),
            combined: [all_of.clone(), any_of.clone(), one_of.clone()],
        })
    }
}

/// The schemas that a value at the node must fit as well, or may fit.
fn combined(node: &Node) -> impl Iterator<Item = NodeId> + '_ {
    node.all_of.iter().chain(&node.any_of).chain(&node.one_of).copied()
}

/// Whether null is a value of its own here, and not another way to say "unset".
fn accepts_null(nodes: &[Node], id: NodeId, depth: usize) -> bool {
    let node = &nodes[id];
    if node.nullable || depth > SCHEMA_DEPTH_MAX {
        return node.nullable;
    }
    if !node.types.is_empty() {
        return node.types.contains(&JsonType::Null);
    }
    let accepts = |id: &NodeId| accepts_null(nodes, *id, depth + 1);
    let has_parts = combined(node).next().is_some();
    if !has_parts {
        return node.int_or_string.is_none() && node.allowed_values.is_none() && node.not.is_none();
    }
    node.all_of.iter().all(accepts)
        && (node.any_of.is_empty() || node.any_of.iter().any(accepts))
        && (node.one_of.is_empty() || node.one_of.iter().any(accepts))
}

fn describes(schema: &Map<String, Value>, beginning: &str) -> bool {
    schema.get("description").and_then(Value::as_str).is_some_and(|description| description.starts_with(beginning))
}

fn int_or_string(schema: &Map<String, Value>, place: &Place<'_>) -> IntOrString {
    let format = schema.get("format").and_then(Value::as_str);
    let quantity_field = place.property.is_some_and(|name| QUANTITY_FIELDS.contains(&name));
    if format == Some("quantity") || quantity_field || describes(schema, QUANTITY_DESCRIPTION) {
        IntOrString::Quantity
    } else if format == Some("int-or-string") || describes(schema, INT_OR_STRING_DESCRIPTION) {
        IntOrString::PortOrPercent
    } else {
        IntOrString::Any
    }
}

fn types(node: &mut Node, value: &Value, place: &Place<'_>) -> Result<(), SchemaError> {
    let one = std::slice::from_ref(value);
    let names = value.as_array().map_or(one, Vec::as_slice);
    for name in names {
        let parsed = name.as_str().and_then(JsonType::parse).ok_or_else(|| place.malformed("type", format!("{name} is no type")))?;
        if parsed == JsonType::Null && names.len() > 1 {
            node.nullable = true;
        } else {
            node.types.push(parsed);
        }
    }
    Ok(())
}

fn pattern(value: &Value, place: &Place<'_>) -> Result<regex::Regex, SchemaError> {
    let text = value.as_str().ok_or_else(|| place.malformed("pattern", "expected a text"))?;
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| place.malformed("pattern", error.to_string()))
}

fn boolean(keyword: &str, value: &Value, place: &Place<'_>) -> Result<bool, SchemaError> {
    value.as_bool().ok_or_else(|| place.malformed(keyword, "expected true or false"))
}

fn number(keyword: &str, value: &Value, place: &Place<'_>) -> Result<f64, SchemaError> {
    value.as_f64().ok_or_else(|| place.malformed(keyword, "expected a number"))
}

fn count(keyword: &str, value: &Value, place: &Place<'_>) -> Result<u64, SchemaError> {
    value.as_u64().ok_or_else(|| place.malformed(keyword, "expected a count"))
}

fn map<'v>(keyword: &str, value: &'v Value, place: &Place<'_>) -> Result<&'v Map<String, Value>, SchemaError> {
    value.as_object().ok_or_else(|| place.malformed(keyword, "expected an object"))
}

fn texts(keyword: &str, value: &Value, place: &Place<'_>) -> Result<Vec<Box<str>>, SchemaError> {
    value
        .as_array()
        .and_then(|names| names.iter().map(|name| name.as_str().map(Box::from)).collect())
        .ok_or_else(|| place.malformed(keyword, "expected a list of names"))
}
