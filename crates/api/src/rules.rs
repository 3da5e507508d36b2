//! What a kind adds to its schema: defaults and checks across fields.

use std::fmt;

/// One thing wrong with an object that a person sent, with the path of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path from the object's root: `spec.roles[1].name`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Invalid {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

/// Defaults and checks of a kind beyond its schema. Both are pure.
pub trait Rules {
    /// Subresources beside `status` and `scale`, which the API server answers by code of its own.
    const SUBRESOURCES: &'static [&'static str] = &[];

    /// Fills in what the person left out, so that what is stored says what will happen.
    fn set_defaults(&mut self) {}

    /// Everything wrong with the object; `old` is the stored one on an update.
    fn check(&self, old: Option<&Self>) -> Vec<Invalid> {
        let _ = old;
        Vec::new()
    }
}

/// A state machine's answer to an event that cannot happen in its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible while {state}")]
pub struct Refused {
    pub state: String,
    pub event: String,
}

impl Refused {
    pub fn new(state: impl fmt::Debug, event: impl fmt::Debug) -> Self {
        Self { state: format!("{state:?}"), event: format!("{event:?}") }
    }
}

/// The whole state x event matrix as text, for the committed snapshots.
#[cfg(test)]
pub(crate) fn matrix<S: Copy + fmt::Debug, E: Copy + fmt::Debug>(
    states: &[S],
    events: &[E],
    apply: impl Fn(S, E) -> Result<S, Refused>,
) -> String {
    let mut lines = Vec::new();
    for state in states {
        for event in events {
            let outcome = match apply(*state, *event) {
                Ok(next) => format!("{next:?}"),
                Err(refused) => format!("refused: {refused}"),
            };
            lines.push(format!("{:<12} {:<22} {outcome}", format!("{state:?}"), format!("{event:?}")));
        }
    }
    lines.join("\n")
}
