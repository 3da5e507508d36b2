//! The kinds a server serves, found by any of their names.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, APIResourceList};
use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};

use crate::failure::{Attempt as _, Exit, Failure, Outcome};

/// A kind as the server serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) api: ApiResource,
    pub(crate) namespaced: bool,
    listable: bool,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
}

/// Everything a server serves.
#[derive(Clone, Debug)]
pub(crate) struct Resources(Vec<Resource>);

impl Resources {
    /// Asks the server.
    pub(crate) async fn discover(client: &Client) -> Outcome<Self> {
        let what = || "cannot ask the server which kinds it serves".to_owned();
        let groups = client.list_api_groups().await.attempt(what)?;
        let versions: Vec<String> = groups
            .groups
            .iter()
            .filter_map(|group| group.preferred_version.as_ref().or_else(|| group.versions.first()))
            .map(|version| version.group_version.clone())
            .collect();
        let core = client.list_core_api_resources("v1").await.attempt(what)?;
        let others = try_join_all(versions.iter().map(|version| client.list_api_group_resources(version))).await.attempt(what)?;
        Ok(Self::from_lists(std::iter::once(core).chain(others)))
    }

    fn from_lists(lists: impl IntoIterator<Item = APIResourceList>) -> Self {
        let mut resources = Vec::new();
        for list in lists {
            let (group, version) = list.group_version.split_once('/').unwrap_or(("", &list.group_version));
            for found in list.resources.into_iter().filter(|found| !found.name.contains('/')) {
                resources.push(Resource::new(group, version, found));
            }
        }
        Self(resources)
    }

    /// The kind with that plural, singular, short name or kind; `name.group` names one of
    /// several.
    pub(crate) fn find(&self, name: &str) -> Outcome<&Resource> {
        let wanted = name.to_lowercase();
        let (bare, group) = wanted.split_once('.').map_or((wanted.as_str(), None), |(bare, group)| (bare, Some(group)));
        let fits_group = |resource: &&Resource| {
            group.is_none_or(|group| resource.api.group == group || format!("{}.{}", resource.api.version, resource.api.group) == group)
        };
        self.0.iter().find(|resource| resource.is_called(bare) && fits_group(resource)).ok_or_else(|| {
            let near: Vec<_> =
                self.0.iter().filter(|known| distance(&known.api.plural, bare) <= 2).map(|known| known.api.plural.clone()).collect();
            let hint = if near.is_empty() {
                let names: BTreeSet<&str> = self.0.iter().filter(|known| known.listable).map(|known| known.api.plural.as_str()).collect();
                format!("the kinds are: {}", names.into_iter().collect::<Vec<_>>().join(", "))
            } else {
                format!("did you mean {}?", near.join(" or "))
            };
            Failure::new(format!("the server serves no kind `{name}`")).hint(hint).with_exit(Exit::Missing)
        })
    }

    /// The kinds of a category, such as `all`.
    pub(crate) fn of_category(&self, category: &str) -> Vec<&Resource> {
        self.0.iter().filter(|resource| resource.categories.iter().any(|known| known == category)).collect()
    }

    /// The kind an object in a file is of.
    pub(crate) fn of_object(&self, api_version: &str, kind: &str) -> Outcome<&Resource> {
        self.0.iter().find(|resource| resource.api.api_version == api_version && resource.api.kind == kind).ok_or_else(|| {
            let same_kind: Vec<_> =
                self.0.iter().filter(|known| known.api.kind == kind).map(|known| known.api.api_version.clone()).collect();
            let hint = if same_kind.is_empty() {
                "`fermion get` with a kind that does not exist lists those that do".to_owned()
            } else {
                format!("`{kind}` is served as apiVersion {}", same_kind.join(" and "))
            };
            Failure::new(format!("the server serves no kind `{kind}` of apiVersion `{api_version}`")).hint(hint).with_exit(Exit::Missing)
        })
    }
}

impl Resource {
    fn new(group: &str, version: &str, found: APIResource) -> Self {
        let group = found.group.as_deref().filter(|group| !group.is_empty()).unwrap_or(group);
        let version = found.version.as_deref().filter(|version| !version.is_empty()).unwrap_or(version);
        Self {
            api: ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &found.kind), &found.name),
            namespaced: found.namespaced,
            listable: found.verbs.iter().any(|verb| verb == "list"),
            singular: found.singular_name,
            short_names: found.short_names.unwrap_or_default(),
            categories: found.categories.unwrap_or_default(),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.api.plural == name
            || self.singular == name
            || self.api.kind.to_lowercase() == name
            || self.short_names.iter().any(|short| short == name)
    }

    /// How it is told: `trainingjob.ai.fermion.dev`.
    pub(crate) fn title(&self) -> String {
        let singular = self.api.kind.to_lowercase();
        if self.api.group.is_empty() { singular } else { format!("{singular}.{}", self.api.group) }
    }

    /// Path of its collection, in a namespace or over all of them.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.api.group.is_empty() { "/api" } else { "/apis" };
        let place = match namespace {
            Some(namespace) if self.namespaced => format!("/namespaces/{namespace}"),
            _ => String::new(),
        };
        format!("{root}/{}{place}/{}", self.api.api_version, self.api.plural)
    }
}

/// How many letters differ, counted up to the lengths at hand.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, theirs) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *theirs);
            diagonal = row[index + 1];
            row[index + 1] = change.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        let list = |value: serde_json::Value| serde_json::from_value::<APIResourceList>(value).expect("a list");
        Resources::from_lists([
            list(serde_json::json!({"groupVersion": "v1", "resources": [
                {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": [], "shortNames": ["po"], "categories": ["all"]},
                {"name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": []},
                {"name": "nodes", "singularName": "node", "namespaced": false, "kind": "Node", "verbs": []},
            ]})),
            list(serde_json::json!({"groupVersion": "ai.fermion.dev/v1alpha1", "resources": [
                {"name": "trainingjobs", "singularName": "trainingjob", "namespaced": true, "kind": "TrainingJob", "verbs": [], "shortNames": ["tj"]},
            ]})),
        ])
    }

    #[test]
    fn a_kind_is_found_by_any_of_its_names() {
        let resources = resources();
        for name in
            ["tj", "trainingjob", "trainingjobs", "TrainingJob", "trainingjobs.ai.fermion.dev", "trainingjob.v1alpha1.ai.fermion.dev"]
        {
            assert_eq!(resources.find(name).expect(name).api.kind, "TrainingJob", "{name}");
        }
        let job = resources.find("tj").expect("there");
        assert_eq!(job.path(Some("a")), "/apis/ai.fermion.dev/v1alpha1/namespaces/a/trainingjobs");
        assert!(resources.find("pods/log").is_err(), "a subresource is no kind");
    }

    #[test]
    fn a_kind_of_the_cluster_has_no_namespace_in_its_path() {
        assert_eq!(resources().find("nodes").expect("there").path(Some("a")), "/api/v1/nodes");
        assert_eq!(resources().find("po").expect("there").path(None), "/api/v1/pods");
    }

    #[test]
    fn an_unknown_kind_names_its_neighbour() {
        let failure = resources().find("trainingjbs").expect_err("unknown");
        insta::assert_snapshot!(failure);
        let failure = resources().of_object("ai.fermion.dev/v1", "TrainingJob").expect_err("unknown");
        insta::assert_snapshot!(failure);
    }
}
