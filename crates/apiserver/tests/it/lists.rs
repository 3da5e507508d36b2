//! Lists as people ask for them: searched, sorted, counted and paged, of every sort of kind.

use axum::http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::stage::Stage;

/// Kinds whose lists are told in different ways: by the store, by the store for a kind of a
/// definition, here because it is stored in another version, and here because it is sealed.
const KINDS: [&str; 4] = ["configmaps", "lamps", "lanterns", "secrets"];

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The address of a kind's list in the namespace `default`.
pub(crate) fn address(plural: &str) -> String {
    match plural {
        "lamps" | "lanterns" => format!("/apis/light.example.org/v1/namespaces/default/{plural}"),
        core => format!("/api/v1/namespaces/default/{core}"),
    }
}

/// Defines `lamps`, of one version, and `lanterns`, of two.
pub(crate) async fn define(stage: &Stage) {
    for (kind, plural, versions) in [("Lamp", "lamps", &["v1"][..]), ("Lantern", "lanterns", &["v1", "v2"])] {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "text": {"type": "string"},
            "watts": {"type": "integer"},
            "ratio": {"type": "number"},
            "lit": {"type": "boolean"},
            "port": {"x-kubernetes-int-or-string": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "tags": {"type": "array", "items": {"type": "string"}},
            "marks": {"type": "object", "additionalProperties": {"type": "string"}},
            "shade": {"type": "object", "properties": {
                "colour": {"type": "string", "enum": ["red", "green"], "description": "What light falls through."},
                "edge": {"type": "object", "properties": {"width": {"type": "integer", "maximum": 10}}},
            }},
        }}}});
        let version = |name: &&str| {
            json!({"name": name, "served": true, "storage": *name == "v1", "schema": {"openAPIV3Schema": schema},
            "additionalPrinterColumns": [{"name": "Watts", "type": "integer", "jsonPath": ".spec.watts"}]})
        };
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.light.example.org")},
            "spec": {
                "group": "light.example.org",
                "scope": "Namespaced",
                "names": {"plural": plural, "kind": kind},
                "versions": versions.iter().map(version).collect::<Vec<_>>(),
            },
        });
        stage.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.ok();
    }
}

/// An object that has a text where everybody may look, and labels.
fn object(plural: &str, name: &str, text: &str, labels: Value) -> Value {
    let metadata = json!({"name": name, "labels": labels});
    match plural {
        "configmaps" => json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}}),
        // Of a Secret its values are not searched, but its type is.
        "secrets" => json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": format!("example.org/{text}")}),
        "lamps" => json!({"apiVersion": "light.example.org/v1", "kind": "Lamp", "metadata": metadata, "spec": {"text": text}}),
        _ => json!({"apiVersion": "light.example.org/v1", "kind": "Lantern", "metadata": metadata, "spec": {"text": text}}),
    }
}

struct Page {
    names: Vec<String>,
    remaining: Option<u64>,
    revision: String,
    next: Option<String>,
}

async fn page(stage: &Stage, plural: &str, query: &str) -> Page {
    let list = stage.get(&format!("{}?{query}", address(plural))).await.ok();
    let items = list["items"].as_array().expect("items");
    Page {
        names: items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect(),
        remaining: list["metadata"]["remainingItemCount"].as_u64(),
        revision: list["metadata"]["resourceVersion"].as_str().unwrap().to_owned(),
        next: list["metadata"]["continue"].as_str().map(str::to_owned),
    }
}

#[tokio::test]
async fn a_text_is_found_as_it_stands_in_every_kind() {
    let stage = Stage::new().await;
    define(&stage).await;
    let texts =
        [("percent", "50%"), ("underscore", "a_b"), ("quote", "it's"), ("quotes", "say \"x\""), ("capitals", "NIGHT"), ("script", "算力")];
    for plural in KINDS {
        for (name, text) in texts {
            stage.post(&address(plural), &object(plural, name, text, json!({}))).await.ok();
        }
        for (search, found) in [
            ("%", vec!["percent"]),
            ("0%", vec!["percent"]),
            ("_", vec!["underscore"]),
            ("a%b", vec![]),
            ("'", vec!["quote"]),
            ("' OR '1'='1", vec![]),
            ("\"x\"", vec!["quotes"]),
            ("night", vec!["capitals"]),
            ("算力", vec!["script"]),
            ("SCOR", vec!["underscore"]),
            ("quote", vec!["quote", "quotes"]),
        ] {
            assert_eq!(page(&stage, plural, &format!("search={}", encoded(search))).await.names, found, "{plural}: {search}");
        }
    }
}

#[tokio::test]
async fn the_values_of_secrets_are_not_searched_nor_are_their_seals() {
    let stage = Stage::new().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "annotations": {"note": "hunter2"}}, "stringData": {"password": "hunter2"}});
    stage.post(&address("secrets"), &secret).await.ok();
    let found = page(&stage, "secrets", "search=key").await.names;
    assert_eq!(found, ["key"]);
    for search in ["hunter2", "aHVudGVyMg", "sealed", "dataKey", "=="] {
        assert_eq!(page(&stage, "secrets", &format!("search={}", encoded(search))).await.names, Vec::<String>::new(), "{search}");
    }
}

#[tokio::test]
async fn lists_are_sorted_by_a_field_that_some_objects_lack() {
    let stage = Stage::new().await;
    define(&stage).await;
    for plural in ["lamps", "lanterns"] {
        let values = [
            ("b-none", None),
            ("a-none", None),
            ("ten", Some(json!(10))),
            ("nine", Some(json!(9))),
            ("text", Some(json!("a"))),
            ("list", Some(json!([]))),
        ];
        for (name, value) in values {
            let mut lamp = object(plural, name, "x", json!({"a.b/c": name}));
            if let Some(value) = value {
                lamp["spec"]["any"] = value;
            }
            stage.post(&address(plural), &lamp).await.ok();
        }
        let ascending = ["a-none", "b-none", "list", "nine", "ten", "text"];
        assert_eq!(page(&stage, plural, "sortBy=spec.any").await.names, ascending, "{plural}");
        assert_eq!(page(&stage, plural, "sortBy=-.spec.any").await.names, ascending.into_iter().rev().collect::<Vec<_>>(), "{plural}");
        let by_label = page(&stage, plural, &format!("sortBy={}", encoded("-metadata.labels[a.b/c]"))).await.names;
        assert_eq!(by_label, ["text", "ten", "nine", "list", "b-none", "a-none"], "{plural}");
        assert_eq!(page(&stage, plural, "sortBy=spec.nothing.at.all&limit=2&offset=1").await.names, ["b-none", "list"], "{plural}");
    }
}

#[tokio::test]
async fn pages_are_of_one_snapshot_while_others_write() {
    let stage = Stage::new().await;
    define(&stage).await;
    for plural in KINDS {
        let path = address(plural);
        for index in 0..5 {
            stage.post(&path, &object(plural, &format!("n{index}"), "same", json!({}))).await.ok();
        }
        let search = "search=same&count=true&limit=2";
        let sorted = page(&stage, plural, &format!("{search}&sortBy=-metadata.name")).await;
        assert_eq!((sorted.names, sorted.remaining, sorted.next), (vec!["n4".to_owned(), "n3".to_owned()], Some(3), None), "{plural}");
        let by_key = page(&stage, plural, search).await;
        assert_eq!((by_key.names, by_key.remaining), (vec!["n0".to_owned(), "n1".to_owned()], Some(3)), "{plural}");

        stage.delete(&format!("{path}/n2")).await.ok();
        stage.post(&path, &object(plural, "n2a", "same", json!({}))).await.ok();

        let at = format!("resourceVersion={}&resourceVersionMatch=Exact", sorted.revision);
        let second = page(&stage, plural, &format!("{search}&sortBy=-metadata.name&offset=2&{at}")).await;
        assert_eq!((second.names, second.remaining), (vec!["n2".to_owned(), "n1".to_owned()], Some(1)), "{plural}");
        let third = page(&stage, plural, &format!("{search}&sortBy=-metadata.name&offset=4&{at}")).await;
        assert_eq!((third.names, third.remaining), (vec!["n0".to_owned()], Some(0)), "{plural}");
        let beyond = page(&stage, plural, &format!("{search}&sortBy=-metadata.name&offset=18446744073709551615&{at}")).await;
        assert_eq!((beyond.names, beyond.remaining), (vec![], Some(0)), "{plural}");

        let second = page(&stage, plural, &format!("{search}&continue={}", encoded(&by_key.next.expect("more")))).await;
        assert_eq!((second.names, second.remaining), (vec!["n2".to_owned(), "n3".to_owned()], Some(1)), "{plural}");
        let third = page(&stage, plural, &format!("{search}&continue={}", encoded(&second.next.expect("more")))).await;
        assert_eq!((third.names, third.remaining, third.next), (vec!["n4".to_owned()], Some(0), None), "{plural}");
    }
}

#[tokio::test]
async fn what_selectors_leave_is_counted() {
    let stage = Stage::new().await;
    define(&stage).await;
    for plural in KINDS {
        for index in 0..6 {
            let labels = json!({"weight": index.to_string(), "even": (index % 2 == 0).to_string()});
            stage.post(&address(plural), &object(plural, &format!("n{index}"), "x", labels)).await.ok();
        }
        for (selector, names, remaining) in [
            ("labelSelector=even%3Dtrue", vec!["n0"], 2),
            // Compared as numbers, which the store cannot.
            ("labelSelector=weight%3E2", vec!["n3"], 2),
            ("labelSelector=weight%3E2%2Ceven%3Dtrue", vec!["n4"], 0),
            ("fieldSelector=metadata.name%21%3Dn0", vec!["n1"], 4),
            ("labelSelector=even%3Dnever", vec![], 0),
        ] {
            let found = page(&stage, plural, &format!("{selector}&limit=1&count=true")).await;
            assert_eq!(
                (found.names, found.remaining),
                (names.into_iter().map(str::to_owned).collect(), Some(remaining)),
                "{plural}: {selector}"
            );
        }
        let sorted = page(&stage, plural, "labelSelector=weight%3E2&sortBy=-metadata.name&limit=2&offset=1&count=true").await;
        assert_eq!((sorted.names, sorted.remaining), (vec!["n4".to_owned(), "n3".to_owned()], Some(0)), "{plural}");
        // Without bounds all are told, and nothing follows.
        let all = page(&stage, plural, "count=true&search=n").await;
        assert_eq!((all.names.len(), all.remaining, all.next), (6, Some(0), None), "{plural}");
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_a_bad_request() {
    let stage = Stage::new().await;
    define(&stage).await;
    let long = format!("search={}", "x".repeat(1_025));
    for plural in KINDS {
        for (query, said) in [
            ("sortBy=a..b", "sortBy"),
            ("sortBy=-", "sortBy"),
            ("sortBy=a%22b", "sortBy"),
            ("sortBy=a%5Bb", "sortBy"),
            ("offset=-1", "offset"),
            ("offset=x", "offset"),
            ("limit=x", "limit"),
            ("count=perhaps", "count"),
            ("search=%00", "search"),
            (&long, "search"),
            ("continue=x", "continue"),
            ("sortBy=a&continue=eyJyZXZpc2lvbiI6MX0", "continue"),
        ] {
            let answer = stage.get(&format!("{}?{query}", address(plural))).await;
            assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{plural}: {query}");
            assert!(answer.message().starts_with(said), "{query}: {}", answer.message());
        }
    }
}

#[tokio::test]
async fn what_cannot_be_searched_is_not_done_to_everything_instead() {
    let stage = Stage::new().await;
    let path = address("configmaps");
    stage.post(&path, &object("configmaps", "kept", "x", json!({}))).await.ok();
    for answer in [stage.delete(&format!("{path}?search=other")).await, stage.get(&format!("{path}?watch=true&search=other")).await] {
        assert_eq!(answer.code, StatusCode::BAD_REQUEST);
        assert!(answer.message().ends_with("cannot be narrowed by a search; use selectors"), "{}", answer.message());
    }
    assert_eq!(page(&stage, "configmaps", "").await.names, ["kept"]);
}

#[tokio::test]
async fn records_that_are_made_up_for_the_answer_are_searched_sorted_and_paged_too() {
    let stage = Stage::new().await;
    let record = |index: u64| fermion_store::Fact {
        kind: "usage",
        idempotency_key: format!("uid-{index}"),
        namespace: "default".to_owned(),
        at: jiff::Timestamp::from_second(1_800_000_000).unwrap(),
        body: json!({"pod": format!("pod-{index}"), "podUid": format!("uid-{index}"), "node": if index < 5 { "one" } else { "two" }, "requests": {"cpu": "1"},
            "startedAt": "2026-01-01T00:00:00.000000Z", "endedAt": "2026-01-01T01:00:00.000000Z", "seconds": 10 - index, "open": false}),
    };
    stage.store.commit(fermion_store::Commit { facts: (0..8).map(record).collect(), ..Default::default() }).await.unwrap();
    let path = "/apis/observe.fermion.dev/v1alpha1/namespaces/default/usagerecords";
    let list = async |query: &str| {
        let list = stage.get(&format!("{path}?{query}")).await.ok();
        let pods: Vec<String> = list["items"].as_array().unwrap().iter().map(|item| item["pod"].as_str().unwrap().to_owned()).collect();
        (pods, list["metadata"]["remainingItemCount"].as_u64())
    };
    let pods = |numbers: &[u64]| numbers.iter().map(|number| format!("pod-{number}")).collect::<Vec<_>>();
    assert_eq!(list("sortBy=seconds&limit=3&count=true").await, (pods(&[7, 6, 5]), Some(5)));
    assert_eq!(list("search=ONE&sortBy=-pod&offset=3&limit=3&count=true").await, (pods(&[1, 0]), Some(0)));
    // Clients of Kubernetes page by tokens; where there are none they are told everything.
    assert_eq!(list("limit=3").await, (pods(&[0, 1, 2, 3, 4, 5, 6, 7]), None));
    let file = stage.get(&format!("{path}?export=csv&search=two&sortBy=pod")).await;
    let columns: Vec<Vec<&str>> = file.text.lines().map(|line| line.split(',').collect()).collect();
    let node = columns[0].iter().position(|heading| *heading == "\"node\"").expect("a column");
    assert_eq!((columns.len(), columns[1][node]), (4, "\"two\""), "{}", file.text);
    let refused = stage.call(axum::http::Method::POST, &format!("{path}?import=csv"), "text/csv", "metadata.name\na\n").await;
    assert_eq!(refused.code, StatusCode::METHOD_NOT_ALLOWED);
}
