//! Files that every schema may import without a reference: Google's well-known types, its common types, and
//! Confluent's.

use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use std::{collections::HashMap, sync::LazyLock};

/// Path and text. Names and numbers are those of the published files; comments and options are left out.
const TEXTS: [(&str, &str); 18] = [
    ("confluent/meta.proto", include_str!("builtin/confluent_meta.proto")),
    ("confluent/type/decimal.proto", include_str!("builtin/confluent_decimal.proto")),
    ("google/type/calendar_period.proto", include_str!("builtin/calendar_period.proto")),
    ("google/type/color.proto", include_str!("builtin/color.proto")),
    ("google/type/date.proto", include_str!("builtin/date.proto")),
    ("google/type/datetime.proto", include_str!("builtin/datetime.proto")),
    ("google/type/dayofweek.proto", include_str!("builtin/dayofweek.proto")),
    ("google/type/decimal.proto", include_str!("builtin/decimal.proto")),
    ("google/type/expr.proto", include_str!("builtin/expr.proto")),
    ("google/type/fraction.proto", include_str!("builtin/fraction.proto")),
    ("google/type/interval.proto", include_str!("builtin/interval.proto")),
    ("google/type/latlng.proto", include_str!("builtin/latlng.proto")),
    ("google/type/money.proto", include_str!("builtin/money.proto")),
    ("google/type/month.proto", include_str!("builtin/month.proto")),
    ("google/type/phone_number.proto", include_str!("builtin/phone_number.proto")),
    ("google/type/postal_address.proto", include_str!("builtin/postal_address.proto")),
    ("google/type/quaternion.proto", include_str!("builtin/quaternion.proto")),
    ("google/type/timeofday.proto", include_str!("builtin/timeofday.proto")),
];

static PARSED: LazyLock<HashMap<&str, FileDescriptorProto>> = LazyLock::new(|| {
    let parsed = TEXTS.iter().filter_map(|(path, text)| Some((*path, protox_parse::parse(path, text).ok()?)));
    parsed.collect()
});

/// Whether a path is one of the well-known types, which are never taken from a reference: their JSON has a form
/// of its own, which goes by their names.
pub(super) fn is_well_known(path: &str) -> bool {
    path.starts_with("google/protobuf/")
}

/// The file of a path, if it is built in.
pub(super) fn file(path: &str) -> Option<FileDescriptorProto> {
    if is_well_known(path) {
        return DescriptorPool::global()
            .get_file_by_name(path)
            .map(|file| file.file_descriptor_proto().clone());
    }
    PARSED.get(path).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::protobuf::ProtobufSchema;

    #[test]
    fn every_file_that_is_built_in_can_be_imported() {
        let well_known = [
            "any",
            "api",
            "descriptor",
            "duration",
            "empty",
            "field_mask",
            "source_context",
            "struct",
            "timestamp",
            "type",
            "wrappers",
        ];
        let paths = TEXTS.iter().map(|(path, _)| (*path).to_owned());
        for path in paths.chain(well_known.map(|name| format!("google/protobuf/{name}.proto"))) {
            let text = format!("syntax = \"proto3\"; import \"{path}\"; message A {{}}");
            ProtobufSchema::parse(&text, &[]).unwrap_or_else(|problem| panic!("{path}: {problem}"));
        }
    }
}
