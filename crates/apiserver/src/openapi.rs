//! OpenAPI v3: an index, and one document for each group and version.
//!
//! `kubectl` reads them to explain kinds, and to learn that the server validates fields itself:
//! for that, every `PATCH` names its kind and the query parameter `fieldValidation`. Generators
//! and dynamic clients read the paths. The documents are made once, when the server starts.

mod names;
mod paths;
mod schemas;
mod shared;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What is told of one kind.
#[derive(Debug, Clone)]
pub struct OpenApiKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// `v1`, `v1alpha1`
    pub version: String,
    /// `TrainingJob`
    pub kind: String,
    /// `trainingjobs`
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The schema of the whole object, definitions in `$defs`.
    pub schema: Value,
    /// `status`, `scale`, `exec` and so on.
    pub subresources: Vec<String>,
    /// `create`, `get`, `list` and so on.
    pub verbs: Vec<String>,
}

/// The documents, ready to be sent as `application/json`.
#[derive(Debug, Clone)]
pub struct OpenApi {
    index: Bytes,
    documents: BTreeMap<String, Bytes>,
}

impl OpenApi {
    /// Makes the documents of all kinds.
    pub fn new(kinds: Vec<OpenApiKind>) -> Self {
        let mut groups: BTreeMap<String, Vec<OpenApiKind>> = BTreeMap::new();
        for kind in kinds {
            groups.entry(names::group_version_path(&kind.group, &kind.version)).or_default().push(kind);
        }
        let documents: BTreeMap<String, Bytes> =
            groups.into_iter().map(|(path, kinds)| (path, Bytes::from(document(kinds).to_string()))).collect();
        let addresses: Map<String, Value> = documents
            .iter()
            .map(|(path, document)| {
                let hash = hex(&Sha256::digest(document));
                (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}))
            })
            .collect();
        Self { index: json!({"paths": addresses}).to_string().into(), documents }
    }

    /// `/openapi/v3`: where the documents are. The addresses change with the documents, so that
    /// clients may keep what they have read.
    pub fn index(&self) -> Bytes {
        self.index.clone()
    }

    /// The document at `/openapi/v3/{path}`, where path is `api/v1` or `apis/GROUP/VERSION`.
    pub fn document(&self, path: &str) -> Option<Bytes> {
        self.documents.get(path).cloned()
    }
}

fn document(kinds: Vec<OpenApiKind>) -> Value {
    let mut paths = Map::new();
    let mut components = schemas::Components::default();
    for kind in kinds {
        paths::add(&mut paths, &kind);
        components.add_kind(kind);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Fermion", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "schemas": components.into_schemas(),
            "securitySchemes": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header",
                "description": "Bearer Token authentication"}},
        },
        "security": [{"BearerToken": []}],
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests;
