//! `status.conditions`: how every wait and every failure explains itself.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message kept in a condition, in characters.
pub const MESSAGE_LENGTH_MAX: usize = 4096;

/// Sets a condition; `lastTransitionTime` moves only when its status changes.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    holds: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let mut message: String = message.into();
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_LENGTH_MAX) {
        message.truncate(end);
    }
    if let Some(found) = conditions.iter_mut().find(|found| found.type_ == type_) {
        if found.status != status {
            found.last_transition_time = Time(now);
            status.clone_into(&mut found.status);
        }
        reason.clone_into(&mut found.reason);
        found.message = message;
        found.observed_generation = generation;
    } else {
        conditions.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: Time(now),
        });
    }
}

/// Whether the condition is there and True.
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|found| found.type_ == type_ && found.status == "True")
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|found| found.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        set(&mut conditions, "Ready", false, "Starting", "1 of 2", Some(1), at(1));
        set(&mut conditions, "Ready", false, "Starting", "2 of 2", Some(1), at(2));
        assert_eq!(conditions[0].last_transition_time.0, at(1));
        assert_eq!(conditions[0].message, "2 of 2");
        set(&mut conditions, "Ready", true, "Ready", "", Some(1), at(3));
        assert_eq!(conditions[0].last_transition_time.0, at(3));
        assert!(holds(&conditions, "Ready"));
        assert_eq!(conditions.len(), 1);
    }
}
