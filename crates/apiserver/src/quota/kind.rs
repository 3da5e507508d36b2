//! The kind ResourceQuota: what may be written into one.

use fermion_api::Invalid;
use serde_json::Value;

/// Names of amounts in one quota.
const NAMES_MAX: usize = 100;
/// The scopes that are understood.
const SCOPES: [&str; 4] = ["Terminating", "NotTerminating", "BestEffort", "NotBestEffort"];

/// What is wrong with a quota.
pub(crate) fn check(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = Vec::new();
    let hard = object["spec"]["hard"].as_object();
    if hard.is_some_and(|hard| hard.len() > NAMES_MAX) {
        problems.push(Invalid::new("spec.hard", format!("at most {NAMES_MAX} amounts in one quota")));
    }
    for (name, amount) in hard.into_iter().flatten() {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        match fermion_api::quantity::parse(&text) {
            Ok(amount) if amount >= 0 => {}
            Ok(_) => problems.push(Invalid::new(format!("spec.hard[{name}]"), "must not be negative")),
            Err(why) => problems.push(Invalid::new(format!("spec.hard[{name}]"), why)),
        }
        if name == "count/" {
            problems.push(Invalid::new(format!("spec.hard[{name}]"), "name what is counted: count/RESOURCE.GROUP"));
        }
    }
    for scope in object["spec"]["scopes"].as_array().into_iter().flatten() {
        if !scope.as_str().is_some_and(|scope| SCOPES.contains(&scope)) {
            problems.push(Invalid::new("spec.scopes", format!("must be one of: {}", SCOPES.join(", "))));
        }
    }
    if !object["spec"]["scopeSelector"].is_null() {
        problems.push(Invalid::new("spec.scopeSelector", "is not supported on this platform: use spec.scopes"));
    }
    if let Some(old) = old
        && old["spec"]["scopes"] != object["spec"]["scopes"]
    {
        problems.push(Invalid::new("spec.scopes", "field is immutable"));
    }
    problems
}
