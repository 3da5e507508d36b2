//! Bearer tokens: read from where people keep them, shown nowhere.

use std::fmt;
use std::path::Path;

use crate::failure::{Failure, Outcome};

/// The variable a token can be given by.
const VARIABLE: &str = "FERMION_TOKEN";
/// Nothing longer is a token.
const LENGTH_MAX: usize = 16 * 1024;

/// A bearer token. It prints as dots.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// `None` when the text is empty, or cannot be a token.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= LENGTH_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    pub(crate) fn from_environment() -> Outcome<Option<Self>> {
        match std::env::var(VARIABLE) {
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => Self::new(&text).map(Some).ok_or_else(|| unusable(VARIABLE)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(unusable(VARIABLE)),
        }
    }

    pub(crate) fn from_file(path: &Path) -> Outcome<Self> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("cannot read the token in {place}"))
                .because(error)
                .hint("--token-file names a file that holds the token and nothing else")
        })?;
        Self::new(&text).ok_or_else(|| unusable(&place))
    }

    /// The text itself, for the request's header and the login file.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

fn unusable(place: &str) -> Failure {
    Failure::new(format!("what {place} holds is not a token")).why("a token is one line of printable ASCII without spaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_prints_itself() {
        let token = Token::new(" secret\n").expect("a token");
        assert_eq!(token.reveal(), "secret");
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(Token::new("two words"), None);
        assert_eq!(Token::new("line\nline"), None);
        assert_eq!(Token::new(""), None);
    }
}
