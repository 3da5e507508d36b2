//! Defaults and pruning.

use serde_json::{Map, Value};

use super::{Additional, ERRORS_MAX, IntOrString, NodeId, OBJECT_DEPTH_MAX, Validator};
use crate::field_path::FieldPath;

pub(super) fn default(validator: &Validator, object: &mut Value) {
    fill(validator, validator.root, object, 0);
}

fn fill(validator: &Validator, id: NodeId, value: &mut Value, depth: usize) {
    if depth > OBJECT_DEPTH_MAX {
        return;
    }
    let node = validator.node(id);
    match value {
        Value::Object(fields) => {
            let child_of = |name: &str| match (node.properties.get(name), node.additional) {
                (Some(child), _) => Some(*child),
                (None, Additional::Schema(child)) => Some(child),
                (None, _) => None,
            };
            fields.retain(|name, field| !field.is_null() || child_of(name).is_none_or(|child| validator.node(child).nullable));
            for (name, default) in &node.property_defaults {
                if !fields.contains_key(name.as_ref()) {
                    fields.insert(name.to_string(), default.clone());
                }
            }
            for (name, field) in fields.iter_mut() {
                if let Some(child) = child_of(name) {
                    fill(validator, child, field, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = node.items {
                for item in items {
                    fill(validator, child, item, depth + 1);
                }
            }
        }
        // A quantity written as a number is stored as the text it stands for, as in Kubernetes.
        Value::Number(number) if node.int_or_string == Some(IntOrString::Quantity) => {
            *value = Value::String(number.to_string());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    for part in &node.all_of {
        fill(validator, *part, value, depth + 1);
    }
}

pub(super) fn prune(validator: &Validator, object: &mut Value) -> Vec<String> {
    let mut prune = Prune { validator, path: FieldPath::default(), removed: Vec::new() };
    prune.value(&[validator.root], object, 0);
    prune.removed
}

struct Prune<'a> {
    validator: &'a Validator,
    path: FieldPath,
    removed: Vec<String>,
}

impl Prune<'_> {
    /// Prunes a value that several nodes describe together: a field is known if one knows it.
    fn value(&mut self, nodes: &[NodeId], value: &mut Value, depth: usize) {
        if depth > OBJECT_DEPTH_MAX {
            return;
        }
        let nodes = self.with_parts(nodes);
        match value {
            Value::Object(fields) => self.object(&nodes, fields, depth),
            Value::Array(items) => {
                let children: Vec<NodeId> = nodes.iter().filter_map(|id| self.validator.node(*id).items).collect();
                if children.is_empty() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    let mark = self.path.push_index(index);
                    self.value(&children, item, depth + 1);
                    self.path.truncate(mark);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn object(&mut self, nodes: &[NodeId], fields: &mut Map<String, Value>, depth: usize) {
        let mut unknown = Vec::new();
        for (name, field) in fields.iter_mut() {
            let mut children = Vec::new();
            let mut is_known = false;
            for id in nodes {
                let node = self.validator.node(*id);
                match (node.properties.get(name.as_str()), node.additional) {
                    (Some(child), _) => children.push(*child),
                    (None, Additional::Schema(child)) => children.push(child),
                    (None, Additional::Anything) => is_known = true,
                    (None, Additional::Unknown | Additional::Forbidden) => {}
                }
            }
            if !children.is_empty() {
                let mark = self.path.push_field(name);
                self.value(&children, field, depth + 1);
                self.path.truncate(mark);
            } else if !is_known {
                unknown.push(name.clone());
            }
        }
        for name in unknown {
            fields.remove(&name);
            if self.removed.len() < ERRORS_MAX {
                self.removed.push(self.path.with_field(&name));
            }
        }
    }

    fn with_parts(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let mut all = nodes.to_vec();
        let mut next = 0;
        while let Some(id) = all.get(next).copied() {
            let node = self.validator.node(id);
            for part in node.all_of.iter().chain(&node.any_of).chain(&node.one_of) {
                if !all.contains(part) {
                    all.push(*part);
                }
            }
            next += 1;
        }
        all
    }
}
