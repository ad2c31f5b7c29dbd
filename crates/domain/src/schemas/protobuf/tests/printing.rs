use super::*;

const EVERYTHING: &str = r#"
// A comment.
syntax = "proto2";
package a.b; /* another */
import "google/protobuf/timestamp.proto";
import public "google/protobuf/any.proto";
option java_package = "com.example";
option (file_note) = { text: "x" nested { text: 'y' n: -1.5 } };
extend google.protobuf.FileOptions { optional Note file_note = 50001; }
import "google/protobuf/descriptor.proto";
message Note { optional string text = 1; optional Note nested = 2; optional double n = 3; }
message Order {
  reserved 20 to 30, 40, 1000 to max;
  reserved "old", "older";
  extensions 100 to 199, 300;
  option deprecated = true;
  required string id = 1 [json_name = "ID", deprecated = true];
  optional bytes raw = 2 [default = "\001\"x"];
  optional string text = 3 [default = "it's \"quoted\"\n"];
  optional double ratio = 4 [default = -inf];
  repeated int32 numbers = 5 [packed = true];
  map<string, Line> lines = 6;
  oneof choice { int32 number = 7; Line line = 8; }
  optional group Detail = 9 { optional int32 depth = 1; }
  optional Kind kind = 10 [default = SECOND];
  message Line { optional google.protobuf.Timestamp at = 1; }
  enum Kind { FIRST = 1; SECOND = 2; reserved 5 to 9; reserved "GONE"; }
  extend Note { optional int32 extra = 500; }
  optional sint64 more = 11;
}
extend Order { optional string note = 100; repeated Order orders = 101; }
service Orders {
  option deprecated = false;
  rpc Place (Order) returns (stream Order);
  rpc Take (stream Order) returns (.a.b.Order) { option deprecated = true; }
}
"#;

pub(super) fn everything() -> String {
    // Note may be extended, which its place in the text above does not need to say twice.
    EVERYTHING.replace("optional double n = 3; }", "optional double n = 3; extensions 500; }")
}

#[test]
fn a_printed_text_is_read_as_the_same_schema_and_printed_alike() {
    let schema = schema(&everything());
    let again = super::schema(schema.canonical());
    assert_eq!(schema.canonical(), again.canonical());
    assert_eq!(schema.normalized(), again.normalized());
    let normalized = super::schema(schema.normalized());
    assert_eq!(normalized.normalized(), schema.normalized());
    assert_eq!(ParsedSchema::incompatibilities(&schema, &normalized), []);
    assert_eq!(ParsedSchema::incompatibilities(&normalized, &schema), []);
}

#[test]
fn nothing_that_has_a_meaning_is_lost() {
    let schema = schema(&everything());
    for kept in [
        "syntax = \"proto2\";",
        "import public \"google/protobuf/any.proto\";",
        "option (file_note) = { text : \"x\" nested { text : \"y\" n : - 1.5 } };",
        "reserved 20 to 30, 40, 1000 to max;",
        "reserved \"old\", \"older\";",
        "extensions 100 to 199;",
        "required string id = 1 [json_name = \"ID\", deprecated = true];",
        "optional bytes raw = 2 [default = \"\\001\\\"x\"];",
        "optional string text = 3 [default = \"it's \\\"quoted\\\"\\n\"];",
        "optional double ratio = 4 [default = -inf];",
        "repeated int32 numbers = 5 [packed = true];",
        "map<string, Line> lines = 6;",
        "optional group Detail = 9 {",
        "optional Kind kind = 10 [default = SECOND];",
        "reserved 5 to 9;",
        "rpc Take (stream Order) returns (.a.b.Order) {",
        "extend Order {",
    ] {
        assert!(schema.canonical().contains(kept), "{kept}\n{}", schema.canonical());
    }
    assert!(!schema.canonical().contains("comment"), "{}", schema.canonical());
    assert!(!schema.canonical().contains("LinesEntry"), "{}", schema.canonical());
}

#[test]
fn white_space_and_comments_make_no_other_schema() {
    let one = schema("syntax=\"proto3\";message A{string a=1;/*x*/int32 b=2;}");
    let other =
        schema("// x\nsyntax = \"proto3\";\n\nmessage A {\n  string a = 1;\n  int32 b = 2; // y\n}\n");
    assert_eq!(one.canonical(), other.canonical());
    assert_eq!(one.canonical(), "syntax = \"proto3\";\nmessage A {\n  string a = 1;\n  int32 b = 2;\n}\n");
}

#[test]
fn normalizing_forgets_orders_and_ways_to_name_types_that_mean_nothing() {
    let one = schema(
        "syntax = \"proto3\"; package p; import \"google/type/date.proto\"; import \"google/protobuf/any.proto\";
         message A { reserved 9, 5 to 7; B b = 2; string a = 1; message C {} }
         message B { oneof o { google.type.Date d = 5; A.C c = 4; } enum E { Z = 0; Y = 2; X = 1; } map<int32, .p.A> m = 1; }",
    );
    let other = schema(
        "syntax = \"proto3\"; package p; import \"google/protobuf/any.proto\"; import \"google/type/date.proto\";
         message A { message C {} string a = 1; .p.B b = 2; reserved 5, 6; reserved 7; reserved 9; }
         message B { map<int32, A> m = 1; oneof o { p.A.C c = 4; .google.type.Date d = 5; } enum E { Z = 0; X = 1; Y = 2; } }",
    );
    assert_ne!(one.canonical(), other.canonical());
    assert_eq!(one.normalized(), other.normalized());
}

#[test]
fn normalizing_keeps_the_order_of_messages_and_the_default_of_an_enum() {
    let one = schema("syntax = \"proto2\"; message B {} message A { enum E { TWO = 2; ONE = 1; } }");
    let two = schema("syntax = \"proto2\"; message A { enum E { TWO = 2; ONE = 1; } } message B {}");
    assert_ne!(one.normalized(), two.normalized());
    let three = schema("syntax = \"proto2\"; message B {} message A { enum E { ONE = 1; TWO = 2; } }");
    assert_ne!(one.normalized(), three.normalized());
}

#[test]
fn messages_have_names_and_indexes() {
    let schema = schema(
        "syntax = \"proto3\"; package p;
         message A { map<string, B> m = 1; message C { message D {} } message E {} }
         message B {}",
    );
    assert_eq!(schema.message_names(), ["p.A", "p.A.C", "p.A.C.D", "p.A.E", "p.B"]);
    assert_eq!(schema.record_name(), Some("p.A"));
    let protobuf = schema.as_protobuf().unwrap();
    for (name, index) in [
        (None, &[0][..]),
        (Some("p.A"), &[0]),
        (Some("A.C"), &[0, 0]),
        (Some(".p.A.C.D"), &[0, 0, 0]),
        (Some("p.A.E"), &[0, 1]),
        (Some("B"), &[1]),
    ] {
        assert_eq!(protobuf.index_of(name), Some(index), "{name:?}");
        assert_eq!(protobuf.message_at(index), protobuf.message(name));
    }
    // As clients count who give the entry of the map a place.
    assert_eq!(protobuf.message_at(&[0, 2]).unwrap().full_name(), "p.A.E");
    for wrong in [&[2][..], &[], &[0, 9], &[-1], &[0, 0, 0, 0]] {
        assert!(protobuf.message_at(wrong).is_none(), "{wrong:?}");
    }
    assert!(protobuf.message(Some("Q")).is_none());
}

#[test]
fn imports_are_those_that_need_a_reference() {
    let schema = with(
        "syntax = \"proto3\"; import \"google/protobuf/any.proto\"; import \"b.proto\"; import \"google/type/date.proto\"; message A {}",
        &[("b.proto", "import \"c.proto\"; message B {}"), ("c.proto", "message C {}")],
    );
    assert_eq!(schema.imports(), ["b.proto"]);
}
