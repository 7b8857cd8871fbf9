//! Real programs in Debian's own packages: through archives, lint and `[test]`, on this machine.
//!
//! What lint says of a library that is nowhere is compared with what the loader says.

use std::path::Path;
use std::process::Command;

use crate::upstream::NATIVE;
use crate::workspace::Workspace;

/// A package, its program, and how that is asked for its version.
const PACKAGES: [(&str, &str, &str); 7] = [
    ("bird2", "usr/sbin/bird", "--version"),
    ("btop", "usr/bin/btop", "--version"),
    ("chrony", "usr/sbin/chronyd", "--version"),
    ("containerd", "usr/bin/containerd", "--version"),
    ("haproxy", "usr/sbin/haproxy", "-v"),
    ("keepalived", "usr/sbin/keepalived", "--version"),
    ("runc", "usr/sbin/runc", "--version"),
];

/// What apt gives for a package, under a name without its version.
fn download(name: &str, folder: &Path) {
    let fetched = folder.join("fetched");
    std::fs::create_dir(&fetched).unwrap();
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "download", name]).current_dir(&fetched);
    let got = apt.output().expect("apt-get runs");
    assert!(got.status.success(), "{name}: {}", String::from_utf8_lossy(&got.stderr));
    let file = std::fs::read_dir(&fetched).unwrap().next().expect("a package").unwrap().path();
    std::fs::rename(file, folder.join(format!("{name}_1.0.deb"))).unwrap();
    std::fs::remove_dir(fetched).unwrap();
}

#[test]
#[ignore = "needs root, apt-get and its network"]
fn a_real_program_runs_or_lint_said_why_not() {
    let workspace = Workspace::new();
    let folder = workspace.public().parent().unwrap().to_owned();
    let mut tested = 0;
    for (name, program, argument) in PACKAGES {
        download(name, &folder.join("releases"));
        workspace.write(
            &format!("components/{name}.toml"),
            format!(
                r#"[source.directory]
path = "../releases"
match = "{name}_{{version}}.deb"

[[asset]]
name = "{name}_{{version}}.deb"

[asset.files]
"usr" = "usr"

[test]
run = ["{program}", "{argument}"]
"#
            ),
        );
        let build = ["build", name, "--arch", NATIVE, "--output", "out", "--test"];
        let (runs, said) = workspace.run(&build);
        assert!(folder.join(format!("out/{name}-1.0-{NATIVE}.raw")).exists(), "{said}");
        if runs {
            assert!(said.contains("  tested: "), "{said}");
            tested += 1;
            continue;
        }
        // This machine lacks a library of it.
        let (_, loader) = said.split_once("error while loading shared libraries: ").expect(&said);
        let (library, _) = loader.split_once(": ").expect(&said);
        let warns = |line: &&str| line.contains("[missing-library]") && line.contains(program);
        let lint = said.lines().find(warns).unwrap_or_else(|| panic!("lint says nothing: {said}"));
        assert!(lint.contains(&format!("`{library}`")), "{library} is not in: {lint}");
    }
    assert!(tested > 2, "only {tested} of them ran");
}
