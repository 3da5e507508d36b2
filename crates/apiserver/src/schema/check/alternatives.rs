//! `anyOf`, `oneOf` and `not`: which form a value has, and what to say when it has none.

use serde_json::Value;

use super::{Check, FieldError, JsonType, Node, NodeId, Problem, Strictness, join_types};

impl<'a> Check<'a> {
    pub(super) fn alternatives(&mut self, node: &'a Node, value: &Value) {
        if !node.any_of.is_empty() {
            self.any_of(&node.any_of, value);
        }
        if !node.one_of.is_empty() {
            self.one_of(&node.one_of, value);
        }
        if let Some(forbidden) = node.not
            && is_match(&self.attempt(forbidden, value))
        {
            self.push(Problem::Form, "Invalid value: it has a form that is not allowed");
        }
    }

    /// The errors the value would have if it had to be of this form.
    fn attempt(&mut self, form: NodeId, value: &Value) -> Vec<FieldError> {
        let errors_before = std::mem::take(&mut self.errors);
        self.value(form, value, Strictness::Part);
        std::mem::replace(&mut self.errors, errors_before)
    }

    fn any_of(&mut self, forms: &[NodeId], value: &Value) {
        let mut refusals = Vec::with_capacity(forms.len());
        for form in forms {
            let errors = self.attempt(*form, value);
            if is_match(&errors) {
                self.errors.extend(errors);
                return;
            }
            refusals.push(errors);
        }
        self.explain_no_match(refusals);
    }

    fn one_of(&mut self, forms: &[NodeId], value: &Value) {
        let attempts: Vec<Vec<FieldError>> = forms.iter().map(|form| self.attempt(*form, value)).collect();
        let (mut matches, refusals): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|errors| is_match(errors));
        match matches.len() {
            0 => self.explain_no_match(refusals),
            1 => self.errors.append(&mut matches[0]),
            count => {
                let detail = format!("Invalid value: it must have exactly one of {} forms, but fits {count} of them", forms.len());
                self.push(Problem::Form, detail);
            }
        }
    }

    /// Reports what is wrong with the form that the value was most likely meant to have.
    fn explain_no_match(&mut self, refusals: Vec<Vec<FieldError>>) {
        let here = self.path.to_string();
        let is_of_other_type =
            |errors: &[FieldError]| errors.iter().any(|error| error.path == here && matches!(error.problem, Problem::Type { .. }));
        let (other_types, mut candidates): (Vec<_>, Vec<_>) = refusals.into_iter().partition(|errors| is_of_other_type(errors));
        candidates.sort_by_key(Vec::len);
        match candidates.as_mut_slice() {
            [] => self.explain_types(&other_types),
            [only] => self.errors.append(only),
            [best, second, ..] if best.len() < second.len() => self.errors.append(best),
            several => {
                let missing: Option<Vec<&str>> = several
                    .iter()
                    .map(|errors| match errors.as_slice() {
                        [error] if error.problem == Problem::Required => error.path.rsplit('.').next(),
                        _ => None,
                    })
                    .collect();
                let detail = if let Some(fields) = missing {
                    format!("Required value: set one of {}", fields.join(", "))
                } else {
                    let reasons: Vec<String> = several.iter().filter_map(|errors| errors.first().map(ToString::to_string)).collect();
                    format!("Invalid value: it has none of the allowed forms ({})", reasons.join("; or "))
                };
                self.push(Problem::Form, detail);
            }
        }
    }

    fn explain_types(&mut self, refusals: &[Vec<FieldError>]) {
        let mut expected: Vec<String> = Vec::new();
        let mut found_type = JsonType::Null;
        for error in refusals.iter().flatten() {
            if let Problem::Type { expected: name, found } = &error.problem {
                found_type = *found;
                if !expected.contains(name) && name != "null" {
                    expected.push(name.clone());
                }
            }
        }
        if expected.is_empty() {
            expected.push(join_types(&[JsonType::Null]));
        }
        self.push_type(expected.join(" or "), found_type);
    }
}

/// Unknown fields do not tell forms apart: they are reported for the form that fits.
fn is_match(errors: &[FieldError]) -> bool {
    errors.iter().all(|error| error.problem == Problem::Unknown)
}
