//! The kinds that say which webhooks there are: defaults, rules, and their parsed form.

use std::sync::Arc;
use std::time::Duration;

use fermion_api::Invalid;
use fermion_store::Stored;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::ClientConfig;

use super::rules::{self, Rule};
use super::target::Target;
use super::{Request, TIMEOUT_DEFAULT};
use crate::selector::LabelRequirement;

/// Where configurations are stored.
pub(crate) const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
pub(crate) const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// Webhooks of one configuration.
const WEBHOOKS_MAX: usize = 100;
/// Rules of one webhook.
const RULES_MAX: usize = 100;
/// Calls to one webhook that may be under way at once: one that hangs must not take all room.
const CALLS_PER_WEBHOOK_MAX: usize = 32;
/// The longest a webhook may take, in seconds, as in Kubernetes.
const TIMEOUT_MAX_S: i64 = 30;
/// Versions of AdmissionReview in which webhooks are asked.
const REVIEW_VERSION: &str = "v1";

/// A parsed configuration.
pub(crate) struct Configuration {
    pub(super) webhooks: Vec<Webhook>,
}

/// One webhook, ready to be asked.
pub(super) struct Webhook {
    pub(super) configuration: String,
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) rules: Vec<Rule>,
    /// Its rules are about the kind, in whatever version it is written (`matchPolicy`).
    pub(super) in_any_version: bool,
    pub(super) namespace_selector: Vec<LabelRequirement>,
    pub(super) object_selector: Vec<LabelRequirement>,
    pub(super) timeout: Duration,
    /// A webhook that gives no verdict is passed over.
    pub(super) ignores_failures: bool,
    /// It has to see the object again when others change it after it.
    pub(super) reinvoke: bool,
    /// Calls to it that may be under way at once.
    pub(super) calls: Semaphore,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    name: String,
    client_config: ClientConfigWritten,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    namespace_selector: Value,
    #[serde(default)]
    object_selector: Value,
    timeout_seconds: Option<u64>,
    failure_policy: Option<String>,
    reinvocation_policy: Option<String>,
    match_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientConfigWritten {
    url: Option<String>,
    ca_bundle: Option<String>,
}

/// Reads a stored configuration.
pub(super) fn read(stored: &Stored) -> Result<Configuration, String> {
    let object: Value = serde_json::from_slice(&stored.body).map_err(|error| error.to_string())?;
    let webhooks = object["webhooks"].as_array().cloned().unwrap_or_default();
    let webhooks = webhooks.into_iter().map(|webhook| Webhook::read(&stored.key.name, webhook)).collect::<Result<_, _>>()?;
    Ok(Configuration { webhooks })
}

impl Webhook {
    fn read(configuration: &str, webhook: Value) -> Result<Self, String> {
        let written: Written = serde_json::from_value(webhook).map_err(|error| error.to_string())?;
        let target = Target::parse(written.client_config.url.as_deref().unwrap_or_default())?;
        Ok(Self {
            configuration: configuration.to_owned(),
            tls: super::call::trust(written.client_config.ca_bundle.as_deref())?,
            target,
            rules: written.rules,
            in_any_version: written.match_policy.as_deref() != Some("Exact"),
            namespace_selector: rules::selector(&written.namespace_selector)?,
            object_selector: rules::selector(&written.object_selector)?,
            timeout: written.timeout_seconds.map_or(TIMEOUT_DEFAULT, Duration::from_secs),
            ignores_failures: written.failure_policy.as_deref() == Some("Ignore"),
            reinvoke: written.reinvocation_policy.as_deref() == Some("IfNeeded"),
            calls: Semaphore::new(CALLS_PER_WEBHOOK_MAX),
            name: written.name,
        })
    }

    /// The version of the request's resource in which it wants to be asked; none if not at all.
    pub(super) fn wanted_version<'r>(&self, request: &Request<'r>) -> Option<&'r str> {
        let wants = |version: &str| self.rules.iter().any(|rule| rule.matches(request, version));
        let own = request.resource.version.as_str();
        if wants(own) {
            return Some(own);
        }
        request.resource.served_versions().find(|version| self.in_any_version && wants(version))
    }
}

/// Writes out what Kubernetes fills in.
pub(crate) fn set_defaults(mut object: Value) -> Result<Value, Vec<Invalid>> {
    let mutating = object["kind"] == "MutatingWebhookConfiguration";
    for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        let mut or = |field: &str, default: Value| {
            if webhook[field].is_null() {
                webhook[field] = default;
            }
        };
        or("failurePolicy", "Fail".into());
        or("matchPolicy", "Equivalent".into());
        or("namespaceSelector", json!({}));
        or("objectSelector", json!({}));
        or("timeoutSeconds", TIMEOUT_DEFAULT.as_secs().into());
        if mutating {
            or("reinvocationPolicy", "Never".into());
        }
        for rule in webhook.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
            if rule["scope"].is_null() {
                rule["scope"] = "*".into();
            }
        }
    }
    Ok(object)
}

/// What is wrong with a configuration.
pub(crate) fn check(object: &Value, _old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = Vec::new();
    let webhooks = object["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if webhooks.len() > WEBHOOKS_MAX {
        problems.push(Invalid::new("webhooks", format!("at most {WEBHOOKS_MAX} in one configuration")));
        return problems;
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, webhook) in webhooks.iter().enumerate() {
        let at = |field: &str| format!("webhooks[{index}].{field}");
        let name = webhook["name"].as_str().unwrap_or_default();
        if !crate::names::is_dns_name(name) || name.split('.').count() < 3 {
            problems.push(Invalid::new(at("name"), "must be a domain name of at least three parts, such as check.example.com"));
        }
        if names.contains(&name) {
            problems.push(Invalid::new(at("name"), "is used twice in this configuration"));
        }
        names.push(name);
        check_client(&at("clientConfig"), &webhook["clientConfig"], &mut problems);
        check_choices(webhook, &at, &mut problems);
        let rules = webhook["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        if rules.len() > RULES_MAX {
            problems.push(Invalid::new(at("rules"), format!("at most {RULES_MAX} of one webhook")));
            continue;
        }
        for (number, rule) in rules.iter().enumerate() {
            rules::check(&at(&format!("rules[{number}]")), rule, &mut problems);
        }
        for field in ["namespaceSelector", "objectSelector"] {
            if let Err(why) = rules::selector(&webhook[field]) {
                problems.push(Invalid::new(at(field), why));
            }
        }
    }
    problems
}

fn check_client(at: &str, client: &Value, problems: &mut Vec<Invalid>) {
    let url = client["url"].as_str();
    if !client["service"].is_null() {
        problems.push(Invalid::new(
            format!("{at}.service"),
            "services have no addresses on this platform yet: give the webhook's address as url, with https",
        ));
    }
    match url {
        Some(url) => {
            if let Err(why) = Target::parse(url) {
                problems.push(Invalid::new(format!("{at}.url"), why));
            }
        }
        None if client["service"].is_null() => problems.push(Invalid::new(format!("{at}.url"), "is required")),
        None => {}
    }
    if let Err(why) = super::call::trust(client["caBundle"].as_str().filter(|bundle| !bundle.is_empty())) {
        problems.push(Invalid::new(format!("{at}.caBundle"), why));
    }
}

fn check_choices(webhook: &Value, at: &impl Fn(&str) -> String, problems: &mut Vec<Invalid>) {
    let mut choice = |field: &str, allowed: &[&str]| {
        let given = webhook[field].as_str();
        if given.is_none_or(|given| !allowed.contains(&given)) && !(given.is_none() && field == "reinvocationPolicy") {
            problems.push(Invalid::new(at(field), format!("must be one of: {}", allowed.join(", "))));
        }
    };
    choice("failurePolicy", &["Fail", "Ignore"]);
    choice("matchPolicy", &["Exact", "Equivalent"]);
    choice("sideEffects", &["None", "NoneOnDryRun"]);
    choice("reinvocationPolicy", &["Never", "IfNeeded"]);
    if !webhook["timeoutSeconds"].as_i64().is_some_and(|seconds| (1..=TIMEOUT_MAX_S).contains(&seconds)) {
        problems.push(Invalid::new(at("timeoutSeconds"), format!("must be between 1 and {TIMEOUT_MAX_S} seconds")));
    }
    let versions = webhook["admissionReviewVersions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !versions.iter().any(|version| version == REVIEW_VERSION) {
        problems.push(Invalid::new(at("admissionReviewVersions"), format!("must include {REVIEW_VERSION}")));
    }
    if webhook["matchConditions"].as_array().is_some_and(|conditions| !conditions.is_empty()) {
        problems.push(Invalid::new(
            at("matchConditions"),
            "expressions are not evaluated for webhooks on this platform: narrow the webhook by rules, namespaceSelector or objectSelector",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "a"},
            "webhooks": [{
                "name": "a.example.com",
                "clientConfig": {"url": "https://hooks.example.com/mutate"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1", "v1beta1"],
            }],
        });
        change(&mut object);
        let object = set_defaults(object).unwrap();
        check(&object, None).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn defaults_make_a_configuration_whole() {
        assert_eq!(configuration(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 13] = [
            (|webhook| webhook["name"] = "a.b".into(), "webhooks[0].name"),
            (|webhook| webhook["clientConfig"]["url"] = "http://a.example.com/".into(), "webhooks[0].clientConfig.url"),
            (|webhook| webhook["clientConfig"] = json!({"service": {"name": "a", "namespace": "b"}}), "webhooks[0].clientConfig.service"),
            (|webhook| webhook["clientConfig"] = json!({}), "webhooks[0].clientConfig.url"),
            (|webhook| webhook["clientConfig"]["caBundle"] = "bm8gcGVt".into(), "webhooks[0].clientConfig.caBundle"),
            (|webhook| webhook["failurePolicy"] = "Maybe".into(), "webhooks[0].failurePolicy"),
            (|webhook| webhook["sideEffects"] = "Some".into(), "webhooks[0].sideEffects"),
            (|webhook| webhook["timeoutSeconds"] = 31.into(), "webhooks[0].timeoutSeconds"),
            (|webhook| webhook["admissionReviewVersions"] = json!(["v1beta1"]), "webhooks[0].admissionReviewVersions"),
            (|webhook| webhook["matchConditions"] = json!([{"name": "a", "expression": "true"}]), "webhooks[0].matchConditions"),
            (|webhook| webhook["rules"][0]["operations"] = json!(["READ"]), "webhooks[0].rules[0].operations"),
            (|webhook| webhook["rules"][0]["resources"] = json!([]), "webhooks[0].rules[0].resources"),
            (
                |webhook| webhook["objectSelector"] = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}),
                "webhooks[0].objectSelector",
            ),
        ];
        for (change, field) in cases {
            assert_eq!(configuration(|object| change(&mut object["webhooks"][0])), [field]);
        }
    }
}
