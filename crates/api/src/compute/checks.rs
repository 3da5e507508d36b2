//! Checks that several kinds of this group share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Invalid, duration, quantity};

/// Amounts by resource name, as people write them: `{"cpu": "64", "gpu.fermion.dev/a100-sxm4-80gb": "8"}`.
pub type Amounts = BTreeMap<String, Quantity>;

/// The most resources one list of amounts names.
pub const AMOUNTS_MAX: usize = 64;
/// The most users, and the most groups, that one list names.
pub const SUBJECTS_MAX: usize = 1_000;
/// The longest name of a user, group, or object.
pub const NAME_LENGTH_MAX: usize = 253;
/// Written in place of a span of time where there is no limit.
pub const UNLIMITED: &str = "UNLIMITED";

/// Refuses amounts that are no quantities or below zero.
pub(super) fn amounts(field: &str, amounts: &Amounts, problems: &mut Vec<Invalid>) {
    if amounts.len() > AMOUNTS_MAX {
        problems.push(Invalid::new(field, format!("names more than {AMOUNTS_MAX} resources")));
    }
    for (name, amount) in amounts {
        let at = format!("{field}[{name}]");
        if !is_resource_name(name) {
            problems.push(Invalid::new(&at, "is not the name of a resource; write it like cpu, memory or gpu.fermion.dev/h100-sxm5-80gb"));
        }
        match quantity::parse(&amount.0) {
            Err(message) => problems.push(Invalid::new(at, message)),
            Ok(value) if value < 0 => problems.push(Invalid::new(at, "may not be below zero")),
            Ok(_) => {}
        }
    }
}

/// Whether a text can name a resource: a word, or a domain, a slash and a word.
pub(super) fn is_resource_name(name: &str) -> bool {
    let word = |part: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric();
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| fine(byte) || matches!(byte, b'-' | b'_' | b'.'))
            && part.bytes().next().is_some_and(fine)
            && part.bytes().next_back().is_some_and(fine)
    };
    match name.split_once('/') {
        Some((domain, rest)) => is_object_name(domain) && word(rest),
        None => word(name),
    }
}

/// Whether a text can be the name of an object outside of namespaces (a DNS subdomain).
pub(super) fn is_object_name(name: &str) -> bool {
    let part = |part: &str| {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| fine(byte) || byte == b'-')
            && part.bytes().next().is_some_and(fine)
            && part.bytes().next_back().is_some_and(fine)
    };
    name.len() <= NAME_LENGTH_MAX && name.split('.').all(part)
}

/// Refuses a name that no object can have.
pub(super) fn object_name(field: &str, name: &str, problems: &mut Vec<Invalid>) {
    if !is_object_name(name) {
        problems.push(Invalid::new(field, format!("`{name}` cannot be a name: use lower-case letters, digits, `-` and `.`")));
    }
}

/// Refuses a list of people or groups that is too long, has blanks or says something twice.
pub(super) fn subjects(field: &str, names: &[String], problems: &mut Vec<Invalid>) {
    if names.len() > SUBJECTS_MAX {
        problems.push(Invalid::new(field, format!("has more than {SUBJECTS_MAX} entries; put people into a group")));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let at = || format!("{field}[{index}]");
        if name.is_empty() || name.chars().count() > NAME_LENGTH_MAX || name.chars().any(char::is_control) {
            problems.push(Invalid::new(at(), format!("must be a text of 1 to {NAME_LENGTH_MAX} characters")));
        } else if !seen.insert(name) {
            problems.push(Invalid::new(at(), format!("`{name}` is named twice")));
        }
    }
}

/// Refuses names of objects of a list: wrong ones, ones named twice, too many.
pub(super) fn object_names(field: &str, names: &[String], most: usize, problems: &mut Vec<Invalid>) {
    if names.len() > most {
        problems.push(Invalid::new(field, format!("has more than {most} entries")));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        object_name(&format!("{field}[{index}]"), name, problems);
        if !seen.insert(name) {
            problems.push(Invalid::new(format!("{field}[{index}]"), format!("`{name}` is named twice")));
        }
    }
}

/// Refuses what is no span of time.
pub(super) fn span(field: &str, text: Option<&str>, problems: &mut Vec<Invalid>) {
    if let Some(Err(message)) = text.map(duration::parse) {
        problems.push(Invalid::new(field, message));
    }
}

/// Refuses a number outside of a range.
pub(super) fn within(field: &str, number: Option<i32>, range: std::ops::RangeInclusive<i32>, problems: &mut Vec<Invalid>) {
    if number.is_some_and(|number| !range.contains(&number)) {
        problems.push(Invalid::new(field, format!("must lie between {} and {}", range.start(), range.end())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_quantities_of_named_resources() {
        let read = |pairs: &[(&str, &str)]| {
            let amounts = pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect();
            let mut problems = Vec::new();
            super::amounts("spec.limit", &amounts, &mut problems);
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        assert!(read(&[("cpu", "64"), ("memory", "1Ti"), ("nvidia.com/mig-1g.5gb", "7"), ("huawei.com/Ascend910", "8")]).is_empty());
        assert_eq!(
            read(&[("cpu", "-1"), ("memory", "lots"), ("no name", "1")]),
            ["spec.limit[cpu]", "spec.limit[memory]", "spec.limit[no name]"]
        );
    }
}
