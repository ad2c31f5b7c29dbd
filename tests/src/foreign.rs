//! Clients in other languages, as `scripts/setup.sh` installs them.

use crate::{PATIENCE, workspace_root};
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tokio::{io::AsyncWriteExt, process::Command};

/// Where their scripts are, and the schemas that they share.
pub fn foreign_clients() -> PathBuf {
    workspace_root().join("tests/clients")
}

/// A Python that has Confluent's client.
///
/// # Panics
/// When that is not installed, with the way to it.
pub fn python() -> Command {
    Command::new(installed("python/bin/python", "python/filled-by"))
}

/// A Node.js that finds Confluent's client.
///
/// # Panics
/// When that is not installed, with the way to it.
pub fn node() -> Command {
    let modules = installed("node/node_modules", "node/filled-by");
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules);
    command
}

/// Runs it with `input`, and gives what it wrote.
///
/// # Panics
/// When it fails, or has not ended within three times [`PATIENCE`], with what it said.
pub async fn run_foreign(mut command: Command, input: &[u8]) -> Vec<u8> {
    let shown = format!("{:?}", command.as_std());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown} cannot be started: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let run = async {
        // One that ends before it has read all says why by its status.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        child.wait_with_output().await.expect("a child can be waited for")
    };
    let ended = tokio::time::timeout(PATIENCE * 3, run).await;
    let Output { status, stdout, stderr } = ended.unwrap_or_else(|_| panic!("{shown} does not end"));
    let (said, why) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{shown} ended with {status}:\n{said}\n{why}");
    stdout
}

fn installed(path: &str, mark: &str) -> PathBuf {
    let folder = workspace_root().join(".services/clients");
    let found = |path: &Path| path.exists().then(|| folder.join(path));
    found(&folder.join(mark))
        .and_then(|_| found(&folder.join(path)))
        .unwrap_or_else(|| panic!("{path} is not in .services/clients: run scripts/setup.sh clients"))
}
