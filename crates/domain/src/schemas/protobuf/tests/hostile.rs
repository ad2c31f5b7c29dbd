use super::*;
use crate::schemas::limits;
use proptest::prelude::*;
use std::fmt::Write as _;

#[test]
fn problems_name_the_place_and_what_would_be_right() {
    for (text, expected) in [
        ("syntax = \"proto3\";\nmessage A {\n  string a = 1\n}", "line 4, column 1: expected ';' or '['"),
        (
            "edition = \"2023\"; message A {}",
            "line 1, column 1: editions are not supported; begin the file with",
        ),
        ("syntax = \"proto4\";", "line 1, column 10: unknown syntax 'proto4'"),
        ("message A {", "line 1, column 12: expected"),
        (
            "message A { optional B b = 1; }",
            "line 1, column 22: name 'B' is not defined; define it, or import",
        ),
        (
            "import \"b.proto\"; message A {}",
            "line 1, column 1: import `b.proto` is not among the references; add a reference",
        ),
        ("import \"google/protobuf/none.proto\";", "is not among the references"),
        (
            "message A {\n reserved 4;\n optional int32 a = 4;\n}",
            "line 3, column 21: field `a` has the number 4, which is reserved",
        ),
        (
            "message A {\n reserved \"a\";\n optional int32 a = 4;\n}",
            "line 3, column 17: the name of field `a` is reserved",
        ),
        ("enum E { Z = 0; reserved 0; }", "line 1, column 10: the enum value `Z = 0` is reserved"),
        (
            "message A { optional int32 a = 1; optional int32 b = 1; }",
            "field number '1' is already used; give each its own",
        ),
        ("import \"google/protobuf/any.proto\"; import \"google/protobuf/any.proto\";", "is listed twice"),
        ("message A { option map_entry = true; }", "sets `map_entry`, which is not supported"),
        ("option (none) = 1;", "is not defined; "),
        ("message A { optional int32 a = 0; }", "must be between 1 and"),
        ("message A { optional int32 a = 19000; }", "invalid field number '19000'"),
        ("{\"type\": \"object\"}", "line 1, column 1: expected"),
    ] {
        let problem = problem(text, &[]).to_string();
        assert!(problem.contains(expected), "{text}\n{problem}\n{expected}");
    }
}

#[test]
fn problems_of_references_name_the_reference() {
    let main = "import \"b.proto\"; message A {}";
    for (references, expected) in [
        (&[("b.proto", "message {")][..], "reference `b.proto`, line 1, column 9: expected an identifier"),
        (
            &[("b.proto", "import \"c.proto\";")],
            "reference `b.proto`, line 1, column 1: import `c.proto` is not among",
        ),
        (
            &[("b.proto", "import \"c.proto\";"), ("c.proto", "import \"b.proto\";")],
            "reference `c.proto`, line 1, column 1: the imports go round in a circle: b.proto -> c.proto -> b.proto",
        ),
        (&[("b.proto", "import \"b.proto\";")], "circle: b.proto -> b.proto"),
        (
            &[("b.proto", "message B { optional None n = 1; }")],
            "reference `b.proto`, line 1, column 22: name 'None'",
        ),
        (&[("b.proto", "message A {}")], "A"),
    ] {
        let problem = problem(main, references).to_string();
        assert!(problem.contains(expected), "{problem}\n{expected}");
    }
}

#[test]
fn a_file_may_be_named_as_the_schema_is_inside() {
    with("import \"schema.proto\"; message A { optional B b = 1; }", &[("schema.proto", "message B {}")]);
    assert!(problem("import \"schema.proto\";", &[]).to_string().contains("not among the references"));
}

#[test]
fn public_imports_are_seen_through_any_number_of_files() {
    let references = [
        ("1.proto", "import public \"2.proto\";"),
        ("2.proto", "import public \"3.proto\";"),
        ("3.proto", "import public \"4.proto\";"),
        ("4.proto", "message Deep {}"),
    ];
    with("import \"1.proto\"; message A { optional Deep deep = 1; }", &references);
    let private = [("1.proto", "import \"4.proto\";"), ("4.proto", "message Deep {}")];
    assert!(
        problem("import \"1.proto\"; message A { optional Deep deep = 1; }", &private)
            .message
            .contains("Deep")
    );
}

/// Layers of files that import each other publicly: followed one by one there would be more ways through them
/// than can be walked.
#[test]
fn imports_that_fan_out_in_layers_are_walked_once_each() {
    let mut references = Vec::new();
    for layer in 0..40 {
        for side in ["a", "b"] {
            let next = |side| {
                if layer == 39 {
                    String::new()
                } else {
                    format!("import public \"{side}{}.proto\";", layer + 1)
                }
            };
            references.push(Resolved {
                name: format!("{side}{layer}.proto"),
                text: format!("{}{} message M{side}{layer} {{}}", next("a"), next("b")),
            });
        }
    }
    let text = "import \"a0.proto\"; import \"b0.proto\"; message A { optional Ma39 a = 1; }";
    parse(SchemaType::Protobuf, text, &references).unwrap();
}

#[test]
fn a_chain_of_imports_may_be_as_long_as_the_limit() {
    let references: Vec<Resolved> = (0..limits::REFERENCES_MAX)
        .map(|n| Resolved {
            name: format!("{n}.proto"),
            text: if n + 1 == limits::REFERENCES_MAX {
                String::new()
            } else {
                format!("import \"{}.proto\";", n + 1)
            },
        })
        .collect();
    parse(SchemaType::Protobuf, "import \"0.proto\"; message A {}", &references).unwrap();
    let more = [references, resolved(&[("x", "")])].concat();
    let problem = parse(SchemaType::Protobuf, "", &more).unwrap_err();
    assert!(problem.message.contains("500 are the most"), "{problem}");
}

#[test]
fn ten_thousand_fields_are_read_compared_and_printed() {
    let fields = |kind: &str| {
        let mut text = "syntax = \"proto3\"; message A {".to_owned();
        for number in 1..=10_000 {
            // 19,000 to 19,999 are Protobuf's own.
            let _ = write!(text, "{kind} field_{number} = {number};");
        }
        text + "}"
    };
    let (old, new) = (schema(&fields("int32")), schema(&fields("string")));
    assert_eq!(ParsedSchema::incompatibilities(&old, &old), []);
    let found = ParsedSchema::incompatibilities(&new, &old);
    assert_eq!(found.len(), limits::INCOMPATIBILITIES_MAX);
    assert!(new.normalized().len() > 100_000);
}

/// Each is within the bound of the text and would take memory or time that grows with its square, or the stack.
#[test]
fn texts_that_blow_up_are_refused_or_read_in_a_moment() {
    let words = |word: &str, sep: &str, times: usize| vec![word; times].join(sep);
    let long = "x".repeat(400_000);
    let many = |make: &dyn Fn(usize) -> String, times: usize| (1..=times).map(make).collect::<String>();
    let refused = [
        format!("package {};", words("a", ".", 400_000)),
        format!("package {};", words("a", " . ", 200_000)),
        format!("message {long} {{ {} }}", many(&|n| format!("optional int32 a{n}={n};"), 18_000)),
        format!("extend {long} {{ {} }}", many(&|n| format!("optional int32 a{n}={n};"), 18_000)),
        format!("message A {{ extensions {} [(x)=\"{long}\"]; }}", words("1", ",", 200_000)),
        format!("message A {{ extensions {}; }}", many(&|n| format!("{},", n * 2), 10_000) + "1"),
        format!("option (x) = {};", "{a".repeat(300_000)),
        format!("option (x) = {{ {} }};", "a<".repeat(300_000)),
        "message A {".repeat(90_000),
        format!("{}{}", "message A {".repeat(40), "}".repeat(40)),
        format!("enum E {{ {} }}", many(&|n| format!("A{n}={};", 90_000 - n), 60_000)),
        "a".repeat(limits::TEXT_BYTES_MAX + 1),
        "/*".repeat(500_000),
        "\"".repeat(1_000_000),
        "'\\".repeat(500_000),
        ".".repeat(1_000_000),
        "message A { optional int32 a = 1; ".to_owned() + &"optional int32 a = 1; ".repeat(40_000) + "}",
    ];
    for text in refused {
        let shown: String = text.chars().take(60).collect();
        let problem = problem(&text, &[]);
        assert!(problem.to_string().len() < 5_000, "{shown}: {} bytes", problem.to_string().len());
    }
    let ranges = many(&|n| format!("{},", n * 3), 60_000);
    let fields = many(&|n| format!("optional int32 a{n}={};", n * 3 + 1), 6_000);
    schema(&format!("message A {{ reserved {ranges} 1; {fields} }}"));
    schema(&format!(
        "enum E {{ {} reserved {} -1; }}",
        many(&|n| format!("A{n}={};", 90_000 - n * 3), 15_000),
        many(&|n| format!("{},", 200_000 + n * 3), 60_000)
    ));
    schema(&"//\u{e9}\n".repeat(200_000));
}

/// Pieces of texts, in which mistakes are more frequent and deeper than in random characters.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "syntax",
        "=",
        "\"proto3\"",
        "\"proto2\"",
        ";",
        "message",
        "A",
        "B",
        "{",
        "}",
        "enum",
        "E",
        "optional",
        "repeated",
        "required",
        "int32",
        "string",
        "a",
        "b",
        "1",
        "2",
        "0",
        "-1",
        "oneof",
        "map",
        "<",
        ">",
        ",",
        "reserved",
        "to",
        "max",
        "extensions",
        "extend",
        "group",
        "G",
        "option",
        "(",
        ")",
        "[",
        "]",
        "default",
        "import",
        "public",
        "\"google/protobuf/any.proto\"",
        "\"google/protobuf/descriptor.proto\"",
        "package",
        "p",
        ".",
        "service",
        "rpc",
        "returns",
        "stream",
        "google",
        "protobuf",
        "FileOptions",
        "'",
        "\"",
        "\\",
        "//",
        "/*",
        "*/",
        "\n",
        "#",
        "1e999",
        "inf",
        "nan",
        "deprecated",
        "true",
        "json_name",
        "packed",
        "allow_alias",
        "map_entry",
        "\u{e9}",
        "0x",
        "99999999999",
        "edition",
        ":",
        "/",
        "+",
        "1.5f",
        "features",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|words| words.join(" "))
}

/// A good text with a few places changed.
fn mutated() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), 0_usize..12, pieces());
    prop::collection::vec(change, 1..4).prop_map(|changes| {
        let mut text = printing::everything();
        for (at, removed, put) in changes {
            let mut start = at.index(text.len());
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + removed).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, &put[..put.len().min(20).min(put.floor_char_boundary(20))]);
        }
        text
    })
}

fn survives(text: &str) -> Result<(), TestCaseError> {
    if let Ok(schema) = parse(SchemaType::Protobuf, text, &[]) {
        let again = parse(SchemaType::Protobuf, schema.canonical(), &[]);
        let again =
            again.map_err(|problem| TestCaseError::fail(format!("{problem}\n{}", schema.canonical())))?;
        prop_assert_eq!(schema.canonical(), again.canonical());
        let normalized = parse(SchemaType::Protobuf, schema.normalized(), &[]);
        let normalized = normalized
            .map_err(|problem| TestCaseError::fail(format!("{problem}\n{}", schema.normalized())))?;
        prop_assert_eq!(schema.normalized(), normalized.normalized());
        prop_assert_eq!(ParsedSchema::incompatibilities(&normalized, &schema), []);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_a_schema_or_a_problem(text in ".{0,200}") {
        survives(&text)?;
    }

    #[test]
    fn pieces_of_schemas_are_a_schema_or_a_problem(text in pieces()) {
        survives(&text)?;
    }

    #[test]
    fn schemas_with_mistakes_are_a_schema_or_a_problem(text in mutated()) {
        survives(&text)?;
    }
}
