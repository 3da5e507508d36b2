//! Lists as files: what is exported is imported again, whatever its kind and form; what is sent that
//! cannot be meant harms nothing.

use axum::http::{Method, StatusCode};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::lists::{address, define};
use crate::stage::Stage;

const FORMATS: [&str; 3] = ["csv", "xlsx", "json"];

/// A file as it is sent.
async fn bytes(stage: &Stage, path: &str) -> Vec<u8> {
    let (code, bytes) = stage.bytes(Method::GET, path, "", Vec::new()).await;
    assert_eq!(code, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&bytes));
    bytes
}

/// The report of an import.
async fn import(stage: &Stage, path: &str, query: &str, file: impl Into<Vec<u8>>) -> Value {
    let (code, bytes) = stage.bytes(Method::POST, &format!("{path}?{query}"), "", file.into()).await;
    assert_eq!(code, StatusCode::OK, "{path}?{query}: {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).expect("a report")
}

async fn refusal(stage: &Stage, path: &str, query: &str, file: impl Into<Vec<u8>>) -> (u16, String) {
    let (code, bytes) = stage.bytes(Method::POST, &format!("{path}?{query}"), "", file.into()).await;
    let status: Value = serde_json::from_slice(&bytes).expect("a Status");
    (code.as_u16(), status["message"].as_str().expect("a message").to_owned())
}

/// What somebody asked for, without what the server says of it.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "labels" | "annotations"));
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove("fermion.dev/created-by");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    object.as_object_mut().unwrap().remove("status");
    object
}

async fn all(stage: &Stage, path: &str) -> Vec<Value> {
    stage.get(path).await.ok()["items"].as_array().unwrap().iter().map(essence).collect()
}

/// Texts that files, spreadsheets and databases could take for something else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z =+@;,'\"#_x\r\n\t-]{0,12}",
        "\\PC{0,8}",
        any::<String>().prop_map(|text| text.replace('\0', "").chars().take(12).collect::<String>()),
        prop::sample::select(vec![
            "=1+1", "-5", "+5", "@x", "'=1", "true", "5", "5.0", "1e3", "null", "{}", "[]", "\"", "", " ", "_x000A_", "算力"
        ])
        .prop_map(str::to_owned),
    ]
}

fn texts() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-z]{1,3}([._-][a-z]{1,3})?", text(), 0..3)
        .prop_map(|map| map.into_iter().map(|(name, text)| (name, text.into())).collect())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<bool>().prop_map(Value::from), any::<i32>().prop_map(Value::from), text().prop_map(Value::from)];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Any of these fields, or none.
fn some_of(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let each: Vec<_> = fields.into_iter().map(|(name, value)| prop::option::of(value).prop_map(move |value| (name, value))).collect();
    each.prop_map(|fields| Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())).boxed()
}

fn lamp_spec() -> BoxedStrategy<Value> {
    let edge = some_of(vec![("width", (0..10).prop_map(Value::from).boxed())]);
    let shade = some_of(vec![("colour", prop::sample::select(vec!["red", "green"]).prop_map(Value::from).boxed()), ("edge", edge)]);
    let port = prop_oneof![any::<i32>().prop_map(Value::from), text().prop_map(Value::from)];
    some_of(vec![
        ("text", text().prop_map(Value::from).boxed()),
        ("watts", prop_oneof![any::<i32>().prop_map(Value::from), Just(json!(i64::MAX))].boxed()),
        ("ratio", prop::sample::select(vec![json!(0.1), json!(-2.5e-9), json!(1e300)]).boxed()),
        ("lit", any::<bool>().prop_map(Value::from).boxed()),
        ("port", port.boxed()),
        ("any", json_value().boxed()),
        ("tags", prop::collection::vec(text(), 0..3).prop_map(Value::from).boxed()),
        ("marks", texts().prop_map(Value::from).boxed()),
        ("shade", shade),
    ])
}

/// An object of a kind, without its name.
fn object(plural: &str) -> BoxedStrategy<Value> {
    let annotations = texts();
    let labels = prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3);
    let rest = match plural {
        "configmaps" => {
            some_of(vec![("data", texts().prop_map(Value::from).boxed()), ("immutable", any::<bool>().prop_map(Value::from).boxed())])
        }
        _ => some_of(vec![("spec", lamp_spec())]),
    };
    let (api_version, kind) = match plural {
        "configmaps" => ("v1", "ConfigMap"),
        "lamps" => ("light.example.org/v1", "Lamp"),
        _ => ("light.example.org/v1", "Lantern"),
    };
    (annotations, labels, rest)
        .prop_map(move |(annotations, labels, mut object)| {
            object["apiVersion"] = api_version.into();
            object["kind"] = kind.into();
            object["metadata"] = json!({});
            if !annotations.is_empty() {
                object["metadata"]["annotations"] = annotations.into();
            }
            if !labels.is_empty() {
                object["metadata"]["labels"] = json!(labels);
            }
            object
        })
        .boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_imported_as_the_same_objects() {
    let stage = Stage::new().await;
    define(&stage).await;
    // With a fixed seed: which objects are tried does not change from run to run.
    let mut runner = TestRunner::deterministic();
    for plural in ["configmaps", "lamps", "lanterns"] {
        let path = address(plural);
        let strategy = prop::collection::vec(object(plural), 1..20);
        for round in 0..6 {
            let objects = strategy.new_tree(&mut runner).expect("objects").current();
            for (index, mut object) in objects.into_iter().enumerate() {
                object["metadata"]["name"] = format!("n{index}").into();
                stage.post(&path, &object).await.ok();
            }
            let before = all(&stage, &path).await;
            for format in FORMATS {
                let file = bytes(&stage, &format!("{path}?export={format}")).await;
                let unchanged = import(&stage, &path, &format!("import={format}"), file.clone()).await;
                assert_eq!(unchanged["counts"]["unchanged"], before.len(), "{plural} {format} {round}: {unchanged:#}");
                stage.delete(&path).await.ok();
                let report = import(&stage, &path, &format!("import={format}&mode=create"), file.clone()).await;
                assert_eq!(report["counts"]["created"], before.len(), "{plural} {format} {round}: {report:#}");
                let shown = if format == "xlsx" { String::new() } else { String::from_utf8_lossy(&file).into_owned() };
                assert_eq!(all(&stage, &path).await, before, "{plural} {format} {round}\n{shown}");
            }
            stage.delete(&path).await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_kinds_come_back_as_they_were() {
    let stage = Stage::new().await;
    let container = json!({"name": "main", "image": "x:1", "command": ["sh", "-c", "echo a,b"], "env": [{"name": "A", "value": "=1"}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}});
    let pod = |name: &str, spec: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [container]}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod
    };
    let job = json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "digits"}, "spec": {
        "priority": -3,
        "roles": [{"name": "worker", "replicas": 2, "template": {"spec": {"containers": [container]}}}],
        "runPolicy": {},
    }});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": {"pods": "10", "requests.cpu": "20"}}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "#odd:name"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]});
    let jobs = "/apis/ai.fermion.dev/v1alpha1/namespaces/default/trainingjobs".to_owned();
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles".to_owned();
    for (path, objects) in [
        (jobs, vec![job]),
        (
            address("pods"),
            vec![
                pod("bare", json!({})),
                pod("set", json!({"securityContext": {"runAsUser": 7}, "nodeSelector": {"a": "b"}, "volumes": []})),
            ],
        ),
        (address("resourcequotas"), vec![quota]),
        (roles, vec![role]),
    ] {
        for object in &objects {
            stage.post(&path, object).await.ok();
        }
        let before = all(&stage, &path).await;
        for format in FORMATS {
            let file = bytes(&stage, &format!("{path}?export={format}")).await;
            stage.delete(&path).await.ok();
            let report = import(&stage, &path, &format!("import={format}"), file).await;
            assert_eq!(report["counts"]["created"], before.len(), "{path} {format}: {report:#}");
            assert_eq!(all(&stage, &path).await, before, "{path} {format}");
        }
        stage.delete(&path).await.ok();
    }
}

#[tokio::test]
async fn an_export_is_the_list_with_its_selectors_search_and_order() {
    let stage = Stage::new().await;
    let path = address("configmaps");
    // More than a page holds.
    for index in 0..450 {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("n{index:03}"), "labels": {"odd": (index % 2 == 1).to_string()}}});
        stage.post(&path, &map).await.ok();
    }
    let names = |file: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(file).unwrap();
        text.lines().skip(1).map(|line| line.split(',').next().unwrap().trim_matches('"').to_owned()).collect()
    };
    let odd = names(bytes(&stage, &format!("{path}?export=csv&labelSelector=odd%3Dtrue")).await);
    assert_eq!((odd.len(), odd[0].as_str(), odd[224].as_str()), (225, "n001", "n449"));
    let sorted = names(bytes(&stage, &format!("{path}?export=csv&sortBy=-metadata.name&search=n4")).await);
    assert_eq!((sorted.len(), sorted[0].as_str(), sorted[49].as_str()), (50, "n449", "n400"));
    let list: Value = serde_json::from_slice(&bytes(&stage, &format!("{path}?export=json")).await).unwrap();
    assert_eq!((list["kind"].as_str(), list["items"].as_array().map(Vec::len)), (Some("ConfigMapList"), Some(450)));
    assert!(list["metadata"]["resourceVersion"].is_string() && list["items"][0]["metadata"]["managedFields"].is_null());
    for (query, said) in [
        ("export=pdf", "export=pdf: must be"),
        ("export", "export: must be"),
        ("export=csv&limit=5", "limit: an export"),
        ("template=json", "template=json"),
    ] {
        let answer = stage.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.message().starts_with(said), "{}", answer.message());
    }
    // Nothing to export is a file too.
    let empty = bytes(&stage, &format!("{path}?export=csv&search=nothing")).await;
    assert_eq!(names(empty), Vec::<String>::new());
}

#[tokio::test]
async fn no_value_of_a_secret_is_exported_and_an_import_keeps_it() {
    let stage = Stage::new().await;
    let path = address("secrets");
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":\"aHVudGVyMg==\"}", "note": "a"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "annotations": annotations}, "stringData": {"password": "hunter2"}});
    let before = stage.post(&path, &secret).await.ok();
    for format in ["csv", "json"] {
        let file = bytes(&stage, &format!("{path}?export={format}&search=key")).await;
        let text = String::from_utf8(file).unwrap();
        assert!(text.contains("key") && !text.contains("aHVudGVyMg") && !text.contains("hunter2"), "{text}");
        let edited = text.replace("note=a", "note=b").replace("\"note\":\"a\"", "\"note\":\"b\"");
        let report = import(&stage, &path, &format!("import={format}"), edited).await;
        assert_eq!(report["counts"]["updated"], 1, "{report:#}");
        let after = stage.get(&format!("{path}/key")).await.ok();
        assert_eq!(after["data"], before["data"]);
        assert_eq!(after["metadata"]["annotations"]["note"], "b");
        assert_eq!(
            after["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"],
            annotations["kubectl.kubernetes.io/last-applied-configuration"]
        );
        stage.merge(&format!("{path}/key"), &json!({"metadata": {"annotations": {"note": "a"}}})).await.ok();
    }
    let answer = stage.get(&format!("{path}?export=csv")).await;
    assert_eq!(answer.warnings(), ["299 - \"the values of Secrets are not exported\""]);
    // A new one may bring its values; what is wrong with them is told without them.
    let report =
        import(&stage, &path, "import=csv", "metadata.name,stringData,type\nnew,password=hunter3,Opaque\nbad,hunter4,Opaque\n").await;
    assert_eq!((&report["counts"]["created"], &report["counts"]["failed"]), (&json!(1), &json!(1)));
    assert!(!report.to_string().contains("hunter"), "{report:#}");
}

#[tokio::test]
async fn a_report_tells_of_every_row_and_a_bad_one_stops_no_other() {
    let stage = Stage::new().await;
    define(&stage).await;
    let path = address("lamps");
    let old = json!({"apiVersion": "light.example.org/v1", "kind": "Lamp", "metadata": {"name": "old", "labels": {"a": "b"}}, "spec": {"watts": 5, "text": "kept"}});
    stage.post(&path, &old).await.ok();
    let file = "metadata.name;spec.watts;spec.shade.edge.width;spec.shade.colour;metadata.labels.team;Watts\n\
        # this is for people;;;;;\n\
        good;40;3;red;vision;5d\n\
        old;;;;;\n\
        wide;1;11;red;;\n\
        odd;many;;blue;;\n\
        good;1;;;;\n\
        ;1;;;;\n\
        Bad Name;1;;;;\n\
        stray;1;;;;;;x\n";
    let report = import(&stage, &path, "import=csv", file).await;
    let counts = json!({"rows": 8, "created": 1, "updated": 1, "unchanged": 0, "failed": 6, "notReached": 0});
    assert_eq!(
        (&report["kind"], &report["counts"], &report["ignoredColumns"]),
        (&json!("ImportReport"), &counts, &json!(["Watts"])),
        "{report:#}"
    );
    let row = |number: usize| {
        report["rows"].as_array().unwrap().iter().find(|row| row["row"] == number).unwrap_or_else(|| panic!("row {number} of {report:#}"))
    };
    assert_eq!((&row(3)["outcome"], &row(3)["name"]), (&json!("Created"), &json!("good")));
    assert_eq!(row(4)["outcome"], "Updated");
    let cause = &row(5)["causes"][0];
    assert_eq!(
        (&row(5)["reason"], &cause["field"], &cause["column"], &cause["cell"]),
        (&json!("Invalid"), &json!("spec.shade.edge.width"), &json!("spec.shade.edge.width"), &json!("C5"))
    );
    assert_eq!(
        row(6)["causes"],
        json!([{"field": "spec.watts", "column": "spec.watts", "cell": "B6", "message": "expected a whole number"}])
    );
    assert_eq!(row(7)["message"], "metadata.name: row 3 is about the same object");
    assert_eq!(row(8)["message"], "metadata.name: a row needs a name");
    assert_eq!((&row(9)["reason"], &row(9)["causes"][0]["cell"]), (&json!("Invalid"), &json!("A9")));
    assert!(row(10)["message"].as_str().unwrap().contains("H10"), "{report:#}");

    let good = stage.get(&format!("{path}/good")).await.ok();
    assert_eq!(good["spec"], json!({"watts": 40, "shade": {"colour": "red", "edge": {"width": 3}}}));
    assert_eq!(good["metadata"]["labels"], json!({"team": "vision"}));
    // An empty cell takes a field away; what the file has no column for stays.
    let old = stage.get(&format!("{path}/old")).await.ok();
    assert_eq!((&old["spec"], &old["metadata"]["labels"]), (&json!({"text": "kept"}), &json!({"a": "b"})));
    assert_eq!(all(&stage, &path).await.len(), 2);
}

#[tokio::test]
async fn a_mode_says_whether_objects_are_made_or_changed_and_a_dry_run_does_neither() {
    let stage = Stage::new().await;
    let path = address("configmaps");
    let file = "metadata.name,data\na,x=1\n";
    let outcome = async |query: &str| {
        let report = import(&stage, &path, &format!("import=csv&{query}"), file).await;
        let row = &report["rows"][0];
        (row["outcome"].as_str().unwrap().to_owned(), row["reason"].as_str().unwrap_or_default().to_owned(), report["dryRun"].clone())
    };
    let said = |outcome: &str, reason: &str, dry_run: bool| (outcome.to_owned(), reason.to_owned(), json!(dry_run));
    assert_eq!(outcome("mode=update").await, said("Failed", "NotFound", false));
    assert_eq!(outcome("dryRun=All").await, said("Created", "", true));
    assert_eq!(all(&stage, &path).await, Vec::<Value>::new());
    assert_eq!(outcome("mode=create").await, said("Created", "", false));
    assert_eq!(outcome("mode=create").await, said("Failed", "AlreadyExists", false));
    assert_eq!(outcome("").await, said("Unchanged", "", false));
    stage.merge(&format!("{path}/a"), &json!({"data": {"x": "2"}})).await.ok();
    assert_eq!(outcome("mode=update&dryRun=All").await, said("Updated", "", true));
    assert_eq!(stage.get(&format!("{path}/a")).await.ok()["data"], json!({"x": "2"}));
    assert_eq!(outcome("mode=update").await, said("Updated", "", false));
    assert_eq!(stage.get(&format!("{path}/a")).await.ok()["data"], json!({"x": "1"}));
    let (code, message) = refusal(&stage, &path, "import=csv&mode=replace", file).await;
    assert_eq!((code, message.as_str()), (400, "mode=replace: must be create, update or upsert"));
}

#[tokio::test]
async fn files_that_cannot_be_meant_are_refused_as_a_whole() {
    let stage = Stage::new().await;
    let path = address("configmaps");
    for (query, file, said) in [
        ("import=csv", b"metadata.name,nonsense,data\na,b,c\n".to_vec(), "have no field \"nonsense\""),
        ("import=csv", b"metadata.name,data,data\na,b=1,c=2\n".to_vec(), "more than one column headed \"data\""),
        ("import=csv", b"data\nx=1\n".to_vec(), "no column metadata.name"),
        ("import=csv", b"".to_vec(), "no row of headings"),
        ("import=csv", b"\n\n,,,\n".to_vec(), "no row of headings"),
        ("import=csv", b"metadata.name,data\na,x=\xcb\xe3\n".to_vec(), "is not UTF-8"),
        ("import=xlsx", b"metadata.name,data\na,x=1\n".to_vec(), "no workbook"),
        ("import=json", b"{\"items\":[{\"metadata\":{\"name\":\"a\"}},".to_vec(), "not JSON"),
        ("import=json", b"{\"kind\":\"ConfigMap\"}".to_vec(), "expected a List"),
        ("import=pdf", b"".to_vec(), "must be csv, xlsx or json"),
    ] {
        let (code, message) = refusal(&stage, &path, query, file).await;
        assert_eq!(code, 400, "{message}");
        assert!(message.contains(said), "{said}: {message}");
    }
    let (code, message) = refusal(&stage, &path, "import=csv", vec![b'x'; 17 * 1024 * 1024]).await;
    assert_eq!((code, message.as_str()), (413, "the file is larger than 16 MiB; split it"));
    assert_eq!(all(&stage, &path).await, Vec::<Value>::new(), "nothing was written");
    // Kinds that are not written cannot be imported; most can only be read.
    let (code, _) = refusal(&stage, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "import=csv", "metadata.name\n").await;
    assert_eq!(code, 405);
}

#[tokio::test]
async fn files_of_other_programs_are_imported() {
    let stage = Stage::new().await;
    let path = address("configmaps");
    for (name, file, content_type) in [
        ("bom", b"\xef\xbb\xbfmetadata.name,data\r\nbom,a=\xe7\xae\x97\r\n".to_vec(), ""),
        ("semicolon", "\"metadata.name\";\"data\"\n\"semicolon\";\"a=算\"\n".as_bytes().to_vec(), "text/csv"),
        ("tabs", "metadata.name\tdata\ntabs\ta=算".as_bytes().to_vec(), "text/csv; charset=UTF-8"),
        ("gbk", b"metadata.name,data\ngbk,a=\xcb\xe3\n".to_vec(), "text/csv; charset=gbk"),
        ("list", "[{\"metadata\":{\"name\":\"list\"},\"data\":{\"a\":\"算\"}}]".as_bytes().to_vec(), "application/json"),
    ] {
        let format = if name == "list" { "json" } else { "csv" };
        let (code, bytes) = stage.bytes(Method::POST, &format!("{path}?import={format}"), content_type, file).await;
        assert_eq!(code, StatusCode::OK, "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(stage.get(&format!("{path}/{name}")).await.ok()["data"], json!({"a": "算"}), "{name}");
    }
}

#[tokio::test]
async fn rows_beyond_the_bound_are_not_reached_and_the_report_says_so() {
    let stage = Stage::new().await;
    // Rows without a name are not written, so this takes no time.
    let file = format!("metadata.name,data\n{}", ",x=1\n".repeat(10_050));
    let report = import(&stage, &address("configmaps"), "import=csv", file).await;
    let counts = json!({"rows": 10_050, "created": 0, "updated": 0, "unchanged": 0, "failed": 10_000, "notReached": 50});
    assert_eq!(report["counts"], counts);
    assert!(
        report["stopped"].as_str().unwrap().starts_with("one import writes at most 10000 rows; send the rows"),
        "{}",
        report["stopped"]
    );
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(10_000));
}

#[tokio::test]
async fn templates_are_filled_in_and_imported() {
    let stage = Stage::new().await;
    define(&stage).await;
    let path = address("lamps");
    let template = String::from_utf8(bytes(&stage, &format!("{path}?template=csv")).await).unwrap();
    let lines: Vec<&str> = template.lines().collect();
    assert_eq!(lines.len(), 3, "{template}");
    assert!(
        lines[0].contains("metadata.name") && lines[0].contains("spec.shade.colour") && !lines[0].contains("metadata.namespace"),
        "{template}"
    );
    assert!(
        lines[1].starts_with("\"# required; a text") && lines[1].contains("one of red, green. What light falls through."),
        "{template}"
    );
    assert!(lines[2].starts_with("\"# for example: example\"") && lines[2].contains("red"), "{template}");
    let report = import(&stage, &path, "import=csv", template.clone()).await;
    assert_eq!(report["counts"]["rows"], 0, "what is there to be read is no row");
    assert!(lines[0].starts_with("\u{feff}\"metadata.name\","), "what is needed comes first: {template}");
    let report = import(&stage, &path, "import=csv", format!("{template}mine\n")).await;
    assert_eq!(report["counts"]["created"], 1, "{report:#}");
    // In all namespaces, rows name theirs.
    let everywhere = "/apis/light.example.org/v1/lamps";
    assert!(String::from_utf8(bytes(&stage, &format!("{everywhere}?template=csv")).await).unwrap().contains("metadata.namespace"));
    let workbook = bytes(&stage, &format!("{everywhere}?template=xlsx")).await;
    let report = import(&stage, everywhere, "import=xlsx", workbook).await;
    assert_eq!(report["counts"]["rows"], 0);
    for pods in
        ["/api/v1/pods", "/apis/ai.fermion.dev/v1alpha1/trainingjobs", "/apis/compute.fermion.dev/v1alpha1/queues", "/api/v1/secrets"]
    {
        let template = String::from_utf8(bytes(&stage, &format!("{pods}?template=csv")).await).unwrap();
        assert!(template.lines().next().is_some_and(|headings| headings.split(',').count() <= 300), "{pods}");
    }
}

#[tokio::test]
async fn rows_name_their_namespaces_and_are_allowed_one_by_one() {
    let server = crate::server::Server::start().await;
    server
        .post(&server.admin, "/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}))
        .await
        .ok();
    let ann = server.person("ann", &["people"]).await;
    let rules = |verbs: &[&str]| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": verbs.join("-")},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]})
    };
    for verbs in [&["list"][..], &["create"], &["update"]] {
        server.post(&server.admin, crate::server::CLUSTER_ROLES, &rules(verbs)).await.ok();
    }
    let path = "/api/v1/namespaces/default/configmaps";
    let file = "metadata.namespace,metadata.name,data\ndefault,a,x=1\nother,b,x=1\n";
    let send = async |method: &str, address: &str| server.send_text(&ann, method, address, file).await;
    send("GET", &format!("{path}?export=csv")).await.refused(403);
    send("POST", &format!("{path}?import=csv")).await.refused(403);
    server.bind("default", "list", "ann").await;
    send("GET", &format!("{path}?export=csv")).await.ok();
    send("GET", "/api/v1/configmaps?export=csv").await.refused(403);
    let said = send("POST", &format!("{path}?import=csv")).await.refused(403);
    assert!(said.contains("cannot create resource \"configmaps\""), "{said}");

    server.bind("default", "create", "ann").await;
    let report = send("POST", &format!("{path}?import=csv")).await.ok();
    assert_eq!(
        (&report["rows"][0]["outcome"], &report["rows"][1]["message"]),
        (&json!("Created"), &json!("metadata.namespace: the file is imported into the namespace default"))
    );
    // It is there now: changing it is another right.
    let report = send("POST", &format!("{path}?import=csv")).await.ok();
    assert_eq!((&report["rows"][0]["outcome"], &report["rows"][0]["reason"]), (&json!("Failed"), &json!("Forbidden")));
    send("POST", &format!("{path}?import=csv&mode=update")).await.refused(403);
    send("POST", "/api/v1/configmaps?import=csv").await.refused(403);

    let everywhere = server.send_text(&server.admin, "POST", "/api/v1/configmaps?import=csv", file).await.ok();
    assert_eq!((&everywhere["counts"]["unchanged"], &everywhere["counts"]["created"]), (&json!(1), &json!(1)), "{everywhere:#}");
    let lost = server.send_text(&server.admin, "POST", "/api/v1/configmaps?import=csv", "metadata.name,data\na,x=1\n").await.ok();
    assert_eq!(lost["rows"][0]["message"], "metadata.namespace: a row needs a namespace, or import into one");
    let absent = server
        .send_text(&server.admin, "POST", "/api/v1/configmaps?import=csv", "metadata.namespace,metadata.name\nnowhere,a\n")
        .await
        .ok();
    assert_eq!(absent["rows"][0]["reason"], "NotFound", "{absent:#}");
}

#[tokio::test]
async fn texts_longer_than_a_cell_survive_a_workbook() {
    let stage = Stage::new().await;
    let path = address("configmaps");
    let long = "算,=\"\n".repeat(20_000);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "long"}, "data": {"text": long, "more": "x"}});
    stage.post(&path, &map).await.ok();
    let before = all(&stage, &path).await;
    let file = bytes(&stage, &format!("{path}?export=xlsx")).await;
    stage.delete(&path).await.ok();
    let report = import(&stage, &path, "import=xlsx", file).await;
    assert_eq!(report["counts"]["created"], 1, "{report:#}");
    assert_eq!(all(&stage, &path).await, before);
}

#[tokio::test]
async fn an_export_that_nobody_reads_gives_its_place_back() {
    let stage = Stage::new().await;
    let path = format!("{}?export=csv", address("configmaps"));
    // Twice as many as are served at once, each of them left before its end.
    for _ in 0..8 {
        drop(stage.begin(Method::GET, &path).await);
    }
    bytes(&stage, &path).await;
}
