//! The load: many connections at once, each with one request in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::figures::Latencies;
use crate::target::Target;

/// What one kind of request came to over all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) latencies: Latencies,
    /// Time during which requests were in flight.
    busy: Duration,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.busy.as_secs_f64()
    }
}

/// Connections that are kept from round to round.
pub(crate) struct Load<T: Target> {
    name: &'static str,
    connections: Vec<T::Connection>,
}

impl<T: Target> Load<T> {
    pub(crate) async fn open(target: &T, connections: usize) -> anyhow::Result<Self> {
        let mut opened = Vec::with_capacity(connections);
        for _ in 0..connections {
            opened.push(target.connect().await.with_context(|| format!("connecting to {}", target.name()))?);
        }
        Ok(Self { name: target.name(), connections: opened })
    }

    /// Sends requests number 0 to `count` over all connections, each with one in flight at a
    /// time, and adds to the outcome how it went.
    pub(crate) async fn round<F>(
        &mut self,
        count: usize,
        outcome: &mut Outcome,
        request: impl Fn(T::Connection, usize) -> F + Clone + Send + 'static,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<T::Connection>> + Send + 'static,
    {
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let mut tasks = Vec::with_capacity(self.connections.len());
        for mut connection in self.connections.drain(..) {
            let (next, request) = (next.clone(), request.clone());
            tasks.push(tokio::spawn(async move {
                let mut samples = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return anyhow::Ok((connection, samples));
                    }
                    let begun = Instant::now();
                    connection = request(connection, number).await?;
                    samples.push(begun.elapsed());
                }
            }));
        }
        for task in tasks {
            let (connection, samples) =
                task.await.context("a connection's task failed")?.with_context(|| format!("loading {}", self.name))?;
            self.connections.push(connection);
            outcome.latencies.extend(samples);
        }
        outcome.busy += begun.elapsed();
        Ok(())
    }

    /// One of the connections.
    pub(crate) fn one(&mut self) -> anyhow::Result<&mut T::Connection> {
        self.connections.first_mut().context("a load has connections")
    }
}
