//! Addresses of the web, as far as rules ask about them.

/// An absolute address, or an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub(crate) scheme: String,
    /// With the port.
    pub(crate) host: String,
    pub(crate) path: String,
    /// Decoded, in order.
    pub(crate) query: Vec<(String, Vec<String>)>,
}

/// The longest text read.
const BYTES_MAX: usize = 16 * 1024;

impl Url {
    /// Reads what a request line may hold: `https://host/path?query` or `/path`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > BYTES_MAX || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        let (scheme, rest) = match text.split_once(':') {
            _ if text.starts_with('/') => ("", text),
            Some((scheme, rest)) => (scheme, rest),
            None => return None,
        };
        let scheme_is_good = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
            && (scheme.is_empty() || scheme.as_bytes()[0].is_ascii_alphabetic());
        if !scheme_is_good || (scheme.is_empty() && !text.starts_with('/')) {
            return None;
        }
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match before_query.strip_prefix("//") {
            Some(tail) if !scheme.is_empty() => tail.find('/').map_or((tail, ""), |slash| tail.split_at(slash)),
            _ => ("", before_query),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if !is_host(host) || !has_good_escapes(path) {
            return None;
        }
        let mut parameters: Vec<(String, Vec<String>)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            match parameters.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => parameters.push((name, vec![value])),
            }
        }
        Some(Self { scheme: scheme.to_ascii_lowercase(), host: host.to_owned(), path: path.to_owned(), query: parameters })
    }

    pub(crate) fn hostname(&self) -> &str {
        match self.host.strip_prefix('[') {
            Some(inside) => inside.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        }
    }

    pub(crate) fn port(&self) -> &str {
        let after = self.host.rsplit(']').next().unwrap_or_default();
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(inside) => match inside.split_once(']') {
            Some((address, after)) if address.split('%').next().is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()) => ("", after),
            _ => return false,
        },
        None => host.split_once(':').map_or((host, ""), |(name, _)| host.split_at(name.len())),
    };
    let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    port_is_good && !name.contains(['<', '>', '"', ' ', '[', ']', '\\', '^', '`', '{', '|', '}']) && has_good_escapes(name)
}

fn has_good_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|tail| tail.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}
