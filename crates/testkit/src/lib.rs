//! The whole platform as a process of its own, for tests: a server in a fresh home on a free
//! port, `kubectl` and HTTP against it, and the ways it can be hurt.
//!
//! Start with [`Platform`]; with the feature `server` there is a `Server` in the test's own process,
//! which is less and starts sooner. [`Suite`] runs scripts of real clients, [`Kubernetes`] is a real one to
//! compare with. [`Cluster`] is a PostgreSQL of the tests' own, [`SmallDisk`] a disk that can be
//! filled. Everything here fails with words that say what is missing; nothing is skipped.

mod cluster;
mod http;
mod kubectl;
mod kubernetes;
mod platform;
mod running;
#[cfg(feature = "server")]
mod server;
mod small_disk;
mod suite;
mod transcript;
mod wait;

pub use cluster::{Cluster, OwnCluster, create_for_postgres, give_to_postgres};
pub use http::{Answer, Http};
pub use kubectl::{Kubectl, Output};
pub use kubernetes::Kubernetes;
pub use platform::{Database, Node, Platform};
pub use running::Running;
#[cfg(feature = "server")]
pub use server::{Server, with_server};
pub use small_disk::SmallDisk;
pub use suite::{Client, Suite, Whose};
pub use transcript::{Transcript, normalize};
pub use wait::{eventually, eventually_within};
