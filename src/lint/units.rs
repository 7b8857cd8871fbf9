//! Units that start what is not there (systemd.service(5), "Command lines").

use std::collections::BTreeMap;

use super::files::Files;
use super::{Finding, Lint};

/// Where a service says what it runs.
const COMMANDS: [&str; 6] =
    ["ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop"];

/// The most commands of one unit that are looked at.
const MOST: usize = 100;

/// Judges all services and their drop-ins.
pub(super) fn judge(files: &Files<'_>, units: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in units {
        for (key, program) in commands(text).into_iter().take(MOST) {
            if is_there(files, &program) || is_condition(text, &program) {
                continue;
            }
            let message = format!(
                "has {key}={program}, which is neither in the image nor {}",
                files.base.place
            );
            let finding = Finding::of_file(Lint::MissingProgram, path, message);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// The programs that a unit runs and must find.
fn commands(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.trim_start().split_once('=') else { continue };
        // What follows a backslash at the end of a line belongs to this one.
        let mut continued = line.ends_with('\\');
        while continued && let Some(line) = lines.next() {
            continued = line.ends_with('\\');
        }
        let key = key.trim_end();
        if !COMMANDS.contains(&key) {
            continue;
        }
        let value = value.trim();
        let command = value.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        // A minus: systemd does not mind when it fails.
        if value[..value.len() - command.len()].contains('-') {
            continue;
        }
        let program = match command.strip_prefix(['"', '\'']) {
            Some(quoted) => quoted.split(['"', '\'']).next(),
            None => command.split_whitespace().next(),
        };
        // Specifiers and escapes are known on the node alone.
        if let Some(program) = program
            && !program.is_empty()
            && !program.contains(['%', '\\', '$'])
        {
            found.push((key, program.to_owned()));
        }
    }
    found
}

fn is_there(files: &Files<'_>, program: &str) -> bool {
    if program.contains('/') {
        !program.starts_with('/') || files.may_run(program)
    } else {
        files.base.has_program(program)
            || super::files::PROGRAMS
                .iter()
                .any(|folder| files.may_run(&format!("/{folder}/{program}")))
    }
}

/// Whether the unit itself asks first.
fn is_condition(text: &str, program: &str) -> bool {
    text.lines().any(|line| {
        let condition = line.trim().strip_prefix("Condition");
        let value = condition.and_then(|condition| condition.split_once('='));
        value.is_some_and(|(_, value)| value.trim().trim_start_matches('|') == program)
    })
}
