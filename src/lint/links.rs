//! Symlinks that lead to nothing, or to where nothing can be.

use super::files::{Files, PROGRAMS, Place};
use super::{Finding, Lint};

/// Folders at the root that every node has, and fills by itself.
const HOSTS: [&str; 11] =
    ["etc", "run", "var", "dev", "proc", "sys", "tmp", "srv", "boot", "efi", "usr"];

/// Judges all symlinks.
pub(super) fn judge(files: &Files<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for entry in files.all() {
        let Some(target) = &entry.target else { continue };
        let path = entry.path.as_str();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let finding = match files.resolve(folder, target) {
            Place::Here => continue,
            Place::Loop => {
                (Lint::DanglingSymlink, format!("leads to `{target}`, which leads back to it"))
            }
            Place::Absent(end) if hosts_may_have(files, &end) => continue,
            Place::Absent(_) => {
                (Lint::DanglingSymlink, format!("leads to `{target}`, which is not in the image"))
            }
            Place::Outside(end) if is_of_every_host(&end) => continue,
            Place::Outside(_) => (
                Lint::LeavingSymlink,
                format!("leads to `{target}`, where neither the image nor a node has anything"),
            ),
        };
        findings.push(Finding::of_file(finding.0, path, finding.1));
    }
    findings
}

/// Whether a host may well have what the image has not.
fn hosts_may_have(files: &Files<'_>, path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if PROGRAMS.contains(&folder) {
        return files.base.has_program(name);
    }
    // A folder of which the image has nothing is the host's, or nobody's: who knows.
    if !files.has_below(folder) {
        return true;
    }
    let library =
        name.split_once(".so").is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('.'));
    match folder {
        _ if folder.starts_with("usr/lib/systemd/") || folder.starts_with("etc/systemd/") => true,
        _ if library => files.base.has_library(name),
        // What belongs to no one package.
        "usr" | "opt" | "usr/lib" | "usr/lib64" | "usr/libexec" | "usr/share" | "usr/share/doc"
        | "usr/share/licenses" | "etc" => true,
        _ => false,
    }
}

fn is_of_every_host(path: &str) -> bool {
    // Debian's alternatives are made by scripts, which no image runs.
    let top = path.split('/').next().unwrap_or_default();
    HOSTS.contains(&top) && !path.starts_with("etc/alternatives/")
}
