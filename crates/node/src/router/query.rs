//! Query strings with repeated keys, as kubectl sends them.

use super::Refusal;

/// The pairs of a query string, in order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a flag is set; `?flag` and `?flag=1` mean yes.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()) {
            None | Some("false" | "0" | "False" | "FALSE" | "f" | "F") => Ok(false),
            // Python's client writes its own words for it.
            Some("" | "true" | "1" | "True" | "TRUE" | "t" | "T") => Ok(true),
            Some(other) => Err(Refusal::bad_request(format!("{name}={other}: must be true or false"))),
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.get(name)
            .map(|text| {
                let wrong = |_| Refusal::bad_request(format!("{name}={text}: must be a whole number, not negative"));
                text.parse().map_err(wrong)
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_keep_repeated_keys_and_refuse_nonsense() {
        let query = Query::parse(Some("command=sh&command=-c&command=a%20b&tty&stdin=True&stdout=0&tail=x&n=-1&m=7"));
        assert_eq!(query.all("command"), ["sh", "-c", "a b"]);
        assert_eq!(query.flag("tty").ok(), Some(true));
        assert_eq!(query.flag("stdin").ok(), Some(true));
        assert_eq!(query.flag("stdout").ok(), Some(false));
        assert_eq!(query.flag("stderr").ok(), Some(false));
        assert!(query.flag("tail").is_err());
        assert!(query.number::<u64>("n").is_err());
        assert_eq!(query.number::<u64>("m").ok(), Some(Some(7)));
    }
}
