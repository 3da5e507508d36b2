//! Formats of texts and integers.

use base64::Engine as _;

/// No quantity that means anything is longer.
const QUANTITY_BYTES_MAX: usize = 64;

/// The formats of text that are checked; all others are notes for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TextFormat {
    Base64,
    Date,
    DateTime,
    Duration,
    Ip,
    Ipv4,
    Ipv6,
    Uuid,
}

impl TextFormat {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "byte" => Self::Base64,
            "date" => Self::Date,
            "date-time" => Self::DateTime,
            "duration" => Self::Duration,
            "ip" => Self::Ip,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Base64 => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
            Self::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Self::DateTime => is_date_time(text),
            Self::Duration => is_duration(text),
            Self::Ip => text.parse::<std::net::IpAddr>().is_ok(),
            Self::Ipv4 => text.parse::<std::net::Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<std::net::Ipv6Addr>().is_ok(),
            Self::Uuid => is_uuid(text),
        }
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Base64 => "base64 with padding",
            Self::Date => "a date such as 2026-01-31",
            Self::DateTime => "a time such as 2026-01-31T12:00:00Z",
            Self::Duration => "a duration such as 90s, 1h30m or PT90S",
            Self::Ip => "an IP address",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Uuid => "a UUID",
        }
    }

    /// Whether a refused value may be shown.
    pub(super) fn is_secret(self) -> bool {
        self == Self::Base64
    }
}

/// The sizes of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct IntegerFormat {
    minimum: i128,
    maximum: i128,
}

impl IntegerFormat {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (minimum, maximum) = match name {
            "int8" => (i128::from(i8::MIN), i128::from(i8::MAX)),
            "int16" => (i128::from(i16::MIN), i128::from(i16::MAX)),
            "int32" => (i128::from(i32::MIN), i128::from(i32::MAX)),
            "int64" => (i128::from(i64::MIN), i128::from(i64::MAX)),
            "uint8" => (0, i128::from(u8::MAX)),
            "uint16" => (0, i128::from(u16::MAX)),
            "uint32" => (0, i128::from(u32::MAX)),
            "uint64" | "uint" => (0, i128::from(u64::MAX)),
            _ => return None,
        };
        Some(Self { minimum, maximum })
    }

    /// Numbers with a fraction are accepted here: they are of another type, which is another error.
    pub(super) fn accepts(self, number: &serde_json::Number) -> bool {
        number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .is_none_or(|value| (self.minimum..=self.maximum).contains(&value))
    }

    pub(super) fn description(self) -> String {
        format!("between {} and {}", self.minimum, self.maximum)
    }
}

/// Whether a text is an amount of a resource as Kubernetes writes it: `100m`, `1.5Gi`, `1e3`.
pub fn is_quantity(text: &str) -> bool {
    if text.len() > QUANTITY_BYTES_MAX {
        return false;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_end);
    let has_digit = number.bytes().any(|b| b.is_ascii_digit());
    let points = number.bytes().filter(|b| *b == b'.').count();
    has_digit && points <= 1 && is_quantity_suffix(suffix)
}

fn is_quantity_suffix(suffix: &str) -> bool {
    const SUFFIXES: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if SUFFIXES.contains(&suffix) {
        return true;
    }
    let Some(exponent) = suffix.strip_prefix(['e', 'E']) else {
        return false;
    };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a text can stand where Kubernetes takes an integer or a string: a port's name, or a
/// percentage.
pub fn is_int_or_string(text: &str) -> bool {
    const PORT_NAME_BYTES_MAX: usize = 15;
    if let Some(percent) = text.strip_suffix('%') {
        return !percent.is_empty() && percent.bytes().all(|b| b.is_ascii_digit());
    }
    text.len() <= PORT_NAME_BYTES_MAX
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// Whether a text is a duration: Go's form (`1h30m`) or ISO 8601's (`PT1H30M`).
pub fn is_duration(text: &str) -> bool {
    is_go_duration(text) || (text.starts_with('P') && text.parse::<jiff::Span>().is_ok())
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        let points = number.bytes().filter(|b| *b == b'.').count();
        if !number.bytes().any(|b| b.is_ascii_digit()) || points > 1 {
            return false;
        }
        // Longer units first: "ms" is no minute.
        let Some(tail) = ["ns", "us", "µs", "ms", "s", "m", "h"].iter().find_map(|unit| tail.strip_prefix(unit)) else {
            return false;
        };
        rest = tail;
    }
    true
}

/// RFC 3339, and nothing more of what the parser would accept.
fn is_date_time(text: &str) -> bool {
    let has_shape = text.len() >= 20 && text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'));
    has_shape && !text.contains('[') && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, b)| match place {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_told_from_other_texts() {
        for good in [
            "0",
            "1",
            "100m",
            "1.5",
            ".5",
            "5.",
            "1Gi",
            "1.5Gi",
            "-1",
            "+1",
            "1k",
            "1e3",
            "1E3",
            "1E",
            "1e-3",
            "12e+6",
            "100n",
            "9223372036854775807",
            "128Mi",
            "0.1",
        ] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in [
            "", " 1", "1 ", "1 Gi", "Gi", "m", ".", "1..2", "1.2.3", "1gi", "1GiB", "1KI", "1K", "one", "1e", "1e+", "1e3.5", "--1",
            "0x10", "1,5", "1mm", "½",
        ] {
            // "1e" is no exponent without digits; "E" alone is exa, "e" is nothing.
            assert!(!is_quantity(bad), "{bad}");
        }
        assert!(!is_quantity(&"9".repeat(QUANTITY_BYTES_MAX + 1)));
    }

    #[test]
    fn ports_and_percentages_are_told_from_other_texts() {
        for good in ["http", "25%", "100%", "a", "h2c-1"] {
            assert!(is_int_or_string(good), "{good}");
        }
        for bad in ["", "%", "8080", "HTTP", "-a", "a-", "a--b", "a_b", "25 %", "a-very-long-port-name"] {
            assert!(!is_int_or_string(bad), "{bad}");
        }
    }

    #[test]
    fn formats_accept_what_they_describe() {
        for (format, good, bad) in [
            ("date-time", "2026-01-31T12:00:00Z", "2026-01-31"),
            ("date-time", "2026-01-31T12:00:00.123456+02:00", "2026-01-31 12:00:00Z"),
            ("date-time", "2026-01-31T12:00:00Z", "2026-02-31T12:00:00Z"),
            ("date-time", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00"),
            ("date", "2026-01-31", "2026-1-31"),
            ("byte", "aGVsbG8=", "aGVsbG8"),
            ("byte", "", "*"),
            ("duration", "1h30m", "1h30"),
            ("duration", "1.5s", "s"),
            ("duration", "PT90S", "P"),
            ("duration", "0", ""),
            ("ip", "::1", "1.2.3"),
            ("ipv4", "1.2.3.4", "::1"),
            ("ipv6", "::1", "1.2.3.4"),
            ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b8109dad11d180b400c04fd430c8"),
        ] {
            let format = TextFormat::parse(format).unwrap();
            assert!(format.accepts(good), "{format:?} {good}");
            assert!(!format.accepts(bad), "{format:?} {bad}");
        }
    }

    #[test]
    fn integers_have_their_size() {
        for (format, good, bad) in [
            ("int32", "2147483647", "2147483648"),
            ("int32", "-2147483648", "-2147483649"),
            ("int64", "9223372036854775807", "9223372036854775808"),
            ("uint8", "255", "256"),
            ("uint16", "0", "-1"),
        ] {
            let format = IntegerFormat::parse(format).unwrap();
            assert!(format.accepts(&good.parse().unwrap()), "{format:?} {good}");
            assert!(!format.accepts(&bad.parse().unwrap()), "{format:?} {bad}");
        }
    }
}
