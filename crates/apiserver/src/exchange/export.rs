//! `GET …/{plural}?export=csv|xlsx|json`: a whole list as a file.
//!
//! The list is read page by page at one revision while the file is sent, so its size does not matter
//! to the server's memory. What goes wrong before the first byte is answered as usual; later the
//! connection is broken off, so that nobody takes half a file for all of it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures::stream;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::fields::Fields;
use super::format::FileFormat;
use super::layout::{Layout, Survey};
use super::pages::Pages;
use super::{csv_file, portable, xlsx_writer};
use crate::Api;
use crate::catalog::Resource;
use crate::dispatch::with_warnings;
use crate::error::{ApiError, Result};
use crate::request::Query;

/// How long an export may take until its first byte, and how long from there to its last.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a client may leave what is sent unread.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Pieces of a file that wait to be sent, and pages that wait to be written into a sheet.
const WAITING_MAX: usize = 2;
/// Bytes of a finished file that are sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What is sent next.
enum Piece {
    Bytes(Bytes),
    /// The file is complete.
    End,
}

/// Whoever sends a file piece by piece.
type Sender = mpsc::Sender<Piece>;

impl Api {
    /// The whole list as a file.
    pub(super) async fn export(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        query: &Query,
        format: FileFormat,
    ) -> Result<Response<Body>> {
        // Of the time until the first byte; sending has its own.
        let begun = tokio::time::timeout(EXPORT_TIME_MAX, self.begin_export(resource, namespace, query, format)).await;
        begun.unwrap_or_else(|_| {
            let limit_s = EXPORT_TIME_MAX.as_secs();
            Err(ApiError::bad_request(format!("the export takes more than {limit_s} seconds; narrow it by selectors or search")))
        })
    }

    async fn begin_export(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        query: &Query,
        format: FileFormat,
    ) -> Result<Response<Body>> {
        let mut pages = Pages::new(self, resource, namespace, query).await?;
        let now = self.now();
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        if format == FileFormat::Json {
            let first = pages.next().await?;
            let resource = resource.clone();
            send_in_background(sender, move |sender| async move { send_json(&sender, &resource, pages, first).await });
        } else {
            let fields = Fields::of(resource);
            let mut survey = Survey::new(&fields);
            let mut reading = pages.in_any_order();
            while let Some(objects) = reading.next().await? {
                survey.add(resource, &fields, &objects, format)?;
            }
            let sheet = Sheet { layout: Layout::new(resource, &fields, &survey), fields, resource: resource.clone(), now };
            let pages = pages.at_revision_of(&reading);
            if format == FileFormat::Csv {
                send_in_background(sender, move |sender| async move { send_csv(&sender, &sheet, pages).await });
            } else {
                let file = write_workbook(&sheet, pages).await?;
                send_in_background(sender, move |sender| async move { send_file(&sender, file).await });
            }
        }
        let mut response = Response::new(body(receiver));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, format.content_type());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        headers.insert(header::CONTENT_DISPOSITION, attachment(&resource.plural, format)?);
        let warnings = if resource.is_core("secrets") { vec!["the values of Secrets are not exported".to_owned()] } else { Vec::new() };
        Ok(with_warnings(response, &warnings))
    }
}

/// Tells browsers to keep the answer as a file.
pub(super) fn attachment(name: &str, format: FileFormat) -> Result<HeaderValue> {
    HeaderValue::from_str(&format!("attachment; filename=\"{name}.{}\"", format.ending()))
        .map_err(|_| ApiError::internal("the name of a kind is no name of a file"))
}

/// How objects become rows.
struct Sheet {
    resource: Arc<Resource>,
    fields: Fields,
    layout: Layout,
    now: jiff::Timestamp,
}

impl Sheet {
    fn rows(&self, objects: Vec<Value>) -> Vec<Vec<super::cell::Cell>> {
        objects.into_iter().map(|object| self.layout.row(&self.resource, &self.fields, object, self.now)).collect()
    }
}

/// Why a file was broken off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The client has gone; nothing is wrong.
    #[error("the client has gone")]
    Gone,
    #[error("the client did not read for {} seconds", STALL_MAX.as_secs())]
    Stalled,
    #[error("the list could not be read on: {}", .0.message)]
    List(ApiError),
    #[error("the file could not be written")]
    Csv(#[from] csv::Error),
    #[error("the finished file could not be read")]
    File(#[from] std::io::Error),
}

impl From<ApiError> for Broken {
    fn from(error: ApiError) -> Self {
        Self::List(error)
    }
}

/// Lets `send` send a file to `sender`, until it is done, its time is up or nobody listens.
fn send_in_background<F>(sender: Sender, send: impl FnOnce(Sender) -> F)
where
    F: Future<Output = Result<(), Broken>> + Send + 'static,
{
    let sending = send(sender.clone());
    tokio::spawn(async move {
        match tokio::time::timeout(EXPORT_TIME_MAX, sending).await {
            Ok(Ok(())) => {
                // Nobody waits for the end who has gone.
                let _ = sender.send(Piece::End).await;
            }
            Ok(Err(Broken::Gone)) => {}
            Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "an export was broken off"),
            Err(_) => tracing::warn!("an export was broken off: it took more than {} seconds", EXPORT_TIME_MAX.as_secs()),
        }
    });
}

async fn send(sender: &Sender, bytes: impl Into<Bytes>) -> Result<(), Broken> {
    match tokio::time::timeout(STALL_MAX, sender.send(Piece::Bytes(bytes.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Broken::Gone),
        Err(_) => Err(Broken::Stalled),
    }
}

/// What is sent, as the body of an answer. It fails where the sender ends before the file does.
fn body(receiver: mpsc::Receiver<Piece>) -> Body {
    Body::from_stream(stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::End) => None,
            None => Some((Err(std::io::Error::other("the export was broken off")), None)),
        }
    }))
}

/// A List of Kubernetes.
async fn send_json(sender: &Sender, resource: &Resource, mut pages: Pages, first: Option<Vec<Value>>) -> Result<(), Broken> {
    let revision = serde_json::json!({"resourceVersion": pages.revision()});
    let head = format!(
        "{{\"apiVersion\":{},\"kind\":{},\"metadata\":{revision},\"items\":[",
        Value::from(resource.api_version()),
        Value::from(resource.list_kind.as_str())
    );
    send(sender, head).await?;
    let mut page = first;
    let mut is_first = true;
    while let Some(objects) = page {
        let mut text = String::new();
        for object in objects {
            text.push_str(if is_first { "\n" } else { ",\n" });
            is_first = false;
            text.push_str(&portable::for_json(resource, object).to_string());
        }
        send(sender, text).await?;
        page = pages.next().await?;
    }
    send(sender, "\n]}\n").await
}

async fn send_csv(sender: &Sender, sheet: &Sheet, mut pages: Pages) -> Result<(), Broken> {
    let headings = sheet.layout.headings().iter().map(|heading| super::cell::Cell::Text(heading.clone())).collect();
    let mut text = csv_file::BYTE_ORDER_MARK.as_bytes().to_vec();
    text.extend(csv_file::write(&[headings])?);
    send(sender, text).await?;
    while let Some(objects) = pages.next().await? {
        send(sender, csv_file::write(&sheet.rows(objects))?).await?;
    }
    Ok(())
}

/// Writes the sheet into a file, on a thread that may wait for the disk.
async fn write_workbook(sheet: &Sheet, mut pages: Pages) -> Result<std::fs::File> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        tracing::error!(error, "a workbook could not be written");
        ApiError::unavailable("the file could not be written; the server's log says why")
    };
    let (sender, mut receiver) = mpsc::channel::<Vec<Vec<super::cell::Cell>>>(WAITING_MAX);
    let (name, headings) = (sheet.resource.plural.clone(), sheet.layout.headings().to_vec());
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = xlsx_writer::Writer::new(&name, &headings)?;
        while let Some(rows) = receiver.blocking_recv() {
            writer.write(&rows)?;
        }
        writer.finish()
    });
    while let Some(objects) = pages.next().await? {
        // Who writes no more says why at the end.
        if sender.send(sheet.rows(objects)).await.is_err() {
            break;
        }
    }
    drop(sender);
    writing.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

async fn send_file(sender: &Sender, file: std::fs::File) -> Result<(), Broken> {
    let mut file = tokio::fs::File::from_std(file);
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        if file.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        send(sender, piece).await?;
    }
}
