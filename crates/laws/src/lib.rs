//! What holds whatever a client sends, as functions of plain bytes: a fuzzer looks for bytes that
//! break a law (`cargo xtask fuzz`), and a test tries again all that were ever worth keeping
//! (`fuzz/corpus`, `fuzz/found`).
//!
//! A law reads its bytes as decisions ([`input`]): which object, which patch, which selector. So
//! every input means something, and small changes of the bytes are small changes of what is tried.
//!
//! Invariants
//! - A law depends on its bytes alone: no clock, no randomness, nothing left over from other bytes.
//! - A law that is broken panics and says what it was about.
//!
//! Start with [`patch`], the shortest.

mod bodies;
mod cel;
pub mod input;
mod managed_fields;
mod openapi;
mod patch;
mod schemas;
mod selectors;

/// The names of all laws; each is a fuzz target in `fuzz/fuzz_targets`.
pub const NAMES: [&str; 6] = ["bodies", "cel", "managed_fields", "openapi", "patch", "selectors"];

/// A law, with what it needs beside the bytes.
pub struct Law(Box<Check>);

/// Panics when the bytes break the law.
type Check = dyn FnMut(&[u8]) + Send;

impl Law {
    /// The law of one of the [`NAMES`].
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn named(name: &str) -> Self {
        match name {
            "bodies" => Self(Box::new(bodies::check)),
            "cel" => Self(Box::new(cel::check)),
            "managed_fields" => Self(Box::new(managed_fields::check)),
            "openapi" => Self(Box::new(openapi::check)),
            "patch" => Self(Box::new(patch::check)),
            "selectors" => {
                let mut database = selectors::Database::new();
                Self(Box::new(move |bytes| database.check(bytes)))
            }
            _ => panic!("there is no law {name:?}, only {NAMES:?}"),
        }
    }

    /// Holds the law against some bytes.
    ///
    /// # Panics
    /// When they break it.
    pub fn check(&mut self, bytes: &[u8]) {
        (self.0)(bytes);
    }
}
