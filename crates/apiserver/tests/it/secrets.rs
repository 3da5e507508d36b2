//! Secrets at rest and in what is said about them.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::http::{Method, StatusCode};
use fermion_store::{Commit, Expect, Key, ListQuery, Scope, Write};
use serde_json::{Value, json};

use crate::stage::{Stage, key_file};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// Stands in every secret of these tests, as text; its base64 is another canary.
const CANARY: &str = "canary-8c1f-yellow";

fn canary_in_base64() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(CANARY)
}

fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": name, "labels": {"tier": "web"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": format!("{{\"stringData\":{{\"a\":\"{CANARY}\"}}}}")},
        },
        "stringData": {"password": CANARY},
    })
}

/// Whether any file below a directory holds a canary.
fn files_with_canary(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            // In base64 a text looks another way at each of three places: its middle is the same.
            if holds(CANARY) || holds(&canary_in_base64()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn only_ciphertext_reaches_the_files_and_clients_see_plain_text() {
    let stage = Stage::new().await;
    let made = stage.post(SECRETS, &secret("a")).await.ok();
    assert_eq!(made["data"]["password"], canary_in_base64());
    let changed = stage.merge(&format!("{SECRETS}/a"), &json!({"stringData": {"second": CANARY}})).await.ok();
    assert_eq!(changed["data"]["second"], canary_in_base64());
    assert_eq!(stage.get(&format!("{SECRETS}/a")).await.ok(), changed);
    let listed = stage.get(&format!("{SECRETS}?labelSelector=tier%3Dweb&fieldSelector=type%3DOpaque")).await.ok();
    assert_eq!(listed["items"], json!([changed]));
    // Of the past: a page of a list, and a watch.
    let revision = made["metadata"]["resourceVersion"].as_str().unwrap();
    let past = stage.get(&format!("{SECRETS}?resourceVersion={revision}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(past["items"], json!([made]));
    stage.delete(&format!("{SECRETS}/a")).await.ok();
    let watched = stage.get(&format!("{SECRETS}?watch=true&resourceVersion={revision}&timeoutSeconds=1")).await;
    let events: Vec<Value> = watched.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, ["MODIFIED", "DELETED"]);
    for event in &events {
        assert_eq!(event["object"]["data"], changed["data"]);
    }
    stage.post(SECRETS, &secret("b")).await.ok();
    assert_eq!(files_with_canary(stage.directory.path()), Vec::<String>::new());
    // And after the write-ahead log was copied, and everything is read by another process.
    let directory = stage.close().await;
    assert_eq!(files_with_canary(directory.path()), Vec::<String>::new());
    let stage = Stage::open(directory).await.unwrap();
    assert_eq!(stage.get(&format!("{SECRETS}/b")).await.ok()["data"]["password"], canary_in_base64());
}

#[tokio::test]
async fn stored_bodies_cannot_be_exchanged_between_secrets() {
    let stage = Stage::new().await;
    stage.post(SECRETS, &secret("mine")).await.ok();
    stage.post(SECRETS, &secret("theirs")).await.ok();
    let key = |name: &str| Key::new("secrets", "default", name);
    let stolen: Value = serde_json::from_slice(&stage.store.get(&key("theirs")).await.unwrap().unwrap().body).unwrap();
    stage.store.commit(Commit::of(Write::Put { key: key("mine"), expect: Expect::Any, object: stolen })).await.unwrap();
    assert_eq!(stage.get(&format!("{SECRETS}/mine")).await.code, StatusCode::SERVICE_UNAVAILABLE);
    stage.get(&format!("{SECRETS}/theirs")).await.ok();
}

#[tokio::test]
async fn plain_secrets_are_sealed_at_the_next_start() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let store = fermion_store::Store::open(&directory.path().join("data"), fermion_store::Options::default()).unwrap();
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "old"}, "data": {"password": canary_in_base64()}});
    let write = Write::Put { key: Key::new("secrets", "default", "old"), expect: Expect::Absent, object };
    store.commit(Commit::of(write)).await.unwrap();
    store.close().await;
    let stage = Stage::open(directory).await.unwrap();
    assert_eq!(stage.get(&format!("{SECRETS}/old")).await.ok()["data"]["password"], canary_in_base64());
    let stored = stage.store.get(&Key::new("secrets", "default", "old")).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&stored.body).contains(&canary_in_base64()));
    // Nothing that can still be listed or watched is in plain text.
    let oldest = ListQuery { at_revision: Some(stage.store.oldest_revision()), ..ListQuery::all(Scope::all("secrets")) };
    for stored in stage.store.list(oldest).await.unwrap().items {
        assert!(!String::from_utf8_lossy(&stored.body).contains(&canary_in_base64()));
    }
}

#[tokio::test]
async fn a_missing_or_wrong_key_stops_the_start_and_loses_nothing() {
    let stage = Stage::new().await;
    stage.post(SECRETS, &secret("a")).await.ok();
    let file = stage.key_file();
    let directory = stage.close().await;
    let kept = std::fs::read(&file).unwrap();

    std::fs::remove_file(&file).unwrap();
    let missing = Stage::open(directory.clone()).await.err().unwrap().to_string();
    assert!(missing.contains("secrets.key is missing, and Secret default/a is encrypted"), "{missing}");
    assert!(!file.exists(), "no other key takes its place");

    let write = |text: &str| {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file).unwrap();
        opened.write_all(text.as_bytes()).unwrap();
    };
    write("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    let wrong = Stage::open(directory.clone()).await.err().unwrap().to_string();
    assert!(wrong.contains("secrets.key does not hold key ") && wrong.contains("Secret default/a is encrypted"), "{wrong}");

    write("not a key\n");
    let malformed = Stage::open(directory.clone()).await.err().unwrap().to_string();
    assert!(malformed.contains("key 1 is not 32 bytes in base64"), "{malformed}");

    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = Stage::open(directory.clone()).await.err().unwrap().to_string();
        assert!(exposed.contains("chmod 600"), "{exposed}");
        std::fs::remove_file(&file).unwrap();
    }

    write(std::str::from_utf8(&kept).unwrap());
    let stage = Stage::open(directory).await.unwrap();
    assert_eq!(stage.get(&format!("{SECRETS}/a")).await.ok()["data"]["password"], canary_in_base64());
}

#[tokio::test]
async fn the_key_can_be_replaced_and_the_old_one_forgotten() {
    let stage = Stage::new().await;
    for name in ["a", "b", "c"] {
        stage.post(SECRETS, &secret(name)).await.ok();
    }
    let before = std::fs::read_to_string(stage.key_file()).unwrap();
    let keys = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    let rotate = |body: &'static str| stage.call(Method::POST, "/secrets/rotate-key", "application/json", body);
    let done = rotate("").await.ok();
    assert_eq!((&done["rewritten"], done["keys"].as_array().map(Vec::len)), (&json!(3), Some(2)));
    let after = std::fs::read_to_string(stage.key_file()).unwrap();
    assert_eq!(keys(&after)[1..], keys(&before));
    stage.post(SECRETS, &secret("d")).await.ok();
    let done = rotate(r#"{"dropOld": true}"#).await.ok();
    assert_eq!((&done["rewritten"], done["keys"].as_array().map(Vec::len)), (&json!(4), Some(1)));
    let last = keys(&std::fs::read_to_string(stage.key_file()).unwrap());
    assert!(last.len() == 1 && !keys(&after).contains(&last[0]));
    // With the new key alone, also what can still be read of the past.
    let directory = stage.close().await;
    let stage = Stage::open(directory).await.unwrap();
    assert_eq!(stage.get(SECRETS).await.ok()["items"].as_array().map(Vec::len), Some(4));
    let oldest = stage.store.oldest_revision();
    let past = stage.get(&format!("{SECRETS}?resourceVersion={oldest}&resourceVersionMatch=Exact")).await;
    assert_eq!(past.ok()["items"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_is_finished_at_the_next_start() {
    let stage = Stage::new().await;
    stage.post(SECRETS, &secret("a")).await.ok();
    let file = stage.key_file();
    let directory = stage.close().await;
    // As if the server had died after it wrote the new key down.
    let text = std::fs::read_to_string(&file).unwrap();
    let old = text.lines().find(|line| !line.starts_with('#')).unwrap().to_owned();
    let new = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    std::fs::write(&file, format!("{new}\n{old}\n")).unwrap();
    let stage = Stage::open(directory).await.unwrap();
    stage.get(&format!("{SECRETS}/a")).await.ok();
    let directory = stage.close().await;
    std::fs::write(key_file(directory.path()), format!("{new}\n")).unwrap();
    let stage = Stage::open(directory).await.unwrap();
    assert_eq!(stage.get(&format!("{SECRETS}/a")).await.ok()["data"]["password"], canary_in_base64());
}

/// What was logged while this test's thread ran.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_error_and_no_log_repeats_a_secret() {
    let log = Log::default();
    let kept = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || kept.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let stage = Stage::new().await;
    stage.post(SECRETS, &secret("a")).await.ok();
    let path = format!("{SECRETS}/a");
    let encoded = canary_in_base64();
    let put = |change: &dyn Fn(&mut Value)| {
        let mut object = secret("a");
        change(&mut object);
        object.to_string()
    };
    let json = "application/json";
    let strategic = "application/strategic-merge-patch+json";
    let attempts: Vec<(Method, &str, String, String)> = vec![
        // Wrong types and places.
        (Method::PUT, json, path.clone(), put(&|object| object["data"] = CANARY.into())),
        (Method::PUT, json, path.clone(), put(&|object| object["data"] = json!([CANARY]))),
        (Method::PUT, json, path.clone(), put(&|object| object["data"] = json!({"a": {"b": CANARY}}))),
        (Method::PUT, json, path.clone(), put(&|object| object["data"] = json!({"a": CANARY}))),
        (Method::PUT, json, path.clone(), put(&|object| object["stringData"] = json!({"a": [CANARY]}))),
        (Method::PUT, json, path.clone(), put(&|object| object["stringData"] = CANARY.into())),
        (Method::PUT, json, path.clone(), put(&|object| object["immutable"] = CANARY.into())),
        (Method::PUT, json, format!("{path}?fieldValidation=Strict"), put(&|object| object["password"] = CANARY.into())),
        (Method::PUT, json, path.clone(), put(&|object| object["metadata"] = CANARY.into())),
        (Method::PUT, json, path.clone(), put(&|object| object["metadata"]["annotations"] = json!({"a": [CANARY]}))),
        (Method::PUT, json, path.clone(), put(&|object| object["metadata"]["resourceVersion"] = "1".into())),
        (Method::PUT, json, path.clone(), put(&|object| object["metadata"]["uid"] = "x".into())),
        // No JSON, cut off, too large.
        (Method::PUT, json, path.clone(), CANARY.to_owned()),
        (Method::PUT, json, path.clone(), format!("{{\"data\": \"{CANARY}")),
        (Method::PUT, json, path.clone(), format!("\"{CANARY}\"")),
        (Method::POST, json, SECRETS.to_owned(), put(&|object| object["stringData"]["a"] = CANARY.repeat(200_000).into())),
        (Method::POST, json, SECRETS.to_owned(), put(&|_| ())),
        (Method::POST, "application/vnd.kubernetes.protobuf", SECRETS.to_owned(), format!("k8s\0{CANARY}")),
        (Method::POST, "text/plain", SECRETS.to_owned(), CANARY.to_owned()),
        // Patches.
        (Method::PATCH, "application/json-patch+json", path.clone(), json!([CANARY]).to_string()),
        (Method::PATCH, "application/json-patch+json", path.clone(), json!([{"op": CANARY, "path": "/data"}]).to_string()),
        (
            Method::PATCH,
            "application/json-patch+json",
            path.clone(),
            json!([{"op": "test", "path": "/data/password", "value": CANARY}]).to_string(),
        ),
        (Method::PATCH, "application/json-patch+json", path.clone(), json!([{"op": "add", "path": 1, "value": CANARY}]).to_string()),
        (
            Method::PATCH,
            "application/json-patch+json",
            path.clone(),
            json!([{"op": "add", "path": "/data/a/b/c", "value": CANARY}]).to_string(),
        ),
        (
            Method::PATCH,
            "application/json-patch+json",
            path.clone(),
            json!([{"op": "replace", "path": "/data", "value": CANARY}]).to_string(),
        ),
        (Method::PATCH, "application/merge-patch+json", path.clone(), json!(CANARY).to_string()),
        (Method::PATCH, "application/merge-patch+json", path.clone(), json!({"data": {"a": [CANARY]}}).to_string()),
        (Method::PATCH, strategic, path.clone(), json!({"data": {"$patch": CANARY}}).to_string()),
        (Method::PATCH, strategic, path.clone(), json!({"data": CANARY}).to_string()),
        (Method::PATCH, strategic, path.clone(), json!({"$retainKeys": CANARY}).to_string()),
        (
            Method::PATCH,
            "application/apply-patch+yaml",
            format!("{path}?fieldManager=b"),
            put(&|object| object["data"] = json!({"a": [CANARY]})),
        ),
        (
            Method::PATCH,
            "application/apply-patch+yaml",
            format!("{path}?fieldManager=b"),
            put(&|object| object["data"] = json!({"a": CANARY})),
        ),
        (Method::PATCH, "application/apply-patch+yaml", format!("{path}?fieldManager=b"), CANARY.to_owned()),
    ];
    for (method, content_type, path, body) in attempts {
        let shown: String = body.chars().take(120).collect();
        let answer = stage.call(method.clone(), &path, content_type, body).await;
        assert!(answer.code.is_client_error(), "{method} {content_type} {shown}: {answer:?}");
        assert!(!answer.text.contains(CANARY) && !answer.text.contains(&encoded), "{method} {content_type} {shown}: {answer:?}");
    }
    // One field owned by two.
    for body in ["a", "b"] {
        let manager = format!("{SECRETS}/shared?fieldManager={body}");
        let value = if body == "a" { encoded.clone() } else { format!("{encoded}AAAA") };
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared"}, "data": {"a": value}});
        let answer = stage.call(Method::PATCH, &manager, "application/apply-patch+yaml", object.to_string()).await;
        if !answer.code.is_success() {
            assert!(!answer.text.contains(&encoded), "{answer:?}");
        }
    }
    // An immutable one.
    let mut fixed = secret("fixed");
    fixed["immutable"] = true.into();
    stage.post(SECRETS, &fixed).await.ok();
    let refused = stage.merge(&format!("{SECRETS}/fixed"), &json!({"data": {"password": format!("{encoded}AAAA")}})).await;
    assert!(refused.code == StatusCode::UNPROCESSABLE_ENTITY && !refused.text.contains(&encoded), "{refused:?}");
    // One that cannot be opened: told without its text, in the answer and in the log.
    let key = Key::new("secrets", "default", "a");
    let mut damaged: Value = serde_json::from_slice(&stage.store.get(&key).await.unwrap().unwrap().body).unwrap();
    damaged["sealed"]["data"] = "AAAA".into();
    stage.store.commit(Commit::of(Write::Put { key, expect: Expect::Any, object: damaged })).await.unwrap();
    assert_eq!(stage.get(&path).await.code, StatusCode::SERVICE_UNAVAILABLE);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("store failed"), "the log was kept: {logged}");
    assert!(!logged.contains(CANARY) && !logged.contains(&encoded));
}
