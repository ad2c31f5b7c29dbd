use crate::schemas::{SchemaType, parse};

#[test]
fn a_schema_is_refused_with_what_to_do() {
    let problem = parse(SchemaType::Json, "{}", &[]).unwrap_err();
    assert!(problem.message.contains("build it with the feature `json-schema`"), "{problem}");
}
