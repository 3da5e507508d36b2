//! Names of objects.

use crate::error::Cause;

/// Random characters added to `generateName`.
const SUFFIX_LENGTH: usize = 5;
/// Letters and digits that make no words, as Kubernetes uses for generated names.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The longest part of `generateName` that is kept.
const GENERATE_NAME_MAX: usize = 63 - SUFFIX_LENGTH;

/// A DNS label (RFC 1123): up to 63 lower-case letters, digits and `-`.
pub(crate) fn is_dns_label(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| fine(byte) || byte == b'-')
        && name.bytes().next().is_some_and(fine)
        && name.bytes().next_back().is_some_and(fine)
}

/// A DNS name (RFC 1123): labels with dots between them. As in Kubernetes the bound of 253
/// characters is on the whole name, not on its labels.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| fine(byte) || byte == b'-')
                && label.bytes().next().is_some_and(fine)
                && label.bytes().next_back().is_some_and(fine)
        })
}

/// A name that may stand in a path: up to 253 characters without `/` and `%`.
pub(crate) fn is_path_segment_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !matches!(name, "." | "..")
        && name.chars().all(|c| !c.is_control() && !matches!(c, '/' | '%' | '\\'))
}

/// What is wrong with the name of an object of that kind, if anything.
pub(crate) fn check(plural: &str, group: &str, name: &str) -> Option<Cause> {
    let (fine, rule) = match (group, plural) {
        ("", "namespaces" | "services") => {
            (is_dns_label(name), "a DNS label: up to 63 lower-case letters, digits or '-', starting and ending with a letter or digit")
        }
        // Their names have colons: `system:discovery`.
        ("rbac.authorization.k8s.io", _) => (is_path_segment_name(name), "other than '.' and '..', without '/' and '%'"),
        _ => (
            is_dns_name(name),
            "a lowercase RFC 1123 name: up to 253 lower-case letters, digits, '-' or '.', starting and ending with a letter or digit",
        ),
    };
    (!fine).then(|| Cause {
        field: "metadata.name".to_owned(),
        reason: "FieldValueInvalid",
        message: format!("Invalid value: \"{}\": must be {rule}", name.escape_default()),
    })
}

/// A name from its prefix and random bytes.
pub(crate) fn generate(prefix: &str, random: &[u8]) -> String {
    let kept = prefix.char_indices().nth(GENERATE_NAME_MAX).map_or(prefix, |(end, _)| &prefix[..end]);
    let suffix = random.iter().take(SUFFIX_LENGTH).map(|byte| char::from(SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()]));
    kept.chars().chain(suffix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "a-b", "a.b", "0a"] {
            assert!(is_dns_name(good), "{good}");
        }
        assert!(is_dns_name(&"a".repeat(200)));
        for bad in ["", "A", "-a", "a-", "a..b", "a_b", "a/b", "..", "é", "a b"] {
            assert!(!is_dns_name(bad), "{bad}");
        }
        assert!(!is_dns_name(&"a".repeat(254)));
        assert!(!is_dns_label(&"a".repeat(64)));
    }

    #[test]
    fn generated_names_keep_their_prefix() {
        assert_eq!(generate("job-", &[0, 1, 2, 3, 4, 5]), "job-bcdfg");
        assert_eq!(generate(&"x".repeat(100), &[0; 5]).len(), 63);
    }
}
