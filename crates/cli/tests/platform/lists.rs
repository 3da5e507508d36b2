//! Lists as people use them: `fermion get` with search, order and pages, `fermion export` and
//! `fermion import`.

use std::fmt::Write as _;
use std::fs;

use fermion_testkit::{Node, Platform};

use crate::FERMION;

/// The names in a table, in its order.
fn names(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn lists_are_searched_sorted_and_paged_from_the_command_line() {
    let platform = Platform::start(FERMION, Node::None);
    let file = platform.home().join("maps.csv");
    // More than the command asks for at once.
    let mut text = "metadata.name,metadata.labels.team,data\n".to_owned();
    for index in 0..520 {
        writeln!(text, "map-{index:03},vision,rank={}", index % 10).unwrap();
    }
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let imported = platform.run(&["import", "configmaps", path]);
    assert_eq!(imported.stderr.trim(), "520 rows: 520 created, 0 updated, 0 unchanged, 0 failed");
    let report = imported.ok();
    assert_eq!(
        report.lines().nth(1).map(|line| line.split_whitespace().collect()),
        Some(vec!["2", "default", "map-000", "Created", "-", "-"])
    );

    let page = platform.run(&["get", "configmaps", "--search", "MAP-4", "--sort-by", "-metadata.name", "--limit", "30", "--page", "2"]);
    assert_eq!(page.stderr.trim(), "31 to 60 of 100");
    let page = page.ok();
    assert_eq!((names(&page).len(), names(&page)[0], names(&page)[29]), (30, "map-469", "map-440"));
    let beyond = platform.run(&["get", "configmaps", "-l", "team=vision", "--limit", "30", "--page", "99"]);
    assert!(beyond.stderr.starts_with("there is no such page"), "{}", beyond.stderr);
    let all = platform.run(&["get", "configmaps", "-l", "team=vision", "--sort-by", "data.rank"]).ok();
    assert_eq!((names(&all).len(), names(&all)[0], names(&all)[519]), (520, "map-000", "map-519"));
    let listed = platform.run(&["get", "configmaps", "--search", "map-51", "--sort-by=-metadata.name", "-o", "name"]).ok();
    assert_eq!(listed.lines().next(), Some("configmap/map-519"));
    assert!(platform.run(&["get", "configmaps", "--sort-by", "a..b"]).refused().contains("sortBy=a..b"));
    assert_eq!(platform.run(&["get", "configmaps", "--watch", "--search", "x"]).code, 2);
}

#[test]
fn a_list_goes_to_a_workbook_and_comes_back() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    for (name, priority) in [("night", 10), ("day", 20)] {
        kubectl.apply(&format!(
            "apiVersion: compute.fermion.dev/v1alpha1\nkind: Queue\nmetadata: {{name: {name}, labels: {{shift: {name}}}, annotations: {{note: '=1+1'}}}}\nspec: {{priority: {priority}}}\n"
        ));
    }
    let home = platform.home();
    for ending in ["xlsx", "csv", "json"] {
        let file = home.join(format!("queues.{ending}"));
        let path = file.to_str().unwrap();
        let exported = platform.run(&["export", "queues", "-l", "shift", "-o", path]);
        assert!(exported.stderr.contains("bytes written to"), "{}", exported.stderr);
        exported.ok();
        kubectl.run(&["delete", "queues", "-l", "shift"]).ok();
        let tried = platform.run(&["import", "queues", path, "--dry-run"]);
        assert!(tried.stderr.contains("2 created") && tried.stderr.contains("it was a dry run"), "{}", tried.stderr);
        assert_eq!(kubectl.run(&["get", "queues", "-l", "shift", "-o", "name"]).ok(), "");
        platform.run(&["import", "queues", path, "--mode", "create"]).ok();
        let fields = "jsonpath={.items[*].metadata.name} {.items[*].spec.priority} {.items[*].metadata.annotations.note}";
        assert_eq!(kubectl.run(&["get", "queues", "-l", "shift", "-o", fields]).ok(), "day night 20 10 =1+1 =1+1", "{ending}");
    }
    // What is wrong with a row is told with where it is, and the command fails.
    let file = home.join("wrong.csv");
    fs::write(&file, "metadata.name,spec.priority\nnight,30\nday,many\n").unwrap();
    let wrong = platform.run(&["import", "queues", file.to_str().unwrap()]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.stdout.contains("B3") && wrong.stdout.contains("spec.priority: expected a whole number"), "{}", wrong.stdout);
    assert_eq!(wrong.stderr.trim(), "2 rows: 0 created, 1 updated, 0 unchanged, 1 failed");
    assert_eq!(kubectl.field("default", "queue/night", "{.spec.priority}"), Ok("30".to_owned()));
    // A template tells what can be filled in; a file that cannot be is not left behind.
    let template = platform.run(&["export", "queues", "--template", "-o", "-", "--format", "csv"]).ok();
    assert!(template.contains("\"spec.priority\"") && template.contains("one of UP, DOWN"), "{template}");
    let nowhere = platform.run(&["export", "queues", "-o", "/nonexistent/queues.csv"]).refused();
    assert!(nowhere.contains("cannot write"), "{nowhere}");
    let unknown = platform.run(&["export", "queues", "-o", "queues.pdf"]).refused();
    assert!(unknown.contains("end its name in .csv, .xlsx or .json"), "{unknown}");
}
