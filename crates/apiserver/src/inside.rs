//! Parts of the server that no user of this crate needs, for checks of what holds for every input
//! (the crate `fermion-laws`). Nothing here is kept stable.

use fermion_store::Filter;

use serde_json::{Map, Value};

use crate::openapi::{OpenApiKind, names, own_schemas};
use crate::read::Selection;
use crate::selector::{FieldSelector, LabelSelector};

pub use crate::definitions::trial::{Served, try_definition};

/// What the database is asked for a selection, and whether its answer needs no further look.
pub fn database_filter(labels: &LabelSelector, fields: &FieldSelector) -> (Filter, bool) {
    Selection { labels: labels.clone(), fields: fields.clone() }.filter()
}

/// What OpenAPI says of one kind and no other.
#[derive(Debug)]
pub struct OwnSchemas {
    /// Of version 3, by name.
    pub version_3: Map<String, Value>,
    /// Of version 2, by name.
    pub version_2: Map<String, Value>,
    /// A document of version 2 with nothing but these schemas.
    pub protobuf: Vec<u8>,
}

impl OwnSchemas {
    /// The schemas that they may refer to besides; every document has them.
    pub const SHARED: [&str; 2] = names::SHARED;

    /// Describes a kind.
    pub fn of(kind: OpenApiKind) -> Self {
        let (version_3, version_2, protobuf) = own_schemas(kind);
        Self { version_3, version_2, protobuf }
    }
}
