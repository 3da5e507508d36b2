//! When users may use the pool, by kind of environment: weekly hours and dates, in the wall clock
//! of a time zone.
//!
//! A rule restricts the environments that it names spans for, and only the users it applies to.
//! Where several rules apply, the spans of any of them will do. Where none applies, use is
//! unrestricted.

mod span;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::environment::Environment;

pub use span::{Days, Span, Zone, ZoneRefused};

/// Whom a rule applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    pub everyone: bool,
    pub users: BTreeSet<String>,
    pub groups: BTreeSet<String>,
}

/// When somebody may use something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub subjects: Subjects,
    pub zone: Zone,
    /// By environment, in the order of [`Environment::ALL`]; none restricts nothing.
    pub spans: [Vec<Span>; 4],
}

/// Whether use is allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// No rule applies.
    Unrestricted,
    /// It is, until then; `None` is for good.
    Open { closes_at: Option<i64> },
    /// It is not, until then; `None` is never again.
    Closed { opens_at: Option<i64> },
}

/// Why a rule is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("a rule has at most {} spans", Windows::SPANS_MAX)]
    TooManySpans,
    #[error("a span must end after it begins and lie within days; weekly ones name a day")]
    SpanMalformed,
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    rules: BTreeMap<String, Rule>,
    everyone: BTreeSet<String>,
    of_user: HashMap<String, BTreeSet<String>>,
    of_group: HashMap<String, BTreeSet<String>>,
}

impl Windows {
    /// The most spans of a rule: all are looked at on every question.
    pub const SPANS_MAX: usize = 64;

    /// Adds a rule, in place of the one of that name.
    pub fn set(&mut self, name: &str, rule: Rule) -> Result<(), Refused> {
        if rule.spans.iter().map(Vec::len).sum::<usize>() > Self::SPANS_MAX {
            return Err(Refused::TooManySpans);
        }
        if rule.spans.iter().flatten().any(|span| !span.is_well_formed()) {
            return Err(Refused::SpanMalformed);
        }
        self.remove(name);
        if rule.subjects.everyone {
            self.everyone.insert(name.to_owned());
        }
        for user in &rule.subjects.users {
            self.of_user.entry(user.clone()).or_default().insert(name.to_owned());
        }
        for group in &rule.subjects.groups {
            self.of_group.entry(group.clone()).or_default().insert(name.to_owned());
        }
        self.rules.insert(name.to_owned(), rule);
        Ok(())
    }

    /// Forgets a rule; answers whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(rule) = self.rules.remove(name) else { return false };
        self.everyone.remove(name);
        for (index, subjects) in [(&mut self.of_user, &rule.subjects.users), (&mut self.of_group, &rule.subjects.groups)] {
            for subject in subjects {
                if let Some(names) = index.get_mut(subject) {
                    names.remove(name);
                    if names.is_empty() {
                        index.remove(subject);
                    }
                }
            }
        }
        true
    }

    /// Whether this user may use this kind of environment now. Costs the user's rules.
    pub fn allowed(&self, user: &str, groups: &[String], environment: Environment, now: i64) -> bool {
        let spans = self.spans(user, groups, environment);
        spans.is_empty() || span::open(&spans, now)
    }

    /// The same, and when the answer changes. Costs the weeks until then, or the changes of the
    /// time zone.
    pub fn opening(&self, user: &str, groups: &[String], environment: Environment, now: i64) -> Opening {
        let spans = self.spans(user, groups, environment);
        if spans.is_empty() {
            return Opening::Unrestricted;
        }
        let changes_at = span::next_change(&spans, now);
        if span::open(&spans, now) { Opening::Open { closes_at: changes_at } } else { Opening::Closed { opens_at: changes_at } }
    }

    /// The names of rules that restrict this user in this kind of environment.
    pub fn rules_of(&self, user: &str, groups: &[String], environment: Environment) -> BTreeSet<&str> {
        let named = groups.iter().filter_map(|group| self.of_group.get(group)).chain(self.of_user.get(user));
        let names = named.chain([&self.everyone]).flatten().map(String::as_str);
        names.filter(|name| !self.rules[*name].spans[environment.place()].is_empty()).collect()
    }

    fn spans(&self, user: &str, groups: &[String], environment: Environment) -> Vec<(&Zone, &Span)> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let rules = self.rules_of(user, groups, environment).into_iter().map(|name| &self.rules[name]);
        rules.flat_map(|rule| rule.spans[environment.place()].iter().map(|span| (&rule.zone, span))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    fn weekly(days: Days, from_hour: u16, until_hour: u16) -> Span {
        Span::Weekly { days, from_minute: from_hour * 60, until_minute: until_hour * 60 }
    }

    fn rule(users: &[&str], groups: &[&str], environment: Environment, spans: Vec<Span>) -> Rule {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let mut rule = Rule {
            subjects: Subjects { everyone: false, users: names(users), groups: names(groups) },
            zone: Zone::fixed(0).unwrap(),
            spans: Default::default(),
        };
        rule.spans[environment.place()] = spans;
        rule
    }

    #[test]
    fn a_rule_restricts_only_whom_and_what_it_names() {
        use Environment::{Development, Training};
        let mut windows = Windows::default();
        let nights = rule(&["ada"], &["guests"], Training, vec![weekly(Days::ALL, 22, 6)]);
        windows.set("nights", nights).unwrap();
        let (noon, midnight) = (12 * HOUR, 24 * HOUR);
        let guests = ["guests".to_owned()];
        // (user, groups, kind, when, allowed)
        let table: [(&str, &[String], Environment, i64, bool); 6] = [
            ("ada", &[], Training, noon, false),
            ("ada", &[], Training, midnight, true),
            ("ada", &[], Development, noon, true),
            ("bob", &[], Training, noon, true),
            ("bob", &guests, Training, noon, false),
            ("bob", &guests, Training, midnight, true),
        ];
        for (user, groups, environment, now, allowed) in table {
            assert_eq!(windows.allowed(user, groups, environment, now), allowed, "{user} {groups:?} {environment:?} {now}");
        }
        assert_eq!(windows.opening("bob", &[], Training, noon), Opening::Unrestricted);
        assert_eq!(windows.opening("ada", &[], Training, noon), Opening::Closed { opens_at: Some(22 * HOUR) });
        assert_eq!(windows.opening("ada", &[], Training, midnight), Opening::Open { closes_at: Some(30 * HOUR) });
        // The spans of several rules add up.
        windows.set("noon", rule(&["ada"], &[], Training, vec![weekly(Days::ALL, 12, 13)])).unwrap();
        assert_eq!(windows.opening("ada", &[], Training, noon), Opening::Open { closes_at: Some(13 * HOUR) });
        assert!(windows.remove("noon") && windows.remove("nights") && !windows.remove("nights"));
        assert_eq!(windows.opening("ada", &[], Training, noon), Opening::Unrestricted);
    }

    #[test]
    fn what_never_opens_or_closes_says_so() {
        let mut windows = Windows::default();
        let mut always = rule(&[], &[], Environment::Training, vec![weekly(Days::ALL, 0, 24)]);
        always.subjects.everyone = true;
        windows.set("always", always).unwrap();
        assert_eq!(windows.opening("ada", &[], Environment::Training, 5), Opening::Open { closes_at: None });
        let past = Span::Dates { from_local_ms: 0, until_local_ms: DAY };
        let mut gone = rule(&[], &[], Environment::Inference, vec![past]);
        gone.subjects.everyone = true;
        windows.set("gone", gone).unwrap();
        assert_eq!(windows.opening("ada", &[], Environment::Inference, 2 * DAY), Opening::Closed { opens_at: None });
        assert_eq!(windows.opening("ada", &[], Environment::Inference, -DAY), Opening::Closed { opens_at: Some(0) });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut windows = Windows::default();
        let nobody = weekly(Days::NONE, 1, 2);
        let backwards = Span::Dates { from_local_ms: 5, until_local_ms: 5 };
        let late = weekly(Days::ALL, 1, 25);
        for span in [nobody, backwards, late] {
            assert_eq!(windows.set("x", rule(&[], &[], Environment::Training, vec![span])), Err(Refused::SpanMalformed));
        }
        let many = vec![weekly(Days::ALL, 1, 2); Windows::SPANS_MAX + 1];
        assert_eq!(windows.set("x", rule(&[], &[], Environment::Training, many)), Err(Refused::TooManySpans));
    }
}
