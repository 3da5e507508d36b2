//! From `x-kubernetes-validations` to programs, with everything that is wrong with them.

use fermion_cel::{CompileErrors, Program, Type, Typed, Variable};
use serde_json::{Map, Value};

use super::declare::declare;
use super::{Rule, Rules};

/// What one rule may cost at most, for all values it is run on in one object, as in Kubernetes.
const COST_PER_RULE_MAX: u64 = 10_000_000;

/// A mistake in a rule, with its place below the schema that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// `x-kubernetes-validations[0].rule`
    pub(crate) path: String,
    /// In the words of Kubernetes, `Invalid value: …`.
    pub(crate) message: String,
    /// The reason of the cause.
    pub(crate) reason: &'static str,
}

fn invalid(path: String, value: &str, message: impl std::fmt::Display) -> Mistake {
    Mistake { path, message: format!("Invalid value: {}: {message}", Value::from(value)), reason: "FieldValueInvalid" }
}

fn required(path: String, message: &str) -> Mistake {
    Mistake { path, message: format!("Required value: {message}"), reason: "FieldValueRequired" }
}

fn forbidden(path: String, message: String) -> Mistake {
    Mistake { path, message: format!("Forbidden: {message}"), reason: "FieldValueForbidden" }
}

/// The reasons that a rule may give.
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Compiles the rules of one subschema. `is_object` says that its values are whole objects.
pub(crate) fn compile(schema: &Map<String, Value>, is_object: bool) -> Result<Option<Rules>, Vec<Mistake>> {
    let listed = match schema.get("x-kubernetes-validations") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(listed)) if listed.is_empty() => return Ok(None),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(vec![invalid("x-kubernetes-validations".to_owned(), "", "must be a list of rules")]),
    };
    let typed = declare(schema, is_object, 0);
    let mut mistakes = Vec::new();
    let mut rules = Vec::new();
    for (index, rule) in listed.iter().enumerate() {
        match one(schema, &typed, rule, &format!("x-kubernetes-validations[{index}]")) {
            Ok(rule) => rules.push(rule),
            Err(wrong) => mistakes.extend(wrong),
        }
    }
    if mistakes.is_empty() { Ok(Some(Rules { typed, type_name: type_name(schema), each: rules })) } else { Err(mistakes) }
}

fn type_name(schema: &Map<String, Value>) -> &'static str {
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => "array",
        Some("boolean") => "boolean",
        Some("integer") => "integer",
        Some("number") => "number",
        Some("string") => "string",
        _ => "object",
    }
}

fn one(schema: &Map<String, Value>, typed: &Typed, rule: &Value, path: &str) -> Result<Rule, Vec<Mistake>> {
    let at = |field: &str| format!("{path}.{field}");
    let text = |field: &str| rule.get(field).and_then(Value::as_str);
    let source = text("rule").unwrap_or_default();
    if source.trim().is_empty() {
        return Err(vec![required(at("rule"), "rule is not specified")]);
    }
    let mut mistakes = Vec::new();
    let message = text("message");
    match message {
        Some(message) if message.trim().is_empty() => {
            mistakes.push(invalid(at("message"), message, "message must be non-empty if specified"));
        }
        Some(message) if message.contains(['\n', '\r']) => {
            mistakes.push(invalid(at("message"), message, "message must not contain line breaks"));
        }
        None if source.trim().contains(['\n', '\r']) => {
            mistakes.push(required(at("message"), "message must be specified if rule contains line breaks"));
        }
        _ => {}
    }
    let reason = text("reason").unwrap_or("FieldValueInvalid");
    let known_reason = REASONS.into_iter().find(|known| *known == reason);
    if known_reason.is_none() {
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            Value::from(reason),
            REASONS.map(|known| format!("\"{known}\"")).join(", ")
        );
        mistakes.push(Mistake { path: at("reason"), message, reason: "FieldValueNotSupported" });
    }
    let field = match text("fieldPath").map(|field| field_steps(schema, field).map_err(|problem| (field, problem))) {
        None => Vec::new(),
        Some(Ok(steps)) => steps,
        Some(Err((field, problem))) => {
            mistakes.push(invalid(at("fieldPath"), field, problem));
            Vec::new()
        }
    };
    let old_is_optional = rule.get("optionalOldSelf").and_then(Value::as_bool);
    let old_type = if old_is_optional == Some(true) {
        Typed::new(Type::Optional(std::sync::Arc::new(typed.clone())), typed.max)
    } else {
        typed.clone()
    };
    let variables = [Variable { name: "self", typed: typed.clone() }, Variable { name: "oldSelf", typed: old_type }];
    let mut compiled = |field: &str, source: &str, wanted: &Type, problem: &str| match Program::compile(source, &variables) {
        Ok(program) if program.result().ty == *wanted || program.result().ty == Type::Dyn => Some(program),
        Ok(_) => {
            mistakes.push(invalid(at(field), source, problem));
            None
        }
        Err(errors) => {
            mistakes.push(invalid(at(field), source, compilation_failed(&errors)));
            None
        }
    };
    let program = compiled("rule", source, &Type::Bool, "cel expression must evaluate to a bool");
    let message_program = text("messageExpression")
        .and_then(|source| compiled("messageExpression", source, &Type::Text, "messageExpression must evaluate to a string"));
    let reads_old = program.as_ref().is_some_and(|program| program.uses("oldSelf"));
    if old_is_optional.is_some() && program.is_some() && !reads_old {
        mistakes.push(invalid(at("optionalOldSelf"), "true", "may not be set if oldSelf is not used in rule"));
    }
    match (program, known_reason) {
        (Some(program), Some(reason)) if mistakes.is_empty() => Ok(Rule {
            source: source.to_owned(),
            program,
            message: message.map(str::to_owned),
            message_program,
            reason,
            field,
            reads_old,
            old_is_optional: old_is_optional == Some(true),
        }),
        _ => Err(mistakes),
    }
}

fn compilation_failed(errors: &CompileErrors) -> String {
    format!("compilation failed: {errors}")
}

/// The fields of `.spec.names['a.b']`, which must be declared.
fn field_steps(schema: &Map<String, Value>, path: &str) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    let mut here = Some(schema);
    while !rest.is_empty() {
        let (name, tail) = if let Some(quoted) = rest.strip_prefix("['") {
            quoted.split_once("']").ok_or("does not refer to a valid field: a bracket is not closed")?
        } else if let Some(plain) = rest.strip_prefix('.') {
            plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
        } else {
            return Err("must be a relative path that begins with '.', as .spec.replicas or .labels['a.b']".to_owned());
        };
        if name.is_empty() {
            return Err("does not refer to a valid field: a name is missing".to_owned());
        }
        let property = here.and_then(|schema| schema.get("properties")).and_then(|properties| properties.get(name));
        let entry = here.and_then(|schema| schema.get("additionalProperties"));
        here = match property.or(entry) {
            Some(Value::Object(found)) => Some(found),
            Some(Value::Bool(true)) => None,
            _ => return Err(format!("does not refer to a valid field: no field \"{}\"", name.escape_default())),
        };
        steps.push(name.to_owned());
        rest = tail;
    }
    if steps.is_empty() { Err("must not be empty".to_owned()) } else { Ok(steps) }
}

/// What the rules of a subschema can cost for one object, and what is too much about them.
/// `times` is how many values of the subschema an object can have; `uncorrelated_within` the list
/// whose items have no old value, if they are among them.
pub(crate) fn cost_of(rules: &Rules, times: u64, uncorrelated_within: Option<&str>) -> (u64, Vec<Mistake>) {
    let mut total = 0_u64;
    let mut mistakes = Vec::new();
    for (index, rule) in rules.each.iter().enumerate() {
        let at = |field: &str| format!("x-kubernetes-validations[{index}].{field}");
        if let Some(within) = uncorrelated_within
            && rule.reads_old
        {
            let message = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            mistakes.push(invalid(at("rule"), &rule.source, message));
        }
        let programs = [("rule", Some(&rule.program)), ("messageExpression", rule.message_program.as_ref())];
        for (field, program) in programs {
            let Some(program) = program else { continue };
            let cost = program.cost().saturating_mul(times);
            total = total.saturating_add(cost);
            if cost > COST_PER_RULE_MAX {
                let message = format!(
                    "estimated {field} cost exceeds budget by {} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
                    factor(cost, COST_PER_RULE_MAX)
                );
                mistakes.push(forbidden(at(field), message));
            }
        }
    }
    (total, mistakes)
}

/// How much too much something is.
pub(crate) fn factor(cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    if factor > 100.0 { "factor of more than 100x".to_owned() } else { format!("factor of {factor:.1}x") }
}
