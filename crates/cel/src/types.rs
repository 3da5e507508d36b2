//! What is known of values before there are any.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type with the largest size its values have: characters, entries, or one.
#[derive(Debug, Clone, PartialEq)]
pub struct Typed {
    /// The type.
    pub ty: Type,
    /// Characters of a text, bytes, items of a list, entries of a map.
    pub max: u64,
}

impl Typed {
    /// A type of a given largest size.
    pub fn new(ty: Type, max: u64) -> Self {
        Self { ty, max }
    }
}

impl From<Type> for Typed {
    fn from(ty: Type) -> Self {
        Self { ty, max: 1 }
    }
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Known only when it is there.
    Dyn,
    /// `null`
    Null,
    /// `true`, `false`
    Bool,
    /// 64 bits with a sign.
    Int,
    /// 64 bits without a sign.
    Uint,
    /// A binary fraction.
    Double,
    /// Text.
    Text,
    /// Bytes; base64 in JSON.
    Bytes,
    /// A span of time.
    Duration,
    /// A moment.
    Timestamp,
    /// A list.
    List(Arc<Typed>, ListKind),
    /// A map from texts, or from what its first type says.
    Map(Arc<Typed>, Arc<Typed>),
    /// An object with declared fields.
    Object(Arc<Object>),
    /// A value that may be missing.
    Optional(Arc<Typed>),
    /// A type as a value.
    Type,
    /// An amount, as in `resources`.
    Quantity,
    /// An address of the web.
    Url,
    /// An address of the network.
    Ip,
    /// A range of addresses.
    Cidr,
    /// A named format of texts.
    Format,
}

/// How the items of a list are compared and joined.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ListKind {
    /// One after the other.
    #[default]
    Atomic,
    /// Without order.
    Set,
    /// Without order, told apart by some of their fields (names in JSON).
    Map(Arc<[Box<str>]>),
}

/// An object with declared fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object {
    /// For messages.
    pub name: String,
    /// By the name that expressions use, see [`escape_property`].
    pub fields: BTreeMap<Box<str>, Field>,
}

/// A field of an [`Object`].
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The property in JSON.
    pub property: Box<str>,
    /// What it holds.
    pub typed: Typed,
}

impl Type {
    /// A list of unlimited texts.
    pub(crate) fn texts(max: u64) -> Self {
        Self::List(Arc::new(Typed::new(Self::Text, max)), ListKind::Atomic)
    }

    pub(crate) fn list(item: Typed) -> Self {
        Self::List(Arc::new(item), ListKind::Atomic)
    }

    /// Whether a value of one may stand where the other is expected.
    pub(crate) fn fits(&self, other: &Type) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(a, _), Self::List(b, _)) | (Self::Optional(a), Self::Optional(b)) => a.ty.fits(&b.ty),
            (Self::Map(ka, va), Self::Map(kb, vb)) => ka.ty.fits(&kb.ty) && va.ty.fits(&vb.ty),
            (Self::Object(a), Self::Object(b)) => a.name == b.name,
            (one, two) => std::mem::discriminant(one) == std::mem::discriminant(two),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Text => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("google.protobuf.Duration"),
            Self::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Self::List(item, _) => write!(f, "list({})", item.ty),
            Self::Map(key, value) => write!(f, "map({}, {})", key.ty, value.ty),
            Self::Object(object) => f.write_str(&object.name),
            Self::Optional(inner) => write!(f, "optional_type({})", inner.ty),
            Self::Type => f.write_str("type"),
            Self::Quantity => f.write_str("kubernetes.Quantity"),
            Self::Url => f.write_str("kubernetes.URL"),
            Self::Ip => f.write_str("net.IP"),
            Self::Cidr => f.write_str("net.CIDR"),
            Self::Format => f.write_str("kubernetes.NamedFormat"),
        }
    }
}

/// Words that cannot be fields in expressions as they are.
const KEYWORDS: [&str; 18] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
];

/// The name by which an expression reaches a property, by Kubernetes' rules; `None` for one that
/// cannot be reached.
pub fn escape_property(property: &str) -> Option<String> {
    if KEYWORDS.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let starts_well = property.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well {
        return None;
    }
    let mut escaped = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("__") {
            escaped.push_str("__underscores__");
            rest = tail;
            continue;
        }
        match c {
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => escaped.push(c),
            _ => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(escaped)
}
