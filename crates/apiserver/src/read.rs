//! Get and list: plain JSON, tables and metadata only.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fermion_store::{Filter, LabelIs, LabelTerm, ListQuery, Scope, Stored};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::catalog::{Resource, Source};
use crate::error::{About, ApiError, Cause, Result};
use crate::list_body::ListBody;
use crate::peoples_list::PeoplesList;
use crate::request::Query;
use crate::selector::{FieldSelector, LabelOperator, LabelSelector};
use crate::table::{IncludeObject, table};
use crate::write::parse_stored;
use crate::{Api, usage};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Table,
    /// PartialObjectMetadata: name, labels, owners, nothing else.
    Metadata,
}

impl Format {
    /// The first form in the `Accept` header that is served.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameter = |name: &str| range.split(';').map(str::trim).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            if !matches!(media, "application/json" | "application/*" | "*/*") {
                continue;
            }
            match (parameter("as"), parameter("v")) {
                (None, _) => return Ok(Self::Json),
                (Some("Table"), Some("v1")) => return Ok(Self::Table),
                (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1")) => return Ok(Self::Metadata),
                _ => {}
            }
        }
        Err(ApiError::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            "only application/json is served, also as Table or PartialObjectMetadata of meta.k8s.io/v1",
        ))
    }
}

/// Which objects a list or watch is about.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self> {
        let allowed: Vec<&str> = resource.selectable.iter().map(String::as_str).collect();
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default());
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default(), &allowed);
        Ok(Self {
            labels: labels.map_err(|error| ApiError::bad_request(error.to_string()))?,
            fields: fields.map_err(|error| ApiError::bad_request(error.to_string()))?,
        })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// What of it the database can tell, and whether that is all of it.
    pub(crate) fn filter(&self) -> (Filter, bool) {
        let mut exact = true;
        let mut labels = Vec::new();
        for requirement in self.labels.requirements() {
            let values = || requirement.values.clone();
            let is = match requirement.operator {
                LabelOperator::Equals | LabelOperator::In => LabelIs::In(values()),
                LabelOperator::NotEquals | LabelOperator::NotIn => LabelIs::NotIn(values()),
                LabelOperator::Exists => LabelIs::Present,
                LabelOperator::DoesNotExist => LabelIs::Absent,
                // The database compares texts, not integers.
                LabelOperator::GreaterThan | LabelOperator::LessThan => {
                    exact = false;
                    LabelIs::Present
                }
            };
            labels.push(LabelTerm { key: requirement.key.clone(), is });
        }
        (Filter { labels, fields: self.fields.terms() }, exact)
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// What a `continue` token says.
#[derive(Serialize, Deserialize)]
struct Continue {
    revision: u64,
    namespace: String,
    name: String,
    /// How many objects the pages so far held, for the count of those that follow.
    #[serde(default)]
    told: usize,
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| ApiError::bad_request("continue: not a token of this server; list again from the start"))
    }
}

/// Objects in a page of a list, before they are written in a form.
pub(crate) struct Listed {
    pub(crate) items: Vec<Bytes>,
    /// The parsed items, when something needed them.
    parsed: Option<Vec<Value>>,
    pub(crate) resource_version: String,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<u64>,
}

impl Api {
    pub(crate) async fn get(
        &self,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        name: &str,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Response<Body>> {
        let format = Format::of(headers)?;
        match resource.source {
            Source::Objects => {
                let stored = self.read(resource, &resource.key(namespace, name)).await?;
                object_response(resource, &stored, format, query)
            }
            Source::Usage => {
                let found = usage::list(&self.store, resource, namespace, self.now())
                    .await?
                    .into_iter()
                    .find(|record| record["metadata"]["name"] == name)
                    .ok_or_else(|| ApiError::not_found(resource.about(name)))?;
                value_response(resource, &found, format, query)
            }
            Source::Metrics => {
                let found = self
                    .metrics(resource, namespace)
                    .await?
                    .into_iter()
                    .find(|item| item["metadata"]["name"] == name)
                    .ok_or_else(|| ApiError::not_found(resource.about(name)))?;
                value_response(resource, &found, format, query)
            }
            Source::Review => Err(ApiError::method_not_allowed("reviews are created, not read")),
        }
    }

    pub(crate) async fn list(
        &self,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Response<Body>> {
        let format = Format::of(headers)?;
        let selection = Selection::parse(resource, query)?;
        let listed = self.page(resource, namespace, &selection, query).await?;
        Ok(match format {
            Format::Json => json_list(resource, listed),
            Format::Table => {
                let items = listed.values()?;
                let include = include_object(query)?;
                let mut value = table(&resource.columns, &items, include, self.now());
                value["metadata"] = list_metadata(&listed);
                json_response(StatusCode::OK, &value)
            }
            Format::Metadata => {
                let items: Vec<Value> = listed.values()?.iter().map(partial).collect();
                let value = json!({
                    "apiVersion": "meta.k8s.io/v1",
                    "kind": "PartialObjectMetadataList",
                    "metadata": list_metadata(&listed),
                    "items": items,
                });
                json_response(StatusCode::OK, &value)
            }
        })
    }

    /// Refuses a revision that is yet to come: a client that saw it was told by another server, and
    /// must not be shown something older.
    fn check_reached(&self, resource: &Resource, requested: u64) -> Result<()> {
        let newest = self.store.revision();
        if requested > newest {
            return Err(ApiError::from_store(&fermion_store::Error::Future { requested, newest }, resource.about("")));
        }
        Ok(())
    }

    /// One page of matching objects, all of one snapshot.
    pub(crate) async fn page(
        &self,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        selection: &Selection,
        query: &Query,
    ) -> Result<Listed> {
        let virtual_items = match resource.source {
            Source::Usage => Some(usage::list(&self.store, resource, namespace, self.now()).await?),
            Source::Metrics => Some(self.metrics(resource, namespace).await?),
            Source::Objects | Source::Review => None,
        };
        let limit = query.number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)).filter(|limit| *limit > 0);
        let people = PeoplesList::parse(query)?;
        if let Some(mut items) = virtual_items {
            items.retain(|item| selection.matches(item) && people.finds(resource, item));
            people.sort(&mut items, |item| item);
            let total = items.len();
            // Only people page by offset; others would take the first page for all of it.
            if people.needs_all() {
                items = items.into_iter().skip(people.offset).take(limit.unwrap_or(usize::MAX)).collect();
            }
            let remaining = people.count.then(|| total.saturating_sub(people.offset.saturating_add(items.len())) as u64);
            return Ok(Listed {
                items: items.iter().map(|item| Bytes::from(item.to_string())).collect(),
                parsed: Some(items),
                resource_version: self.store.revision().to_string(),
                continue_token: None,
                remaining,
            });
        }
        let (mut start_after, at_revision, told) = match query.get("continue") {
            Some(token) => {
                let token = Continue::decode(token)?;
                (Some((token.namespace, token.name)), Some(token.revision), token.told)
            }
            None => match Wanted::parse(query)? {
                Wanted::Exactly(revision) => (None, Some(revision), 0),
                Wanted::NotOlderThan(revision) => {
                    self.check_reached(resource, revision)?;
                    (None, None, 0)
                }
            },
        };
        let scope = Scope {
            resource: resource.stored_as.clone(),
            namespace: namespace.map(Into::into),
            name: selection.fields.exact("metadata.name").map(Into::into),
        };
        let (mut filter, mut exact) = selection.filter();
        // A field may have another value where it is served than where it is stored.
        if !resource.is_served_as_stored() && !filter.fields.is_empty() {
            filter.fields.clear();
            exact = false;
        }
        // What is stored in another form than it is served in can be searched and sorted only here.
        let told_here = people.is_given() && !(exact && resource.is_searched_as_stored());
        if told_here && people.needs_all() {
            let asked = ListQuery { filter, at_revision, ..ListQuery::all(scope) };
            return self.page_of_all(resource, selection, &people, asked, start_after, limit).await;
        }
        exact &= !told_here;
        let mut items = Vec::new();
        let mut parsed = Vec::new();
        let mut revision = at_revision;
        let wanted = limit.unwrap_or(usize::MAX);
        // What the database cannot tell is told here, where a page of it may then hold few matches: so
        // pages are read until the asked number is found. Each round moves on, so the loop ends with
        // the objects.
        let (next, remaining) = loop {
            let of_people = if told_here { ListQuery::all(scope.clone()) } else { people.query(scope.clone()) };
            let asked = ListQuery { filter: filter.clone(), limit, start_after: start_after.take(), at_revision: revision, ..of_people };
            let page = self.store.list(asked).await.map_err(|error| ApiError::from_store(&error, resource.about("")))?;
            revision = Some(page.revision);
            if exact {
                // The total is that of all pages.
                let before = told.saturating_add(people.offset).saturating_add(page.items.len());
                let following = page.total.map(|total| total.saturating_sub(before as u64));
                for stored in page.items {
                    items.push(resource.as_served(stored)?.body);
                }
                break (page.next, following.or(page.remaining));
            }
            let mut last = None;
            for stored in page.items {
                let stored = resource.as_served(stored)?;
                let value = parse_stored(&stored)?;
                if selection.matches(&value) && people.finds(resource, &value) {
                    items.push(stored.body);
                    parsed.push(value);
                    if items.len() == wanted {
                        last = Some((stored.key.namespace.to_string(), stored.key.name.to_string()));
                        break;
                    }
                }
            }
            match (last, page.next) {
                // More may follow; the next page tells.
                (Some(last), _) => break (Some(last), None),
                (None, Some(next)) => start_after = Some(next),
                (None, None) => break (None, None),
            }
        };
        let revision = revision.unwrap_or_default();
        let told = told.saturating_add(items.len());
        Ok(Listed {
            items,
            parsed: (!exact).then_some(parsed),
            resource_version: revision.to_string(),
            continue_token: next.map(|(namespace, name)| Continue { revision, namespace, name, told }.encode()),
            remaining,
        })
    }

    /// One page of matching objects where all of them have to be read to tell which ones are on it.
    async fn page_of_all(
        &self,
        resource: &Arc<Resource>,
        selection: &Selection,
        people: &PeoplesList,
        asked: ListQuery,
        start_after: Option<(String, String)>,
        limit: Option<usize>,
    ) -> Result<Listed> {
        let page = self.store.list(asked).await.map_err(|error| ApiError::from_store(&error, resource.about("")))?;
        let mut found = Vec::new();
        for stored in page.items {
            let stored = resource.as_served(stored)?;
            let value = parse_stored(&stored)?;
            let key = (stored.key.namespace.to_string(), stored.key.name.to_string());
            let follows = start_after.as_ref().is_none_or(|after| key > *after);
            if follows && selection.matches(&value) && people.finds(resource, &value) {
                found.push((key, stored.body, value));
            }
        }
        people.sort(&mut found, |(_, _, value)| value);
        let total = found.len();
        let mut found: Vec<_> = found.into_iter().skip(people.offset).take(limit.unwrap_or(usize::MAX)).collect();
        let following = total.saturating_sub(people.offset.saturating_add(found.len()));
        let by_key = people.order.is_none() && people.offset == 0;
        let last = if by_key && following > 0 { found.last_mut().map(|(key, _, _)| std::mem::take(key)) } else { None };
        let (items, parsed) = found.into_iter().map(|(_, body, value)| (body, value)).unzip();
        Ok(Listed {
            items,
            parsed: Some(parsed),
            resource_version: page.revision.to_string(),
            // What follows is counted here from where the page begins.
            continue_token: last.map(|(namespace, name)| Continue { revision: page.revision, namespace, name, told: 0 }.encode()),
            remaining: people.count.then_some(following as u64),
        })
    }
}

impl Resource {
    /// Whether the store can search and sort its objects: Secrets are sealed there, and other kinds
    /// may be served in another version than they are stored in.
    fn is_searched_as_stored(&self) -> bool {
        self.is_served_as_stored() && !self.is_core("secrets")
    }
}

/// Which revision a list shows, as `resourceVersion` and `resourceVersionMatch` ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The newest, which has to be at least this one.
    NotOlderThan(u64),
    Exactly(u64),
}

impl Wanted {
    fn parse(query: &Query) -> Result<Self> {
        let revision = query.number("resourceVersion")?;
        let forbidden = |why: &str| refused_match("FieldValueForbidden", format!("Forbidden: {why}"));
        match (query.get("resourceVersionMatch"), revision) {
            (None, revision) => Ok(Self::NotOlderThan(revision.unwrap_or(0))),
            (Some("Exact" | "NotOlderThan"), None) => {
                Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"))
            }
            (Some("Exact"), Some(0)) => Err(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")),
            (Some("Exact"), Some(revision)) => Ok(Self::Exactly(revision)),
            (Some("NotOlderThan"), Some(revision)) => Ok(Self::NotOlderThan(revision)),
            (Some(other), _) => {
                let supported = r#"supported values: "Exact", "NotOlderThan""#;
                Err(refused_match("FieldValueNotSupported", format!("Unsupported value: \"{}\": {supported}", other.escape_default())))
            }
        }
    }
}

fn refused_match(reason: &'static str, message: String) -> ApiError {
    let about = About { group: "meta.k8s.io", plural: "", kind: "ListOptions", name: "" };
    ApiError::invalid(about, vec![Cause { field: "resourceVersionMatch".to_owned(), reason, message }])
}

impl Listed {
    pub(crate) fn values(&self) -> Result<Vec<Value>> {
        match &self.parsed {
            Some(parsed) => Ok(parsed.clone()),
            None => self
                .items
                .iter()
                .map(|body| {
                    serde_json::from_slice(body).map_err(|error| ApiError::internal(format!("a stored object cannot be read: {error}")))
                })
                .collect(),
        }
    }
}

fn list_metadata(listed: &Listed) -> Value {
    let mut metadata = json!({"resourceVersion": listed.resource_version});
    if let Some(token) = &listed.continue_token {
        metadata["continue"] = token.clone().into();
    }
    // Without a token only where it was asked for by `count`.
    if let Some(remaining) = listed.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// The list as JSON; the stored texts of the objects are copied, not parsed.
fn json_list(resource: &Resource, listed: Listed) -> Response<Body> {
    let head = format!(
        "{{\"apiVersion\":\"{}\",\"kind\":\"{}\",\"metadata\":{},\"items\":[",
        resource.api_version(),
        resource.list_kind,
        list_metadata(&listed)
    );
    json_body(StatusCode::OK, Body::new(ListBody::new(head, listed.items)))
}

pub(crate) fn include_object(query: &Query) -> Result<IncludeObject> {
    match query.get("includeObject") {
        None | Some("Metadata") => Ok(IncludeObject::Metadata),
        Some("None") => Ok(IncludeObject::None),
        Some("Object") => Ok(IncludeObject::Object),
        Some(other) => Err(ApiError::bad_request(format!("includeObject={other}: must be None, Metadata or Object"))),
    }
}

/// PartialObjectMetadata of an object.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

/// The same as text, from the object's text, of which metadata is copied as it stands: watchers of
/// every kind want this of every write.
pub(crate) fn partial_of(object: &[u8]) -> Result<Vec<u8>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let object: Object<'_> = serde_json::from_slice(object).map_err(|error| ApiError::internal(format!("a stored object: {error}")))?;
    let metadata = object.metadata.get();
    Ok(format!(r#"{{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{metadata}}}"#).into_bytes())
}

pub(crate) fn object_response(resource: &Resource, stored: &Stored, format: Format, query: &Query) -> Result<Response<Body>> {
    if format == Format::Json {
        return Ok(raw_response(StatusCode::OK, stored.body.clone()));
    }
    value_response(resource, &parse_stored(stored)?, format, query)
}

fn value_response(resource: &Resource, value: &Value, format: Format, query: &Query) -> Result<Response<Body>> {
    Ok(match format {
        Format::Json => json_response(StatusCode::OK, value),
        Format::Metadata => json_response(StatusCode::OK, &partial(value)),
        Format::Table => {
            let now = jiff::Timestamp::now();
            let mut table = table(&resource.columns, std::slice::from_ref(value), include_object(query)?, now);
            table["metadata"] = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
            json_response(StatusCode::OK, &table)
        }
    })
}

pub(crate) fn json_response(code: StatusCode, value: &Value) -> Response<Body> {
    raw_response(code, Bytes::from(value.to_string()))
}

pub(crate) fn raw_response(code: StatusCode, body: Bytes) -> Response<Body> {
    json_body(code, Body::from(body))
}

fn json_body(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

#[cfg(test)]
mod tests;
