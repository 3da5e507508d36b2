//! Whether a CustomResourceDefinition can be served: names, versions, subresources, columns, and
//! the schema of each version. Rules and words are those of Kubernetes (`apiextensions.k8s.io/v1`).

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::structural;
use crate::error::Cause;
use crate::json_path::JsonPath;
use crate::names::{is_dns_label, is_dns_name};

/// Where a schema stands in a version.
pub(super) const SCHEMA: &str = "schema.openAPIV3Schema";
/// Which annotation says that a protected group may be used.
const APPROVAL: &str = "api-approved.kubernetes.io";
/// The most versions of a kind.
const VERSIONS_MAX: usize = 32;
/// The most selectable fields of a version, as in Kubernetes.
const SELECTABLE_FIELDS_MAX: usize = 8;
/// The most printer columns of a version.
const COLUMNS_MAX: usize = 64;

/// What is wrong, in the order it was found.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) causes: Vec<Cause>,
}

impl Problems {
    pub(super) fn invalid(&mut self, field: impl Into<String>, value: &Value, message: impl AsRef<str>) {
        let message = format!("Invalid value: {}: {}", shown(value), message.as_ref());
        self.causes.push(Cause { field: field.into(), reason: "FieldValueInvalid", message });
    }

    pub(super) fn required(&mut self, field: impl Into<String>, message: &str) {
        let message = if message.is_empty() { "Required value".to_owned() } else { format!("Required value: {message}") };
        self.causes.push(Cause { field: field.into(), reason: "FieldValueRequired", message });
    }

    pub(super) fn forbidden(&mut self, field: impl Into<String>, message: impl AsRef<str>) {
        let message = format!("Forbidden: {}", message.as_ref());
        self.causes.push(Cause { field: field.into(), reason: "FieldValueForbidden", message });
    }

    pub(super) fn unsupported(&mut self, field: impl Into<String>, value: &Value, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|known| format!("\"{known}\"")).collect();
        let message = format!("Unsupported value: {}: supported values: {}", shown(value), supported.join(", "));
        self.causes.push(Cause { field: field.into(), reason: "FieldValueNotSupported", message });
    }
}

fn shown(value: &Value) -> String {
    /// Longer values are cut.
    const CHARACTERS_MAX: usize = 100;
    let text = value.to_string();
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

const LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

fn is_label(text: &str) -> bool {
    is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// Everything wrong with a definition that has passed its own schema. Takes time that grows with
/// the schema: not for a thread that serves requests.
pub(super) fn check(definition: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut problems = Problems::default();
    let spec = &definition["spec"];
    names(definition, &mut problems);
    versions(spec, &mut problems);
    conversion(spec, &mut problems);
    if spec["preserveUnknownFields"] == true {
        problems.invalid(
            "spec.preserveUnknownFields",
            &Value::Bool(true),
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    approval(definition, old, &mut problems);
    if let Some(old) = old {
        changes(definition, old, &mut problems);
    }
    problems.causes.extend(stored_versions(definition));
    problems.causes
}

/// A version in which objects may be stored must stay in the definition.
pub(super) fn stored_versions(definition: &Value) -> Vec<Cause> {
    let mut problems = Problems::default();
    let stored = definition["status"]["storedVersions"].as_array().into_iter().flatten();
    for (index, version) in stored.enumerate() {
        if !list(&definition["spec"], "versions").any(|known| known["name"] == *version) {
            problems.invalid(
                format!("status.storedVersions[{index}]"),
                version,
                "missing from spec.versions; must appear in spec.versions",
            );
        }
    }
    problems.causes
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value[field].as_array().into_iter().flatten()
}

fn names(definition: &Value, problems: &mut Problems) {
    let spec = &definition["spec"];
    let group = text(spec, "group");
    if !is_dns_name(group) {
        problems.invalid("spec.group", &spec["group"], "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character");
    } else if !group.contains('.') {
        problems.invalid("spec.group", &spec["group"], "should be a domain with at least one dot");
    }
    if !matches!(text(spec, "scope"), "Cluster" | "Namespaced") {
        problems.unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]);
    }
    let names = &spec["names"];
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(names, field);
        let path = format!("spec.names.{field}");
        if name.is_empty() {
            problems.required(path, "");
        } else if field.ends_with("ind") {
            if !is_label(&name.to_lowercase()) {
                problems.invalid(path, &names[field], format!("may have mixed case, but should otherwise match: {LABEL}"));
            }
        } else if !is_label(name) {
            problems.invalid(path, &names[field], LABEL);
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in list(names, field).enumerate() {
            if !name.as_str().is_some_and(is_label) {
                problems.invalid(format!("spec.names.{field}[{index}]"), name, LABEL);
            }
        }
    }
    if text(names, "kind") == text(names, "listKind") {
        problems.invalid("spec.names.listKind", &names["listKind"], "kind and listKind may not be the same");
    }
    let expected = format!("{}.{group}", text(names, "plural"));
    if definition["metadata"]["name"] != *expected {
        problems.invalid("metadata.name", &definition["metadata"]["name"], "must be spec.names.plural+\".\"+spec.group");
    }
}

fn versions(spec: &Value, problems: &mut Problems) {
    let all: Vec<&Value> = list(spec, "versions").collect();
    if all.len() > VERSIONS_MAX {
        problems.forbidden("spec.versions", format!("{} versions are more than {VERSIONS_MAX}", all.len()));
        return;
    }
    let mut seen = HashSet::new();
    for (index, version) in all.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        if !is_label(text(version, "name")) {
            problems.invalid(format!("{path}.name"), &version["name"], LABEL);
        }
        if !seen.insert(text(version, "name")) {
            problems.invalid("spec.versions", &version["name"], "must contain unique version names");
        }
        if version["deprecationWarning"].is_string() && version["deprecated"] != true {
            problems.invalid(
                format!("{path}.deprecationWarning"),
                &version["deprecationWarning"],
                "can only be set for deprecated versions",
            );
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        match schema.as_object() {
            None => problems.required(format!("{path}.{SCHEMA}"), "schemas are required"),
            Some(schema) => structural::check(&format!("{path}.{SCHEMA}"), schema, problems),
        }
        columns(version, &path, problems);
        scale(version, &path, problems);
        selectable(version, &path, problems);
    }
    if all.iter().filter(|version| version["storage"] == true).count() != 1 {
        problems.invalid("spec.versions", &Value::from(all.len()), "must have exactly one version marked as storage version");
    }
}

fn columns(version: &Value, path: &str, problems: &mut Problems) {
    let all: Vec<&Value> = list(version, "additionalPrinterColumns").collect();
    if all.len() > COLUMNS_MAX {
        problems.forbidden(format!("{path}.additionalPrinterColumns"), format!("{} columns are more than {COLUMNS_MAX}", all.len()));
        return;
    }
    for (index, column) in all.into_iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{index}]");
        if text(column, "name").is_empty() {
            problems.required(format!("{path}.name"), "");
        }
        if !matches!(text(column, "type"), "integer" | "number" | "string" | "boolean" | "date") {
            problems.unsupported(format!("{path}.type"), &column["type"], &["boolean", "date", "integer", "number", "string"]);
        }
        let json_path = text(column, "jsonPath");
        if json_path.is_empty() {
            problems.required(format!("{path}.jsonPath"), "");
        } else if let Err(error) = JsonPath::parse(json_path) {
            problems.invalid(format!("{path}.jsonPath"), &column["jsonPath"], error.to_string());
        }
    }
}

fn scale(version: &Value, path: &str, problems: &mut Problems) {
    let scale = &version["subresources"]["scale"];
    if !scale.is_object() {
        return;
    }
    for (field, part, is_required) in
        [("specReplicasPath", "spec", true), ("statusReplicasPath", "status", true), ("labelSelectorPath", "", false)]
    {
        let path = format!("{path}.subresources.scale.{field}");
        let given = text(scale, field);
        if given.is_empty() {
            if is_required {
                problems.required(path, "");
            }
        } else if !is_simple(given) {
            problems.invalid(path, &scale[field], "must be a simple json path starting with . and made of field names");
        } else if part.is_empty() {
            if !given.starts_with(".spec.") && !given.starts_with(".status.") {
                problems.invalid(path, &scale[field], "should be a json path under either .status or .spec");
            }
        } else if !given.starts_with(&format!(".{part}.")) {
            problems.invalid(path, &scale[field], format!("should be a json path under .{part}"));
        }
    }
}

fn is_simple(path: &str) -> bool {
    let is_field = |field: &str| !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    path.strip_prefix('.').is_some_and(|rest| rest.split('.').all(is_field))
}

fn selectable(version: &Value, path: &str, problems: &mut Problems) {
    let all: Vec<&Value> = list(version, "selectableFields").collect();
    if all.len() > SELECTABLE_FIELDS_MAX {
        problems.forbidden(format!("{path}.selectableFields"), format!("must have at most {SELECTABLE_FIELDS_MAX} items"));
        return;
    }
    let mut seen = HashSet::new();
    for (index, field) in all.into_iter().enumerate() {
        let path = format!("{path}.selectableFields[{index}].jsonPath");
        let json_path = text(field, "jsonPath");
        if !is_simple(json_path) {
            problems.invalid(path, &field["jsonPath"], "must be a simple json path starting with . and made of field names");
            continue;
        }
        if json_path.starts_with(".metadata.") || json_path == ".metadata" {
            problems.invalid(path, &field["jsonPath"], "must not point to fields in metadata");
            continue;
        }
        if !seen.insert(json_path) {
            problems.invalid(path, &field["jsonPath"], "must not be a duplicate");
            continue;
        }
        let found =
            json_path.split('.').skip(1).try_fold(&version["schema"]["openAPIV3Schema"], |schema, name| schema["properties"].get(name));
        match found.map(|found| text(found, "type")) {
            Some("string" | "boolean" | "integer") => {}
            Some(_) => problems.invalid(path, &field["jsonPath"], "must point to a field of type string, boolean or integer"),
            None => problems.invalid(path, &field["jsonPath"], "must point to a field that the schema declares"),
        }
    }
}

fn conversion(spec: &Value, problems: &mut Problems) {
    match text(&spec["conversion"], "strategy") {
        "" | "None" => {
            if spec["conversion"]["webhook"].is_object() {
                problems.forbidden("spec.conversion.webhook", "should not be set when strategy is not set to Webhook");
            }
        }
        "Webhook" => problems.forbidden(
            "spec.conversion.strategy",
            "conversion webhooks are not served here: use None, with which all versions share one schema and only apiVersion is rewritten",
        ),
        _ => problems.unsupported("spec.conversion.strategy", &spec["conversion"]["strategy"], &["None"]),
    }
}

/// Whether a group belongs to the Kubernetes project.
pub(super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| group == *domain || group.ends_with(&format!(".{domain}")))
}

/// What the annotation says of a protected group: approved, not approved, or nothing.
pub(super) fn approval_of(definition: &Value) -> Option<(bool, String)> {
    let said = definition["metadata"]["annotations"][APPROVAL].as_str()?;
    if let Some(address) = said.strip_prefix("http://").or_else(|| said.strip_prefix("https://")) {
        return (!address.is_empty()).then(|| (true, format!("approved in {said}")));
    }
    said.starts_with("unapproved").then(|| (false, format!("not approved: \"{said}\"")))
}

fn approval(definition: &Value, old: Option<&Value>, problems: &mut Problems) {
    if !is_protected(text(&definition["spec"], "group")) || old.is_some_and(|old| approval_of(old).is_none()) {
        return;
    }
    let field = format!("metadata.annotations[{APPROVAL}]");
    match (&definition["metadata"]["annotations"][APPROVAL], approval_of(definition)) {
        (_, Some(_)) => {}
        (Value::Null, None) => problems.required(
            field,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
        (said, None) => problems.invalid(field, said, "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"),
    }
}

/// What objects are stored under cannot change.
fn changes(definition: &Value, old: &Value, problems: &mut Problems) {
    let (spec, before) = (&definition["spec"], &old["spec"]);
    let is_established =
        list(&old["status"], "conditions").any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    let mut fixed =
        vec![("spec.group", &spec["group"], &before["group"]), ("spec.names.plural", &spec["names"]["plural"], &before["names"]["plural"])];
    if is_established {
        fixed.push(("spec.scope", &spec["scope"], &before["scope"]));
        fixed.push(("spec.names.kind", &spec["names"]["kind"], &before["names"]["kind"]));
    }
    for (field, new, old) in fixed {
        if new != old {
            problems.invalid(field, new, "field is immutable");
        }
    }
}

/// Fills in what a definition leaves out: names that follow from the kind. The object has not
/// passed its schema yet, so nothing is taken for granted.
pub(super) fn set_defaults(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut)
        && let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned)
    {
        let unset = |names: &Map<String, Value>, field: &str| names.get(field).is_none_or(|name| name.is_null() || name == "");
        if unset(names, "singular") {
            names.insert("singular".to_owned(), kind.to_lowercase().into());
        }
        if unset(names, "listKind") {
            names.insert("listKind".to_owned(), format!("{kind}List").into());
        }
    }
    if spec.get("conversion").is_none_or(Value::is_null) {
        spec.insert("conversion".to_owned(), serde_json::json!({"strategy": "None"}));
    }
}
