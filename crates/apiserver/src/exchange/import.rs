//! `POST …/{plural}?import=csv|xlsx|json`: writes what a file says, row by row.
//!
//! A row goes the way of every other write: authorisation for that object, admission, quota, the
//! schema and the rules of the kind. One that is refused stops no other; the report says what became
//! of each. A file that cannot be read as a whole changes nothing.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::format::FileFormat;
use super::report::{ImportReport, Outcome, RowCause, RowReport};
use super::rows::{FILE_BYTES_MAX, Record, SentFile, Unreadable};
use super::sent_row::{Content, Headings, SentRow};
use crate::Api;
use crate::admission::Origin;
use crate::authorize::Attributes;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::field_validation::FieldValidation;
use crate::identity::Identity;
use crate::read::json_response;
use crate::request::Query;
use crate::write::{CHANGE_TRIES_MAX, WriteOptions, check_type, parse_stored};

/// The most rows that one import writes; the report says how many were not reached.
const ROWS_MAX: usize = 10_000;
/// Rows that are written at once.
const ROWS_AT_ONCE: usize = 16;
/// Rows that were read and wait to be written.
const ROWS_READ_AHEAD: usize = 64;
/// How long the file may take to arrive.
const RECEIVE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long rows are begun; those that are left then are not reached.
const WRITE_TIME_MAX: Duration = Duration::from_secs(180);

/// What an import does about objects that are there, and those that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only makes new ones.
    Create,
    /// Only changes those that are there.
    Update,
    /// Does what is needed.
    Upsert,
}

impl Mode {
    pub(crate) fn parse(query: &Query) -> Result<Self> {
        match query.get("mode") {
            None | Some("upsert") => Ok(Self::Upsert),
            Some("create") => Ok(Self::Create),
            Some("update") => Ok(Self::Update),
            Some(other) => Err(ApiError::bad_request(format!("mode={}: must be create, update or upsert", other.escape_default()))),
        }
    }
}

/// What all rows of an import have in common.
struct Import<'a> {
    api: &'a Api,
    caller: &'a Identity,
    resource: &'a Arc<Resource>,
    /// The namespace of the address; rows name theirs where there is none.
    namespace: Option<&'a str>,
    mode: Mode,
    headings: Headings,
    options: WriteOptions,
}

impl Api {
    /// Writes what a file says; answers a report.
    pub(super) async fn import(
        self: &Arc<Self>,
        caller: &Identity,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        (format, mode): (FileFormat, Mode),
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>> {
        let mut options = WriteOptions::parse(query, request.headers())?;
        if query.get("fieldValidation").is_none() {
            // Nobody reads warnings of ten thousand rows.
            options.field_validation = FieldValidation::Strict;
        }
        let charset = charset(request.headers());
        let bytes = received(request).await?;
        let opened = on_a_thread(move || SentFile::new(format, bytes, charset.as_deref()).map(Arc::new)).await?;
        let file = opened.clone();
        let (first, total) = on_a_thread(move || surveyed(&file)).await?;
        let headings = match first {
            Some(Record::Row(row)) => Headings::read(resource, &row)?,
            _ => Headings::none(resource),
        };
        let dry_run = options.dry_run;
        let ignored = headings.ignored();
        let import = Import { api: self, caller, resource, namespace, mode, headings, options };
        let deadline = Instant::now() + WRITE_TIME_MAX;
        let rows = import.write(opened, deadline).await?;
        let mut report = ImportReport::new(dry_run, ignored, rows, total);
        if report.counts.not_reached > 0 {
            let why = if report.rows.len() >= ROWS_MAX {
                format!("one import writes at most {ROWS_MAX} rows")
            } else {
                format!("the import took {} seconds", WRITE_TIME_MAX.as_secs())
            };
            report.stopped = Some(format!("{why}; send the rows that were not reached again, in a file of their own"));
        }
        let report = serde_json::to_value(&report).map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(json_response(StatusCode::OK, &report))
    }
}

/// The encoding that a client says its text is in.
fn charset(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    });
    // Clients say UTF-8 of what they have not looked at.
    parameter.filter(|label| !label.eq_ignore_ascii_case("utf-8"))
}

async fn received(request: Request<Body>) -> Result<Bytes> {
    let body = Limited::new(request.into_body(), FILE_BYTES_MAX);
    match tokio::time::timeout(RECEIVE_TIME_MAX, body.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(format!("the file is larger than {} MiB; split it", FILE_BYTES_MAX >> 20)))
        }
        Ok(Err(_)) => Err(ApiError::bad_request("the file ended before it was complete")),
        Err(_) => Err(ApiError::bad_request(format!("the file did not arrive within {} seconds", RECEIVE_TIME_MAX.as_secs()))),
    }
}

/// Does what takes the processor for long where nobody waits for it.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Unreadable> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(ApiError::from),
        Err(error) => {
            tracing::error!(%error, "reading a file that was sent ended in a fault");
            Err(ApiError::bad_request("the file cannot be read"))
        }
    }
}

/// Reads the whole file: its row of headings, if it has one, and how many records follow.
fn surveyed(file: &SentFile) -> Result<(Option<Record>, usize), Unreadable> {
    let mut first = None;
    let mut total = 0;
    file.read(&mut |record| {
        match (&record, &first) {
            (Record::Row(row), _) if is_comment(row) => {}
            (Record::Row(_), None) => first = Some(record),
            _ => total += 1,
        }
        ControlFlow::Continue(())
    })?;
    if first.is_none() && !matches!(file, SentFile::Json(_)) {
        return Err(Unreadable::Empty);
    }
    Ok((first, total))
}

fn is_comment(row: &super::rows::Row) -> bool {
    row.cells.first().is_some_and(|(_, cell)| cell.is_comment())
}

/// Reads the file again, on a thread of its own, no faster than records are taken.
fn records(file: Arc<SentFile>) -> mpsc::Receiver<Record> {
    let (sender, receiver) = mpsc::channel(ROWS_READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut headings_to_come = !matches!(*file, SentFile::Json(_));
        let outcome = file.read(&mut |record| {
            if let Record::Row(row) = &record {
                if is_comment(row) {
                    return ControlFlow::Continue(());
                }
                if std::mem::take(&mut headings_to_come) {
                    return ControlFlow::Continue(());
                }
            }
            match sender.blocking_send(record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        if let Err(error) = outcome {
            // It could be read a moment ago, and has not changed since.
            tracing::error!(%error, "a file could be read once, but not twice");
        }
    });
    receiver
}

impl Import<'_> {
    /// Writes row after row, several at once; the reports are in the order of the file.
    async fn write(&self, file: Arc<SentFile>, deadline: Instant) -> Result<Vec<RowReport>> {
        let mut records = records(file);
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        let mut running = FuturesOrdered::new();
        let mut reports = Vec::new();
        let mut begun = 0;
        loop {
            while running.len() < ROWS_AT_ONCE && begun < ROWS_MAX && Instant::now() < deadline {
                let Some(record) = records.recv().await else { break };
                begun += 1;
                let row = self.headings.sent(record);
                let key = (self.namespace.unwrap_or(&row.namespace).to_owned(), row.name.clone());
                let before = *seen.entry(key).or_insert(row.number);
                running.push_back(self.write_row(row, before));
            }
            match running.next().await {
                Some(report) => reports.push(report),
                None => return Ok(reports),
            }
        }
    }

    async fn write_row(&self, row: SentRow, first_of_its_name: usize) -> RowReport {
        let SentRow { number, namespace, name, content } = row;
        let namespace = if namespace.is_empty() { self.namespace.unwrap_or_default().to_owned() } else { namespace };
        let key = (namespace, name);
        let content = match content {
            Ok(content) => content,
            Err(problems) => return RowReport::misread(number, key, problems),
        };
        if let Some(problem) = self.problem_of_key(number, &key, first_of_its_name) {
            return RowReport::misread(number, key, vec![problem]);
        }
        let namespace = self.namespace.or_else(|| (!key.0.is_empty()).then_some(key.0.as_str()));
        match Box::pin(self.write_object(namespace, &key.1, &content)).await {
            Ok(outcome) => RowReport::done(number, key, outcome),
            Err(error) => RowReport::refused(number, key, &error, |field| self.headings.place(number, field)),
        }
    }

    /// What is wrong with the name or the namespace of a row.
    fn problem_of_key(&self, number: usize, (namespace, name): &(String, String), first: usize) -> Option<RowCause> {
        let (field, message) = if name.is_empty() {
            ("metadata.name", "a row needs a name".to_owned())
        } else if first != number {
            ("metadata.name", format!("row {first} is about the same object"))
        } else if !self.resource.namespaced {
            if namespace.is_empty() {
                return None;
            }
            ("metadata.namespace", format!("{} are in no namespace", self.resource.plural))
        } else if let Some(address) = self.namespace {
            if namespace == address {
                return None;
            }
            ("metadata.namespace", format!("the file is imported into the namespace {address}"))
        } else if namespace.is_empty() {
            ("metadata.namespace", "a row needs a namespace, or import into one".to_owned())
        } else {
            return None;
        };
        let (column, cell) = self.headings.place(number, field);
        Some(RowCause { field: field.to_owned(), column, cell, message })
    }

    async fn write_object(&self, namespace: Option<&str>, name: &str, content: &Content) -> Result<Outcome> {
        let Self { api, caller, resource, .. } = *self;
        let mut tries = 0;
        loop {
            tries += 1;
            let stored = if self.mode == Mode::Create { None } else { self.stored(namespace, name).await? };
            let attempt = match stored {
                None if self.mode == Mode::Update => return Err(ApiError::not_found(resource.about(name))),
                None => {
                    api.authorize(caller, &self.permission("create", namespace, name))?;
                    let beginning = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": name}});
                    let object = self.object(content, &beginning)?;
                    api.create(caller, resource, namespace, object, &self.options).await.map(|_| Outcome::Created)
                }
                Some(old) => {
                    api.authorize(caller, &self.permission("update", namespace, name))?;
                    let object = self.object(content, &parse_stored(&old)?)?;
                    let written = api.update(Origin::of(caller), resource, old.key.clone(), object, &self.options).await;
                    let outcome = |revision| if revision == old.revision { Outcome::Unchanged } else { Outcome::Updated };
                    written.map(|written| outcome(written.object.revision))
                }
            };
            match attempt {
                // Somebody else was faster: what there is now is looked at anew.
                Err(error) if self.is_overtaken(&error) && tries < CHANGE_TRIES_MAX => {}
                other => return other,
            }
        }
    }

    fn is_overtaken(&self, error: &ApiError) -> bool {
        match self.mode {
            Mode::Create => false,
            Mode::Update => error.reason == "Conflict",
            Mode::Upsert => matches!(error.reason, "Conflict" | "AlreadyExists"),
        }
    }

    async fn stored(&self, namespace: Option<&str>, name: &str) -> Result<Option<fermion_store::Stored>> {
        match self.api.read(self.resource, &self.resource.key(namespace, name)).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.reason == "NotFound" => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn permission(&self, verb: &str, namespace: Option<&str>, name: &str) -> Attributes {
        let name = if verb == "create" { String::new() } else { name.to_owned() };
        Attributes { verb: verb.to_owned(), name, ..Attributes::creation(self.resource, namespace) }
    }

    fn object(&self, content: &Content, stored: &Value) -> Result<Value> {
        if let Content::Object(item) = content {
            let mut item_type = json!({"apiVersion": stored["apiVersion"], "kind": stored["kind"], "metadata": item["metadata"]});
            for field in ["apiVersion", "kind"] {
                if let Some(said) = item.get(field).filter(|said| !said.is_null()) {
                    item_type[field] = said.clone();
                }
            }
            check_type(self.resource, &item_type)?;
        }
        Ok(SentRow::over(content, self.resource, &self.headings, stored))
    }
}
