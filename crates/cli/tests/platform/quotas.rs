//! Quotas as ceilings of tenants, organisations, projects and users, with their figures, on simulated
//! nodes.

use fermion_testkit::{Kubectl, Node, Platform, eventually};
use serde_json::{Value, json};

use crate::FERMION;

const CARD: &str = "gpu.fermion.dev/h100-sxm5-80gb";

fn compute(kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": "compute.fermion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Submits a job of one worker with all eight cards of a node, as somebody in a project.
#[track_caller]
fn submit(kubectl: &Kubectl, user: &str, project: &str, name: &str) {
    let requests = json!({"cpu": "8", CARD: "8"});
    let containers = json!([{"name": "main", "image": "fermion.dev/base:latest", "resources": {"requests": requests, "limits": requests}}]);
    let template = json!({"metadata": {"annotations": {"fermion.dev/fake-run-time": "1h"}}, "spec": {"containers": containers}});
    let roles = json!([{"name": "worker", "replicas": 1, "template": template}]);
    let job = json!({"apiVersion": "ai.fermion.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": {"roles": roles}});
    kubectl.run_with(&["create", "-n", project, "-f", "-", "--as", user], &job.to_string()).ok();
}

/// Waits until a quota says these of its one resource: total, allocated, allocatable, used, in process.
#[track_caller]
fn figures(kubectl: &Kubectl, quota: &str, wanted: [u32; 5]) {
    eventually("the quota's figures", || {
        let status = kubectl.field("default", &format!("quota/{quota}"), "{.status}")?;
        let status: Value = serde_json::from_str(&status).map_err(|error| error.to_string())?;
        let seen = ["total", "allocated", "allocatable", "used", "inProcess"].map(|figure| status[figure][CARD].clone());
        if seen == wanted.map(|amount| json!(amount.to_string())) { Ok(()) } else { Err(format!("{seen:?}, not {wanted:?}")) }
    });
}

#[test]
fn work_waits_at_the_ceiling_of_each_subject_and_starts_when_other_work_ends() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let group = json!({"name": "gpu", "count": 4, "cpu": "64", "memory": "1Ti", "accelerators": {"h100-sxm5-80gb": 8}});
    kubectl.apply(&compute("Pool", "sim", &json!({"kind": "Fake", "fake": {"groups": [group]}})));
    kubectl.apply(&compute("Queue", "sim", &json!({"pool": "sim", "default": true})));
    kubectl.wait_field("default", "pool/sim", "{.status.nodes}", "4");
    // Two projects of an organisation, a third of another one of the same tenant, and one of nobody.
    for (project, organization, tenant) in [("lab", "east", "acme"), ("annex", "east", "acme"), ("branch", "west", "acme")] {
        let labels = json!({"iam.fermion.dev/organization": organization, "iam.fermion.dev/tenant": tenant});
        kubectl.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": project, "labels": labels}}).to_string());
    }
    kubectl.run(&["create", "namespace", "outside"]).ok();
    for user in ["ann", "bob"] {
        kubectl.run(&["create", "clusterrolebinding", user, "--clusterrole=edit", "--user", user]).ok();
    }

    // Who has the first, who waits beside it, and who is not counted with them.
    for (kind, name, waits, free, whose) in [
        ("Tenant", "acme", ("bob", "branch"), ("ann", "outside"), "tenant `acme`"),
        ("Organization", "east", ("bob", "annex"), ("ann", "branch"), "organisation `east`"),
        ("Project", "lab", ("bob", "lab"), ("ann", "annex"), "project `lab`"),
        ("User", "ann", ("ann", "lab"), ("bob", "lab"), "user `ann` in project `lab`"),
    ] {
        let mut subject = json!({"kind": kind, "name": name});
        if kind == "User" {
            subject["project"] = json!("lab");
        }
        kubectl.apply(&compute("Quota", "ceiling", &json!({"subject": subject, "hard": {CARD: "12"}})));
        figures(&kubectl, "ceiling", [12, 0, 12, 0, 0]);
        submit(&kubectl, "ann", "lab", "first");
        kubectl.wait_field("lab", "tj/first", "{.status.phase}", "Running");
        figures(&kubectl, "ceiling", [12, 0, 12, 8, 0]);
        submit(&kubectl, waits.0, waits.1, "second");
        kubectl.wait_field(waits.1, "wl/second", "{.status.waiting.reason}", "QuotaExceeded");
        let message = format!("it would take {whose} beyond what they may have at once, by 4 {CARD}");
        kubectl.wait_field(waits.1, "wl/second", "{.status.waiting.message}", &message);
        kubectl.wait_field(waits.1, "wl/second", "{.status.waiting.missing}", "4");
        figures(&kubectl, "ceiling", [12, 0, 12, 8, 8]);
        submit(&kubectl, free.0, free.1, "other");
        kubectl.wait_field(free.1, "tj/other", "{.status.phase}", "Running");
        figures(&kubectl, "ceiling", [12, 0, 12, 8, 8]);

        kubectl.run(&["delete", "tj", "-n", "lab", "first"]).ok();
        kubectl.wait_field(waits.1, "tj/second", "{.status.phase}", "Running");
        figures(&kubectl, "ceiling", [12, 0, 12, 8, 0]);
        kubectl.run(&["delete", "tj", "-n", waits.1, "second"]).ok();
        figures(&kubectl, "ceiling", [12, 0, 12, 0, 0]);
        kubectl.run(&["delete", "tj", "-n", free.1, "other"]).ok();
        kubectl.run(&["delete", "quota.compute.fermion.dev", "ceiling"]).ok();
    }

    // Each is given out of the next one above it.
    for (kind, name, amount) in [("Tenant", "acme", "24"), ("Organization", "east", "20"), ("Project", "lab", "16")] {
        kubectl.apply(&compute("Quota", name, &json!({"subject": {"kind": kind, "name": name}, "hard": {CARD: amount}})));
    }
    let ann = json!({"kind": "User", "name": "ann", "project": "lab"});
    kubectl.apply(&compute("Quota", "ann", &json!({"subject": ann, "hard": {CARD: "12"}})));
    submit(&kubectl, "ann", "lab", "first");
    for (quota, wanted) in
        [("acme", [24, 20, 4, 8, 0]), ("east", [20, 16, 4, 8, 0]), ("lab", [16, 12, 4, 8, 0]), ("ann", [12, 0, 12, 8, 0])]
    {
        figures(&kubectl, quota, wanted);
    }
}
