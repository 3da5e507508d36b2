//! What functions charge while they run, beside their line in the table: for every part that they
//! make, and for every comparison.

use super::weight;
use crate::functions::{item_of, traversal};
use crate::types::{ListKind, Type, Typed};

/// Compiling a pattern that does not stand in the source, for each of its bytes.
pub(super) const PATTERN_BYTE: u64 = 10;
/// The longest text that `%f` and its like make of a number.
const NUMBER_TEXT_MAX: u64 = 350;

/// The most that one call charges so.
pub(super) fn growth(name: &str, arguments: &[Typed]) -> u64 {
    let [first, others @ ..] = arguments else { return 0 };
    let is_list = matches!(first.ty, Type::List(..) | Type::Dyn);
    let second = others.first();
    let second_max = second.map_or(0, |second| second.max);
    let item = || weight(&item_of(first), 0);
    match name {
        // One for each part, and its text.
        "findAll" => first.max.saturating_mul(2).saturating_add(2),
        "split" => first.max.saturating_add(1),
        "replace" => {
            let put_in = others.get(1).map_or(0, |to| to.max);
            traversal(first.max.saturating_add(first.max.saturating_add(1).saturating_mul(put_in)))
        }
        "join" => first.max.saturating_mul(1 + traversal(item_of(first).max.saturating_add(second_max))),
        "format" => second.map_or(0, |list| {
            let shown = weight(&item_of(list), 0).saturating_add(traversal(NUMBER_TEXT_MAX));
            list.max.saturating_mul(shown.saturating_mul(2).saturating_add(2))
        }),
        "indexOf" | "lastIndexOf" if is_list => first.max.saturating_mul(item()),
        "sets.contains" | "sets.intersects" => first.max.saturating_mul(second_max).saturating_mul(item()),
        // In both directions.
        "sets.equivalent" => first.max.saturating_mul(second_max).saturating_mul(item()).saturating_mul(2),
        "distinct" => first.max.saturating_mul(first.max).saturating_mul(item()),
        "flatten" => first.max.saturating_mul(item_of(first).max),
        "_+_" => match &first.ty {
            Type::List(_, ListKind::Set) => first.max.saturating_mul(second_max).saturating_mul(item()),
            // What was added is looked through as well.
            Type::List(_, ListKind::Map(_)) => first.max.saturating_add(second_max).saturating_mul(second_max).saturating_mul(item()),
            _ => 0,
        },
        _ => 0,
    }
}
