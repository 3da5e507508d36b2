//! Tests of the node on a real containerd: they need root and the Debian packages `containerd`,
//! `runc`, `containernetworking-plugins` and `mmdebstrap`, and fail without them.

mod image;
mod runtime;
mod sandbox;
