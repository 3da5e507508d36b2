//! Benchmark `growth`: one server with more and more objects.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::figures::{Latencies, Value, milliseconds};
use crate::kubernetes::{SHARD, SHARD_OBJECTS, fill, filled};
use crate::load::{Load, Outcome};
use crate::platform::{Http, Platform};
use crate::sightings::Sightings;
use crate::target::{Connection as _, Entry, Target as _};

/// Connections at once, each with one request in flight.
const CONNECTIONS: usize = 64;
const CREATES: usize = 2_000;
const GETS: usize = 5_000;
/// Objects read one after the other lie so far apart; prime, so that all parts are read.
const GET_STRIDE: usize = 7_919;
/// Lists of each sort.
const LISTS: usize = 5;
/// Objects in a page.
const PAGE: usize = 500;
const WATCHERS: usize = 100;
/// Writes they see, one after another.
const WATCHED: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct GrowthArguments {
    /// Address of the server's port
    #[arg(long)]
    server: SocketAddr,
    /// The kubeconfig that holds its administrator's token and its authority
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Objects that are there already
    #[arg(long)]
    from: usize,
    /// Objects that are there in the end
    #[arg(long)]
    to: usize,
    /// Measure instead of putting them there
    #[arg(long)]
    measure: bool,
}

pub(crate) async fn run(arguments: &GrowthArguments) -> anyhow::Result<Vec<Value>> {
    let target = Platform::secure(arguments.server, &arguments.kubeconfig)?;
    if arguments.measure {
        return measure(&target, arguments.to).await;
    }
    fill(&target, arguments.from, arguments.to).await?;
    Ok(Vec::new())
}

/// Measures a server that holds so many objects.
async fn measure(target: &Platform, objects: usize) -> anyhow::Result<Vec<Value>> {
    let folder = format!("grown-{objects}");
    target.prepare(&folder).await?;
    let mut load = Load::open(target, CONNECTIONS).await?;

    let mut creates = Outcome::default();
    let written = folder.clone();
    let create = move |mut connection: Http, number: usize| {
        let entry = Entry { folder: written.clone(), name: format!("object-{number:06}") };
        async move {
            connection.create(&entry, entry.body()).await?;
            Ok(connection)
        }
    };
    load.round(CREATES, &mut creates, create).await?;

    let mut gets = Outcome::default();
    let get = move |mut connection: Http, number: usize| async move {
        connection.get(&filled(number * GET_STRIDE % objects)).await?;
        Ok(connection)
    };
    load.round(GETS, &mut gets, get).await?;

    let connection = load.one()?;
    let page = lists(connection, PAGE, |_| format!("limit={PAGE}")).await?;
    let selected = lists(connection, SHARD_OBJECTS, |list| {
        let shard = objects / SHARD_OBJECTS * list / LISTS;
        format!("labelSelector={SHARD}%3D{shard}")
    })
    .await?;

    let deliveries = deliveries(target, connection, &folder).await?;
    Ok(vec![
        Value { metric: "durable creates", unit: "1/s", number: creates.per_second() },
        Value { metric: "gets", unit: "1/s", number: gets.per_second() },
        Value { metric: "first page of 500", unit: "ms", number: milliseconds(page.at(0.5)) },
        Value { metric: "100 objects by label", unit: "ms", number: milliseconds(selected.at(0.5)) },
        Value { metric: "write to 100 watchers, p99", unit: "ms", number: milliseconds(deliveries.at(0.99)) },
    ])
}

/// Lists over all folders.
async fn lists(connection: &mut Http, expected: usize, query: impl Fn(usize) -> String) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    for list in 0..LISTS {
        let path = format!("/api/v1/configmaps?{}", query(list));
        let begun = Instant::now();
        let body = connection.call(Method::GET, &path, Bytes::new(), StatusCode::OK).await?;
        latencies.push(begun.elapsed());
        let list: serde_json::Value = serde_json::from_slice(&body).context("a list is JSON")?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(count == expected, "{path} holds {count} of {expected} objects");
    }
    Ok(latencies)
}

async fn deliveries(target: &Platform, connection: &mut Http, folder: &str) -> anyhow::Result<Latencies> {
    let sightings = std::sync::Arc::new(Sightings::default());
    let watchers = target.watch(folder, WATCHERS, &sightings).await?;
    let mut latencies = Latencies::default();
    for write in 0..WATCHED {
        let entry = Entry { folder: folder.to_owned(), name: format!("watched-{write:04}") };
        sightings.expect(watchers.len());
        let sent = Instant::now();
        connection.create(&entry, entry.body()).await?;
        latencies.extend(sightings.complete().await?.into_iter().map(|seen| seen - sent));
    }
    Ok(latencies)
}
