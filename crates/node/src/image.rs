//! Official images: built from the recipes in `images/`, cached by content, kept in containerd.

pub(crate) mod import;
pub(crate) mod oci;

pub use import::ImportError;
