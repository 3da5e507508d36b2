//! `assets.fermion.dev`: what workloads are made of.

pub mod image;

pub use image::{Image, ImageSpec, ImageStatus};
