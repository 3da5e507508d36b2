//! Kubernetes' protobuf, as far as `kubectl` sends it.
//!
//! `kubectl create namespace` and its like send protobuf and do not try JSON after a refusal. The
//! bodies are decoded straight into the JSON the server works with, by tables of field numbers
//! ([`messages`]); nothing is ever answered in protobuf. A field that stands in no table is an
//! error, since dropping it would store something else than was sent.

mod messages;
mod wire;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::messages::{Message, Shape};
use self::wire::{Field, Wire};

/// How every body begins.
const MAGIC: &[u8] = b"k8s\0";

/// Messages nested more deeply are refused; those decoded have less than ten levels.
const DEPTH_MAX: usize = 32;

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It does not begin as Kubernetes' protobuf does.
    #[error("the body is not Kubernetes protobuf; send application/json")]
    NotKubernetes,
    /// It ends too early or says something impossible.
    #[error("the protobuf body is malformed: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// A kind that is decoded from JSON only.
    #[error(
        "{api_version}, kind {kind} is accepted as application/json only; with kubectl, add \
         --dry-run=client -o yaml to the command and pipe it into `kubectl create -f -`"
    )]
    KindNotSupported {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// A field of a known kind that is not known.
    #[error("field number {number} of {message} is accepted as application/json only")]
    FieldNotSupported {
        /// The message that holds it.
        message: &'static str,
        /// Its number.
        number: u32,
    },
}

impl ProtobufError {
    fn malformed(detail: impl Into<String>) -> Self {
        Self::Malformed { detail: detail.into() }
    }
}

/// Decodes the body of a request into the object it stands for, as it would be in JSON.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::NotKubernetes)?;
    let mut raw: &[u8] = &[];
    let mut type_meta = (String::new(), String::new());
    for field in wire::fields(envelope) {
        let Field { number, wire } = field?;
        let bytes = wire.bytes()?;
        match number {
            1 => type_meta = decode_type_meta(bytes)?,
            2 => raw = bytes,
            // The encoding and the type of the content: Kubernetes' own unless they are set.
            3 | 4 if bytes.is_empty() => {}
            _ => return Err(ProtobufError::malformed(format!("field {number} of the envelope is not supported"))),
        }
    }
    let (api_version, kind) = type_meta;
    let Some(message) = messages::for_kind(&api_version, &kind) else {
        return Err(ProtobufError::KindNotSupported { api_version, kind });
    };
    let mut object = decode_message(raw, message, 0)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

fn decode_type_meta(bytes: &[u8]) -> Result<(String, String), ProtobufError> {
    let mut type_meta = (String::new(), String::new());
    for field in wire::fields(bytes) {
        let Field { number, wire } = field?;
        match number {
            1 => wire.text()?.clone_into(&mut type_meta.0),
            2 => wire.text()?.clone_into(&mut type_meta.1),
            _ => return Err(ProtobufError::malformed("the envelope's type has a field that is not known")),
        }
    }
    Ok(type_meta)
}

fn decode_message(bytes: &[u8], message: &'static Message, depth: usize) -> Result<Map<String, Value>, ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::malformed(format!("nested more than {DEPTH_MAX} levels deep")));
    }
    let mut object = Map::new();
    for field in wire::fields(bytes) {
        let Field { number, wire } = field?;
        let Some(known) = message.fields.iter().find(|known| known.number == number) else {
            if wire.is_empty() {
                // Fields without a value are written too; one that says nothing can be left out.
                continue;
            }
            return Err(ProtobufError::FieldNotSupported { message: message.name, number });
        };
        match known.shape {
            Shape::Skipped => {}
            Shape::List(item) => {
                let item = decode_value(&wire, item, depth)?;
                if let Value::Array(items) = object.entry(known.name).or_insert_with(|| json!([])) {
                    items.push(item);
                }
            }
            Shape::Map(value) => {
                let (key, value) = decode_entry(wire.bytes()?, value, depth)?;
                if let Value::Object(entries) = object.entry(known.name).or_insert_with(|| json!({})) {
                    entries.insert(key, value);
                }
            }
            shape => {
                let value = decode_value(&wire, &shape, depth)?;
                if !is_unset(&shape, &value) {
                    object.insert(known.name.to_owned(), value);
                }
            }
        }
    }
    Ok(object)
}

fn decode_entry(bytes: &[u8], shape: &Shape, depth: usize) -> Result<(String, Value), ProtobufError> {
    let mut key = String::new();
    // A value that is missing is the empty one.
    let mut value = decode_value(&Wire::Bytes(&[]), shape, depth)?;
    for field in wire::fields(bytes) {
        let Field { number, wire } = field?;
        match number {
            1 => wire.text()?.clone_into(&mut key),
            2 => value = decode_value(&wire, shape, depth)?,
            _ => return Err(ProtobufError::malformed("an entry of a map has a third field")),
        }
    }
    Ok((key, value))
}

fn decode_value(wire: &Wire<'_>, shape: &Shape, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match shape {
        Shape::Text | Shape::OptionalText => json!(wire.text()?),
        Shape::Bytes => json!(base64::engine::general_purpose::STANDARD.encode(wire.bytes()?)),
        Shape::Int | Shape::OptionalInt => json!(wire.integer()?),
        Shape::Bool | Shape::OptionalBool => json!(wire.integer()? != 0),
        Shape::Message(message) | Shape::OptionalMessage(message) => Value::Object(decode_message(wire.bytes()?, message, depth + 1)?),
        Shape::Time => decode_time(wire.bytes()?, 0)?,
        Shape::MicroTime => decode_time(wire.bytes()?, 6)?,
        Shape::IntOrString => decode_int_or_string(wire.bytes()?)?,
        Shape::Quantity => {
            let fields = decode_message(wire.bytes()?, &messages::QUANTITY, depth + 1)?;
            fields.get("string").cloned().unwrap_or_else(|| json!("0"))
        }
        Shape::TextList => {
            let fields = decode_message(wire.bytes()?, &messages::TEXT_LIST, depth + 1)?;
            fields.get("items").cloned().unwrap_or_else(|| json!([]))
        }
        Shape::List(_) | Shape::Map(_) | Shape::Skipped => {
            return Err(ProtobufError::malformed("a list holds a list, a map or nothing"));
        }
    })
}

/// Whether a value is the one of a field that was never set.
fn is_unset(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Text => value == "",
        Shape::Int | Shape::IntOrString => value == 0,
        Shape::Bool => value == false,
        Shape::Message(_) => value.as_object().is_some_and(Map::is_empty),
        Shape::Time | Shape::MicroTime => value.is_null(),
        _ => false,
    }
}

/// Seconds and nanoseconds since 1970; null for no time.
fn decode_time(bytes: &[u8], digits: u8) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in wire::fields(bytes) {
        let Field { number, wire } = field?;
        match number {
            1 => seconds = wire.integer()?,
            2 => nanoseconds = i32::try_from(wire.integer()?).map_err(|_| ProtobufError::malformed("a time is out of range"))?,
            _ => return Err(ProtobufError::malformed("a time has a third field")),
        }
    }
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_| ProtobufError::malformed("a time is out of range"))?;
    let precision = usize::from(digits);
    Ok(json!(format!("{time:.precision$}")))
}

fn decode_int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number_value, mut text) = (false, 0, "");
    for field in wire::fields(bytes) {
        let Field { number, wire } = field?;
        match number {
            1 => is_text = wire.integer()? == 1,
            2 => number_value = wire.integer()?,
            3 => text = wire.text()?,
            _ => return Err(ProtobufError::malformed("an integer or string has a fourth field")),
        }
    }
    Ok(if is_text { json!(text) } else { json!(number_value) })
}

#[cfg(test)]
mod tests;
