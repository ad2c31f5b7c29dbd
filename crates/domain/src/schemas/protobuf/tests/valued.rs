use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn orders() -> ParsedSchema {
    schema(
        "syntax = \"proto3\"; package p; import \"google/protobuf/timestamp.proto\";
         message Order { string id = 1; repeated Item items = 2; google.protobuf.Timestamp placed_at = 3; int64 total = 4;
                         map<string, Item> by_name = 5; Kind kind = 6; bytes raw = 7; }
         message Item { string name = 1; double price = 2; Item part = 3; }
         enum Kind { UNKNOWN = 0; GOOD = 1; }",
    )
}

#[test]
fn json_becomes_bytes_and_json_again() {
    let schema = orders();
    let json = br#"{"id":"a","items":[{"name":"x","price":1.5}],"placedAt":"2026-01-02T03:04:05Z","total":"9007199254740993","kind":"GOOD","raw":"AAE="}"#;
    let bytes = schema.encode_json(None, json).unwrap();
    assert!(schema.check(None, &bytes).is_ok());
    assert_eq!(schema.decode_json(None, &bytes).unwrap(), Bytes::from_static(json));
    // The names of the text are read too, and the message may be chosen.
    assert_eq!(
        schema.encode_json(Some("p.Order"), br#"{"placed_at": null, "total": 3}"#).unwrap(),
        &b"\x20\x03"[..]
    );
    assert_eq!(schema.encode_json(Some("Item"), br#"{"name": "n"}"#).unwrap(), &b"\x0a\x01n"[..]);
}

#[test]
fn what_does_not_fit_is_named_by_its_path() {
    let schema = orders();
    for (json, path, message) in [
        (&br#"{"id": 7}"#[..], "id", "expected"),
        (br#"{"unknown": 7}"#, "", "unrecognized field name 'unknown'"),
        (br#"{"items": [{"price": 1}, {"price": "much"}]}"#, "items[1].price", "invalid"),
        (br#"{"items": [{"part": {"cost": 1}}]}"#, "items[0].part", "unrecognized field name 'cost'"),
        (br#"{"items": {}}"#, "items", "expected"),
        (br#"{"byName": {"x": {"name": []}}}"#, "byName.x.name", "expected"),
        (br#"{"placedAt": "yesterday"}"#, "placedAt", ""),
        (br#"{"kind": "BAD"}"#, "kind", "unrecognized enum value 'BAD'"),
        (br#"{"total": 1.5}"#, "total", "integer"),
        (br#"{"raw": "?"}"#, "raw", "base64"),
        (b"[]", "", "expected"),
        (b"{} {}", "", "trailing"),
        (br#"{"id": "#, "id", "EOF"),
        (b"\xff", "", "expected value"),
    ] {
        let shown = String::from_utf8_lossy(json);
        let problem = schema.encode_json(None, json).expect_err(&shown);
        assert_eq!(problem.path, path, "{shown}: {problem}");
        assert!(problem.message.contains(message), "{shown}: {problem}");
    }
    let problem = schema.encode_json(Some("p.None"), b"{}").unwrap_err();
    assert_eq!(problem.message, "the schema defines no message `p.None`; it has p.Order, p.Item");
}

#[test]
fn what_proto2_requires_must_be_there() {
    let schema = schema(
        "message A { required string id = 1; repeated B b = 2; map<string, B> m = 3; } message B { required int32 n = 1; }",
    );
    for (json, path) in [
        (&b"{}"[..], "id"),
        (br#"{"id": "x", "b": [{"n": 1}, {}]}"#, "b[1].n"),
        (br#"{"id": "x", "m": {"k": {}}}"#, "m[String(\"k\")].n"),
    ] {
        let problem = schema.encode_json(None, json).unwrap_err();
        assert_eq!(problem.path, path, "{problem}");
        assert!(problem.message.contains("required"), "{problem}");
    }
    assert_eq!(schema.check(None, b"").unwrap_err().path, "id");
    assert!(schema.check(None, b"\x0a\x01x").is_ok());
}

#[test]
fn bytes_of_something_else_are_refused() {
    let schema = orders();
    for bytes in [&b"\x0a\x05x"[..], b"\x0a\x01\xff", b"\x07", b"\x08\x01", b"\x20"] {
        assert!(schema.check(None, bytes).is_err(), "{bytes:?}");
        assert!(schema.decode_json(None, bytes).is_err(), "{bytes:?}");
    }
    // A field that only a newer writer knows.
    assert!(schema.check(None, b"\xa0\x06\x01").is_ok());
}

#[test]
fn values_that_nest_without_end_are_refused() {
    let schema = orders();
    let mut bytes: Vec<u8> = Vec::new();
    for _ in 0..5_000 {
        let mut outer = vec![0x1a];
        prost::encode_length_delimiter(bytes.len(), &mut outer).unwrap();
        outer.extend(&bytes);
        bytes = outer;
    }
    assert!(schema.check(Some("Item"), &bytes).is_err());
    let json = format!("{}{}", "{\"part\":".repeat(50_000), "}".repeat(50_000));
    let problem = schema.encode_json(Some("Item"), json.as_bytes()).unwrap_err();
    assert!(problem.message.contains("recursion limit"), "{problem}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_a_value_or_a_problem(bytes: Vec<u8>) {
        let schema = orders();
        if schema.check(None, &bytes).is_ok()
            && let Ok(json) = schema.decode_json(None, &bytes)
        {
            prop_assert!(schema.encode_json(None, &json).is_ok(), "{:?}", json);
        }
        let _ = schema.encode_json(None, &bytes);
    }
}
