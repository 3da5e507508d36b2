//! Kinds that users define while the server runs, with the real kubectl.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use fermion_testkit::{Kubectl, Node, Platform, eventually};
use serde_json::{Value, json};

use crate::FERMION;

const DEFINITION: &str = include_str!("definitions/backup.yaml");
const NAME: &str = "backups.storage.example.org";

const BACKUP: &str = "apiVersion: storage.example.org/v1\nkind: Backup\nmetadata: {name: nightly, labels: {tier: gold}}\nspec:\n  source: orders\n  bucket: {url: 's3://copies/orders'}\n  schedule: 0 3 * * *\n  hooks:\n  - {name: freeze, command: [pg, freeze]}\n  tags: [daily]\n  limits: {memory: 2Gi, cpu: 2}\n  timeout: 10m\n  options: {anything: {goes: [1, 2]}}\n";

fn install(kubectl: &Kubectl) {
    kubectl.apply(DEFINITION);
    kubectl.run(&["wait", "--for=condition=Established", &format!("crd/{NAME}"), "--timeout=60s"]).ok();
}

/// The definition with something changed, as JSON.
fn changed(kubectl: &Kubectl, change: impl FnOnce(&mut Value)) -> String {
    let text = kubectl.run(&["get", "crd", NAME, "-o", "json"]).ok();
    let mut definition: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut definition);
    definition.to_string()
}

#[test]
fn a_defined_kind_is_served_like_a_built_in_one() {
    let mut platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    install(&kubectl);
    let status: Value = serde_json::from_str(&kubectl.run(&["get", "crd", NAME, "-o", "jsonpath={.status}"]).ok()).expect("JSON");
    assert_eq!(status["acceptedNames"]["listKind"], "BackupList");
    assert_eq!(status["storedVersions"], json!(["v1"]));
    assert_eq!(status["conditions"][0]["type"], "NamesAccepted");
    assert!(kubectl.run(&["get", "crds"]).ok().contains("CREATED AT"));

    // discovery and explanation
    let resources = kubectl.run(&["api-resources", "--api-group=storage.example.org", "--no-headers"]).ok();
    assert_eq!(resources.split_whitespace().collect::<Vec<_>>(), ["backups", "bk", "storage.example.org/v1", "true", "Backup"]);
    assert!(kubectl.run(&["api-versions"]).ok().contains("storage.example.org/v1beta1"));
    assert!(kubectl.run(&["explain", "backup"]).ok().contains("A Backup copies a database to a bucket on a schedule."));
    let tree = kubectl.run(&["explain", "--recursive", "bk.spec"]).ok();
    for field in ["source", "secretRef", "hooks", "tags", "timeout"] {
        assert!(tree.contains(field), "{field} in\n{tree}");
    }
    assert!(kubectl.run(&["explain", "backup.spec.bucket.region"]).ok().contains("us-east"));

    // defaults, columns, names, selectors
    kubectl.apply(BACKUP);
    assert_eq!(
        kubectl.field("default", "backup/nightly", "{.spec.bucket.region} {.spec.keep.last} {.spec.hooks[0].phase}"),
        Ok("eu-central 7 Before".into())
    );
    let table = kubectl.run(&["get", "bk"]).ok();
    assert!(table.starts_with("NAME      SOURCE   PHASE   KEEP   READY   AGE\nnightly   orders           7"), "{table}");
    assert!(kubectl.run(&["get", "bk", "-o", "wide"]).ok().contains("s3://copies/orders"));
    assert!(kubectl.run(&["get", "data-protection"]).ok().contains("nightly"));
    assert!(
        kubectl
            .run(&["get", "backups.v1beta1.storage.example.org", "nightly", "-o", "yaml"])
            .ok()
            .contains("apiVersion: storage.example.org/v1beta1")
    );
    let by_field = |selector: &str| kubectl.run(&["get", "bk", "--field-selector", selector, "-o", "name"]).ok();
    assert_eq!(by_field("spec.source=orders"), "backup.storage.example.org/nightly\n");
    assert_eq!(by_field("spec.source!=orders"), "");
    assert!(kubectl.run(&["get", "bk", "--field-selector", "spec.suspend=true"]).refused().contains("field label not supported"));
    assert_eq!(kubectl.run(&["get", "bk", "-l", "tier=gold", "-o", "name"]).ok(), "backup.storage.example.org/nightly\n");

    // subresources
    kubectl.run(&["scale", "bk", "nightly", "--replicas=3"]).ok();
    assert_eq!(kubectl.field("default", "bk/nightly", "{.spec.replicas}"), Ok("3".into()));
    assert!(kubectl.run(&["scale", "bk", "nightly", "--replicas=30"]).refused().contains("spec.replicas"));
    let done = r#"{"status":{"phase":"Done","conditions":[{"type":"Ready","status":"True"}]},"spec":{"replicas":9}}"#;
    kubectl.run(&["patch", "bk", "nightly", "--subresource=status", "--type=merge", "-p", done]).ok();
    assert_eq!(kubectl.field("default", "bk/nightly", "{.status.phase} {.spec.replicas}"), Ok("Done 3".into()));
    assert!(kubectl.run(&["get", "bk", "nightly"]).ok().contains("Done    7      True"));
    assert_eq!(by_field("status.phase=Done"), "backup.storage.example.org/nightly\n");

    // fermion's own client
    assert!(platform.run(&["get", "backups"]).ok().contains("nightly"));

    // everything is there after a crash
    platform.kill();
    platform.restart();
    assert!(kubectl.run(&["get", "bk", "nightly"]).ok().contains("Done    7      True"));
    assert!(kubectl.run(&["explain", "backup.spec.keep.last"]).ok().contains("integer"));
    kubectl.run(&["delete", "bk", "nightly"]).ok();

    // a namespace takes them along
    kubectl.run(&["create", "namespace", "lab"]).ok();
    kubectl.run_with(&["create", "-n", "lab", "-f", "-"], BACKUP).ok();
    kubectl.run(&["delete", "namespace", "lab", "--timeout=60s"]).ok();
    assert_eq!(kubectl.run(&["get", "bk", "-A", "-o", "name"]).ok(), "");
}

#[test]
fn objects_of_a_defined_kind_are_validated_with_every_path() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    install(&kubectl);
    let refused = |from: &str, to: &str| {
        assert!(BACKUP.contains(from), "{from}");
        kubectl.run_with(&["create", "-f", "-"], &BACKUP.replace(from, to)).refused()
    };
    assert!(refused("tags: [daily]", "tgas: [daily]").contains("unknown field \"spec.tgas\""));
    let both = refused("schedule: 0 3 * * *\n", "schedule: daily\n  keep: {last: 0, for: a while}\n  replicas: many\n");
    for path in ["spec.keep.last", "spec.keep.for", "spec.replicas"] {
        assert!(both.contains(path), "{path} in {both}");
    }
    assert!(refused("source: orders", "source: ''").contains("spec.source"));
    assert!(refused("tags: [daily]", "tags: [daily, daily]").contains("spec.tags[1]: Duplicate value"));
    assert!(refused("timeout: 10m", "timeout: 1.5").contains("spec.timeout"));
    assert!(refused("timeout: 10m", "encryption: {}").contains("spec.encryption"));
    assert!(refused("timeout: 10m", "encryption: {key: {id: a}, password: {}}").contains("spec.encryption"));
    let twice = refused("- {name: freeze, command: [pg, freeze]}", "- {name: a, command: [x]}\n  - {name: a, command: [y]}");
    assert!(twice.contains("spec.hooks[1]: Duplicate value"), "{twice}");

    // rules: all that are broken at once
    let rules = refused(
        "schedule: 0 3 * * *\n  hooks:\n  - {name: freeze, command: [pg, freeze]}",
        "schedule: daily\n  hooks:\n  - {name: a, command: [], phase: After}\n  - {name: b, command: [x], phase: After}\n  - {name: c, command: [x], phase: After}",
    );
    for expected in [
        "spec.schedule: Invalid value: \"object\": schedule must have five fields",
        "spec: Forbidden: at most two hooks may run after the copy",
        "spec.hooks[0].command: Invalid value: \"object\": hook a needs a command",
    ] {
        assert!(rules.contains(expected), "{expected} in {rules}");
    }
    assert!(refused("memory: 2Gi", "memory: 200Gi").contains("no limit may reach 100Gi"));

    // what a field was set to cannot be changed
    kubectl.apply(BACKUP);
    let refused = kubectl.run(&["patch", "bk", "nightly", "--type=merge", "-p", r#"{"spec":{"source":"users"}}"#]).refused();
    assert!(refused.contains("spec.source: Invalid value: \"string\": source is immutable"), "{refused}");
    kubectl.run(&["patch", "bk", "nightly", "--type=merge", "-p", r#"{"spec":{"suspend":true,"schedule":null}}"#]).ok();

    // unknown fields are dropped where the schema does not keep them
    let unknown = BACKUP
        .replace("nightly", "loose")
        .replace("source: orders", "source: orders\n  extra: 1\n  template: {apiVersion: v1, kind: Pod, deeply: {inside: 1}}");
    kubectl.run_with(&["create", "--validate=ignore", "-f", "-"], &unknown).ok();
    assert_eq!(
        kubectl.field("default", "bk/loose", "{.spec.extra}|{.spec.options.anything.goes[1]}|{.spec.template.deeply.inside}"),
        Ok("|2|1".into())
    );
}

#[test]
fn a_definition_can_change_while_it_is_used() {
    let platform = Platform::start(FERMION, Node::None);
    let (kubectl, http) = (platform.kubectl(), platform.http());
    install(&kubectl);
    kubectl.apply(BACKUP);
    let document = |path: &str| -> String {
        let index = http.get("/openapi/v3").json();
        index["paths"][path]["serverRelativeURL"].as_str().expect("an address").to_owned()
    };
    let (before, core) = (document("apis/storage.example.org/v1"), document("api/v1"));
    let answer = http.get(&before);
    assert_eq!((answer.code, answer.header("cache-control")), (200, Some("public, max-age=31536000, immutable")));

    let with_owner = changed(&kubectl, |definition| {
        for version in definition["spec"]["versions"].as_array_mut().expect("versions") {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["owner"] =
                json!({"type": "string", "default": "nobody"});
        }
        definition["spec"]["versions"][1]["additionalPrinterColumns"][0] =
            json!({"name": "Owner", "type": "string", "jsonPath": ".spec.owner"});
    });
    kubectl.run_with(&["replace", "-f", "-"], &with_owner).ok();
    // what was stored before gets the new default
    assert!(kubectl.run(&["get", "bk", "nightly"]).ok().contains("nightly   nobody"));
    assert_ne!(document("apis/storage.example.org/v1"), before);
    assert_eq!(document("api/v1"), core, "other groups' documents stay");
    let moved = http.get(&before);
    assert_eq!((moved.code, moved.header("location")), (301, Some(document("apis/storage.example.org/v1").as_str())));
    assert!(kubectl.run(&["explain", "backup.spec.owner"]).ok().contains("owner"));
    let version_2 = http.get("/openapi/v2").json();
    assert!(version_2["definitions"]["org.example.storage.v1.Backup"]["properties"]["spec"]["properties"]["owner"].is_object());

    // a field that goes is dropped when it is read
    let without_tags = changed(&kubectl, |definition| {
        for version in definition["spec"]["versions"].as_array_mut().expect("versions") {
            let spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].as_object_mut().expect("properties");
            spec.remove("tags");
        }
    });
    kubectl.run_with(&["replace", "-f", "-"], &without_tags).ok();
    assert_eq!(kubectl.field("default", "bk/nightly", "{.spec.tags}"), Ok(String::new()));

    // the storage version moves; objects of both are read in both
    let moved = changed(&kubectl, |definition| {
        definition["spec"]["versions"][0]["storage"] = json!(true);
        definition["spec"]["versions"][1]["storage"] = json!(false);
    });
    kubectl.run_with(&["replace", "-f", "-"], &moved).ok();
    assert_eq!(kubectl.field("default", &format!("crd/{NAME}"), "{.status.storedVersions}"), Ok("[\"v1\",\"v1beta1\"]".into()));
    kubectl.apply(&BACKUP.replace("nightly", "weekly").replace("  tags: [daily]\n", ""));
    let versions = kubectl.run(&["get", "bk", "-o", "jsonpath={.items[*].apiVersion}"]).ok();
    assert_eq!(versions, "storage.example.org/v1 storage.example.org/v1");
    kubectl.run(&["patch", "bk", "nightly", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]).ok();
    // a version in which objects may be stored cannot go
    let without = changed(&kubectl, |definition| {
        definition["spec"]["versions"].as_array_mut().expect("versions").remove(1);
    });
    assert!(kubectl.run_with(&["replace", "-f", "-"], &without).refused().contains("status.storedVersions[0]"));
    let renamed = changed(&kubectl, |definition| definition["spec"]["names"]["kind"] = json!("Copy"));
    assert!(
        kubectl
            .run_with(&["replace", "-f", "-"], &renamed)
            .refused()
            .contains("spec.names.kind: Invalid value: \"Copy\": field is immutable")
    );
}

#[test]
fn a_deleted_definition_takes_its_objects_along() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    install(&kubectl);
    kubectl.apply(BACKUP);
    kubectl.apply(&BACKUP.replace("name: nightly", "name: held, finalizers: [example.org/wait]"));
    let mut watching = kubectl
        .command(&["get", "bk", "-w", "--output-watch-events", "--no-headers"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watching.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().map(|line| line.expect("text").split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    assert_eq!((next(), next()), (Some("ADDED held".into()), Some("ADDED nightly".into())));

    kubectl.run(&["delete", "crd", NAME, "--wait=false"]).ok();
    kubectl.wait_field_within(
        std::time::Duration::from_secs(60),
        "default",
        &format!("crd/{NAME}"),
        r#"{.status.conditions[?(@.type=="Terminating")].reason}"#,
        "InstanceDeletionInProgress",
    );
    let refused = kubectl.run_with(&["create", "-f", "-"], &BACKUP.replace("nightly", "late")).refused();
    assert!(refused.contains("create not allowed while custom resource definition is terminating"), "{refused}");
    eventually("the free object to go", || match kubectl.field("default", "bk/nightly", "{.metadata.name}") {
        Err(error) if error.contains("NotFound") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    kubectl.run(&["patch", "bk", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).ok();
    kubectl.run(&["wait", "--for=delete", &format!("crd/{NAME}"), "--timeout=60s"]).ok();
    watching.kill().expect("a signal");
    watching.wait().expect("an end");
    // This one asks the server anew; the other commands take what they learned before.
    assert!(!kubectl.run(&["api-versions"]).ok().contains("storage.example.org"));
    assert!(kubectl.run(&["get", "backups"]).refused().contains("the server doesn't have a resource type \"backups\""));
    assert_eq!(platform.http().get("/apis/storage.example.org/v1").code, 404);

    // the same name begins anew
    install(&kubectl);
    assert_eq!(kubectl.run(&["get", "bk", "-A", "-o", "name"]).ok(), "");
}

#[test]
fn definitions_that_cannot_be_served_are_refused_with_the_place() {
    let platform = Platform::start(FERMION, Node::None);
    let kubectl = platform.kubectl();
    let simple = |name: &str, group: &str, schema: &str| {
        let (plural, kind) = (format!("{}s", name.to_lowercase()), name);
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: {plural}, kind: {kind}}}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {{openAPIV3Schema: {schema}}}\n"
        )
    };
    let refused = |text: &str| kubectl.run_with(&["create", "-f", "-"], text).refused();
    let schema = |schema: &str| refused(&simple("Widget", "example.org", schema));
    let spec = |spec: &str| schema(&format!("{{type: object, properties: {{spec: {spec}}}}}"));
    const AT: &str = "spec.versions[0].schema.openAPIV3Schema";

    // the platform's own kinds
    for group in ["ai.fermion.dev", "fermion.dev", "coordination.k8s.io"] {
        let text = refused(&simple("Widget", group, "{type: object}"));
        assert!(text.contains("spec.group: Forbidden") && text.contains("belongs to the platform"), "{text}");
    }
    assert!(refused(&simple("Widget", "new.k8s.io", "{type: object}")).contains("api-approved.kubernetes.io"));
    assert!(refused(&simple("Widget", "local", "{type: object}")).contains("should be a domain with at least one dot"));
    assert!(
        refused(&simple("Widget", "example.org", "{type: object}").replace("name: widgets.", "name: gadgets."))
            .contains("must be spec.names.plural+\".\"+spec.group")
    );

    // structure
    for (text, expected) in [
        (spec("{}"), format!("{AT}.properties[spec].type: Required value: must not be empty for specified object fields")),
        (spec("{type: array}"), format!("{AT}.properties[spec].items: Required value: must be specified")),
        (schema("{type: string}"), format!("{AT}.type: Invalid value: \"string\": must be object at the root")),
        (spec("{type: object, properties: {a: {type: string}}, additionalProperties: {type: string}}"), "mutual exclusive".into()),
        (spec("{type: object, oneOf: [{properties: {a: {type: string}}}]}"), "must be declared outside of the value validation".into()),
        (spec("{type: string, default: 5}"), format!("{AT}.properties[spec].default: Invalid value: 5")),
        (spec("{type: object, default: {a: 1}}"), "must not have unknown fields".into()),
        (spec("{type: string, pattern: '['}"), format!("{AT}.properties[spec].pattern: Invalid value: \"[\"")),
        (
            spec("{type: array, items: {type: string}, x-kubernetes-list-type: map}"),
            "must not be empty if x-kubernetes-list-type is map".into(),
        ),
        (spec("{type: array, items: {type: string}, uniqueItems: true}"), "uniqueItems cannot be set to true".into()),
        (
            spec("{x-kubernetes-int-or-string: true, x-kubernetes-preserve-unknown-fields: true}"),
            "must be false if x-kubernetes-int-or-string is true".into(),
        ),
        (
            schema("{type: object, properties: {metadata: {type: object, properties: {labels: {type: object}}}}}"),
            "must not specify anything other than name and generateName".into(),
        ),
    ] {
        assert!(text.contains(&expected), "{expected} in {text}");
    }

    // rules
    let rule = |rule: &str| {
        spec(&format!(
            "{{type: object, properties: {{words: {{type: array, items: {{type: string}}}}, count: {{type: integer}}}}, x-kubernetes-validations: [{{rule: \"{rule}\"}}]}}"
        ))
    };
    let at_rule = format!("{AT}.properties[spec].x-kubernetes-validations[0].rule");
    for (rule, text, expected) in [
        ("self.m > 0", rule("self.m > 0"), "compilation failed: ERROR: <input>:1:5: undefined field 'm'"),
        ("self.count +", rule("self.count +"), "compilation failed: ERROR: <input>:1:13: Syntax error"),
        ("self.count", rule("self.count"), "cel expression must evaluate to a bool"),
        (
            "self.words.all(a, self.words.all(b, a == b))",
            rule("self.words.all(a, self.words.all(b, a == b))"),
            "estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems",
        ),
    ] {
        assert!(text.contains(&at_rule) && text.contains(expected), "{rule}: {text}");
    }
    let uncorrelated =
        spec("{type: array, maxItems: 5, items: {type: string, maxLength: 5, x-kubernetes-validations: [{rule: self == oldSelf}]}}");
    assert!(uncorrelated.contains("oldSelf cannot be used on the uncorrelatable portion of the schema"), "{uncorrelated}");

    // what is not served here says so
    let webhook = DEFINITION.replace("  scope: Namespaced", "  scope: Namespaced\n  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {url: 'https://localhost/'}}}");
    assert!(refused(&webhook).contains("conversion webhooks are not served here"));
    let two = DEFINITION.replace("storage: false", "storage: true");
    assert!(refused(&two).contains("must have exactly one version marked as storage version"));

    // names are given once; they become free with whoever had them
    kubectl.run_with(&["create", "-f", "-"], &simple("Widget", "example.org", "{type: object}")).ok();
    let rival = simple("Gadget", "example.org", "{type: object}").replace("kind: Gadget", "kind: Widget");
    kubectl.run_with(&["create", "-f", "-"], &rival).ok();
    let condition = |type_: &str| {
        kubectl.field("default", "crd/gadgets.example.org", &format!("{{.status.conditions[?(@.type==\"{type_}\")].reason}}"))
    };
    assert_eq!((condition("NamesAccepted"), condition("Established")), (Ok("ListKindConflict".into()), Ok("NotAccepted".into())));
    assert!(kubectl.run(&["get", "gadgets"]).refused().contains("the server doesn't have a resource type \"gadgets\""));
    kubectl.run(&["delete", "crd", "widgets.example.org", "--timeout=60s"]).ok();
    kubectl.run(&["wait", "--for=condition=Established", "crd/gadgets.example.org", "--timeout=60s"]).ok();
    assert!(kubectl.run(&["get", "gadgets"]).ok().is_empty());
}
