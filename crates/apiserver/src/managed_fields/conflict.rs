//! Conflicts: fields that an apply would change and somebody else owns.

use std::collections::BTreeMap;

use super::entries::{Operation, Writer};
use super::field_set::FieldSet;

/// One field that an apply would change although another manager owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, as messages name it: `"kubectl-edit" using v1`.
    pub manager: String,
    /// The field: `.spec.replicas`.
    pub path: String,
}

/// Why a configuration was not applied: a list that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(Vec<Conflict>);

impl Conflicts {
    pub(super) fn of<'a>(sets: impl IntoIterator<Item = (&'a Writer<'static>, FieldSet)>) -> Option<Self> {
        let mut conflicts = Vec::new();
        for (writer, set) in sets {
            let manager = name(writer);
            conflicts.extend(set.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
        }
        conflicts.sort_by(|one, two| one.manager.cmp(&two.manager));
        (!conflicts.is_empty()).then_some(Self(conflicts))
    }

    /// Each field with its owner, by owner.
    pub fn iter(&self) -> impl Iterator<Item = &Conflict> {
        self.0.iter()
    }
}

/// As kube-apiserver words it: `Apply failed with 1 conflict: conflict with "a": .spec.replicas`.
impl std::fmt::Display for Conflicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [Conflict { manager, path }] = self.0.as_slice() {
            return write!(f, "Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for conflict in &self.0 {
            by_manager.entry(&conflict.manager).or_default().push(&conflict.path);
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        for (place, (manager, paths)) in by_manager.into_iter().enumerate() {
            let line = if place > 0 { "\n" } else { "" };
            write!(f, "{line}conflicts with {manager}:")?;
            for path in paths {
                write!(f, "\n- {path}")?;
            }
        }
        Ok(())
    }
}

fn name(writer: &Writer<'_>) -> String {
    let subresource = if writer.subresource.is_empty() { String::new() } else { format!(" with subresource {:?}", writer.subresource) };
    let version = if writer.operation == Operation::Update { format!(" using {}", writer.api_version) } else { String::new() };
    format!("{:?}{subresource}{version}", writer.manager)
}
