//! What holds for every object, set and configuration.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::managed_fields::extract::extract_stored;

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["1", "2"]).prop_map(str::to_owned)
}

fn list_by_name(item: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    btree_map(name(), item, 1..3).prop_map(|items| {
        let items = items.into_iter().map(|(name, mut item)| {
            item["name"] = name.into();
            item
        });
        Value::Array(items.collect())
    })
}

fn map_of(entry: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    btree_map(name(), entry, 1..3).prop_map(|entries| Value::Object(entries.into_iter().collect()))
}

fn some_fields(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let optional: Vec<_> = fields.into_iter().map(|(name, value)| (Just(name), prop::option::of(value))).collect();
    optional.prop_map(|fields| {
        let fields: Map<String, Value> = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Value::Object(fields)
    })
}

/// A configuration, without empty maps and lists: these mean the same as none.
fn configuration() -> impl Strategy<Value = Value> {
    let text = || value().prop_map(Value::from).boxed();
    let env = list_by_name(value().prop_map(|value| json!({"value": value}))).boxed();
    let container = some_fields(vec![("image", text()), ("env", env)]);
    let tags = prop::sample::subsequence(vec!["x", "y", "z"], 1..3).prop_shuffle().prop_map(|tags| json!(tags)).boxed();
    let spec = some_fields(vec![
        ("replicas", (0..3).prop_map(Value::from).boxed()),
        ("image", text()),
        ("labels", map_of(text()).boxed()),
        ("selector", map_of(text()).boxed()),
        ("args", vec(value(), 1..3).prop_map(|args| json!(args)).boxed()),
        ("tags", tags),
        ("free", map_of(map_of(text())).boxed()),
        ("containers", list_by_name(container).boxed()),
    ]);
    spec.prop_map(|spec| if spec.as_object().is_some_and(Map::is_empty) { json!({}) } else { json!({"spec": spec}) })
}

fn field_set() -> impl Strategy<Value = FieldSet> {
    let element = prop_oneof![
        "[a-z./\"\\\\ ]{0,4}".prop_map(|name| PathElement::field(&name)),
        ("[a-z]", any::<i32>()).prop_map(|(key, value)| PathElement::key([(key.as_str(), json!(value))])),
        ("[a-z]", "[a-z\"]{0,3}").prop_map(|(key, value)| PathElement::key([(key.as_str(), json!(value)), ("zz", json!(true))])),
        any::<i16>().prop_map(|value| PathElement::value(&json!(value))),
        "[a-z\"]{0,3}".prop_map(|value| PathElement::value(&json!(value))),
        (0..5_u8).prop_map(|place| PathElement::parse(&format!("i:{place}")).expect("an element")),
    ];
    vec(vec(element, 1..4), 0..8).prop_map(|paths| FieldSet::of_paths(paths.iter().map(Vec::as_slice)))
}

/// The order of a list's items is nobody's: configurations that are given up leave it behind.
fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.iter().map(|(name, value)| (name.clone(), in_order(value))).collect()),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(in_order).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        plain => plain.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_printed_is_read_as_it_was(set in field_set()) {
        prop_assert_eq!(FieldSet::parse(&set.to_value()), Ok(set.clone()));
        prop_assert_eq!(set.len(), set.paths().len());
    }

    #[test]
    fn sets_obey_the_laws_of_sets(one in field_set(), two in field_set(), three in field_set()) {
        prop_assert_eq!(one.union(&two), two.union(&one));
        prop_assert_eq!(one.union(&two).union(&three), one.union(&two.union(&three)));
        prop_assert_eq!(one.intersection(&two), two.intersection(&one));
        prop_assert_eq!(one.difference(&two).union(&one.intersection(&two)), one.clone());
        prop_assert!(one.difference(&two).intersection(&two).is_empty());
        prop_assert_eq!(one.overlaps(&two), !one.intersection(&two).is_empty());
        prop_assert_eq!(one.is_within(&two), one.difference(&two).is_empty());
        prop_assert_eq!(one.union(&two).len() + one.intersection(&two).len(), one.len() + two.len());
    }

    #[test]
    fn applying_again_changes_nothing(first in configuration(), second in configuration(), third in configuration()) {
        let mut story = Story::new();
        story.apply("a", first);
        story.force("b", second);
        story.force("a", third.clone());
        let before = story.clone();
        story.apply("a", third);
        prop_assert_eq!(&story.object, &before.object);
        prop_assert!(story.managed.same_owners(&before.managed));
    }

    #[test]
    fn applying_nothing_removes_exactly_what_only_the_manager_owned(first in configuration(), second in configuration()) {
        let mut story = Story::new();
        story.apply("a", first);
        story.force("b", second.clone());
        story.apply("a", json!({}));
        let expected = if second == json!({}) { json!({}) } else { second };
        prop_assert_eq!(in_order(&story.object), in_order(&expected));
        prop_assert!(story.applied("a").is_empty());
    }

    #[test]
    fn an_applied_object_holds_its_configuration(first in configuration(), second in configuration()) {
        let mut story = Story::new();
        story.apply("a", first);
        story.force("b", second.clone());
        let again = merge(&story.types, &story.object, &second);
        prop_assert_eq!(again, story.object);
    }

    #[test]
    fn every_conflict_is_a_field_of_another(first in configuration(), second in configuration()) {
        let mut story = Story::new();
        story.apply("a", first.clone());
        let owned = story.applied("a");
        if let Err(ApplyError::Conflicts(conflicts)) = story.try_apply("b", second, false) {
            for conflict in conflicts.iter() {
                prop_assert_eq!(&conflict.manager, "\"a\"");
                prop_assert!(owned.contains(&conflict.path), "{}", conflict.path);
            }
            prop_assert_eq!(story.object, first);
        }
    }

    #[test]
    fn updates_in_a_row_keep_each_path_with_one_updater(versions in vec((prop::sample::select(vec!["m", "n"]), configuration()), 1..6)) {
        let mut story = Story::new();
        story.apply("a", json!({"spec": {"replicas": 9}}));
        for (manager, version) in versions {
            story.update(manager, version);
            let (m, n) = (story.updated("m"), story.updated("n"));
            prop_assert!(m.iter().all(|path| !n.contains(path)), "{:?} and {:?}", m, n);
        }
    }

    #[test]
    fn an_updater_owns_what_it_changed_and_no_one_else_does(first in configuration(), second in configuration()) {
        let mut story = Story::new();
        story.apply("a", first.clone());
        story.update("edit", second.clone());
        let owned = story.updated("edit");
        let comparison = compare(&story.types, &first, &second);
        prop_assert_eq!(&owned, &comparison.changed.paths());
        for path in story.applied("a") {
            prop_assert!(!owned.contains(&path), "{}", path);
        }
        // Whatever the applier still owns is there.
        let there = extract_stored(story.types.root(), &second).paths();
        for path in story.applied("a") {
            prop_assert!(there.contains(&path), "{}", path);
        }
    }

    #[test]
    fn hostile_sets_and_objects_do_no_harm(fields in arbitrary(), live in arbitrary(), new in arbitrary()) {
        let entry = json!([{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
        let types = types();
        let managed = ManagedFields::parse(&entry).unwrap_or_default();
        let object = |inner: &Value| json!({"metadata": inner, "spec": inner});
        let (live, new) = (object(&live), object(&new));
        update(&types, managed.clone(), &live, &new, &writer("u", Operation::Update), &FieldSet::default(), NOW);
        if let Ok((object, managed)) = apply(&types, &live, managed, &new, true, &writer("m", Operation::Apply), NOW) {
            prop_assert!(object.is_object());
            let value = managed.to_value().unwrap_or_default();
            prop_assert_eq!(ManagedFields::parse(&value).map(|again| again.same_owners(&managed)), Ok(true));
        }
    }
}

/// JSON of any shape whose names are those that mean something here.
fn arbitrary() -> impl Strategy<Value = Value> {
    let names = vec![
        "replicas",
        "labels",
        "containers",
        "tags",
        "name",
        "f:spec",
        "f:containers",
        "k:{\"name\":\"a\"}",
        "v:\"x\"",
        "i:0",
        ".",
        "f:labels",
        "ownerReferences",
        "uid",
        "managedFields",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        value().prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 32, 4, move |inner| {
        let key = prop::sample::select(names.clone()).prop_map(str::to_owned);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            btree_map(key, inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
