use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;

/// What JSON is, without a schema.
fn typed(json: &Json) -> Typed {
    match json {
        Json::Null => Type::Null.into(),
        Json::Bool(_) => Type::Bool.into(),
        Json::Number(number) if number.is_f64() => Type::Double.into(),
        Json::Number(_) => Type::Int.into(),
        Json::String(_) => Typed::new(Type::Text, 100),
        Json::Array(items) => {
            let item = items.first().map_or_else(|| Type::Dyn.into(), typed);
            Typed::new(Type::List(Arc::new(item), ListKind::Atomic), 100)
        }
        Json::Object(fields) => {
            let field = |(name, value): (&String, &Json)| {
                let property: Box<str> = name.as_str().into();
                (escape_property(name).unwrap_or_default().into(), Field { property, typed: typed(value) })
            };
            Type::Object(Arc::new(Object { name: "object".to_owned(), fields: fields.iter().map(field).collect() })).into()
        }
    }
}

fn run(source: &str, this: &Json) -> Result<String, String> {
    let declared = typed(this);
    let program = Program::compile(source, &[Variable { name: "self", typed: declared.clone() }]).map_err(|errors| errors.to_string())?;
    let mut budget = 10_000_000;
    let value = program.run(&[("self", Value::of(this, &declared.ty))], &mut budget).map_err(|error| error.to_string())?;
    match &value {
        Value::Bool(value) => Ok(value.to_string()),
        other => functions::shown(other).map_err(|error| error.to_string()),
    }
}

#[track_caller]
fn holds(sources: &[&str], this: &Json) {
    for source in sources {
        assert_eq!(run(source, this), Ok("true".to_owned()), "{source}");
    }
}

#[test]
fn the_language_is_that_of_its_definition() {
    holds(
        &[
            "1 + 2 * 3 == 7",
            "(1 + 2) * 3 == 9",
            "-9223372036854775808 < 0",
            "7 / 2 == 3 && -7 / 2 == -3 && 7 % 3 == 1",
            "1.5 + 1.5 == 3.0 && 1 == 1.0 && 2u > 1",
            "0x1F == 31 && 1e3 == 1000.0 && .5 == 0.5",
            "'a' + \"b\" == 'ab' && r'\\d' == '\\\\d' && '''x\n''' == 'x\\n'",
            "'\\u00e9' == 'é' && b'\\x41' == b'A'",
            "true ? 1 == 1 : false",
            "[1, 2] + [3] == [1, 2, 3] && [1, 2, 3][1] == 2",
            "{'a': 1}['a'] == 1 && {'a': 1}.a == 1 && 'a' in {'a': 1} && 2 in [1, 2]",
            "!(3 in [1, 2])",
            "has({'a': 1}.a) && !has({'a': 1}.b)",
            "[1, 2, 3].all(x, x > 0) && [1, 2, 3].exists(x, x == 2) && [1, 2].exists_one(x, x == 2)",
            "[1, 2, 3].filter(x, x > 1) == [2, 3] && [1, 2].map(x, x * 2) == [2, 4] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
            "{'a': 1, 'b': 2}.all(k, k in ['a', 'b'])",
            "[10, 20].all(i, v, v == (i + 1) * 10) && {'a': 1}.exists(k, v, k == 'a' && v == 1)",
            "[1, 2].transformList(i, v, i + v) == [1, 3] && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
            "cel.bind(x, 2, x * x) == 4",
            "type(1) == int && type('a') == string && type([]) == list",
            "// a comment\n true",
            "'a' < 'b' && b'a' < b'b' && false < true",
            // Errors on one side do not matter when the other decides.
            "true || 1 / 0 == 1",
            "1 / 0 == 1 || true",
            "!(false && 1 / 0 == 1) && !(1 / 0 == 1 && false)",
            "[0, 1].exists(x, 1 / x == 1)",
        ],
        &json!({}),
    );
}

#[test]
fn the_functions_are_those_of_kubernetes() {
    holds(
        &[
            "'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.contains('ell') && 'héllo'.size() == 5",
            "'abc123'.matches('^[a-z]+[0-9]+$') && 'a1b2'.find('[0-9]') == '1' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
            "'a1b2c3'.findAll('[0-9]', 2) == ['1', '2']",
            "'héllo'.charAt(1) == 'é' && 'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'hello'.indexOf('l', 3) == 3",
            "'Hi'.lowerAscii() == 'hi' && 'Hi'.upperAscii() == 'HI' && ' a '.trim() == 'a' && 'abc'.reverse() == 'cba'",
            "'a-b-c'.replace('-', '+') == 'a+b+c' && 'a-b-c'.replace('-', '+', 1) == 'a+b-c'",
            "'a,b'.split(',') == ['a', 'b'] && 'abc'.split('') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']",
            "'hello'.substring(1) == 'ello' && 'hello'.substring(1, 3) == 'el' && ['a', 'b'].join('/') == 'a/b'",
            "'%s has %d of %.1f'.format(['x', 3, 1.25]) == 'x has 3 of 1.2' || '%s has %d of %.1f'.format(['x', 3, 1.25]) == 'x has 3 of 1.3'",
            "strings.quote('a\"b') == '\"a\\\\\"b\"'",
            "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2].isSorted() && ![2, 1].isSorted()",
            "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && ['a'].indexOf('b') == -1",
            "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2])",
            "quantity('1.5Gi').isGreaterThan(quantity('1Gi')) && isQuantity('500m') && !isQuantity('abc')",
            "quantity('1k').asInteger() == 1000 && quantity('1').add(quantity('500m')).compareTo(quantity('1500m')) == 0",
            "quantity('1k') == quantity('1000') && quantity('2').sub(3).sign() == -1",
            "url('https://example.org:80/a/b?x=1&x=2').getHost() == 'example.org:80' && isURL('https://a.b') && !isURL('a b')",
            "url('https://[::1]:80/').getHostname() == '::1' && url('https://a:80/').getPort() == '80' && url('/p?q=1').getQuery()['q'] == ['1']",
            "url('https://a/b').getScheme() == 'https' && url('https://a/b%20c').getEscapedPath() == '/b%20c'",
            "isIP('10.0.0.1') && !isIP('10.0.0.256') && ip('::1').isLoopback() && ip('10.0.0.1').family() == 4",
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1')) && isCIDR('10.0.0.0/8')",
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('::/0').prefixLength() == 0",
            "ip.isCanonical('::1') && !ip.isCanonical('0::1')",
            "duration('1h30m') > duration('89m') && duration('90s').getMinutes() == 1 && string(duration('1.5s')) == '1.5s'",
            "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026 && timestamp('2026-01-01T00:00:00Z').getMonth() == 0",
            "timestamp('2026-01-01T23:30:00Z').getDate('+01:00') == 2 && timestamp('2026-01-01T00:00:00Z') + duration('1h') == timestamp('2026-01-01T01:00:00Z')",
            "int('12') == 12 && string(12) == '12' && double('1.5') == 1.5 && int(1.9) == 1 && uint(3) == 3u && bytes('a') == b'a' && bool('true')",
            "optional.of(1).hasValue() && optional.none().orValue(2) == 2 && {'a': 1}.?b.orValue(3) == 3 && {'a': 1}[?'a'].value() == 1",
            "optional.of(2).optMap(x, x * 2).value() == 4 && [?optional.none(), 1] == [1]",
            "!format.dns1123Label().validate('good-name').hasValue() && format.dns1123Label().validate('Bad_').hasValue()",
            "format.named('uuid').hasValue() && !format.named('nothing').hasValue()",
        ],
        &json!({}),
    );
}

#[test]
fn fields_of_objects_are_reached_by_their_escaped_names() {
    let object = json!({
        "replicas": 3, "name": "web", "namespace": "x", "a.b": 1, "a-b": 2, "a__b": 3, "list": [{"port": 80}, {"port": 81}], "ratio": 1.5,
    });
    holds(
        &[
            "self.replicas >= 3 && self.name == 'web' && self.__namespace__ == 'x'",
            "self.a__dot__b == 1 && self.a__dash__b == 2 && self.a__underscores__b == 3",
            "self.list.all(p, p.port >= 80) && self.list.map(p, p.port).sum() == 161 && self.list[0].port == 80",
            "self.ratio > 1.0 && has(self.name)",
            "self == self && self.list == self.list",
        ],
        &object,
    );
}

#[test]
fn mistakes_are_told_with_their_place() {
    let object = json!({"replicas": 3, "name": "web"});
    for (source, expected) in [
        ("self.replica > 0", "ERROR: <input>:1:5: undefined field 'replica'\n | self.replica > 0\n | ....^"),
        ("self.name > 0", "found no matching overload for '_>_' applied to '(string, int)'"),
        ("self.name.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("other == 1", "undeclared reference to 'other' (in container '')"),
        ("nothing(1)", "undeclared reference to 'nothing'"),
        ("self.replicas == 'a'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.replicas.all(x, true)", "expression of type 'int' cannot be range of a comprehension"),
        ("self.name.matches('[')", "invalid matches argument"),
        ("self.replicas > ", "Syntax error: found <EOF>"),
        ("self.name ==\n 'a", "ERROR: <input>:2:2: Syntax error: unterminated string literal"),
        ("if", "reserved identifier: if"),
        ("[1].all(1, true)", "argument must be a simple name"),
        ("has(self)", "invalid argument to has() macro"),
        ("self.replicas && true", "found no matching overload for '_&&_'"),
        ("[1].all(x, x)", "expected type 'bool' but found 'int'"),
    ] {
        let error = run(source, &object).unwrap_err();
        assert!(error.contains(expected), "{source}: {error}");
    }
    let both = run("self.a == self.b", &object).unwrap_err();
    assert!(both.contains("undefined field 'a'") && both.contains("undefined field 'b'"), "{both}");
}

#[test]
fn failures_say_what_failed() {
    for (source, expected) in [
        ("{'a': 1}.b == 1", "no such key: b"),
        ("[1][5] == 1", "index out of bounds: 5"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("dyn('a') + dyn(1) == 1", "no such overload"),
        ("quantity('x') == quantity('y')", "quantities must match"),
        ("optional.none().value() == 1", "optional.none() dereference"),
    ] {
        assert_eq!(run(source, &json!({})).unwrap_err().split(" the regular").next().unwrap(), expected, "{source}");
    }
}

#[test]
fn hostile_sources_are_refused_or_stopped() {
    let deep = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let brackets = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let bangs = format!("{}true", "!".repeat(10_000));
    let minus = format!("{}a", "-".repeat(10_000));
    let sum = vec!["1"; 5_000].join("+");
    let ternary = format!("{}1", "true?1:".repeat(4_000));
    let calls = format!("{}1{}", "int(".repeat(3_000), ")".repeat(3_000));
    let long = "a".repeat(SOURCE_BYTES_MAX + 1);
    let motif = "{[(!".repeat(2_000);
    for source in [&deep, &brackets, &bangs, &minus, &sum, &ternary, &calls, &long, &motif] {
        assert!(run(source, &json!({})).is_err(), "{}...", &source[..20]);
    }
    // Long chains that a person may well write are fine.
    holds(&[&vec!["true"; 2_000].join(" && "), &format!("{} == 60", vec!["1"; 60].join(" + "))], &json!({}));

    let list: Vec<i32> = (0..2_000).collect();
    let object = json!({"l": list, "s": "a".repeat(50_000)});
    for source in [
        "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c >= 0)))",
        "self.l.map(x, self.s + self.s).size() == 1",
        "self.l.map(x, self.l).size() > 0 && self.l.all(x, self.l.map(y, self.l.map(z, [x, y, z])).size() > 0)",
        "self.s.replace('', self.s).size() > 0",
        "self.l.all(x, self.s.matches('(a+)+$'))",
    ] {
        let before = std::time::Instant::now();
        assert_eq!(run(source, &object), Err("operation cancelled: actual cost limit exceeded".to_owned()), "{source}");
        assert!(before.elapsed().as_secs() < 20, "{source}");
    }
}

/// A deep tree needs little stack: servers' threads have two megabytes.
#[test]
fn the_deepest_tree_fits_into_a_small_stack() {
    let checked = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(|| {
            let deep = format!("{}[1]{}", "[[1], ".repeat(45), "]".repeat(45));
            let nested = format!("{}true{}", "[1].all(x, ".repeat(45), ")".repeat(45));
            let chain = format!("{} > 0", vec!["1"; 95].join("+"));
            run(&format!("size({deep}) == 2"), &json!({})).is_ok() && run(&nested, &json!({})).is_ok() && run(&chain, &json!({})).is_ok()
        })
        .unwrap()
        .join();
    assert_eq!(checked.ok(), Some(true));
}

#[test]
fn estimates_grow_with_what_is_unbounded() {
    let list = |max: u64| Typed::new(Type::List(Arc::new(Typed::new(Type::Text, 10)), ListKind::Atomic), max);
    let cost = |source: &str, max: u64| {
        Program::compile(source, &[Variable { name: "self", typed: list(max) }]).map(|program| program.cost()).unwrap()
    };
    assert!(cost("self.all(x, x != '')", 10) < 200);
    assert!(cost("self.all(x, x != '')", 1_000_000) > 1_000_000);
    assert!(cost("self.all(x, self.all(y, x == y))", 1_000) > 1_000_000);
    assert!(cost("size(self) > 1", u64::MAX) < 10);
}

#[test]
fn an_evaluation_never_costs_more_than_its_estimate() {
    let object = json!({"l": ["aaa", "bb", "c"], "s": "hello"});
    let declared = typed(&object);
    for source in [
        "self.l.all(x, x.size() > 0)",
        "self.l.exists(x, self.l.exists(y, x == y + 'z'))",
        "self.l.map(x, x + self.s).join(',') != ''",
        "self.s.matches('^h.*o$') && self.s in self.l || self.l == ['a']",
        "self.l.filter(x, x.contains('a')).size() == 1 && {'a': self.s}.a == 'hello'",
    ] {
        let program = Program::compile(source, &[Variable { name: "self", typed: declared.clone() }]).unwrap();
        let mut budget = COST_PER_EVALUATION_MAX;
        program.run(&[("self", Value::of(&object, &declared.ty))], &mut budget).unwrap();
        assert!(COST_PER_EVALUATION_MAX - budget <= program.cost(), "{source}: {} > {}", COST_PER_EVALUATION_MAX - budget, program.cost());
    }
}

#[test]
fn transition_rules_are_told_from_others() {
    let variables = |name| Variable { name, typed: Type::Int.into() };
    let program = Program::compile("self == oldSelf", &[variables("self"), variables("oldSelf")]).unwrap();
    assert!(program.uses("oldSelf"));
    let program = Program::compile("[1].all(oldSelf, oldSelf == self)", &[variables("self"), variables("oldSelf")]).unwrap();
    assert!(!program.uses("oldSelf"), "a macro's own variable is another one");
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered(source in "\\PC{0,200}") {
        let _ = run(&source, &json!({"a": 1}));
    }

    #[test]
    fn any_mixture_of_tokens_is_answered(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "self", ".", "a", "(", ")", "[", "]", "{", "}", "1", "'x'", "+", "-", "!", "&&", "||", "?", ":", ",", "==", "in", "has", "all",
            "map", "x", "size", "%", "/", "9223372036854775807", "b'a'", "1u", "1.5", "<", "optional.of", "format", "duration", "timestamp",
        ]), 0..40)
    ) {
        let _ = run(&parts.join(" "), &json!({"a": [1]}));
        let _ = run(&parts.concat(), &json!({"a": [1]}));
    }
}
