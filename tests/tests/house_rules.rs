//! Rules of STYLE.md that a machine can hold up.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use cargo_metadata::MetadataCommand;
use event_streaming_tests::workspace_root;
use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn no_crate_can_be_published_by_accident() {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo can describe the workspace");
    for package in metadata.workspace_packages() {
        assert_eq!(
            package.publish.as_deref(),
            Some([].as_slice()),
            "{} lacks publish.workspace = true",
            package.name
        );
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = manifests();
    assert!(manifests.len() > 8, "{manifests:?}");
    for manifest in manifests {
        let text = read(&manifest);
        let lints = text.split("\n[").find_map(|section| section.strip_prefix("lints]"));
        let inherits =
            lints.is_some_and(|section| section.lines().any(|line| line.trim() == "workspace = true"));
        assert!(inherits, "{} lacks [lints] workspace = true", manifest.display());
    }
}

#[test]
fn versions_of_dependencies_stand_in_the_root_alone() {
    for manifest in manifests() {
        for (number, line) in read(&manifest).lines().enumerate() {
            let names_one = line.contains("version = \"") || line.contains("path = \"../");
            assert!(!names_one, "{}:{}: {line}", manifest.display(), number + 1);
        }
    }
}

/// A feature decides which client library is built, on the module lines of an adapter's `lib.rs`; the
/// rest of the code is the same in every build. The mocks of `ports` are no part of the product. The validator of
/// JSON Schema is a library of the core's that is large to build; it is switched as an adapter's is.
#[test]
fn features_switch_modules_of_adapters_and_nothing_else() {
    let mut wrong = Vec::new();
    for file in rust_files(&workspace_root().join("crates")) {
        let path = file
            .strip_prefix(workspace_root())
            .expect("it is in the workspace")
            .to_string_lossy()
            .into_owned();
        let text = read(&file);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            if !is_feature_switch(line) {
                continue;
            }
            let of_the_mocks = path.starts_with("crates/ports/") && line.contains("feature = \"mock\"");
            let of_json_schema =
                path == "crates/domain/src/schemas/json/mod.rs" && switches_a_module(&lines[index..]);
            let adapters_front = path.starts_with("crates/adapters-") && path.ends_with("/src/lib.rs");
            let of_an_adapter = adapters_front && switches_a_module(&lines[index..]);
            if !of_the_mocks && !of_an_adapter && !of_json_schema {
                wrong.push(format!("{path}:{}: {line}", index + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "features are switched in: {wrong:#?}");
}

#[test]
fn a_feature_switch_is_recognised() {
    assert!(is_feature_switch("#[cfg(feature = \"rdkafka\")]"));
    assert!(is_feature_switch("#[cfg(not(feature = \"rdkafka\"))]"));
    assert!(is_feature_switch("if cfg!(feature = \"rdkafka\") {"));
    assert!(is_feature_switch("#[cfg_attr(feature = \"mock\", mockall::automock)]"));
    assert!(!is_feature_switch("#[cfg(test)]"));
    assert!(!is_feature_switch("// a feature = something else"));
    assert!(switches_a_module(&["#[cfg(feature = \"a\")]", "mod a;"]));
    assert!(switches_a_module(&["#[cfg(feature = \"a\")]", "#[path = \"b.rs\"]", "pub use b::C;"]));
    assert!(!switches_a_module(&["#[cfg(feature = \"a\")]", "fn a() {}"]));
}

fn is_feature_switch(line: &str) -> bool {
    line.contains("cfg") && line.contains("feature = \"") && !line.starts_with("//")
}

/// Whether the item under these attributes is a module or its re-export.
fn switches_a_module(lines: &[&str]) -> bool {
    let item = lines.iter().find(|line| !line.starts_with('#') && !line.starts_with("//"));
    item.is_some_and(|item| {
        let item = item.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        item.starts_with("mod ") || item.starts_with("use ")
    })
}

fn manifests() -> Vec<PathBuf> {
    let crates = fs::read_dir(workspace_root().join("crates")).expect("crates/ can be listed");
    let mut manifests: Vec<PathBuf> = crates
        .map(|entry| entry.expect("crates/ can be listed").path().join("Cargo.toml"))
        .filter(|manifest| manifest.is_file())
        .collect();
    manifests.extend(["examples", "tests"].map(|folder| workspace_root().join(folder).join("Cargo.toml")));
    manifests
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
