//! `fermion import`: creates and changes objects as the rows of a file say.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::export::FileFormat;
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output::{self, Cell, Style, Table, Tone};
use crate::resources::Resources;

/// The largest file that is sent, in bytes; the server takes no larger ones.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion import queues queues.xlsx --dry-run      what would happen, and what is wrong
  fermion import trainingjobs jobs.csv --mode create
  fermion import users users.csv --encoding gb18030
Exits with 1 if a row failed or was not reached. `fermion export KIND --template -o FILE` makes a file to fill in.")]
pub(crate) struct ImportArguments {
    /// Kind, such as pods or tj
    kind: String,
    /// File to read; - for standard input
    file: PathBuf,
    /// Form of the file [default: as the file's name ends]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Check every row, write none
    #[arg(long)]
    dry_run: bool,
    /// What to do about objects that are there, and those that are not
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Encoding of a CSV file that is not UTF-8, such as gb18030
    #[arg(long, value_name = "NAME")]
    encoding: Option<String>,
    /// Rows name their namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Only make new objects
    Create,
    /// Only change those that are there
    Update,
    /// Do what is needed
    #[default]
    Upsert,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A table for people.
    #[default]
    Table,
    Json,
    Yaml,
}

/// What the server answers, as far as it is shown.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Report {
    dry_run: bool,
    counts: Counts,
    ignored_columns: Vec<String>,
    stopped: Option<String>,
    rows: Vec<Line>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Counts {
    rows: u64,
    created: u64,
    updated: u64,
    unchanged: u64,
    failed: u64,
    not_reached: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Line {
    row: u64,
    namespace: String,
    name: String,
    outcome: String,
    message: String,
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Cause {
    cell: String,
}

pub(crate) async fn run(arguments: ImportArguments, session: &Session) -> Outcome<Exit> {
    let format = FileFormat::of(arguments.format, &arguments.file)?;
    let file = read(&arguments.file)?;
    let resources = Resources::discover(&session.client).await?;
    let resource = resources.find(&arguments.kind)?;
    let what = || format!("cannot import {}", arguments.file.display());
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("import", format.as_str()).append_pair("mode", arguments.mode.as_str());
    if arguments.dry_run {
        query.append_pair("dryRun", "All");
    }
    let namespace = (!arguments.all_namespaces).then_some(session.namespace.as_str());
    let mut content_type = "application/octet-stream".to_owned();
    if let Some(encoding) = &arguments.encoding {
        content_type = format!("text/csv; charset={encoding}");
    }
    let request = http::Request::post(format!("{}?{}", resource.path(namespace), query.finish()))
        .header(http::header::CONTENT_TYPE, content_type)
        .body(file)
        .map_err(|error| Failure::new(what()).because(error))?;
    let answer: serde_json::Value = session.client.request(request).await.attempt(what)?;
    let report = Report::deserialize(&answer).map_err(|error| Failure::new("cannot read what the server sent").because(error))?;
    match arguments.output {
        Form::Json => output::structured(output::Format::Json, &answer)?,
        Form::Yaml => output::structured(output::Format::Yaml, &answer)?,
        Form::Table => {
            if !report.rows.is_empty() {
                output::write(&table(&report).render(Style::of_stdout()))?;
            }
        }
    }
    output::note(&summary(&report));
    let is_done = report.counts.failed == 0 && report.counts.not_reached == 0;
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Upsert => "upsert",
        }
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let unreadable = |error: std::io::Error| Failure::new(format!("cannot read {}", path.display())).because(error);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    if read.map_err(unreadable)? as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(format!("cannot import {}", path.display()))
            .why(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20))
            .hint("split it into several files"));
    }
    Ok(bytes)
}

/// A line for each row.
fn table(report: &Report) -> Table {
    let with_namespace = report.rows.iter().any(|row| !row.namespace.is_empty());
    let mut headings = vec!["ROW", "NAME", "OUTCOME", "CELL", "MESSAGE"];
    if with_namespace {
        headings.insert(1, "NAMESPACE");
    }
    let mut table = Table::with_headings(headings.into_iter().map(str::to_owned).collect()).right([0]);
    for row in &report.rows {
        let tone = match row.outcome.as_str() {
            "Failed" => Tone::Bad,
            "Unchanged" => Tone::Faint,
            _ => Tone::Good,
        };
        let cells: Vec<&str> = row.causes.iter().map(|cause| cause.cell.as_str()).filter(|cell| !cell.is_empty()).collect();
        let mut line = vec![
            Cell::new(row.row.to_string()),
            Cell::new(&row.name),
            Cell::toned(&row.outcome, tone),
            Cell::new(cells.join(" ")),
            Cell::new(&row.message),
        ];
        if with_namespace {
            line.insert(1, Cell::new(&row.namespace));
        }
        table.push(line);
    }
    table
}

/// What became of the rows, in a sentence.
fn summary(report: &Report) -> String {
    let Counts { rows, created, updated, unchanged, failed, not_reached } = &report.counts;
    let unreached = if *not_reached > 0 { format!(", {not_reached} not reached") } else { String::new() };
    let dry = if report.dry_run { "; nothing was written, it was a dry run" } else { "" };
    let ignored = match report.ignored_columns.as_slice() {
        [] => String::new(),
        columns => format!("\ncolumns that are only there to be read: {}", columns.join(", ")),
    };
    let stopped = report.stopped.as_ref().map(|why| format!("\n{why}")).unwrap_or_default();
    format!("{rows} rows: {created} created, {updated} updated, {unchanged} unchanged, {failed} failed{unreached}{dry}{ignored}{stopped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_shown_row_by_row_with_where_it_went_wrong() {
        let report: Report = serde_json::from_value(serde_json::json!({
            "dryRun": true,
            "counts": {"rows": 13, "created": 1, "updated": 0, "unchanged": 1, "failed": 1, "notReached": 10},
            "ignoredColumns": ["Age"],
            "stopped": "one import writes at most 3 rows",
            "rows": [
                {"row": 2, "name": "night", "outcome": "Created"},
                {"row": 3, "name": "day", "outcome": "Unchanged"},
                {"row": 14, "namespace": "vision", "name": "odd", "outcome": "Failed", "reason": "Invalid",
                 "message": "spec.weight: expected a whole number", "causes": [{"field": "spec.weight", "cell": "C14", "message": "expected a whole number"}]},
            ],
        }))
        .expect("a report");
        insta::assert_snapshot!(format!("{}\n{}", table(&report).render(Style::Plain), summary(&report)));
    }
}
