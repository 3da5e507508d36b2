//! The local pool: core/v1 Pods on this machine, through containerd's CRI.
//!
//! The node is a plain client of the API. It registers a Node, watches the pods bound to it, runs
//! them, and reports what it sees; the apiserver forwards logs, exec and the like to its
//! [`Node::router`].
//!
//! Invariants:
//! - Containers outlive this process. Whatever it knew is found again in containerd, on disk and
//!   in the stored status, so it may be killed at any moment.
//! - No container starts twice for one attempt: names carry the attempt, and containerd refuses a
//!   name that is taken.
//! - A pod reaches nothing beyond its sandbox and its volumes, whatever its author wrote, unless
//!   the machine's owner allowed it ([`HostAccess`]).
//! - A pod's object is let go only after nothing of it runs and its last status was written.
//!
//! Read [`pod`] first, there `worker` and `decide`.

mod cgroups;
mod config;
pub mod cri;
mod events;
mod gc;
pub mod image;
mod layout;
mod logs;
mod machine;
mod node;
mod official;
pub(crate) mod pod;
mod publish;
mod register;
mod router;
pub mod runtime;
mod shared;
mod start;
mod stats;
mod streaming;
mod usage;

pub use config::{Limits, NodeConfig, Reserved};
pub use node::{Error, Node};
pub use official::{ImageError, ImageProvider, Progress};
pub use pod::{BackOff, HostAccess};
pub use publish::OfficialImages;
pub use register::report_trouble;
pub use start::{Answer as StartAnswer, StartHelper, for_another as start_for_another};
