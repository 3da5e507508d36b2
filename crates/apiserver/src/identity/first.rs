//! The first administrator, the kubeconfig of the machine's owner, and what earlier versions kept
//! of people.

use std::sync::Arc;
use std::time::Duration;

use fermion_store::{Commit, Expect, Key, ListQuery, Scope, Write};
use serde_json::{Value, json};

use super::credentials::random_text;
use super::session::{Purpose, Session, is_administrator};
use super::{ADMINISTRATORS, Identity, PASSWORDS, TOKENS, USERS};
use crate::Api;
use crate::error::{ApiError, Result};
use crate::iam::IAM;
use crate::write::{WriteOptions, parse_stored};

/// Where versions before the kind User kept people: `{groups, passwordHash}`.
const OLD_USERS: &str = "users.internal.fermion.dev";
/// The name of the first administrator.
const FIRST: &str = "admin";
/// Random bytes of the first password.
const FIRST_PASSWORD_BYTES: usize = 15;

fn failed(what: &'static str) -> impl Fn(ApiError) -> anyhow::Error {
    move |error| anyhow::anyhow!("cannot {what}: {}", error.message)
}

/// The name of a new administrator: `admin`, or with a number behind it when that is taken.
fn first_free(taken: &[String]) -> String {
    let numbered = (2_usize..).map(|number| format!("{FIRST}-{number}"));
    let mut names = std::iter::once(FIRST.to_owned()).chain(numbered);
    names.find(|name| !taken.contains(name)).expect("there are more numbers than users")
}

impl Api {
    /// Sees to it that an administrator can sign in: makes one when there is none. Gives back the
    /// name and the password, which is kept nowhere. What earlier versions kept of people becomes
    /// Users first.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn ensure_first_administrator(self: &Arc<Self>) -> anyhow::Result<Option<(String, String)>> {
        self.migrate_people().await.map_err(failed("take over the users of an earlier version"))?;
        let users = self.store.list(ListQuery::all(Scope::all(USERS))).await?;
        // One that an earlier start made and was cut short before its password was told.
        let mut unfinished = None;
        let mut taken = Vec::new();
        for stored in &users.items {
            let user = parse_stored(stored).map_err(failed("read the users"))?;
            let name = stored.key.name.to_string();
            if is_administrator(&user) {
                if self.secret(PASSWORDS, &name).await.map_err(failed("read the users"))?.is_some() {
                    return Ok(None);
                }
                unfinished.get_or_insert_with(|| name.clone());
            }
            taken.push(name);
        }
        let name = match unfinished {
            Some(name) => name,
            None => {
                let name = first_free(&taken);
                self.make_user(&name, &[ADMINISTRATORS.to_owned()]).await.map_err(failed("make the first administrator"))?;
                name
            }
        };
        let password = random_text::<FIRST_PASSWORD_BYTES>()?;
        self.store_password(&name, &password).await.map_err(failed("make the first administrator's password"))?;
        Ok(Some((name, password)))
    }

    /// Makes a token for the kubeconfig of the machine's owner, who is the administrator of that
    /// name, or the first by name.
    ///
    /// # Errors
    /// When there is no administrator, or the store cannot be read or written.
    pub async fn issue_kubeconfig_token(&self, lifetime: Duration) -> anyhow::Result<(String, String)> {
        let users = self.store.list(ListQuery::all(Scope::all(USERS))).await?;
        let mut chosen: Option<(String, Value)> = None;
        for stored in &users.items {
            let user = parse_stored(stored).map_err(failed("read the users"))?;
            let name = stored.key.name.to_string();
            if is_administrator(&user) && (chosen.is_none() || name == FIRST) {
                chosen = Some((name, user));
            }
        }
        let Some((name, user)) = chosen else { anyhow::bail!("there is no administrator to write a kubeconfig for") };
        let issued = self.issue_session(&name, &user, Purpose::Kubeconfig, lifetime).await;
        let (token, _) = issued.map_err(failed("make a token for the kubeconfig"))?;
        Ok((name, token))
    }

    async fn make_user(&self, name: &str, groups: &[String]) -> Result<()> {
        let resource = self.catalog().find(IAM, fermion_api::VERSION, "users").expect("users are served").clone();
        let object = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.kind,
            "metadata": {"name": name},
            "spec": {"groups": groups},
        });
        match self.create(&Identity::component("apiserver"), &resource, None, object, &WriteOptions::of_server()).await {
            Err(error) if error.reason != "AlreadyExists" => Err(error),
            _ => Ok(()),
        }
    }

    /// Turns people of earlier versions into Users. It may be cut short at any point and goes on
    /// at the next start: what is old is taken away in the commit that writes what is new.
    async fn migrate_people(self: &Arc<Self>) -> Result<()> {
        let about = || crate::error::About { group: IAM, plural: "users", kind: "User", name: "" };
        let read = |error: fermion_store::Error| ApiError::from_store(&error, about());
        let people = self.store.list(ListQuery::all(Scope::all(OLD_USERS))).await.map_err(read)?;
        for stored in people.items {
            let old = parse_stored(&stored)?;
            let name = stored.key.name.to_string();
            let groups: Vec<String> = old["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            self.make_user(&name, &groups).await?;
            let (_, user) = self.user(&name).await?.ok_or_else(|| ApiError::internal("a user that was just made is gone"))?;
            let secret = json!({"metadata": {"name": name}, "userUid": user["metadata"]["uid"], "hash": old["passwordHash"]});
            let writes = vec![
                Write::Put { key: Key::new(PASSWORDS, "", name.as_str()), expect: Expect::Any, object: secret },
                Write::Delete { key: stored.key.clone(), expect: Expect::Revision(stored.revision) },
            ];
            self.store.commit(Commit { writes, ..Commit::default() }).await.map_err(read)?;
            tracing::info!(user = name, "a user of an earlier version is a User now");
        }
        let tokens = self.store.list(ListQuery::all(Scope::all(TOKENS))).await.map_err(read)?;
        for stored in tokens.items {
            let old = parse_stored(&stored)?;
            if !old["user"].is_object() {
                continue;
            }
            let name = old["user"]["name"].as_str().unwrap_or_default();
            let expires_at = old["expiresAt"].as_str().and_then(|time| time.parse().ok());
            let write = match (self.user(name).await?, expires_at) {
                (Some((_, user)), Some(expires_at)) => {
                    let session = Session {
                        user: name.to_owned(),
                        user_uid: user["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                        // Which of them stands in the kubeconfig was not noted: none is cut off.
                        purpose: Purpose::Kubeconfig,
                        issued_at: self.now(),
                        expires_at,
                    };
                    let object = session.stored(&stored.key.name);
                    Write::Put { key: stored.key.clone(), expect: Expect::Revision(stored.revision), object }
                }
                // Nobody it could belong to: it was good for nothing.
                _ => Write::Delete { key: stored.key.clone(), expect: Expect::Revision(stored.revision) },
            };
            self.store.commit(Commit::of(write)).await.map_err(read)?;
        }
        Ok(())
    }
}
