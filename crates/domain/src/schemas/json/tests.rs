use crate::schemas::{Incompatibility, ParsedSchema, Resolved, SchemaType, limits, parse};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema(json: &Value) -> ParsedSchema {
    with(json, &[])
}

fn with(json: &Value, references: &[(&str, Value)]) -> ParsedSchema {
    parse(SchemaType::Json, &json.to_string(), &resolved(references))
        .unwrap_or_else(|problem| panic!("{problem}\n{json}"))
}

fn resolved(references: &[(&str, Value)]) -> Vec<Resolved> {
    references
        .iter()
        .map(|(name, json)| Resolved { name: (*name).to_owned(), text: json.to_string() })
        .collect()
}

fn problem(json: &Value) -> String {
    match parse(SchemaType::Json, &json.to_string(), &[]) {
        Ok(_) => panic!("it was taken: {json}"),
        Err(problem) => problem.to_string(),
    }
}

fn changes(writer: &Value, reader: &Value) -> Vec<String> {
    let found = ParsedSchema::incompatibilities(&schema(reader), &schema(writer));
    found.iter().map(|Incompatibility { kind, path, .. }| format!("{kind} {path}")).collect()
}

#[test]
fn values_are_checked_and_problems_name_their_path() {
    let schema = schema(&json!({
        "title": "Order",
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "string"}, "items": {"type": "array", "items": {"properties": {"price": {"minimum": 0}}}}},
        "additionalProperties": false
    }));
    assert_eq!(schema.record_name(), Some("Order"));
    let good = br#"{"id": "a", "items": [{"price": 1}]}"#;
    assert_eq!(schema.encode_json(None, good).unwrap(), &good[..]);
    assert!(schema.check(None, good).is_ok());
    for (json, path, message) in [
        (r#"{"id": 7}"#, "id", "is not of type \"string\""),
        ("{}", "", "\"id\" is a required property"),
        (r#"{"id": "", "items": [{}, {"price": -1}]}"#, "items[1].price", "minimum"),
        (r#"{"id": "", "x": 1}"#, "", "x"),
        ("{", "", "EOF"),
    ] {
        let problem = schema.encode_json(None, json.as_bytes()).expect_err(json);
        assert_eq!(problem.path, path, "{problem}");
        assert!(problem.message.contains(message), "{problem}");
    }
    // The value itself may be what nobody else should read.
    let problem = schema.check(None, br#"{"id": 123456789}"#).unwrap_err();
    assert!(!problem.message.contains("123456789"), "{problem}");
}

#[test]
fn references_are_those_that_are_given() {
    let main = json!({"properties": {"c": {"$ref": "customer.json"}, "d": {"$ref": "customer.json#/definitions/day"}}});
    let customer = json!({"required": ["name"], "definitions": {"day": {"enum": ["MON"]}}});
    let schema = with(&main, &[("customer.json", customer.clone()), ("other.json", json!(true))]);
    assert_eq!(schema.imports(), ["customer.json"]);
    assert!(schema.check(None, br#"{"c": {"name": 1}, "d": "MON"}"#).is_ok());
    assert!(schema.check(None, br#"{"c": {}}"#).is_err());
    assert!(schema.check(None, br#"{"d": "TUE"}"#).is_err());
    let missing = problem(&main);
    assert!(missing.contains("is not among the references"), "{missing}");
    // By an address of its own.
    let main =
        json!({"$id": "https://example.com/order.json", "properties": {"c": {"$ref": "customer.json"}}});
    let schema = with(&main, &[("customer.json", customer)]);
    assert!(schema.check(None, br#"{"c": {}}"#).is_err());
}

#[test]
fn one_schema_has_one_canonical_text() {
    let one = parse(SchemaType::Json, "{\"type\": \"object\",\n \"required\": [\"b\", \"a\"]}", &[]).unwrap();
    let other = parse(SchemaType::Json, "{\"type\":\"object\",\"required\":[\"b\",\"a\"]}", &[]).unwrap();
    assert_eq!(one.canonical(), other.canonical());
    let third = parse(SchemaType::Json, "{\"required\":[\"a\",\"b\"],\"type\":\"object\"}", &[]).unwrap();
    assert_eq!(one.normalized(), third.normalized());
    // In values, an order has a meaning.
    let values = |list: Value| schema(&json!({"const": {"required": list}})).normalized().to_owned();
    assert_ne!(values(json!(["a", "b"])), values(json!(["b", "a"])));
}

#[test]
fn what_takes_no_less_is_compatible() {
    let closed = |properties: Value| json!({"type": "object", "properties": properties, "additionalProperties": false});
    for (writer, reader) in [
        (json!({"type": "integer"}), json!({"type": "number"})),
        (json!({"type": "string"}), json!({"type": ["string", "null"]})),
        (json!({"enum": ["a"]}), json!({"enum": ["a", "b"]})),
        (json!({"enum": ["a", 1]}), json!({"type": ["string", "integer"]})),
        (json!({"const": "a"}), json!({"enum": ["a", "b"]})),
        (json!({"type": "integer", "maximum": 5, "minLength": 3}), json!({"maximum": 6})),
        (json!({"type": "integer", "exclusiveMaximum": 5}), json!({"maximum": 5})),
        (json!({"type": "string", "minLength": 3}), json!({"minLength": 2, "maximum": 1})),
        (json!({"type": "number", "multipleOf": 4}), json!({"multipleOf": 2})),
        (closed(json!({"a": true})), closed(json!({"a": true, "b": {"type": "string"}}))),
        (json!({"properties": {"a": {"type": "string"}}}), json!({"description": "any"})),
        (json!({"type": "array", "items": {"type": "integer"}}), json!({"items": {"type": "number"}})),
        (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!({"type": ["string", "null"]})),
        (json!({"type": "string"}), json!({"anyOf": [{"type": "null"}, {"type": "string"}]})),
        (json!({"oneOf": [{"type": "null"}]}), json!({"oneOf": [{"type": "null"}, {"type": "string"}]})),
        (json!({"type": "string", "maxLength": 3}), json!({"allOf": [{"type": "string"}, {"maxLength": 4}]})),
        (json!({"allOf": [{"type": "string"}, {"maxLength": 4}]}), json!({"type": "string"})),
        (
            json!({"$ref": "#/definitions/a", "definitions": {"a": {"type": "string"}}}),
            json!({"type": "string"}),
        ),
        (json!({"not": {"type": "string"}, "title": "a"}), json!({"not": {"type": "string"}, "title": "b"})),
        (json!(false), json!({"type": "string"})),
        (json!({"type": "string"}), json!(true)),
    ] {
        assert_eq!(changes(&writer, &reader), [] as [&str; 0], "{writer} -> {reader}");
    }
}

#[test]
fn what_takes_less_is_named_and_placed() {
    let open = |properties: Value| json!({"type": "object", "properties": properties});
    let closed = |properties: Value| json!({"type": "object", "properties": properties, "additionalProperties": false});
    for (writer, reader, expected) in [
        (json!({"type": "number"}), json!({"type": "integer"}), "TYPE_NARROWED #"),
        (json!({}), json!({"type": "string"}), "TYPE_NARROWED #"),
        (json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}), "ENUM_ARRAY_NARROWED #"),
        (json!({"type": "string"}), json!({"const": "a", "type": "string"}), "ENUM_ARRAY_NARROWED #"),
        (
            json!({"type": "integer", "maximum": 5}),
            json!({"type": "integer", "exclusiveMaximum": 5}),
            "MAXIMUM_DECREASED #",
        ),
        (json!({"type": "integer"}), json!({"minimum": 0}), "MINIMUM_INCREASED #"),
        (json!({"type": "string"}), json!({"maxLength": 5}), "MAX_LENGTH_DECREASED #"),
        (json!({"type": "string", "minLength": 1}), json!({"minLength": 2}), "MIN_LENGTH_INCREASED #"),
        (json!({"type": "string", "pattern": "a"}), json!({"pattern": "b"}), "PATTERN_CHANGED #"),
        (json!({"type": "number", "multipleOf": 2}), json!({"multipleOf": 4}), "MULTIPLE_OF_CHANGED #"),
        (json!({"type": "array"}), json!({"uniqueItems": true}), "UNIQUE_ITEMS_ADDED #"),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"items": {"type": "null"}}),
            "TYPE_NARROWED #/items",
        ),
        (
            open(json!({})),
            json!({"type": "object", "required": ["a"]}),
            "REQUIRED_ATTRIBUTE_ADDED #/properties/a",
        ),
        (
            open(json!({})),
            open(json!({"a": {"type": "string"}})),
            "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL #/properties/a",
        ),
        (
            closed(json!({"a": true, "b": true})),
            closed(json!({"a": true})),
            "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL #/properties/b",
        ),
        (open(json!({})), closed(json!({})), "ADDITIONAL_PROPERTIES_REMOVED #"),
        (json!({"type": ["string", "null"]}), json!({"anyOf": [{"type": "string"}]}), "SUM_TYPE_NARROWED #"),
        (json!({"type": "string"}), json!({"not": {"const": "a"}}), "NOT_DECIDED #"),
        (json!({"type": "string"}), json!({"oneOf": [{"maxLength": 1}, {"minLength": 3}]}), "NOT_DECIDED #"),
        (json!({"type": "object"}), json!({"patternProperties": {"a": true}}), "NOT_DECIDED #"),
        (
            json!({"type": "string"}),
            json!({"$schema": "http://json-schema.org/draft-06/schema#"}),
            "NOT_DECIDED #",
        ),
    ] {
        assert_eq!(changes(&writer, &reader), [expected], "{writer} -> {reader}");
    }
}

#[test]
fn recursive_schemas_are_compared_to_their_end() {
    let list = |of: &str| {
        json!({"$ref": "#/definitions/node", "definitions": {"node": {"type": "object", "additionalProperties": false, "properties": {
            "v": {"type": of}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/definitions/node"}]}}}}})
    };
    assert_eq!(changes(&list("integer"), &list("number")), [] as [&str; 0]);
    assert!(changes(&list("number"), &list("integer")).contains(&"TYPE_NARROWED #/properties/v".to_owned()));
}

#[test]
fn schemas_that_would_not_end_are_refused() {
    for (schema, expected) in [
        (json!({"$ref": "#"}), "refers to itself"),
        (json!({"allOf": [{"$ref": "#"}]}), "refers to itself"),
        (
            json!({"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"anyOf": [{"$ref": "#/definitions/a"}]}}}),
            "refers to itself",
        ),
        (json!({"type": "strin"}), "/type: "),
        (json!({"$ref": "#/definitions/none"}), "none"),
        (json!({"pattern": "("}), "pattern"),
        (json!([]), "a JSON Schema is an object"),
    ] {
        let problem = problem(&schema);
        assert!(problem.contains(expected), "{schema}\n{problem}");
    }
    let mut definitions = serde_json::Map::new();
    for n in 0..60 {
        let next = json!({"$ref": format!("#/definitions/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"allOf": [next, next]}));
    }
    definitions.insert("d60".to_owned(), json!({"type": "string"}));
    assert!(problem(&json!({"$ref": "#/definitions/d0", "definitions": definitions})).contains("multiply"));
    let mut chain = serde_json::Map::new();
    for n in 0..5_000 {
        chain.insert(format!("d{n}"), json!({"$ref": format!("#/definitions/d{}", n + 1)}));
    }
    chain.insert("d5000".to_owned(), json!({}));
    assert!(
        problem(&json!({"$ref": "#/definitions/d0", "definitions": chain})).contains("follow one another")
    );
    let patterns: Vec<Value> = (0..1_001).map(|n| json!({"pattern": format!("{n}")})).collect();
    assert!(problem(&json!({"anyOf": patterns})).contains("1000 are the most"));
    let deep = format!(
        "{}{{}}{}",
        "{\"items\":".repeat(limits::JSON_DEPTH_MAX + 10),
        "}".repeat(limits::JSON_DEPTH_MAX + 10)
    );
    assert!(parse(SchemaType::Json, &deep, &[]).unwrap_err().message.contains("nested more than"));
}

#[test]
fn patterns_that_go_back_for_ever_end() {
    let schema = schema(&json!({"pattern": "^(a+)+(?=b)$"}));
    let value = json!("a".repeat(5_000)).to_string();
    assert!(schema.check(None, value.as_bytes()).is_err());
}

fn some_schema() -> impl Strategy<Value = Value> {
    let small = -2_i64..4;
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec!["string", "integer", "number", "null", "object", "array", "boolean"])
            .prop_map(|of| json!({"type": of})),
        prop::collection::vec(prop::sample::select(vec!["string", "integer", "null", "object"]), 1..3)
            .prop_map(|of| {
                let of: std::collections::BTreeSet<_> = of.into_iter().collect();
                json!({"type": of})
            }),
        prop::collection::vec(some_value(), 1..4).prop_map(|values| {
            let mut unique: Vec<Value> = Vec::new();
            for value in values {
                if !unique.contains(&value) {
                    unique.push(value);
                }
            }
            json!({"enum": unique})
        }),
        some_value().prop_map(|value| json!({"const": value})),
        (prop::sample::select(vec!["maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"]), small)
            .prop_map(|(key, n)| json!({key: n})),
        (
            prop::sample::select(vec![
                "maxLength",
                "minLength",
                "maxItems",
                "minItems",
                "maxProperties",
                "minProperties"
            ]),
            0..3
        )
            .prop_map(|(key, n)| json!({key: n})),
        (1..4).prop_map(|n| json!({"multipleOf": n})),
        Just(json!({"uniqueItems": true})),
        prop::collection::btree_set(prop::sample::select(vec!["a", "b"]), 0..2)
            .prop_map(|names| json!({"required": names})),
        Just(json!({"additionalProperties": false})),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| merged(&one, &other)),
            prop::collection::btree_map(prop::sample::select(vec!["a", "b"]), inner.clone(), 0..3)
                .prop_map(|of| json!({"properties": of})),
            inner.clone().prop_map(|of| json!({"additionalProperties": of})),
            inner.clone().prop_map(|of| json!({"items": of})),
            inner.clone().prop_map(|of| json!({"not": of})),
            (prop::sample::select(vec!["allOf", "anyOf", "oneOf"]), prop::collection::vec(inner, 1..3))
                .prop_map(|(key, of)| json!({key: of})),
        ]
    })
}

fn merged(one: &Value, other: &Value) -> Value {
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return one.clone() };
    let mut both = one.clone();
    both.extend(other.clone());
    Value::Object(both)
}

fn some_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..5).prop_map(Value::from),
        Just(json!(0.5)),
        Just(json!(1.0)),
        "[ab]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_compatible_takes_every_value((one, more, of) in (some_schema(), some_schema(), 0..4), values in prop::collection::vec(some_value(), 20)) {
        // Mostly two schemas of which one came of the other.
        let other = match of {
            0 => more.clone(),
            1 => merged(&one, &more),
            2 => json!({"anyOf": [one, more]}),
            _ => json!({"allOf": [one, more]}),
        };
        for (writer, reader) in [(&one, &other), (&other, &one)] {
            let (writes, reads) = (schema(writer), schema(reader));
            if ParsedSchema::incompatibilities(&reads, &writes).is_empty() {
                for value in &values {
                    let json = value.to_string();
                    if writes.check(None, json.as_bytes()).is_ok() {
                        prop_assert!(reads.check(None, json.as_bytes()).is_ok(), "{} was written by {} and is not taken by {}", json, writer, reader);
                    }
                }
            }
        }
        let itself = schema(&one);
        prop_assert_eq!(ParsedSchema::incompatibilities(&itself, &itself), []);
    }

    #[test]
    fn arbitrary_json_is_a_schema_or_a_problem(json in some_value(), text in ".{0,60}") {
        let _ = parse(SchemaType::Json, &json.to_string(), &[]);
        let _ = parse(SchemaType::Json, &text, &[]);
    }
}
