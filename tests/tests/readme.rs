//! The commands of the README do what it says, as they are written there.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Log, Service, Setup, workspace_root};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// The addresses that the README speaks to: those of a service as it is configured by default.
const HTTP: &str = "localhost:8085";
const GRPC: &str = "localhost:8086";

/// All of them, in their order, on one service: each may build on what those before it did.
#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_commands_succeed_as_written() {
    let readme = std::fs::read_to_string(workspace_root().join("README.md")).expect("there is a README.md");
    let blocks: Vec<String> =
        shell_blocks(&readme).into_iter().filter(|block| speaks_to_the_service(block)).collect();
    let lines =
        |word: &str| blocks.iter().flat_map(|block| block.lines()).filter(|line| line.contains(word)).count();
    assert!(
        lines("curl ") >= 6 && lines("grpcurl ") >= 1,
        "five curl lines and a grpcurl line were promised"
    );

    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&Log::embedded()).start(data.path()).await;
    for block in blocks {
        let output = run(&service, &block).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "this block of README.md failed:\n{block}\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!said.trim().is_empty(), "this block of README.md shows nothing:\n{block}");
    }
}

/// Runs a block with the addresses of `service` in the place of the default ones. A refusal, which curl
/// itself does not mind, is a failure.
async fn run(service: &Service, block: &str) -> Output {
    let authority =
        |url: &str| url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
    let script = block.replace(HTTP, &authority(service.http())).replace(GRPC, &authority(service.grpc()));
    let tools = workspace_root().join(".services/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("bash")
        .args(["-euo", "pipefail", "-c"])
        .arg(format!(
            "curl() {{ command curl --silent --show-error --fail-with-body --max-time 30 \"$@\"; }}\n{script}"
        ))
        .env("PATH", format!("{}:{path}", tools.display()))
        .current_dir(workspace_root())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("bash can be started")
}

fn speaks_to_the_service(block: &str) -> bool {
    block.contains(HTTP) || block.contains(GRPC)
}

/// What stands in the fences of a Markdown text that are marked as `sh`.
fn shell_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in markdown.lines() {
        match (&mut open, line.trim()) {
            (None, "```sh") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), _) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

#[test]
fn shell_blocks_are_found_between_their_fences() {
    let markdown = "text\n```sh\ncurl a\ncurl b\n```\n```json\n{}\n```\n```sh\nmake\n```\n";
    assert_eq!(shell_blocks(markdown), ["curl a\ncurl b\n", "make\n"]);
}
