//! Benchmark `api`: the platform on SQLite and on PostgreSQL, and kube-apiserver with etcd, small
//! and full.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::etcd::Etcd;
use super::generator::Generator;
use super::kubernetes::{self, Kubernetes};
use super::platform::{Node, Platform};
use super::postgres::Postgres;
use super::table::{Better, Row};
use super::{Programs, idle};
use crate::console::Console;

/// Objects in all when memory and starts are measured.
const FULL: usize = 100_000;
/// How long all are left alone before their memory is read: caches that fill behind the answer
/// count as well.
pub(super) const SETTLING: Duration = Duration::from_secs(10);
const PEER: &str = "kube-apiserver + etcd";

/// Beside kube-apiserver where there is one, and otherwise beside etcd alone.
pub(super) fn measure(console: &Console, programs: &Programs, place: &Path) -> Result<Vec<Row>> {
    match kubernetes::program()? {
        Ok(program) => beside_kubernetes(console, programs, &program, place),
        Err(missing) => {
            console.step(&format!("beside etcd alone: {}", kubernetes::advice(&missing)));
            beside_etcd(console, programs, place)
        }
    }
}

pub(super) fn beside_etcd(console: &Console, programs: &Programs, place: &Path) -> Result<Vec<Row>> {
    let platform = Platform::start(&programs.fermion, &place.join("h"), Node::None)?;
    let etcd = Etcd::start(&place.join("e"))?;
    let generator = Generator::new(&programs.generator, &platform);
    let rows = console.timed("loading the platform and etcd in turns", || generator.beside_etcd(&etcd))?;
    etcd.stop()?;
    platform.remove()?;
    Ok(rows)
}

fn beside_kubernetes(console: &Console, programs: &Programs, program: &Path, place: &Path) -> Result<Vec<Row>> {
    let mut database = Postgres::start(&place.join("pg"))?;
    let mut ours = Platform::start(&programs.fermion, &place.join("h"), Node::None)?;
    let mut postgres = Platform::start_on(&programs.fermion, &place.join("hp"), Node::None, Some(database.url.clone()))?;
    let mut peer = Kubernetes::start(program, &programs.generator, &place.join("k"))?;
    let generator = Generator::new(&programs.generator, &ours);
    let mut rows = console
        .timed("loading the platform on both databases and kube-apiserver in turns", || generator.beside_kubernetes(&postgres, &peer))?;
    console.timed(&format!("putting {FULL} objects into all three"), || generator.fill_beside_kubernetes(&postgres, &peer, FULL))?;
    console.step("starting all three on their data");
    ours.restart()?;
    let database_ready_after = database.restart()?;
    postgres.restart()?;
    peer.restart()?;
    std::thread::sleep(SETTLING);
    let row = |metric: String, unit: &str, ours: f64, postgres: f64, peer: f64| Row {
        metric,
        unit: unit.to_owned(),
        better: Better::Lower,
        ours,
        peer,
        peer_name: PEER.to_owned(),
        postgres: Some(postgres),
    };
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    rows.push(row(
        format!("start to ready with {FULL} objects"),
        "ms",
        milliseconds(ours.ready_after),
        milliseconds(database_ready_after + postgres.ready_after),
        milliseconds(peer.ready_after),
    ));
    rows.push(row(
        format!("resident memory with {FULL} objects"),
        "MB",
        idle::resident_mb(ours.pid()?)?,
        idle::resident_mb(postgres.pid()?)? + idle::shared_mb(&database.pids()?)?,
        peer.resident_mb()?,
    ));
    peer.stop()?;
    postgres.remove()?;
    ours.remove()?;
    database.stop()?;
    Ok(rows)
}
