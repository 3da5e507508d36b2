//! Secrets as people use them: kubectl and the binary over everything the platform writes.

use std::fs;
use std::path::Path;

use fermion_testkit::{Node, Platform};
use serde_json::json;

use crate::FERMION;

const CANARY: &str = "canary-5e77-violet";
/// The same in base64.
const ENCODED: &str = "Y2FuYXJ5LTVlNzctdmlvbGV0";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// Files below the home, but for those that kubectl keeps for itself, that hold a canary.
fn files_with_canary(home: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![home.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl-")) {
                    folders.push(path);
                }
                continue;
            }
            let bytes = fs::read(&path).unwrap_or_default();
            if [CANARY, ENCODED].iter().any(|canary| bytes.windows(canary.len()).any(|window| window == canary.as_bytes())) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn no_file_of_the_platform_holds_a_secret_in_plain_text() {
    let mut platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.run(&["create", "secret", "generic", "made", &format!("--from-literal=password={CANARY}")]).ok();
    let manifest = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: applied}}\nstringData: {{password: {CANARY}}}\n");
    kubectl.run_with(&["apply", "-f", "-"], &manifest).ok();
    let more = format!("{manifest}data: {{second: {ENCODED}}}\n");
    kubectl.run_with(&["apply", "-f", "-"], &more).ok();
    let wrong = manifest.replace("stringData: {password: ", "data: {password: [").replace("}\n", "]}\n").replace("applied]}", "applied}");
    kubectl.run_with(&["apply", "-f", "-"], &wrong).refused();
    let http = platform.http();
    let refused = http.post(SECRETS, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong"}, "data": {"a": CANARY}}));
    assert!(refused.code == 422 && !refused.text().contains(CANARY), "{}", refused.text());
    let watched = http.get(&format!("{SECRETS}?watch=true&timeoutSeconds=1")).text();
    assert!(watched.matches(ENCODED).count() >= 2, "{watched}");
    assert_eq!(files_with_canary(platform.home()), Vec::<String>::new());
    platform.kill();
    assert_eq!(files_with_canary(platform.home()), Vec::<String>::new());
    platform.restart();
    let read = |platform: &Platform| platform.kubectl().run(&["get", "secret", "made", "-o", "jsonpath={.data.password}"]).ok();
    assert_eq!(read(&platform), ENCODED);

    let key_file = platform.home().join("secrets.key");
    let before = fs::read_to_string(&key_file).expect("a file of keys");
    let rotated = platform.run(&["secrets", "rotate-key", "--drop-old"]).ok();
    assert!(rotated.contains("Secrets are encrypted with key "), "{rotated}");
    let after = fs::read_to_string(&key_file).expect("a file of keys");
    assert_eq!(after.lines().filter(|line| !line.starts_with('#')).count(), 1);
    assert_ne!(before, after);
    assert_eq!(read(&platform), ENCODED);
    platform.kill();
    platform.restart();
    assert_eq!(read(&platform), ENCODED);
    platform.stop();
    assert_eq!(files_with_canary(platform.home()), Vec::<String>::new());

    // With the key of before the server says what it needs, and changes nothing.
    fs::write(&key_file, before).expect("a file of keys");
    let failed = platform.run(&["server", "--listen", "127.0.0.1:0", "--no-node"]).refused();
    assert!(failed.contains("secrets.key does not hold key ") && failed.contains("put that key back"), "{failed}");
    fs::write(&key_file, after).expect("a file of keys");
    platform.restart();
    assert_eq!(read(&platform), ENCODED);
}
