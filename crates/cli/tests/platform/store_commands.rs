//! `fermion backup`, `restore` and `store`: whole databases, on servers that people work with.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fermion_testkit::{Cluster, Database, Http, Kubectl, Node, Platform, eventually};
use serde_json::{Value, json};

use crate::FERMION;

on_both!(backup_of_a_busy_server_is_of_one_moment_and_restores_it, restore_never_replaces_what_is_there);

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEFINITION: &str = include_str!("definitions/backup.yaml");
const CUSTOM: &str = "apiVersion: storage.example.org/v1\nkind: Backup\nmetadata: {name: nightly}\nspec:\n  source: orders\n  bucket: {url: 's3://copies/orders'}\n";
const PASSWORD: &str = "hush-7f21-orange";
/// The same in base64.
const ENCODED: &str = "aHVzaC03ZjIxLW9yYW5nZQ==";
/// What must be the same after a copy.
const COMPARED: [&str; 6] =
    ["configmaps", "secrets", "pods", "customresourcedefinitions", "backups.storage.example.org", "usagerecords.observe.fermion.dev"];

/// Objects of core kinds, a kind defined at run time, a Secret, and a pod that ran and left a usage record.
fn fill(platform: &Platform) {
    let kubectl = platform.kubectl();
    kubectl.apply(DEFINITION);
    kubectl.run(&["wait", "--for=condition=Established", "crd/backups.storage.example.org", "--timeout=60s"]).ok();
    kubectl.apply(CUSTOM);
    kubectl.run(&["create", "secret", "generic", "database", &format!("--from-literal=password={PASSWORD}")]).ok();
    kubectl.run(&["create", "configmap", "settings", "--from-literal=colour=blue"]).ok();
    kubectl.run(&["label", "configmap", "settings", "tier=web"]).ok();
    let http = platform.http();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ran"},
        "spec": {"nodeName": "elsewhere", "containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "2"}}}]},
    });
    assert_eq!(http.post(PODS, &pod).code, 201);
    let state = json!({"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z"}});
    let container = json!({"name": "main", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [container]}});
    let headers = [("Content-Type", "application/merge-patch+json")];
    let written = http.request("PATCH", &format!("{PODS}/ran/status"), &headers, status.to_string().as_bytes()).expect("an answer");
    assert_eq!(written.code, 200, "{}", written.text());
    assert!(kubectl.run(&["get", "usagerecords", "-o", "name"]).ok().contains("/ran."));
}

/// Everything that is compared, with uids and versions.
fn seen(kubectl: &Kubectl) -> Vec<Value> {
    let get = |kind: &str| -> Value { serde_json::from_str(&kubectl.run(&["get", kind, "-A", "-o", "json"]).ok()).expect("JSON") };
    COMPARED.map(|kind| get(kind)["items"].clone()).to_vec()
}

/// Checks that a platform is as another one was, and goes on.
fn is_the_same(platform: &Platform, before: &[Value]) {
    let kubectl = platform.kubectl();
    for ((kind, before), after) in COMPARED.iter().zip(before).zip(seen(&kubectl)) {
        assert_eq!(&after, before, "{kind}");
        assert_ne!(after, json!([]), "{kind}: there is nothing to compare");
    }
    let password = kubectl.run(&["get", "secret", "database", "-o", "jsonpath={.data.password}"]).ok();
    assert_eq!(password, ENCODED);
    // It goes on: with new versions above the old ones, and with the defined kind.
    let newest = |value: &Value| value["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok());
    let last = before.iter().flat_map(|items| items.as_array().expect("items")).filter_map(newest).max();
    let made = platform.http().post(CONFIGS, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "after-"}}));
    assert!(newest(&made.json()) > last, "{}", made.text());
    kubectl.run(&["delete", "configmap", made.json()["metadata"]["name"].as_str().expect("a name")]).ok();
    kubectl.run(&["patch", "bk", "nightly", "--type=merge", "--patch", "{\"spec\":{\"source\":1}}"]).refused();
    assert!(kubectl.run(&["explain", "backup"]).ok().contains("A Backup copies a database"));
}

/// A platform that is not started yet, with an empty database.
fn empty(database: Database) -> Platform {
    let cluster = Cluster::shared();
    match database {
        Database::Sqlite => Platform::prepared(FERMION, None),
        Database::Postgres => Platform::prepared(FERMION, Some(&cluster.url(&cluster.database()))),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain letters")
}

#[test]
fn a_platform_moves_from_sqlite_to_postgres_and_back() {
    let mut platform = Platform::start_on(FERMION, Node::None, Database::Sqlite);
    fill(&platform);
    platform.stop();
    platform.restart();
    let before = seen(&platform.kubectl());
    platform.stop();

    let mut moved = empty(Database::Postgres);
    let url = moved.database().expect("it is on PostgreSQL").to_owned();
    let data = platform.home().join("data");
    let copied = moved.run(&["store", "copy", "--from", text(&data), "--to", &url]).ok();
    assert!(copied.starts_with("copied: "), "{copied}");
    assert!(moved.run(&["store", "check"]).ok().starts_with("sound: "));
    moved.take_keys_of(&platform);
    moved.restart();
    is_the_same(&moved, &before);
    let before = seen(&moved.kubectl());
    moved.stop();

    let mut back = empty(Database::Sqlite);
    let data = back.home().join("data");
    back.run(&["store", "copy", "--from", &url, "--to", &format!("{}/", text(&data))]).ok();
    assert!(back.run(&["store", "check"]).ok().starts_with("sound: "));
    back.take_keys_of(&moved);
    back.restart();
    is_the_same(&back, &before);
}

/// Creates objects one after another until told to stop.
fn write_until(http: &Http, writer: usize, stop: &AtomicBool, acknowledged: &AtomicUsize) {
    for index in 0..100_000 {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let name = format!("w{writer}-{index:05}");
        let answer = http.post(CONFIGS, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}));
        assert_eq!(answer.code, 201, "{}", answer.text());
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

fn backup_of_a_busy_server_is_of_one_moment_and_restores_it(database: Database) {
    const WRITERS: usize = 3;
    const WRITES_BEFORE: usize = 60;
    let platform = Platform::start_on(FERMION, Node::None, database);
    fill(&platform);
    let before = seen(&platform.kubectl());
    let file = platform.home().join("busy.backup");
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (at_begin, at_end) = std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (http, stop, acknowledged) = (platform.http(), &stop, &acknowledged);
            scope.spawn(move || write_until(&http, writer, stop, acknowledged));
        }
        let count = || acknowledged.load(Ordering::SeqCst);
        eventually("some writes", || if count() >= WRITES_BEFORE { Ok(()) } else { Err(count().to_string()) });
        let at_begin = count();
        let made = platform.run(&["backup", text(&file)]);
        let at_end = count();
        stop.store(true, Ordering::SeqCst);
        assert!(made.ok().starts_with("copied: "));
        (at_begin, at_end)
    });
    assert!(platform.run(&["store", "check", "--file", text(&file)]).ok().starts_with("sound: "));

    let mut restored = empty(database);
    let told = restored.run(&["restore", text(&file)]);
    assert!(told.stderr.contains("secrets.key") && told.stderr.contains("service-account.key"), "{}", told.stderr);
    assert!(told.ok().starts_with("copied: "));
    restored.take_keys_of(&platform);
    restored.restart();
    let list = restored.http().get(CONFIGS).json();
    let names: Vec<&str> = list["items"].as_array().expect("items").iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    let mut written = 0;
    for writer in 0..WRITERS {
        let of = |name: &&&str| name.starts_with(&format!("w{writer}-"));
        let own: Vec<&&str> = names.iter().filter(of).collect();
        written += own.len();
        // The first of each writer's, without gaps: of one moment.
        assert!(own.iter().zip(0..).all(|(name, index)| ***name == format!("w{writer}-{index:05}")), "{own:?}");
    }
    // Each writer may have had one more under way than it knew of.
    assert!((at_begin..=at_end + WRITERS).contains(&written), "{written} writes are in a backup made between {at_begin} and {at_end}");
    for name in names.iter().filter(|name| name.starts_with('w')) {
        assert_eq!(restored.http().request("DELETE", &format!("{CONFIGS}/{name}"), &[], b"").expect("an answer").code, 200);
    }
    is_the_same(&restored, &before);
}

fn restore_never_replaces_what_is_there(database: Database) {
    let mut platform = Platform::start_on(FERMION, Node::None, database);
    fill(&platform);
    let before = seen(&platform.kubectl());
    let file = platform.home().join("good.backup");
    platform.run(&["backup", text(&file)]).ok();
    let again = platform.run(&["backup", text(&file)]).refused();
    assert!(again.contains("good.backup") && again.contains("exists"), "{again}");

    // Over the running server, and over its database.
    let over = platform.run(&["restore", text(&file)]).refused();
    let why = if database == Database::Sqlite { "is in use by" } else { "there is a store already" };
    assert!(over.contains(why), "{over}");
    is_the_same(&platform, &before);
    platform.stop();
    let over = platform.run(&["restore", text(&file)]).refused();
    assert!(over.contains("there is a store already"), "{over}");

    // What is no whole backup.
    let target = empty(database);
    let whole = fs::read(&file).expect("the backup");
    let broken = |name: &str, bytes: &[u8]| {
        let path = platform.home().join(name);
        fs::write(&path, bytes).expect("a file");
        target.run(&["restore", text(&path)]).refused()
    };
    let refused = broken("text.backup", b"this is no database, but it is long enough to be looked at as one");
    assert!(refused.contains("not a database"), "{refused}");
    let refused = broken("empty.backup", b"");
    assert!(refused.contains("there is no store in it"), "{refused}");
    let refused = broken("half.backup", &whole[..whole.len() / 2]);
    assert!(refused.contains("damaged") || refused.contains("malformed"), "{refused}");
    let refused = target.run(&["restore", "/nowhere/at-all.backup"]).refused();
    assert!(refused.contains("/nowhere/at-all.backup"), "{refused}");
    // After all that it is as empty as before, and takes the whole one.
    target.run(&["restore", text(&file)]).ok();
    platform.restart();
    is_the_same(&platform, &before);
}

#[test]
fn a_restored_platform_asks_for_the_keys_of_its_data() {
    let platform = Platform::start_on(FERMION, Node::None, Database::Sqlite);
    fill(&platform);
    let before = seen(&platform.kubectl());
    let file = platform.home().join("a.backup");
    platform.run(&["backup", text(&file)]).ok();
    let mut restored = empty(Database::Sqlite);
    restored.run(&["restore", text(&file)]).ok();

    let start = |platform: &Platform, more: &[&str]| platform.run(&[&["server", "--no-node", "--listen", "127.0.0.1:0"], more].concat());
    let refused = start(&restored, &[]).refused();
    assert!(refused.contains("secrets.key is missing") && refused.contains("copy the file"), "{refused}");
    assert!(!restored.home().join("secrets.key").exists(), "no other key is made in its place");
    // Nor can the keys of the data be given up while a Secret needs them.
    let refused = start(&restored, &["--replace-keys"]).refused();
    assert!(refused.contains("is missing, and Secret default/database"), "{refused}");
    // Those of another platform.
    let other = Platform::start_on(FERMION, Node::None, Database::Sqlite);
    restored.take_keys_of(&other);
    let refused = start(&restored, &[]).refused();
    assert!(refused.contains("secrets.key does not hold key"), "{refused}");
    let refused = start(&restored, &["--replace-keys"]).refused();
    assert!(refused.contains("Secret default/database is encrypted"), "{refused}");
    restored.take_keys_of(&platform);
    restored.restart();
    is_the_same(&restored, &before);
}

#[test]
fn mistakes_in_addresses_are_told_without_the_password() {
    let platform = empty(Database::Sqlite);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    for (url, expected) in [
        (format!("postgres://me:{PASSWORD}@127.0.0.1:{closed}/x"), "could not connect"),
        (format!("postgres://me:{PASSWORD}@127.0.0.1/x?sslmode=perhaps"), "sslmode=perhaps"),
        (format!("postgres://me:{PASSWORD}@127.0.0.1/x?sslmode=verify-full&sslrootcert=/nowhere.pem"), "/nowhere.pem"),
    ] {
        for command in
            [&["store", "check", "--database", &url][..], &["server", "--no-node", "--listen", "127.0.0.1:0", "--database", &url]]
        {
            let refused = platform.run(command).refused();
            assert!(refused.contains(expected) && !refused.contains(PASSWORD), "{command:?}: {refused}");
        }
    }
}
