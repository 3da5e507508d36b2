//! What a workload is for, as far as rules tell workloads apart.

/// The kind of environment that a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    Development,
    Training,
    Inference,
    Visualization,
}

impl Environment {
    pub const ALL: [Self; 4] = [Self::Development, Self::Training, Self::Inference, Self::Visualization];

    pub(crate) fn place(self) -> usize {
        match self {
            Self::Development => 0,
            Self::Training => 1,
            Self::Inference => 2,
            Self::Visualization => 3,
        }
    }
}
