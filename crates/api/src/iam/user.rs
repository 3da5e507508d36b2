//! User: a person who can sign in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Invalid, Rules};

/// The one group of the platform's own that people are members of.
const ADMINISTRATORS: &str = "system:masters";
/// The most groups of a user.
const GROUPS_MAX: usize = 256;
/// The longest name of a group, in characters.
const GROUP_LENGTH_MAX: usize = 253;
/// The longest address a mail can be sent to, in characters (RFC 5321 section 4.5.3.1).
const EMAIL_LENGTH_MAX: usize = 254;

/// A User is a person who can sign in by their name. What they may do is said by roles that are
/// bound to the name or to a group; a new one may do nothing. The password is set through the
/// subresource `password` and can be read nowhere.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "iam.fermion.dev",
    version = "v1alpha1",
    kind = "User",
    status = "UserStatus",
    derive = "PartialEq",
    category = "fermion",
    printcolumn(name = "Name shown", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(name = "Email", type_ = "string", json_path = ".spec.email"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".spec.groups", priority = 1),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled"),
    printcolumn(name = "Last sign-in", type_ = "date", json_path = ".status.lastSignInAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct UserSpec {
    /// How the person is called where people read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub display_name: Option<String>,
    /// Where mail reaches them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Groups they are a member of, which roles can be bound to. Of those that begin with
    /// `system:` only `system:masters` is possible: its members may do everything.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether they are shut out. Sign-ins and API keys end at once and are good again when this
    /// is taken back, unless they were revoked meanwhile.
    #[serde(default)]
    pub disabled: bool,
}

/// What was observed of a User.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserStatus {
    /// When they last signed in with their password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sign_in_at: Option<Time>,
    /// Until when nobody can sign in under this name, after too many wrong passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
    /// When the password was last set; missing while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_changed_at: Option<Time>,
    /// Sign-ins before this are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_valid_from: Option<MicroTime>,
}

impl Rules for User {
    const SUBRESOURCES: &'static [&'static str] = &["password", "signout"];

    fn check(&self, _old: Option<&Self>) -> Vec<Invalid> {
        let mut problems = Vec::new();
        if self.spec.groups.len() > GROUPS_MAX {
            problems.push(Invalid::new("spec.groups", format!("has more than {GROUPS_MAX} groups")));
        }
        for (index, group) in self.spec.groups.iter().enumerate() {
            let mut wrong = |message: String| problems.push(Invalid::new(format!("spec.groups[{index}]"), message));
            if group.is_empty() || group.chars().count() > GROUP_LENGTH_MAX || group.chars().any(char::is_control) {
                wrong(format!("must be a text of 1 to {GROUP_LENGTH_MAX} characters"));
            } else if group.starts_with("system:") && group != ADMINISTRATORS {
                wrong(format!("`{group}` is given by the platform itself; of these only {ADMINISTRATORS} is possible"));
            } else if self.spec.groups[..index].contains(group) {
                wrong(format!("`{group}` is named twice"));
            }
        }
        if self.spec.email.as_deref().is_some_and(|email| !is_email(email)) {
            problems.push(Invalid::new("spec.email", format!("must be NAME@HOST of up to {EMAIL_LENGTH_MAX} characters")));
        }
        problems
    }
}

/// Whether mail could be sent there: one `@` with something on both sides and no blanks.
fn is_email(text: &str) -> bool {
    let plain = text.chars().count() <= EMAIL_LENGTH_MAX && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    plain && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(spec: serde_json::Value) -> Vec<String> {
        let user = User::new("ann", serde_json::from_value(spec).expect("a spec"));
        user.check(None).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn groups_of_the_platform_cannot_be_joined() {
        assert_eq!(fields(serde_json::json!({"groups": ["dev", "system:masters"]})), [""; 0]);
        let wrong = ["system:authenticated", "system:fermion:components", "system:serviceaccounts:lab", "system:nodes", "", "dev", "dev"];
        assert_eq!(fields(serde_json::json!({"groups": wrong})), [0, 1, 2, 3, 4, 6].map(|index| format!("spec.groups[{index}]")));
    }

    #[test]
    fn an_address_for_mail_looks_like_one() {
        for good in ["a@b", "ann.b+c@example.org"] {
            assert_eq!(fields(serde_json::json!({"email": good})), [""; 0], "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n"] {
            assert_eq!(fields(serde_json::json!({"email": bad})), ["spec.email"], "{bad}");
        }
    }
}
