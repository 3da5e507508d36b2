//! What of a kind's schema matters for ownership: which lists and maps are merged, and how.

mod compile;

use serde_json::Value;

use super::element::PathElement;

/// The shape of a kind's objects, compiled once from its schema.
#[derive(Debug)]
pub struct FieldTypes {
    nodes: Vec<TypeNode>,
    root: TypeId,
}

/// Index into [`FieldTypes::nodes`].
type TypeId = usize;

/// The node of values of which nothing is known: maps are merged field by field, lists are
/// replaced as a whole.
const UNTYPED: TypeId = 0;

/// One value of the schema. A value may be a map, a list or neither: which of the rules counts is
/// seen from the value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct TypeNode {
    /// Declared fields by name, in order.
    fields: Vec<(Box<str>, TypeId)>,
    /// What undeclared entries of a map are.
    values: Option<TypeId>,
    items: Option<TypeId>,
    list: ListType,
    /// A map or object that has one owner as a whole.
    atomic: bool,
    /// A part of every object of the kind that is there even when nothing is said about it, so
    /// that nobody owns its existence.
    always_there: bool,
}

/// How a list is merged (`x-kubernetes-list-type`).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(super) enum ListType {
    /// As a whole.
    #[default]
    Atomic,
    /// As a set of values.
    Set,
    /// Item by item, told apart by these fields.
    Map(Vec<ListKey>),
}

/// A field that tells the items of a list apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ListKey {
    pub(super) name: Box<str>,
    /// What counts when an item leaves it out.
    pub(super) default: Option<Value>,
}

/// Why an item has no place in its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ItemError {
    NotAMap,
    NotAValue,
    KeyMissing(Box<str>),
    KeyNotAValue(Box<str>),
}

/// One value's type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type<'a> {
    types: &'a FieldTypes,
    id: TypeId,
}

impl FieldTypes {
    /// Types of a kind of which nothing is known.
    pub fn untyped() -> Self {
        Self { nodes: vec![TypeNode { values: Some(UNTYPED), items: Some(UNTYPED), ..TypeNode::default() }], root: UNTYPED }
    }

    pub(super) fn root(&self) -> Type<'_> {
        Type { types: self, id: self.root }
    }
}

impl<'a> Type<'a> {
    fn node(self) -> &'a TypeNode {
        &self.types.nodes[self.id]
    }

    fn at(self, id: TypeId) -> Self {
        Self { types: self.types, id }
    }

    fn declared(self, name: &str) -> Option<TypeId> {
        let fields = &self.node().fields;
        let place = fields.binary_search_by(|(field, _)| field.as_ref().cmp(name)).ok()?;
        Some(fields[place].1)
    }

    /// Whether the field is one of an object, and not an entry of a map.
    pub(super) fn declares(self, name: &str) -> bool {
        self.declared(name).is_some()
    }

    pub(super) fn field(self, name: &str) -> Self {
        self.at(self.declared(name).or(self.node().values).unwrap_or(UNTYPED))
    }

    pub(super) fn item(self) -> Self {
        self.at(self.node().items.unwrap_or(UNTYPED))
    }

    /// The type of what an element leads to.
    pub(super) fn child(self, element: &PathElement) -> Self {
        match element.field_name() {
            Some(name) => self.field(name),
            None => self.item(),
        }
    }

    pub(super) fn is_atomic_map(self) -> bool {
        self.node().atomic
    }

    pub(super) fn is_always_there(self) -> bool {
        self.node().always_there
    }

    pub(super) fn list(self) -> &'a ListType {
        &self.node().list
    }

    /// Whether a list of this type is one value with one owner.
    pub(super) fn is_atomic_list(self) -> bool {
        *self.list() == ListType::Atomic
    }

    /// The element that an item of this list is found by.
    pub(super) fn element(self, item: &Value) -> Result<PathElement, ItemError> {
        match self.list() {
            ListType::Atomic | ListType::Set => match item {
                Value::Object(_) | Value::Array(_) => Err(ItemError::NotAValue),
                value => Ok(PathElement::value(value)),
            },
            ListType::Map(keys) => {
                let fields = item.as_object().ok_or(ItemError::NotAMap)?;
                let mut values = Vec::with_capacity(keys.len());
                for ListKey { name, default } in keys {
                    let value = match fields.get(name.as_ref()) {
                        None | Some(Value::Null) => default.clone().ok_or_else(|| ItemError::KeyMissing(name.clone()))?,
                        Some(Value::Object(_) | Value::Array(_)) => return Err(ItemError::KeyNotAValue(name.clone())),
                        Some(value) => value.clone(),
                    };
                    values.push((name.as_ref(), value));
                }
                Ok(PathElement::key(values))
            }
        }
    }

    /// The elements of all items, or none if one of them has no place in the list: then the list
    /// can only be taken as a whole.
    pub(super) fn elements(self, items: &[Value]) -> Option<Vec<PathElement>> {
        items.iter().map(|item| self.element(item).ok()).collect()
    }
}
