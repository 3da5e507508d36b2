//! Roles and bindings as requests meet them.

use serde_json::{Value, json};

use crate::server::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, Server, USERS, binding, in_namespace, user};

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn role(kind: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": rules})
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_viewer_reads_and_is_refused_to_write_until_a_binding_says_otherwise() {
    let server = Server::start().await;
    let ann = server.person("ann", &["dev"]).await;
    assert_eq!(
        server.get(&ann, MAPS).await.refused(403),
        "configmaps is forbidden: User \"ann\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    server.bind("default", "view", "ann").await;
    server.get(&ann, MAPS).await.ok();
    let answer = server.post(&ann, MAPS, &config_map("a")).await;
    assert_eq!((&answer.body["reason"], &answer.body["details"]["kind"]), (&json!("Forbidden"), &json!("configmaps")));
    answer.refused(403);
    server.post(&server.admin, MAPS, &config_map("a")).await.ok();
    assert_eq!(
        server.delete(&ann, &format!("{MAPS}/a")).await.refused(403),
        "configmaps \"a\" is forbidden: User \"ann\" cannot delete resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert!(server.get(&ann, "/api/v1/namespaces/default/secrets").await.refused(403).contains("cannot list resource \"secrets\""));
    assert!(server.get(&ann, "/api/v1/configmaps").await.refused(403).ends_with("at the cluster scope"));
    // A namespace is in itself, so the role in it reaches it.
    server.get(&ann, "/api/v1/namespaces/default").await.ok();
    assert_eq!(server.get(&ann, "/metrics").await.refused(403), "forbidden: User \"ann\" cannot get path \"/metrics\"");
    server.bind("default", "edit", "ann").await;
    server.post(&ann, MAPS, &config_map("b")).await.ok();
    let binding = format!("{}/edit-ann", in_namespace("default", "rolebindings"));
    server.delete(&server.admin, &binding).await.ok();
    server.post(&ann, MAPS, &config_map("c")).await.refused(403);
}

#[tokio::test]
async fn a_role_may_name_single_objects() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    for name in ["a", "b"] {
        server.post(&server.admin, MAPS, &config_map(name)).await.ok();
    }
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list", "watch", "update", "create"]}]);
    server.post(&server.admin, CLUSTER_ROLES, &role("ClusterRole", "only-a", rules)).await.ok();
    server.bind("default", "only-a", "ann").await;
    server.get(&ann, &format!("{MAPS}/a")).await.ok();
    server.get(&ann, &format!("{MAPS}/b")).await.refused(403);
    server.get(&ann, MAPS).await.refused(403);
    let list = server.get(&ann, &format!("{MAPS}?fieldSelector=metadata.name%3Da")).await.ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    server.get(&ann, &format!("{MAPS}?fieldSelector=metadata.name%3Db")).await.refused(403);
    server.post(&ann, MAPS, &config_map("a")).await.refused(403);
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let server = Server::start().await;
    let ann = server.person("ann", &["dev"]).await;
    server.bind("default", "admin", "ann").await;
    let roles = in_namespace("default", "roles");
    let bindings = in_namespace("default", "rolebindings");
    let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let more = json!([{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "delete"]}]);
    // What she has she may pass on.
    server.post(&ann, &roles, &role("Role", "mine", pods.clone())).await.ok();
    // More than that she may not: by create, update, patch or apply.
    let refusal = "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ann\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"delete\"]}";
    assert_eq!(server.post(&ann, &roles, &role("Role", "more", more.clone())).await.refused(403), refusal);
    let mine = format!("{roles}/mine");
    assert!(server.merge(&ann, &mine, &json!({"rules": more})).await.refused(403).contains("not currently held"));
    let mut object = server.get(&ann, &mine).await.ok();
    object["rules"] = more.clone();
    assert!(server.send(&ann, "PUT", &mine, &[], Some(&object)).await.refused(403).contains("not currently held"));
    let json_patch = json!([{"op": "replace", "path": "/rules", "value": more}]);
    let headers = [("content-type", "application/json-patch+json")];
    assert!(server.send(&ann, "PATCH", &mine, &headers, Some(&json_patch)).await.refused(403).contains("not currently held"));
    let headers = [("content-type", "application/apply-patch+yaml")];
    for name in ["mine", "applied"] {
        let path = format!("{roles}/{name}?fieldManager=test&force=true");
        let answer = server.send(&ann, "PATCH", &path, &headers, Some(&role("Role", name, more.clone()))).await;
        assert!(answer.refused(403).contains("not currently held"), "{name}");
    }
    // Labels of a role with more may be changed by who may write it.
    server.post(&server.admin, &roles, &role("Role", "wide", more.clone())).await.ok();
    server.merge(&ann, &format!("{roles}/wide"), &json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    // Binding a role is granting it.
    let refused = server.post(&ann, &bindings, &binding("default", "b", "cluster-admin", "ann")).await.refused(403);
    assert!(refused.contains("rolebindings.rbac.authorization.k8s.io \"b\" is forbidden: user \"ann\""), "{refused}");
    assert!(
        refused.ends_with("{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"),
        "{refused}"
    );
    server.post(&ann, &bindings, &binding("default", "c", "edit", "bob")).await.ok();
    let missing = server.post(&ann, &bindings, &binding("default", "d", "no-such", "bob")).await;
    assert_eq!(missing.refused(404), "clusterrole.rbac.authorization.k8s.io \"no-such\" not found");
    // The subjects of a binding that gives more stay, too.
    server.post(&server.admin, &bindings, &binding("default", "e", "cluster-admin", "bob")).await.ok();
    let subjects = json!({"subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}]});
    assert!(server.merge(&ann, &format!("{bindings}/e"), &subjects).await.refused(403).contains("not currently held"));
}

#[tokio::test]
async fn the_verbs_escalate_and_bind_allow_what_is_not_held() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    let bob = server.person("bob", &[]).await;
    for name in ["ann", "bob"] {
        server.bind("default", "admin", name).await;
    }
    let rbac = "rbac.authorization.k8s.io";
    let escalate = json!([{"apiGroups": [rbac], "resources": ["roles"], "verbs": ["escalate"]}]);
    let bind = json!([{"apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"], "verbs": ["bind"]}]);
    for (name, rules, user) in [("escalator", escalate, "ann"), ("binder", bind, "bob")] {
        server.post(&server.admin, CLUSTER_ROLES, &role("ClusterRole", name, rules)).await.ok();
        server.bind("default", name, user).await;
    }
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let roles = in_namespace("default", "roles");
    let bindings = in_namespace("default", "rolebindings");
    server.post(&bob, &roles, &role("Role", "x", everything.clone())).await.refused(403);
    server.post(&ann, &roles, &role("Role", "x", everything)).await.ok();
    server.post(&ann, &bindings, &binding("default", "x", "cluster-admin", "ann")).await.refused(403);
    server.post(&bob, &bindings, &binding("default", "x", "cluster-admin", "bob")).await.ok();
}

#[tokio::test]
async fn the_role_of_a_binding_cannot_be_changed_and_rules_must_mean_something() {
    let server = Server::start().await;
    server.post(&server.admin, CLUSTER_ROLE_BINDINGS, &binding("", "b", "view", "ann")).await.ok();
    let change = json!({"roleRef": {"name": "edit"}});
    let refused = server.merge(&server.admin, &format!("{CLUSTER_ROLE_BINDINGS}/b"), &change).await.refused(422);
    assert!(refused.contains("cannot change roleRef"), "{refused}");
    let bad = role("ClusterRole", "bad", json!([{"verbs": [], "resources": ["pods"]}]));
    let refused = server.post(&server.admin, CLUSTER_ROLES, &bad).await.refused(422);
    assert!(refused.contains("rules[0].verbs: Required value") && refused.contains("rules[0].apiGroups"), "{refused}");
    server.get(&server.admin, &format!("{CLUSTER_ROLES}/system:discovery")).await.ok();
}

#[tokio::test]
async fn a_role_with_the_label_adds_to_the_aggregated_one() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    server.bind("default", "view", "ann").await;
    server.get(&ann, "/api/v1/namespaces/default/secrets").await.refused(403);
    let mut more = role("ClusterRole", "view-secrets", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]));
    more["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    server.post(&server.admin, CLUSTER_ROLES, &more).await.ok();
    until("view to hold the new rule", async || server.get(&ann, "/api/v1/namespaces/default/secrets").await.code == 200).await;
    server.delete(&server.admin, &format!("{CLUSTER_ROLES}/view-secrets")).await.ok();
    until("view to lose the rule", async || server.get(&ann, "/api/v1/namespaces/default/secrets").await.code == 403).await;
}

/// Waits until something holds that happens beside the requests.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.is_ok(), "waited for {what}");
}

#[tokio::test]
async fn an_aggregation_rule_is_for_those_who_may_do_everything() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    server
        .post(
            &server.admin,
            CLUSTER_ROLES,
            &role(
                "ClusterRole",
                "role-writer",
                json!([
                    {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create", "update", "get"]}
                ]),
            ),
        )
        .await
        .ok();
    server.bind("", "role-writer", "ann").await;
    let mut aggregated = role("ClusterRole", "all", json!([]));
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]});
    let refused = server.post(&ann, CLUSTER_ROLES, &aggregated).await.refused(403);
    assert_eq!(
        refused,
        "clusterroles.rbac.authorization.k8s.io \"all\" is forbidden: must have cluster-admin privileges to use an aggregationRule"
    );
    server.post(&server.admin, CLUSTER_ROLES, &aggregated).await.ok();
}

#[tokio::test]
async fn default_roles_are_repaired_at_the_next_start() {
    let server = Server::start().await;
    let path = format!("{CLUSTER_ROLES}/system:discovery");
    server.merge(&server.admin, &path, &json!({"rules": []})).await.ok();
    server.delete(&server.admin, &format!("{CLUSTER_ROLE_BINDINGS}/system:basic-user")).await.ok();
    let again = Server::over(server.store.clone(), tempfile::tempdir().expect("a folder")).await;
    let role = again.get(&again.admin, &path).await.ok();
    assert!(!role["rules"].as_array().expect("rules").is_empty());
    again.get(&again.admin, &format!("{CLUSTER_ROLE_BINDINGS}/system:basic-user")).await.ok();
    assert_eq!(again.password, "", "there was an administrator already");
}

#[tokio::test]
async fn one_may_act_as_another_only_with_every_permission_for_it() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    server.person("bob", &[]).await;
    server.bind("default", "view", "bob").await;
    let rules = json!([{"apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"]}]);
    server.post(&server.admin, CLUSTER_ROLES, &role("ClusterRole", "as-bob", rules)).await.ok();
    server.bind("", "as-bob", "ann").await;
    let get = async |headers: &[(&str, &str)]| server.send(&ann, "GET", MAPS, headers, None).await;
    get(&[]).await.refused(403);
    get(&[("impersonate-user", "bob")]).await.ok();
    assert_eq!(
        get(&[("impersonate-user", "bob"), ("impersonate-group", "system:masters")]).await.refused(403),
        "groups \"system:masters\" is forbidden: User \"ann\" cannot impersonate resource \"groups\" in API group \"\" at the cluster scope"
    );
    assert_eq!(
        get(&[("impersonate-user", "admin")]).await.refused(403),
        "users \"admin\" is forbidden: User \"ann\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    get(&[("impersonate-group", "dev")]).await.refused(400);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let headers = [("impersonate-user", "system:serviceaccount:default:robot")];
    let answer =
        server.send(&server.admin, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &headers, Some(&review)).await.ok();
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "system:serviceaccount:default:robot", "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]})
    );
}

#[tokio::test]
async fn reviews_answer_what_would_be_decided() {
    let server = Server::start().await;
    let ann = server.person("ann", &["dev"]).await;
    server.bind("default", "view", "ann").await;
    let group = "/apis/authorization.k8s.io/v1";
    let ask = |kind: &str, spec: Value| json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let pods = |verb: &str, namespace: &str| json!({"verb": verb, "resource": "pods", "namespace": namespace});
    let own = async |verb: &str, namespace: &str| {
        let review = ask("SelfSubjectAccessReview", json!({"resourceAttributes": pods(verb, namespace)}));
        server.post(&ann, &format!("{group}/selfsubjectaccessreviews"), &review).await.ok()["status"].clone()
    };
    assert_eq!(
        own("list", "default").await,
        json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"view-ann/default\" of ClusterRole \"view\" to User \"ann\""})
    );
    assert_eq!(own("delete", "default").await, json!({"allowed": false}));
    assert_eq!(own("list", "other").await, json!({"allowed": false}));
    let of_ann = ask("SubjectAccessReview", json!({"user": "ann", "resourceAttributes": pods("list", "default")}));
    assert_eq!(server.post(&server.admin, &format!("{group}/subjectaccessreviews"), &of_ann).await.ok()["status"]["allowed"], true);
    server.post(&ann, &format!("{group}/subjectaccessreviews"), &of_ann).await.refused(403);
    let local = ask("LocalSubjectAccessReview", json!({"user": "ann", "resourceAttributes": pods("list", "default")}));
    let path = |namespace: &str| format!("{group}/namespaces/{namespace}/localsubjectaccessreviews");
    assert_eq!(server.post(&server.admin, &path("default"), &local).await.ok()["status"]["allowed"], true);
    server.post(&server.admin, &path("fermion-system"), &local).await.refused(422);
    server.post(&ann, &path("default"), &local).await.refused(403);
    let nobody = ask("SubjectAccessReview", json!({"resourceAttributes": pods("list", "default")}));
    server.post(&server.admin, &format!("{group}/subjectaccessreviews"), &nobody).await.refused(422);
    let rules = ask("SelfSubjectRulesReview", json!({"namespace": "default"}));
    let status = server.post(&ann, &format!("{group}/selfsubjectrulesreviews"), &rules).await.ok()["status"].clone();
    let has = |resource: &str, verb: &str| {
        let rules = status["resourceRules"].as_array().expect("rules");
        let names = |rule: &Value, field: &str, wanted: &str| rule[field].as_array().is_some_and(|list| list.contains(&json!(wanted)));
        rules.iter().any(|rule| names(rule, "resources", resource) && names(rule, "verbs", verb))
    };
    assert!(has("pods", "list") && !has("pods", "delete") && !has("secrets", "list"), "{status}");
    assert_eq!(status["incomplete"], false);
}

#[tokio::test]
async fn a_group_is_joined_only_by_who_may_act_as_its_member() {
    let server = Server::start().await;
    let ann = server.person("ann", &[]).await;
    let rules = json!([{"apiGroups": ["iam.fermion.dev"], "resources": ["users", "users/password"], "verbs": ["*"]}]);
    server.post(&server.admin, CLUSTER_ROLES, &role("ClusterRole", "people", rules)).await.ok();
    server.bind("", "people", "ann").await;
    // A manager of users makes people without rights.
    server.post(&ann, USERS, &user("new", &[])).await.ok();
    let refused = server.post(&ann, USERS, &user("root", &["system:masters"])).await.refused(403);
    assert!(refused.contains("cannot put anybody into group \"system:masters\""), "{refused}");
    server.merge(&ann, &format!("{USERS}/new"), &json!({"spec": {"groups": ["system:masters"]}})).await.refused(403);
    // And cannot become somebody by setting their password.
    let refused = server.post(&ann, &format!("{USERS}/admin/password"), &json!({"password": "taken over by ann"})).await.refused(403);
    assert!(refused.contains("cannot make credentials for User \"admin\""), "{refused}");
    assert_eq!(server.sign_in("admin", "taken over by ann").await.code, 401);
    let refused = server
        .merge(&server.admin, &format!("{USERS}/new"), &json!({"spec": {"groups": ["system:fermion:components"]}}))
        .await
        .refused(422);
    assert!(refused.contains("spec.groups[0]"), "{refused}");
}
