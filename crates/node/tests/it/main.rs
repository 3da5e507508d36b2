//! Tests of the node on a real containerd: they need root and the Debian packages `containerd`,
//! `runc`, `containernetworking-plugins`, `busybox-static` and `mmdebstrap`, and fail without them.

mod bench;
mod busybox;
mod fake_api;
mod image;
mod lifecycle;
mod recovery;
mod runtime;
mod sandbox;
mod stream;
mod upkeep;
mod volumes;
