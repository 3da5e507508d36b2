//! The paths of a document and what can be done at them.

use serde_json::{Map, Value, json};

use super::{OpenApiKind, names};

/// What `fieldValidation` and its like mean, once.
const WRITE_PARAMETERS: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "All: everything is checked, nothing is stored."),
    ("fieldManager", "string", "Name of whoever makes the change."),
    (
        "fieldValidation",
        "string",
        "What happens to unknown fields. Ignore: they are dropped. Warn (the default): they are dropped with a warning. Strict: the request is refused.",
    ),
];

const LIST_PARAMETERS: [(&str, &str, &str); 10] = [
    ("allowWatchBookmarks", "boolean", "Sends bookmarks, which tell the current revision, during a watch."),
    ("continue", "string", "Where a list goes on, as the last page said."),
    ("fieldSelector", "string", "Selects objects by fields: a=b,c!=d."),
    ("labelSelector", "string", "Selects objects by labels: a=b,c in (d,e),!f."),
    ("limit", "integer", "At most this many objects at once."),
    ("resourceVersion", "string", "The revision to list at, or to watch from."),
    ("resourceVersionMatch", "string", "How the revision is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Begins a watch with what is there."),
    ("timeoutSeconds", "integer", "Ends a watch after this time."),
    ("watch", "boolean", "Sends changes as they happen instead of a list."),
];

/// What people ask of a list besides.
const PEOPLES_PARAMETERS: [(&str, &str, &str); 6] = [
    ("count", "boolean", "Tells exactly how many objects follow the page, in metadata.remainingItemCount."),
    ("export", "string", "Sends the whole list as a file: csv, xlsx or json."),
    ("offset", "integer", "Leaves out this many objects at the beginning."),
    ("search", "string", "Only objects with this text in their name or in any of their values."),
    ("sortBy", "string", "In the order of this field; with a minus before it, the other way round."),
    ("template", "string", "Sends an empty table of the kind to fill in and import: csv or xlsx."),
];

/// What people ask of a create besides.
const IMPORT_PARAMETERS: [(&str, &str, &str); 2] = [
    ("import", "string", "Writes what a file says, row by row, and answers a report; the body is the file: csv, xlsx or json."),
    ("mode", "string", "What an import may do: create, update, or upsert (the default)."),
];

const DELETE_PARAMETERS: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "All: everything is checked, nothing is deleted."),
    ("gracePeriodSeconds", "integer", "Time to end in; 0 is at once."),
    ("propagationPolicy", "string", "What happens to what it owns: Orphan, Background or Foreground."),
];

/// Adds the paths of one kind.
pub(super) fn add(paths: &mut Map<String, Value>, kind: &OpenApiKind) {
    let base = format!("/{}", names::group_version_path(&kind.group, &kind.version));
    let collection =
        if kind.namespaced { format!("{base}/namespaces/{{namespace}}/{}", kind.plural) } else { format!("{base}/{}", kind.plural) };
    let operations = Operations { kind, namespaced: kind.namespaced };
    let can = |verb: &str| kind.verbs.iter().any(|known| known == verb);

    let mut at_collection = Map::new();
    if can("list") {
        at_collection.insert("get".to_owned(), operations.list());
    }
    if can("create") {
        at_collection.insert("post".to_owned(), operations.create());
    }
    if can("deletecollection") {
        at_collection.insert("delete".to_owned(), operations.delete_collection());
    }
    insert(paths, &collection, at_collection, kind.namespaced, false);

    let mut at_object = Map::new();
    if can("get") {
        at_object.insert("get".to_owned(), operations.read());
    }
    if can("update") {
        at_object.insert("put".to_owned(), operations.replace());
    }
    if can("patch") {
        at_object.insert("patch".to_owned(), operations.patch());
    }
    if can("delete") {
        at_object.insert("delete".to_owned(), operations.delete());
    }
    let object = format!("{collection}/{{name}}");
    insert(paths, &object, at_object, kind.namespaced, true);

    if kind.namespaced && can("list") {
        let everywhere = Operations { kind, namespaced: false };
        let list = Map::from_iter([("get".to_owned(), everywhere.list_everywhere())]);
        insert(paths, &format!("{base}/{}", kind.plural), list, false, false);
    }
    for subresource in &kind.subresources {
        let at_subresource = operations.subresource(subresource);
        insert(paths, &format!("{object}/{subresource}"), at_subresource, kind.namespaced, true);
    }
}

fn insert(paths: &mut Map<String, Value>, path: &str, mut operations: Map<String, Value>, namespaced: bool, named: bool) {
    if operations.is_empty() {
        return;
    }
    let in_path = |name: &str, description: &str| json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string", "uniqueItems": true}});
    let mut parameters = Vec::new();
    if named {
        parameters.push(in_path("name", "Name of the object."));
    }
    if namespaced {
        parameters.push(in_path("namespace", "Namespace of the object."));
    }
    parameters.push(query_parameter(("pretty", "string", "If 'true', the answer is indented.")));
    operations.insert("parameters".to_owned(), parameters.into());
    paths.insert(path.to_owned(), Value::Object(operations));
}

fn query_parameter((name, type_, description): (&str, &str, &str)) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": type_, "uniqueItems": true}})
}

/// One operation being described.
struct Operation<'a> {
    verb: &'a str,
    /// `x-kubernetes-action`
    action: &'a str,
    description: String,
    /// What follows the kind in the operation's id.
    suffix: String,
    /// Schema of the body of the request, its media types.
    request: Option<(String, &'a [&'a str])>,
    parameters: &'a [(&'a str, &'a str, &'a str)],
    /// Status codes that mean success.
    codes: &'a [&'a str],
    /// Schema of the answer; plain text if none.
    answer: Option<String>,
}

struct Operations<'a> {
    kind: &'a OpenApiKind,
    namespaced: bool,
}

const ANY_MEDIA: [&str; 1] = ["*/*"];
const PATCH_MEDIA: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    // Last, so that it can be left out for kinds without.
    "application/strategic-merge-patch+json",
];

impl Operations<'_> {
    fn schema(&self) -> String {
        names::schema(&self.kind.group, &self.kind.version, &self.kind.kind)
    }

    fn patch_media(&self) -> &'static [&'static str] {
        let own = !names::is_built_in(&self.kind.group);
        &PATCH_MEDIA[..PATCH_MEDIA.len() - usize::from(own)]
    }

    fn describe(&self, operation: Operation<'_>) -> Value {
        let kind = self.kind;
        let group_version = names::group_version_in_operation(&kind.group, &kind.version);
        let scope = if self.namespaced { "Namespaced" } else { "" };
        let id = format!("{}{group_version}{scope}{}{}", operation.verb, kind.kind, operation.suffix);
        let content = match &operation.answer {
            Some(schema) => json!({"application/json": {"schema": {"$ref": names::reference(schema)}}}),
            None => json!({"*/*": {"schema": {"type": "string"}}}),
        };
        let mut responses: Map<String, Value> =
            operation.codes.iter().map(|code| ((*code).to_owned(), json!({"description": "OK", "content": content}))).collect();
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        let mut described = json!({
            "tags": [group_version],
            "description": operation.description,
            "operationId": id,
            "responses": responses,
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        });
        if !operation.parameters.is_empty() {
            described["parameters"] = operation.parameters.iter().copied().map(query_parameter).collect();
        }
        if let Some((schema, media)) = operation.request {
            let content: Map<String, Value> =
                media.iter().map(|media| ((*media).to_owned(), json!({"schema": {"$ref": names::reference(&schema)}}))).collect();
            // A deletion may come without options, everything else needs its body.
            described["requestBody"] =
                json!({"required": operation.action != "delete" && operation.action != "deletecollection", "content": content});
        }
        described
    }

    fn list(&self) -> Value {
        self.describe(Operation {
            verb: "list",
            action: "list",
            description: format!("Lists or watches objects of kind {}.", self.kind.kind),
            suffix: String::new(),
            request: None,
            parameters: &[&LIST_PARAMETERS[..], &PEOPLES_PARAMETERS].concat(),
            codes: &["200"],
            answer: Some(names::schema(&self.kind.group, &self.kind.version, &self.kind.list_kind)),
        })
    }

    fn list_everywhere(&self) -> Value {
        let mut described = self.list();
        let id = format!("{}ForAllNamespaces", described["operationId"].as_str().unwrap_or_default());
        described["operationId"] = id.into();
        described
    }

    fn create(&self) -> Value {
        self.describe(Operation {
            verb: "create",
            action: "post",
            description: format!("Creates a {}.", self.kind.kind),
            suffix: String::new(),
            request: Some((self.schema(), &ANY_MEDIA)),
            parameters: &[&WRITE_PARAMETERS[..], &IMPORT_PARAMETERS].concat(),
            codes: &["200", "201", "202"],
            answer: Some(self.schema()),
        })
    }

    fn delete_collection(&self) -> Value {
        self.describe(Operation {
            verb: "deleteCollection",
            action: "deletecollection",
            description: format!("Deletes all selected objects of kind {}.", self.kind.kind),
            suffix: String::new(),
            request: Some((names::DELETE_OPTIONS.to_owned(), &ANY_MEDIA)),
            parameters: &LIST_PARAMETERS,
            codes: &["200"],
            answer: Some(names::STATUS.to_owned()),
        })
    }

    fn read(&self) -> Value {
        self.describe(Operation {
            verb: "read",
            action: "get",
            description: format!("Reads a {}.", self.kind.kind),
            suffix: String::new(),
            request: None,
            parameters: &[],
            codes: &["200"],
            answer: Some(self.schema()),
        })
    }

    fn replace(&self) -> Value {
        self.describe(Operation {
            verb: "replace",
            action: "put",
            description: format!("Replaces a {}.", self.kind.kind),
            suffix: String::new(),
            request: Some((self.schema(), &ANY_MEDIA)),
            parameters: &WRITE_PARAMETERS,
            codes: &["200", "201"],
            answer: Some(self.schema()),
        })
    }

    fn patch(&self) -> Value {
        self.describe(Operation {
            verb: "patch",
            action: "patch",
            description: format!("Changes parts of a {}.", self.kind.kind),
            suffix: String::new(),
            request: Some((names::PATCH.to_owned(), self.patch_media())),
            parameters: &WRITE_PARAMETERS,
            codes: &["200", "201"],
            answer: Some(self.schema()),
        })
    }

    fn delete(&self) -> Value {
        self.describe(Operation {
            verb: "delete",
            action: "delete",
            description: format!("Deletes a {}.", self.kind.kind),
            suffix: String::new(),
            request: Some((names::DELETE_OPTIONS.to_owned(), &ANY_MEDIA)),
            parameters: &DELETE_PARAMETERS,
            codes: &["200", "202"],
            answer: Some(names::STATUS.to_owned()),
        })
    }

    fn subresource(&self, name: &str) -> Map<String, Value> {
        let suffix = names::capitalized(name);
        let of = |what: &str| format!("{what} {name} of a {}.", self.kind.kind);
        let read = |answer: Option<String>| {
            self.describe(Operation {
                verb: "read",
                action: "get",
                description: of("Reads"),
                suffix: suffix.clone(),
                request: None,
                parameters: &[],
                codes: &["200"],
                answer,
            })
        };
        let write = |verb: &str, action: &str, request: (String, &[&str]), answer: String| {
            self.describe(Operation {
                verb,
                action,
                description: of("Changes"),
                suffix: suffix.clone(),
                request: Some(request),
                parameters: &WRITE_PARAMETERS,
                codes: &["200", "201"],
                answer: Some(answer),
            })
        };
        let connect = |verb: &str| {
            self.describe(Operation {
                verb,
                action: "connect",
                description: of("Connects to"),
                suffix: suffix.clone(),
                request: None,
                parameters: &[],
                codes: &["200"],
                answer: None,
            })
        };
        let entries: Vec<(&str, Value)> = match name {
            "status" | "scale" => {
                let schema = if name == "scale" { names::SCALE.to_owned() } else { self.schema() };
                let patch = (names::PATCH.to_owned(), self.patch_media());
                vec![
                    ("get", read(Some(schema.clone()))),
                    ("put", write("replace", "put", (schema.clone(), &ANY_MEDIA), schema.clone())),
                    ("patch", write("patch", "patch", patch, schema)),
                ]
            }
            "finalize" => vec![("put", write("replace", "put", (self.schema(), &ANY_MEDIA), self.schema()))],
            "binding" => vec![("post", write("create", "post", (names::BINDING.to_owned(), &ANY_MEDIA), names::BINDING.to_owned()))],
            "eviction" => vec![("post", write("create", "post", (names::EVICTION.to_owned(), &ANY_MEDIA), names::EVICTION.to_owned()))],
            "token" if self.kind.group.is_empty() => {
                vec![("post", write("create", "post", (names::TOKEN_REQUEST.to_owned(), &ANY_MEDIA), names::TOKEN_REQUEST.to_owned()))]
            }
            "token" | "password" | "signout" => vec![("post", write("create", "post", (self.schema(), &ANY_MEDIA), self.schema()))],
            "exec" | "attach" | "portforward" => vec![("get", connect("connectGet")), ("post", connect("connectPost"))],
            _ => vec![("get", read(None))],
        };
        entries.into_iter().map(|(method, operation)| (method.to_owned(), operation)).collect()
    }
}
