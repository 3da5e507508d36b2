//! Passwords, kept as argon2id hashes (RFC 9106) with the parameters OWASP recommends.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};

use crate::error::{ApiError, Result};

/// The fewest characters of a password (NIST SP 800-63B asks for 8 at least).
const CHARACTERS_MIN: usize = 10;
/// The longest password, in bytes: hashing longer ones only costs time.
pub(crate) const BYTES_MAX: usize = 1024;

/// An argon2id hash of nothing anybody knows, so that unknown names cost as much time.
pub(crate) const UNKNOWN_USER_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Fails when a password is too short to be one or does not differ from the name.
pub(crate) fn check(user: &str, password: &str) -> Result<()> {
    if password.chars().count() < CHARACTERS_MIN || password.len() > BYTES_MAX {
        return Err(ApiError::bad_request(format!("a password has at least {CHARACTERS_MIN} characters and at most {BYTES_MAX} bytes")));
    }
    if password.eq_ignore_ascii_case(user) {
        return Err(ApiError::bad_request("the password must differ from the user's name"));
    }
    Ok(())
}

pub(crate) fn hash(password: &str) -> anyhow::Result<String> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| anyhow::anyhow!("cannot make a salt: {error}"))?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| anyhow::anyhow!("cannot hash the password: {error}"))?;
    Ok(hash.to_string())
}

pub(crate) fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_checked_against_their_hash() {
        let made = hash("right").expect("a hash");
        assert!(verify("right", &made));
        assert!(!verify("wrong", &made));
        assert!(!verify("", UNKNOWN_USER_HASH));
        assert!(PasswordHash::new(UNKNOWN_USER_HASH).is_ok());
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(check("ann", "long enough to be one").is_ok());
        assert!(check("ann", "short").is_err());
        assert!(check("a-long-name", "A-Long-Name").is_err());
        assert!(check("ann", &"x".repeat(BYTES_MAX + 1)).is_err());
    }
}
