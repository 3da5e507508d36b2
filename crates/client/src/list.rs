//! Lists as people look at them: searched, sorted, counted, and page by page.

use std::fmt::Debug;

use kube::core::{ObjectList, Resource};
use serde::de::DeserializeOwned;

use crate::Client;

/// What is asked of a list beyond what Kubernetes' own lists offer.
///
/// ```
/// # fermion_testkit::with_server(async |server| {
/// # let client = fermion_client::Client::from_home(server.home()).await?;
/// # use k8s_openapi::api::core::v1::ConfigMap;
/// # for name in ["train-1", "train-2", "train-3", "eval"] {
/// #     let map = serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?;
/// #     client.api::<ConfigMap>().create(&Default::default(), &map).await?;
/// # }
/// use fermion_client::{Search, search};
///
/// let asked = Search::all().text("train").sort_by_descending("metadata.name").limit(2);
/// let found = search::<ConfigMap>(&client, &asked).await?;
/// assert_eq!(found.total, 3);
/// let names: Vec<_> = found.items.iter().filter_map(|map| map.metadata.name.as_deref()).collect();
/// assert_eq!(names, ["train-3", "train-2"]);
///
/// // The next page is of the same moment.
/// let next = found.next(&asked).expect("one is left");
/// assert_eq!(search::<ConfigMap>(&client, &next).await?.items.len(), 1);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    text: Option<String>,
    sort_by: Option<String>,
    labels: Option<String>,
    fields: Option<String>,
    offset: u64,
    limit: Option<u32>,
    /// The revision that is listed; the newest when left out.
    revision: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Found<K> {
    /// The objects on this page.
    pub items: Vec<K>,
    /// How many there are on all pages.
    pub total: u64,
    /// The revision at which all of this was true.
    pub revision: String,
    /// How many come before this page.
    offset: u64,
}

impl Search {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only objects with this text in their name, or in any text or number of theirs; capital and
    /// small ASCII letters are the same.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Only objects that a label selector selects.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only objects that a field selector selects.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// In the order of a field, such as `status.phase`: numbers before texts.
    #[must_use]
    pub fn sort_by(mut self, path: impl Into<String>) -> Self {
        self.sort_by = Some(path.into());
        self
    }

    /// The same the other way round.
    #[must_use]
    pub fn sort_by_descending(self, path: impl std::fmt::Display) -> Self {
        self.sort_by(format!("-{path}"))
    }

    /// Skips so many.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// At most so many on a page.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("count", "true");
        let texts = [("search", &self.text), ("sortBy", &self.sort_by), ("labelSelector", &self.labels), ("fieldSelector", &self.fields)];
        for (name, value) in texts {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if self.offset > 0 {
            query.append_pair("offset", &self.offset.to_string());
        }
        if let Some(limit) = self.limit {
            query.append_pair("limit", &limit.to_string());
        }
        if let Some(revision) = &self.revision {
            query.append_pair("resourceVersion", revision).append_pair("resourceVersionMatch", "Exact");
        }
        query.finish()
    }
}

impl<K> Found<K> {
    /// What to ask for the page after this one; none if this is the last.
    pub fn next(&self, asked: &Search) -> Option<Search> {
        let offset = self.offset + self.items.len() as u64;
        let more = offset < self.total && !self.items.is_empty();
        more.then(|| Search { offset, revision: Some(self.revision.clone()), ..asked.clone() })
    }
}

/// Lists the objects of a kind: in the client's namespace, or all where the kind has none.
///
/// # Errors
/// When the server refuses the question, or cannot be reached.
pub async fn search<K>(client: &Client, asked: &Search) -> Result<Found<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    K::Scope: Place,
{
    let path = K::url_path(&(), K::Scope::of(client.namespace()));
    let request = http::Request::get(format!("{path}?{}", asked.query())).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let list: ObjectList<K> = client.kube().request(request).await?;
    let remaining = list.metadata.remaining_item_count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    let total = asked.offset + list.items.len() as u64 + remaining;
    Ok(Found { items: list.items, total, revision: list.metadata.resource_version.unwrap_or_default(), offset: asked.offset })
}

/// Where the objects of a kind are.
pub trait Place {
    /// The namespace to list, if the kind has them.
    fn of(namespace: &str) -> Option<&str>;
}

impl Place for k8s_openapi::NamespaceResourceScope {
    fn of(namespace: &str) -> Option<&str> {
        Some(namespace)
    }
}

impl Place for k8s_openapi::ClusterResourceScope {
    fn of(_: &str) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_escaped() {
        let asked = Search::all().text("a&b=c").labels("app in (x)").sort_by_descending("spec.gpus").offset(10).limit(5);
        assert_eq!(asked.query(), "count=true&search=a%26b%3Dc&sortBy=-spec.gpus&labelSelector=app+in+%28x%29&offset=10&limit=5");
    }

    #[test]
    fn the_last_page_has_no_next() {
        let page = |items: Vec<u8>, offset| Found { items, total: 3, revision: "7".to_owned(), offset };
        let next = page(vec![0, 0], 0).next(&Search::all()).unwrap();
        assert_eq!((next.offset, next.revision.as_deref()), (2, Some("7")));
        assert_eq!(page(vec![0], 2).next(&next), None);
        assert_eq!(page(vec![], 0).next(&next), None, "a page without progress ends it");
    }
}
