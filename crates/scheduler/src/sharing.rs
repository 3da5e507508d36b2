//! What work on one node has in common with other work there, and what it keeps others from: the modes of
//! [`OverSubscribe`](crate::queue::OverSubscribe) on one node.
//!
//! Jobs of a queue that share processors hold a part of the node's. Up to N of them hold each processor, and
//! none holds the same one twice. So few processors are enough for that: as many as the largest job asks
//! for, and the N-th part of what all ask for together. (Jobs are laid around the processors one after the
//! other, as tasks around a day in McNaughton, *Scheduling with Deadlines and Loss Functions*, Management
//! Science 6(1), 1959.) Nobody else may have those processors.

use smallvec::SmallVec;

/// How a member shares the processors of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// It has its own.
    #[default]
    Own,
    /// It shares them with other jobs of the group, so many on each.
    Cores { group: u32, count: u32, job: u64 },
    /// Its job has the node to itself.
    Node { job: u64 },
}

/// Those who share processors of a node, of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    id: u32,
    count: u32,
    /// What each job asks for, in thousandths of a processor, and by how many members.
    jobs: SmallVec<[(u64, i64, u32); 4]>,
}

impl Group {
    fn taken(&self) -> i64 {
        let largest = self.jobs.iter().map(|(_, asked, _)| *asked).max().unwrap_or(0);
        let count = i64::from(self.count.max(1));
        largest.max((self.sum() + count - 1) / count)
    }

    fn sum(&self) -> i64 {
        self.jobs.iter().map(|(_, asked, _)| *asked).sum()
    }
}

/// Who shares processors of a node, and who has it to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    groups: SmallVec<[Group; 1]>,
    /// Jobs that have the node to themselves, and by how many members. More than one where it was
    /// promised while others still run.
    alone: SmallVec<[(u64, u32); 1]>,
    /// Members of any job.
    tenants: u32,
}

impl Shared {
    /// Whether one job has the node to itself.
    pub fn is_closed(&self) -> bool {
        !self.alone.is_empty()
    }

    /// Whether a member may be here, whatever is free.
    pub fn admits(&self, sharing: Sharing) -> bool {
        match sharing {
            Sharing::Own | Sharing::Cores { .. } => self.alone.is_empty(),
            Sharing::Node { job } => {
                let own = self.alone.iter().find(|(one, _)| *one == job).map_or(0, |(_, members)| *members);
                self.alone.iter().all(|(one, _)| *one == job) && self.tenants == own
            }
        }
    }

    /// Whether any work shares processors here.
    pub fn is_shared(&self) -> bool {
        !self.groups.is_empty()
    }

    /// How many more thousandths members of a group's job can have together, where so many are nobody's. Below
    /// zero where they have too many.
    pub fn cores_for(&self, free: i64, (group, count, job): (u32, u32, u64)) -> i64 {
        let found = self.groups.iter().find(|one| one.id == group);
        let (taken, sum) = found.map_or((0, 0), |found| (found.taken(), found.sum()));
        let own = found.and_then(|found| found.jobs.iter().find(|one| one.0 == job)).map_or(0, |one| one.1);
        let bound = taken + free;
        (bound - own).min(bound.saturating_mul(i64::from(count)) - sum)
    }

    /// How many more members of a group's job have processors, where so many thousandths are nobody's and each
    /// member asks for so many; at most `most`.
    pub fn room(&self, free: i64, asked: i64, of: (u32, u32, u64), most: u32) -> u32 {
        if asked <= 0 {
            return most;
        }
        let room = self.cores_for(free, of).div_euclid(asked);
        u32::try_from(room.max(0)).unwrap_or(most).min(most)
    }

    /// A member comes that asks for so many thousandths. Answers how many more are taken by it.
    pub fn add(&mut self, sharing: Sharing, asked: i64) -> i64 {
        self.tenants += 1;
        match sharing {
            Sharing::Own => asked,
            Sharing::Node { job } => {
                match self.alone.iter_mut().find(|one| one.0 == job) {
                    Some(one) => one.1 += 1,
                    None => self.alone.push((job, 1)),
                }
                asked
            }
            Sharing::Cores { group, count, job } => {
                let place = self.groups.iter().position(|one| one.id == group).unwrap_or_else(|| {
                    self.groups.push(Group { id: group, count, jobs: SmallVec::new() });
                    self.groups.len() - 1
                });
                let found = &mut self.groups[place];
                let before = found.taken();
                match found.jobs.iter_mut().find(|one| one.0 == job) {
                    Some(one) => (one.1, one.2) = (one.1 + asked, one.2 + 1),
                    None => found.jobs.push((job, asked, 1)),
                }
                found.taken() - before
            }
        }
    }

    /// One goes. Answers how many are free by it.
    ///
    /// # Panics
    /// When it was not there.
    pub fn remove(&mut self, sharing: Sharing, asked: i64) -> i64 {
        self.tenants -= 1;
        match sharing {
            Sharing::Own => asked,
            Sharing::Node { job } => {
                let one = self.alone.iter_mut().find(|one| one.0 == job).expect("who goes was there");
                one.1 -= 1;
                self.alone.retain(|one| one.1 > 0);
                asked
            }
            Sharing::Cores { group, job, .. } => {
                let found = self.groups.iter_mut().find(|one| one.id == group).expect("who goes was there");
                let before = found.taken();
                let one = found.jobs.iter_mut().find(|one| one.0 == job).expect("who goes was there");
                (one.1, one.2) = (one.1 - asked, one.2 - 1);
                found.jobs.retain(|one| one.2 > 0);
                let after = found.taken();
                self.groups.retain(|one| !one.jobs.is_empty());
                before - after
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cores(job: u64) -> Sharing {
        Sharing::Cores { group: 0, count: 2, job }
    }

    #[test]
    fn as_many_processors_are_taken_as_the_largest_asks_for_or_a_part_of_all() {
        let mut shared = Shared::default();
        let steps = [(1, 2000, 2000), (2, 1000, 0), (3, 1000, 0), (4, 1000, 500), (4, 2000, 1000)];
        for (job, asked, taken) in steps {
            assert_eq!(shared.add(cores(job), asked), taken, "{job}");
        }
        // Two of a group on a processor, and none twice on its own.
        assert_eq!(shared.room(0, 1000, (0, 2, 5), 9), 0);
        assert_eq!(shared.room(1000, 1000, (0, 2, 5), 9), 2);
        assert_eq!(shared.room(1000, 1000, (1, 2, 5), 9), 1);
        assert_eq!(shared.remove(cores(4), 2000) + shared.remove(cores(4), 1000), 1500);
    }

    #[test]
    fn who_has_a_node_alone_closes_it_and_needs_it_empty() {
        let mut shared = Shared::default();
        let (one, other) = (Sharing::Node { job: 1 }, Sharing::Node { job: 2 });
        assert!(shared.admits(one));
        shared.add(Sharing::Own, 500);
        assert!(!shared.admits(one) && shared.admits(Sharing::Own) && shared.admits(cores(3)));
        shared.remove(Sharing::Own, 500);
        shared.add(one, 500);
        assert!(shared.is_closed() && shared.admits(one));
        assert!(!shared.admits(other) && !shared.admits(Sharing::Own) && !shared.admits(cores(3)));
        shared.remove(one, 500);
        assert_eq!(shared, Shared::default());
    }

    proptest! {
        /// Jobs laid around the processors they take, one after the other: none is longer than the
        /// circle, and they go around it N times at most.
        #[test]
        fn what_is_taken_is_enough_and_least(jobs in prop::collection::vec((0_u64..5, 1_i64..40), 0..12), count in 1_u32..5, free in 0_i64..100) {
            let mut shared = Shared::default();
            let of = |job| Sharing::Cores { group: 0, count, job };
            let mut taken = 0;
            let mut sums = [0_i64; 5];
            for (job, asked) in &jobs {
                // As many as there is said to be room for have it, and no more.
                let room = shared.room(free, *asked, (0, count, *job), 9);
                let mut tried = shared.clone();
                for _ in 0..room {
                    tried.add(of(*job), *asked);
                }
                let total = |shared: &Shared| shared.groups.first().map_or(0, Group::taken);
                prop_assert!(total(&tried) - total(&shared) <= free);
                if room < 9 {
                    tried.add(of(*job), *asked);
                    prop_assert!(total(&tried) - total(&shared) > free);
                }
                taken += shared.add(of(*job), *asked);
                sums[*job as usize] += asked;
            }
            let enough = |cores: i64| sums.iter().all(|sum| *sum <= cores) && sums.iter().sum::<i64>() <= cores * i64::from(count);
            prop_assert!(enough(taken) && (taken == 0 || !enough(taken - 1)));
            for (job, asked) in jobs.iter().rev() {
                taken -= shared.remove(of(*job), *asked);
            }
            prop_assert_eq!(taken, 0);
            prop_assert_eq!(shared, Shared::default());
        }
    }
}
