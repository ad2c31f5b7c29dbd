//! The command line of the real program: exit codes, and what is said where.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use std::process::{Command, Output};

/// Runs the program with these arguments and variables, and nothing else in its environment.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_event-streaming"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn its_version_is_the_workspaces() {
    let output = run(&["--version"], &[]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).trim(), concat!("event-streaming ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_arguments_end_it_with_2() {
    assert_eq!(run(&["swim"], &[]).status.code(), Some(2));
    assert_eq!(run(&["serve", "--set"], &[]).status.code(), Some(2));
}

#[test]
fn check_config_shows_what_is_in_force_and_no_secret() {
    let output = run(
        &["check-config", "--set", "topics.partitions=7", "--set", "log.backend=kafka"],
        &[
            ("EVENT_STREAMING__KAFKA__SASL__PASSWORD", "hunter2"),
            ("EVENT_STREAMING__KAFKA__PROPERTIES__SSL_KEY_PASSWORD", "hunter2"),
        ],
    );
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(shown.contains("  partitions: 7   # --set\n"), "{shown}");
    assert!(shown.contains("    password: (hidden)   # EVENT_STREAMING__KAFKA__SASL__PASSWORD\n"), "{shown}");
    assert!(!shown.contains("hunter2") && !said.contains("hunter2"), "{shown}{said}");
    assert!(said.contains("the log is kafka"), "{said}");
}

#[test]
fn check_config_refuses_what_serve_would_with_2() {
    for setting in [
        "kafka.boostrap-servers=a:1",
        "logging.level=info,=loud=",
        "kafka.sasl.password-file=/nowhere/at/all",
        "publish.routes=[{topic: a}]",
    ] {
        let output = run(&["check-config", "--set", setting], &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{setting}: {said}");
        let key = setting.split('=').next().unwrap_or_default();
        assert!(said.contains(key) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named_with_2() {
    let output = run(&["check-config"], &[("EVENT_STREAMING_CONFIG", "/nowhere/at/all.yaml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/at/all.yaml"));
}
