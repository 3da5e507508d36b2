//! Rules in CEL: they end, within what was said that they cost, with a value of their type.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use fermion_cel::{
    COST_PER_EVALUATION_MAX, ERRORS_MAX, EvalError, Field, ListKind, Object, Program, Type, Typed, Value, Variable, escape_property,
};
use serde_json::{Value as Json, json};

use crate::input::Input;

/// What expressions are made of.
const WORDS: &[&str] = &[
    "self",
    "oldSelf",
    "self.replicas",
    "self.name",
    "self.ratio",
    "self.flag",
    "self.list",
    "self.tags",
    "self.map",
    "self.ports",
    "self.when",
    "self.span",
    "self.data",
    "self.any",
    ".port",
    ".name",
    "[0]",
    "['a']",
    "true",
    "false",
    "null",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "2u",
    "1.5",
    "1e308",
    "'a'",
    "'abc'",
    "''",
    "r'\\d+'",
    "b'\\xff'",
    "[]",
    "{}",
    "[1, 2]",
    "{'a': 1}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    ".",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " != ",
    " < ",
    " <= ",
    " > ",
    " >= ",
    " && ",
    " || ",
    "!",
    " in ",
    " ? ",
    " : ",
    "has(",
    ".all(x, ",
    ".exists(x, ",
    ".exists_one(x, ",
    ".filter(x, ",
    ".map(x, ",
    ".all(i, v, ",
    "x",
    "i",
    "v",
    ".size()",
    "size(",
    ".contains(",
    ".startsWith(",
    ".matches(",
    ".find(",
    ".findAll(",
    ".split(",
    ".join(",
    ".replace(",
    ".substring(",
    ".lowerAscii()",
    ".reverse()",
    ".format([",
    ".charAt(",
    ".indexOf(",
    ".trim()",
    ".sum()",
    ".min()",
    ".max()",
    ".isSorted()",
    "int(",
    "uint(",
    "double(",
    "string(",
    "bytes(",
    "bool(",
    "dyn(",
    "type(",
    "duration(",
    "timestamp(",
    "quantity(",
    "url(",
    "ip(",
    "cidr(",
    "'1h30m'",
    "'2026-01-01T00:00:00Z'",
    "'1.5Gi'",
    ".isGreaterThan(",
    ".add(",
    "cel.bind(y, ",
    "y",
    "optional.of(",
    ".orValue(",
    ".?",
];

/// Characters of a text and entries of a list of the object.
const SIZE_MAX: u64 = 8;

fn object(name: &str, fields: &[(&str, Typed)]) -> Type {
    let field = |(name, typed): &(&str, Typed)| {
        let property: Box<str> = (*name).into();
        (escape_property(name).unwrap_or_default().into(), Field { property, typed: typed.clone() })
    };
    Type::Object(Arc::new(Object { name: name.to_owned(), fields: fields.iter().map(field).collect::<BTreeMap<_, _>>() }))
}

/// What the rules know of an object.
static DECLARED: LazyLock<Type> = LazyLock::new(|| {
    let text = || Typed::new(Type::Text, SIZE_MAX);
    let list = |item: Typed, kind| Typed::new(Type::List(Arc::new(item), kind), SIZE_MAX);
    let port = object("object.ports", &[("port", Type::Int.into()), ("name", text())]);
    let by_port = ListKind::Map(Arc::from([Box::<str>::from("port")]));
    object(
        "object",
        &[
            ("replicas", Type::Int.into()),
            ("name", text()),
            ("ratio", Type::Double.into()),
            ("flag", Type::Bool.into()),
            ("list", list(Type::Int.into(), ListKind::Atomic)),
            ("tags", list(text(), ListKind::Set)),
            ("map", Typed::new(Type::Map(Arc::new(text()), Arc::new(Type::Int.into())), SIZE_MAX)),
            ("ports", list(port.into(), by_port)),
            ("when", Type::Timestamp.into()),
            ("span", Type::Duration.into()),
            ("data", Typed::new(Type::Bytes, SIZE_MAX)),
            ("any", Typed::new(Type::Dyn, SIZE_MAX)),
        ],
    )
});

/// An object that fits what is declared.
fn instance(input: &mut Input<'_>) -> Json {
    const TEXTS: [&str; 6] = ["", "a", "abc", "1h30m", "é\u{1F600}", "12345678"];
    let count = input.below(4);
    json!({
        "replicas": input.pick(&[0_i64, 1, -1, 3, i64::MAX, i64::MIN]),
        "name": input.pick(&TEXTS),
        "ratio": input.pick(&[0.0, -0.0, 1.5, 1e308]),
        "flag": input.once_in(2),
        "list": (0..count).map(|_| input.byte()).collect::<Vec<_>>(),
        "tags": TEXTS[..count],
        "map": {"a": count, "b": -1},
        "ports": (0..count).map(|port| json!({"port": port, "name": TEXTS[port]})).collect::<Vec<_>>(),
        "when": input.pick(&["2026-01-02T03:04:05Z", "0001-01-01T00:00:00Z", "9999-12-30T00:00:00Z"]),
        "span": input.pick(&["1h30m", "0s", "-5ms"]),
        "data": input.pick(&["", "AQID", "/w=="]),
        "any": input.pick(&[json!(1), json!("80%"), json!("")].each_ref()),
    })
}

pub(crate) fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let source = input.text(WORDS);
    let object = instance(&mut input);
    let declared = |name| Variable { name, typed: DECLARED.clone().into() };
    let program = match Program::compile(&source, &[declared("self"), declared("oldSelf")]) {
        Ok(program) => program,
        Err(errors) => {
            assert!((1..=ERRORS_MAX).contains(&errors.errors.len()), "{source}: {errors}");
            assert!(!errors.to_string().is_empty(), "{source}");
            return;
        }
    };
    let about = || format!("{source:?} on {object}");
    let run = |allowed: u64| {
        let value = Value::of(&object, &DECLARED);
        let mut budget = allowed;
        let result = program.run(&[("self", value.clone()), ("oldSelf", value)], &mut budget);
        (result.map(|value| shown(&value)), allowed - budget)
    };
    let (result, spent) = run(u64::MAX);
    assert!(spent <= COST_PER_EVALUATION_MAX, "{spent}: {}", about());
    assert_eq!(run(u64::MAX), (result.clone(), spent), "the same again: {}", about());
    if result != Err(EvalError::Budget) {
        assert_eq!(run(spent), (result.clone(), spent), "what it costs is enough: {}", about());
    }
    if spent > 0 {
        assert_eq!(run(spent - 1).0, Err(EvalError::Budget), "less than it costs is not: {}", about());
    }
    // Without anything that is only known when it is there, types are right from the beginning, and
    // so is what was said that it costs at most.
    let is_typed = !source.contains(['[', '{', '?']) && ["dyn", "any", "optional", "bind"].iter().all(|word| !source.contains(word));
    if is_typed {
        assert!(spent <= program.cost(), "{spent} of at most {}: {}", program.cost(), about());
        assert_ne!(result, Err(EvalError::Overload), "{}", about());
    }
    if program.result().ty == Type::Bool
        && let Ok(value) = result
    {
        assert!(matches!(value.as_str(), "Bool(true)" | "Bool(false)"), "{value}: {}", about());
    }
}

fn shown(value: &Value<'_>) -> String {
    format!("{value:?}")
}
