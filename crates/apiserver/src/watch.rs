//! Watch: the changes of a kind as a stream of JSON lines.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, header};
use bytes::{BufMut as _, Bytes, BytesMut};
use fermion_store::{Event, EventKind, ListQuery, Scope, Stored};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};

use crate::Api;
use crate::catalog::{Resource, Source};
use crate::encryption::Watch;
use crate::error::{ApiError, Result};
use crate::peoples_list::PeoplesList;
use crate::read::{Format, Selection, include_object, partial, partial_of};
use crate::request::Query;
use crate::table::{IncludeObject, table};

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
        let state = State {
            writer,
            initial: initial.into_iter(),
            initial_bookmark: bookmark_after_initial.then_some(since),
            events,
            bookmarks: query.flag("allowWatchBookmarks")?,
            timer: tokio::time::interval_at(tokio::time::Instant::now() + BOOKMARK_INTERVAL, BOOKMARK_INTERVAL),
            ends_at: tokio::time::Instant::now() + duration,
            shutdown: self.shutdown.clone(),
            retired: resource.form.as_ref().map(|form| form.retired.clone()),
            done: false,
        };
        let lines = futures::stream::unfold(state, |mut state| async move {
            let line = state.next().await?;
            Some((Ok::<_, std::convert::Infallible>(line), state))
        });
        Ok(stream_response(lines))
    }
}

struct State {
    writer: Writer,
    initial: std::vec::IntoIter<Stored>,
    /// Revision of the bookmark that ends the initial events.
    initial_bookmark: Option<u64>,
    events: Watch,
    bookmarks: bool,
    timer: tokio::time::Interval,
    ends_at: tokio::time::Instant,
    shutdown: tokio::sync::watch::Receiver<bool>,
    /// Of a custom kind: turns true when its definition changes or goes.
    retired: Option<tokio::sync::watch::Receiver<bool>>,
    done: bool,
}

impl State {
    /// The next line, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        while let Some(stored) = self.initial.next() {
            match self.writer.resource.as_served(stored).and_then(|stored| self.writer.object("ADDED", &stored, true)) {
                Ok(Some(line)) => return Some(line),
                Ok(None) => {}
                Err(error) => return Some(self.fail(&error)),
            }
        }
        if let Some(revision) = self.initial_bookmark.take() {
            return Some(self.writer.bookmark(revision, true));
        }
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.shutdown) => return None,
                () = retired(&mut self.retired), if self.retired.is_some() => return None,
                event = self.events.next() => match event {
                    None => return None,
                    Some(Ok(event)) => match self.writer.event(&event) {
                        Ok(Some(line)) => return Some(line),
                        Ok(None) => {}
                        Err(error) => return Some(self.fail(&error)),
                    },
                    Some(Err(error)) => {
                        let error = ApiError::from_store(&error, self.writer.resource.about(""));
                        return Some(self.fail(&error));
                    }
                },
                _ = self.timer.tick(), if self.bookmarks => {
                    return Some(self.writer.bookmark(self.events.progress(), false));
                }
                () = tokio::time::sleep_until(self.ends_at) => {
                    self.done = true;
                    return self.bookmarks.then(|| self.writer.bookmark(self.events.progress(), false));
                }
            }
        }
    }

    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.done = true;
        error_line(error)
    }
}

/// Waits until the kind is served no more in the form that the watch began with. Clients watch
/// again from where they are, and see it in its new form or not at all.
async fn retired(retirement: &mut Option<tokio::sync::watch::Receiver<bool>>) {
    if let Some(retirement) = retirement {
        // An error says that the definition is gone, too.
        drop(retirement.wait_for(|retired| *retired).await);
    }
}

/// Waits until the server stops, or is gone.
async fn stopped(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    // An error says that nobody is left to stop it: it is gone.
    drop(shutdown.wait_for(|stop| *stop).await);
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
        let now = crate::write::parse_stored(&event.object)?;
        let matches_now = event.kind != EventKind::Deleted && self.selection.matches(&now);
        let matched_before = match &event.previous {
            Some(previous) => self.selection.matches(&crate::write::parse_stored(previous)?),
            None => false,
        };
        let type_ = match (matched_before, matches_now) {
            (false, false) => return Ok(None),
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        self.write(type_, &event.object, Some(now)).map(Some)
    }

    fn object(&mut self, type_: &str, stored: &Stored, select: bool) -> Result<Option<Bytes>> {
        if select && !self.selection.is_everything() {
            let value = crate::write::parse_stored(stored)?;
            if !self.selection.matches(&value) {
                return Ok(None);
            }
            return self.write(type_, stored, Some(value)).map(Some);
        }
        self.write(type_, stored, None).map(Some)
    }

    fn write(&mut self, type_: &str, stored: &Stored, value: Option<Value>) -> Result<Bytes> {
        if self.format == Format::Json {
            return Ok(line(type_, &stored.body));
        }
        if self.format == Format::Metadata {
            let shown = value.map_or_else(|| partial_of(&stored.body), |value| Ok(partial(&value)))?;
            return Ok(line(type_, shown.to_string().as_bytes()));
        }
        let value = match value {
            Some(value) => value,
            None => crate::write::parse_stored(stored)?,
        };
        let mut shown = table(&self.resource.columns, std::slice::from_ref(&value), self.include, self.clock.now());
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
