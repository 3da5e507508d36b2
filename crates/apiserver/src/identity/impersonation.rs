//! Acting as somebody else (`kubectl --as`): every part of whom one wants to be needs the verb
//! `impersonate`. <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::{AUTHENTICATED, Identity, SERVICE_ACCOUNTS, parse_service_account_name};
use crate::Api;
use crate::authorize::Attributes;
use crate::error::{ApiError, Result};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// The most headers of this sort that one request may have.
const HEADERS_MAX: usize = 100;

/// Whom a request wants to act as.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wish {
    /// Reads the headers; `None` when there are none of this sort.
    fn read(headers: &HeaderMap) -> Result<Option<Self>> {
        let mut wish = Self { user: String::new(), groups: Vec::new(), uid: String::new(), extra: BTreeMap::new() };
        let mut count = 0;
        for (name, value) in headers {
            let name = name.as_str();
            if !name.starts_with("impersonate-") {
                continue;
            }
            count += 1;
            if count > HEADERS_MAX {
                return Err(ApiError::bad_request(format!("more than {HEADERS_MAX} headers say whom to act as")));
            }
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| ApiError::bad_request(format!("the header {name} is not UTF-8")))?
                .to_owned();
            match name {
                USER => wish.user = value,
                GROUP => wish.groups.push(value),
                UID => wish.uid = value,
                _ => {
                    let key = name
                        .strip_prefix(EXTRA)
                        .and_then(|key| percent_decode_str(key).decode_utf8().ok())
                        .ok_or_else(|| ApiError::bad_request(format!("the header {} means nothing here", name.escape_default())))?;
                    wish.extra.entry(key.into_owned()).or_default().push(value);
                }
            }
        }
        if count == 0 {
            return Ok(None);
        }
        if wish.user.is_empty() {
            return Err(ApiError::bad_request(
                "groups, a uid or extra fields are asked for without a user to act as: send Impersonate-User",
            ));
        }
        Ok(Some(wish))
    }

    /// What the caller must be allowed.
    fn needs(&self) -> Vec<Attributes> {
        let asked = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path: None,
        };
        let mut needs = vec![match parse_service_account_name(&self.user) {
            Some((namespace, name)) => asked("", "serviceaccounts", "", namespace, name),
            None => asked("", "users", "", "", &self.user),
        }];
        needs.extend(self.groups.iter().map(|group| asked("", "groups", "", "", group)));
        for (key, values) in &self.extra {
            needs.extend(values.iter().map(|value| asked("authentication.k8s.io", "userextras", key, "", value)));
        }
        if !self.uid.is_empty() {
            needs.push(asked("authentication.k8s.io", "uids", "", "", &self.uid));
        }
        needs
    }

    fn identity(self) -> Identity {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = parse_service_account_name(&self.user)
        {
            groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        }
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Identity { name: self.user, uid: self.uid, groups, extra: self.extra }
    }
}

impl Api {
    /// Whom the caller acts as: somebody else if the headers say so and the caller may.
    pub(crate) fn act_as(&self, caller: Arc<Identity>, headers: &HeaderMap) -> Result<Arc<Identity>> {
        let Some(wish) = Wish::read(headers)? else { return Ok(caller) };
        for asked in wish.needs() {
            self.authorize(&caller, &asked)?;
        }
        tracing::info!(by = caller.name, user = wish.user, "acting as somebody else");
        Ok(Arc::new(wish.identity()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_str(value).expect("a value"))
        });
        pairs.collect()
    }

    #[test]
    fn every_part_of_another_identity_needs_its_own_permission() {
        let sent = headers(&[
            ("Impersonate-User", "ann"),
            ("Impersonate-Group", "dev"),
            ("Impersonate-Group", "ops"),
            ("Impersonate-Uid", "u1"),
            ("Impersonate-Extra-acme.com%2Fproject", "p"),
        ]);
        let wish = Wish::read(&sent).expect("fine").expect("a wish");
        let needs: Vec<String> =
            wish.needs().iter().map(|need| format!("{}/{}/{} {}", need.group, need.resource, need.subresource, need.name)).collect();
        assert_eq!(
            needs,
            [
                "/users/ ann",
                "/groups/ dev",
                "/groups/ ops",
                "authentication.k8s.io/userextras/acme.com/project p",
                "authentication.k8s.io/uids/ u1"
            ]
        );
        let identity = wish.identity();
        assert_eq!(identity.groups, ["dev", "ops", AUTHENTICATED]);
        assert_eq!(identity.extra["acme.com/project"], ["p"]);
    }

    #[test]
    fn a_service_account_is_one_of_its_namespace() {
        let wish = Wish::read(&headers(&[("Impersonate-User", "system:serviceaccount:lab:robot")])).expect("fine").expect("a wish");
        let [need] = wish.needs().try_into().expect("one need");
        assert_eq!((need.resource.as_str(), need.namespace.as_str(), need.name.as_str()), ("serviceaccounts", "lab", "robot"));
        assert_eq!(wish.identity().groups, ["system:serviceaccounts", "system:serviceaccounts:lab", AUTHENTICATED]);
    }

    #[test]
    fn what_names_no_user_is_refused() {
        assert_eq!(Wish::read(&headers(&[("Accept", "x")])), Ok(None));
        assert!(Wish::read(&headers(&[("Impersonate-Group", "system:masters")])).is_err());
        assert!(Wish::read(&headers(&[("Impersonate-User", "ann"), ("Impersonate-Other", "x")])).is_err());
    }
}
