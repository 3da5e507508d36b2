//! Browser access to one app: one-time tickets, and the sessions they are exchanged for.
//!
//! Both live in memory only and end with the server; a person then opens a new link.
//! Sessions do not stand on their own: each holds the token its ticket was made with, and
//! every request asks (through [`crate::access`]'s short cache) whether that token is still
//! good. Revoking a token ends its sessions within seconds.
//!
//! The clock and the random secrets are arguments; nothing here waits or reads either.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::access::Token;
use crate::address::AppAddress;
use crate::expiring::Expiring;

/// How long a ticket can be exchanged.
pub(crate) const TICKET_LIFETIME: Duration = Duration::from_mins(1);
/// The most tickets not exchanged yet; the oldest goes first.
const TICKETS_MAX: usize = 4096;
/// A session ends when it was not used for this long.
pub(crate) const SESSION_IDLE_MAX: Duration = Duration::from_hours(12);
/// A session ends this long after it began, however much it is used.
const SESSION_AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// The most sessions; the one unused for longest goes first.
const SESSIONS_MAX: usize = 8192;
/// The most sessions of one person with one app.
const SESSIONS_PER_APP_MAX: usize = 16;

/// 256 random bits in URL-safe base64: a ticket, or a session's id.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Secrets are looked up by digest, so that the time a look-up takes tells nothing about
/// which secrets exist.
type Digest = [u8; 32];

fn digest(secret: &str) -> Digest {
    Sha256::digest(secret.as_bytes()).into()
}

/// Who opened which app.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) app: AppAddress,
    pub(crate) token: Token,
    /// Name of the person the token belonged to; a token never changes hands.
    pub(crate) username: String,
}

struct Session {
    grant: Grant,
    began_at: Instant,
    used_at: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used_at) >= SESSION_IDLE_MAX || now.duration_since(self.began_at) >= SESSION_AGE_MAX
    }
}

/// All tickets and sessions.
pub(crate) struct Sessions {
    tickets: Expiring<Digest, Grant>,
    sessions: HashMap<Digest, Session>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { tickets: Expiring::new(TICKETS_MAX, TICKET_LIFETIME), sessions: HashMap::new() }
    }

    pub(crate) fn add_ticket(&mut self, ticket: &Secret, grant: Grant, now: Instant) {
        self.tickets.insert(digest(ticket.as_str()), grant, now);
    }

    /// Uses a ticket up and begins the session `id`. False when there is no such ticket for
    /// this app (any more); a ticket shown at the wrong app is used up as well.
    pub(crate) fn exchange(&mut self, ticket: &str, app: &AppAddress, id: &Secret, now: Instant) -> bool {
        let Some(grant) = self.tickets.remove(&digest(ticket), now).filter(|grant| grant.app == *app) else {
            return false;
        };
        self.make_room(&grant, now);
        self.sessions.insert(digest(id.as_str()), Session { grant, began_at: now, used_at: now });
        true
    }

    /// The session's grant, if it is a session with this app; using it keeps it alive.
    pub(crate) fn resume(&mut self, id: &str, app: &AppAddress, now: Instant) -> Option<Grant> {
        let id = digest(id);
        let session = self.sessions.get_mut(&id)?;
        if session.is_over(now) {
            self.sessions.remove(&id);
            return None;
        }
        if session.grant.app != *app {
            return None;
        }
        session.used_at = now;
        Some(session.grant.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Keeps both bounds: a linear look over at most [`SESSIONS_MAX`] entries, once per
    /// ticket exchanged, which only authenticated people can cause.
    fn make_room(&mut self, grant: &Grant, now: Instant) {
        self.sessions.retain(|_, session| !session.is_over(now));
        let same = |session: &Session| session.grant.app == grant.app && session.grant.username == grant.username;
        if self.sessions.values().filter(|session| same(session)).count() >= SESSIONS_PER_APP_MAX {
            self.remove_least_used(same);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.remove_least_used(|_| true);
        }
    }

    fn remove_least_used(&mut self, among: impl Fn(&Session) -> bool) {
        let oldest = self.sessions.iter().filter(|(_, session)| among(session)).min_by_key(|(_, session)| session.used_at);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.sessions.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Key;
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, HeaderValue};

    fn app(name: &str) -> AppAddress {
        AppAddress { environment: Key::new("team", "dev"), app: name.to_owned() }
    }

    fn grant(name: &str, username: &str) -> Grant {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer t"));
        Grant { app: app(name), token: Token::bearer(&headers).expect("a token"), username: username.to_owned() }
    }

    fn secret(name: impl Into<String>) -> Secret {
        Secret(name.into())
    }

    #[test]
    fn a_ticket_is_good_once_and_for_its_app_only() {
        let now = Instant::now();
        let mut sessions = Sessions::new();
        sessions.add_ticket(&secret("t1"), grant("jupyter", "ada"), now);
        assert!(sessions.exchange("t1", &app("jupyter"), &secret("s1"), now));
        assert!(!sessions.exchange("t1", &app("jupyter"), &secret("s2"), now));
        assert_eq!(sessions.resume("s1", &app("jupyter"), now).expect("a session").username, "ada");
        assert!(sessions.resume("s1", &app("other"), now).is_none());
        assert!(sessions.resume("s2", &app("jupyter"), now).is_none());

        sessions.add_ticket(&secret("t2"), grant("jupyter", "ada"), now);
        assert!(!sessions.exchange("t2", &app("other"), &secret("s3"), now));
        assert!(!sessions.exchange("t2", &app("jupyter"), &secret("s3"), now));
    }

    #[test]
    fn a_ticket_expires() {
        let now = Instant::now();
        let mut sessions = Sessions::new();
        sessions.add_ticket(&secret("t"), grant("jupyter", "ada"), now);
        assert!(!sessions.exchange("t", &app("jupyter"), &secret("s"), now + TICKET_LIFETIME));
    }

    #[test]
    fn a_session_lives_while_it_is_used_but_not_for_ever() {
        let start = Instant::now();
        let mut sessions = Sessions::new();
        sessions.add_ticket(&secret("t"), grant("jupyter", "ada"), start);
        assert!(sessions.exchange("t", &app("jupyter"), &secret("s"), start));
        let step = SESSION_IDLE_MAX / 2;
        let mut now = start;
        while now + step < start + SESSION_AGE_MAX {
            now += step;
            assert!(sessions.resume("s", &app("jupyter"), now).is_some());
        }
        assert!(sessions.resume("s", &app("jupyter"), start + SESSION_AGE_MAX).is_none());
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn an_unused_session_ends() {
        let now = Instant::now();
        let mut sessions = Sessions::new();
        sessions.add_ticket(&secret("t"), grant("jupyter", "ada"), now);
        assert!(sessions.exchange("t", &app("jupyter"), &secret("s"), now));
        assert!(sessions.resume("s", &app("jupyter"), now + SESSION_IDLE_MAX).is_none());
    }

    #[test]
    fn one_person_cannot_push_out_anothers_sessions() {
        let now = Instant::now();
        let mut sessions = Sessions::new();
        sessions.add_ticket(&secret("t"), grant("jupyter", "ada"), now);
        assert!(sessions.exchange("t", &app("jupyter"), &secret("ada's"), now));
        for number in 0..SESSIONS_PER_APP_MAX * 3 {
            let later = now + Duration::from_secs(1 + number as u64);
            sessions.add_ticket(&secret("t"), grant("jupyter", "eve"), later);
            assert!(sessions.exchange("t", &app("jupyter"), &secret(format!("eve{number}")), later));
        }
        assert_eq!(sessions.len(), 1 + SESSIONS_PER_APP_MAX);
        let end = now + Duration::from_secs(100);
        assert!(sessions.resume("ada's", &app("jupyter"), end).is_some());
        assert!(sessions.resume("eve0", &app("jupyter"), end).is_none());
    }
}
