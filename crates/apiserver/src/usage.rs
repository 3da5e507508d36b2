//! Usage facts: written in the same transaction as the pod write that ends an interval, and
//! read back as UsageRecords.

use fermion_api::observe::UsageRecordFields;
use fermion_api::observe::usage_record::{Interval, interval};
use fermion_store::{Fact, FactQuery, ListQuery, Scope, StoredFact};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::catalog::Resource;
use crate::encryption::SealedStore;
use crate::error::{ApiError, Result};

/// The sort of fact.
const KIND: &str = "usage";
/// The most records in one answer.
pub(crate) const RECORDS_MAX: usize = 10_000;

/// The fact that a write to `pod` causes: its interval, once it is over.
pub(crate) fn fact(pod: &Value, now: Timestamp, gone_at: Option<Timestamp>) -> Option<Fact> {
    let pod: Pod = serde_json::from_value(pod.clone())
        .map_err(|error| tracing::error!(%error, "a stored pod cannot be read; its usage is not recorded"))
        .ok()?;
    let Interval::Closed(record) = interval(&pod, now, gone_at) else { return None };
    let body = serde_json::to_value(&record).expect("a record is JSON");
    Some(Fact {
        kind: KIND,
        // A pod ends once, so its UID names the interval.
        idempotency_key: record.pod_uid,
        namespace: pod.metadata.namespace.unwrap_or_default(),
        at: record.ended_at.0,
        body,
    })
}

/// All usage of a namespace, or of all: recorded intervals in the order they were recorded,
/// then those still open.
pub(crate) async fn list(store: &SealedStore, resource: &Resource, namespace: Option<&str>, now: Timestamp) -> Result<Vec<Value>> {
    let about = resource.about("");
    let failed = |error: fermion_store::Error| ApiError::from_store(&error, about);
    let mut records = Vec::new();
    let mut after_id = None;
    loop {
        let query = FactQuery { kind: KIND.to_owned(), namespace: namespace.map(str::to_owned), after_id, ..FactQuery::default() };
        let page = store.facts(query).await.map_err(failed)?;
        records.extend(page.items.into_iter().map(|fact| of_fact(resource, fact)));
        after_id = page.next;
        if after_id.is_none() {
            break;
        }
        if records.len() >= RECORDS_MAX {
            return Err(ApiError::bad_request(format!("there are more than {RECORDS_MAX} usage records; ask for one namespace")));
        }
    }
    let scope = Scope { resource: "pods".into(), namespace: namespace.map(Into::into), name: None };
    for stored in store.list(ListQuery::all(scope)).await.map_err(failed)?.items {
        let Ok(pod) = serde_json::from_slice::<Pod>(&stored.body) else { continue };
        if let Interval::Open(record) = interval(&pod, now, None) {
            records.push(object(resource, &stored.key.namespace, &record));
        }
    }
    Ok(records)
}

fn of_fact(resource: &Resource, fact: StoredFact) -> Value {
    let mut record = fact.body;
    let name = record_name(record["pod"].as_str().unwrap_or_default(), &fact.idempotency_key);
    record["apiVersion"] = resource.api_version().into();
    record["kind"] = resource.kind.clone().into();
    record["metadata"] = json!({
        "name": name,
        "namespace": fact.namespace,
        "uid": fact.idempotency_key,
        "resourceVersion": fact.id.to_string(),
        "creationTimestamp": crate::objects::time_text(fact.at),
    });
    record
}

fn object(resource: &Resource, namespace: &str, record: &UsageRecordFields) -> Value {
    let mut value = serde_json::to_value(record).expect("a record is JSON");
    value["apiVersion"] = resource.api_version().into();
    value["kind"] = resource.kind.clone().into();
    value["metadata"] = json!({
        "name": record_name(&record.pod, &record.pod_uid),
        "namespace": namespace,
        "uid": record.pod_uid,
        "creationTimestamp": crate::objects::time_text(record.started_at.0),
    });
    value
}

/// The pod's name and the start of its UID: names of pods come again, records do not.
fn record_name(pod: &str, uid: &str) -> String {
    format!("{pod}.{}", uid.split('-').next().unwrap_or_default())
}
