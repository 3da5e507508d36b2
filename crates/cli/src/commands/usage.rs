//! `fermion usage`: which pod held what, from when to when.

use std::collections::BTreeMap;

use fermion_api::observe::UsageRecord;
use fermion_api::quantity;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::Serialize;

use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Outcome};
use crate::output::{self, Cell, Format, Style, Table, Tone};

/// Records asked for at once.
const PAGE: u32 = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct UsageArguments {
    /// Of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only what ended, or still runs, within this last span, such as 24h
    #[arg(long, value_name = "SPAN", value_parser = fermion_api::duration::parse)]
    since: Option<std::time::Duration>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What a record comes to: amount times seconds, by resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Amounts {
    seconds: f64,
    /// Resource-seconds: cores, bytes, cards, each times seconds.
    resource_seconds: BTreeMap<String, f64>,
}

impl Amounts {
    fn of(record: &UsageRecord) -> Self {
        let resource_seconds = record
            .spec
            .requests
            .iter()
            // The server wrote these quantities itself.
            .map(|(name, amount)| (name.clone(), quantity::parse(amount).unwrap_or(0) as f64 / 1000.0 * record.spec.seconds))
            .collect();
        Self { seconds: record.spec.seconds, resource_seconds }
    }

    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        for (name, amount) in &other.resource_seconds {
            *self.resource_seconds.entry(name.clone()).or_default() += amount;
        }
    }

    fn of_resource(&self, name: &str) -> f64 {
        self.resource_seconds.get(name).copied().unwrap_or_default()
    }
}

pub(crate) async fn run(arguments: UsageArguments, session: &Session) -> Outcome<Exit> {
    let api: Api<UsageRecord> = if arguments.all_namespaces {
        Api::all(session.client.clone())
    } else {
        Api::namespaced(session.client.clone(), &session.namespace)
    };
    let mut records = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await.attempt(|| "cannot read the usage records".to_owned())?;
        records.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => parameters = parameters.continue_token(&next),
            None => break,
        }
    }
    if let Some(since) = arguments.since {
        let from = Timestamp::now() - since;
        records.retain(|record| record.spec.open || record.spec.ended_at.0 >= from);
    }
    records.sort_by(|one, other| (one.spec.started_at.0, &one.spec.pod).cmp(&(other.spec.started_at.0, &other.spec.pod)));
    let mut total = Amounts::default();
    for record in &records {
        total.add(&Amounts::of(record));
    }
    match arguments.output {
        Format::Json | Format::Yaml => output::structured(arguments.output, &serde_json::json!({"items": records, "total": total}))?,
        Format::Name => {
            for record in &records {
                output::line(&format!("usagerecord.observe.fermion.dev/{}", record.name_any()))?;
            }
        }
        Format::Table | Format::Wide => {
            if records.is_empty() {
                output::note("nothing was used");
            } else {
                let wide = arguments.output == Format::Wide;
                output::write(&table(&records, &total, arguments.all_namespaces, wide).render(Style::of_stdout()))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn table(records: &[UsageRecord], total: &Amounts, namespaces: bool, wide: bool) -> Table {
    let mut headings = vec!["POD", "OWNER", "START", "END", "SECONDS", "CPU·S", "MEMORY·S", "OPEN"];
    if wide {
        headings.extend(["CPU", "MEMORY", "NODE", "CREATED-BY", "OTHER·S"]);
    }
    if namespaces {
        headings.insert(0, "NAMESPACE");
    }
    let first = usize::from(namespaces);
    let mut table =
        Table::with_headings(headings.iter().map(|heading| (*heading).to_owned()).collect()).right([first + 4, first + 5, first + 6]);
    for record in records {
        let amounts = Amounts::of(record);
        let mut row = vec![
            Cell::new(&record.spec.pod),
            Cell::optional(record.spec.owner.as_ref()),
            Cell::new(moment(record.spec.started_at.0)),
            if record.spec.open { Cell::toned("runs", Tone::Good) } else { Cell::new(moment(record.spec.ended_at.0)) },
            Cell::new(format!("{:.3}", amounts.seconds)),
            Cell::new(core_seconds(&amounts)),
            Cell::new(memory_seconds(&amounts)),
            if record.spec.open { Cell::toned("yes", Tone::Good) } else { Cell::new("no") },
        ];
        if wide {
            row.extend([
                Cell::optional(record.spec.requests.get("cpu")),
                Cell::optional(record.spec.requests.get("memory")),
                Cell::new(&record.spec.node),
                Cell::optional(record.spec.created_by.as_ref()),
                Cell::new(others(&amounts)),
            ]);
        }
        if namespaces {
            row.insert(0, Cell::new(record.namespace().unwrap_or_default()));
        }
        table.push(row);
    }
    let mut sum = vec![
        Cell::toned("total", Tone::Heading),
        Cell::new(format!("{} intervals", records.len())),
        Cell::new(""),
        Cell::new(""),
        Cell::new(format!("{:.3}", total.seconds)),
        Cell::new(core_seconds(total)),
        Cell::new(memory_seconds(total)),
        Cell::new(format!("{}", records.iter().filter(|record| record.spec.open).count())),
    ];
    if wide {
        sum.extend(std::iter::repeat_n(Cell::new(""), 4));
        sum.push(Cell::new(others(total)));
    }
    if namespaces {
        sum.insert(0, Cell::new(""));
    }
    table.push(sum);
    table
}

/// A time to the millisecond, as records keep it.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

fn core_seconds(amounts: &Amounts) -> String {
    format!("{:.3}", amounts.of_resource("cpu"))
}

/// Memory over time, in GiB-seconds.
fn memory_seconds(amounts: &Amounts) -> String {
    format!("{:.3} GiB·s", amounts.of_resource("memory") / f64::from(1 << 30))
}

/// Accelerators and the rest.
fn others(amounts: &Amounts) -> String {
    let rest = amounts.resource_seconds.iter().filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"));
    rest.map(|(name, amount)| format!("{name}={amount:.3}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pod: &str, seconds: f64, open: bool) -> UsageRecord {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "observe.fermion.dev/v1alpha1", "kind": "UsageRecord",
            "metadata": {"name": pod, "namespace": "examples"},
            "pod": pod, "podUid": "u", "node": "local", "workload": "digits", "owner": "TrainingJob/digits",
            "requests": {"cpu": "250m", "memory": "512Mi", "gpu.fermion.dev/a": "2"},
            "startedAt": "2026-01-02T03:04:05.678Z", "endedAt": "2026-01-02T03:04:15.678Z",
            "seconds": seconds, "open": open,
        }))
        .expect("a record")
    }

    #[test]
    fn the_table_adds_up() {
        let records = [record("digits-worker-0", 10.0, false), record("notebook-0", 3.5, true)];
        let mut total = Amounts::default();
        for record in &records {
            total.add(&Amounts::of(record));
        }
        assert!((total.of_resource("cpu") - 3.375).abs() < 1e-9);
        insta::assert_snapshot!(table(&records, &total, false, false).render(Style::Plain));
        insta::assert_snapshot!(table(&records, &total, true, true).render(Style::Plain));
    }
}
