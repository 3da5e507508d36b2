//! Who may do what, as people meet it: `kubectl auth`, roles and bindings, users, keys, tokens of
//! service accounts.

use std::io::Write as _;
use std::process::Stdio;

use fermion_testkit::{Http, Kubectl, Node, Output, Platform};
use serde_json::{Value, json};

use crate::FERMION;

const PASSWORD: &str = "correct horse battery";

/// Makes a User with a password and signs them in; gives back the token.
fn person(platform: &Platform, name: &str, groups: &str) -> String {
    platform.kubectl().apply(&format!(
        "apiVersion: iam.fermion.dev/v1alpha1\nkind: User\nmetadata: {{name: {name}}}\nspec: {{displayName: {name}, groups: [{groups}]}}\n"
    ));
    let http = platform.http();
    let set = http.post(&format!("/apis/iam.fermion.dev/v1alpha1/users/{name}/password"), &json!({"password": PASSWORD}));
    assert_eq!(set.code, 201, "{}", set.text());
    sign_in(&http, name, PASSWORD)
}

fn sign_in(http: &Http, name: &str, password: &str) -> String {
    let answer = http.anonymous().post("/auth/sign-in", &json!({"username": name, "password": password}));
    answer.json()["token"].as_str().unwrap_or_else(|| panic!("no token: {}", answer.text())).to_owned()
}

/// `kubectl` with another token than the administrator's.
fn with_token(kubectl: &Kubectl, token: &str, arguments: &[&str]) -> Output {
    let token = format!("--token={token}");
    kubectl.run(&[&[token.as_str()], arguments].concat())
}

#[test]
fn kubectl_makes_roles_and_asks_what_they_allow() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    // The typed commands send protobuf.
    kubectl.run(&["create", "role", "reader", "--verb=get,list,watch", "--resource=pods,trainingjobs.ai.fermion.dev"]).ok();
    kubectl.run(&["create", "rolebinding", "readers", "--role=reader", "--user=ann", "--group=dev", "--serviceaccount=default:robot"]).ok();
    kubectl.run(&["create", "clusterrole", "metrics", "--verb=get", "--non-resource-url=/metrics"]).ok();
    kubectl.run(&["create", "clusterrolebinding", "metrics", "--clusterrole=metrics", "--user=ann"]).ok();
    let can_i = |who: &[&str], question: &[&str]| {
        let output = kubectl.run(&[&["auth", "can-i"], question, who].concat());
        output.stdout.trim().to_owned()
    };
    let ann = ["--as", "ann"];
    for (question, answer) in [
        (&["list", "pods"][..], "yes"),
        (&["list", "trainingjobs.ai.fermion.dev"], "yes"),
        (&["delete", "pods"], "no"),
        (&["list", "pods", "-n", "fermion-system"], "no"),
        (&["list", "pods", "-A"], "no"),
        (&["get", "/metrics"], "yes"),
        (&["get", "pods", "--subresource=log"], "no"),
    ] {
        assert_eq!(can_i(&ann, question), answer, "{question:?}");
    }
    assert_eq!(can_i(&["--as", "bob", "--as-group", "dev"], &["list", "pods"]), "yes");
    assert_eq!(can_i(&["--as", "bob"], &["list", "pods"]), "no");
    assert_eq!(can_i(&["--as", "system:serviceaccount:default:robot"], &["watch", "pods"]), "yes");
    assert_eq!(can_i(&[], &["*", "*"]), "yes");
    let list = kubectl.run(&["auth", "can-i", "--list", "--as", "ann"]).ok();
    assert!(list.lines().any(|line| line.starts_with("pods") && line.contains("[get list watch]")), "{list}");
    assert!(list.contains("selfsubjectaccessreviews.authorization.k8s.io") && list.contains("[/metrics]"), "{list}");
    // As Kubernetes prints them.
    let wide = kubectl.run(&["get", "rolebinding", "readers", "-o", "wide"]).ok();
    let cells: Vec<&str> = wide.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!((cells[0], cells[1], &cells[3..]), ("readers", "Role/reader", &["ann", "dev", "default/robot"][..]), "{wide}");
    assert!(kubectl.run(&["get", "clusterroles"]).ok().starts_with("NAME"));
    let described = kubectl.run(&["describe", "role", "reader"]).ok();
    assert!(described.contains("pods") && described.contains("[get list watch]"), "{described}");
    // A role's list of rules grows and shrinks by reconcile; a roleRef is never changed in place.
    let manifest = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: default}\nrules:\n- {apiGroups: [''], resources: [secrets], verbs: [get]}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: readers, namespace: default}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\nsubjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: User, name: eve}\n";
    let binding = manifest.split_once("---\n").expect("two documents").1;
    let refused = kubectl.run_with(&["apply", "-f", "-"], binding).refused();
    assert!(refused.contains("cannot change roleRef"), "{refused}");
    let reconciled = kubectl.run_with(&["auth", "reconcile", "-f", "-"], manifest).ok();
    assert!(reconciled.contains("role.rbac.authorization.k8s.io/reader reconciled"), "{reconciled}");
    assert_eq!(can_i(&["--as", "eve"], &["list", "configmaps"]), "yes");
    assert_eq!(kubectl.field("default", "role/reader", "{.rules[*].resources[0]}"), Ok("pods trainingjobs secrets".to_owned()));
}

#[test]
fn a_viewer_is_refused_to_write_and_an_admin_of_a_project_to_escalate() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let ann = person(&platform, "ann", "dev");
    let refused = with_token(&kubectl, &ann, &["get", "pods"]).refused();
    assert_eq!(
        refused.trim(),
        "Error from server (Forbidden): pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    kubectl.run(&["create", "rolebinding", "ann", "--clusterrole=view", "--user=ann"]).ok();
    with_token(&kubectl, &ann, &["get", "pods,trainingjobs,configmaps"]).ok();
    let refused = with_token(&kubectl, &ann, &["create", "configmap", "a"]).refused();
    assert!(refused.contains("cannot create resource \"configmaps\""), "{refused}");
    assert!(with_token(&kubectl, &ann, &["get", "secrets"]).refused().contains("Forbidden"));
    assert!(with_token(&kubectl, &ann, &["get", "pods", "--as", "admin"]).refused().contains("cannot impersonate resource \"users\""));
    kubectl.run(&["create", "rolebinding", "ann-admin", "--clusterrole=admin", "--group=dev"]).ok();
    with_token(&kubectl, &ann, &["create", "configmap", "a"]).ok();
    with_token(&kubectl, &ann, &["create", "rolebinding", "bob", "--clusterrole=edit", "--user=bob"]).ok();
    let refused = with_token(&kubectl, &ann, &["create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=ann"]).refused();
    assert!(refused.contains("is attempting to grant RBAC permissions not currently held:"), "{refused}");
    assert!(refused.contains("{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}"), "{refused}");
    let refused = with_token(&kubectl, &ann, &["create", "role", "more", "--verb=get", "--resource=nodes"]).refused();
    assert!(refused.contains("user \"ann\" (groups=[\"dev\" \"system:authenticated\"])"), "{refused}");
    kubectl.run(&["delete", "rolebinding", "ann-admin"]).ok();
    with_token(&kubectl, &ann, &["create", "configmap", "b"]).refused();
}

#[test]
fn a_key_is_narrower_than_its_owner_and_dies_when_it_is_deleted() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.apply(
        "apiVersion: iam.fermion.dev/v1alpha1\nkind: ApiKey\nmetadata: {name: ci}\nspec:\n  description: nightly\n  scope:\n    namespaces: [default]\n    rules:\n    - {apiGroups: [''], resources: [configmaps], verbs: [get, list, create]}\n",
    );
    let answer = kubectl.run_with(&["create", "--raw", "/apis/iam.fermion.dev/v1alpha1/apikeys/ci/token", "-f", "-"], "{}").ok();
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let token = answer["status"]["token"].as_str().expect("a token").to_owned();
    with_token(&kubectl, &token, &["create", "configmap", "a"]).ok();
    let refused = with_token(&kubectl, &token, &["delete", "configmap", "a"]).refused();
    assert!(refused.contains("ApiKey \"ci\" is not meant for this"), "{refused}");
    with_token(&kubectl, &token, &["get", "configmaps", "-A"]).refused();
    with_token(&kubectl, &token, &["get", "nodes"]).refused();
    assert_eq!(with_token(&kubectl, &token, &["auth", "can-i", "list", "configmaps"]).ok().trim(), "yes");
    assert_eq!(
        with_token(&kubectl, &token, &["auth", "can-i", "list", "secrets"]).stdout.trim(),
        "no - ApiKey \"ci\" is not meant for this: see its spec.scope.rules"
    );
    let shown = kubectl.run(&["get", "apikeys"]).ok();
    assert!(shown.contains("fermion_key_ci.") && !shown.contains(token.rsplit_once('.').expect("its parts").1), "{shown}");
    kubectl.run(&["delete", "apikey", "ci"]).ok();
    let refused = with_token(&kubectl, &token, &["get", "configmaps"]).refused();
    assert!(refused.contains("Unauthorized") || refused.contains("must be logged in"), "{refused}");
    assert!(!platform.log().contains(&token), "a token is in the log");
}

#[test]
fn kubectl_makes_tokens_of_service_accounts() {
    let mut platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    kubectl.run(&["create", "serviceaccount", "robot"]).ok();
    kubectl.run(&["create", "rolebinding", "robot", "--clusterrole=view", "--serviceaccount=default:robot"]).ok();
    let token = kubectl.run(&["create", "token", "robot", "--duration=20m"]).ok().trim().to_owned();
    let me = with_token(&kubectl, &token, &["auth", "whoami"]).ok();
    assert!(me.contains("system:serviceaccount:default:robot") && me.contains("system:serviceaccounts:default"), "{me}");
    with_token(&kubectl, &token, &["get", "pods"]).ok();
    let refused = kubectl.run(&["create", "token", "robot", "--duration=1s"]).refused();
    assert!(refused.contains("may not specify a duration less than 10 minutes"), "{refused}");
    assert!(kubectl.run(&["create", "token", "nobody"]).refused().contains("serviceaccounts \"nobody\" not found"));
    // Every namespace has an account, and the key outlives the server.
    fermion_testkit::eventually("the default account", || kubectl.field("fermion-system", "sa/default", "{.metadata.name}"));
    platform.stop();
    platform.restart();
    with_token(&kubectl, &token, &["get", "pods"]).ok();
    kubectl.run(&["delete", "serviceaccount", "robot"]).ok();
    with_token(&kubectl, &token, &["get", "pods"]).refused();
}

#[test]
fn fermion_signs_people_in_with_their_password() {
    let platform = Platform::start(FERMION, Node::None);
    person(&platform, "ann", "");
    platform.kubectl().run(&["create", "rolebinding", "ann", "--clusterrole=view", "--user=ann"]).ok();
    let server = format!("http://{}", platform.http().address());
    let login = |password: &str| {
        let mut child = platform
            .command(&["login", &server, "--user", "ann"])
            .env("HOME", platform.home())
            .env("XDG_CONFIG_HOME", platform.home().join("config"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("fermion starts");
        child.stdin.take().expect("its input").write_all(password.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    };
    let wrong = login("not the password");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("wrong user name or password"), "{wrong:?}");
    let right = login(PASSWORD);
    assert!(String::from_utf8_lossy(&right.stdout).contains("as ann"), "{right:?}");
    // Her last sign-in can be seen; her password cannot.
    let kubectl = platform.kubectl();
    assert!(!kubectl.field("default", "user/ann", "{.status.lastSignInAt}").expect("a field").is_empty());
    let everything = kubectl.run(&["get", "users,apikeys", "-o", "yaml"]).ok();
    assert!(!everything.contains("argon2") && !everything.contains(PASSWORD), "{everything}");
}
