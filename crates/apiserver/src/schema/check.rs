//! Checking an object against a compiled schema.

mod alternatives;

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use super::{Additional, ERRORS_MAX, FieldError, IntOrString, JsonType, Node, NodeId, OBJECT_DEPTH_MAX, Problem, Validator, format};
use crate::field_path::FieldPath;

/// Values in messages are cut to this many characters.
const SHOWN_CHARACTERS_MAX: usize = 64;

pub(super) fn check(validator: &Validator, object: &Value) -> Vec<FieldError> {
    let mut check = Check { validator, path: FieldPath::default(), errors: Vec::new(), depth: 0 };
    check.value(validator.root, object, Strictness::Closed);
    check.errors
}

/// Whether a node alone decides which fields are known. The parts of an `allOf`, `anyOf` or `oneOf`
/// each know a share of the fields; the node they belong to knows them all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Closed,
    Part,
}

struct Check<'a> {
    validator: &'a Validator,
    path: FieldPath,
    errors: Vec<FieldError>,
    /// Nodes between the root and the current one.
    depth: usize,
}

impl<'a> Check<'a> {
    fn push(&mut self, problem: Problem, detail: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            let (path, detail) = (self.path.to_string(), detail.into());
            self.errors.push(FieldError { path, problem, detail });
        }
    }

    fn push_at(&mut self, field: &str, problem: Problem, detail: impl Into<String>) {
        let mark = self.path.push_field(field);
        self.push(problem, detail);
        self.path.truncate(mark);
    }

    fn value(&mut self, id: NodeId, value: &Value, strictness: Strictness) {
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        if self.depth >= OBJECT_DEPTH_MAX {
            let detail = format!("nested more than {OBJECT_DEPTH_MAX} levels deep");
            return self.push(Problem::Depth, detail);
        }
        self.depth += 1;
        self.value_within_depth(self.validator.node(id), value, strictness);
        self.depth -= 1;
    }

    fn value_within_depth(&mut self, node: &'a Node, value: &Value, strictness: Strictness) {
        if value.is_null() && node.nullable {
            return;
        }
        if let Some(kind) = node.int_or_string {
            return self.int_or_string(kind, value);
        }
        let found = JsonType::of(value);
        if !node.types.is_empty() && !node.types.iter().any(|expected| expected.accepts(found)) {
            let expected = join_types(&node.types);
            return self.push_type(expected, found);
        }
        if let Some(allowed) = &node.allowed_values
            && !allowed.contains(value)
        {
            let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let detail = format!("Unsupported value: {}: supported values: {}", shown(value), allowed.join(", "));
            self.push(Problem::Enum, detail);
        }
        match value {
            Value::String(text) => self.text(node, text),
            Value::Number(number) => self.number(node, number),
            Value::Array(items) => self.list(node, items),
            Value::Object(fields) => self.object(node, fields, strictness),
            Value::Null | Value::Bool(_) => {}
        }
        for part in &node.all_of {
            self.value(*part, value, Strictness::Part);
        }
        self.alternatives(node, value);
    }

    fn push_type(&mut self, expected: String, found: JsonType) {
        let detail = format!("Invalid value: must be of type {expected}, not {found}");
        self.push(Problem::Type { expected, found }, detail);
    }

    fn int_or_string(&mut self, kind: IntOrString, value: &Value) {
        let found = JsonType::of(value);
        match (kind, value) {
            (IntOrString::Quantity, Value::Number(_)) => {}
            (IntOrString::Quantity, Value::String(text)) => {
                if !format::is_quantity(text) {
                    let detail = format!("Invalid value: {}: must be a quantity such as 500m, 2 or 1.5Gi", shown(value));
                    self.push(Problem::Format, detail);
                }
            }
            (IntOrString::PortOrPercent | IntOrString::Any, Value::Number(number)) if !number.is_f64() => {
                if number.as_i64().and_then(|number| i32::try_from(number).ok()).is_none() {
                    let detail = format!("Invalid value: {number}: must fit into 32 bits");
                    self.push(Problem::Range, detail);
                }
            }
            (IntOrString::PortOrPercent, Value::String(text)) => {
                if !format::is_int_or_string(text) {
                    let detail = format!(
                        "Invalid value: {}: must be an integer, a port's name such as http, or a \
                         percentage such as 25%",
                        shown(value)
                    );
                    self.push(Problem::Format, detail);
                }
            }
            (IntOrString::Any, Value::String(_)) => {}
            _ => self.push_type("integer or string".to_owned(), found),
        }
    }

    fn text(&mut self, node: &'a Node, text: &str) {
        let rules = &node.text;
        if rules.length_min.is_some() || rules.length_max.is_some() {
            let length = text.chars().count() as u64;
            if let Some(minimum) = rules.length_min.filter(|minimum| length < *minimum) {
                let detail = format!("Invalid value: must have at least {minimum} characters, has {length}");
                self.push(Problem::Length, detail);
            }
            if let Some(maximum) = rules.length_max.filter(|maximum| length > *maximum) {
                let detail = format!("Too long: may not have more than {maximum} characters, has {length}");
                self.push(Problem::Length, detail);
            }
        }
        if let Some(pattern) = &rules.pattern
            && !pattern.is_match(text)
        {
            let detail = format!("Invalid value: {}: must match '{pattern}'", shown_text(text));
            self.push(Problem::Pattern, detail);
        }
        if let Some(format) = rules.format
            && !format.accepts(text)
        {
            let description = format.description();
            let detail = if format.is_secret() {
                format!("Invalid value: must be {description}")
            } else {
                format!("Invalid value: {}: must be {description}", shown_text(text))
            };
            self.push(Problem::Format, detail);
        }
    }

    fn number(&mut self, node: &'a Node, number: &Number) {
        let rules = &node.number;
        if let Some(format) = rules.format
            && !format.accepts(number)
        {
            let detail = format!("Invalid value: {number}: must be {}", format.description());
            return self.push(Problem::Range, detail);
        }
        let Some(value) = number.as_f64() else { return };
        if let Some(bound) = rules.minimum
            && (value < bound.value || (bound.exclusive && value <= bound.value))
        {
            let than = if bound.exclusive { "greater than" } else { "at least" };
            let detail = format!("Invalid value: {number}: must be {than} {}", bound.value);
            self.push(Problem::Range, detail);
        }
        if let Some(bound) = rules.maximum
            && (value > bound.value || (bound.exclusive && value >= bound.value))
        {
            let than = if bound.exclusive { "less than" } else { "at most" };
            let detail = format!("Invalid value: {number}: must be {than} {}", bound.value);
            self.push(Problem::Range, detail);
        }
        if let Some(factor) = rules.multiple_of {
            let quotient = value / factor;
            // Decimal factors such as 0.1 have no exact binary form.
            if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
                let detail = format!("Invalid value: {number}: must be a multiple of {factor}");
                self.push(Problem::Range, detail);
            }
        }
    }

    fn list(&mut self, node: &'a Node, items: &[Value]) {
        let rules = &node.count;
        self.count(items.len(), rules.items_min, rules.items_max, "items");
        if let Some(child) = node.items {
            for (index, item) in items.iter().enumerate() {
                let mark = self.path.push_index(index);
                self.value(child, item, Strictness::Closed);
                self.path.truncate(mark);
            }
        }
        if rules.unique_items {
            self.duplicates(items, |item| Some(item.to_string()));
        }
        if !rules.map_keys.is_empty() {
            self.duplicates(items, |item| {
                let keys: Option<Vec<String>> = rules.map_keys.iter().map(|key| item.get(key.as_ref()).map(Value::to_string)).collect();
                keys.map(|keys| keys.join(","))
            });
        }
    }

    fn duplicates(&mut self, items: &[Value], key_of: impl Fn(&Value) -> Option<String>) {
        let mut seen = HashSet::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Some(key) = key_of(item) else { continue };
            if !seen.insert(key) {
                let mark = self.path.push_index(index);
                self.push(Problem::Duplicate, "Duplicate value: it stands in the list twice");
                self.path.truncate(mark);
            }
        }
    }

    fn count(&mut self, count: usize, minimum: Option<u64>, maximum: Option<u64>, what: &str) {
        let count = count as u64;
        if let Some(minimum) = minimum.filter(|minimum| count < *minimum) {
            let detail = format!("Invalid value: must have at least {minimum} {what}, has {count}");
            self.push(Problem::Count, detail);
        }
        if let Some(maximum) = maximum.filter(|maximum| count > *maximum) {
            let detail = format!("Too many: must have at most {maximum} {what}, has {count}");
            self.push(Problem::Count, detail);
        }
    }

    fn object(&mut self, node: &'a Node, fields: &Map<String, Value>, strictness: Strictness) {
        for name in &node.required {
            let is_set = fields.get(name.as_ref()).is_some_and(|field| {
                !field.is_null() || node.properties.get(name).is_none_or(|child| self.validator.node(*child).nullable)
            });
            if !is_set {
                self.push_at(name, Problem::Required, "Required value");
            }
        }
        for (name, field) in fields {
            let child = match (node.properties.get(name.as_str()), node.additional) {
                (Some(child), _) => *child,
                (None, Additional::Schema(child)) => child,
                (None, Additional::Anything) => continue,
                (None, Additional::Unknown | Additional::Forbidden) => {
                    self.undeclared(node, name, strictness);
                    continue;
                }
            };
            // Null means "unset" where it is no value.
            if field.is_null() && !self.validator.node(child).nullable {
                continue;
            }
            let mark = self.path.push_field(name);
            self.value(child, field, Strictness::Closed);
            self.path.truncate(mark);
        }
        let rules = &node.count;
        self.count(fields.len(), rules.properties_min, rules.properties_max, "entries");
    }

    fn undeclared(&mut self, node: &'a Node, name: &str, strictness: Strictness) {
        match strictness {
            Strictness::Closed if !node.is_open() && !node.declares(name) => {
                let detail = match nearest(name, node) {
                    Some(nearest) => format!("did you mean {nearest:?}?"),
                    None => String::new(),
                };
                self.push_at(name, Problem::Unknown, detail);
            }
            Strictness::Part if node.additional == Additional::Forbidden => {
                self.push_at(name, Problem::Form, "not allowed in this form");
            }
            Strictness::Closed | Strictness::Part => {}
        }
    }
}

fn join_types(types: &[JsonType]) -> String {
    let names: Vec<String> = types.iter().map(ToString::to_string).collect();
    names.join(" or ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shown_text(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    }
}

fn shown_text(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The declared field that an unknown one most likely stands for.
fn nearest<'n>(name: &str, node: &'n Node) -> Option<&'n str> {
    const NAME_LENGTH_MAX: usize = 64;
    if name.len() > NAME_LENGTH_MAX {
        return None;
    }
    let edits_max = if name.len() < 4 { 1 } else { 2 };
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    node.properties
        .keys()
        .chain(&node.declared_in_combined)
        .map(|known| {
            let letters: Vec<char> = known.to_lowercase().chars().collect();
            (edit_distance(&wanted, &letters), known)
        })
        .filter(|(edits, _)| *edits <= edits_max)
        .min()
        .map(|(_, known)| known.as_ref())
}

/// Levenshtein's distance.
fn edit_distance(one: &[char], two: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}
