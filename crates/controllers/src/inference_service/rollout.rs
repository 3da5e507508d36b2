//! How many pods each revision of a service has while one takes over from another.
//!
//! Invariants, held by a property test over random sequences
//! - A ready pod of an old revision goes only while at least as many ready pods as are wanted
//!   stay.
//! - At most one pod more than wanted is ready or becoming so, old pods that are not ready
//!   aside.
//! - It ends: with every step the new revision grows, or the old ones shrink, or it waits for
//!   a pod to become ready.

/// A revision's pods, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pods {
    /// Replicas its Workload asks for now.
    pub replicas: i32,
    /// Indexes of pods that are ready and stay.
    pub ready: Vec<i32>,
}

impl Pods {
    fn is_ready(&self, index: i32) -> bool {
        self.ready.contains(&index)
    }

    /// Ready pods that a Workload of that size keeps.
    fn ready_within(&self, replicas: i32) -> i32 {
        count(self.ready.iter().filter(|index| **index < replicas).count())
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Replicas of each revision after the next step.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub new: i32,
    /// As many as there are old revisions.
    pub old: Vec<i32>,
}

/// The next step towards `wanted` replicas of the new revision and none of the old ones, the
/// oldest first.
pub(super) fn step(wanted: i32, new: &Pods, old: &[Pods]) -> Sizes {
    if old.is_empty() {
        return Sizes { new: wanted, old: Vec::new() };
    }
    let ready_old: i32 = old.iter().map(|revision| revision.ready_within(revision.replicas)).sum();
    // Old pods that are not ready do not hold up the new ones.
    let room = wanted.saturating_add(1).saturating_sub(ready_old);
    let new_size = room.max(new.replicas).clamp(0, wanted);

    let mut ready = ready_old + new.ready_within(new_size);
    let mut sizes = Vec::new();
    for revision in old {
        let mut size = revision.replicas.max(0);
        while size > 0 {
            if revision.is_ready(size - 1) {
                if ready <= wanted {
                    break;
                }
                ready -= 1;
            }
            size -= 1;
        }
        sizes.push(size);
    }
    Sizes { new: new_size, old: sizes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pods(replicas: i32, ready: &[i32]) -> Pods {
        Pods { replicas, ready: ready.to_vec() }
    }

    #[test]
    fn one_pod_at_a_time_takes_over() {
        let start = step(2, &pods(0, &[]), &[pods(2, &[0, 1])]);
        assert_eq!(start, Sizes { new: 1, old: vec![2] });
        let starting = step(2, &pods(1, &[]), &[pods(2, &[0, 1])]);
        assert_eq!(starting, Sizes { new: 1, old: vec![2] });
        let first_ready = step(2, &pods(1, &[0]), &[pods(2, &[0, 1])]);
        assert_eq!(first_ready, Sizes { new: 1, old: vec![1] });
        let second = step(2, &pods(1, &[0]), &[pods(1, &[0])]);
        assert_eq!(second, Sizes { new: 2, old: vec![1] });
        let done = step(2, &pods(2, &[0, 1]), &[pods(1, &[0])]);
        assert_eq!(done, Sizes { new: 2, old: vec![0] });
    }

    #[test]
    fn old_pods_that_are_not_ready_go_at_once_and_hold_nobody_up() {
        assert_eq!(step(2, &pods(0, &[]), &[pods(2, &[])]), Sizes { new: 2, old: vec![0] });
        // The one that is not ready stands before one that is.
        assert_eq!(step(2, &pods(1, &[0]), &[pods(2, &[1])]), Sizes { new: 2, old: vec![2] });
        assert_eq!(step(2, &pods(2, &[0, 1]), &[pods(2, &[1])]), Sizes { new: 2, old: vec![0] });
    }

    #[test]
    fn scaling_to_nothing_removes_everything() {
        assert_eq!(step(0, &pods(1, &[0]), &[pods(2, &[0, 1])]), Sizes { new: 0, old: vec![0] });
    }

    /// Plays a rollout: in each turn the Workloads take their sizes and some new pod, chosen by
    /// `seed`, becomes ready. Checks that enough pods are ready throughout.
    fn play(wanted: i32, old: Vec<Pods>, seed: u64) -> Result<(), TestCaseError> {
        let mut new = pods(0, &[]);
        let mut old = old;
        let mut random = seed;
        let ready = |new: &Pods, old: &[Pods]| new.ready.len() + old.iter().map(|revision| revision.ready.len()).sum::<usize>();
        let enough = usize::try_from(wanted).expect("not negative").min(ready(&new, &old));
        for _ in 0..100 {
            let sizes = step(wanted, &new, &old);
            prop_assert!(sizes.new >= new.replicas, "the new revision never shrinks");
            new.replicas = sizes.new;
            for (revision, size) in old.iter_mut().zip(sizes.old) {
                prop_assert!(size <= revision.replicas);
                revision.replicas = size;
                revision.ready.retain(|index| *index < size);
            }
            prop_assert!(ready(&new, &old) >= enough, "{wanted} wanted, {new:?} {old:?}");
            prop_assert!(ready(&new, &old) <= ready(&pods(0, &[]), &old) + usize::try_from(wanted).expect("not negative"));
            if new.ready.len() == usize::try_from(wanted).expect("not negative") && old.iter().all(|revision| revision.replicas == 0) {
                return Ok(());
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let starting: Vec<i32> = (0..new.replicas).filter(|index| !new.is_ready(*index)).collect();
            if !starting.is_empty() {
                new.ready.push(starting[usize::try_from(random >> 33).expect("small") % starting.len()]);
            }
        }
        Err(TestCaseError::fail(format!("never ended: {new:?} {old:?}")))
    }

    fn revisions() -> impl Strategy<Value = Vec<Pods>> {
        let revision = (0..5_i32, any::<u8>())
            .prop_map(|(replicas, mask)| Pods { replicas, ready: (0..replicas).filter(|index| mask & (1 << index) != 0).collect() });
        proptest::collection::vec(revision, 0..3)
    }

    proptest! {
        #[test]
        fn a_rollout_keeps_enough_ready_and_ends(wanted in 0..5_i32, old in revisions(), seed in any::<u64>()) {
            play(wanted, old, seed)?;
        }
    }
}
