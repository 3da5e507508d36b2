//! Bodies and paths as clients send them: YAML, protobuf, JSONPath.

use fermion_apiserver::json_path::{JSON_PATH_BYTES_MAX, JsonPath};
use fermion_apiserver::patch::{PATCH_DEPTH_MAX, yaml};
use fermion_apiserver::protobuf;
use serde_json::Value;

use crate::input::Input;

/// What JSON itself nests at most, in serde_json's reader.
const JSON_DEPTH_MAX: usize = 128;

const YAML_WORDS: &[&str] = &[
    "a: ",
    "b: ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "&x ",
    "*x",
    "<<: ",
    "!!str ",
    "!t ",
    "---\n",
    "...\n",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "'",
    "\"",
    "|\n",
    ">-\n",
    "? ",
    "~",
    "null",
    "true",
    "yes",
    "0x1F",
    "0o7",
    "1e3",
    ".inf",
    ".nan",
    "-1",
    "18446744073709551616",
    "1_000",
    "# c",
    "\\u00e9",
    "\t",
    "\u{feff}",
    "2026-01-01",
    "%YAML 1.2\n",
];

const PATH_WORDS: &[&str] = &[
    ".spec", ".a", ".b", "['a.b']", "[0]", "[-1]", "[*]", ".*", "[?(@.", "[?(", ")]", "==", "!=", "<", "<=", ">", ">=", "\"a\"", "'a'",
    "1", "-1.5", "true", "{", "}", "\\.", "@", "$", "..", " ", "[", "]", "\"", "é", "null", ".type", ".status",
];

const NAMES: &[&str] = &["spec", "status", "a", "b", "a.b", "type", ""];

/// Bytes of a message's start: the marks of its fields and small lengths.
const MAGIC: &[u8] = b"k8s\0";

pub(crate) fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(4) {
        0 => yaml_text(&mut input),
        1 => yaml_of_json(&mut input),
        2 => message(&mut input),
        _ => path(&mut input),
    }
}

fn yaml_text(input: &mut Input<'_>) {
    let text = if input.once_in(4) { input.rest().to_vec() } else { input.text(YAML_WORDS).into_bytes() };
    let Ok(value) = yaml::parse(&text) else { return };
    assert!(depth(&value) <= PATCH_DEPTH_MAX.max(JSON_DEPTH_MAX), "{}", String::from_utf8_lossy(&text));
    let printed = value.to_string();
    let again = yaml::parse(printed.as_bytes());
    assert_eq!(again.as_ref().map(ToString::to_string), Ok(printed), "{}", String::from_utf8_lossy(&text));
}

/// JSON is a part of YAML.
fn yaml_of_json(input: &mut Input<'_>) {
    let value = input.json(NAMES);
    // The comment makes it no JSON.
    let text = format!("{value} # in YAML\n");
    assert_eq!(yaml::parse(text.as_bytes()), Ok(value), "{text}");
}

fn message(input: &mut Input<'_>) {
    let (api_version, kind) = input.pick(&[("v1", "Namespace"), ("v1", "Secret"), ("v1", "ConfigMap"), ("v1", "Pod"), ("batch/v1", "Job")]);
    let raw = input.rest();
    let mut body = MAGIC.to_vec();
    let mut type_meta = Vec::new();
    field(&mut type_meta, 1, api_version.as_bytes());
    field(&mut type_meta, 2, kind.as_bytes());
    field(&mut body, 1, &type_meta);
    field(&mut body, 2, raw);
    if let Ok(object) = protobuf::decode(&body) {
        assert_eq!((object["apiVersion"].as_str(), object["kind"].as_str()), (Some(api_version), Some(kind)), "{raw:?}");
        assert!(depth(&object) <= PATCH_DEPTH_MAX, "{raw:?}");
    }
    // As it stands it may be refused, and nothing else.
    let _refused = protobuf::decode(raw);
}

/// A field of bytes: its number and type, its length, its content.
fn field(to: &mut Vec<u8>, number: u8, content: &[u8]) {
    to.push(number << 3 | 2);
    let mut length = content.len();
    while length >= 0x80 {
        to.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    to.push(u8::try_from(length).expect("seven bits"));
    to.extend_from_slice(content);
}

fn path(input: &mut Input<'_>) {
    let text = input.text(PATH_WORDS);
    let value = input.json(NAMES);
    let path = match JsonPath::parse(&text) {
        Ok(path) => path,
        Err(error) => {
            assert!(error.position <= text.chars().count(), "{text}: {error}");
            return;
        }
    };
    // It is printed in its long form, which may be too long to be read.
    let printed = path.to_string();
    if printed.len() <= JSON_PATH_BYTES_MAX {
        assert_eq!(JsonPath::parse(&printed).as_ref(), Ok(&path), "{text} as {path}");
    }
    let found = path.find(&value);
    assert_eq!(path.find_one(&value), found.first().copied(), "{text} in {value}");
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
