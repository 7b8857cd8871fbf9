//! `[build]` in real containers, by podman or docker, with an image made of the prepared root.
//!
//! A machine without an engine, or with one that runs nothing, skips this with a loud word.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::node;
use crate::upstream::NATIVE;
use crate::workspace::Workspace;

/// The image, in no registry.
const IMAGE: &str = "localhost/publish-real:1";

/// Where the control groups of this machine are an old mix that crun does not take, containers run
/// without, beside new ones.
const WITHOUT_GROUPS: &str =
    "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec \"$@\"";
const SETTINGS: &str = "[containers]\ncgroups = \"disabled\"\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1024:4096\"]\n";

/// An engine that runs containers here.
struct Engine {
    name: &'static str,
    /// What commands begin with.
    before: Vec<&'static str>,
    settings: tempfile::TempDir,
}

impl Engine {
    fn find() -> Option<Self> {
        for name in ["podman", "docker"] {
            if !import(name) {
                continue;
            }
            let around =
                vec!["unshare", "-m", "--propagation", "private", "sh", "-c", WITHOUT_GROUPS, "sh"];
            for before in [Vec::new(), around] {
                let settings = tempfile::tempdir().unwrap();
                fs::write(settings.path().join("containers.conf"), SETTINGS).unwrap();
                let engine = Self { name, before, settings };
                let nothing = ["run", "--rm", "--network", "none", IMAGE, "/bin/true"];
                if engine.run(&nothing).status.success() {
                    return Some(engine);
                }
            }
        }
        eprintln!(
            "!!! CONTAINERS ARE NOT TESTED: this machine has no podman or docker that runs one"
        );
        None
    }

    /// A command as this machine needs it.
    fn around(&self, inner: Command) -> Command {
        let Some((first, rest)) = self.before.split_first() else { return inner };
        let mut command = Command::new(first);
        command.args(rest).arg(inner.get_program()).args(inner.get_args());
        if let Some(folder) = inner.get_current_dir() {
            command.current_dir(folder);
        }
        command.env("CONTAINERS_CONF", self.settings.path().join("containers.conf"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.name);
        command.args(args);
        self.around(command).output().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn publish(&self, workspace: &Workspace, args: &[&str]) -> Command {
        let mut command = workspace.publish();
        command.args(args);
        self.around(command)
    }

    /// The containers that are there.
    fn containers(&self) -> String {
        let output = self.run(&["ps", "--all", "--format", "{{.Names}}"]);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Makes the image of what programs of the prepared root need; whether there is an engine to do it.
fn import(engine: &str) -> bool {
    let script = format!(
        "cd \"$1\" && tar -c bin lib lib64 usr/bin usr/lib64 usr/lib/*-linux-gnu etc/passwd | {engine} import - {IMAGE}"
    );
    let is_there = Command::new(engine).arg("--version").output().is_ok();
    let made =
        || Command::new("sh").args(["-c", &script, "sh"]).arg(node::prepared_root()).output();
    is_there && made().is_ok_and(|output| output.status.success())
}

/// A component that this script makes in a container.
fn component(workspace: &Workspace, script: &str, rule: &str) {
    workspace.write(
        "components/x.toml",
        format!(
            "[source.directory]\npath = \"../releases\"\nmatch = \"x-{{version}}\"\n[arch]\n{NATIVE} = \"theirs\"\n[[asset]]\nname = \"x-{{version}}\"\n[build]\ncommand = [\"./build.sh\", \"two words\"]\ncontainer = \"{IMAGE}\"\n{rule}\n"
        ),
    );
    workspace.write("releases/x-1.0", "of upstream");
    let folder = workspace.releases().parent().unwrap().join("components/x");
    fs::create_dir_all(&folder).unwrap();
    workspace.write("components/x/build.sh", format!("#!/bin/sh\nset -eu\n{script}\n"));
    fs::set_permissions(folder.join("build.sh"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn text(output: &Output) -> String {
    [&*String::from_utf8_lossy(&output.stdout), &*String::from_utf8_lossy(&output.stderr)].concat()
}

fn read_out(image: &Path, file: &str) -> String {
    let output = Command::new("unsquashfs").args(["-cat"]).arg(image).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs root, a prepared root and a container engine"]
fn a_container_makes_what_is_in_an_image() {
    let Some(engine) = Engine::find() else { return };
    let workspace = Workspace::new();
    let script = "mkdir -p $PUBLISH_ROOT/usr/share/x; cd $PUBLISH_ROOT/usr/share/x
        cp $PUBLISH_WORK/assets/x-1.0 asset; env > env; echo \"$1\" > argument
        cat /proc/net/dev > net; touch /publish/component/y 2> readonly || true
        ls /publish > publish; chown 1234 asset";
    component(&workspace, script, "env = [\"EXTRA\"]");
    let output = engine
        .publish(&workspace, &["sync"])
        .env("EXTRA", "wanted")
        .env("SECRET", "s3cret")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let image = workspace.image("x", "1.0", NATIVE);
    let read = |file: &str| read_out(&image, &format!("usr/share/x/{file}"));
    assert_eq!(
        (read("asset"), read("argument")),
        ("of upstream".to_owned(), "two words\n".to_owned())
    );
    let env = read("env");
    for line in [
        "PUBLISH_ROOT=/publish/root",
        "PUBLISH_VERSION=1.0",
        "HOME=/publish/work",
        "EXTRA=wanted",
        "TZ=UTC",
    ] {
        assert!(env.lines().any(|seen| seen == line), "{line}: {env}");
    }
    assert!(!env.contains("s3cret"), "{env}");
    assert_eq!(read("net").matches(':').count(), 1, "the loopback alone");
    assert!(read("readonly").contains("Read-only file system"), "{}", read("readonly"));
    assert_eq!(read("publish"), "component\nroot\nwork\n");
    assert!(!engine.containers().contains("publish-"), "{}", engine.containers());
}

#[test]
#[ignore = "needs root, a prepared root and a container engine"]
fn a_container_ends_with_its_time_and_with_us() {
    let Some(engine) = Engine::find() else { return };
    let workspace = Workspace::new();
    component(&workspace, "echo begun; sleep 1000", "timeout = \"5s\"");
    let output = engine.publish(&workspace, &["sync"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output)
            .contains("took longer than 5 s and was killed; the end of what it said:\n    | begun"),
        "{}",
        text(&output)
    );
    assert!(!engine.containers().contains("publish-"), "{}", engine.containers());

    use rustix::process::Signal;
    component(&workspace, "echo begun; sleep 1000", "");
    for signal in [Signal::INT, Signal::KILL] {
        ends_with_us(&engine, &workspace, signal);
    }
}

/// Starts a sync, and ends it when its container runs.
fn ends_with_us(engine: &Engine, workspace: &Workspace, signal: rustix::process::Signal) {
    let mut child = engine
        .publish(workspace, &["sync"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !engine.containers().contains("publish-") {
        assert!(begun.elapsed() < Duration::from_secs(60), "no container was started");
        std::thread::sleep(Duration::from_millis(100));
    }
    let id = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
    child.wait().unwrap();
    // What watches over it needs a moment, where we could not.
    let killed = Instant::now();
    while engine.containers().contains("publish-") {
        assert!(signal == rustix::process::Signal::KILL, "{}", engine.containers());
        assert!(killed.elapsed() < Duration::from_secs(60), "{}", engine.containers());
        std::thread::sleep(Duration::from_millis(100));
    }
}
