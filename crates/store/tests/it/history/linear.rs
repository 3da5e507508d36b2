//! Whether what clients saw of one object can have happened one step at a time.
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
//! configurations that lead nowhere ("Testing for linearizability", 2017).

use std::collections::HashSet;

/// The newest version of an object: its revision, where anybody learned it, and its value.
pub(crate) type Version = Option<(Option<u64>, u64)>;

/// What a client asked, with what it expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Get,
    Put,
    Create,
    Replace { expected: u64 },
    Delete,
}

/// What it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Found {
        revision: u64,
        value: u64,
    },
    Nothing,
    Written {
        revision: u64,
    },
    Exists,
    Conflict {
        actual: u64,
    },
    /// No answer, or one that says that nobody knows.
    Unknown,
}

/// One operation on one object. Times are ticks of one clock.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) asked: Asked,
    /// Unlike that of any other operation.
    pub(crate) value: u64,
    /// The revision it took, if anybody saw its value: for those whose answer was lost.
    pub(crate) learned: Option<u64>,
    pub(crate) told: Told,
    pub(crate) began: u64,
    /// `u64::MAX` if it may still happen.
    pub(crate) ended: u64,
}

/// What the object is after the operation, if what was told fits what it was.
fn step(operation: &Operation, now: Version) -> Option<Version> {
    let fits = |revision: u64| now.is_some_and(|(known, _)| known.is_none_or(|known| known == revision));
    let written = |revision: Option<u64>| Some(Some((revision, operation.value)));
    match (operation.asked, operation.told) {
        (Asked::Get, Told::Found { revision, value }) => {
            (now.is_some_and(|(_, current)| current == value) && fits(revision)).then_some(now)
        }
        (Asked::Get, Told::Nothing) => now.is_none().then_some(now),
        (Asked::Get, Told::Unknown) => Some(now),
        (Asked::Put, Told::Written { revision }) => written(Some(revision)),
        (Asked::Put, Told::Unknown) => written(operation.learned),
        (Asked::Create, Told::Written { revision }) => {
            if now.is_none() {
                written(Some(revision))
            } else {
                None
            }
        }
        (Asked::Create, Told::Exists) => now.is_some().then_some(now),
        (Asked::Create, Told::Unknown) => {
            if now.is_none() {
                written(operation.learned)
            } else {
                Some(now)
            }
        }
        (Asked::Replace { expected }, Told::Written { revision }) => {
            if fits(expected) {
                written(Some(revision))
            } else {
                None
            }
        }
        (Asked::Replace { expected }, Told::Conflict { actual }) => (fits(actual) && actual != expected).then_some(now),
        (Asked::Replace { .. } | Asked::Delete, Told::Nothing) => now.is_none().then_some(now),
        (Asked::Replace { expected }, Told::Unknown) => {
            if fits(expected) {
                written(operation.learned)
            } else {
                Some(now)
            }
        }
        (Asked::Delete, Told::Written { .. }) => now.is_some().then_some(None),
        (Asked::Delete, Told::Unknown) => Some(None),
        _ => None,
    }
}

/// Whether there is an order, true to the times, in which every answer is right.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
    let mut dead_ends = HashSet::new();
    search(operations, &mut vec![false; operations.len()], None, &mut dead_ends)
}

fn search(operations: &[Operation], done: &mut Vec<bool>, now: Version, dead_ends: &mut HashSet<(Vec<bool>, Version)>) -> bool {
    let left = || operations.iter().enumerate().filter(|(index, _)| !done[*index]);
    // What was not answered need not have happened.
    if left().all(|(_, operation)| operation.told == Told::Unknown) {
        return true;
    }
    if dead_ends.contains(&(done.clone(), now)) {
        return false;
    }
    let first_end = left().map(|(_, operation)| operation.ended).min().unwrap_or(u64::MAX);
    let next: Vec<usize> = left().filter(|(_, operation)| operation.began < first_end).map(|(index, _)| index).collect();
    for index in next {
        if let Some(after) = step(&operations[index], now) {
            done[index] = true;
            if search(operations, done, after, dead_ends) {
                return true;
            }
            done[index] = false;
        }
    }
    dead_ends.insert((done.clone(), now));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(asked: Asked, value: u64, told: Told, began: u64, ended: u64) -> Operation {
        Operation { asked, value, learned: None, told, began, ended }
    }

    #[test]
    fn reads_of_the_past_are_found() {
        let put = |value, revision, began, ended| operation(Asked::Put, value, Told::Written { revision }, began, ended);
        let get = |value, revision, began, ended| operation(Asked::Get, 0, Told::Found { revision, value }, began, ended);
        // While a write goes on, both values may be read, but not the old one after the new one.
        assert!(is_linearizable(&[put(1, 1, 0, 1), put(2, 2, 2, 9), get(1, 1, 3, 4), get(2, 2, 5, 6)]));
        assert!(!is_linearizable(&[put(1, 1, 0, 1), put(2, 2, 2, 9), get(2, 2, 3, 4), get(1, 1, 5, 6)]));
        assert!(!is_linearizable(&[put(1, 1, 0, 1), put(2, 2, 2, 3), get(1, 1, 4, 5)]));
        assert!(!is_linearizable(&[put(1, 1, 0, 1), get(1, 7, 2, 3)]));
    }

    #[test]
    fn two_winners_of_one_revision_are_found() {
        let create = operation(Asked::Create, 1, Told::Written { revision: 1 }, 0, 1);
        let replace = |value, revision| operation(Asked::Replace { expected: 1 }, value, Told::Written { revision }, 2, 9);
        assert!(is_linearizable(&[create.clone(), replace(2, 2)]));
        assert!(!is_linearizable(&[create.clone(), replace(2, 2), replace(3, 3)]));
        let second = operation(Asked::Create, 4, Told::Written { revision: 2 }, 2, 3);
        assert!(!is_linearizable(&[create, second]));
    }

    #[test]
    fn what_was_not_answered_may_have_happened_or_not_or_later() {
        let lost = operation(Asked::Put, 1, Told::Unknown, 0, u64::MAX);
        let nothing = operation(Asked::Get, 0, Told::Nothing, 1, 2);
        let found = operation(Asked::Get, 0, Told::Found { revision: 5, value: 1 }, 3, 4);
        let gone = operation(Asked::Get, 0, Told::Nothing, 5, 6);
        assert!(is_linearizable(&[lost.clone(), nothing.clone()]));
        assert!(is_linearizable(&[lost.clone(), nothing.clone(), found.clone()]));
        assert!(!is_linearizable(&[lost.clone(), nothing.clone(), found.clone(), gone.clone()]));
        let deletion = operation(Asked::Delete, 0, Told::Unknown, 4, u64::MAX);
        assert!(is_linearizable(&[lost, nothing, found, deletion, gone]));
    }
}
