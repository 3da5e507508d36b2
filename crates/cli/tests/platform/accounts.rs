//! Usage records beside the pods that they account for.

use fermion_testkit::Http;
use jiff::Timestamp;
use serde_json::Value;

/// Every usage record of the namespace `default`, those still open included.
#[track_caller]
pub(crate) fn records(http: &Http) -> Vec<Value> {
    let list = http.get("/apis/observe.fermion.dev/v1alpha1/namespaces/default/usagerecords");
    list.json()["items"].as_array().cloned().unwrap_or_else(|| panic!("no list: {}", list.text()))
}

/// Every usage record of pods of that name.
#[track_caller]
pub(crate) fn records_of(http: &Http, pod: &str) -> Vec<Value> {
    records(http).into_iter().filter(|record| record["pod"] == pod).collect()
}

/// Checks that a pod with one container, which ended, has one record, closed, with the
/// container's own times to the microsecond.
#[track_caller]
pub(crate) fn assert_accounted_once(records: &[Value], pod: &Value) -> Value {
    let own: Vec<&Value> = records.iter().filter(|record| record["podUid"] == pod["metadata"]["uid"]).collect();
    let name = &pod["metadata"]["name"];
    assert_eq!(own.len(), 1, "{name}: {own:?}");
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    let micros = |time: &Value| {
        let time: Timestamp = time.as_str().unwrap_or_default().parse().unwrap_or_else(|error| panic!("{name}: {error}: {pod}"));
        time.as_microsecond()
    };
    let started = micros(&ended["startedAt"]);
    // Of a program that ends at once, containerd may note the end before the start.
    let finished = micros(&ended["finishedAt"]).max(started);
    let interval = (micros(&own[0]["startedAt"]), micros(&own[0]["endedAt"]), own[0]["open"].as_bool());
    assert_eq!(interval, (started, finished, Some(false)), "{name}: {own:?}");
    let seconds = own[0]["seconds"].as_f64().expect("a number");
    assert!((seconds - (finished - started) as f64 / 1e6).abs() < 2e-6, "{name}: {own:?}");
    own[0].clone()
}
