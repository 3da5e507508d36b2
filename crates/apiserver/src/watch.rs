//! Watch: the changes of a kind as a stream of JSON lines.

mod readings;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, header};
use bytes::{BufMut as _, Bytes, BytesMut};
use fermion_store::{Event, EventKind, ListQuery, Scope, Stored};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Interval, Sleep, interval_at, sleep_until};

use crate::Api;
use crate::catalog::{Resource, Source};
use crate::encryption::{Watch, is_sealed};
use crate::error::{ApiError, Result};
use crate::peoples_list::PeoplesList;
use crate::read::{Format, Selection, include_object, partial_of};
use crate::request::Query;
use crate::table::{IncludeObject, table};

pub(crate) use readings::Readings;

/// How long a watch lasts when the client does not say.
const DURATION_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// The longest a watch lasts.
const DURATION_MAX: Duration = Duration::from_secs(2 * 3600);
/// Time between two bookmarks.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);

/// How events are written, and for whom.
struct Writer {
    resource: Arc<Resource>,
    selection: Selection,
    format: Format,
    include: IncludeObject,
    /// Tables carry their column definitions once.
    headed: bool,
    clock: Arc<dyn crate::clock::Clock>,
    readings: Arc<Readings>,
}

impl Api {
    pub(crate) async fn watch(
        &self,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        name: Option<&str>,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Response<Body>> {
        if resource.source != Source::Objects {
            return Err(ApiError::method_not_allowed(format!("{} cannot be watched", resource.plural)));
        }
        PeoplesList::refuse_search(query, "a watch")?;
        let selection = Selection::parse(resource, query)?;
        let writer = Writer {
            resource: resource.clone(),
            format: Format::of(headers)?,
            include: include_object(query)?,
            headed: false,
            clock: self.clock.clone(),
            readings: self.readings.clone(),
            selection,
        };
        let scope = Scope {
            resource: resource.stored_as.clone(),
            namespace: namespace.map(Into::into),
            name: name.or_else(|| writer.selection.fields.exact("metadata.name")).map(Into::into),
        };
        let since = query.number("resourceVersion")?.unwrap_or(0);
        let send_initial = match query.get("sendInitialEvents") {
            Some(_) => query.flag("sendInitialEvents")?,
            // Without a version a watch begins with what is there.
            None => since == 0,
        };
        let bookmark_after_initial = query.flag("sendInitialEvents")?;
        let failed = |error: fermion_store::Error| ApiError::from_store(&error, resource.about(""));
        let (initial, since) = if send_initial {
            let page = self.store.list(ListQuery::all(scope.clone())).await.map_err(failed)?;
            (page.items, page.revision)
        } else {
            (Vec::new(), since)
        };
        let events = match self.store.watch(scope, since).await {
            Ok(events) => events,
            // Too old a version is told in the stream, as clients expect.
            Err(error @ fermion_store::Error::Compacted { .. }) => {
                let line = error_line(&failed(error));
                return Ok(stream_response(futures::stream::iter([Ok::<_, std::convert::Infallible>(line)])));
            }
            Err(error) => return Err(failed(error)),
        };
        let duration = query.number("timeoutSeconds")?.map_or(DURATION_DEFAULT, Duration::from_secs).min(DURATION_MAX);
        let now = Instant::now();
        let retired = resource.form.as_ref().map(|form| form.retired.clone());
        Ok(stream_response(Lines {
            writer,
            initial: initial.into_iter(),
            initial_bookmark: bookmark_after_initial.then_some(since),
            events,
            bookmarks: query.flag("allowWatchBookmarks")?.then(|| interval_at(now + BOOKMARK_INTERVAL, BOOKMARK_INTERVAL)),
            ends: Box::pin(sleep_until(now + duration)),
            cut_off: cut_off(self.shutdown.clone(), retired.clone()).boxed(),
            shutdown: self.shutdown.clone(),
            retired,
            done: false,
        }))
    }
}

/// The lines of a watch.
///
/// A write wakes every watch of its kind at once, so what is done for one event is kept short: timers
/// and signals are waited for by futures that stay as they are from event to event, and are looked at
/// when there is nothing to send.
struct Lines {
    writer: Writer,
    initial: std::vec::IntoIter<Stored>,
    /// Revision of the bookmark that ends the initial events.
    initial_bookmark: Option<u64>,
    events: Watch,
    bookmarks: Option<Interval>,
    ends: Pin<Box<Sleep>>,
    /// Is over when the server stops or the kind retires.
    cut_off: BoxFuture<'static, ()>,
    /// The same two, to be looked at while there are always more events.
    shutdown: Receiver<bool>,
    /// Of a custom kind: turns true when its definition changes or goes.
    retired: Option<Receiver<bool>>,
    done: bool,
}

impl Stream for Lines {
    type Item = std::result::Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_line(context).map(|line| line.map(Ok))
    }
}

impl Lines {
    /// The next line, or the end.
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.done || is_true(&self.shutdown) || self.retired.as_ref().is_some_and(is_true) {
            return Poll::Ready(None);
        }
        while let Some(stored) = self.initial.next() {
            match self.writer.resource.as_served(stored).and_then(|stored| self.writer.object("ADDED", &stored, true)) {
                Ok(Some(line)) => return Poll::Ready(Some(line)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(self.fail(&error))),
            }
        }
        if let Some(revision) = self.initial_bookmark.take() {
            return Poll::Ready(Some(self.writer.bookmark(revision, true)));
        }
        while let Poll::Ready(event) = self.events.poll_next_unpin(context) {
            let Some(event) = event else { return Poll::Ready(None) };
            let line = match event {
                Ok(event) => self.writer.event(&event),
                Err(error) => Err(ApiError::from_store(&error, self.writer.resource.about(""))),
            };
            match line {
                Ok(Some(line)) => return Poll::Ready(Some(line)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(self.fail(&error))),
            }
        }
        if self.cut_off.poll_unpin(context).is_ready() {
            self.done = true;
            return Poll::Ready(None);
        }
        if let Some(bookmarks) = &mut self.bookmarks
            && bookmarks.poll_tick(context).is_ready()
        {
            return Poll::Ready(Some(self.writer.bookmark(self.events.progress(), false)));
        }
        if self.ends.poll_unpin(context).is_ready() {
            self.done = true;
            return Poll::Ready(self.bookmarks.is_some().then(|| self.writer.bookmark(self.events.progress(), false)));
        }
        Poll::Pending
    }

    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.done = true;
        error_line(error)
    }
}

/// Waits until the server stops, or until the kind is served no more in the form that the watch
/// began with. Clients watch again from where they are, and see it in its new form or not at all.
async fn cut_off(shutdown: Receiver<bool>, retired: Option<Receiver<bool>>) {
    let Some(retired) = retired else { return turned_true(shutdown).await };
    tokio::select! {
        () = turned_true(shutdown) => {}
        () = turned_true(retired) => {}
    }
}

/// Waits until it is true, or until nobody is left to say so: the server or the definition is gone.
async fn turned_true(mut signal: Receiver<bool>) {
    drop(signal.wait_for(|is_true| *is_true).await);
}

fn is_true(signal: &Receiver<bool>) -> bool {
    *signal.borrow()
}

impl Writer {
    /// The line for a change, as seen through the selectors: an object that came into view is
    /// added, one that left it is deleted.
    fn event(&mut self, event: &Event) -> Result<Option<Bytes>> {
        // Only a kind with several versions may be stored in another form than it is served in.
        let served = |stored: &Arc<Stored>| {
            if self.resource.is_served_as_stored() { Ok(stored.clone()) } else { self.resource.as_served((**stored).clone()).map(Arc::new) }
        };
        let event = &Event {
            revision: event.revision,
            kind: event.kind,
            object: served(&event.object)?,
            previous: event.previous.as_ref().map(served).transpose()?,
        };
        if self.selection.is_everything() {
            let type_ = match event.kind {
                EventKind::Added => "ADDED",
                EventKind::Modified => "MODIFIED",
                EventKind::Deleted => "DELETED",
            };
            return self.object(type_, &event.object, false);
        }
        let now = self.read(&event.object)?;
        let matches_now = event.kind != EventKind::Deleted && self.selection.matches(&now);
        let matched_before = match &event.previous {
            Some(previous) => self.selection.matches(&*self.read(previous)?),
            None => false,
        };
        let type_ = match (matched_before, matches_now) {
            (false, false) => return Ok(None),
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        self.write(type_, &event.object, Some(&now)).map(Some)
    }

    /// The object of an event. Whatever other watches have read of it is not read again.
    fn read(&self, stored: &Stored) -> Result<Arc<Value>> {
        // Another form than the stored one is this watch's own, and Secrets stay in memory no longer
        // than they must.
        if self.resource.is_served_as_stored() && !is_sealed(&stored.key.resource) {
            return self.readings.read(stored);
        }
        crate::write::parse_stored(stored).map(Arc::new)
    }

    fn object(&mut self, type_: &str, stored: &Stored, select: bool) -> Result<Option<Bytes>> {
        if select && !self.selection.is_everything() {
            let value = crate::write::parse_stored(stored)?;
            if !self.selection.matches(&value) {
                return Ok(None);
            }
            return self.write(type_, stored, Some(&value)).map(Some);
        }
        self.write(type_, stored, None).map(Some)
    }

    fn write(&mut self, type_: &str, stored: &Stored, value: Option<&Value>) -> Result<Bytes> {
        if self.format == Format::Json {
            return Ok(line(type_, &stored.body));
        }
        if self.format == Format::Metadata {
            return Ok(line(type_, &partial_of(&stored.body)?));
        }
        let parsed;
        let value = if let Some(value) = value {
            value
        } else {
            parsed = self.read(stored)?;
            &parsed
        };
        let mut shown = table(&self.resource.columns, std::slice::from_ref(value), self.include, self.clock.now());
        shown["metadata"] = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
        if std::mem::replace(&mut self.headed, true) {
            shown["columnDefinitions"] = Value::Null;
        }
        Ok(line(type_, shown.to_string().as_bytes()))
    }

    /// A line that only says how far the watch has come.
    fn bookmark(&self, revision: u64, initial_events_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.format {
            Format::Json => json!({"apiVersion": self.resource.api_version(), "kind": self.resource.kind, "metadata": metadata}),
            Format::Metadata => json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}),
            Format::Table => {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": metadata, "columnDefinitions": null, "rows": []})
            }
        };
        line("BOOKMARK", object.to_string().as_bytes())
    }
}

fn line(type_: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(type_.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}

fn error_line(error: &ApiError) -> Bytes {
    line("ERROR", error.status().to_string().as_bytes())
}

fn stream_response(lines: impl Stream<Item = std::result::Result<Bytes, std::convert::Infallible>> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
