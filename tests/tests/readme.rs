//! The commands of the README, and of the page about schemas, do what it says, as they are written there.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Log, Service, Setup, python, run_foreign, unique, workspace_root};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// The addresses that the README speaks to: those of a service as it is configured by default.
const HTTP: &str = "localhost:8085";
const GRPC: &str = "localhost:8086";

/// Kafka's, which a client beside the service speaks to.
const KAFKA: &str = "localhost:9092";

/// All of them, in their order, on one service: each may build on what those before it did.
#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_commands_succeed_as_written() {
    let blocks = commands_of("README.md");
    let lines =
        |word: &str| blocks.iter().flat_map(|block| block.lines()).filter(|line| line.contains(word)).count();
    assert!(
        lines("curl ") >= 6 && lines("grpcurl ") >= 1,
        "five curl lines and a grpcurl line were promised"
    );
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&Log::embedded()).start(data.path()).await;
    run_all(&service, "README.md", &blocks).await;
}

/// Also without any topic, a registry of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_schemas_page_do_as_written() {
    let blocks = commands_of("docs/schemas.md");
    let refused = blocks.iter().filter(|block| expected_code(block).is_some()).count();
    assert!(blocks.len() >= 8 && refused >= 2, "{} blocks, {refused} of them refused", blocks.len());
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&Log::embedded()).start(data.path()).await;
    run_all(&service, "docs/schemas.md", &blocks).await;
}

/// The README's schema on a real Kafka: what was published as JSON is read by its Python as it stands there.
#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_python_reads_what_its_commands_published() {
    let readme = read("README.md");
    let Some(program) = fenced(&readme, "python").into_iter().next() else {
        panic!("the README shows how Python reads an event")
    };
    // Others may have a topic of this name on this Kafka.
    let topic = unique("payments");
    let own = |text: &str| text.replace("payments", &topic);
    let log = Log::kafka().await;
    let Log::Kafka(kafka) = &log else { unreachable!("it was asked for Kafka") };
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let blocks: Vec<String> = commands_of("README.md")
        .iter()
        .filter(|block| block.contains("payments"))
        .map(|it| own(it))
        .collect();
    run_all(&service, "README.md", &blocks).await;

    let folder = tempfile::tempdir().expect("a folder");
    let schema = format!("/schema-registry/subjects/{topic}-value/versions/latest");
    let schema = service.client().get(&schema).await.expect(200);
    let text = schema["schema"].as_str().expect("a schema's text");
    std::fs::write(folder.path().join("payment.proto"), text).expect("it can be written");
    let mut protoc = python();
    protoc.args(["-m", "grpc_tools.protoc", "-I.", "--python_out=.", "payment.proto"]);
    protoc.current_dir(folder.path());
    run_foreign(protoc, b"").await;
    let broker = kafka.address.split(',').next().expect("a broker");
    let program = addressed(&service, &own(&program)).replace(KAFKA, broker);
    let mut command = python();
    command.args(["-c", &program]).current_dir(folder.path());
    command.env("PYTHONPATH", folder.path());
    assert_eq!(String::from_utf8_lossy(&run_foreign(command, b"").await), "p-1 250\n");
}

/// The blocks of a page that speak to the service, each with the variables that the page has set before it.
fn commands_of(page: &str) -> Vec<String> {
    let mut variables = String::new();
    let mut commands = Vec::new();
    for block in fenced(&read(page), "sh") {
        if block.lines().all(sets_a_variable) {
            variables.push_str(&block);
        } else {
            let block = format!("{variables}{block}");
            commands.extend(speaks_to_the_service(&block).then_some(block));
        }
    }
    commands
}

fn read(page: &str) -> String {
    std::fs::read_to_string(workspace_root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn sets_a_variable(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default();
    line.contains('=') && name.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Runs the blocks. One that shows a refusal in its comments must be refused so; the others must succeed.
async fn run_all(service: &Service, page: &str, blocks: &[String]) {
    for block in blocks {
        let output = run(service, block).await;
        let said = String::from_utf8_lossy(&output.stdout);
        let shown = format!("{block}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
        match expected_code(block) {
            Some(code) => {
                assert!(!output.status.success(), "this block of {page} was not refused:\n{shown}");
                assert!(said.contains(code), "this block of {page} was not refused by {code}:\n{shown}");
            }
            None => assert!(output.status.success(), "this block of {page} failed:\n{shown}"),
        }
        assert!(!said.trim().is_empty(), "this block of {page} shows nothing:\n{block}");
        for word in block.lines().filter(|line| line.starts_with('#')).flat_map(constants) {
            assert!(said.contains(word), "{word} was promised by this block of {page}:\n{shown}");
        }
    }
}

/// The `"error_code":40901` that a comment of the block shows.
fn expected_code(block: &str) -> Option<&str> {
    let comment = block.lines().find(|line| line.starts_with('#') && line.contains("\"error_code\":"))?;
    let from = comment.find("\"error_code\":")?;
    comment[from..].split([',', '}']).next()
}

/// The words of a line that are names of constants, as `FIELD_REMOVED`.
fn constants(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|char: char| !char.is_ascii_uppercase() && char != '_');
    words.filter(|word| word.contains('_') && word.starts_with(|char: char| char != '_') && word.len() > 3)
}

/// Runs a block with the addresses of `service` in the place of the default ones. A refusal, which curl
/// itself does not mind, is a failure.
async fn run(service: &Service, block: &str) -> Output {
    let script = addressed(service, block);
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

fn addressed(service: &Service, text: &str) -> String {
    let authority =
        |url: &str| url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
    text.replace(HTTP, &authority(service.http())).replace(GRPC, &authority(service.grpc()))
}

fn speaks_to_the_service(block: &str) -> bool {
    block.contains(HTTP) || block.contains(GRPC)
}

/// What stands in the fences of a Markdown text that are marked as `language`.
fn fenced(markdown: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in markdown.lines() {
        match (&mut open, line.trim()) {
            (None, fence) if fence.strip_prefix("```") == Some(language) => open = Some(String::new()),
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
fn blocks_of_a_language_are_found_between_their_fences() {
    let markdown = "text\n```sh\ncurl a\ncurl b\n```\n```json\n{}\n```\n```sh\nmake\n```\n";
    assert_eq!(fenced(markdown, "sh"), ["curl a\ncurl b\n", "make\n"]);
}

#[test]
fn what_a_block_promises_is_read_from_its_comments() {
    let block = "curl x \\\n  y\n# {\"error_code\":40901,\"message\":\"… FIELD_KIND_CHANGED at …\"}\n";
    assert_eq!(expected_code(block), Some("\"error_code\":40901"));
    assert_eq!(expected_code("curl x\n# {\"id\":1}\n"), None);
    let promised: Vec<&str> = block.lines().flat_map(constants).collect();
    assert_eq!(promised, ["FIELD_KIND_CHANGED"]);
    assert!(sets_a_variable("BASE=http://x") && !sets_a_variable("curl x=1"));
}
