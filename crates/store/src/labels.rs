//! Which of a filter's terms the index of labels answers.
//!
//! The table `labels` names the labels of each object's newest version; triggers keep it, so that it is
//! true whoever writes (see `schema.rs` of each database). It only says which objects come into
//! question: keys and values are cut at a length there, and every object is still asked whether it
//! fulfils the filter. A list of an older revision takes from it what was not changed since; the log
//! says the rest.
//!
//! One term of a filter is answered by it, the one that fewest objects fulfil. Terms that ask for what
//! is not there name most objects, and are never that one.

use crate::filter::{LabelIs, LabelTerm};
use crate::list::ListQuery;

/// Characters of a label's key in the index. With a value's they stay below what an entry of an index
/// of PostgreSQL may be long (2,704 bytes), beside all names that Kubernetes allows.
pub(crate) const KEY_CHARS_MAX: u32 = 96;
/// Characters of a value in the index; values are at most 63 in Kubernetes.
pub(crate) const VALUE_CHARS_MAX: u32 = 64;
/// Entries that are counted of a term. Of more, a page that wants a few hundred objects finds them
/// sooner in the order of their names than by sorting all that come into question.
pub(crate) const COUNTED_MAX: u32 = 20_000;
/// Terms of which entries are counted.
const TERMS_MAX: usize = 8;

/// What the index can do for a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// Nothing.
    None,
    /// Name the objects that fulfil this term.
    Use(&'a LabelTerm),
    /// The same for one of these, or nothing: as their entries are many or few. See [`picked`].
    Count(Vec<&'a LabelTerm>),
}

/// What the index can do for this query.
pub(crate) fn choice(query: &ListQuery) -> Choice<'_> {
    // One object is found by its name.
    if query.scope.name.is_some() {
        return Choice::None;
    }
    let asks_for_something = |term: &&LabelTerm| match &term.is {
        LabelIs::In(values) => !values.is_empty(),
        LabelIs::Present => true,
        LabelIs::NotIn(_) | LabelIs::Absent => false,
    };
    let terms: Vec<&LabelTerm> = query.filter.labels.iter().filter(asks_for_something).take(TERMS_MAX).collect();
    match terms[..] {
        [] => Choice::None,
        [term] if is_in_order(term) || !ends_early(query) => Choice::Use(term),
        _ => Choice::Count(terms),
    }
}

/// The term to use, after the entries of each were counted up to [`COUNTED_MAX`].
pub(crate) fn picked<'a>(query: &ListQuery, terms: &[&'a LabelTerm], counts: &[u64]) -> Option<&'a LabelTerm> {
    let (count, fewest) = counts.iter().zip(terms).min_by_key(|(count, _)| **count)?;
    if *count < u64::from(COUNTED_MAX) {
        return Some(fewest);
    }
    let in_order = terms.iter().find(|term| is_in_order(term));
    in_order.or(if ends_early(query) { None } else { Some(fewest) }).copied()
}

/// Whether the index holds what fulfils the term in the order of names.
fn is_in_order(term: &LabelTerm) -> bool {
    matches!(&term.is, LabelIs::In(values) if values.len() == 1)
}

/// Whether the answer is there as soon as a page is full.
fn ends_early(query: &ListQuery) -> bool {
    query.bound().is_some() && query.order.is_none() && !query.count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;
    use crate::object::Scope;

    fn term(is: LabelIs) -> LabelTerm {
        LabelTerm { key: "app".to_owned(), is }
    }

    fn one() -> LabelTerm {
        term(LabelIs::In(vec!["a".to_owned()]))
    }

    fn query(labels: Vec<LabelTerm>, limit: Option<usize>) -> ListQuery {
        ListQuery { filter: Filter { labels, fields: vec![] }, limit, ..ListQuery::all(Scope::all("pods")) }
    }

    #[test]
    fn only_terms_that_ask_for_something_are_answered() {
        for is in [LabelIs::Absent, LabelIs::NotIn(vec!["a".to_owned()]), LabelIs::In(vec![])] {
            assert_eq!(choice(&query(vec![term(is)], None)), Choice::None);
        }
        assert_eq!(choice(&query(vec![term(LabelIs::Absent), one()], Some(1))), Choice::Use(&one()));
    }

    #[test]
    fn terms_are_counted_where_one_of_them_may_be_better() {
        let present = term(LabelIs::Present);
        assert_eq!(choice(&query(vec![present.clone()], None)), Choice::Use(&present));
        assert_eq!(choice(&query(vec![present.clone()], Some(1))), Choice::Count(vec![&present]));
        let both = query(vec![present.clone(), one()], None);
        let Choice::Count(terms) = choice(&both) else { panic!("two terms are counted") };
        let many = u64::from(COUNTED_MAX);
        assert_eq!(picked(&both, &terms, &[3, 7]), Some(&present));
        assert_eq!(picked(&both, &terms, &[many, 7]), Some(&one()));
        assert_eq!(picked(&both, &terms, &[many, many]), Some(&one()));
    }

    #[test]
    fn a_page_of_what_nearly_everything_fulfils_is_read_in_the_order_of_names() {
        let present = term(LabelIs::Present);
        let many = u64::from(COUNTED_MAX);
        assert_eq!(picked(&query(vec![present.clone()], Some(500)), &[&present], &[many]), None);
        assert_eq!(picked(&query(vec![present.clone()], None), &[&present], &[many]), Some(&present));
    }
}
