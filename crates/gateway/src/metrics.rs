//! Counters per service, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::address::Key;
use crate::forward::Outcome;

/// Upper bounds of the latency buckets, in seconds: from a small model's answer to a long
/// stream.
const BUCKETS_S: [f64; 16] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// The most services counted at once; beyond it those without a request now are forgotten.
const SERVICES_MAX: usize = 4096;

/// Why a request was not answered as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NoReadyReplica,
    Overloaded,
    Unreachable,
    /// The replica broke off, before or in the answer.
    Broken,
    Silent,
    /// The caller went away before the end.
    Abandoned,
}

impl Fault {
    const ALL: [Self; 6] = [Self::NoReadyReplica, Self::Overloaded, Self::Unreachable, Self::Broken, Self::Silent, Self::Abandoned];

    fn label(self) -> &'static str {
        match self {
            Self::NoReadyReplica => "no_ready_replica",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Silent => "silent",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Numbers of the whole gateway that are read when asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    pub(crate) in_flight: usize,
    pub(crate) sessions: usize,
}

/// All counters.
#[derive(Default)]
pub(crate) struct Metrics {
    services: RwLock<BTreeMap<Key, Arc<Service>>>,
}

#[derive(Default)]
pub(crate) struct Service {
    in_flight: AtomicUsize,
    /// By class of status: 1xx to 5xx.
    answers: [AtomicU64; 5],
    faults: [AtomicU64; Fault::ALL.len()],
    retries: AtomicU64,
    /// Until the head of the answer.
    first: Histogram,
    /// Until the end of the answer.
    whole: Histogram,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_S.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        if let Some(bucket) = BUCKETS_S.iter().position(|bound| took.as_secs_f64() <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Begins to count one request to an existing service.
    pub(crate) fn begin(&self, service: &Key) -> Tally {
        let counted = self.service(service);
        let before = counted.in_flight.fetch_add(1, Ordering::Relaxed);
        Tally { service: counted, began_at: Instant::now(), in_flight: before + 1, ended: false }
    }

    fn service(&self, key: &Key) -> Arc<Service> {
        if let Some(service) = self.services.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Arc::clone(service);
        }
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= SERVICES_MAX {
            services.retain(|_, service| service.in_flight.load(Ordering::Relaxed) > 0);
        }
        Arc::clone(services.entry(key.clone()).or_default())
    }

    /// The text format, version 0.0.4. Services that are gone (`exists` says so) leave.
    pub(crate) fn text(&self, gauges: Gauges, exists: impl Fn(&Key) -> bool) -> String {
        let services = {
            let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
            services.retain(|key, service| exists(key) || service.in_flight.load(Ordering::Relaxed) > 0);
            services.clone()
        };
        let mut text = String::new();
        head(&mut text, "fermion_gateway_in_flight", "gauge", "Requests and WebSockets passing through the gateway now.");
        line(&mut text, "fermion_gateway_in_flight", "", gauges.in_flight as f64);
        head(&mut text, "fermion_gateway_sessions", "gauge", "Browser sessions kept.");
        line(&mut text, "fermion_gateway_sessions", "", gauges.sessions as f64);
        head(&mut text, "fermion_gateway_service_in_flight", "gauge", "Requests to the service that are not answered to the end.");
        for (key, service) in &services {
            line(&mut text, "fermion_gateway_service_in_flight", &labels(key), service.in_flight.load(Ordering::Relaxed) as f64);
        }
        head(&mut text, "fermion_gateway_service_requests_total", "counter", "Answers, by class of HTTP status.");
        for (key, service) in &services {
            for (class, count) in service.answers.iter().enumerate() {
                let labels = format!("{},code=\"{}xx\"", labels(key), class + 1);
                line(&mut text, "fermion_gateway_service_requests_total", &labels, count.load(Ordering::Relaxed) as f64);
            }
        }
        head(&mut text, "fermion_gateway_service_errors_total", "counter", "Requests that did not end as they should, by reason.");
        for (key, service) in &services {
            for (fault, count) in Fault::ALL.iter().zip(&service.faults) {
                let labels = format!("{},reason=\"{}\"", labels(key), fault.label());
                line(&mut text, "fermion_gateway_service_errors_total", &labels, count.load(Ordering::Relaxed) as f64);
            }
        }
        head(
            &mut text,
            "fermion_gateway_service_retries_total",
            "counter",
            "Times another replica was tried, as one could not be connected to.",
        );
        for (key, service) in &services {
            line(&mut text, "fermion_gateway_service_retries_total", &labels(key), service.retries.load(Ordering::Relaxed) as f64);
        }
        histogram(&mut text, "fermion_gateway_service_first_byte_seconds", "Time to the head of the answer.", &services, |service| {
            &service.first
        });
        histogram(&mut text, "fermion_gateway_service_duration_seconds", "Time to the end of the answer.", &services, |service| {
            &service.whole
        });
        text
    }
}

/// Counts one request. Dropped without an end, the caller went away.
pub(crate) struct Tally {
    service: Arc<Service>,
    began_at: Instant,
    /// Requests to the service when this one began, itself included.
    pub(crate) in_flight: usize,
    ended: bool,
}

impl Tally {
    pub(crate) fn retried(&self) {
        self.service.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer's head is there.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.service.first.observe(self.began_at.elapsed());
        self.count(status);
    }

    /// The answer ended.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.ended = true;
        self.service.whole.observe(self.began_at.elapsed());
        match outcome {
            Outcome::Complete => {}
            Outcome::Broken => self.fault(Fault::Broken),
            Outcome::Abandoned => self.fault(Fault::Abandoned),
        }
    }

    /// The gateway answers itself, because of a fault.
    pub(crate) fn failed(mut self, fault: Fault, status: StatusCode) {
        self.ended = true;
        self.fault(fault);
        self.count(status);
        self.service.whole.observe(self.began_at.elapsed());
    }

    fn fault(&self, fault: Fault) {
        self.service.faults[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.service.answers[class - 1].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.service.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.fault(Fault::Abandoned);
        }
    }
}

/// Names in labels are those of existing objects: nothing in them needs escaping.
fn labels(key: &Key) -> String {
    format!("namespace=\"{}\",service=\"{}\"", key.namespace, key.name)
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    let _infallible = if labels.is_empty() { writeln!(text, "{name} {value}") } else { writeln!(text, "{name}{{{labels}}} {value}") };
}

fn histogram(text: &mut String, name: &str, help: &str, services: &BTreeMap<Key, Arc<Service>>, of: impl Fn(&Service) -> &Histogram) {
    head(text, name, "histogram", help);
    for (key, service) in services {
        let histogram = of(service);
        let mut below = 0;
        for (bound, count) in BUCKETS_S.iter().zip(&histogram.buckets) {
            below += count.load(Ordering::Relaxed);
            line(text, &format!("{name}_bucket"), &format!("{},le=\"{bound}\"", labels(key)), below as f64);
        }
        let count = histogram.count.load(Ordering::Relaxed);
        line(text, &format!("{name}_bucket"), &format!("{},le=\"+Inf\"", labels(key)), count as f64);
        line(text, &format!("{name}_sum"), &labels(key), histogram.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
        line(text, &format!("{name}_count"), &labels(key), count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once() {
        let metrics = Metrics::default();
        let key = Key::new("team", "chat");
        let served = metrics.begin(&key);
        served.answered(StatusCode::OK);
        served.ended(Outcome::Complete);
        metrics.begin(&key).failed(Fault::Unreachable, StatusCode::BAD_GATEWAY);
        drop(metrics.begin(&key));
        let open = metrics.begin(&key);
        assert_eq!(open.in_flight, 1);
        let gauges = Gauges { in_flight: 1, sessions: 0 };
        let text = metrics.text(gauges, |_| true);
        for line in [
            "fermion_gateway_in_flight 1",
            "fermion_gateway_service_in_flight{namespace=\"team\",service=\"chat\"} 1",
            "fermion_gateway_service_requests_total{namespace=\"team\",service=\"chat\",code=\"2xx\"} 1",
            "fermion_gateway_service_requests_total{namespace=\"team\",service=\"chat\",code=\"5xx\"} 1",
            "fermion_gateway_service_errors_total{namespace=\"team\",service=\"chat\",reason=\"unreachable\"} 1",
            "fermion_gateway_service_errors_total{namespace=\"team\",service=\"chat\",reason=\"abandoned\"} 1",
            "fermion_gateway_service_first_byte_seconds_count{namespace=\"team\",service=\"chat\"} 1",
            "fermion_gateway_service_duration_seconds_bucket{namespace=\"team\",service=\"chat\",le=\"+Inf\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        drop(open);
        assert!(!metrics.text(gauges, |_| false).contains("team"));
    }
}
