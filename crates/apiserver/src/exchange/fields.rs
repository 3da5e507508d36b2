//! The columns of a kind, made from its schema: one for each field that an import can set, headed by
//! its path.
//!
//! A group of declared fields is spread over the columns of its fields. It has a column of its own
//! all the same, which holds what the others cannot tell: that the group is there but empty, or
//! whatever the schema does not know in it. So no value is lost, and what is not used gets no column.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::cell::Cell;
use super::portable::{METADATA, keep_own_annotations};
use crate::catalog::Resource;
use crate::schema::outline::{Outline, Shape};

/// The most columns of a kind. Groups that would need more are one column of JSON each.
const FIELDS_MAX: usize = 300;
/// The most levels of groups that are spread over columns.
const LEVELS_MAX: usize = 8;

/// The fields of a kind that files have columns for.
#[derive(Debug)]
pub(crate) struct Fields {
    list: Vec<Field>,
    top: Group,
    by_heading: HashMap<String, usize>,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    /// The names that lead to it.
    pub(super) path: Vec<Box<str>>,
    /// The names with dots between them.
    pub(super) heading: String,
    pub(super) shape: Shape,
    /// It has columns for the fields in it.
    pub(super) is_group: bool,
    /// An object of the kind needs it.
    pub(super) required: bool,
}

type Group = BTreeMap<Box<str>, Place>;

/// Where in the object a field is, to find its column.
#[derive(Debug)]
enum Place {
    Leaf(usize),
    /// With the column of the group itself; the metadata has none.
    Group(Option<usize>, Group),
}

/// Which field, or which entry of a map, a column of a file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Field(usize),
    /// `metadata.labels.team`: one entry of a map.
    Entry(usize, String),
    /// `spec.x~2`: what did not fit into the cell before.
    More(usize, usize),
    /// Only to be read.
    Ignored,
}

impl Fields {
    /// The fields of a kind: name and place, then the rest in the order of their names.
    pub(crate) fn of(resource: &Resource) -> Self {
        let mut levels = LEVELS_MAX;
        loop {
            let fields = Self::with_levels(resource, levels);
            // At one level there are as many as an object has fields at its top.
            if fields.list.len() <= FIELDS_MAX || levels == 1 {
                return fields;
            }
            levels -= 1;
        }
    }

    fn with_levels(resource: &Resource, levels: usize) -> Self {
        let mut fields = Self { list: Vec::new(), top: Group::new(), by_heading: HashMap::new() };
        let mut metadata = Group::new();
        for name in METADATA.into_iter().filter(|name| resource.namespaced || *name != "namespace") {
            let is_map = !matches!(name, "namespace" | "name");
            let shape = if is_map { Shape::TextMap } else { Shape::Text };
            let index = fields.add(&["metadata".into()], name, shape, false, !is_map);
            metadata.insert(name.into(), Place::Leaf(index));
        }
        let mut top = Group::new();
        if let Outline::Group(outlines) = resource.validator.outline(levels) {
            for (name, outline, required) in outlines {
                if resource.is_imported_field(&name) {
                    let place = fields.place(&[], &name, outline, required);
                    top.insert(name, place);
                }
            }
        }
        // The metadata as a whole has no column: it is never empty, and nothing else of it is written.
        top.insert("metadata".into(), Place::Group(None, metadata));
        fields.top = top;
        fields.by_heading = fields.list.iter().enumerate().map(|(index, field)| (field.heading.clone(), index)).collect();
        fields
    }

    fn place(&mut self, above: &[Box<str>], name: &str, outline: Outline, required: bool) -> Place {
        match outline {
            Outline::Leaf(shape) => Place::Leaf(self.add(above, name, shape, false, required)),
            Outline::Group(children) => {
                let index = self.add(above, name, Shape::Json, true, required);
                let path = self.list[index].path.clone();
                let group = children
                    .into_iter()
                    .map(|(child, outline, child_required)| {
                        let place = self.place(&path, &child, outline, required && child_required);
                        (child, place)
                    })
                    .collect();
                Place::Group(Some(index), group)
            }
        }
    }

    fn add(&mut self, above: &[Box<str>], name: &str, shape: Shape, is_group: bool, required: bool) -> usize {
        let mut path = above.to_vec();
        path.push(name.into());
        self.list.push(Field { heading: path.join("."), path, shape, is_group, required });
        self.list.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn get(&self, index: usize) -> &Field {
        &self.list[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    /// The cells of an object, by their fields. The object has been through
    /// [`super::portable::for_table`].
    pub(super) fn cells(&self, object: &Value) -> Vec<(usize, Cell)> {
        let mut cells = Vec::new();
        if let Value::Object(fields) = object {
            for (name, value) in fields {
                if let Some(place) = self.top.get(name.as_str()) {
                    self.spread(place, value, &mut cells);
                }
            }
        }
        cells
    }

    fn spread(&self, place: &Place, value: &Value, cells: &mut Vec<(usize, Cell)>) {
        let (index, group) = match place {
            Place::Leaf(index) => {
                cells.push((*index, Cell::of(self.list[*index].shape, value)));
                return;
            }
            Place::Group(index, group) => (*index, group),
        };
        match value {
            Value::Object(fields) if !fields.is_empty() && fields.keys().all(|name| group.contains_key(name.as_str())) => {
                for (name, value) in fields {
                    self.spread(&group[name.as_str()], value, cells);
                }
            }
            other => cells.extend(index.map(|index| (index, Cell::of(Shape::Json, other)))),
        }
    }

    /// What a column with that heading is for; `None` if the kind has no such field.
    pub(super) fn target(&self, resource: &Resource, heading: &str) -> Option<Target> {
        if let Some(index) = self.by_heading.get(heading) {
            return Some(Target::Field(*index));
        }
        if let Some((field, part)) = heading.rsplit_once('~')
            && let (Some(index), Ok(part)) = (self.by_heading.get(field), part.parse())
            && part >= 2
        {
            return Some(Target::More(*index, part));
        }
        if resource.columns.columns().iter().any(|column| column.name == heading) || is_read_only(resource, heading) {
            return Some(Target::Ignored);
        }
        let entry = |(dot, _): (usize, &str)| {
            let (map, name) = (&heading[..dot], &heading[dot + 1..]);
            let index = *self.by_heading.get(map)?;
            (self.list[index].shape == Shape::TextMap && !name.is_empty()).then(|| Target::Entry(index, name.to_owned()))
        };
        heading.match_indices('.').find_map(entry)
    }
}

/// Whether a heading is of a field that exists and that no import writes.
fn is_read_only(resource: &Resource, heading: &str) -> bool {
    let (first, rest) = heading.split_once('.').unwrap_or((heading, ""));
    match first {
        "apiVersion" | "kind" => rest.is_empty(),
        "status" => resource.has_status(),
        "metadata" => {
            let name = rest.split('.').next().unwrap_or_default();
            matches!(
                name,
                "uid"
                    | "resourceVersion"
                    | "generation"
                    | "creationTimestamp"
                    | "deletionTimestamp"
                    | "deletionGracePeriodSeconds"
                    | "generateName"
                    | "selfLink"
                    | "managedFields"
                    | "ownerReferences"
                    | "finalizers"
            )
        }
        _ => false,
    }
}

/// The value a file gives to a field, or to an entry of a map; none where its cell is empty.
pub(super) struct Assignment {
    pub(super) field: usize,
    pub(super) entry: Option<String>,
    pub(super) value: Option<Value>,
}

impl Fields {
    /// Writes what a row says over what is stored, or over the beginning of a new object. Fields the
    /// file has no column for stay; those whose cell is empty go. Name and namespace are not written:
    /// they tell which object it is.
    pub(super) fn assign(&self, stored: &Value, assignments: &[Assignment]) -> Value {
        let mut object = stored.clone();
        let mut given = Vec::new();
        for assignment in assignments {
            let field = &self.list[assignment.field];
            let mut path: Vec<&str> = field.path.iter().map(|name| &**name).collect();
            if matches!(path.as_slice(), ["metadata", "name" | "namespace"]) {
                continue;
            }
            path.extend(assignment.entry.as_deref());
            match &assignment.value {
                Some(value) => given.push((path, value)),
                // The columns of the fields in it say what becomes of a group.
                None if field.is_group => {}
                None => _ = remove(&mut object, &path, 0),
            }
        }
        // A group or a map before what is in it.
        given.sort_by_key(|(path, _)| path.len());
        for (path, value) in given {
            set(&mut object, &path, value.clone());
        }
        keep_own_annotations(stored, &mut object);
        object
    }
}

fn set(mut value: &mut Value, path: &[&str], new: Value) {
    for name in path {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value = &mut value[*name];
    }
    *value = new;
}

/// Removes what is at a path, and the groups that are empty for it, but none at the top. Answers
/// whether `value` is empty for it.
fn remove(value: &mut Value, path: &[&str], level: usize) -> bool {
    let (Some(fields), Some((first, rest))) = (value.as_object_mut(), path.split_first()) else { return false };
    let goes = if rest.is_empty() {
        fields.contains_key(*first)
    } else {
        fields.get_mut(*first).is_some_and(|child| remove(child, rest, level + 1)) && level > 0
    };
    if goes {
        fields.remove(*first);
    }
    goes && fields.is_empty()
}
