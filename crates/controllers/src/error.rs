//! What can go wrong in a reconciliation.

use kube::{Resource, ResourceExt as _};

/// A reconciliation that did not come to its end. It is tried again; none is final.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with an error or not at all.
    #[error("cannot {attempt} {object}")]
    Api {
        attempt: &'static str,
        object: String,
        #[source]
        source: kube::Error,
    },
    /// Somebody wrote the object since it was read, so the decision may be out of date.
    #[error("{object} was changed by another writer; deciding again")]
    Conflict { object: String },
    /// An object lacks a field that the API server sets on every object.
    #[error("{object} has no {field}, which the API server sets on every object")]
    Incomplete { object: String, field: &'static str },
    /// The name needed is used by an object of somebody else.
    #[error("{wanted_by} needs the name of {object}, which belongs to somebody else; delete or rename one of them")]
    NameTaken { object: String, wanted_by: String },
    /// A value cannot be written as JSON.
    #[error("cannot write {object} as JSON")]
    Json {
        object: String,
        #[source]
        source: serde_json::Error,
    },
    /// The machine gave no random bytes.
    #[error("cannot get random bytes for a token of {object}")]
    Random {
        object: String,
        #[source]
        source: getrandom::Error,
    },
    /// A part that runs until shutdown ended before.
    #[error("a part of the controllers stopped: {story}")]
    PartEnded { story: String },
    /// A watch ended that should never end.
    #[error("the {cache} cache stopped before it was filled")]
    CacheStopped { cache: &'static str },
}

impl Error {
    /// Names what was attempted when the API refused; a conflict becomes [`Error::Conflict`].
    pub(crate) fn api(attempt: &'static str, object: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let object = object.into();
        move |source| match &source {
            kube::Error::Api(status) if status.is_conflict() && !status.is_already_exists() => Self::Conflict { object },
            _ => Self::Api { attempt, object, source },
        }
    }
}

/// The error and its causes in one line, for the log.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let story = error.to_string();
        if !text.contains(&story) {
            text.push_str(": ");
            text.push_str(&story);
        }
        cause = error.source();
    }
    text
}

/// `Kind namespace/name`, for messages.
pub(crate) fn describe<K: Resource<DynamicType = ()>>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", K::kind(&()), object.name_any()),
        None => format!("{} {}", K::kind(&()), object.name_any()),
    }
}
