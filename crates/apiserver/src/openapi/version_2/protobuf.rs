//! OpenAPI v2 as protobuf: the only form in which `kubectl` reads it, to check what it sends where
//! the server cannot be asked to, such as the items of a `List`.
//!
//! The messages are those of gnostic, <https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto>,
//! as far as [`super::document`] makes them. The JSON document is written by tables of field
//! numbers: what a table does not name, gnostic does not know either, and is left out.

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

/// A message: its fields by their names in JSON, and the number of the field that takes the
/// vendor's extensions (`x-…`), if there is one.
struct Message {
    fields: &'static [Field],
    extensions: Option<u32>,
}

struct Field {
    name: &'static str,
    number: u32,
    shape: Shape,
}

/// How a value of JSON is written.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Bool,
    /// `int64`
    Integer,
    /// `double`
    Number,
    /// Any value, as a text of YAML, of which JSON is a part.
    Any,
    Message(&'static Message),
    /// The message that holds itself, which a constant cannot name.
    Schema,
    /// A repeated field out of a list; what is no list counts as a list of one.
    Each(&'static Shape),
    /// A message that has this one field: wrappers of repeated fields, and the forms of a choice.
    Within(u32, &'static Shape),
    /// A map, as a message in which this field repeats pairs of name and value.
    Named(u32, &'static Shape),
    /// `true`, `false`, or a schema.
    AdditionalProperties,
    /// One of several messages, told apart by where the parameter stands (`in`).
    Parameter,
}

use Shape::{AdditionalProperties, Any, Bool, Each, Integer, Named, Number, Parameter, Schema, Text, Within};

const TEXTS: Shape = Each(&Text);

/// A parameter of its own (1, a reference to one would be 2): one in the body (1), or not (2), and then
/// one in the query (3) or in the path (4).
static IN_BODY: Shape = Within(1, &Within(1, &Shape::Message(&BODY_PARAMETER)));
static IN_QUERY: Shape = Within(1, &Within(2, &Within(3, &Shape::Message(&QUERY_PARAMETER))));
static IN_PATH: Shape = Within(1, &Within(2, &Within(4, &Shape::Message(&PATH_PARAMETER))));

macro_rules! messages {
    ($($id:ident $extensions:expr; { $($number:literal $field:literal $shape:expr,)* })*) => {
        $(static $id: Message = Message {
            fields: &[$(Field { name: $field, number: $number, shape: $shape }),*],
            extensions: $extensions,
        };)*
    };
}

messages! {
    DOCUMENT Some(16); {
        1 "swagger" Text,
        2 "info" Shape::Message(&INFO),
        3 "host" Text,
        4 "basePath" Text,
        5 "schemes" TEXTS,
        6 "consumes" TEXTS,
        7 "produces" TEXTS,
        8 "paths" Named(2, &Shape::Message(&PATH_ITEM)),
        9 "definitions" Named(1, &Schema),
        12 "security" Each(&Named(1, &Within(1, &TEXTS))),
        13 "securityDefinitions" Named(1, &Within(2, &Shape::Message(&API_KEY))),
    }
    INFO Some(7); {
        1 "title" Text,
        2 "version" Text,
        3 "description" Text,
    }
    API_KEY Some(5); {
        1 "type" Text,
        2 "name" Text,
        3 "in" Text,
        4 "description" Text,
    }
    PATH_ITEM Some(10); {
        2 "get" Shape::Message(&OPERATION),
        3 "put" Shape::Message(&OPERATION),
        4 "post" Shape::Message(&OPERATION),
        5 "delete" Shape::Message(&OPERATION),
        6 "options" Shape::Message(&OPERATION),
        7 "head" Shape::Message(&OPERATION),
        8 "patch" Shape::Message(&OPERATION),
        9 "parameters" Each(&Parameter),
    }
    OPERATION Some(13); {
        1 "tags" TEXTS,
        2 "summary" Text,
        3 "description" Text,
        5 "operationId" Text,
        6 "produces" TEXTS,
        7 "consumes" TEXTS,
        8 "parameters" Each(&Parameter),
        9 "responses" Named(1, &Within(1, &Shape::Message(&RESPONSE))),
        10 "schemes" TEXTS,
        11 "deprecated" Bool,
    }
    RESPONSE Some(5); {
        1 "description" Text,
        2 "schema" Within(1, &Schema),
    }
    BODY_PARAMETER Some(6); {
        1 "description" Text,
        2 "name" Text,
        3 "in" Text,
        4 "required" Bool,
        5 "schema" Schema,
    }
    QUERY_PARAMETER Some(23); {
        1 "required" Bool,
        2 "in" Text,
        3 "description" Text,
        4 "name" Text,
        5 "allowEmptyValue" Bool,
        6 "type" Text,
        7 "format" Text,
        20 "uniqueItems" Bool,
    }
    PATH_PARAMETER Some(22); {
        1 "required" Bool,
        2 "in" Text,
        3 "description" Text,
        4 "name" Text,
        5 "type" Text,
        6 "format" Text,
        19 "uniqueItems" Bool,
    }
    SCHEMA Some(31); {
        1 "$ref" Text,
        2 "format" Text,
        3 "title" Text,
        4 "description" Text,
        5 "default" Any,
        6 "multipleOf" Number,
        7 "maximum" Number,
        8 "exclusiveMaximum" Bool,
        9 "minimum" Number,
        10 "exclusiveMinimum" Bool,
        11 "maxLength" Integer,
        12 "minLength" Integer,
        13 "pattern" Text,
        14 "maxItems" Integer,
        15 "minItems" Integer,
        16 "uniqueItems" Bool,
        17 "maxProperties" Integer,
        18 "minProperties" Integer,
        19 "required" TEXTS,
        20 "enum" Each(&Any),
        21 "additionalProperties" AdditionalProperties,
        22 "type" Within(1, &TEXTS),
        23 "items" Within(1, &Each(&Schema)),
        24 "allOf" Each(&Schema),
        25 "properties" Named(1, &Schema),
        26 "discriminator" Text,
        27 "readOnly" Bool,
        30 "example" Any,
    }
}

/// The document of version 2 as `openapi.v2.Document`.
pub(in crate::openapi) fn encode(document: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Value::Object(fields) = document {
        write_message(fields, &DOCUMENT, &mut bytes);
    }
    bytes
}

/// How deep it goes is bounded by the depth of schemas.
fn write_message(object: &Map<String, Value>, message: &Message, out: &mut Vec<u8>) {
    for field in message.fields {
        if let Some(value) = object.get(field.name) {
            write_field(field.number, field.shape, value, out);
        }
    }
    let extensions = message.extensions.into_iter().flat_map(|number| object.iter().map(move |entry| (number, entry)));
    for (number, (name, value)) in extensions.filter(|(_, (name, _))| name.starts_with("x-")) {
        write_pair(number, name, &Any, value, out);
    }
}

/// Writes a field. A value of another type than the field's has no form here, and is left out.
fn write_field(number: u32, shape: Shape, value: &Value, out: &mut Vec<u8>) {
    match (shape, value) {
        (Shape::Text, Value::String(text)) => write_bytes(number, text.as_bytes(), out),
        (Shape::Bool, Value::Bool(value)) => write_integer(number, u64::from(*value), out),
        (Shape::Integer, Value::Number(value)) => {
            if let Some(value) = value.as_i64() {
                // Negative numbers are written in two's complement.
                write_integer(number, value as u64, out);
            }
        }
        (Shape::Number, Value::Number(value)) => {
            if let Some(value) = value.as_f64() {
                encode_key(number, WireType::SixtyFourBit, out);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        (Shape::Any, value) => write_nested(number, out, |inner| write_bytes(2, value.to_string().as_bytes(), inner)),
        (Shape::Message(message), Value::Object(fields)) => write_nested(number, out, |inner| write_message(fields, message, inner)),
        (Shape::Schema, schema) => write_field(number, Shape::Message(&SCHEMA), schema, out),
        (Shape::Each(shape), Value::Array(items)) => items.iter().for_each(|item| write_field(number, *shape, item, out)),
        (Shape::Each(shape), single) => write_field(number, *shape, single, out),
        (Shape::Within(field, shape), value) => write_nested(number, out, |inner| write_field(field, *shape, value, inner)),
        (Shape::Named(field, shape), Value::Object(entries)) => write_nested(number, out, |inner| {
            for (name, value) in entries {
                write_pair(field, name, shape, value, inner);
            }
        }),
        (Shape::AdditionalProperties, Value::Bool(value)) => {
            write_nested(number, out, |inner| write_integer(2, u64::from(*value), inner));
        }
        (Shape::AdditionalProperties, schema) => write_nested(number, out, |inner| write_field(1, Schema, schema, inner)),
        (Shape::Parameter, parameter) => {
            let form = match parameter["in"].as_str() {
                Some("body") => &IN_BODY,
                Some("path") => &IN_PATH,
                _ => &IN_QUERY,
            };
            write_field(number, *form, parameter, out);
        }
        _ => {}
    }
}

fn write_pair(number: u32, name: &str, shape: &Shape, value: &Value, out: &mut Vec<u8>) {
    write_nested(number, out, |inner| {
        write_bytes(1, name.as_bytes(), inner);
        write_field(2, *shape, value, inner);
    });
}

fn write_nested(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    write_bytes(number, &inner, out);
}

fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn write_integer(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;

    /// A part of the messages as anybody else would declare them.
    #[derive(prost::Message)]
    struct Read {
        #[prost(string, tag = "1")]
        swagger: String,
        #[prost(message, optional, tag = "9")]
        definitions: Option<Definitions>,
    }

    #[derive(prost::Message)]
    struct Definitions {
        #[prost(message, repeated, tag = "1")]
        named: Vec<NamedSchema>,
    }

    #[derive(prost::Message)]
    struct NamedSchema {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "2")]
        schema: Option<SchemaRead>,
    }

    #[derive(prost::Message)]
    struct SchemaRead {
        #[prost(string, tag = "1")]
        reference: String,
        #[prost(double, tag = "9")]
        minimum: f64,
        #[prost(int64, tag = "15")]
        items_min: i64,
        #[prost(string, repeated, tag = "19")]
        required: Vec<String>,
        #[prost(message, optional, boxed, tag = "21")]
        additional: Option<Box<Additional>>,
        #[prost(message, optional, tag = "22")]
        types: Option<TypeItem>,
        #[prost(message, optional, tag = "25")]
        properties: Option<Definitions>,
        #[prost(message, repeated, tag = "31")]
        extensions: Vec<NamedAny>,
    }

    #[derive(prost::Message)]
    struct Additional {
        #[prost(message, optional, tag = "1")]
        schema: Option<SchemaRead>,
        #[prost(bool, optional, tag = "2")]
        anything: Option<bool>,
    }

    #[derive(prost::Message)]
    struct TypeItem {
        #[prost(string, repeated, tag = "1")]
        value: Vec<String>,
    }

    #[derive(prost::Message)]
    struct NamedAny {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "2")]
        value: Option<AnyRead>,
    }

    #[derive(prost::Message)]
    struct AnyRead {
        #[prost(string, tag = "2")]
        yaml: String,
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let document = json!({"swagger": "2.0", "definitions": {"a.Kind": {
            "type": "object",
            "required": ["spec"],
            "properties": {
                "spec": {"$ref": "#/definitions/a.Spec"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "anything": {"type": "object", "additionalProperties": true},
                "list": {"type": "array", "items": {"type": "number", "minimum": -1.5}, "minItems": 2},
            },
            "x-kubernetes-group-version-kind": [{"group": "a", "kind": "Kind", "version": "v1"}],
        }}});
        let read = Read::decode(encode(&document).as_slice()).expect("a message");
        assert_eq!(read.swagger, "2.0");
        let definitions = read.definitions.expect("definitions").named;
        assert_eq!(definitions[0].name, "a.Kind");
        let schema = definitions[0].schema.as_ref().expect("a schema");
        assert_eq!(schema.types.as_ref().map(|types| types.value.clone()), Some(vec!["object".to_owned()]));
        assert_eq!(schema.required, ["spec"]);
        let extension = &schema.extensions[0];
        assert_eq!(extension.name, "x-kubernetes-group-version-kind");
        assert_eq!(extension.value.as_ref().expect("a value").yaml, r#"[{"group":"a","kind":"Kind","version":"v1"}]"#);
        let properties = &schema.properties.as_ref().expect("properties").named;
        let property = |name: &str| properties.iter().find(|found| found.name == name).and_then(|found| found.schema.as_ref()).expect(name);
        assert_eq!(property("spec").reference, "#/definitions/a.Spec");
        assert_eq!(property("list").items_min, 2);
        let values = property("labels").additional.as_ref().and_then(|additional| additional.schema.as_ref()).expect("a schema of values");
        assert_eq!(values.types.as_ref().map(|types| types.value.clone()), Some(vec!["string".to_owned()]));
        assert_eq!(property("anything").additional.as_ref().and_then(|additional| additional.anything), Some(true));
        assert!(values.minimum == 0.0 && property("list").minimum == 0.0);
    }
}
