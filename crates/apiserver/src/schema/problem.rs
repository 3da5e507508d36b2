//! What can be wrong with a field.

use std::fmt;

use serde_json::Value;

/// The types of JSON, with integers told from other numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JsonType {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean,
    /// A number without a fraction
    Integer,
    /// Any number
    Number,
    /// Text
    String,
    /// A list
    Array,
    /// A map
    Object,
}

impl JsonType {
    /// The type of a value; numbers written with a fraction or exponent are [`JsonType::Number`].
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "string" => Self::String,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    pub(super) fn accepts(self, found: JsonType) -> bool {
        self == found || (self == Self::Number && found == Self::Integer)
    }
}

impl fmt::Display for JsonType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        })
    }
}

/// The sort of problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The schema does not know the field.
    Unknown,
    /// The value has another type.
    Type {
        /// `integer`, or `integer or string`
        expected: String,
        /// What it is.
        found: JsonType,
    },
    /// The field must be set.
    Required,
    /// The value is none of those allowed.
    Enum,
    /// The number is too small, too large or no multiple.
    Range,
    /// The text is too short or too long.
    Length,
    /// The text does not match the pattern.
    Pattern,
    /// The text is not of its format: a time, a quantity, base64 and so on.
    Format,
    /// The list or map has too few or too many entries.
    Count,
    /// The value stands in the list twice.
    Duplicate,
    /// The value has none of the forms that are allowed, or a forbidden one.
    Form,
    /// The object is nested too deeply.
    Depth,
    /// A validation rule does not hold; the reason that the rule gives.
    Rule(&'static str),
}

impl Problem {
    /// The `reason` of a cause in a Kubernetes `Status`.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Unknown | Self::Range | Self::Pattern | Self::Format | Self::Form | Self::Depth => "FieldValueInvalid",
            Self::Type { .. } => "FieldValueTypeInvalid",
            Self::Required => "FieldValueRequired",
            Self::Enum => "FieldValueNotSupported",
            Self::Length => "FieldValueTooLong",
            Self::Count => "FieldValueTooMany",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Rule(reason) => reason,
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field, as `spec.roles[0].replicas`.
    pub path: String,
    /// The sort of problem.
    pub problem: Problem,
    /// A sentence for people, without the path. Never holds the value of a `byte` field.
    pub detail: String,
}

impl fmt::Display for FieldError {
    /// In the words of Kubernetes: `unknown field "spec.x"`, else `spec.x: detail`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Unknown if self.detail.is_empty() => write!(f, "unknown field \"{}\"", self.path),
            Problem::Unknown => write!(f, "unknown field \"{}\": {}", self.path, self.detail),
            _ => write!(f, "{}: {}", self.path, self.detail),
        }
    }
}
