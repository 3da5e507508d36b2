//! Parts of the server that no user of this crate needs, for checks of what holds for every input
//! (the crate `fermion-laws`). Nothing here is kept stable.

use fermion_store::Filter;

use crate::read::Selection;
use crate::selector::{FieldSelector, LabelSelector};

pub use crate::definitions::trial::{Served, try_definition};

/// What the database is asked for a selection, and whether its answer needs no further look.
pub fn database_filter(labels: &LabelSelector, fields: &FieldSelector) -> (Filter, bool) {
    Selection { labels: labels.clone(), fields: fields.clone() }.filter()
}
