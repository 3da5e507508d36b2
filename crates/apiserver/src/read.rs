//! Get and list: plain JSON, tables and metadata only.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use fermion_store::{Filter, LabelIs, LabelTerm, ListQuery, Order, Scope, Stored};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalog::{Resource, Source};
use crate::error::{About, ApiError, Cause, Result};
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
            Format::Json => json_list(resource, &listed),
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
        if let Some(mut items) = virtual_items {
            items.retain(|item| selection.matches(item));
            let bodies = items.iter().map(|item| Bytes::from(item.to_string())).collect();
            return Ok(Listed {
                items: bodies,
                parsed: Some(items),
                resource_version: self.store.revision().to_string(),
                continue_token: None,
                remaining: None,
            });
        }
        let limit = query.number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)).filter(|limit| *limit > 0);
        let (mut start_after, at_revision) = match query.get("continue") {
            Some(token) => {
                let token = Continue::decode(token)?;
                (Some((token.namespace, token.name)), Some(token.revision))
            }
            None => match Wanted::parse(query)? {
                Wanted::Exactly(revision) => (None, Some(revision)),
                Wanted::NotOlderThan(revision) => {
                    self.check_reached(resource, revision)?;
                    (None, None)
                }
            },
        };
        let scope = Scope {
            resource: resource.stored_as.clone(),
            namespace: namespace.map(Into::into),
            name: selection.fields.exact("metadata.name").map(Into::into),
        };
        let people = PeoplesList::parse(query)?;
        let (mut filter, mut exact) = selection.filter();
        // A field may have another value where it is served than where it is stored.
        if !resource.is_served_as_stored() && !filter.fields.is_empty() {
            filter.fields.clear();
            exact = false;
        }
        let mut items = Vec::new();
        let mut parsed = Vec::new();
        let mut revision = at_revision;
        let wanted = limit.unwrap_or(usize::MAX);
        // What the database cannot tell is told here, where a page of it may then hold few matches: so
        // pages are read until the asked number is found. Each round moves on, so the loop ends with
        // the objects.
        let (next, remaining) = loop {
            let asked = ListQuery {
                filter: filter.clone(),
                limit,
                start_after: start_after.take(),
                at_revision: revision,
                ..people.query(scope.clone())
            };
            let page = self.store.list(asked).await.map_err(|error| ApiError::from_store(&error, resource.about("")))?;
            revision = Some(page.revision);
            if exact {
                let following = page.total.map(|total| total.saturating_sub((people.offset + page.items.len()) as u64));
                for stored in page.items {
                    items.push(resource.as_served(stored)?.body);
                }
                break (page.next, following.or(page.remaining));
            }
            let mut last = None;
            for stored in page.items {
                let stored = resource.as_served(stored)?;
                let value = parse_stored(&stored)?;
                if selection.matches(&value) {
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
        Ok(Listed {
            items,
            parsed: (!exact).then_some(parsed),
            resource_version: revision.to_string(),
            continue_token: next.map(|(namespace, name)| Continue { revision, namespace, name }.encode()),
            remaining,
        })
    }
}

/// What people ask of a list beyond what Kubernetes' clients do: `search=TEXT`, `sortBy=PATH` or
/// `sortBy=-PATH`, `offset=NUMBER`, and `count=true`, which makes `remainingItemCount` exact.
struct PeoplesList {
    search: Option<String>,
    order: Option<Order>,
    offset: usize,
    count: bool,
}

impl PeoplesList {
    fn parse(query: &Query) -> Result<Self> {
        let order = query.get("sortBy").filter(|path| !path.is_empty()).map(|path| {
            let (path, descending) = path.strip_prefix('-').map_or((path, false), |path| (path, true));
            Order { path: path.trim_start_matches('.').split('.').map(str::to_owned).collect(), descending }
        });
        let offset = query.number("offset")?.map_or(0, |offset| usize::try_from(offset).unwrap_or(usize::MAX));
        if query.get("continue").is_some() && (order.is_some() || offset > 0) {
            return Err(ApiError::bad_request("continue: a list with sortBy or offset is paged by offset and resourceVersion"));
        }
        let search = query.get("search").filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self { search, order, offset, count: query.flag("count")? })
    }

    fn query(&self, scope: Scope) -> ListQuery {
        ListQuery {
            search: self.search.clone(),
            order: self.order.clone(),
            offset: self.offset,
            count: self.count,
            ..ListQuery::all(scope)
        }
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
    fn values(&self) -> Result<Vec<Value>> {
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
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    metadata
}

/// The list as JSON; the stored texts of the objects are copied, not parsed.
fn json_list(resource: &Resource, listed: &Listed) -> Response<Body> {
    let head = format!(
        "{{\"apiVersion\":\"{}\",\"kind\":\"{}\",\"metadata\":{},\"items\":[",
        resource.api_version(),
        resource.list_kind,
        list_metadata(listed)
    );
    let size = head.len() + listed.items.iter().map(|item| item.len() + 1).sum::<usize>() + 3;
    let mut body = BytesMut::with_capacity(size);
    body.put_slice(head.as_bytes());
    for (index, item) in listed.items.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(item);
    }
    body.put_slice(b"]}\n");
    raw_response(StatusCode::OK, body.freeze())
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

/// The same from the object's JSON text. Nothing but metadata is read: watchers of every kind want
/// this of every write.
pub(crate) fn partial_of(object: &[u8]) -> Result<Value> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Value,
    }
    let object: Object = serde_json::from_slice(object).map_err(|error| ApiError::internal(format!("a stored object: {error}")))?;
    Ok(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object.metadata}))
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
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

#[cfg(test)]
mod tests;
