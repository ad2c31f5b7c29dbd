//! The directions between the crates, and what the core may reach. ARCHITECTURE.md draws them.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use cargo_metadata::{
    CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId, camino::Utf8Path,
};
use event_streaming_tests::workspace_root;
use std::collections::{BTreeSet, HashMap};

/// What stands before the folder's name in the name of each crate.
const PREFIX: &str = "event-streaming-";

/// Whether crate `from` may depend on crate `to` of this workspace; both by folder.
fn may_depend(from: &str, to: &str, kind: DependencyKind) -> bool {
    let is_test = kind == DependencyKind::Development;
    match (from, to) {
        // Nothing stands on the composition root, on the end-to-end tests or on the benches.
        (_, "app" | "tests" | "bench") => false,
        (from, "examples") => from == "tests",
        // The benches speak to the service as a client does, in its protocol buffers, or as an application does
        // that it is embedded in.
        ("bench", to) => matches!(to, "api-grpc" | "embed" | "adapters-redis"),
        // Examples are applications.
        ("examples", to) => to == "embed",
        // They use everything, and the product is not made of them.
        ("tests", _) => true,
        // A second way to put the parts together, for those who link them; the first does not stand on it.
        (_, "embed") => false,
        (from, "ports") => from != "ports",
        (_, "testkit") => is_test,
        (from, "domain") => matches!(from, "app" | "embed") || from.starts_with("api-"),
        (from, to) if to.starts_with("adapters-") => match from {
            "app" | "embed" => true,
            // The memory backend is the reference model that their tests run on.
            "testkit" | "domain" | "api-http" | "api-grpc" => is_test && to == "adapters-embedded",
            _ => false,
        },
        (from, to) => from == "app" && to.starts_with("api-"),
    }
}

/// Crates that talk to a backend or speak HTTP; the core reaches none of them.
const OUTSIDE: [&str; 31] = [
    "axum",
    "axum-core",
    "deadpool",
    "fjall",
    "h2",
    "http",
    "http-body",
    "http-body-util",
    "hyper",
    "hyper-rustls",
    "hyper-util",
    "krafka",
    "postgres",
    "rdkafka",
    "rdkafka-sys",
    "redb",
    "redis",
    "reqwest",
    "rskafka",
    "rusqlite",
    "rustls",
    "openssl",
    "sqlx",
    "sqlx-core",
    "sqlx-postgres",
    "tokio-postgres",
    "tokio-rustls",
    "tonic",
    "tower-http",
    "ureq",
    "url",
];

/// What the core may ask of tokio.
const TOKIO: [&str; 4] = ["sync", "time", "rt", "macros"];

#[test]
fn crates_depend_on_each_other_in_the_drawn_directions_only() {
    let metadata = metadata();
    let crates = crates(&metadata);
    let mut wrong = Vec::new();
    for (from, package) in &crates {
        for dependency in &package.dependencies {
            let Some(to) = folder(&dependency.name) else { continue };
            if crates.contains_key(to) && !may_depend(from, to, dependency.kind) {
                wrong.push(format!("{from} -> {to} ({})", dependency.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "against the directions: {wrong:#?}");
}

#[test]
fn the_directions_are_those_of_the_map() {
    use DependencyKind::{Development as Dev, Normal};
    for (from, to) in [
        ("app", "api-http"),
        ("app", "adapters-kafka"),
        ("app", "domain"),
        ("bench", "api-grpc"),
        ("bench", "embed"),
        ("bench", "adapters-redis"),
        ("embed", "domain"),
        ("examples", "embed"),
        ("tests", "examples"),
        ("embed", "adapters-kafka"),
        ("api-grpc", "domain"),
        ("domain", "ports"),
        ("adapters-embedded", "ports"),
        ("testkit", "ports"),
    ] {
        assert!(may_depend(from, to, Normal), "{from} -> {to}");
    }
    for (from, to) in [
        ("ports", "domain"),
        ("domain", "adapters-embedded"),
        ("domain", "api-http"),
        ("domain", "testkit"),
        ("adapters-kafka", "domain"),
        ("adapters-kafka", "adapters-embedded"),
        ("adapters-webhook", "domain"),
        ("adapters-redis", "adapters-postgres"),
        ("adapters-kafka", "testkit"),
        ("api-http", "adapters-embedded"),
        ("api-http", "api-grpc"),
        ("api-http", "app"),
        ("app", "testkit"),
        ("app", "embed"),
        ("embed", "api-http"),
        ("domain", "embed"),
        ("bench", "adapters-kafka"),
        ("bench", "app"),
        ("examples", "domain"),
        ("embed", "examples"),
        ("testkit", "domain"),
    ] {
        assert!(!may_depend(from, to, Normal), "{from} -> {to}");
    }
    assert!(may_depend("adapters-kafka", "testkit", Dev));
    assert!(may_depend("domain", "adapters-embedded", Dev));
    assert!(!may_depend("adapters-kafka", "domain", Dev));
    assert!(!may_depend("adapters-kafka", "adapters-embedded", Dev));
}

#[test]
fn every_crate_is_named_after_its_folder_and_has_a_place_on_the_map() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let folder =
            folder(&package.name).unwrap_or_else(|| panic!("{} lacks the prefix {PREFIX}", package.name));
        let manifest =
            package.manifest_path.strip_prefix(&metadata.workspace_root).expect("it is in the workspace");
        let expected = match folder {
            "tests" | "examples" => format!("{folder}/Cargo.toml"),
            _ => format!("crates/{folder}/Cargo.toml"),
        };
        assert_eq!(manifest, Utf8Path::new(&expected));
        let on_the_map = matches!(
            folder,
            "app" | "bench" | "domain" | "embed" | "examples" | "ports" | "testkit" | "tests"
        ) || folder.starts_with("api-")
            || folder.starts_with("adapters-");
        assert!(on_the_map, "{folder} needs a place on the map, and in `may_depend`");
    }
}

#[test]
fn the_core_reaches_no_client_library_and_no_http() {
    let metadata = metadata();
    for (name, reached) in core(&metadata) {
        let outside: Vec<&str> =
            reached.iter().map(|package| package.name.as_str()).filter(|n| OUTSIDE.contains(n)).collect();
        assert!(
            outside.is_empty(),
            "{name} reaches {outside:?}; find the way with: cargo tree -p {PREFIX}{name} -e normal"
        );
        assert!(reached.len() > 1, "{name} reaches nothing at all: is the graph read rightly?");
    }
}

#[test]
fn the_core_asks_of_tokio_only_what_runs_without_io() {
    let metadata = metadata();
    for (name, reached) in core(&metadata) {
        for package in reached {
            for dependency in &package.dependencies {
                // What a third party asks for under a feature of its own is not seen here; the next test does.
                if dependency.name != "tokio"
                    || dependency.kind != DependencyKind::Normal
                    || dependency.optional
                {
                    continue;
                }
                let beyond: Vec<&String> =
                    dependency.features.iter().filter(|f| !TOKIO.contains(&f.as_str())).collect();
                assert!(beyond.is_empty(), "{name} reaches {} which asks tokio for {beyond:?}", package.name);
                assert!(
                    !dependency.uses_default_features || package.name.as_str() != format!("{PREFIX}{name}"),
                    "{name} takes tokio's default features"
                );
            }
        }
    }
}

#[test]
fn the_core_alone_builds_tokio_without_io() {
    // The features that are in force when the core is built by itself, whoever asked for them.
    for name in ["ports", "domain"] {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--package", &format!("{PREFIX}{name}"), "--edges", "normal", "--locked"])
            .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{f}"])
            .current_dir(workspace_root())
            .output()
            .expect("cargo can be started");
        let tree = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(tree.contains(&format!("{PREFIX}{name} ")), "{tree}");
        for line in tree.lines().filter(|line| line.starts_with("tokio v")) {
            let features = line.rsplit('|').next().unwrap_or_default();
            // `tokio-macros` is what `macros` brings along.
            let allowed =
                |feature: &&str| TOKIO.contains(feature) || *feature == "tokio-macros" || feature.is_empty();
            let beyond: Vec<&str> = features.split(',').filter(|feature| !allowed(feature)).collect();
            assert!(beyond.is_empty(), "{name} alone builds tokio with {beyond:?}");
        }
    }
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned(), "--filter-platform=x86_64-unknown-linux-gnu".to_owned()])
        .exec()
        .expect("cargo can describe the workspace")
}

/// The folder's name of one of our crates.
fn folder(package: &str) -> Option<&str> {
    package.strip_prefix(PREFIX)
}

fn crates(metadata: &Metadata) -> HashMap<&str, &Package> {
    metadata
        .workspace_packages()
        .into_iter()
        .filter_map(|package| Some((folder(&package.name)?, package)))
        .collect()
}

/// `ports` and `domain`, each with every package that its normal dependencies lead to, itself first.
fn core(metadata: &Metadata) -> Vec<(&str, Vec<&Package>)> {
    let resolve = metadata.resolve.as_ref().expect("the graph was asked for");
    let nodes: HashMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let crates = crates(metadata);
    ["ports", "domain"]
        .map(|name| {
            let mut seen = BTreeSet::new();
            let mut reached = Vec::new();
            let mut next = vec![&crates[name].id];
            while let Some(id) = next.pop() {
                if !seen.insert(id) {
                    continue;
                }
                reached.push(&metadata[id]);
                let normal = nodes[id]
                    .deps
                    .iter()
                    .filter(|dep| dep.dep_kinds.iter().any(|info| info.kind == DependencyKind::Normal));
                next.extend(normal.map(|dep| &dep.pkg));
            }
            (name, reached)
        })
        .into()
}
