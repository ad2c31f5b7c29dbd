use super::*;

/// What a reader of `update` cannot read of what was written by `original`.
fn changes(original: &str, update: &str) -> Vec<String> {
    let whole = |body: &str| {
        if body.contains("syntax") { body.to_owned() } else { format!("syntax = \"proto3\"; {body}") }
    };
    kinds(&ParsedSchema::incompatibilities(&schema(&whole(update)), &schema(&whole(original))))
}

#[test]
fn what_confluents_rules_allow_is_compatible() {
    for (original, update) in [
        ("message A { string a = 1; }", "message A { string a = 1; string b = 2; }"),
        ("message A { string a = 1; string b = 2; }", "message A { string a = 1; }"),
        ("message A { string a = 1; }", "message A { string b = 1; }"),
        ("message A { int32 a = 1; }", "message A { int64 a = 1; }"),
        ("message A { int32 a = 1; }", "message A { E a = 1; } enum E { Z = 0; }"),
        ("message A { E a = 1; } enum E { Z = 0; O = 1; }", "message A { bool a = 1; }"),
        ("message A { string a = 1; }", "message A { bytes a = 1; }"),
        (
            "message A { sint32 a = 1; fixed32 b = 2; fixed64 c = 3; }",
            "message A { sint64 a = 1; sfixed32 b = 2; sfixed64 c = 3; }",
        ),
        (
            "message A { E a = 1; } enum E { Z = 0; O = 1; }",
            "message A { E a = 1; } enum E { Z = 0; N = 1; T = 2; }",
        ),
        ("message A {}", "message A {} message B {}"),
        ("message A {} message B {}", "message B {} message A {}"),
        ("message A { string a = 1; }", "message A { oneof o { string a = 1; int32 b = 2; } }"),
        ("message A { oneof o { string a = 1; } }", "message A { oneof o { string a = 1; int32 b = 2; } }"),
        (
            "message A { oneof o { string a = 1; string b = 2; } }",
            "message A { string a = 1; string b = 2; }",
        ),
        ("message A { oneof o { string a = 1; } }", "message A { oneof p { string a = 1; } }"),
        ("message A { repeated string a = 1; }", "message A { string a = 1; }"),
        ("message A { B b = 1; message B {} }", "message A { .A.B b = 1; message B {} }"),
        (
            "message A { optional string a = 1; optional string b = 2; }",
            "message A { string a = 1; string b = 2; }",
        ),
        ("message A { map<string, int32> m = 1; }", "message A { map<string, int64> m = 1; }"),
        (
            "syntax = \"proto2\"; message A { required string a = 1; }",
            "syntax = \"proto2\"; message A { optional string a = 1; }",
        ),
    ] {
        assert_eq!(changes(original, update), [] as [&str; 0], "{original} -> {update}");
    }
}

#[test]
fn what_confluents_rules_refuse_is_named_and_placed() {
    for (original, update, expected) in [
        ("package p; message A {}", "package q; message A {}", &["PACKAGE_CHANGED #/"][..]),
        ("message A {} message B {}", "message A {}", &["MESSAGE_REMOVED #/B"]),
        ("message A { message B {} }", "message A {}", &["MESSAGE_REMOVED #/A/B"]),
        ("message A {}", "message B {}", &["MESSAGE_REMOVED #/A"]),
        ("message A { int32 a = 2; }", "message A { string a = 2; }", &["FIELD_SCALAR_KIND_CHANGED #/A/2"]),
        ("message A { int32 a = 2; }", "message A { sint32 a = 2; }", &["FIELD_SCALAR_KIND_CHANGED #/A/2"]),
        ("message A { int32 a = 2; }", "message A { fixed32 a = 2; }", &["FIELD_SCALAR_KIND_CHANGED #/A/2"]),
        ("message A { float a = 2; }", "message A { fixed32 a = 2; }", &["FIELD_SCALAR_KIND_CHANGED #/A/2"]),
        ("message A { float a = 2; }", "message A { double a = 2; }", &["FIELD_SCALAR_KIND_CHANGED #/A/2"]),
        (
            "message A { int32 a = 2; } message B {}",
            "message A { B a = 2; } message B {}",
            &["FIELD_KIND_CHANGED #/A/2"],
        ),
        (
            "message A { B a = 2; } message B {}",
            "message A { string a = 2; } message B {}",
            &["FIELD_KIND_CHANGED #/A/2"],
        ),
        (
            "message A { map<string, string> a = 2; }",
            "message A { repeated B a = 2; } message B {}",
            &["FIELD_KIND_CHANGED #/A/2"],
        ),
        (
            "message A { map<string, string> a = 2; }",
            "message A { map<int32, bytes> a = 2; }",
            &["FIELD_SCALAR_KIND_CHANGED #/A/2"],
        ),
        (
            "message A { B a = 2; } message B {} message C {}",
            "message A { C a = 2; } message B {} message C {}",
            &["FIELD_NAMED_TYPE_CHANGED #/A/2"],
        ),
        (
            "message A { int32 a = 2; }",
            "message A { repeated int32 a = 2; }",
            &["FIELD_NUMERIC_LABEL_CHANGED #/A/2"],
        ),
        (
            "message A { repeated bool a = 2; }",
            "message A { bool a = 2; }",
            &["FIELD_NUMERIC_LABEL_CHANGED #/A/2"],
        ),
        (
            "message A { oneof o { string a = 1; int32 b = 2; } }",
            "message A { oneof o { string a = 1; } }",
            &["ONEOF_FIELD_REMOVED #/A/o/2"],
        ),
        (
            "message A { string a = 1; string b = 2; }",
            "message A { oneof o { string a = 1; string b = 2; } }",
            &["MULTIPLE_FIELDS_MOVED_TO_ONEOF #/A/o"],
        ),
        (
            "message A { oneof o { string a = 1; } oneof p { string b = 2; } }",
            "message A { oneof o { string a = 1; string b = 2; } }",
            &["MULTIPLE_FIELDS_MOVED_TO_ONEOF #/A/o"],
        ),
        (
            "message A { string a = 1; oneof o { string b = 2; } }",
            "message A { oneof o { string a = 1; string b = 2; } }",
            &["FIELD_MOVED_TO_EXISTING_ONEOF #/A/o"],
        ),
        (
            "syntax = \"proto2\"; message A {}",
            "syntax = \"proto2\"; message A { required string a = 1; }",
            &["REQUIRED_FIELD_ADDED #/A/1"],
        ),
        (
            "syntax = \"proto2\"; message A { optional string a = 1; }",
            "syntax = \"proto2\"; message A { required string a = 1; }",
            &["REQUIRED_FIELD_ADDED #/A/1"],
        ),
        (
            "syntax = \"proto2\"; message A { required string a = 1; }",
            "syntax = \"proto2\"; message A {}",
            &["REQUIRED_FIELD_REMOVED #/A/1"],
        ),
        (
            "syntax = \"proto2\"; message A { optional group G = 1 { optional int32 x = 1; } }",
            "syntax = \"proto2\"; message A { optional group G = 1 { optional string x = 1; } }",
            &["FIELD_SCALAR_KIND_CHANGED #/A.G/1"],
        ),
        (
            "syntax = \"proto2\"; message A { extensions 5; } extend A { optional int32 x = 5; }",
            "syntax = \"proto2\"; message A { extensions 5; } extend A { optional string x = 5; }",
            &["FIELD_SCALAR_KIND_CHANGED #/A/5"],
        ),
    ] {
        assert_eq!(changes(original, update), expected, "{original} -> {update}");
    }
}

#[test]
fn imported_types_are_compared_across_references() {
    let main = "syntax = \"proto3\"; import \"b.proto\"; message A { q.B b = 1; }";
    let version = |text: &str| with(main, &[("b.proto", text)]);
    let old = version(
        "syntax = \"proto3\"; package q; import public \"google/protobuf/any.proto\"; message B { int32 x = 1; B next = 2; }",
    );
    let good =
        version("syntax = \"proto3\"; package q; message B { int64 x = 1; string y = 3; B next = 2; }");
    let bad = version("syntax = \"proto3\"; package q; message B { string x = 1; B next = 2; }");
    assert_eq!(ParsedSchema::incompatibilities(&good, &old), []);
    assert_eq!(kinds(&ParsedSchema::incompatibilities(&bad, &old)), ["FIELD_SCALAR_KIND_CHANGED #/B/1"]);
    let inlined =
        schema("syntax = \"proto3\"; message A { B b = 1; } message B { string x = 1; B next = 2; }");
    let found = kinds(&ParsedSchema::incompatibilities(&inlined, &old));
    assert_eq!(found, ["FIELD_SCALAR_KIND_CHANGED #/B/1"]);
}

#[test]
fn reservations_are_not_to_be_used_again() {
    let old = schema(
        "syntax = \"proto3\"; message A { reserved 3, 5 to 7; reserved \"gone\"; enum E { Z = 0; reserved 9; } }",
    );
    let new = schema(
        "syntax = \"proto3\"; message A { string a = 6; string gone = 1; string b = 4; enum E { Z = 0; N = 9; } }",
    );
    assert_eq!(
        kinds(&ParsedSchema::reused_reservations(&new, &old)),
        ["RESERVED_NUMBER_REUSED #/A/6", "RESERVED_NAME_REUSED #/A/1", "RESERVED_NUMBER_REUSED #/A/E/9"]
    );
    // Removing a field and reserving its number is the way it should be.
    let before = schema("syntax = \"proto3\"; message A { string a = 6; enum E { Z = 0; } }");
    assert_eq!(ParsedSchema::reused_reservations(&old, &before), []);
}

#[test]
fn each_difference_says_what_to_do() {
    let found = ParsedSchema::incompatibilities(
        &schema("syntax = \"proto3\"; message A { string total = 2; }"),
        &schema("syntax = \"proto3\"; message A { int32 total = 2; }"),
    );
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        found.message,
        "field `total` was written as int32 and would be read as string, which is encoded differently; keep the type, \
         or use a new field number for the new one"
    );
}

#[test]
fn schemas_of_different_formats_cannot_read_each_other() {
    let avro = parse(SchemaType::Avro, "\"string\"", &[]).unwrap();
    let found = ParsedSchema::incompatibilities(&schema("message A {}"), &avro);
    assert_eq!(kinds(&found), ["SCHEMA_TYPE_CHANGED #/"]);
}
