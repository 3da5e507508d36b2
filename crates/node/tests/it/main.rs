//! Tests of the node on a real containerd: they need root and the Debian packages `containerd`,
//! `runc`, `containernetworking-plugins` and `mmdebstrap`, and fail without them.

mod bench;
mod busybox;
mod fake_api;
mod image;
mod lifecycle;
mod runtime;
mod sandbox;
mod stream;
