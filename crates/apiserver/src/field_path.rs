//! The place of a field inside an object, as error messages and status causes name it.

use std::fmt;

/// A path such as `spec.containers[0].resources.limits[nvidia.com/gpu]`, grown and cut in place
/// while an object is walked, so that a walk without errors allocates nothing per field.
#[derive(Debug, Default, Clone)]
pub(crate) struct FieldPath {
    text: String,
}

/// How long a [`FieldPath`] was, to cut it back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(usize);

impl FieldPath {
    /// Adds a field or a map's key. Keys that are no identifiers stand in brackets.
    pub(crate) fn push_field(&mut self, name: &str) -> Mark {
        let mark = Mark(self.text.len());
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$'));
        if plain {
            if !self.text.is_empty() {
                self.text.push('.');
            }
            self.text.push_str(name);
        } else {
            self.text.push('[');
            self.text.push_str(name);
            self.text.push(']');
        }
        mark
    }

    /// Adds the place in a list.
    pub(crate) fn push_index(&mut self, index: usize) -> Mark {
        let mark = Mark(self.text.len());
        self.text.push('[');
        self.text.push_str(&index.to_string());
        self.text.push(']');
        mark
    }

    /// How long the path is.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.text.len())
    }

    /// Cuts the path back to where it was when `mark` was returned.
    pub(crate) fn truncate(&mut self, mark: Mark) {
        self.text.truncate(mark.0);
    }

    /// The path with one more field, leaving this one as it is.
    pub(crate) fn with_field(&self, name: &str) -> String {
        let mut longer = self.clone();
        longer.push_field(name);
        longer.text
    }
}

impl fmt::Display for FieldPath {
    /// The root is written as `(root)`, since an empty path reads like a mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "(root)" } else { &self.text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_people_write_it() {
        let mut path = FieldPath::default();
        assert_eq!(path.to_string(), "(root)");
        path.push_field("spec");
        path.push_field("containers");
        let mark = path.push_index(2);
        path.push_field("limits");
        path.push_field("nvidia.com/gpu");
        assert_eq!(path.to_string(), "spec.containers[2].limits[nvidia.com/gpu]");
        path.truncate(mark);
        assert_eq!(path.to_string(), "spec.containers");
        assert_eq!(path.with_field("image"), "spec.containers.image");
    }
}
