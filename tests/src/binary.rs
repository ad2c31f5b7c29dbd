//! Where the binary under test is.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The folder of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate has a folder of its own in the workspace")
}

/// The service's binary: `EVENT_STREAMING_BIN`, or else built here, once a process, as its users build
/// it (cargo finds in a moment that nothing is to be done). It is never taken from a test build, whose
/// features are those of all tests together.
///
/// # Panics
/// When it cannot be built, or is not where the variable says.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("EVENT_STREAMING_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "EVENT_STREAMING_BIN names no file: {}", path.display());
            path
        }
        None => build(),
    })
}

fn build() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "event-streaming-app", "--bin", "event-streaming"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace_root())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo, which runs this test, can be started");
    assert!(output.status.success(), "the service could not be built");
    output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .expect("cargo names the binary that it built")
}
