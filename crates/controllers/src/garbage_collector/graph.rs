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
    /// Some of its owners are gone, go, or are not known here. What follows depends on which of
    /// the unknown ones there are.
    Judge(Judgement),
    /// Let it live on without that owner.
    Release { item: Item, owner: String },
    /// Nothing holds up its deletion any more.
    RemoveFinalizer { item: Item, finalizer: &'static str },
    /// Tell that it names an owner of another namespace.
    ReportForeignOwner { item: Item, owner: OwnerReference },
}

/// What is known of the owners of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    pub item: Item,
    /// Whether one of its owners is there to stay.
    pub kept: bool,
    /// Uids of owners that are deleted in the foreground and wait for it.
    pub waiting: Vec<String>,
    /// Owners that are not known here: they may be gone, or of kinds that are not watched.
    pub unknown: Vec<OwnerReference>,
    /// Whether it has dependents of its own, which go before it in the foreground.
    pub has_dependents: bool,
    /// Whether a dependent of it is deleted in the foreground and waits for others: they may wait
    /// for each other.
    pub in_a_circle: bool,
}

/// What follows from the owners that are found to be absent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays, without these owners.
    Release(BTreeSet<String>),
    /// It goes. In a circle it must stop to hold up its owners first.
    Delete { foreground: bool, unblock: bool },
}

impl Judgement {
    /// Decides. `absent` are the uids of those unknown owners that are not there.
    pub(super) fn decide(&self, absent: &BTreeSet<String>) -> Verdict {
        let kept = self.kept || self.unknown.iter().any(|owner| !absent.contains(&owner.uid));
        if kept {
            let released: BTreeSet<String> = absent.iter().chain(&self.waiting).cloned().collect();
            return if released.is_empty() { Verdict::Keep } else { Verdict::Release(released) };
        }
        let waited_for = !self.waiting.is_empty();
        Verdict::Delete { foreground: self.item.foreground || (waited_for && self.has_dependents), unblock: waited_for && self.in_a_circle }
    }
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

    /// What an object owns. Owners reach only into their own namespace, or everywhere when they
    /// have none.
    fn dependents(&self, owner: &Item) -> Vec<&Item> {
        let uids = self.dependents.get(&owner.uid).into_iter().flatten();
        uids.filter_map(|uid| self.items.get(uid)).filter(|dependent| reaches(owner, dependent)).collect()
    }

    /// What is to be done about an object now.
    pub(super) fn tasks(&self, uid: &str) -> Vec<Task> {
        let Some(item) = self.items.get(uid) else { return Vec::new() };
        let mut tasks = self.reports(item);
        if item.deleting && item.orphan {
            let dependents = self.dependents(item);
            if dependents.is_empty() {
                tasks.push(Task::RemoveFinalizer { item: item.clone(), finalizer: ORPHAN });
            }
            tasks.extend(dependents.into_iter().map(|dependent| Task::Release { item: dependent.clone(), owner: uid.to_owned() }));
        } else if item.deleting && item.foreground {
            let dependents = self.dependents(item);
            let blocks =
                |dependent: &&Item| dependent.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true));
            if dependents.iter().any(blocks) {
                tasks.extend(dependents.into_iter().filter_map(|dependent| self.judge(dependent)));
            } else {
                tasks.push(Task::RemoveFinalizer { item: item.clone(), finalizer: FOREGROUND });
            }
        } else {
            tasks.extend(self.judge(item));
        }
        tasks
    }

    /// The owners that an object names and that cannot own it.
    fn reports(&self, item: &Item) -> Vec<Task> {
        let foreign = item.owners.iter().filter(|owner| self.items.get(&owner.uid).is_some_and(|known| !reaches(known, item)));
        foreign.map(|owner| Task::ReportForeignOwner { item: item.clone(), owner: owner.clone() }).collect()
    }

    /// What may have to be decided about an object because of its owners.
    fn judge(&self, item: &Item) -> Option<Task> {
        if item.deleting || item.owners.is_empty() {
            return None;
        }
        let mut judgement = Judgement {
            item: item.clone(),
            kept: false,
            waiting: Vec::new(),
            unknown: Vec::new(),
            has_dependents: false,
            in_a_circle: false,
        };
        for owner in &item.owners {
            match self.items.get(&owner.uid).filter(|known| reaches(known, item) && known.name == owner.name) {
                Some(known) if known.deleting && known.foreground => judgement.waiting.push(owner.uid.clone()),
                Some(_) => judgement.kept = true,
                None => judgement.unknown.push(owner.clone()),
            }
        }
        if judgement.waiting.is_empty() && judgement.unknown.is_empty() {
            return None;
        }
        let dependents = self.dependents(item);
        judgement.has_dependents = !dependents.is_empty();
        judgement.in_a_circle = dependents.iter().any(|dependent| dependent.deleting && dependent.foreground);
        Some(Task::Judge(judgement))
    }
}

/// Whether an object may own another.
fn reaches(owner: &Item, dependent: &Item) -> bool {
    owner.namespace.is_none() || owner.namespace == dependent.namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(uid: &str, owners: &[&str]) -> Item {
        let owner = |uid: &&str| OwnerReference {
            uid: (*uid).to_owned(),
            name: (*uid).to_owned(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        };
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

    /// Tasks in words; of unknown owners none is there.
    fn names(tasks: &[Task]) -> Vec<String> {
        let name = |task: &Task| match task {
            Task::Judge(judgement) => {
                let absent: BTreeSet<String> = judgement.unknown.iter().map(|owner| owner.uid.clone()).collect();
                let name = &judgement.item.name;
                match judgement.decide(&absent) {
                    Verdict::Keep => format!("keep {name}"),
                    Verdict::Release(owners) => format!("release {name} from {}", owners.into_iter().collect::<Vec<_>>().join(", ")),
                    Verdict::Delete { foreground, unblock } => {
                        let how = if foreground { " in the foreground" } else { "" };
                        format!("{}delete {name}{how}", if unblock { "unblock and " } else { "" })
                    }
                }
            }
            Task::Release { item, owner } => format!("release {} from {owner}", item.name),
            Task::RemoveFinalizer { item, finalizer } => format!("remove {finalizer} of {}", item.name),
            Task::ReportForeignOwner { item, owner } => format!("report {} of {}", owner.name, item.name),
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
        assert_eq!(names(&graph.tasks("workload")), ["delete workload"]);
        assert!(graph.tasks("pod-0").is_empty());
        assert_eq!(graph.remove("workload"), ["job", "pod-0", "pod-1"]);
        assert_eq!(names(&graph.tasks("pod-1")), ["delete pod-1"]);
    }

    #[test]
    fn a_second_owner_keeps_it_and_owners_that_are_gone_are_forgotten() {
        let mut graph = family();
        graph.put(item("other", &[]));
        graph.put(item("shared", &["job", "other"]));
        assert!(graph.tasks("shared").is_empty());
        graph.remove("job");
        assert_eq!(names(&graph.tasks("shared")), ["release shared from job"]);
        graph.remove("other");
        assert_eq!(names(&graph.tasks("shared")), ["delete shared"]);
    }

    #[test]
    fn an_unknown_owner_that_is_there_keeps_it() {
        let mut graph = family();
        graph.put(item("mine", &["elsewhere"]));
        let tasks = graph.tasks("mine");
        let [Task::Judge(judgement)] = tasks.as_slice() else { panic!("{tasks:?}") };
        assert_eq!(judgement.decide(&BTreeSet::new()), Verdict::Keep);
    }

    #[test]
    fn an_owner_of_another_name_is_another_one() {
        let mut graph = family();
        let mut child = item("child", &["job"]);
        child.owners[0].name = "job-of-before".to_owned();
        graph.put(child);
        assert_eq!(names(&graph.tasks("child")), ["delete child"]);
    }

    #[test]
    fn owners_do_not_reach_into_other_namespaces() {
        let mut graph = family();
        graph.put(Item { namespace: Some("other".into()), ..item("foreign", &["job"]) });
        assert_eq!(names(&graph.tasks("foreign")), ["report job of foreign", "delete foreign"]);
        graph.put(Item { namespace: None, ..item("everywhere", &["job"]) });
        assert_eq!(names(&graph.tasks("everywhere"))[0], "report job of everywhere");
        // Nor does a deletion wait for what cannot be owned.
        graph.put(Item { deleting: true, foreground: true, ..item("workload", &["job"]) });
        graph.put(Item { namespace: Some("other".into()), ..item("pod-0", &["workload"]) });
        graph.remove("pod-1");
        assert_eq!(names(&graph.tasks("workload")), ["remove foregroundDeletion of workload"]);
        // An owner without a namespace reaches everywhere.
        graph.put(Item { namespace: None, ..item("pool", &[]) });
        graph.put(Item { namespace: Some("other".into()), ..item("pooled", &["pool"]) });
        assert!(graph.tasks("pooled").is_empty());
    }

    #[test]
    fn a_foreground_deletion_does_not_take_what_another_owner_keeps() {
        let mut graph = family();
        graph.put(item("other", &[]));
        graph.put(item("pod-0", &["workload", "other"]));
        graph.put(Item { deleting: true, foreground: true, ..item("workload", &["job"]) });
        assert_eq!(names(&graph.tasks("workload")), ["release pod-0 from workload", "delete pod-1"]);
    }

    #[test]
    fn a_foreground_deletion_waits_only_for_those_that_block_it() {
        let mut graph = family();
        for name in ["pod-0", "pod-1"] {
            let mut pod = item(name, &["workload"]);
            pod.owners[0].block_owner_deletion = None;
            graph.put(pod);
        }
        graph.put(Item { deleting: true, foreground: true, ..item("workload", &["job"]) });
        assert_eq!(names(&graph.tasks("workload")), ["remove foregroundDeletion of workload"]);
        graph.remove("workload");
        assert_eq!(names(&graph.tasks("pod-0")), ["delete pod-0"]);
    }

    #[test]
    fn objects_that_own_each_other_do_not_wait_for_each_other_for_ever() {
        let mut graph = Graph::default();
        graph.put(Item { deleting: true, foreground: true, ..item("a", &["b"]) });
        graph.put(item("b", &["a"]));
        assert_eq!(names(&graph.tasks("a")), ["unblock and delete b in the foreground"]);
    }

    #[test]
    fn a_foreground_deletion_waits_for_everything_below() {
        let mut graph = family();
        graph.put(Item { deleting: true, foreground: true, ..item("job", &[]) });
        assert_eq!(names(&graph.tasks("job")), ["delete workload in the foreground"]);
        graph.put(Item { deleting: true, foreground: true, ..item("workload", &["job"]) });
        assert!(graph.tasks("job").is_empty());
        assert_eq!(names(&graph.tasks("workload")), ["delete pod-0", "delete pod-1"]);
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
        assert_eq!(names(&graph.tasks("pod-0")), ["delete pod-0"]);
        assert!(graph.tasks("pod-1").is_empty());
    }
}
