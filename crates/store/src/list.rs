//! What a list is asked for and what it answers.

use crate::error::Error;
use crate::filter::{Filter, Order, check_path};
use crate::object::{Scope, Stored};

/// Bytes of a text that is searched for.
const SEARCH_BYTES_MAX: usize = 1_024;

/// The most objects behind a page that are counted: to count a million takes longer than to read a
/// page, and nobody asked.
pub(crate) const REMAINING_MAX: u64 = 10_000;

/// Which objects to list, and which page of them.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// The objects.
    pub scope: Scope,
    /// Of those, only the ones that fulfil this.
    pub filter: Filter,
    /// Of those, only the ones with this text in their name, their namespace, or any string or number
    /// in them (but `metadata.managedFields`). Capital and small ASCII letters are the same.
    pub search: Option<String>,
    /// `None`: in the order of their keys. With an order there is no `next` page: `offset` pages.
    pub order: Option<Order>,
    /// Skips so many. Pages by `offset` are of one snapshot if they pass the first one's revision.
    pub offset: usize,
    /// At most so many on this page; `None` or zero for all.
    pub limit: Option<usize>,
    /// The `next` of the page before: only objects after this (namespace, name).
    pub start_after: Option<(String, String)>,
    /// `None`: as things are now. `Some`: as they were right after this revision; the pages after the
    /// first pass the first one's [`Page::revision`], so that all are of one snapshot.
    pub at_revision: Option<u64>,
    /// Whether to count all objects the query is about, on whatever page.
    pub count: bool,
}

impl ListQuery {
    /// Everything in a scope, as it is now.
    pub fn all(scope: Scope) -> Self {
        Self {
            scope,
            filter: Filter::default(),
            search: None,
            order: None,
            offset: 0,
            limit: None,
            start_after: None,
            at_revision: None,
            count: false,
        }
    }

    /// Refuses what no database could answer.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refused = |reason: &str| Err(Error::Invalid { what: "the list's query".to_owned(), reason: reason.to_owned() });
        self.filter.check()?;
        if let Some(order) = &self.order {
            check_path(&order.path)?;
            if self.start_after.is_some() {
                return refused("a list in an order of its own is paged by offset, not by the key before");
            }
        }
        if let Some(search) = &self.search
            && (search.len() > SEARCH_BYTES_MAX || search.contains('\0'))
        {
            return refused("the text to search for must be at most 1024 bytes and not hold the character NUL");
        }
        let names = [self.scope.namespace.as_deref(), self.scope.name.as_deref(), Some(&*self.scope.resource)];
        let after = self.start_after.as_ref().map_or(["", ""], |(namespace, name)| [namespace.as_str(), name.as_str()]);
        if names.into_iter().flatten().chain(after).any(|name| name.contains('\0')) {
            return refused("a name must not hold the character NUL");
        }
        Ok(())
    }

    /// Whether it is a plain list of a scope, page by page in the order of keys.
    pub(crate) fn is_plain(&self) -> bool {
        self.filter.is_everything() && self.search.is_none() && self.order.is_none() && self.offset == 0 && !self.count
    }

    /// The limit, if there is one.
    pub(crate) fn bound(&self) -> Option<usize> {
        self.limit.filter(|limit| *limit > 0)
    }
}

/// Some of the objects a query is about, in the order that was asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects.
    pub items: Vec<Stored>,
    /// The revision at which all of this was true. A watch from here misses nothing.
    pub revision: u64,
    /// `start_after` of the next page, if there are more.
    pub next: Option<(String, String)>,
    /// How many objects follow this page, if there are more, if the list is a plain one (by scope
    /// alone), and if they are no more than 10,000: beyond that nobody counts unasked.
    pub remaining: Option<u64>,
    /// How many objects the query is about, on whatever page, if that was asked for.
    pub total: Option<u64>,
}

impl Page {
    pub(crate) fn empty(revision: u64, count: bool) -> Self {
        Self { items: Vec::new(), revision, next: None, remaining: None, total: count.then_some(0) }
    }
}
