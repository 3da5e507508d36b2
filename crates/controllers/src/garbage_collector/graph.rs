//! Who owns whom, and what follows from it: pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The finalizer by which a deletion waits until what the object owns is gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer by which what the object owns is set free before it goes.
pub(super) const ORPHAN: &str = "orphan";

/// What is known of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub uid: String,
    /// Place in the list of kinds.
    pub kind: usize,
    pub namespace: Option<String>,
    pub name: String,
    pub owners: Vec<OwnerReference>,
    pub deleting: bool,
    pub foreground: bool,
    pub orphan: bool,
}

impl Item {
    pub(super) fn new(kind: usize, meta: ObjectMeta) -> Option<Self> {
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        Some(Self {
            kind,
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
            uid: meta.uid?,
            name: meta.name?,
            namespace: meta.namespace,
            owners: meta.owner_references.unwrap_or_default(),
        })
    }
}

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Task {
    /// None of its owners is known any more. If that is so, delete it.
    DeleteIfOrphaned(Item),
    /// Its owner waits for it.
    Delete { item: Item, foreground: bool },
    /// Let it live on without that owner.
    Release { item: Item, owner: String },
    /// Nothing holds up its deletion any more.
    RemoveFinalizer { item: Item, finalizer: &'static str },
}

/// Every object of the watched kinds.
#[derive(Default)]
pub(super) struct Graph {
    items: HashMap<String, Item>,
    /// Uids of objects by uid of an owner.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Takes in an object as it is now; answers the uids to look at.
    pub(super) fn put(&mut self, item: Item) -> Vec<String> {
        let mut touched = self.unlink(&item.uid);
        for owner in &item.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(item.uid.clone());
            touched.push(owner.uid.clone());
        }
        touched.push(item.uid.clone());
        self.items.insert(item.uid.clone(), item);
        touched
    }

    /// Forgets an object that is gone; answers the uids to look at.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut touched = self.unlink(uid);
        touched.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        self.items.remove(uid);
        touched
    }

    /// Takes in all objects of a kind; those not listed are gone.
    pub(super) fn replace(&mut self, kind: usize, listed: Vec<Item>) -> Vec<String> {
        let kept: HashSet<&str> = listed.iter().map(|item| item.uid.as_str()).collect();
        let gone: Vec<String> = self
            .items
            .values()
            .filter(|item| item.kind == kind && !kept.contains(item.uid.as_str()))
            .map(|item| item.uid.clone())
            .collect();
        let mut touched: Vec<String> = gone.iter().flat_map(|uid| self.remove(uid)).collect();
        touched.extend(listed.into_iter().flat_map(|item| self.put(item)).collect::<Vec<_>>());
        touched
    }

    /// Everything that may need work.
    pub(super) fn all(&self) -> Vec<String> {
        let interesting = |item: &&Item| !item.owners.is_empty() || (item.deleting && (item.foreground || item.orphan));
        self.items.values().filter(interesting).map(|item| item.uid.clone()).collect()
    }

    fn unlink(&mut self, uid: &str) -> Vec<String> {
        let Some(item) = self.items.get(uid) else { return Vec::new() };
        let owners: Vec<String> = item.owners.iter().map(|owner| owner.uid.clone()).collect();
        for owner in &owners {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        owners
    }

    fn dependents(&self, uid: &str) -> Vec<&Item> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.items.get(uid)).collect()
    }

    /// What is to be done about an object now.
    pub(super) fn tasks(&self, uid: &str) -> Vec<Task> {
        let Some(item) = self.items.get(uid) else { return Vec::new() };
        if item.deleting && item.orphan {
            let dependents = self.dependents(uid);
            if dependents.is_empty() {
                return vec![Task::RemoveFinalizer { item: item.clone(), finalizer: ORPHAN }];
            }
            return dependents.into_iter().map(|dependent| Task::Release { item: dependent.clone(), owner: uid.to_owned() }).collect();
        }
        if item.deleting && item.foreground {
            let dependents = self.dependents(uid);
            let blocks =
                |dependent: &&Item| dependent.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true));
            if !dependents.iter().any(blocks) {
                return vec![Task::RemoveFinalizer { item: item.clone(), finalizer: FOREGROUND }];
            }
            return dependents.into_iter().filter(|dependent| !dependent.deleting).map(|dependent| self.delete(dependent)).collect();
        }
        if item.deleting || item.owners.is_empty() {
            return Vec::new();
        }
        let known: Vec<&Item> = item.owners.iter().filter_map(|owner| self.items.get(&owner.uid)).collect();
        if known.is_empty() {
            return vec![Task::DeleteIfOrphaned(item.clone())];
        }
        // All that is left of its owners waits for it.
        if known.iter().all(|owner| owner.deleting && owner.foreground) {
            return vec![self.delete(item)];
        }
        Vec::new()
    }

    fn delete(&self, item: &Item) -> Task {
        Task::Delete { item: item.clone(), foreground: !self.dependents(&item.uid).is_empty() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(uid: &str, owners: &[&str]) -> Item {
        let owner = |uid: &&str| OwnerReference { uid: (*uid).to_owned(), block_owner_deletion: Some(true), ..OwnerReference::default() };
        Item {
            uid: uid.into(),
            kind: 0,
            namespace: Some("n".into()),
            name: uid.into(),
            owners: owners.iter().map(owner).collect(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    /// job owns workload, workload owns two pods.
    fn family() -> Graph {
        let mut graph = Graph::default();
        for item in [item("job", &[]), item("workload", &["job"]), item("pod-0", &["workload"]), item("pod-1", &["workload"])] {
            graph.put(item);
        }
        graph
    }

    fn names(tasks: &[Task]) -> Vec<String> {
        let name = |task: &Task| match task {
            Task::DeleteIfOrphaned(item) => format!("delete orphan {}", item.name),
            Task::Delete { item, foreground } => format!("delete {} {foreground}", item.name),
            Task::Release { item, owner } => format!("release {} from {owner}", item.name),
            Task::RemoveFinalizer { item, finalizer } => format!("remove {finalizer} of {}", item.name),
        };
        tasks.iter().map(name).collect()
    }

    #[test]
    fn what_is_owned_stays_while_its_owner_does() {
        let graph = family();
        assert!(graph.all().iter().all(|uid| graph.tasks(uid).is_empty()));
    }

    #[test]
    fn what_is_owned_goes_after_its_owner_level_by_level() {
        let mut graph = family();
        assert_eq!(graph.remove("job"), ["workload"]);
        assert_eq!(names(&graph.tasks("workload")), ["delete orphan workload"]);
        assert!(graph.tasks("pod-0").is_empty());
        assert_eq!(graph.remove("workload"), ["job", "pod-0", "pod-1"]);
        assert_eq!(names(&graph.tasks("pod-1")), ["delete orphan pod-1"]);
    }

    #[test]
    fn a_second_owner_keeps_it() {
        let mut graph = family();
        graph.put(item("shared", &["job", "other"]));
        assert!(graph.tasks("shared").is_empty());
        graph.remove("job");
        assert_eq!(names(&graph.tasks("shared")), ["delete orphan shared"]);
    }

    #[test]
    fn a_foreground_deletion_waits_for_everything_below() {
        let mut graph = family();
        graph.put(Item { deleting: true, foreground: true, ..item("job", &[]) });
        assert_eq!(names(&graph.tasks("job")), ["delete workload true"]);
        graph.put(Item { deleting: true, foreground: true, ..item("workload", &["job"]) });
        assert!(graph.tasks("job").is_empty());
        assert_eq!(names(&graph.tasks("workload")), ["delete pod-0 false", "delete pod-1 false"]);
        graph.remove("pod-0");
        assert_eq!(graph.remove("pod-1"), ["workload"]);
        assert_eq!(names(&graph.tasks("workload")), ["remove foregroundDeletion of workload"]);
        graph.remove("workload");
        assert_eq!(names(&graph.tasks("job")), ["remove foregroundDeletion of job"]);
    }

    #[test]
    fn an_orphaning_deletion_sets_free_what_it_owned() {
        let mut graph = family();
        graph.put(Item { deleting: true, orphan: true, ..item("workload", &["job"]) });
        assert_eq!(names(&graph.tasks("workload")), ["release pod-0 from workload", "release pod-1 from workload"]);
        graph.put(item("pod-0", &[]));
        graph.put(item("pod-1", &[]));
        assert_eq!(names(&graph.tasks("workload")), ["remove orphan of workload"]);
        graph.remove("workload");
        assert!(graph.tasks("pod-0").is_empty());
    }

    #[test]
    fn a_new_list_tells_what_is_gone() {
        let mut graph = family();
        let touched = graph.replace(0, vec![item("pod-0", &["workload"])]);
        assert!(touched.contains(&"pod-0".to_owned()));
        assert_eq!(names(&graph.tasks("pod-0")), ["delete orphan pod-0"]);
        assert!(graph.tasks("pod-1").is_empty());
    }
}
