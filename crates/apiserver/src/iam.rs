//! The kinds of iam.fermion.dev, as far as they are more than objects: what their subresources
//! do, and the secrets beside them. A secret is written in the commit of the object it belongs to
//! and goes with it; no address reads it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use fermion_store::{Commit, Expect, Key, Stored, Write};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Api;
use crate::admission::Origin;
use crate::authorize::Attributes;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::identity::session::{new_key_token, no_random};
use crate::identity::{API_KEYS, Identity, KEY_SECRETS, PASSWORDS, USERS, password};
use crate::objects;
use crate::patch::PatchKind;
use crate::read::json_response;
use crate::request::Query;
use crate::selector::FieldSelector;
use crate::write::{WriteOptions, parse_stored};

/// The group of these kinds.
pub(crate) const IAM: &str = "iam.fermion.dev";
/// How long an API key is good whose maker does not say.
pub(crate) const KEY_LIFETIME_DEFAULT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Fields by which people find their own API keys.
const OWN_KEYS_BY: [&str; 2] = ["metadata.name", "spec.user"];
/// `lastUsedAt` is written when it is off by more than this.
const LAST_USED_GRAIN: Duration = Duration::from_secs(300);

/// The groups a User, as it is stored, is a member of.
pub(crate) fn groups(user: &Value) -> impl Iterator<Item = &str> {
    user["spec"]["groups"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a User, as it is stored, may do anything at all.
pub(crate) fn is_enabled(user: &Value) -> bool {
    user["spec"]["disabled"] != true && !objects::is_being_deleted(user)
}

/// Sign-ins of a User before this are over.
pub(crate) fn sessions_valid_from(user: &Value) -> Option<Timestamp> {
    user["status"]["sessionsValidFrom"].as_str()?.parse().ok()
}

/// A time to the microsecond: a sign-in in the second of a revocation is told apart.
fn precisely(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// The object that a POST to one of the subresources here takes or answers.
fn document(kind: &str, name: &str) -> Value {
    json!({"apiVersion": format!("{IAM}/{}", fermion_api::VERSION), "kind": kind, "metadata": {"name": name}})
}

impl Api {
    /// A User by name.
    pub(crate) async fn user(&self, name: &str) -> Result<Option<(Stored, Value)>> {
        self.find(USERS, "users", name).await
    }

    /// An ApiKey by name.
    pub(crate) async fn api_key(&self, name: &str) -> Result<Option<(Stored, Value)>> {
        self.find(API_KEYS, "apikeys", name).await
    }

    /// Whether this is about API keys of the caller's own: everybody may see and delete those,
    /// one by name or by `fieldSelector=spec.user=…`, but with no API key.
    pub(crate) async fn is_about_own_key(&self, caller: &Identity, asked: &Attributes, query: &Query) -> Result<bool> {
        let kind = (asked.group.as_str(), asked.resource.as_str(), asked.subresource.as_str());
        if kind != (IAM, "apikeys", "") || caller.api_key().is_some() {
            return Ok(false);
        }
        Ok(match asked.verb.as_str() {
            "get" | "delete" => self.api_key(&asked.name).await?.is_some_and(|(_, key)| key["spec"]["user"] == *caller.name),
            "list" | "watch" => FieldSelector::parse(query.get("fieldSelector").unwrap_or_default(), &OWN_KEYS_BY)
                .is_ok_and(|selector| selector.exact("spec.user") == Some(caller.name.as_str())),
            _ => false,
        })
    }

    async fn find(&self, stored_as: &'static str, plural: &str, name: &str) -> Result<Option<(Stored, Value)>> {
        let about = crate::error::About { group: IAM, plural, kind: "", name };
        let stored = self.store.get(&Key::new(stored_as, "", name)).await.map_err(|error| ApiError::from_store(&error, about))?;
        stored.map(|stored| parse_stored(&stored).map(|value| (stored, value))).transpose()
    }

    /// What only the caller tells of a new ApiKey: whose it is, and until when.
    pub(crate) fn complete_key(&self, caller: &Identity, key: &mut Value) {
        let Some(spec) = key.get_mut("spec").and_then(Value::as_object_mut) else { return };
        if spec.get("user").and_then(Value::as_str).is_none_or(str::is_empty) {
            spec.insert("user".to_owned(), caller.name.clone().into());
        }
        if spec.get("expiresAt").is_none_or(Value::is_null) {
            spec.insert("expiresAt".to_owned(), objects::time_text(self.now() + KEY_LIFETIME_DEFAULT).into());
        }
    }

    /// Answers a POST to a subresource of these kinds.
    pub(crate) async fn iam_subresource(
        self: &Arc<Self>,
        origin: Origin<'_>,
        resource: &Arc<Resource>,
        name: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Response<Body>> {
        match (resource.plural.as_str(), origin.subresource) {
            ("users", "password") => self.set_password_of(origin.caller, resource, name, body, options).await,
            ("users", "signout") => self.sign_out_everywhere(resource, name, options).await,
            ("apikeys", "token") => self.issue_key_token(origin.caller, resource, name, options).await,
            _ => Err(ApiError::no_route()),
        }
    }

    /// Sets the password of a User; sign-ins with the one before are over.
    async fn set_password_of(
        &self,
        caller: &Identity,
        resource: &Arc<Resource>,
        name: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Response<Body>> {
        let Some(password) = body["password"].as_str() else {
            return Err(ApiError::bad_request("send {\"password\": \"…\"}"));
        };
        let key = resource.key(None, name);
        self.read(resource, &key).await?;
        self.may_act_for(caller, resource.about(name), name).await?;
        password::check(name, password)?;
        if !options.dry_run {
            self.store_password(name, password).await?;
        }
        Ok(json_response(StatusCode::CREATED, &document("Password", name)))
    }

    /// Keeps a password for a User, in one commit with what its status says of it.
    pub(crate) async fn store_password(&self, name: &str, password: &str) -> Result<()> {
        let text = password.to_owned();
        let hash = self.hashed(move || password::hash(&text)).await?.map_err(no_random)?;
        let resource = self.catalog().find(IAM, fermion_api::VERSION, "users").expect("users are served").clone();
        let stored = self.read(&resource, &resource.key(None, name)).await?;
        let mut user = parse_stored(&stored)?;
        let now = self.now();
        user["status"]["passwordChangedAt"] = objects::time_text(now).into();
        user["status"]["sessionsValidFrom"] = precisely(now).into();
        let secret = json!({"metadata": {"name": name}, "userUid": user["metadata"]["uid"], "hash": hash});
        let writes = vec![
            Write::Put { key: Key::new(PASSWORDS, "", name), expect: Expect::Any, object: secret },
            Write::Put { key: stored.key.clone(), expect: Expect::Revision(stored.revision), object: user },
        ];
        self.commit_and_take_in(&resource, name, writes).await
    }

    /// Ends every sign-in of a User. API keys go on: they are deleted one by one.
    async fn sign_out_everywhere(&self, resource: &Arc<Resource>, name: &str, options: &WriteOptions) -> Result<Response<Body>> {
        let stored = self.read(resource, &resource.key(None, name)).await?;
        if !options.dry_run {
            let mut user = parse_stored(&stored)?;
            user["status"]["sessionsValidFrom"] = precisely(self.now()).into();
            let write = Write::Put { key: stored.key.clone(), expect: Expect::Revision(stored.revision), object: user };
            self.commit_and_take_in(resource, name, vec![write]).await?;
        }
        Ok(json_response(StatusCode::CREATED, &document("SignOut", name)))
    }

    /// Makes the token of an ApiKey and answers it, once.
    async fn issue_key_token(
        &self,
        caller: &Identity,
        resource: &Arc<Resource>,
        name: &str,
        options: &WriteOptions,
    ) -> Result<Response<Body>> {
        let about = resource.about(name);
        let stored = self.read(resource, &resource.key(None, name)).await?;
        let mut key = parse_stored(&stored)?;
        let owner = key["spec"]["user"].as_str().unwrap_or_default().to_owned();
        self.may_act_for(caller, about, &owner).await?;
        if self.secret(KEY_SECRETS, name).await?.is_some() {
            return Err(ApiError::conflict(about, "its token was made already and is told once only; delete the ApiKey and make another"));
        }
        let Some((_, user)) = self.user(&owner).await? else {
            return Err(ApiError::conflict(about, &format!("there is no User {owner:?}")));
        };
        let (token, hash, shown) = new_key_token(name).map_err(no_random)?;
        let mut answer = document("ApiKeyToken", name);
        answer["status"] = json!({"expiresAt": key["spec"]["expiresAt"]});
        if options.dry_run {
            return Ok(json_response(StatusCode::CREATED, &answer));
        }
        key["status"]["prefix"] = shown.into();
        key["status"]["issuedAt"] = objects::time_text(self.now()).into();
        let secret = json!({
            "metadata": {"name": name},
            "keyUid": key["metadata"]["uid"],
            "userUid": user["metadata"]["uid"],
            "hash": hash,
        });
        let writes = vec![
            Write::Put { key: Key::new(KEY_SECRETS, "", name), expect: Expect::Absent, object: secret },
            Write::Put { key: stored.key.clone(), expect: Expect::Revision(stored.revision), object: key },
        ];
        self.commit_and_take_in(resource, name, writes).await?;
        answer["status"]["token"] = token.into();
        Ok(json_response(StatusCode::CREATED, &answer))
    }

    async fn commit_and_take_in(&self, resource: &Resource, name: &str, writes: Vec<Write>) -> Result<()> {
        let commit = Commit { writes, ..Commit::default() };
        let stored = self.store.commit(commit).await.map_err(|error| ApiError::from_store(&error, resource.about(name)))?;
        self.in_force(&stored).await;
        Ok(())
    }

    /// What goes from the store together with an object: the secrets beside it.
    pub(crate) async fn secrets_of(&self, key: &Key) -> Result<Vec<Write>> {
        let beside = match &*key.resource {
            USERS => PASSWORDS,
            API_KEYS => KEY_SECRETS,
            _ => return Ok(Vec::new()),
        };
        let secret = self.secret(beside, &key.name).await?;
        // Made after this look, one is good for nothing: it names the uid of what is gone.
        Ok(secret.map(|secret| Write::Delete { key: secret.key, expect: Expect::Any }).into_iter().collect())
    }

    /// Notes now and then that a key is used, beside the request that uses it.
    pub(crate) fn note_use(self: &Arc<Self>, stored: &Stored, key: &Value) {
        let now = self.now();
        let noted = key["status"]["lastUsedAt"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        if noted.is_some_and(|noted| now < noted + LAST_USED_GRAIN) {
            return;
        }
        let status = json!({"lastUsedAt": objects::time_text(now)});
        let (api, name) = (self.clone(), stored.key.name.to_string());
        tokio::spawn(async move { api.note(API_KEYS, &name, &status).await });
    }

    /// Writes what was observed of a User or ApiKey. It is of use but not needed, so a failure is
    /// told in the log only.
    pub(crate) async fn note(&self, stored_as: &str, name: &str, status: &Value) {
        let plural = if stored_as == USERS { "users" } else { "apikeys" };
        let resource = self.catalog().find(IAM, fermion_api::VERSION, plural).expect("the kinds of iam.fermion.dev are served").clone();
        let caller = Identity::component("apiserver");
        let origin = Origin { caller: &caller, subresource: "status" };
        let key = resource.key(None, name);
        if let Err(error) =
            self.patch(origin, &resource, key, PatchKind::Merge, &json!({"status": status}), &WriteOptions::of_server()).await
        {
            tracing::warn!(error = error.message, plural, name, "what was observed could not be noted");
        }
    }
}
