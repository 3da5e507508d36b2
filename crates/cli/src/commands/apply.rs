//! `fermion apply`: brings objects to the state that files describe.
//!
//! As in `kubectl apply`, the object that was applied last is kept in an annotation of the
//! object itself; with it, a field that left the file is told from one that somebody else
//! set, and both tools can be used on the same objects.
//! Source: <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#merge-patch-calculation>

use std::convert::Infallible;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::delete::{check_name, dynamic_api};
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;
use crate::resources::{Resource, Resources};

/// Where the object applied last is kept; `kubectl` uses the same.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most bytes read from one file or from standard input.
const INPUT_BYTES_MAX: u64 = 64 << 20;
/// Endings of files that a directory is searched for.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArguments {
    /// A file, a directory (its .yaml, .yml and .json files), or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<Source>,
}

/// Where objects are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    StandardInput,
    Path(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::StandardInput } else { Self::Path(text.into()) })
    }
}

pub(crate) async fn run(arguments: ApplyArguments, session: &Session) -> Outcome<Exit> {
    let objects = read_objects(&arguments.files)?;
    if objects.is_empty() {
        return Err(Failure::new("there is nothing to apply").why("the files hold no objects"));
    }
    let resources = Resources::discover(&session.client).await?;
    for object in objects {
        let types = object.types.clone().unwrap_or_default();
        let resource = resources.of_object(&types.api_version, &types.kind)?;
        let verb = apply(session, resource, &object).await?;
        output::line(&format!("{}/{} {verb}", resource.title(), object.name_any()))?;
    }
    Ok(Exit::Done)
}

/// Creates or changes one object, and says which.
async fn apply(session: &Session, resource: &Resource, object: &DynamicObject) -> Outcome<&'static str> {
    let name = object.name_any();
    check_name(&name)?;
    let api = dynamic_api(session, resource, object.namespace().as_deref());
    let what = || format!("cannot apply {} `{name}`", resource.title());
    let wanted = serde_json::to_value(object).map_err(|error| Failure::new(what()).because(error))?;
    let marked = with_last_applied(wanted);
    match api.get_opt(&name).await.attempt(what)? {
        None => create(&api, &marked).await.attempt(what).map(|()| "created"),
        Some(current) => {
            let before = current.resource_version();
            let current = serde_json::to_value(&current).map_err(|error| Failure::new(what()).because(error))?;
            let last = last_applied(&current);
            let patch = three_way(last.as_ref().unwrap_or(&Value::Null), &marked, &current);
            if is_empty(&patch) {
                return Ok("unchanged");
            }
            let after = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.attempt(what)?;
            // Defaults filled in by the server can make the patch say what is so anyway.
            Ok(if after.resource_version() == before { "unchanged" } else { "configured" })
        }
    }
}

async fn create(api: &Api<DynamicObject>, object: &Value) -> Result<(), kube::Error> {
    let object: DynamicObject = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    api.create(&PostParams::default(), &object).await.map(|_| ())
}

/// The object with itself in its annotation.
fn with_last_applied(mut object: Value) -> Value {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let text = object.to_string();
    let metadata = &mut object["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = Value::Object(Map::new());
    }
    metadata["annotations"][LAST_APPLIED] = Value::String(text);
    object
}

fn last_applied(current: &Value) -> Option<Value> {
    let text = current.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    serde_json::from_str(text).ok()
}

/// The JSON merge patch that takes `current` to `wanted`, and removes what `last` had and
/// `wanted` has no more. What is in neither stays.
fn three_way(last: &Value, wanted: &Value, current: &Value) -> Value {
    let mut patch = Map::new();
    let (wanted, empty) = (wanted.as_object(), Map::new());
    let wanted = wanted.unwrap_or(&empty);
    for (key, value) in wanted {
        match (current.get(key), value) {
            (Some(Value::Object(now)), Value::Object(_)) => {
                let inner = three_way(last.get(key).unwrap_or(&Value::Null), value, &Value::Object(now.clone()));
                if !is_empty(&inner) {
                    patch.insert(key.clone(), inner);
                }
            }
            (Some(now), value) if now == value => {}
            // Lists are replaced whole, so one that only lacks what the server filled in would
            // differ for ever.
            (Some(now), value) if last.get(key) == Some(value) && covers(now, value) => {}
            (_, value) => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in last.as_object().into_iter().flat_map(Map::keys) {
        if !wanted.contains_key(key) && current.get(key).is_some() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    Value::Object(patch)
}

/// Whether everything the wanted value says is so; there may be more, in objects at any depth.
fn covers(current: &Value, wanted: &Value) -> bool {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| current.get(key).is_some_and(|current| covers(current, value)))
        }
        (Value::Array(current), Value::Array(wanted)) => {
            current.len() == wanted.len() && current.iter().zip(wanted).all(|(current, wanted)| covers(current, wanted))
        }
        (current, wanted) => current == wanted,
    }
}

fn is_empty(patch: &Value) -> bool {
    patch.as_object().is_none_or(Map::is_empty)
}

/// Every object of the sources, in order.
pub(crate) fn read_objects(sources: &[Source]) -> Outcome<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for source in sources {
        match source {
            Source::StandardInput => objects.extend(parse("standard input", &read(std::io::stdin(), "standard input")?)?),
            Source::Path(path) => {
                for file in files(path)? {
                    let name = file.display().to_string();
                    let open = std::fs::File::open(&file).map_err(|error| unreadable(&name, error))?;
                    objects.extend(parse(&name, &read(open, &name)?)?);
                }
            }
        }
    }
    Ok(objects)
}

/// The file itself, or the files of a directory in the order of their names.
fn files(path: &Path) -> Outcome<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error| unreadable(&path.display().to_string(), error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let fits = file.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending));
        if fits && file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

fn read(source: impl std::io::Read, name: &str) -> Outcome<String> {
    let mut text = String::new();
    source.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| unreadable(name, error))?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::new(format!("cannot read {name}")).why(format!("it is longer than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn unreadable(name: &str, error: std::io::Error) -> Failure {
    Failure::new(format!("cannot read {name}")).because(error)
}

/// The objects of one text: YAML documents or JSON, with Lists opened.
fn parse(name: &str, text: &str) -> Outcome<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let place = format!("{name}, document {}", index + 1);
        let value = Value::deserialize(document).map_err(|error| {
            Failure::new(format!("cannot read {place}"))
                .because(error)
                .hint("is the YAML indented with spaces, and every `:` followed by one?")
        })?;
        collect(&place, value, &mut objects)?;
    }
    Ok(objects)
}

fn collect(place: &str, value: Value, objects: &mut Vec<DynamicObject>) -> Outcome<()> {
    if value.is_null() {
        return Ok(());
    }
    if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
        && let Some(items) = value["items"].as_array()
    {
        for item in items {
            collect(place, item.clone(), objects)?;
        }
        return Ok(());
    }
    let wrong = |why: &str| {
        Failure::new(format!("{place} is no object"))
            .why(why)
            .hint("an object has apiVersion, kind and metadata.name; `fermion get KIND NAME -o yaml` shows one")
    };
    for field in ["apiVersion", "kind"] {
        if value[field].as_str().is_none_or(str::is_empty) {
            return Err(wrong(&format!("it has no {field}")));
        }
    }
    if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Err(wrong("it has no metadata.name"));
    }
    let object = serde_json::from_value(value).map_err(|error| wrong(&error.to_string()))?;
    objects.push(object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_left_the_file_is_removed_and_others_stay() {
        let last = json!({"spec": {"a": 1, "b": 2, "list": [1]}});
        let wanted = json!({"spec": {"a": 3, "list": [1]}});
        let current = json!({"spec": {"a": 1, "b": 2, "c": "by the server", "list": [1]}, "status": {"x": 1}});
        assert_eq!(three_way(&last, &wanted, &current), json!({"spec": {"a": 3, "b": null}}));
    }

    #[test]
    fn what_is_so_already_needs_no_patch() {
        let wanted = json!({"spec": {"a": 1, "deep": {"b": [1, 2]}}});
        let current = json!({"spec": {"a": 1, "deep": {"b": [1, 2], "default": true}}, "status": {}});
        assert!(is_empty(&three_way(&wanted, &wanted, &current)));
        let marked = with_last_applied(json!({"metadata": {"name": "a"}, "spec": {}}));
        assert!(is_empty(&three_way(&last_applied(&marked).expect("marked"), &marked, &marked)));
    }

    #[test]
    fn defaults_inside_of_lists_are_no_difference_but_changes_are() {
        let wanted = json!({"roles": [{"name": "a", "ports": [1]}]});
        let current = json!({"roles": [{"name": "a", "ports": [1], "replicas": 1}]});
        assert!(is_empty(&three_way(&wanted, &wanted, &current)));
        let before = json!({"roles": [{"name": "a", "ports": [1], "extra": true}]});
        assert_eq!(three_way(&before, &wanted, &current), wanted, "a field left the file, inside of a list");
        let changed = json!({"roles": [{"name": "a", "ports": [2], "replicas": 1}]});
        assert_eq!(three_way(&wanted, &wanted, &changed), wanted, "somebody changed what the file says");
    }

    #[test]
    fn an_object_that_somebody_else_made_is_changed_only_where_the_file_speaks() {
        let current = json!({"metadata": {"name": "a"}, "data": {"theirs": "1"}});
        let patch = three_way(&Value::Null, &json!({"metadata": {"name": "a"}, "data": {"ours": "2"}}), &current);
        assert_eq!(patch, json!({"data": {"ours": "2"}}));
    }

    #[test]
    fn documents_and_lists_are_opened() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n# nothing\n---\n\
                    {\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"b\"}}]}\n";
        let names: Vec<_> = parse("x", text).expect("readable").iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_document_that_is_no_object_is_named() {
        for text in ["a: 1", "apiVersion: v1\nkind: Pod\n", "- 1", "a: [", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nx: y"] {
            let failure = parse("jobs.yaml", text).expect_err(text);
            assert!(failure.to_string().contains("jobs.yaml, document"), "{failure}");
        }
        insta::assert_snapshot!(parse("jobs.yaml", "apiVersion: v1\nkind: Pod\n").expect_err("no name"));
    }
}
