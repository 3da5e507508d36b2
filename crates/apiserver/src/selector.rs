//! Label and field selectors, as clients write them in `labelSelector` and `fieldSelector`.
//!
//! Both are parsed in full before anything is matched: a selector that is only half understood
//! would silently select the wrong objects, so every mistake is an error with a position.

mod field;
mod label;

pub use field::{FieldRequirement, FieldSelector, selectable_fields};
pub use label::{LabelOperator, LabelRequirement, LabelSelector};

/// A longer selector is refused before it is parsed. A URL cannot carry much more anyway.
pub const SELECTOR_BYTES_MAX: usize = 16 * 1024;

/// Why a selector was refused. The caller's answer is 400 Bad Request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text is not a selector.
    #[error("unable to parse selector {selector:?} at character {position}: {problem}")]
    Syntax {
        /// The whole selector as it came.
        selector: String,
        /// Characters (not bytes) before the place of the mistake.
        position: usize,
        /// What was found there and what was expected.
        problem: String,
    },
    /// The field exists perhaps, but nothing can be selected by it.
    #[error("field label not supported: {field}; this kind can be selected by {}", allowed.join(", "))]
    FieldNotSupported {
        /// The field asked for.
        field: String,
        /// The fields that can be used.
        allowed: Vec<String>,
    },
    /// The selector is longer than [`SELECTOR_BYTES_MAX`].
    #[error("the selector has {bytes} bytes; at most {SELECTOR_BYTES_MAX} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

fn check_length(selector: &str) -> Result<(), SelectorError> {
    if selector.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError::TooLong { bytes: selector.len() });
    }
    Ok(())
}

fn syntax_error(selector: &str, byte_offset: usize, problem: impl Into<String>) -> SelectorError {
    let position = selector.get(..byte_offset).unwrap_or(selector).chars().count();
    SelectorError::Syntax { selector: selector.to_owned(), position, problem: problem.into() }
}
