//! What stands between a command and this machine.
//!
//! Owns how a command is kept from the network and how nothing of it outlives it: namespaces, by
//! util-linux's `unshare`, or a container, by podman or docker. A machine that lets nobody have a
//! network namespace runs no command that must not have the network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tokio::process::Command;

use super::{CommandError, ours};
use crate::child::{self, LastWords};
use crate::config::build::{CommandRule, Container, Engine};
use crate::fetch::oci::name_of;
use crate::name::Arch;

/// Where a container has what it is given.
const INSIDE: &str = "/publish";

/// What of our own environment podman and docker are given: where they are and how they reach what
/// they need. Nothing of it gets into a container.
const FOR_ENGINES: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
];

/// Where a command works, and what it is told.
pub(super) struct Place {
    /// What it fills.
    pub(super) root: PathBuf,
    /// What else it may write to.
    pub(super) work: PathBuf,
    /// The folder beside the component's file, if there is one.
    pub(super) folder: Option<PathBuf>,
    /// Names and values.
    pub(super) variables: Vec<(String, String)>,
    /// The names of what it is given of our own environment.
    pub(super) extra: Vec<String>,
}

/// A command that runs as its component says, ready to be started, and the container it runs in, which
/// ends when that is let go of.
pub(super) async fn around(
    rule: &CommandRule,
    arch: Arch,
    place: &Place,
) -> Result<(Command, Option<Named>), CommandError> {
    match &rule.container {
        Some(container) => {
            let engine = engine(rule.engine)?;
            let name = Named { engine, name: format!("publish-{:016x}", rand::random::<u64>()) };
            let command = contained(rule, container, arch, place, &name);
            Ok((watched(command, &name).await, Some(name)))
        }
        None => Ok((on_this_machine(rule, place).await?, None)),
    }
}

async fn on_this_machine(rule: &CommandRule, place: &Place) -> Result<Command, CommandError> {
    let words = &rule.command;
    let start = |source| CommandError::Start { program: words.program().to_owned(), source };
    let folder = place.folder.as_ref().unwrap_or(&place.work);
    let folder = std::path::absolute(folder).map_err(start)?;
    let program = child::find(words.program(), &folder).map_err(start)?;
    let walls = namespaces(rule.network).await?;
    let mut command = match walls {
        Some(options) => {
            let mut command = child::tied("unshare").await;
            command.args(options).args(["--", "sh", "-c", child::FIRST, "publish"]).arg(program);
            command
        }
        None => child::tied(program).await,
    };
    command
        .args(words.arguments())
        .current_dir(folder)
        .env_clear()
        .env("PATH", child::path())
        .env("HOME", &place.work)
        .env("TMPDIR", place.work.join("tmp"))
        .env("PUBLISH_ROOT", &place.root)
        .env("PUBLISH_WORK", &place.work)
        .envs(place.variables.iter().map(|(name, value)| (name, value)))
        .envs(place.extra.iter().filter_map(|name| ours(name)));
    Ok(command)
}

/// A namespace of processes, so that they all end with the first, and one without a network.
const ALONE: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// The options of `unshare` that this machine allows. Nothing is needed where the network is allowed
/// and there is no way to have more.
async fn namespaces(network: bool) -> Result<Option<Vec<&'static str>>, CommandError> {
    // root keeps all users, as archives that are unpacked may name others.
    let user: &[&[&str]] = if geteuid().is_root() {
        &[&[], &["--user", "--map-current-user"]]
    } else {
        &[&["--user", "--map-current-user"]]
    };
    let net: &[&str] = if network { &[] } else { &["--net"] };
    let mut refused = String::new();
    for alone in [&ALONE[..], &[]] {
        for user in user {
            let options = [user, net, alone].concat();
            if options.is_empty() {
                continue;
            }
            match try_out(&options).await {
                Ok(()) => return Ok(Some(options)),
                Err(why) => refused = why,
            }
        }
    }
    if network { Ok(None) } else { Err(CommandError::Network(refused)) }
}

/// Whether something runs this way.
async fn try_out(options: &[&str]) -> Result<(), String> {
    let mut command = Command::new("unshare");
    command.args(options).args(["--", "true"]).env_clear().env("PATH", child::path());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| format!("unshare of util-linux: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let mut words = LastWords::new(1);
    words.hear(&output.stderr);
    Err(words.lines().concat())
}

/// What runs containers here.
fn engine(asked: Option<Engine>) -> Result<Engine, CommandError> {
    let is_here = |engine: &Engine| child::is_in_path(engine.program());
    match asked {
        Some(engine) if is_here(&engine) => Ok(engine),
        Some(engine) => Err(CommandError::Engine(engine.program().to_owned())),
        None => [Engine::Podman, Engine::Docker]
            .into_iter()
            .find(is_here)
            .ok_or_else(|| CommandError::Engine("podman and no docker".to_owned())),
    }
}

/// What podman and docker understand alike.
fn contained(
    rule: &CommandRule,
    container: &Container,
    arch: Arch,
    place: &Place,
    name: &Named,
) -> Command {
    let mut command = name.command();
    command
        .args(["run", "--rm", "--name", &name.name])
        .args(["--platform", &format!("linux/{}", name_of(arch))])
        // What it starts by itself is none of ours, and what it may see is ours.
        .args(["--entrypoint", "", "--security-opt", "label=disable"]);
    if !rule.network {
        command.args(["--network", "none"]);
    }
    let mut mount = |from: &Path, to: &str, more: &str| {
        let from = std::path::absolute(from).unwrap_or_else(|_| from.to_owned());
        let mut option = OsString::from("type=bind,source=");
        option.push(from);
        option.push(format!(",target={INSIDE}/{to}{more}"));
        command.arg("--mount").arg(option);
    };
    mount(&place.root, "root", "");
    mount(&place.work, "work", "");
    if let Some(folder) = &place.folder {
        mount(folder, "component", ",readonly");
    }
    let inside = |name: &str| format!("{INSIDE}/{name}");
    let own = [
        ("HOME", inside("work")),
        ("TMPDIR", inside("work/tmp")),
        ("PUBLISH_ROOT", inside("root")),
        ("PUBLISH_WORK", inside("work")),
    ];
    for (name, value) in own {
        command.args(["--env", &format!("{name}={value}")]);
    }
    for (name, value) in &place.variables {
        command.args(["--env", &format!("{name}={value}")]);
    }
    // Their values are nobody's who lists processes.
    for extra in &place.extra {
        command.args(["--env", extra]);
    }
    command.envs(place.extra.iter().filter_map(|name| ours(name)));
    let folder = if place.folder.is_some() { "component" } else { "work" };
    command.args(["--workdir", &inside(folder), container.as_str()]);
    let user = geteuid();
    if name.engine == Engine::Docker && !user.is_root() {
        // What docker's root leaves would be nobody's here to read or to take away.
        let give_back = format!(
            "\"$@\"; ended=$?; chown -R {} {INSIDE}/root {INSIDE}/work; exit $ended",
            user.as_raw()
        );
        command.args(["sh", "-c", &give_back, "sh"]);
    }
    command.args(rule.command.iter());
    command
}

/// Runs an engine, and ends its container when we end, be it by a signal that nobody can answer: no engine
/// ends a container with who asked for it.
const WATCH: &str = "[ \"$PPID\" = \"$1\" ] || exit 1; name=$2 engine=$3; shift 3; unset PWD OLDPWD SHLVL
client=
end() { [ -z \"$client\" ] || kill -9 \"$client\"; \"$engine\" kill \"$name\"; \"$engine\" rm --force \"$name\"; }
trap 'end >/dev/null 2>&1; exit 1' TERM
\"$engine\" \"$@\" & client=$!
wait $client";

/// The same command, with something that watches over its container. Without `setpriv`, that lives on if
/// we are killed.
async fn watched(command: Command, name: &Named) -> Command {
    let Some(mut outer) = child::tie("TERM", WATCH).await else { return command };
    let inner = command.as_std();
    outer.arg(&name.name).arg(inner.get_program()).args(inner.get_args());
    let environment = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
    outer.env_clear().envs(environment);
    outer
}

/// A container that is ours.
pub(super) struct Named {
    engine: Engine,
    name: String,
}

/// How long taking a container away may take.
const REMOVAL: Duration = Duration::from_secs(10);

impl Named {
    /// The engine, to be given its arguments.
    fn command(&self) -> Command {
        let mut command = Command::new(self.engine.program());
        command
            .env_clear()
            .env("PATH", child::path())
            .envs(FOR_ENGINES.iter().filter_map(|name| ours(name)));
        command
    }
}

impl Drop for Named {
    /// Ends it, whatever it does: its engine runs it, and does not end with who asked for it. One that
    /// ended took itself away, and this finds nothing.
    fn drop(&mut self) {
        // Taken away at once, it would be asked to end first, and have seconds to do so.
        for what in [&["kill"][..], &["rm", "--force"]] {
            let mut command = self.command().into_std();
            command.args(what).arg(&self.name);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let Ok(mut child) = command.spawn() else { return };
            let begun = Instant::now();
            while begun.elapsed() < REMOVAL && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
