//! `iam.fermion.dev`: people and the keys of their programs.

pub mod api_key;
pub mod user;

pub use api_key::{ApiKey, ApiKeySpec, ApiKeyStatus};
pub use user::{User, UserSpec, UserStatus};
