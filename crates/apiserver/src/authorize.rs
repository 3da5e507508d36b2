//! Who may do what. Deny is the answer unless a rule here says otherwise.

use crate::identity::{ADMINISTRATORS, AUTHENTICATED, COMPONENTS, Identity};

/// What somebody wants to do, in the words of authorization.k8s.io.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Set instead of the resource for other addresses: `/version`.
    pub(crate) path: Option<String>,
}

/// Addresses that everyone who is signed in may read.
const READABLE_PATHS: [&str; 4] = ["/api", "/apis", "/openapi", "/version"];

/// Whether `identity` may do that, and why.
pub(crate) fn authorize(identity: &Identity, attributes: &Attributes) -> Result<&'static str, String> {
    let member = |group: &str| identity.groups.iter().any(|mine| mine == group);
    if member(ADMINISTRATORS) {
        return Ok("administrators may do everything");
    }
    if member(COMPONENTS) {
        return Ok("a part of the platform");
    }
    if member(AUTHENTICATED) {
        if let Some(path) = &attributes.path
            && attributes.verb == "get"
            && READABLE_PATHS
                .iter()
                .any(|readable| path == readable || path.strip_prefix(readable).is_some_and(|rest| rest.starts_with('/')))
        {
            return Ok("everyone who is signed in may read what is served");
        }
        let own_review = matches!(
            (attributes.group.as_str(), attributes.resource.as_str()),
            ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
                | ("authentication.k8s.io", "selfsubjectreviews")
        );
        if own_review && attributes.verb == "create" {
            return Ok("everyone who is signed in may ask about themselves");
        }
    }
    Err(match &attributes.path {
        Some(path) => format!("User \"{}\" cannot {} path \"{path}\"", identity.name, attributes.verb),
        None => format!(
            "User \"{}\" cannot {} resource \"{}\" in API group \"{}\"{}",
            identity.name,
            attributes.verb,
            if attributes.subresource.is_empty() {
                attributes.resource.clone()
            } else {
                format!("{}/{}", attributes.resource, attributes.subresource)
            },
            attributes.group,
            if attributes.namespace.is_empty() {
                " at the cluster scope".to_owned()
            } else {
                format!(" in the namespace \"{}\"", attributes.namespace)
            }
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(groups: &[&str]) -> Identity {
        Identity { name: "ann".to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
    }

    #[test]
    fn nothing_is_allowed_without_a_rule() {
        let pods = Attributes { verb: "list".into(), resource: "pods".into(), namespace: "a".into(), ..Default::default() };
        assert!(authorize(&person(&[]), &pods).is_err());
        assert_eq!(
            authorize(&person(&[AUTHENTICATED]), &pods),
            Err("User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"a\"".to_owned())
        );
        assert!(authorize(&person(&[ADMINISTRATORS]), &pods).is_ok());
    }

    #[test]
    fn the_signed_in_may_read_what_is_served_and_ask_about_themselves() {
        let ann = person(&[AUTHENTICATED]);
        let path = |path: &str| Attributes { verb: "get".into(), path: Some(path.into()), ..Default::default() };
        assert!(authorize(&ann, &path("/apis/ai.fermion.dev")).is_ok());
        assert!(authorize(&ann, &path("/apisx")).is_err());
        assert!(authorize(&ann, &path("/metrics")).is_err());
        let review = Attributes {
            verb: "create".into(),
            group: "authorization.k8s.io".into(),
            resource: "selfsubjectaccessreviews".into(),
            ..Default::default()
        };
        assert!(authorize(&ann, &review).is_ok());
    }
}
