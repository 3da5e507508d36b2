//! Validation rules (`x-kubernetes-validations`): compiled with the schema, run on objects that
//! the schema accepts.
//!
//! Rules and their messages are what Kubernetes documents at
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>.
//! A rule that reads `oldSelf` is about a change: it runs when there is an old value to compare
//! with, which list items have only where keys tell them apart. A rule that a value broke already,
//! and that is not about a change, is not held against an update that leaves the value as it was.

mod compile;
mod declare;

use std::collections::HashMap;

use fermion_cel::{EvalError, Program, Typed, Value as CelValue};
use serde_json::{Map, Value};

use super::{Additional, ERRORS_MAX, FieldError, Node, NodeId, OBJECT_DEPTH_MAX, Problem, Validator};
use crate::field_path::FieldPath;

pub(crate) use compile::{compile, cost_of, factor};
pub(crate) use declare::{items_max, properties_max};

/// What all rules of one request may cost together, as in Kubernetes.
const COST_PER_REQUEST_MAX: u64 = 10_000_000;

/// The rules of one subschema.
#[derive(Debug)]
pub(crate) struct Rules {
    typed: Typed,
    /// For messages: `object`, `string`.
    type_name: &'static str,
    each: Vec<Rule>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    source: String,
    program: Program,
    message: Option<String>,
    message_program: Option<Program>,
    /// The reason of the cause: `FieldValueInvalid` and its like.
    reason: &'static str,
    /// Fields from the rule's place to the one that is wrong.
    field: Vec<String>,
    /// Whether it is about a change.
    reads_old: bool,
    /// Whether it runs without an old value, too.
    old_is_optional: bool,
}

impl Rule {
    /// What a message says when it has to name the rule.
    fn named(&self) -> &str {
        self.message.as_deref().unwrap_or_else(|| self.source.trim())
    }
}

pub(super) fn check(validator: &Validator, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if !validator.node(validator.root).has_rules {
        return Vec::new();
    }
    let mut walk = Walk { validator, path: FieldPath::default(), errors: Vec::new(), budget: COST_PER_REQUEST_MAX, is_over: false };
    walk.value(validator.root, object, old, 0);
    walk.errors
}

struct Walk<'a> {
    validator: &'a Validator,
    path: FieldPath,
    errors: Vec<FieldError>,
    budget: u64,
    is_over: bool,
}

impl<'a> Walk<'a> {
    fn value(&mut self, id: NodeId, value: &'a Value, old: Option<&'a Value>, depth: usize) {
        let node = self.validator.node(id);
        if !node.has_rules || value.is_null() || depth > OBJECT_DEPTH_MAX || self.is_over || self.errors.len() >= ERRORS_MAX {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        if let Some(rules) = &node.rules {
            for rule in &rules.each {
                self.rule(rules, rule, value, old);
                if self.is_over {
                    return;
                }
            }
        }
        match value {
            Value::Object(fields) => self.fields(node, fields, old.and_then(Value::as_object), depth),
            Value::Array(items) => self.items(node, items, old.and_then(Value::as_array), depth),
            _ => {}
        }
        for part in &node.all_of {
            self.value(*part, value, old, depth + 1);
        }
    }

    fn fields(&mut self, node: &'a Node, fields: &'a Map<String, Value>, old: Option<&'a Map<String, Value>>, depth: usize) {
        for (name, field) in fields {
            let child = match (node.properties.get(name.as_str()), node.additional) {
                (Some(child), _) => *child,
                (None, Additional::Schema(child)) => child,
                _ => continue,
            };
            let mark = self.path.push_field(name);
            self.value(child, field, old.and_then(|old| old.get(name)), depth + 1);
            self.path.truncate(mark);
        }
    }

    fn items(&mut self, node: &'a Node, items: &'a [Value], old: Option<&'a Vec<Value>>, depth: usize) {
        let Some(child) = node.items else { return };
        let keys = &node.count.map_keys;
        let key_of =
            |item: &Value| -> String { keys.iter().map(|key| item.get(key.as_ref()).unwrap_or(&Value::Null).to_string() + ",").collect() };
        // Without keys nothing says which old item an item was.
        let known: HashMap<String, &'a Value> = match old {
            Some(old) if !keys.is_empty() => old.iter().map(|item| (key_of(item), item)).collect(),
            _ => HashMap::new(),
        };
        for (index, item) in items.iter().enumerate() {
            let before = if known.is_empty() { None } else { known.get(&key_of(item)).copied() };
            let mark = self.path.push_index(index);
            self.value(child, item, before, depth + 1);
            self.path.truncate(mark);
        }
    }

    fn rule(&mut self, rules: &'a Rules, rule: &'a Rule, value: &'a Value, old: Option<&'a Value>) {
        let current = CelValue::of(value, &rules.typed.ty);
        let mut variables = vec![("self", current)];
        if rule.reads_old {
            let before = old.map(|old| CelValue::of(old, &rules.typed.ty));
            match (before, rule.old_is_optional) {
                (None, false) => return,
                (Some(before), false) => variables.push(("oldSelf", before)),
                (before, true) => variables.push(("oldSelf", CelValue::Optional(before.map(std::sync::Arc::new)))),
            }
        }
        let outcome = rule.program.run(&variables, &mut self.budget);
        if matches!(outcome, Ok(CelValue::Bool(true))) {
            return;
        }
        let is_over = matches!(outcome, Err(EvalError::Budget));
        if !rule.reads_old && !is_over && old == Some(value) {
            return;
        }
        let detail = match outcome {
            Ok(_) => {
                let made = rule.message_program.as_ref().and_then(|program| self.message(program, &variables));
                return self.push(
                    rules,
                    rule,
                    made.or_else(|| rule.message.clone()).unwrap_or_else(|| format!("failed rule: {}", rule.source.trim())),
                );
            }
            Err(EvalError::Budget) => {
                self.is_over = true;
                format!(
                    "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    EvalError::Budget,
                    rule.named()
                )
            }
            Err(error @ EvalError::Overload) => format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                rule.named()
            ),
            Err(error) => format!("{error} evaluating rule: {}", rule.named()),
        };
        self.push(rules, rule, detail);
    }

    /// A message that is made from the value; none if it cannot be, and the fixed one is told.
    fn message(&mut self, program: &'a Program, variables: &[(&'a str, CelValue<'a>)]) -> Option<String> {
        /// As in Kubernetes.
        const MESSAGE_CHARACTERS_MAX: usize = 5 * 1024;
        let made = program.run(variables, &mut self.budget).ok()?;
        let text = made.as_text()?.trim();
        (!text.is_empty() && !text.contains(['\n', '\r']) && text.len() <= MESSAGE_CHARACTERS_MAX).then(|| text.to_owned())
    }

    fn push(&mut self, rules: &Rules, rule: &Rule, message: String) {
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        let mark = self.path.mark();
        for field in &rule.field {
            self.path.push_field(field);
        }
        let path = self.path.to_string();
        self.path.truncate(mark);
        let detail = match rule.reason {
            "FieldValueForbidden" => format!("Forbidden: {message}"),
            "FieldValueRequired" => format!("Required value: {message}"),
            "FieldValueDuplicate" => format!("Duplicate value: \"{}\"", rules.type_name),
            _ => format!("Invalid value: \"{}\": {message}", rules.type_name),
        };
        self.errors.push(FieldError { path, problem: Problem::Rule(rule.reason), detail });
    }
}

/// Notes at every node whether there are rules at it or below.
pub(super) fn mark(nodes: &mut [Node]) {
    for node in nodes.iter_mut() {
        node.has_rules = node.rules.is_some();
    }
    if !nodes.iter().any(|node| node.has_rules) {
        return;
    }
    // References may lead up, so this goes on until nothing changes.
    loop {
        let above: Vec<NodeId> = (0..nodes.len())
            .filter(|id| {
                let node = &nodes[*id];
                let additional = if let Additional::Schema(child) = node.additional { Some(child) } else { None };
                let mut children = node.properties.values().copied().chain(node.items).chain(additional).chain(node.all_of.iter().copied());
                !node.has_rules && children.any(|child| nodes[child].has_rules)
            })
            .collect();
        if above.is_empty() {
            return;
        }
        for id in above {
            nodes[id].has_rules = true;
        }
    }
}
