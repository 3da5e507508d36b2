//! Volumes and files.

use serde_json::json;

use crate::bench::{Bench, shell};
use crate::sandbox::wait_for;

#[tokio::test]
async fn claims_keep_their_data_and_show_their_size() {
    let bench = Bench::start().await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Ki"}}},
    });
    bench.api.create("/api/v1/namespaces/test/persistentvolumeclaims", claim);
    let pod = |script: &str| {
        let mut main = shell("main", script);
        main["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        json!({"spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [main],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        }})
    };
    bench.api.create_pod("writer", pod("echo kept > /data/file; ln -s /etc/passwd /data/out; mkfifo /data/pipe"));
    bench.pod_in_phase("writer", "Succeeded").await;
    let path = "/api/v1/namespaces/test/persistentvolumeclaims/data";
    let claim = bench.api.get(path).expect("the claim");
    assert_eq!(claim["status"]["phase"], "Bound");
    assert_eq!(claim["status"]["capacity"]["storage"], "64Ki");
    // A file can be read after the end, and nothing but files of the volume.
    for (wanted, expected) in [
        ("/data/file", (200, "kept\n")),
        ("/data/none", (404, "there is no file")),
        ("/data/out", (400, "leaves the volume")),
        ("/data/pipe", (400, "not a regular file")),
        ("/etc/passwd", (400, "on no volume")),
        ("/data/../etc/passwd", (400, "without `..`")),
    ] {
        let (code, text) = bench.get(&format!("/files/test/writer/main?path={wanted}")).await;
        assert!(code == expected.0 && text.contains(expected.1), "{wanted}: {code} {text}");
    }
    bench.api.delete_pod("writer", 0);
    bench.api.create_pod("reader", pod("cat /data/file; dd if=/dev/zero of=/data/large bs=1k count=256; sleep 600"));
    wait_for("the data is there", || async { bench.logs("reader", "main", "").await.1.starts_with("kept\n").then_some(()) }).await;
    let claim = wait_for("the claim says that it is over", || async {
        let claim = bench.api.get(path)?;
        let condition = claim["status"]["conditions"][0].clone();
        (condition["status"] == "False").then_some(condition)
    })
    .await;
    assert!(claim["message"].as_str().expect("a message").contains("of 64Ki"), "{claim}");
    let missing = json!({"spec": {
        "containers": [shell("main", "true")],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "nothing"}}],
    }});
    bench.api.create_pod("lost", missing);
    bench
        .pod_when("lost", "says what is missing", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
                .as_str()
                .is_some_and(|text| text.contains("the PersistentVolumeClaim nothing does not exist"))
        })
        .await;
    bench.tear_down().await;
}

#[tokio::test]
async fn config_and_secrets_reach_files_and_environment_and_follow_changes() {
    let bench = Bench::start().await;
    let map = json!({"metadata": {"name": "looks"}, "data": {"color": "red", "size": "big"}});
    let secret = json!({"metadata": {"name": "keys"}, "data": {"word": "c2VzYW1l"}});
    bench.api.create("/api/v1/namespaces/test/configmaps", map);
    bench.api.create("/api/v1/namespaces/test/secrets", secret);
    let mut main = shell("main", "echo $COLOR $P_word; cat /looks/color /keys/word; df /keys | tail -1; sleep 600");
    main["env"] = json!([{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "looks", "key": "color"}}}]);
    main["envFrom"] = json!([{"prefix": "P_", "secretRef": {"name": "keys"}}]);
    main["volumeMounts"] = json!([
        {"name": "looks", "mountPath": "/looks"}, {"name": "keys", "mountPath": "/keys", "readOnly": true},
        {"name": "about", "mountPath": "/about"},
    ]);
    bench.api.create_pod(
        "configured",
        json!({
            "metadata": {"labels": {"team": "blue"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [main],
                "volumes": [
                    {"name": "looks", "configMap": {"name": "looks"}},
                    {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 256}},
                    {"name": "about", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ],
            },
        }),
    );
    bench.pod_in_phase("configured", "Running").await;
    let log = wait_for("the log", || async {
        let log = bench.logs("configured", "main", "").await.1;
        (log.lines().count() >= 2).then_some(log)
    })
    .await;
    assert!(log.starts_with("red sesame\nredsesame"), "{log}");
    assert!(log.contains("tmpfs"), "{log}");
    let run = |script: &'static str| {
        let bench = &bench;
        async move {
            let session = crate::stream::exec(bench, "configured", "main", &["/bin/sh", "-c", script], None).await;
            String::from_utf8(session.stdout).expect("text")
        }
    };
    assert_eq!(run("stat -Lc %a /keys/word; cat /about/labels").await, "400\nteam=\"blue\"");
    bench.api.patch("/api/v1/namespaces/test/configmaps/looks", &json!({"data": {"color": "blue", "size": null}}));
    wait_for("the files follow", || async { (run("cat /looks/color; ls /looks").await == "bluecolor\n").then_some(()) }).await;
    bench.tear_down().await;
}

#[tokio::test]
async fn configuration_that_is_missing_is_named_and_waited_for() {
    let bench = Bench::start().await;
    let mut main = shell("main", "echo $V");
    main["env"] = json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": "late", "key": "v"}}}]);
    bench.api.create_pod("early", json!({"spec": {"restartPolicy": "Never", "containers": [main]}}));
    let waiting = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    let pod = bench.pod_when("early", "waits", |pod| waiting(pod)["reason"] == "CreateContainerConfigError").await;
    assert_eq!(waiting(&pod)["message"], "Secret late does not exist in the namespace");
    bench.api.create("/api/v1/namespaces/test/secrets", json!({"metadata": {"name": "late"}, "data": {"v": "bm93"}}));
    bench.pod_in_phase("early", "Succeeded").await;
    assert_eq!(bench.logs("early", "main", "").await.1, "now\n");
    bench.tear_down().await;
}

#[tokio::test]
async fn sub_paths_stay_in_their_volume() {
    let bench = Bench::start().await;
    let mut make = shell("make", "ln -s /etc /v/out; mkdir /v/in; echo in > /v/in/file");
    make["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let pod = |sub_path: &str| {
        let mut main = shell("main", "cat /m/file");
        main["volumeMounts"] = json!([{"name": "v", "mountPath": "/m", "subPath": sub_path}]);
        json!({"spec": {
            "restartPolicy": "Never", "initContainers": [make.clone()], "containers": [main],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }})
    };
    bench.api.create_pod("good", pod("in"));
    bench.pod_in_phase("good", "Succeeded").await;
    assert_eq!(bench.logs("good", "main", "").await.1, "in\n");
    bench.api.create_pod("evil", pod("out"));
    let pod = bench
        .pod_when("evil", "is refused", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().expect("a message");
    assert!(message.contains("leaves the volume"), "{message}");
    bench.tear_down().await;
}
