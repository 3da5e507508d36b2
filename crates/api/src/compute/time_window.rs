//! TimeWindow: when which sort of work may be started.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entitlement::Subjects;
use crate::ai::scheduling::EnvironmentKind;
use crate::{Invalid, Rules};

/// A TimeWindow says when the work of its people may run, for each sort of work it names. Who is in
/// no window, and work of a sort that a window does not name, may run at any time. Who is in several
/// may run work when any of them that names the sort is open.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "compute.fermion.dev",
    version = "v1alpha1",
    kind = "TimeWindow",
    status = "TimeWindowStatus",
    derive = "PartialEq",
    category = "fermion",
    printcolumn(name = "Users", type_ = "string", json_path = ".spec.subjects.users"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".spec.subjects.groups"),
    printcolumn(name = "Offset", type_ = "string", json_path = ".spec.utcOffset"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TimeWindowSpec {
    /// Whose work it restricts; everybody's when it names nobody.
    #[serde(default, skip_serializing_if = "Subjects::is_empty")]
    pub subjects: Subjects,
    /// How far the clock that the times are read from is before UTC, such as `+08:00`.
    #[serde(default = "utc")]
    pub utc_offset: String,
    /// Spans of time in which work of a sort may run, by sort: `Development`, `Training`,
    /// `Inference`, `Visualization`.
    pub allowed: BTreeMap<EnvironmentKind, Vec<WeeklySpan>>,
}

fn utc() -> String {
    "+00:00".to_owned()
}

/// A span of time on some days of the week, or on all days between two dates.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeeklySpan {
    /// Days on which it begins; every day when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// When it begins, such as `08:30`.
    #[serde(default = "midnight")]
    pub from: String,
    /// When it ends, that minute not included, such as `18:00`, or `24:00`. When this is not after the
    /// beginning, it ends on the next day.
    #[serde(default = "end_of_day")]
    pub to: String,
    /// First date on which it begins, such as `2026-09-01`; from ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_date: Option<String>,
    /// Last date on which it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_date: Option<String>,
}

fn midnight() -> String {
    "00:00".to_owned()
}

fn end_of_day() -> String {
    "24:00".to_owned()
}

/// Days of the week.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// The most spans for one sort of work.
pub const SPANS_MAX: usize = 100;
/// Minutes of a day.
const DAY_MINUTES: i32 = 24 * 60;

/// What was observed of a TimeWindow.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeWindowStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Reads `HH:MM`, up to `24:00`, as minutes after midnight.
///
/// # Errors
/// When it is written otherwise.
pub fn minutes(text: &str) -> Result<i32, String> {
    let wrong = || format!("`{text}` is not a time of day; write it like 08:30");
    let (hours, minutes) = two(text).ok_or_else(wrong)?;
    let sum = hours * 60 + minutes;
    if minutes < 60 && sum <= DAY_MINUTES { Ok(sum) } else { Err(wrong()) }
}

/// Reads `+HH:MM` or `-HH:MM` as minutes before UTC.
///
/// # Errors
/// When it is written otherwise, or is further than any clock is.
pub fn offset_minutes(text: &str) -> Result<i32, String> {
    let wrong = || format!("`{text}` is not an offset from UTC; write it like +08:00");
    let sign = match text.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(wrong()),
    };
    let (hours, minutes) = two(&text[1..]).ok_or_else(wrong)?;
    if hours <= 14 && minutes < 60 { Ok(sign * (hours * 60 + minutes)) } else { Err(wrong()) }
}

/// Reads two numbers of two digits with a colon between them.
fn two(text: &str) -> Option<(i32, i32)> {
    let digits = |part: &str| (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok()).flatten();
    let (first, second) = text.split_once(':')?;
    Some((digits(first)?, digits(second)?))
}

impl Rules for TimeWindow {
    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        let spec = &self.spec;
        spec.subjects.check("spec.subjects", &mut problems);
        if let Err(message) = offset_minutes(&spec.utc_offset) {
            problems.push(Invalid::new("spec.utcOffset", message));
        }
        if spec.allowed.is_empty() {
            problems.push(Invalid::new("spec.allowed", "needs at least one sort of work; without a window all may run at any time"));
        }
        for (kind, spans) in &spec.allowed {
            if spans.len() > SPANS_MAX {
                problems.push(Invalid::new(format!("spec.allowed[{kind:?}]"), format!("has more than {SPANS_MAX} spans")));
            }
            for (index, span) in spans.iter().enumerate() {
                check_span(&format!("spec.allowed[{kind:?}][{index}]"), span, &mut problems);
            }
        }
        problems
    }
}

fn check_span(at: &str, span: &WeeklySpan, problems: &mut Vec<Invalid>) {
    for (field, text) in [("from", &span.from), ("to", &span.to)] {
        if let Err(message) = minutes(text) {
            problems.push(Invalid::new(format!("{at}.{field}"), message));
        }
    }
    if minutes(&span.from) == Ok(DAY_MINUTES) {
        problems.push(Invalid::new(format!("{at}.from"), "must be before 24:00"));
    }
    let mut dates = Vec::new();
    for (field, text) in [("firstDate", &span.first_date), ("lastDate", &span.last_date)] {
        let Some(text) = text else { continue };
        match text.parse::<jiff::civil::Date>() {
            Ok(date) if date.to_string() == *text => dates.push(date),
            _ => problems.push(Invalid::new(format!("{at}.{field}"), format!("`{text}` is not a date; write it like 2026-09-01"))),
        }
    }
    if let [first, last] = dates.as_slice()
        && first > last
    {
        problems.push(Invalid::new(format!("{at}.lastDate"), "must not be before the first date"));
    }
}

crate::kind!(TimeWindow);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_offsets_are_read_as_clocks_show_them() {
        for (text, expected) in
            [("00:00", Some(0)), ("08:30", Some(510)), ("24:00", Some(1440)), ("24:01", None), ("7:00", None), ("08:60", None)]
        {
            assert_eq!(minutes(text).ok(), expected, "{text}");
        }
        for (text, expected) in
            [("+08:00", Some(480)), ("-03:30", Some(-210)), ("+00:00", Some(0)), ("08:00", None), ("+15:00", None), ("é", None)]
        {
            assert_eq!(offset_minutes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_windows_name_what_is_wrong() {
        let fields = |spec: serde_json::Value| {
            let window = TimeWindow::new("w", serde_json::from_value(spec).expect("a spec"));
            window.check(None).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        let day = serde_json::json!({"days": ["Monday", "Friday"], "from": "08:00", "to": "18:00"});
        let night = serde_json::json!({"from": "20:00", "to": "06:00", "firstDate": "2026-09-01", "lastDate": "2026-09-30"});
        assert!(fields(serde_json::json!({"utcOffset": "+08:00", "allowed": {"Development": [day], "Training": [night]}})).is_empty());
        assert_eq!(fields(serde_json::json!({"allowed": {}})), ["spec.allowed"]);
        let wrong = serde_json::json!({"from": "24:00", "to": "noon", "firstDate": "2026-09-31", "lastDate": "2026-09-30"});
        assert_eq!(
            fields(serde_json::json!({"utcOffset": "Beijing", "allowed": {"Training": [wrong]}})),
            ["spec.utcOffset", "spec.allowed[Training][0].to", "spec.allowed[Training][0].from", "spec.allowed[Training][0].firstDate"]
        );
    }
}
