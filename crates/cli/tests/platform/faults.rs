//! What machines do to servers, without containers: kill -9, full disks, a second server.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use fermion_testkit::{Database, Http, Node, Platform, SmallDisk, eventually};
use serde_json::json;

use crate::FERMION;

on_both!(nothing_acknowledged_is_lost_when_the_server_is_killed);

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

fn config(name: &str, text: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}})
}

/// Creates objects until told to stop or the server is gone; what was acknowledged is kept.
fn create_until(http: &Http, prefix: &str, stop: &AtomicBool, acknowledged: &Mutex<BTreeMap<String, String>>) {
    for index in 0..100_000 {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("{prefix}-{index}");
        let body = config(&name, &name).to_string();
        let Ok(answer) = http.request("POST", CONFIGS, &[("Content-Type", "application/json")], body.as_bytes()) else { return };
        // A server that is being stopped may refuse; a running one may not.
        assert!(answer.code == 201 || stop.load(Ordering::Relaxed), "{}", answer.text());
        if answer.code == 201 {
            let version = answer.json()["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
            acknowledged.lock().expect("whole").insert(name, version);
        }
    }
}

fn nothing_acknowledged_is_lost_when_the_server_is_killed(database: Database) {
    let mut platform = Platform::start_on(FERMION, Node::None, database);
    let acknowledged = Mutex::new(BTreeMap::new());
    for round in 0..3 {
        let http = platform.http();
        let stop = AtomicBool::new(false);
        let before = acknowledged.lock().expect("whole").len();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (http, stop, acknowledged) = (&http, &stop, &acknowledged);
                scope.spawn(move || create_until(http, &format!("r{round}w{writer}"), stop, acknowledged));
            }
            eventually("a burst of creates", || {
                let made = acknowledged.lock().expect("whole").len() - before;
                if made >= 100 { Ok(()) } else { Err(format!("{made} so far")) }
            });
            platform.kill();
            stop.store(true, Ordering::Relaxed);
        });
        platform.restart();
        let list = platform.http().get(CONFIGS).json();
        let found: BTreeMap<String, String> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| {
                (
                    item["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                    item["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect();
        for (name, version) in acknowledged.lock().expect("whole").iter() {
            assert_eq!(found.get(name), Some(version), "round {round}: {name} was acknowledged");
        }
    }
}

#[test]
fn a_second_server_on_the_same_home_refuses_to_start() {
    let platform = Platform::start(FERMION, Node::None);
    let second = platform.command(&["server", "--no-node", "--listen", "127.0.0.1:0"]).output().expect("it runs");
    assert!(!second.status.success());
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains(&format!("process {}", platform.pid())) && error.contains("stop that process"), "{error}");
    assert_eq!(platform.http().get("/readyz").code, 200);
}

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let disk = SmallDisk::mount(24);
    let home = tempfile::Builder::new().prefix("p").tempdir_in(disk.path()).expect("a folder");
    let platform = Platform::start_in(FERMION, Node::None, home);
    let http = platform.http();
    assert_eq!(http.post(CONFIGS, &config("before", "kept")).code, 201);
    disk.fill(0);
    let text = "x".repeat(100_000);
    let refused = eventually("a write to be refused", || {
        let name = format!("big-{}", uuid::Uuid::new_v4().simple());
        let answer = http.post(CONFIGS, &config(&name, &text));
        if answer.code == 201 { Err("there was room".to_owned()) } else { Ok(answer) }
    });
    assert_eq!(refused.code, 507, "{}", refused.text());
    assert!(refused.text().contains("disk of the database is full"), "{}", refused.text());
    assert_eq!(http.get(&format!("{CONFIGS}/before")).json()["data"]["text"], "kept");
    disk.relieve();
    eventually("writes to work again", || {
        let name = format!("after-{}", uuid::Uuid::new_v4().simple());
        let answer = http.post(CONFIGS, &config(&name, &text));
        if answer.code == 201 { Ok(()) } else { Err(answer.text()) }
    });
}
