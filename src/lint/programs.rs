//! Programs that cannot start, because what they are started by or need is not there.

use super::base::linkers;
use super::files::{Files, Place};
use super::program::Program;
use super::{Evidence, Finding, Lint};

/// Judges dynamic programs, shared libraries and scripts.
pub(super) fn judge(files: &Files<'_>, evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let known = evidence.arch.map(linkers).unwrap_or_default();
    let place = files.base.place;
    for (path, program) in evidence.programs {
        // On a machine whose linkers are not known, nobody can tell.
        if known.is_empty() {
            break;
        }
        if let Some(linker) = &program.interpreter
            && !known.contains(&linker.as_str())
            && files.resolve("", linker) != Place::Here
        {
            let message = format!(
                "is started by `{linker}`, which is neither in the image nor {place}{}",
                if linker.contains("ld-musl") { "; a static program needs none" } else { "" }
            );
            findings.push(Finding::of_file(Lint::MissingInterpreter, path, message));
            // Its libraries are those of another world, too.
            continue;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let missing: Vec<_> = program
            .needed
            .iter()
            .filter(|name| !has_library(files, program, folder, name))
            .map(|name| format!("`{name}`"))
            .collect();
        if !missing.is_empty() {
            let message = format!("needs {}, neither in the image nor {place}", missing.join(", "));
            findings.push(Finding::of_file(Lint::MissingLibrary, path, message));
        }
    }
    for (path, line) in evidence.scripts {
        if let Some(interpreter) = missing_interpreter(files, line) {
            let message =
                format!("is started by `{interpreter}`, which is neither in the image nor {place}");
            findings.push(Finding::of_file(Lint::MissingInterpreter, path, message));
        }
    }
    findings
}

/// Whether a shared library is there. One that the image has anywhere counts: where it is looked
/// for can be set by a unit, by a wrapper, or by whoever loaded the library that needs it.
fn has_library(files: &Files<'_>, program: &Program, folder: &str, name: &str) -> bool {
    if name.contains('/') {
        return files.resolve(folder, name) == Place::Here;
    }
    let searched = || {
        program.search.iter().any(|place| {
            let place = ["$ORIGIN", "${ORIGIN}"]
                .iter()
                .find_map(|origin| place.strip_prefix(origin))
                .map_or_else(|| place.clone(), |rest| format!("/{folder}{rest}"));
            // Outside of what is merged, somebody else puts it there.
            !matches!(files.resolve("", &format!("{place}/{name}")), Place::Absent(_) | Place::Loop)
        })
    };
    files.base.has_library(name) || files.has_name(name) || searched()
}

/// What a script is started by, if that is not there.
fn missing_interpreter(files: &Files<'_>, line: &str) -> Option<String> {
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let interpreter = words.next().filter(|path| path.starts_with('/'))?;
    if !files.may_run(interpreter) {
        return Some(interpreter.to_owned());
    }
    if !interpreter.ends_with("/env") {
        return None;
    }
    let mut words = words.skip_while(|word| word.starts_with('-') || word.contains('='));
    let name = words.next().filter(|name| !name.contains('/'))?;
    let there = files.base.has_program(name) || files.has_name(name);
    (!there).then(|| name.to_owned())
}
