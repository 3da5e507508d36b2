//! OpenAPI v3: an index, and one document for each group and version; and OpenAPI v2, which is
//! all of them in one.
//!
//! `kubectl` reads them to explain kinds, and to learn that the server validates fields itself:
//! for that, every `PATCH` names its kind and the query parameter `fieldValidation`. Generators
//! and dynamic clients read the paths. The platform's own documents are
//! made once, when the server starts; those of custom kinds when they are first asked for after
//! their definitions changed.

pub(crate) mod names;
mod paths;
mod schemas;
mod shared;
mod version_2;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What is told of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenApiKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// `v1`, `v1alpha1`
    pub version: String,
    /// `TrainingJob`
    pub kind: String,
    /// `TrainingJobList`
    pub list_kind: String,
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

/// The documents, ready to be sent as `application/json`. They share what did not change with
/// the documents that they were made from.
#[derive(Debug, Clone)]
pub struct OpenApi {
    documents: BTreeMap<String, Arc<Document>>,
    index: OnceLock<Bytes>,
    version_2: OnceLock<Made>,
    version_2_protobuf: OnceLock<Made>,
}

/// The document of one group and version.
#[derive(Debug)]
struct Document {
    /// What it is made from when it is first asked for. None of what was made at the start: as
    /// trees those schemas take megabytes.
    kinds: Vec<Arc<OpenApiKind>>,
    made: OnceLock<Made>,
}

#[derive(Debug, Clone)]
struct Made {
    body: Bytes,
    hash: String,
}

impl Made {
    fn new(body: Bytes) -> Self {
        let hash = hex(&Sha256::digest(&body));
        Self { body, hash }
    }
}

impl Document {
    fn made(&self) -> &Made {
        self.made.get_or_init(|| Made::new(document(self.kinds.iter().map(|kind| (**kind).clone()).collect()).to_string().into()))
    }
}

impl OpenApi {
    /// Makes the documents of all kinds.
    pub fn new(kinds: Vec<OpenApiKind>) -> Self {
        let mut groups: BTreeMap<String, Vec<OpenApiKind>> = BTreeMap::new();
        for kind in kinds {
            groups.entry(names::group_version_path(&kind.group, &kind.version)).or_default().push(kind);
        }
        let make = |kinds| Document { kinds: Vec::new(), made: OnceLock::from(Made::new(document(kinds).to_string().into())) };
        let documents = groups.into_iter().map(|(path, kinds)| (path, Arc::new(make(kinds)))).collect();
        Self::of(documents)
    }

    fn of(documents: BTreeMap<String, Arc<Document>>) -> Self {
        Self { documents, index: OnceLock::new(), version_2: OnceLock::new(), version_2_protobuf: OnceLock::new() }
    }

    /// These documents and those of further kinds, of groups that have none here. Documents that
    /// `before` made from the same kinds are taken over.
    #[must_use]
    pub fn with(&self, kinds: &[Arc<OpenApiKind>], before: Option<&Self>) -> Self {
        let mut groups: BTreeMap<String, Vec<Arc<OpenApiKind>>> = BTreeMap::new();
        for kind in kinds {
            groups.entry(names::group_version_path(&kind.group, &kind.version)).or_default().push(kind.clone());
        }
        let mut documents = self.documents.clone();
        for (path, kinds) in groups {
            let is_same = |known: &&Arc<Document>| {
                known.kinds.len() == kinds.len() && std::iter::zip(&known.kinds, &kinds).all(|(one, two)| Arc::ptr_eq(one, two))
            };
            let known = before.and_then(|before| before.documents.get(&path)).filter(is_same).cloned();
            documents.entry(path).or_insert_with(|| known.unwrap_or_else(|| Arc::new(Document { kinds, made: OnceLock::new() })));
        }
        Self::of(documents)
    }

    /// `/openapi/v3`: where the documents are. The addresses change with the documents, so that
    /// clients may keep what they have read.
    pub fn index(&self) -> Bytes {
        let address = |(path, document): (&String, &Arc<Document>)| {
            (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", document.made().hash)}))
        };
        self.index.get_or_init(|| json!({"paths": self.documents.iter().map(address).collect::<Map<_, _>>()}).to_string().into()).clone()
    }

    /// The document at `/openapi/v3/{path}`, where path is `api/v1` or `apis/GROUP/VERSION`.
    pub fn document(&self, path: &str) -> Option<Bytes> {
        self.documents.get(path).map(|document| document.made().body.clone())
    }

    /// The hash of that document, as it stands in its address.
    pub fn hash(&self, path: &str) -> Option<&str> {
        self.documents.get(path).map(|document| document.made().hash.as_str())
    }

    /// `/openapi/v2`: everything in one document, for older clients, and its hash.
    pub fn version_2(&self) -> (Bytes, &str) {
        let made = self.version_2.get_or_init(|| Made::new(self.version_2_document().to_string().into()));
        (made.body.clone(), &made.hash)
    }

    /// The same as protobuf, for `kubectl`.
    pub fn version_2_protobuf(&self) -> (Bytes, &str) {
        let make = || Made::new(version_2::protobuf::encode(&self.version_2_document()).into());
        let made = self.version_2_protobuf.get_or_init(make);
        (made.body.clone(), &made.hash)
    }

    fn version_2_document(&self) -> Value {
        version_2::document(self.documents.values().map(|document| &document.made().body))
    }
}

/// The schemas that documents hold for one kind and no other, by name, as [`inside`](crate::inside)
/// shows them: of version 3, of version 2, and the latter as protobuf. They refer to
/// [`names::SHARED`] schemas, which are not among them.
pub(crate) fn own_schemas(kind: OpenApiKind) -> (Map<String, Value>, Map<String, Value>, Vec<u8>) {
    let mut components = schemas::Components::default();
    components.add_own(kind);
    let version_3 = components.into_schemas();
    let version_2: Map<_, _> = version_3.iter().map(|(name, schema)| (name.clone(), version_2::schema(schema.clone()))).collect();
    let protobuf = version_2::protobuf::encode(&json!({"definitions": version_2}));
    (version_3, version_2, protobuf)
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
