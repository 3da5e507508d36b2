//! Sets of paths: which fields of an object somebody owns.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::element::{ElementError, PathElement};

/// Sets nested more deeply are refused: the objects they describe are not so deep either.
pub const FIELD_SET_DEPTH_MAX: usize = 110;

/// A set of paths into an object, as a tree: each node stands for a path and says whether that
/// path is in the set.
///
/// Its JSON form is `FieldsV1`: `{"f:spec":{"f:replicas":{}}}` holds `.spec.replicas`. A node
/// with nothing below it is in the set; one with something below it is if it has the key `"."`.
///
/// Invariant: below every node the elements are in order, each once, and each leads to a path in
/// the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path to this node is in the set.
    member: bool,
    children: Vec<(PathElement, FieldSet)>,
}

/// Why a JSON value is no set of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSetError {
    /// A node is not a JSON object.
    #[error("fieldsV1 must be made of JSON objects")]
    NotAnObject,
    /// Nested more deeply than [`FIELD_SET_DEPTH_MAX`].
    #[error("fieldsV1 is nested more than {FIELD_SET_DEPTH_MAX} levels deep")]
    TooDeep,
    /// A key that is no path element.
    #[error("fieldsV1 holds a malformed path element")]
    Element(#[source] ElementError),
}

impl FieldSet {
    /// The set that holds only the path it is put at.
    pub fn leaf() -> Self {
        Self { member: true, children: Vec::new() }
    }

    /// The set of these paths, each given by the elements from the root.
    pub fn of_paths<'a>(paths: impl IntoIterator<Item = &'a [PathElement]>) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path);
        }
        set
    }

    /// The set of these paths of fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|name| PathElement::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => self.member = true,
            [first, rest @ ..] => {
                let place = match self.children.binary_search_by(|(element, _)| element.cmp(first)) {
                    Ok(place) => place,
                    Err(place) => {
                        self.children.insert(place, (first.clone(), Self::default()));
                        place
                    }
                };
                self.children[place].1.insert(rest);
            }
        }
    }

    /// Reads `FieldsV1`. Elements of kinds that are not known are skipped, as in Kubernetes.
    ///
    /// # Errors
    /// When the value is none.
    pub fn parse(fields: &Value) -> Result<Self, FieldSetError> {
        let mut set = Self::read(fields, 0)?;
        // `{}` as a whole means "nothing", not "the object itself".
        set.member = false;
        Ok(set)
    }

    fn read(fields: &Value, depth: usize) -> Result<Self, FieldSetError> {
        if depth > FIELD_SET_DEPTH_MAX {
            return Err(FieldSetError::TooDeep);
        }
        let fields = fields.as_object().ok_or(FieldSetError::NotAnObject)?;
        let mut set = Self { member: fields.is_empty(), children: Vec::with_capacity(fields.len()) };
        for (text, below) in fields {
            if text == "." {
                set.member = true;
                continue;
            }
            match PathElement::parse(text) {
                Ok(element) => {
                    let child = Self::read(below, depth + 1)?;
                    if !child.is_empty() {
                        set.children.push((element, child));
                    }
                }
                Err(ElementError::Unknown { .. }) => {}
                Err(error) => return Err(FieldSetError::Element(error)),
            }
        }
        if !set.children.is_sorted_by(|(one, _), (two, _)| one < two) {
            set.put_in_order();
        }
        Ok(set)
    }

    /// Sorts the children; those that turned out to be the same element become one.
    fn put_in_order(&mut self) {
        self.children.sort_by(|(one, _), (two, _)| one.cmp(two));
        self.children.dedup_by(|(element, set), (kept, into)| {
            let same = element == kept;
            if same {
                *into = into.union(set);
            }
            same
        });
    }

    /// The `FieldsV1` of this set.
    pub fn to_value(&self) -> Value {
        self.clone().into_value()
    }

    /// The `FieldsV1` of this set, which is used up.
    pub fn into_value(self) -> Value {
        let itself = (self.member && !self.children.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        let children = self.children.into_iter().map(|(element, child)| (element.into_string(), child.into_value()));
        Value::Object(itself.into_iter().chain(children).collect())
    }

    /// Whether some path of this set is in the set that this `FieldsV1` stands for, in its
    /// canonical form.
    pub(super) fn overlaps_value(&self, fields: &Value) -> bool {
        let Some(fields) = fields.as_object() else { return false };
        (self.member && value_is_member(fields))
            || self.children.iter().any(|(element, child)| fields.get(element.as_str()).is_some_and(|below| child.overlaps_value(below)))
    }

    /// Whether every path of this set is in the set that this `FieldsV1` stands for, in its
    /// canonical form.
    pub(super) fn is_within_value(&self, fields: &Value) -> bool {
        let Some(fields) = fields.as_object() else { return false };
        (!self.member || value_is_member(fields))
            && self.children.iter().all(|(element, child)| fields.get(element.as_str()).is_some_and(|below| child.is_within_value(below)))
    }

    /// The set with the path it is put at.
    #[must_use]
    pub(super) fn with_itself(self) -> Self {
        Self { member: true, ..self }
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Whether the path to this node itself is in the set.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// What is in the set below each element, in order.
    pub fn children(&self) -> impl Iterator<Item = (&PathElement, &FieldSet)> {
        self.children.iter().map(|(element, set)| (element, set))
    }

    /// What is in the set below each element, in order, as its own.
    pub(super) fn into_children(self) -> Vec<(PathElement, FieldSet)> {
        self.children
    }

    /// What is in the set at and below an element.
    pub fn child(&self, element: &PathElement) -> Option<&FieldSet> {
        let place = self.children.binary_search_by(|(other, _)| other.cmp(element)).ok()?;
        Some(&self.children[place].1)
    }

    /// What is in the set at and below a field.
    pub fn field(&self, name: &str) -> Option<&FieldSet> {
        let place = self.children.binary_search_by(|(element, _)| element.cmp_field(name)).ok()?;
        Some(&self.children[place].1)
    }

    /// A node from its children, which may come in any order but each only once; without those
    /// that hold nothing.
    pub(super) fn node(member: bool, mut children: Vec<(PathElement, FieldSet)>) -> Self {
        children.retain(|(_, child)| !child.is_empty());
        children.sort_by(|(one, _), (two, _)| one.cmp(two));
        debug_assert!(children.is_sorted_by(|(one, _), (two, _)| one < two), "an element stands twice");
        Self { member, children }
    }

    /// The paths in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut children = Vec::with_capacity(self.children.len().max(other.children.len()));
        for pair in Pairs::new(&self.children, &other.children) {
            match pair {
                Pair::Left(element, set) | Pair::Right(element, set) => children.push((element.clone(), set.clone())),
                Pair::Both(element, one, two) => children.push((element.clone(), one.union(two))),
            }
        }
        Self { member: self.member || other.member, children }
    }

    /// The paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut children = Vec::new();
        for pair in Pairs::new(&self.children, &other.children) {
            if let Pair::Both(element, one, two) = pair {
                let both = one.intersection(two);
                if !both.is_empty() {
                    children.push((element.clone(), both));
                }
            }
        }
        Self { member: self.member && other.member, children }
    }

    /// The paths of this set that are not in the other. A path in the other does not take away
    /// what is below it.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut children = Vec::with_capacity(self.children.len());
        for pair in Pairs::new(&self.children, &other.children) {
            match pair {
                Pair::Left(element, set) => children.push((element.clone(), set.clone())),
                Pair::Both(element, one, two) => {
                    let left = one.difference(two);
                    if !left.is_empty() {
                        children.push((element.clone(), left));
                    }
                }
                Pair::Right(..) => {}
            }
        }
        Self { member: self.member && !other.member, children }
    }

    /// Whether some path is in both sets.
    pub fn overlaps(&self, other: &Self) -> bool {
        (self.member && other.member)
            || Pairs::new(&self.children, &other.children).any(|pair| matches!(pair, Pair::Both(_, one, two) if one.overlaps(two)))
    }

    /// Whether every path of this set is in the other.
    pub fn is_within(&self, other: &Self) -> bool {
        (!self.member || other.member)
            && Pairs::new(&self.children, &other.children).all(|pair| match pair {
                Pair::Left(..) => false,
                Pair::Both(_, one, two) => one.is_within(two),
                Pair::Right(..) => true,
            })
    }

    /// Every path in the set as messages write it (`.spec.replicas`), in order.
    pub fn paths(&self) -> Vec<String> {
        fn collect(set: &FieldSet, path: &mut String, paths: &mut Vec<String>) {
            if set.member {
                paths.push(path.clone());
            }
            for (element, child) in &set.children {
                let mark = path.len();
                path.push_str(&element.to_string());
                collect(child, path, paths);
                path.truncate(mark);
            }
        }
        let mut paths = Vec::new();
        collect(self, &mut String::new(), &mut paths);
        paths
    }

    /// How many paths are in the set.
    pub fn len(&self) -> usize {
        usize::from(self.member) + self.children.iter().map(|(_, child)| child.len()).sum::<usize>()
    }
}

fn value_is_member(fields: &Map<String, Value>) -> bool {
    fields.is_empty() || fields.contains_key(".")
}

enum Pair<'a> {
    Left(&'a PathElement, &'a FieldSet),
    Right(&'a PathElement, &'a FieldSet),
    Both(&'a PathElement, &'a FieldSet, &'a FieldSet),
}

/// The children of two nodes side by side.
struct Pairs<'a> {
    left: &'a [(PathElement, FieldSet)],
    right: &'a [(PathElement, FieldSet)],
}

impl<'a> Pairs<'a> {
    fn new(left: &'a [(PathElement, FieldSet)], right: &'a [(PathElement, FieldSet)]) -> Self {
        Self { left, right }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let order = match (self.left.first(), self.right.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((two, _))) => one.cmp(two),
        };
        let left = if order.is_le() { self.left.split_off_first() } else { None };
        let right = if order.is_ge() { self.right.split_off_first() } else { None };
        match (left, right) {
            (Some((element, one)), Some((_, two))) => Some(Pair::Both(element, one, two)),
            (Some((element, set)), None) => Some(Pair::Left(element, set)),
            (None, Some((element, set))) => Some(Pair::Right(element, set)),
            (None, None) => None,
        }
    }
}
