//! The outline of a schema: which fields an object can have and what sort of value each takes, as a
//! tree. It is what columns of files are made from; see [`crate::exchange`].

use super::{Additional, IntOrString, JsonType, Node, NodeId, Validator};

/// A field, and what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outline {
    /// An object whose fields are all declared: their names, sorted, and whether they are required.
    Group(Vec<(Box<str>, Outline, bool)>),
    Leaf(Shape),
}

/// What sort of value a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Integer,
    Number,
    Boolean,
    /// `80` or `http`.
    IntegerOrText,
    /// `500m`, always kept as text.
    Quantity,
    /// Names and texts, such as labels.
    TextMap,
    /// Texts, such as arguments.
    TextList,
    /// Anything else: lists, objects without declared fields.
    Json,
}

impl Validator {
    /// The outline, with groups down to so many levels; what is deeper is a leaf of any JSON.
    pub(crate) fn outline(&self, levels: usize) -> Outline {
        self.outline_of(self.root, levels)
    }

    fn outline_of(&self, id: NodeId, levels: usize) -> Outline {
        let node = self.node(id);
        match node.int_or_string {
            Some(IntOrString::Quantity) => return Outline::Leaf(Shape::Quantity),
            Some(IntOrString::Any | IntOrString::PortOrPercent) => return Outline::Leaf(Shape::IntegerOrText),
            None => {}
        }
        // A reference with words or a default of its own beside it.
        let says_nothing_else = node.types.is_empty() && node.properties.is_empty() && node.any_of.is_empty() && node.one_of.is_empty();
        if let ([only], true) = (node.all_of.as_slice(), says_nothing_else) {
            return self.outline_of(*only, levels);
        }
        match node.types.as_slice() {
            [JsonType::Object] => self.outline_of_object(node, levels),
            [JsonType::Array] => {
                let is_text = node.items.is_some_and(|items| self.outline_of(items, 0) == Outline::Leaf(Shape::Text));
                Outline::Leaf(if is_text { Shape::TextList } else { Shape::Json })
            }
            [JsonType::String] => Outline::Leaf(Shape::Text),
            [JsonType::Integer] => Outline::Leaf(Shape::Integer),
            [JsonType::Number] => Outline::Leaf(Shape::Number),
            [JsonType::Boolean] => Outline::Leaf(Shape::Boolean),
            _ => Outline::Leaf(Shape::Json),
        }
    }

    fn outline_of_object(&self, node: &Node, levels: usize) -> Outline {
        if let (true, Additional::Schema(values)) = (node.properties.is_empty(), node.additional) {
            let of_texts = matches!(self.outline_of(values, 0), Outline::Leaf(Shape::Text | Shape::Quantity));
            return Outline::Leaf(if of_texts { Shape::TextMap } else { Shape::Json });
        }
        let declares_all = !node.is_open()
            && node.declared_in_combined.iter().all(|name| node.properties.contains_key(name))
            // A column is headed by names with dots between them.
            && node.properties.keys().all(|name| !name.is_empty() && !name.contains(['.', '~']));
        if !declares_all || node.properties.is_empty() || levels == 0 {
            return Outline::Leaf(Shape::Json);
        }
        let mut fields: Vec<_> = node
            .properties
            .iter()
            .map(|(name, child)| (name.clone(), self.outline_of(*child, levels - 1), node.required.contains(name)))
            .collect();
        fields.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        Outline::Group(fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn declared_fields_are_told_with_their_shapes() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "required": ["queue"], "properties": {
                "queue": {"type": "string"},
                "workers": {"type": "integer"},
                "share": {"type": "number"},
                "paused": {"type": "boolean"},
                "port": {"x-kubernetes-int-or-string": true},
                "limits": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true, "format": "quantity"}},
                "arguments": {"type": "array", "items": {"type": "string"}},
                "steps": {"type": "array", "items": {"type": "object"}},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "deep": {"type": "object", "properties": {"deeper": {"type": "object", "properties": {"x": {"type": "string"}}}}},
                "dotted": {"type": "object", "properties": {"a.b": {"type": "string"}}},
            }},
        }});
        let outline = Validator::compile(&schema).expect("a schema").outline(3);
        let Outline::Group(top) = outline else { panic!("a group") };
        let (_, Outline::Group(spec), _) = top.iter().find(|(name, ..)| &**name == "spec").expect("spec") else { panic!("a group") };
        let shapes: Vec<(&str, Option<Shape>, bool)> = spec
            .iter()
            .map(|(name, outline, required)| {
                let shape = match outline {
                    Outline::Leaf(shape) => Some(*shape),
                    Outline::Group(_) => None,
                };
                (&**name, shape, *required)
            })
            .collect();
        assert_eq!(
            shapes,
            [
                ("arguments", Some(Shape::TextList), false),
                ("deep", None, false),
                ("dotted", Some(Shape::Json), false),
                ("limits", Some(Shape::TextMap), false),
                ("open", Some(Shape::Json), false),
                ("paused", Some(Shape::Boolean), false),
                ("port", Some(Shape::IntegerOrText), false),
                ("queue", Some(Shape::Text), true),
                ("share", Some(Shape::Number), false),
                ("steps", Some(Shape::Json), false),
                ("workers", Some(Shape::Integer), false),
            ]
        );
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends_at_the_last_level() {
        let schema = json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}});
        let mut outline = &Validator::compile_value(&schema).expect("a schema").outline(3);
        let mut levels = 0;
        while let Outline::Group(fields) = outline {
            outline = &fields.iter().find(|(name, ..)| &**name == "a").expect("itself").1;
            levels += 1;
        }
        assert_eq!((levels, outline), (3, &Outline::Leaf(Shape::Json)));
    }
}
