//! Who is asking: people by bearer token, programs by API key or as a ServiceAccount, the
//! platform's own parts by construction.
//!
//! [`authenticator`] has the order in which a token is judged, one file for each sort of token.
//! What is secret stands in resources of the store that the API does not serve: passwords as
//! argon2id hashes, sessions and API keys as SHA-256 of 256 random bits. ServiceAccounts' tokens
//! are signed and stored nowhere.

mod attempts;
pub(crate) mod authenticator;
pub(crate) mod credentials;
pub(crate) mod first;
mod impersonation;
pub(crate) mod password;
pub(crate) mod service_account;
pub(crate) mod session;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use service_account::TokenSigner;

/// Kinds that tokens depend on, as they are named in the store.
pub(crate) const USERS: &str = "users.iam.fermion.dev";
pub(crate) const API_KEYS: &str = "apikeys.iam.fermion.dev";
/// Secrets, which no address serves: sessions by fingerprint, passwords by user, keys by ApiKey.
pub(crate) const TOKENS: &str = "tokens.internal.fermion.dev";
pub(crate) const PASSWORDS: &str = "passwords.internal.fermion.dev";
pub(crate) const KEY_SECRETS: &str = "apikeysecrets.internal.fermion.dev";

/// The group that may do everything.
pub const ADMINISTRATORS: &str = "system:masters";
/// The group of everyone who is signed in.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of the platform's own parts.
pub const COMPONENTS: &str = "system:fermion:components";
/// The group of all ServiceAccounts; those of one namespace have its name behind it.
pub(crate) const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// Before the namespace and name of a ServiceAccount.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// In `extra`: the API key that was used, which narrows what its owner may do.
const API_KEY: &str = "iam.fermion.dev/api-key";

/// A caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What else is known, as authentication.k8s.io carries it from one server to another.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// One of the platform's own parts, such as `system:fermion:node`.
    pub fn component(name: &str) -> Self {
        let groups = vec![COMPONENTS.to_owned(), AUTHENTICATED.to_owned()];
        Self { name: format!("system:fermion:{name}"), groups, ..Self::default() }
    }

    /// A ServiceAccount.
    pub(crate) fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}"), AUTHENTICATED.to_owned()];
        Self { name: service_account_name(namespace, name), uid: uid.to_owned(), groups, ..Self::default() }
    }

    pub(crate) fn is_member_of(&self, group: &str) -> bool {
        self.groups.iter().any(|mine| mine == group)
    }

    /// The name of the ApiKey that was used, if one was.
    pub(crate) fn api_key(&self) -> Option<&str> {
        self.extra.get(API_KEY)?.first().map(String::as_str)
    }

    /// The same caller by an API key.
    fn by_api_key(mut self, key: &str) -> Self {
        self.extra.insert(API_KEY.to_owned(), vec![key.to_owned()]);
        self
    }

    /// As authentication.k8s.io shows a user.
    pub(crate) fn user_info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// The user name of a ServiceAccount.
pub(crate) fn service_account_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT}{namespace}:{name}")
}

/// Namespace and name of the ServiceAccount that a user name means.
pub(crate) fn parse_service_account_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
