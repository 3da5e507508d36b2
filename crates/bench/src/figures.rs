//! What was measured, and how it is summed up.

use std::time::Duration;

use serde::Serialize;

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One measured value beside its peer's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    pub(crate) peer_name: String,
    /// The platform's with its data in PostgreSQL, where that was measured too.
    pub(crate) postgres: Option<f64>,
}

/// One value of one server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Value {
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    #[serde(rename = "value")]
    pub(crate) number: f64,
}

impl Figure {
    /// A rate of `unit`.
    pub(crate) fn rate(metric: &str, unit: &'static str, ours: f64, peer: f64, peer_name: &str) -> Self {
        Self { metric: metric.to_owned(), unit, better: Better::Higher, ours, peer, peer_name: peer_name.to_owned(), postgres: None }
    }

    /// The given share of two sets of latencies, in milliseconds.
    pub(crate) fn latency(metric: &str, share: f64, ours: &Latencies, peer: &Latencies, peer_name: &str) -> Self {
        Self {
            metric: format!("{metric}, p{:.0}", share * 100.0),
            unit: "ms",
            better: Better::Lower,
            ours: milliseconds(ours.at(share)),
            peer: milliseconds(peer.at(share)),
            peer_name: peer_name.to_owned(),
            postgres: None,
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// How long each of many equal things took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    samples: Vec<Duration>,
}

impl Latencies {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.samples.push(sample);
    }

    pub(crate) fn extend(&mut self, samples: impl IntoIterator<Item = Duration>) {
        self.samples.extend(samples);
    }

    pub(crate) fn count(&self) -> usize {
        self.samples.len()
    }

    /// The smallest sample that `share` of all samples do not exceed (the nearest-rank
    /// percentile); zero when there are none.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.at(0.5), Duration::ZERO);
        latencies.extend((1..=100).rev().map(Duration::from_millis));
        assert_eq!(latencies.at(0.5), Duration::from_millis(50));
        assert_eq!(latencies.at(0.99), Duration::from_millis(99));
        assert_eq!(latencies.at(1.0), Duration::from_millis(100));
        latencies.push(Duration::from_millis(101));
        assert_eq!(latencies.at(0.5), Duration::from_millis(51));
    }
}
