//! The whole platform as a process of its own, for tests: a server in a fresh home on a free
//! port, `kubectl` and HTTP against it, and the ways it can be hurt.
//!
//! Start with [`Platform`]. [`Suite`] runs scripts of real clients, [`Kubernetes`] is a real one to
//! compare with. Everything here fails with words that say what is missing; nothing
//! is skipped.

mod http;
mod kubectl;
mod kubernetes;
mod platform;
mod running;
mod suite;
mod transcript;
mod wait;

pub use http::{Answer, Http};
pub use kubectl::{Kubectl, Output};
pub use kubernetes::Kubernetes;
pub use platform::{Node, Platform};
pub use running::Running;
pub use suite::{Client, Suite, Whose};
pub use transcript::{Transcript, normalize};
pub use wait::{eventually, eventually_within};
