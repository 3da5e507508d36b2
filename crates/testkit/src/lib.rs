//! The whole platform as a process of its own, for tests: a server in a fresh home on a free
//! port, `kubectl` and HTTP against it, and the ways it can be hurt.
//!
//! Start with [`Platform`]. Everything here fails with words that say what is missing; nothing
//! is skipped.

mod http;
mod kubectl;
mod platform;
mod running;
mod wait;

pub use http::{Answer, Http};
pub use kubectl::{Kubectl, Output};
pub use platform::{Node, Platform};
pub use running::Running;
pub use wait::{eventually, eventually_within};
