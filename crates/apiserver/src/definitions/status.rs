//! What the status of a definition says: which names it got, whether it is served, in which
//! versions objects may be stored. Pure.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{approval_of, is_protected};
use crate::objects;

/// The names that other definitions and the platform's own kinds hold in a group.
#[derive(Debug, Default, Clone)]
pub(crate) struct Taken {
    /// Plural, singular and short names.
    pub(crate) resources: HashSet<String>,
    /// Kinds and kinds of lists.
    pub(crate) kinds: HashSet<String>,
}

impl Taken {
    /// Adds the names that a definition was given.
    pub(crate) fn add(&mut self, accepted: &Value) {
        let text = |field: &str| accepted[field].as_str().map(str::to_owned);
        self.resources.extend(text("plural").into_iter().chain(text("singular")));
        self.resources.extend(accepted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        self.kinds.extend(text("kind").into_iter().chain(text("listKind")));
    }
}

/// The status that follows from a definition and the names that are taken.
pub(crate) fn settled(definition: &Value, taken: &Taken, now: Timestamp) -> Value {
    let spec = &definition["spec"];
    let old = &definition["status"];
    let (accepted, conflict) = accept(&spec["names"], &old["acceptedNames"], taken);
    let mut conditions = Conditions { list: old["conditions"].as_array().cloned().unwrap_or_default(), now };
    if is_protected(spec["group"].as_str().unwrap_or_default()) {
        match approval_of(definition) {
            Some((true, message)) => conditions.set("KubernetesAPIApprovalPolicy", true, "ApprovedAnnotation", &message),
            Some((false, message)) => conditions.set("KubernetesAPIApprovalPolicy", false, "UnapprovedAnnotation", &message),
            None => conditions.set(
                "KubernetesAPIApprovalPolicy",
                false,
                "MissingAnnotation",
                "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
            ),
        }
    }
    match &conflict {
        None => conditions.set("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => conditions.set("NamesAccepted", false, reason, message),
    }
    if conflict.is_none() {
        conditions.set("Established", true, "InitialNamesAccepted", "the initial names have been accepted");
    } else if !conditions.holds("Established") {
        conditions.set("Established", false, "NotAccepted", "not all names are accepted");
    }
    let mut stored: Vec<Value> = old["storedVersions"].as_array().cloned().unwrap_or_default();
    let storage = spec["versions"].as_array().into_iter().flatten().find(|version| version["storage"] == true);
    if let Some(name) = storage.map(|version| version["name"].clone())
        && !stored.contains(&name)
    {
        stored.push(name);
    }
    json!({"acceptedNames": accepted, "conditions": conditions.list, "storedVersions": stored})
}

/// Says that the objects of a definition are being deleted.
pub(crate) fn set_terminating(definition: &mut Value, message: &str, now: Timestamp) {
    let mut conditions = Conditions { list: definition["status"]["conditions"].as_array().cloned().unwrap_or_default(), now };
    conditions.set("Terminating", true, "InstanceDeletionInProgress", message);
    definition["status"]["conditions"] = conditions.list.into();
}

/// Whether a condition of a definition holds.
pub(crate) fn holds(definition: &Value, condition: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|found| found["type"] == condition && found["status"] == "True")
}

/// The names that are free become the definition's; a name that is taken leaves it with what it
/// had.
fn accept(wanted: &Value, had: &Value, taken: &Taken) -> (Value, Option<(&'static str, String)>) {
    let mut accepted = json!({});
    // Of several conflicts the last one is told, as in Kubernetes.
    let mut conflict = None;
    let mut one = |field: &str, reason: &'static str, names: &HashSet<String>, conflict: &mut Option<(&'static str, String)>| {
        let name = wanted[field].as_str().unwrap_or_default();
        let is_taken = had[field] != wanted[field] && names.contains(name);
        if is_taken {
            *conflict = Some((reason, format!("\"{name}\" is already in use")));
        }
        accepted[field] = if is_taken { had[field].as_str().unwrap_or_default() } else { name }.into();
    };
    one("plural", "PluralConflict", &taken.resources, &mut conflict);
    one("singular", "SingularConflict", &taken.resources, &mut conflict);
    let short: Vec<&str> = wanted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let in_use: Vec<String> =
        short.iter().filter(|name| taken.resources.contains(**name)).map(|name| format!("\"{name}\" is already in use")).collect();
    let short = if had["shortNames"] != wanted["shortNames"] && !in_use.is_empty() {
        let message = if in_use.len() == 1 { in_use[0].clone() } else { format!("[{}]", in_use.join(", ")) };
        conflict = Some(("ShortNamesConflict", message));
        had["shortNames"].clone()
    } else {
        json!(short)
    };
    one("kind", "KindConflict", &taken.kinds, &mut conflict);
    one("listKind", "ListKindConflict", &taken.kinds, &mut conflict);
    for (field, names) in [("shortNames", short), ("categories", wanted["categories"].clone())] {
        if names.as_array().is_some_and(|names| !names.is_empty()) {
            accepted[field] = names;
        }
    }
    (accepted, conflict)
}

struct Conditions {
    list: Vec<Value>,
    now: Timestamp,
}

impl Conditions {
    fn holds(&self, type_: &str) -> bool {
        self.list.iter().any(|condition| condition["type"] == type_ && condition["status"] == "True")
    }

    fn set(&mut self, type_: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let place = self.list.iter().position(|condition| condition["type"] == type_);
        let since = match place.map(|place| &self.list[place]) {
            Some(before) if before["status"] == status && before["lastTransitionTime"].is_string() => before["lastTransitionTime"].clone(),
            _ => objects::time_text(self.now).into(),
        };
        let condition = json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": since});
        match place {
            Some(place) => self.list[place] = condition,
            None => self.list.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(names: Value, status: Value) -> Value {
        json!({"spec": {"group": "example.org", "names": names, "versions": [{"name": "v1", "storage": true}]}, "status": status})
    }

    fn names() -> Value {
        json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd"]})
    }

    fn conditions(status: &Value) -> Vec<String> {
        let list = status["conditions"].as_array().unwrap().iter();
        list.map(|c| format!("{} {} {}", c["type"].as_str().unwrap(), c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn free_names_are_accepted_and_established() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let status = settled(&definition(names(), Value::Null), &Taken::default(), now);
        assert_eq!(status["acceptedNames"], names());
        assert_eq!(status["storedVersions"], json!(["v1"]));
        assert_eq!(conditions(&status), ["NamesAccepted True NoConflicts", "Established True InitialNamesAccepted"]);
        let later = settled(&definition(names(), status.clone()), &Taken::default(), now + jiff::SignedDuration::from_hours(1));
        assert_eq!(later, status, "nothing changed, so nothing is written");
    }

    #[test]
    fn a_taken_name_is_told_and_what_was_accepted_stays() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut taken = Taken::default();
        taken.add(&json!({"plural": "widgetries", "kind": "Widget", "listKind": "WidgetryList", "shortNames": ["wd"]}));
        let refused = settled(&definition(names(), Value::Null), &taken, now);
        assert_eq!(conditions(&refused), ["NamesAccepted False KindConflict", "Established False NotAccepted"]);
        assert_eq!(refused["acceptedNames"]["kind"], "");
        assert_eq!(refused["acceptedNames"]["plural"], "widgets");
        let freed = settled(&definition(names(), refused), &Taken::default(), now);
        assert_eq!(conditions(&freed), ["NamesAccepted True NoConflicts", "Established True InitialNamesAccepted"]);

        let served = settled(&definition(names(), Value::Null), &Taken::default(), now);
        let mut renamed = names();
        renamed["shortNames"] = json!(["x", "y"]);
        taken.add(&json!({"shortNames": ["x"]}));
        let kept = settled(&definition(renamed, served), &taken, now);
        assert_eq!(conditions(&kept), ["NamesAccepted False ShortNamesConflict", "Established True InitialNamesAccepted"]);
        assert_eq!(kept["acceptedNames"]["shortNames"], json!(["wd"]));
    }

    #[test]
    fn protected_groups_say_who_approved_them() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (annotation, expected) in [
            ("https://github.com/kubernetes/enhancements/pull/1", "KubernetesAPIApprovalPolicy True ApprovedAnnotation"),
            ("unapproved, an experiment", "KubernetesAPIApprovalPolicy False UnapprovedAnnotation"),
        ] {
            let mut definition = definition(names(), Value::Null);
            definition["spec"]["group"] = "test.k8s.io".into();
            definition["metadata"]["annotations"]["api-approved.kubernetes.io"] = annotation.into();
            assert_eq!(conditions(&settled(&definition, &Taken::default(), now))[0], expected);
        }
    }
}
