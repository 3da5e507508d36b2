//! Whether jobs of a queue share cores: Slurm's `OverSubscribe`.
//!
//! Only cores (and what goes with them) are ever shared, never accelerators and other generic
//! resources. The count is of jobs of one queue: a job that a more important queue pushed aside
//! (suspended by preemption) does not take one of its places.
//!
//! | | ordinary sharing | sharing caused by preemption | whole nodes |
//! |---|---|---|---|
//! | `NO` | never | never | no |
//! | `YES:N` | jobs that ask for it, up to N on a core | yes | no |
//! | `FORCE:N` | all jobs, whatever they ask, up to N on a core | yes | no |
//! | `FORCE:1` | never | yes | no |
//! | `EXCLUSIVE` | never | never | yes: all cores and generic resources, only the memory asked for |

use std::num::NonZeroU32;

/// The word by which a queue's sharing is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    No,
    Yes,
    Force,
    Exclusive,
}

/// How a queue's jobs share cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OverSubscribe {
    #[default]
    No,
    /// Jobs that ask for it share, so many at once on a core.
    Yes(NonZeroU32),
    /// All jobs share, so many on a core, suspended ones included.
    Force(NonZeroU32),
    /// A job has its nodes to itself.
    Exclusive,
}

/// Why a choice of sharing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("a count goes only with YES or FORCE; leave it out")]
    CountWithoutSharing,
    #[error("the count of jobs on a core must be from 1 to {}", OverSubscribe::COUNT_MAX)]
    CountOutOfRange,
}

/// What a job is doing on the cores it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    Running,
    /// Waits for its turn among those that share the cores.
    SuspendedByTurns,
    /// Was pushed aside by a more important job.
    SuspendedByPreemption,
}

/// A job on a core, as far as sharing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Occupant {
    /// Whether it was submitted with the wish to share.
    pub asks_to_share: bool,
    pub activity: Activity,
}

impl OverSubscribe {
    /// How many jobs share a core where nobody said. Slurm's default too.
    pub const COUNT_DEFAULT: NonZeroU32 = NonZeroU32::new(4).expect("four is not zero");
    /// More jobs than this on a core would only take turns.
    pub const COUNT_MAX: u32 = 1024;

    pub fn new(mode: Mode, count: Option<u32>) -> Result<Self, Refused> {
        let bounded = |count: u32| NonZeroU32::new(count).filter(|count| count.get() <= Self::COUNT_MAX).ok_or(Refused::CountOutOfRange);
        match (mode, count) {
            (Mode::No, None) => Ok(Self::No),
            (Mode::Exclusive, None) => Ok(Self::Exclusive),
            (Mode::No | Mode::Exclusive, Some(_)) => Err(Refused::CountWithoutSharing),
            (Mode::Yes, count) => count.map_or(Ok(Self::COUNT_DEFAULT), bounded).map(Self::Yes),
            (Mode::Force, count) => count.map_or(Ok(Self::COUNT_DEFAULT), bounded).map(Self::Force),
        }
    }

    pub fn mode(self) -> Mode {
        match self {
            Self::No => Mode::No,
            Self::Yes(_) => Mode::Yes,
            Self::Force(_) => Mode::Force,
            Self::Exclusive => Mode::Exclusive,
        }
    }

    /// Whether a job shares its cores with others of its queue.
    pub fn shares(self, asks_to_share: bool) -> bool {
        match self {
            Self::No | Self::Exclusive => false,
            Self::Yes(count) => asks_to_share && count.get() > 1,
            Self::Force(count) => count.get() > 1,
        }
    }

    /// How many jobs of the queue hold a core at most, those that take turns included.
    pub fn jobs_per_core_max(self) -> u32 {
        match self {
            Self::No | Self::Exclusive => 1,
            Self::Yes(count) | Self::Force(count) => count.get(),
        }
    }

    /// Whether a job may start on cores of a job that it pushes aside and that keeps them while
    /// it is suspended. Where not, a job that is preempted must give its cores back: it is
    /// requeued or cancelled.
    pub fn shares_by_preemption(self) -> bool {
        match self {
            Self::No | Self::Exclusive => false,
            Self::Yes(_) | Self::Force(_) => true,
        }
    }

    /// Whether a job has its nodes to itself.
    pub fn takes_whole_nodes(self) -> bool {
        self == Self::Exclusive
    }

    /// Whether accelerators and other generic resources are shared: by no choice.
    pub fn shares_generic_resources(self) -> bool {
        false
    }

    /// Whether a job has all memory of its nodes: by no choice, not even with the nodes alone.
    pub fn takes_whole_memory(self) -> bool {
        false
    }

    /// Whether a newcomer may have a core that these jobs hold.
    pub fn has_room(self, asks_to_share: bool, occupants: &[Occupant]) -> bool {
        let (aside, here): (Vec<&Occupant>, Vec<&Occupant>) =
            occupants.iter().partition(|occupant| occupant.activity == Activity::SuspendedByPreemption);
        if !aside.is_empty() && !self.shares_by_preemption() {
            return false;
        }
        here.is_empty()
            || self.shares(asks_to_share)
                && here.iter().all(|occupant| self.shares(occupant.asks_to_share))
                && here.len() < self.jobs_per_core_max() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    #[test]
    fn each_choice_answers_as_the_table_says() {
        // (choice, shares if asked, shares if not asked, at most, by preemption, whole nodes)
        let table = [
            (OverSubscribe::No, false, false, 1, false, false),
            (OverSubscribe::Yes(count(1)), false, false, 1, true, false),
            (OverSubscribe::Yes(count(4)), true, false, 4, true, false),
            (OverSubscribe::Force(count(1)), false, false, 1, true, false),
            (OverSubscribe::Force(count(4)), true, true, 4, true, false),
            (OverSubscribe::Exclusive, false, false, 1, false, true),
        ];
        for (choice, asked, unasked, at_most, by_preemption, whole) in table {
            let answers = (
                choice,
                choice.shares(true),
                choice.shares(false),
                choice.jobs_per_core_max(),
                choice.shares_by_preemption(),
                choice.takes_whole_nodes(),
            );
            assert_eq!(answers, (choice, asked, unasked, at_most, by_preemption, whole));
            assert!(!choice.shares_generic_resources() && !choice.takes_whole_memory());
        }
    }

    #[test]
    fn a_count_goes_only_with_yes_and_force() {
        let table = [
            (Mode::No, None, Ok(OverSubscribe::No)),
            (Mode::No, Some(2), Err(Refused::CountWithoutSharing)),
            (Mode::Exclusive, None, Ok(OverSubscribe::Exclusive)),
            (Mode::Exclusive, Some(1), Err(Refused::CountWithoutSharing)),
            (Mode::Yes, None, Ok(OverSubscribe::Yes(count(4)))),
            (Mode::Yes, Some(2), Ok(OverSubscribe::Yes(count(2)))),
            (Mode::Yes, Some(0), Err(Refused::CountOutOfRange)),
            (Mode::Force, None, Ok(OverSubscribe::Force(count(4)))),
            (Mode::Force, Some(1), Ok(OverSubscribe::Force(count(1)))),
            (Mode::Force, Some(OverSubscribe::COUNT_MAX + 1), Err(Refused::CountOutOfRange)),
        ];
        for (mode, number, expected) in table {
            assert_eq!(OverSubscribe::new(mode, number), expected, "{mode:?} {number:?}");
            if let Ok(choice) = expected {
                assert_eq!(choice.mode(), mode);
            }
        }
    }

    #[test]
    fn a_core_has_room_for_who_may_share_it() {
        use Activity::{Running, SuspendedByPreemption, SuspendedByTurns};
        let on = |asks_to_share, activity| Occupant { asks_to_share, activity };
        // (choice, newcomer asks, who is there, room)
        let table: [(OverSubscribe, bool, &[Occupant], bool); 19] = [
            (OverSubscribe::No, true, &[], true),
            (OverSubscribe::No, true, &[on(true, Running)], false),
            (OverSubscribe::No, true, &[on(true, SuspendedByPreemption)], false),
            (OverSubscribe::Yes(count(2)), true, &[on(true, Running)], true),
            (OverSubscribe::Yes(count(2)), false, &[on(true, Running)], false),
            (OverSubscribe::Yes(count(2)), true, &[on(false, Running)], false),
            (OverSubscribe::Yes(count(2)), true, &[on(true, Running), on(true, Running)], false),
            (OverSubscribe::Yes(count(2)), false, &[on(false, SuspendedByPreemption)], true),
            (OverSubscribe::Force(count(1)), true, &[], true),
            (OverSubscribe::Force(count(1)), true, &[on(true, Running)], false),
            (OverSubscribe::Force(count(1)), true, &[on(true, SuspendedByTurns)], false),
            (OverSubscribe::Force(count(1)), false, &[on(false, SuspendedByPreemption)], true),
            (OverSubscribe::Force(count(2)), false, &[on(false, Running)], true),
            (OverSubscribe::Force(count(2)), false, &[on(false, SuspendedByTurns)], true),
            (OverSubscribe::Force(count(2)), false, &[on(false, Running), on(false, SuspendedByTurns)], false),
            (OverSubscribe::Force(count(2)), false, &[on(false, Running), on(false, SuspendedByPreemption)], true),
            (OverSubscribe::Exclusive, true, &[], true),
            (OverSubscribe::Exclusive, true, &[on(true, Running)], false),
            (OverSubscribe::Exclusive, true, &[on(true, SuspendedByPreemption)], false),
        ];
        for (choice, asks, occupants, room) in table {
            assert_eq!(choice.has_room(asks, occupants), room, "{choice:?}, asks {asks}, beside {occupants:?}");
        }
    }
}
