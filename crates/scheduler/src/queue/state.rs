//! The four states of a queue, as operators of HPC clusters know them from Slurm's partitions.

/// Whether a queue takes new workloads, and whether it starts those it has. What runs goes on in
/// every state, until somebody cancels it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Takes and starts.
    #[default]
    Up,
    /// Takes, but starts nothing.
    Down,
    /// Refuses new ones with a message, starts those that it has.
    Drain,
    /// Refuses and starts nothing.
    Inactive,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Up, Self::Down, Self::Drain, Self::Inactive];

    /// Whether a new workload may enter the queue.
    pub fn accepts(self) -> bool {
        match self {
            Self::Up | Self::Down => true,
            Self::Drain | Self::Inactive => false,
        }
    }

    /// Whether a workload that is in the queue may start.
    pub fn starts(self) -> bool {
        match self {
            Self::Up | Self::Drain => true,
            Self::Down | Self::Inactive => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_takes_and_starts_what_it_should() {
        let table = [(State::Up, true, true), (State::Down, true, false), (State::Drain, false, true), (State::Inactive, false, false)];
        for (state, accepts, starts) in table {
            assert_eq!((state.accepts(), state.starts()), (accepts, starts), "{state:?}");
        }
        assert_eq!(table.map(|row| row.0), State::ALL);
        assert_eq!(State::default(), State::Up);
    }
}
