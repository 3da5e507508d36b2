//! Hooks outside of the process: servers that are asked over HTTPS whether an object may be
//! stored, and in what form. The protocol is AdmissionReview v1 of Kubernetes:
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>
//!
//! Mutating webhooks are asked one after another, in the order of their configurations' names;
//! validating ones all at once, after every mutation. Neither is asked about webhook
//! configurations themselves, so that a bad one can always be removed.
//!
//! Secrets are sent like any other object to a webhook whose rules match them: whoever may make
//! webhook configurations can read everything that is written. Answers' audit annotations are not
//! kept.

mod call;
pub(crate) mod configuration;
mod review;
mod rules;
mod target;

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use fermion_store::Key;
use serde_json::Value;

use super::Request;
use crate::Api;
use crate::encryption::SealedStore;
use crate::error::{About, ApiError, Result};
use crate::follow::{Followed, Items};
use crate::objects;
use crate::patch::{self, MergeStrategy, PatchKind};
use crate::write::parse_stored;

use call::Caller;
use configuration::{Configuration, Webhook};
pub(crate) use configuration::{MUTATING, VALIDATING};
use review::Verdict;
pub(crate) use target::TargetPolicy;

/// Characters of one warning that is passed on.
const WARNING_CHARACTERS_MAX: usize = 256;
/// Warnings that are taken from one answer.
const WARNINGS_PER_ANSWER_MAX: usize = 16;

/// The webhooks of this platform and the connections to them.
pub(crate) struct Webhooks {
    mutating: Followed<Configuration>,
    validating: Followed<Configuration>,
    caller: Caller,
}

impl Webhooks {
    pub(crate) fn new(targets: TargetPolicy) -> Self {
        Self {
            mutating: Followed::new(MUTATING, configuration::read),
            validating: Followed::new(VALIDATING, configuration::read),
            caller: Caller::new(targets),
        }
    }
}

/// What a webhook's selectors look at, read when one needs it.
struct Labels<'a> {
    request: &'a Request<'a>,
    namespace: Option<Value>,
}

impl Api {
    /// Whether there is any mutating webhook that could be asked.
    pub(super) async fn has_mutating_webhooks(&self, request: &Request<'_>) -> Result<bool> {
        let configurations = self.configurations(&self.webhooks.mutating, request).await?;
        Ok(webhooks(&configurations).iter().any(|webhook| webhook.wanted_version(request).is_some()))
    }

    /// Asks the mutating webhooks that match. The object is null for a deletion.
    pub(super) async fn ask_mutating(&self, request: &Request<'_>, mut object: Value) -> Result<(Value, Vec<String>)> {
        let configurations = self.configurations(&self.webhooks.mutating, request).await?;
        let mut warnings = Vec::new();
        let webhooks = webhooks(&configurations);
        let mut labels = Labels { request, namespace: None };
        // Those that want to see the object again if it changes after them, with what they left.
        let mut again: Vec<(usize, Value)> = Vec::new();
        for second_round in [false, true] {
            for (index, webhook) in webhooks.iter().enumerate() {
                let version = if second_round {
                    let changed = again.iter().any(|(of, left)| *of == index && *left != object);
                    webhook.wanted_version(request).filter(|_| changed)
                } else {
                    labels.match_webhook(self, webhook, Some(&object)).await?
                };
                let Some(version) = version else { continue };
                let review = review::Review::new(request, Some(&object), version);
                // On the heap: most requests ask nobody.
                match Box::pin(self.webhooks.caller.ask(webhook, &review)).await {
                    Ok(verdict) => {
                        let verdict = refuse_or(webhook, verdict)?;
                        warnings.extend(verdict.warnings);
                        if let Some(patch) = verdict.patch {
                            object = apply(webhook, request, object, version, &patch)?;
                        }
                    }
                    Err(failure) => tolerate(webhook, &failure)?,
                }
                if webhook.reinvoke && !second_round {
                    again.push((index, object.clone()));
                }
            }
            if again.is_empty() {
                break;
            }
        }
        Ok((object, warnings))
    }

    /// Asks the validating webhooks that match, all at once.
    pub(super) async fn ask_validating(&self, request: &Request<'_>, object: Option<&Value>) -> Result<Vec<String>> {
        let configurations = self.configurations(&self.webhooks.validating, request).await?;
        let mut labels = Labels { request, namespace: None };
        let mut matching = Vec::new();
        for webhook in webhooks(&configurations) {
            if let Some(version) = labels.match_webhook(self, webhook, object).await? {
                matching.push((webhook, review::Review::new(request, object, version)));
            }
        }
        let answers = futures::future::join_all(matching.iter().map(|(webhook, review)| self.webhooks.caller.ask(webhook, review))).await;
        let mut warnings = Vec::new();
        let mut refusal = None;
        for ((webhook, _), answer) in matching.into_iter().zip(answers) {
            let outcome = match answer {
                Ok(verdict) => refuse_or(webhook, verdict).map(|verdict| warnings.extend(verdict.warnings)),
                Err(failure) => tolerate(webhook, &failure),
            };
            // As in Kubernetes the first refusal, by the order of names, is the one that is told.
            if let Err(error) = outcome {
                refusal.get_or_insert(error);
            }
        }
        refusal.map_or(Ok(warnings), Err)
    }

    async fn configurations(&self, followed: &Followed<Configuration>, request: &Request<'_>) -> Result<Items<Configuration>> {
        if is_exempt(request) {
            return Ok(Arc::default());
        }
        let about = About { group: "admissionregistration.k8s.io", plural: "webhookconfigurations", kind: "", name: "" };
        followed.all(&self.store).await.map_err(|error| ApiError::from_store(&error, about))
    }
}

/// Webhooks are never asked about what configures them: a webhook that fails could otherwise not
/// be removed.
fn is_exempt(request: &Request<'_>) -> bool {
    request.resource.group == "admissionregistration.k8s.io"
}

fn webhooks(configurations: &Items<Configuration>) -> Vec<&Webhook> {
    configurations.values().flat_map(|configuration| &configuration.webhooks).collect()
}

impl<'a> Labels<'a> {
    /// The version in which a webhook wants to be asked; none if it is not about this request.
    async fn match_webhook(&mut self, api: &Api, webhook: &Webhook, object: Option<&Value>) -> Result<Option<&'a str>> {
        match webhook.wanted_version(self.request) {
            Some(version) if self.are_selected(api, webhook, object).await? => Ok(Some(version)),
            _ => Ok(None),
        }
    }

    async fn are_selected(&mut self, api: &Api, webhook: &Webhook, object: Option<&Value>) -> Result<bool> {
        let request = self.request;
        // A deletion has no object but the stored one.
        let candidates = [object.filter(|object| !object.is_null()), request.old];
        let object_matches = webhook.object_selector.is_empty()
            || candidates.into_iter().flatten().any(|object| rules::selects(&webhook.object_selector, &object["metadata"]["labels"]));
        if !object_matches {
            return Ok(false);
        }
        if webhook.namespace_selector.is_empty() {
            return Ok(true);
        }
        if request.resource.is_core("namespaces") {
            let namespace = object.filter(|object| !object.is_null()).or(request.old).unwrap_or(&Value::Null);
            return Ok(rules::selects(&webhook.namespace_selector, &namespace["metadata"]["labels"]));
        }
        // What is outside of namespaces is in none that could be selected away.
        if request.namespace.is_empty() {
            return Ok(true);
        }
        if self.namespace.is_none() {
            self.namespace = Some(read_namespace(&api.store, request.namespace).await?);
        }
        let labels = self.namespace.as_ref().map_or(&Value::Null, |namespace| &namespace["metadata"]["labels"]);
        Ok(rules::selects(&webhook.namespace_selector, labels))
    }
}

async fn read_namespace(store: &SealedStore, name: &str) -> Result<Value> {
    let about = About { group: "", plural: "namespaces", kind: "Namespace", name };
    let stored = store
        .get(&Key::new("namespaces", "", name))
        .await
        .map_err(|error| ApiError::from_store(&error, about))?
        .ok_or_else(|| ApiError::not_found(about))?;
    parse_stored(&stored)
}

/// The object after a webhook's patch, in order again: with its defaults, and with what only the
/// server sets as it was. The webhook saw it in this version, and its patch is about that.
fn apply(webhook: &Webhook, request: &Request<'_>, object: Value, version: &str, change: &Value) -> Result<Value> {
    let failed = |why: &str| ApiError::internal(format!("Internal error occurred: admission webhook \"{}\": {why}", webhook.name));
    if object.is_null() {
        return Err(failed("it answered a deletion with a patch"));
    }
    let shown = review::in_version(request.resource, &object, version);
    let mut new = patch::apply(PatchKind::Json, &shown, change, &MergeStrategy::UNSUPPORTED)
        .map_err(|_| failed("its patch cannot be applied to the object"))?;
    // What a webhook may not make an object into: another one.
    for pointer in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/uid", "/metadata/resourceVersion"] {
        if shown.pointer(pointer) != new.pointer(pointer) {
            return Err(failed(&format!("its patch changes {}", pointer[1..].replace('/', "."))));
        }
    }
    new["apiVersion"] = object["apiVersion"].clone();
    if request.is_about_the_object() {
        new = objects::keep_what_the_server_sets(request.resource, request.origin.part(), object, new);
        request.resource.validator.default(&mut new);
        // As in Kubernetes, what the schema does not know is dropped.
        request.resource.validator.prune(&mut new);
    }
    Ok(new)
}

/// The verdict if it allows, else the refusal as an error, in the words of Kubernetes.
fn refuse_or(webhook: &Webhook, mut verdict: Verdict) -> Result<Verdict> {
    verdict.warnings.truncate(WARNINGS_PER_ANSWER_MAX);
    for warning in &mut verdict.warnings {
        *warning = warning.chars().take(WARNING_CHARACTERS_MAX).collect();
    }
    let Some(refusal) = verdict.refusal else { return Ok(verdict) };
    let code = StatusCode::from_u16(refusal.code).ok().filter(|code| code.as_u16() >= 400).unwrap_or(StatusCode::BAD_REQUEST);
    let why = match (refusal.message.as_str(), refusal.reason.as_str()) {
        ("", "") => " without explanation".to_owned(),
        ("", reason) => format!(": {reason}"),
        (message, _) => format!(": {message}"),
    };
    let message = format!("admission webhook \"{}\" denied the request{why}", webhook.name);
    Err(ApiError { details: refusal.details, ..ApiError::new(code, review::known_reason(&refusal.reason), message) })
}

/// Passes over a webhook that gave no verdict, if its configuration says so.
fn tolerate(webhook: &Webhook, failure: &call::Failure) -> Result<()> {
    if webhook.ignores_failures {
        tracing::warn!(webhook = webhook.name, configuration = webhook.configuration, %failure, "a webhook failed and is passed over");
        return Ok(());
    }
    Err(ApiError::internal(format!("Internal error occurred: failed calling webhook \"{}\": {failure}", webhook.name)))
}

/// Seconds a webhook is given when its configuration does not say, as in Kubernetes.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
