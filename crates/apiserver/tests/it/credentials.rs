//! Users, API keys and tokens of ServiceAccounts as requests meet them.

use fermion_store::{Commit, Expect, Key, ListQuery, Options, Scope, Store, Write};
use serde_json::{Value, json};

use crate::server::{API_KEYS, START, Server, USERS, password_of, user};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

fn key(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "iam.fermion.dev/v1alpha1", "kind": "ApiKey", "metadata": {"name": name}, "spec": spec})
}

async fn issue(server: &Server, by: &str, name: &str) -> String {
    let answer = server.post(by, &format!("{API_KEYS}/{name}/token"), &json!({})).await.ok();
    answer["status"]["token"].as_str().expect("a token").to_owned()
}

async fn whoami(server: &Server, token: &str) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    server.post(token, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await.ok()["status"]["userInfo"].clone()
}

#[tokio::test]
async fn a_user_signs_in_and_out_and_dies_when_disabled() {
    let server = Server::start().await;
    let ann = server.person("ann", &["dev"]).await;
    let me = whoami(&server, &ann).await;
    assert_eq!((&me["username"], &me["groups"]), (&json!("ann"), &json!(["dev", "system:authenticated"])));
    let path = format!("{USERS}/ann");
    assert_eq!(server.get(&server.admin, &path).await.ok()["status"]["lastSignInAt"], START);
    // Groups are those of now, not of the sign-in.
    server.merge(&server.admin, &path, &json!({"spec": {"groups": ["ops"]}})).await.ok();
    assert_eq!(whoami(&server, &ann).await["groups"], json!(["ops", "system:authenticated"]));
    server.merge(&server.admin, &path, &json!({"spec": {"disabled": true}})).await.ok();
    assert_eq!(server.get(&ann, "/api").await.code, 401);
    assert_eq!(server.sign_in("ann", &password_of("ann")).await.code, 401);
    server.merge(&server.admin, &path, &json!({"spec": {"disabled": false}})).await.ok();
    server.get(&ann, "/api").await.ok();
    server.post(&ann, "/auth/sign-out", &json!({})).await.ok();
    assert_eq!(server.get(&ann, "/api").await.code, 401);
    assert_eq!(server.post(&ann, "/auth/sign-out", &json!({})).await.code, 401);
    // A new user of the same name is somebody else.
    let again = server.sign_in("ann", &password_of("ann")).await.ok()["token"].as_str().expect("a token").to_owned();
    server.delete(&server.admin, &path).await.ok();
    assert_eq!(server.get(&again, "/api").await.code, 401);
    server.post(&server.admin, USERS, &user("ann", &["dev"])).await.ok();
    assert_eq!(server.get(&again, "/api").await.code, 401);
    assert_eq!(server.sign_in("ann", &password_of("ann")).await.code, 401, "the password went with the user");
}

#[tokio::test]
async fn a_new_password_or_an_order_ends_every_sign_in() {
    let server = Server::start().await;
    let first = server.person("ann", &[]).await;
    let wrong = json!({"username": "ann", "currentPassword": "not this one", "password": "another long one"});
    assert_eq!(server.post("", "/auth/password", &wrong).await.code, 401);
    let change = json!({"username": "ann", "currentPassword": password_of("ann"), "password": "another long one"});
    server.clock.set("2026-01-01T00:00:01Z".parse().expect("a time"));
    server.post("", "/auth/password", &change).await.ok();
    assert_eq!(server.get(&first, "/api").await.code, 401);
    assert_eq!(server.sign_in("ann", &password_of("ann")).await.code, 401);
    let second = server.sign_in("ann", "another long one").await.ok()["token"].as_str().expect("a token").to_owned();
    server.get(&second, "/api").await.ok();
    server.clock.set("2026-01-01T00:00:02Z".parse().expect("a time"));
    server.post(&server.admin, &format!("{USERS}/ann/signout"), &json!({})).await.ok();
    assert_eq!(server.get(&second, "/api").await.code, 401);
    let short = json!({"username": "ann", "currentPassword": "another long one", "password": "short"});
    server.post("", "/auth/password", &short).await.refused(400);
    // The administrator's kubeconfig is no sign-in.
    server.post(&server.admin, &format!("{USERS}/admin/signout"), &json!({})).await.ok();
    server.get(&server.admin, "/api").await.ok();
}

#[tokio::test]
async fn a_start_without_an_administrator_makes_one() {
    let server = Server::start().await;
    server.sign_in("admin", &server.password).await.ok();
    server.merge(&server.admin, &format!("{USERS}/admin"), &json!({"spec": {"disabled": true}})).await.ok();
    assert_eq!(server.get(&server.admin, "/api").await.code, 401);
    let again = Server::over(server.store.clone(), tempfile::tempdir().expect("a folder")).await;
    again.sign_in("admin-2", &again.password).await.ok();
    assert_eq!(again.get(&again.admin, &format!("{USERS}/admin")).await.ok()["spec"]["disabled"], true);
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    server.clock.set("2026-01-30T23:59:59Z".parse().expect("a time"));
    server.get(&ann, "/api").await.ok();
    server.clock.set("2026-01-31T00:00:00Z".parse().expect("a time"));
    assert_eq!(server.get(&ann, "/api").await.code, 401);
}

#[tokio::test]
async fn wrong_passwords_lock_the_name_and_then_the_address() {
    let server = Server::start().await;
    server.person("ann", &[]).await;
    for _ in 0..5 {
        assert_eq!(server.sign_in("ann", "wrong").await.code, 401);
    }
    let locked = server.sign_in("ann", &password_of("ann")).await;
    assert_eq!((locked.code.as_u16(), &locked.body["details"]["retryAfterSeconds"]), (429, &json!(61)));
    assert_eq!(server.get(&server.admin, &format!("{USERS}/ann")).await.ok()["status"]["lockedUntil"], "2026-01-01T00:01:00Z");
    // A restart does not open it.
    let again = Server::over(server.store.clone(), tempfile::tempdir().expect("a folder")).await;
    assert_eq!(again.sign_in("ann", &password_of("ann")).await.code, 429);
    server.clock.set("2026-01-01T00:01:01Z".parse().expect("a time"));
    server.sign_in("ann", &password_of("ann")).await.ok();
    assert_eq!(server.get(&server.admin, &format!("{USERS}/ann")).await.ok()["status"]["lockedUntil"], Value::Null);
    for index in 0..25 {
        assert_eq!(server.sign_in(&format!("nobody{index}"), "wrong").await.code, 401);
    }
    assert_eq!(server.sign_in("ann", &password_of("ann")).await.code, 429, "thirty failures from one address");
}

#[tokio::test]
async fn a_key_is_told_once_narrows_its_owner_and_dies_with_its_deletion() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    server.bind("default", "edit", "ann").await;
    let scope = json!({"namespaces": ["default"], "rules": [{"apiGroups": [""], "resources": ["configmaps", "serviceaccounts/token"], "verbs": ["*"]}]});
    let made = server.post(&ann, API_KEYS, &key("ci", json!({"scope": scope}))).await.ok();
    assert_eq!((&made["spec"]["user"], &made["spec"]["expiresAt"]), (&json!("ann"), &json!("2026-04-01T00:00:00Z")));
    let token = issue(&server, &ann, "ci").await;
    assert!(server.post(&ann, &format!("{API_KEYS}/ci/token"), &json!({})).await.refused(409).contains("told once only"));
    // Narrower than its owner.
    server.get(&token, MAPS).await.ok();
    server.get(&token, "/apis").await.ok();
    server.get(&ann, "/api/v1/namespaces/default/secrets").await.ok();
    assert!(server.get(&token, "/api/v1/namespaces/default/secrets").await.refused(403).contains("ApiKey \"ci\" is not meant for this"));
    server.get(&token, "/api/v1/namespaces/fermion-system/configmaps").await.refused(403);
    // Not a way to more: no keys, no tokens, no rights, whatever its rules say.
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let refused = server.post(&token, &format!("{ACCOUNTS}/default/token"), &request).await.refused(403);
    assert!(refused.contains("cannot be used to make or change credentials"), "{refused}");
    server.post(&token, API_KEYS, &key("more", json!({}))).await.refused(403);
    server.post(&token, &format!("{API_KEYS}/ci/token"), &json!({})).await.refused(403);
    server.send(&token, "GET", MAPS, &[("impersonate-user", "ann")], None).await.refused(403);
    // Others see neither the key nor whose it is; its owner sees it, but never the token.
    let bob = server.person("bob", &[]).await;
    let path = format!("{API_KEYS}/ci");
    server.get(&bob, &path).await.refused(403);
    server.delete(&bob, &path).await.refused(403);
    server.get(&ann, API_KEYS).await.refused(403);
    let secret = token.rsplit_once('.').expect("its parts").1;
    let selected = format!("{API_KEYS}?fieldSelector=spec.user%3Dann");
    for (by, path) in [(&ann, &path), (&ann, &selected), (&server.admin, &API_KEYS.to_owned())] {
        let shown = server.get(by, path).await.ok().to_string();
        assert!(shown.contains("fermion_key_ci.") && !shown.contains(secret) && !shown.contains("hash"), "{shown}");
    }
    server.get(&bob, &selected).await.refused(403);
    // Gone at once.
    server.delete(&ann, &path).await.ok();
    assert_eq!(server.get(&token, MAPS).await.code, 401);
    let made = server.post(&ann, API_KEYS, &key("ci", json!({}))).await.ok();
    assert_eq!(made["status"], Value::Null);
    assert_eq!(server.get(&token, MAPS).await.code, 401, "another key of the same name");
    assert_ne!(issue(&server, &ann, "ci").await, token);
}

#[tokio::test]
async fn a_key_is_for_oneself_unless_one_may_become_the_other() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    let refused = server.post(&ann, API_KEYS, &key("x", json!({"user": "admin"}))).await.refused(403);
    assert!(refused.contains("cannot make credentials for User \"admin\""), "{refused}");
    server.post(&ann, API_KEYS, &key("y", json!({"user": "nobody"}))).await.refused(403);
    server.post(&server.admin, API_KEYS, &key("z", json!({"user": "ann"}))).await.ok();
    let bob = server.person("bob", &[]).await;
    server.post(&bob, &format!("{API_KEYS}/z/token"), &json!({})).await.refused(403);
    let token = issue(&server, &server.admin, "z").await;
    assert_eq!(whoami(&server, &token).await["username"], "ann");
    server.merge(&server.admin, &format!("{API_KEYS}/z"), &json!({"spec": {"user": "bob"}})).await.refused(422);
}

#[tokio::test]
async fn a_key_ends_with_its_time_and_with_its_owner() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    server.post(&ann, API_KEYS, &key("short", json!({"expiresAt": "2026-01-02T00:00:00Z"}))).await.ok();
    server.post(&ann, API_KEYS, &key("long", json!({}))).await.ok();
    let (short, long) = (issue(&server, &ann, "short").await, issue(&server, &ann, "long").await);
    server.get(&short, "/api").await.ok();
    server.clock.set("2026-01-02T00:00:00Z".parse().expect("a time"));
    assert_eq!(server.get(&short, "/api").await.code, 401);
    server.get(&long, "/api").await.ok();
    // Made shorter, it ends at once.
    server.merge(&server.admin, &format!("{API_KEYS}/long"), &json!({"spec": {"expiresAt": "2026-01-01T12:00:00Z"}})).await.ok();
    assert_eq!(server.get(&long, "/api").await.code, 401);
    server.merge(&server.admin, &format!("{API_KEYS}/long"), &json!({"spec": {"expiresAt": "2027-01-01T12:00:00Z"}})).await.ok();
    server.get(&long, "/api").await.ok();
    server.merge(&server.admin, &format!("{USERS}/ann"), &json!({"spec": {"disabled": true}})).await.ok();
    assert_eq!(server.get(&long, "/api").await.code, 401);
}

#[tokio::test]
async fn secrets_are_written_and_removed_with_what_they_belong_to() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    server.post(&ann, API_KEYS, &key("ci", json!({}))).await.ok();
    let token = issue(&server, &ann, "ci").await;
    let kept = async |resource: &str| {
        let page = server.store.list(ListQuery::all(Scope::all(resource))).await.expect("a list");
        page.items.iter().map(|stored| String::from_utf8_lossy(&stored.body).into_owned()).collect::<Vec<_>>()
    };
    let keys = kept("apikeysecrets.internal.fermion.dev").await;
    assert!(keys.len() == 1 && !keys[0].contains(token.rsplit_once('.').expect("its parts").1), "{keys:?}");
    assert!(kept("passwords.internal.fermion.dev").await.iter().all(|record| record.contains("$argon2id$")));
    assert!(!kept("tokens.internal.fermion.dev").await.iter().any(|record| record.contains(&ann)));
    for path in ["/apis/internal.fermion.dev/v1/tokens", "/apis/internal.fermion.dev/v1alpha1/passwords"] {
        assert_eq!(server.get(&server.admin, path).await.code, 404, "{path}");
    }
    server.delete(&server.admin, &format!("{API_KEYS}/ci")).await.ok();
    server.delete(&server.admin, &format!("{USERS}/ann")).await.ok();
    assert!(kept("apikeysecrets.internal.fermion.dev").await.is_empty());
    assert!(!kept("passwords.internal.fermion.dev").await.iter().any(|record| record.contains("\"ann\"")));
}

#[tokio::test]
async fn a_service_account_acts_until_it_or_what_its_token_is_bound_to_is_gone() {
    let server = Server::start().await;
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    server.post(&server.admin, ACCOUNTS, &account("robot")).await.ok();
    let ask = async |spec: Value| {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        server.post(&server.admin, &format!("{ACCOUNTS}/robot/token"), &request).await
    };
    let token_of = |answer: Value| answer["status"]["token"].as_str().expect("a token").to_owned();
    let answer = ask(json!({})).await.ok();
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-01-01T01:00:00Z");
    let token = token_of(answer);
    let me = whoami(&server, &token).await;
    assert_eq!(me["username"], "system:serviceaccount:default:robot");
    assert_eq!(me["groups"], json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]));
    assert!(me["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().is_some_and(|id| id.starts_with("JTI=")), "{me}");
    server.get(&token, MAPS).await.refused(403);
    server.bind("default", "view", "system:serviceaccount:default:robot").await;
    server.get(&token, MAPS).await.ok();
    // Bound to a pod, it ends with the pod.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"serviceAccountName": "robot", "containers": [{"name": "main", "image": "x:1"}]}});
    server.post(&server.admin, "/api/v1/namespaces/default/pods", &pod).await.ok();
    let bound = token_of(ask(json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}})).await.ok());
    assert_eq!(whoami(&server, &bound).await["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    server.delete(&server.admin, "/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await.ok();
    assert_eq!(server.get(&bound, "/api").await.code, 401);
    ask(json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}})).await.refused(404);
    ask(json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "p"}})).await.refused(400);
    ask(json!({"expirationSeconds": 10})).await.refused(422);
    // Meant for somebody else, it does not open this API, and a review says whom it opens.
    let other = token_of(ask(json!({"audiences": ["vault"]})).await.ok());
    assert_eq!(server.get(&other, "/api").await.code, 401);
    let review = async |token: &str, audiences: Value| {
        let review =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": audiences}});
        server.post(&server.admin, "/apis/authentication.k8s.io/v1/tokenreviews", &review).await.ok()["status"].clone()
    };
    assert_eq!(review(&other, json!(["vault", "else"])).await["audiences"], json!(["vault"]));
    assert_eq!(review(&other, json!([])).await["authenticated"], false);
    assert_eq!(review(&token, json!([])).await["audiences"], json!(["fermion"]));
    // Another account of the same name is another account.
    server.clock.set("2026-01-01T00:59:59Z".parse().expect("a time"));
    server.get(&token, MAPS).await.ok();
    server.delete(&server.admin, &format!("{ACCOUNTS}/robot")).await.ok();
    assert_eq!(server.get(&token, MAPS).await.code, 401);
    server.post(&server.admin, ACCOUNTS, &account("robot")).await.ok();
    assert_eq!(server.get(&token, MAPS).await.code, 401);
    let fresh = token_of(ask(json!({})).await.ok());
    server.get(&fresh, MAPS).await.ok();
    server.clock.set("2026-01-01T02:00:00Z".parse().expect("a time"));
    assert_eq!(server.get(&fresh, MAPS).await.code, 401);
}

/// What the version before the kind User wrote.
#[tokio::test]
async fn people_and_tokens_of_the_version_before_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("data"), Options::default()).expect("a store");
    let put = async |resource: &'static str, name: &str, mut object: Value| {
        object["metadata"] = json!({"name": name});
        let write = Write::Put { key: Key::new(resource, "", name), expect: Expect::Absent, object };
        store.commit(Commit::of(write)).await.expect("a write");
    };
    put("users.internal.fermion.dev", "admin", json!({"groups": ["system:masters"], "passwordHash": hash("old password")})).await;
    let token = json!({"user": {"name": "admin", "groups": ["system:masters"]}, "expiresAt": "2026-12-01T00:00:00Z"});
    put("tokens.internal.fermion.dev", &fingerprint("fermion_old"), token).await;
    let lost = json!({"user": {"name": "gone", "groups": []}, "expiresAt": "2026-12-01T00:00:00Z"});
    put("tokens.internal.fermion.dev", &fingerprint("fermion_lost"), lost).await;
    let server = Server::over(store.clone(), folder).await;
    assert_eq!(server.password, "", "the administrator stays");
    server.get("fermion_old", "/api/v1/nodes").await.ok();
    assert_eq!(server.get("fermion_lost", "/api").await.code, 401);
    server.sign_in("admin", "old password").await.ok();
    assert_eq!(server.get(&server.admin, &format!("{USERS}/admin")).await.ok()["spec"]["groups"], json!(["system:masters"]));
    let old = store.list(ListQuery::all(Scope::all("users.internal.fermion.dev"))).await.expect("a list");
    assert!(old.items.is_empty());
    let again = Server::over(store.clone(), tempfile::tempdir().expect("a folder")).await;
    again.get("fermion_old", "/api/v1/nodes").await.ok();
}

fn hash(password: &str) -> String {
    use argon2::password_hash::{PasswordHasher as _, SaltString};
    let salt = SaltString::encode_b64(b"sixteen bytes ok").expect("a salt");
    argon2::Argon2::default().hash_password(password.as_bytes(), &salt).expect("a hash").to_string()
}

fn fingerprint(token: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(token.as_bytes()))
}
