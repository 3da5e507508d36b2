//! Several servers on one PostgreSQL database.

use std::time::Duration;

use fermion_testkit::{Cluster, Database, Node, OwnCluster, Platform, SmallDisk, create_for_postgres, eventually, eventually_within};
use serde_json::{Value, json};

use crate::FERMION;

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";
/// How long it may take until another server leads: a lease of 15 s, asked for every 4 s, on a busy machine.
const TAKE_OVER: Duration = Duration::from_secs(90);
/// What a server says when it begins to lead.
const LEADS: &str = "this server leads";

/// A second server of the same database, with the same keys.
fn beside(first: &Platform) -> Platform {
    let mut second = Platform::prepared(FERMION, first.database());
    second.take_keys_of(first);
    second.restart();
    second
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x"}})
}

/// Waits until a server's log has so many lines with a text.
fn wait_for_log(platform: &Platform, text: &str, times: usize) {
    eventually_within(TAKE_OVER, text, || {
        let found = platform.log().matches(text).count();
        if found >= times { Ok(()) } else { Err(format!("it said so {found} times")) }
    });
}

/// Makes a job, whose Workload the controllers of whoever leads make.
fn job_gets_its_workload(platform: &Platform, name: &str) {
    let kubectl = platform.kubectl();
    kubectl.apply(&format!(
        "apiVersion: ai.fermion.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: {name}}}\nspec:\n  roles:\n  - name: worker\n    \
         replicas: 1\n    template: {{spec: {{containers: [{{name: main, image: 'fermion.dev/base:latest', command: [\"true\"]}}]}}}}\n"
    ));
    eventually_within(TAKE_OVER, "a Workload of the job", || kubectl.field("default", &format!("workload/{name}"), "{.metadata.uid}"));
}

#[test]
fn a_server_with_other_keys_is_refused_and_one_with_the_same_shares_everything() {
    let first = Platform::start_on(FERMION, Node::None, Database::Postgres);
    let stranger = Platform::prepared(FERMION, first.database());
    let start = || stranger.run(&["server", "--no-node", "--listen", "127.0.0.1:0"]).refused();
    let refused = start();
    assert!(refused.contains("secrets.key is missing") && refused.contains("copy the file from the server that has it"), "{refused}");
    // One that had a platform of its own before.
    let own = Platform::start_on(FERMION, Node::None, Database::Sqlite);
    stranger.take_keys_of(&own);
    let refused = start();
    assert!(refused.contains("secrets.key does not hold key") && refused.contains("must all have the same"), "{refused}");
    assert_eq!(first.http().get("/readyz").code, 200);

    let second = beside(&first);
    first.kubectl().run(&["create", "secret", "generic", "shared", "--from-literal=password=x"]).ok();
    assert_eq!(second.kubectl().run(&["get", "secret", "shared", "-o", "jsonpath={.data.password}"]).ok(), "eA==");
    first.kubectl().run(&["create", "serviceaccount", "robot"]).ok();
    let token = first.kubectl().run(&["create", "token", "robot"]).ok();
    let whoami = second.kubectl().run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", "--token", token.trim()]).ok();
    assert_eq!(whoami, "system:serviceaccount:default:robot");
    // Each sees at once what the other acknowledged.
    for round in 0..20 {
        let (writer, reader) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let made = writer.http().post(CONFIGS, &config(&format!("c{round}"))).json();
        assert_eq!(reader.http().get(&format!("{CONFIGS}/c{round}")).json(), made);
    }
}

#[test]
fn another_server_takes_the_lead_when_the_leader_is_killed() {
    let mut first = Platform::start_on(FERMION, Node::None, Database::Postgres);
    wait_for_log(&first, LEADS, 1);
    let second = beside(&first);
    job_gets_its_workload(&second, "before");
    assert!(!second.log().contains(LEADS), "one of them leads");
    first.kill();
    job_gets_its_workload(&second, "after");
    wait_for_log(&second, LEADS, 1);
    // What comes back follows, and serves.
    first.restart();
    job_gets_its_workload(&first, "again");
    assert_eq!(first.log().matches(LEADS).count(), 1);
}

#[test]
fn a_leader_that_was_paused_steps_down_when_it_wakes() {
    let first = Platform::start_on(FERMION, Node::None, Database::Postgres);
    wait_for_log(&first, LEADS, 1);
    let second = beside(&first);
    first.pause();
    wait_for_log(&second, LEADS, 1);
    for index in 0..5 {
        job_gets_its_workload(&second, &format!("while-away-{index}"));
    }
    first.resume();
    wait_for_log(&first, "no longer leads", 1);
    job_gets_its_workload(&first, "after");
    assert_eq!((first.log().matches(LEADS).count(), second.log().matches(LEADS).count()), (1, 1));
    let workloads = |platform: &Platform| platform.kubectl().run(&["get", "workloads", "-o", "name"]).ok();
    assert_eq!(workloads(&first).lines().count(), 6);
    assert_eq!(workloads(&first), workloads(&second));
}

#[test]
fn a_full_disk_of_postgres_refuses_writes_and_recovers_by_itself() {
    let disk = SmallDisk::mount(64);
    let cluster = OwnCluster::new("");
    let tables = disk.path().join("tables");
    create_for_postgres(&tables);
    cluster.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", tables.display()));
    let platform = Platform::start_at(FERMION, &cluster.url(&cluster.database_with("TABLESPACE small")));
    let http = platform.http();
    assert_eq!(http.post(CONFIGS, &config("before")).code, 201);
    disk.fill(0);
    // Texts that cannot be made smaller.
    let large = || {
        let text: String = (0..2_000).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "large-"}, "data": {"text": text}})
    };
    let refused = eventually("a write to be refused", || {
        let answer = http.post(CONFIGS, &large());
        if answer.code == 201 { Err("there was room".to_owned()) } else { Ok(answer) }
    });
    assert_eq!(refused.code, 507, "{}", refused.text());
    assert!(refused.text().contains("disk of the database is full"), "{}", refused.text());
    assert_eq!(http.get(&format!("{CONFIGS}/before")).json()["data"]["text"], "x");
    disk.relieve();
    eventually("writes to work again", || {
        let answer = http.post(CONFIGS, &large());
        if answer.code == 201 { Ok(()) } else { Err(answer.text()) }
    });
    assert!(Cluster::runs(&cluster));
}

#[test]
fn a_server_without_its_database_is_alive_but_not_ready() {
    let cluster = OwnCluster::new("");
    let platform = Platform::start_at(FERMION, &cluster.url(&cluster.database()));
    let http = platform.http();
    assert_eq!(http.post(CONFIGS, &config("before")).code, 201);
    cluster.stop("immediate");
    let unready = eventually("the server to say that it is not ready", || {
        let answer = http.get("/readyz");
        if answer.code == 200 { Err("it is".to_owned()) } else { Ok(answer) }
    });
    assert_eq!((unready.code, unready.text().as_str()), (503, "the database cannot be reached"));
    assert_eq!(http.get("/livez").code, 200);
    cluster.start();
    eventually("the server to be ready", || if http.get("/readyz").code == 200 { Ok(()) } else { Err("it is not".to_owned()) });
    assert_eq!(http.get(&format!("{CONFIGS}/before")).code, 200);
    assert_eq!(http.post(CONFIGS, &config("after")).code, 201);
}
