//! The help texts: what a newcomer reads first.

use crate::repo::Repo;

const COMMANDS: [&str; 17] = [
    "sync",
    "watch",
    "plan",
    "build",
    "status",
    "prune",
    "yank",
    "restore",
    "retire",
    "verify",
    "inspect",
    "client",
    "key",
    "serve",
    "init",
    "schema",
    "completions",
];

fn help(args: &[&str]) -> String {
    let text = Repo::empty().publish(args).ok().stdout;
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
        assert_eq!(line.trim_end(), line, "blanks at the end of a line");
    }
    text
}

#[test]
fn the_help_of_the_program() {
    let text = help(&["--help"]);
    for command in COMMANDS {
        assert!(text.contains(&format!("\n  {command} ")), "{command} is not listed\n{text}");
    }
    insta::assert_snapshot!("publish", text);
}

#[test]
fn the_help_of_every_command() {
    for command in COMMANDS {
        insta::assert_snapshot!(command, help(&[command, "--help"]));
        help(&[command, "-h"]);
        help(&["help", command]);
    }
    help(&["-h"]);
    for command in ["generate", "export"] {
        insta::assert_snapshot!(format!("key_{command}"), help(&["key", command, "--help"]));
        help(&["key", command, "-h"]);
    }
}

#[test]
fn no_command_at_all_shows_the_help() {
    let ran = Repo::empty().publish(&[]).code(2);
    assert!(ran.stderr.contains("Usage: publish"), "{ran}");
}

#[test]
fn the_version_is_the_packages() {
    let ran = Repo::empty().publish(&["--version"]).ok();
    assert_eq!(ran.stdout.trim(), concat!("publish ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_that_there_is_none_of_is_a_usage_error() {
    Repo::empty().publish(&["snyc"]).code(2).says(&["snyc", "sync"]);
}
