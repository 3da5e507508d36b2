//! A whole list, page by page, all of one snapshot: what an export reads. It can be read twice.

use std::sync::Arc;

use serde_json::Value;

use crate::Api;
use crate::catalog::{Resource, Source};
use crate::error::{ApiError, Result};
use crate::read::Selection;
use crate::request::Query;

/// Objects in memory at once.
const PAGE: usize = 200;
/// The same in an order of its own, for which every page sorts the list anew.
const SORTED_PAGE: usize = 2_000;

/// What is read, and how far.
pub(super) struct Pages {
    api: Arc<Api>,
    resource: Arc<Resource>,
    namespace: Option<String>,
    selection: Selection,
    query: Query,
    /// The revision of the first page, which all others have too.
    revision: Option<String>,
    next: Next,
    /// What is not in the store, and so comes all at once.
    held: Option<Vec<Value>>,
}

enum Next {
    /// The first page, or the one at this place in the order that is asked for.
    Offset(usize),
    After(String),
    Nothing,
}

impl Pages {
    /// The list at an address, with the selectors, search and order of its query.
    pub(super) async fn new(api: &Arc<Api>, resource: &Arc<Resource>, namespace: Option<&str>, query: &Query) -> Result<Self> {
        for paging in ["limit", "continue", "offset"] {
            if query.has(paging) {
                return Err(ApiError::bad_request(format!("{paging}: an export is of the whole list; narrow it by selectors or search")));
            }
        }
        let selection = Selection::parse(resource, query)?;
        let mut pages = Self {
            api: api.clone(),
            resource: resource.clone(),
            namespace: namespace.map(str::to_owned),
            selection,
            query: query.with("count", None),
            revision: None,
            next: Next::Offset(0),
            held: None,
        };
        if resource.source != Source::Objects {
            let listed = api.page(resource, namespace, &pages.selection, &pages.query).await?;
            pages.held = Some(listed.values()?);
            pages.revision = Some(listed.resource_version);
        }
        Ok(pages)
    }

    /// The same list in the order that is fastest to read.
    pub(super) fn in_any_order(&self) -> Self {
        Self {
            api: self.api.clone(),
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            selection: self.selection.clone(),
            query: self.query.with("sortBy", None),
            revision: self.revision.clone(),
            next: Next::Offset(0),
            held: self.held.clone(),
        }
    }

    /// Reads at the revision of another reading.
    pub(super) fn at_revision_of(mut self, other: &Self) -> Self {
        self.revision.clone_from(&other.revision);
        self
    }

    /// The revision that is read, once the first page is.
    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or_default()
    }

    /// The next page; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>> {
        if let Some(held) = &mut self.held {
            let page: Vec<Value> = held.drain(..held.len().min(PAGE)).collect();
            return Ok((!page.is_empty()).then_some(page));
        }
        let is_sorted = self.query.has("sortBy");
        let limit = if is_sorted { SORTED_PAGE } else { PAGE };
        let mut query = self.query.with("limit", Some(limit.to_string()));
        if let Some(revision) = &self.revision {
            query = query.with("resourceVersion", Some(revision.clone())).with("resourceVersionMatch", Some("Exact".to_owned()));
        }
        let offset = match &self.next {
            Next::Offset(offset) => {
                query = query.with("offset", Some(offset.to_string()));
                *offset
            }
            Next::After(token) => {
                query = query.with("continue", Some(token.clone()));
                0
            }
            Next::Nothing => return Ok(None),
        };
        let listed = self.api.page(&self.resource, self.namespace.as_deref(), &self.selection, &query).await?;
        let items = listed.values()?;
        self.next = match listed.continue_token {
            Some(token) => Next::After(token),
            None if is_sorted && items.len() == limit => Next::Offset(offset + items.len()),
            None => Next::Nothing,
        };
        self.revision.get_or_insert(listed.resource_version);
        Ok((!items.is_empty()).then_some(items))
    }
}
