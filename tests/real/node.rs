//! A throw-away machine: the prepared trixie root with folders of its own, in a mount namespace of its own.
//!
//! The prepared root is mounted read-only and the folders that a machine writes to lie on a tmpfs, so
//! no test can change it. The namespace lives as long as a process that reads a pipe from this one:
//! however the test ends, the pipe closes, the process ends, and every mount is gone.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::upstream::NAME;

/// Makes the namespace; `$1` is the prepared root. Says `ready` and waits for the end of its input.
const HOLD: &str = r#"
root=$1
mount --bind "$root" "$root"
mount -t tmpfs -o mode=0755 node "$root/mnt"
for folder in etc var opt srv home root; do
    cp --archive "$root/$folder" "$root/mnt/$folder"
    mount --bind "$root/mnt/$folder" "$root/$folder"
done
mount -t tmpfs -o mode=0755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
# systemd-sysext merges in a namespace of its own; without this its mounts would not be seen outside.
mount --make-rshared "$root"
echo ready
exec cat >/dev/null
"#;

/// Starts the service manager; `$1` is the prepared root. Nothing that the distribution would start at
/// boot is started: it would set up the host's kernel and terminals, as no namespace holds those.
const BOOT: &str = r#"
root=$1
rm -rf "$root"/etc/systemd/system/*.wants
mkdir -p "$root/etc/systemd/system-generators"
for generator in "$root"/usr/lib/systemd/system-generators/*; do
    ln -sf /dev/null "$root/etc/systemd/system-generators/${generator##*/}"
done
for unit in "$root"/usr/lib/systemd/system/*.wants/* modprobe@.service systemd-remount-fs.service; do
    ln -sf /dev/null "$root/etc/systemd/system/${unit##*/}"
done
# A control group of its own, whatever the host has at the usual place.
mkdir "$root/mnt/cgroup"
mount -t cgroup2 cgroup "$root/mnt/cgroup"
mkdir "$root/mnt/cgroup/publish-real-$$"
echo $$ >"$root/mnt/cgroup/publish-real-$$/cgroup.procs"
exec unshare --pid --uts --cgroup --fork --kill-child bash -euc '
    root=$1
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    exec chroot "$root" env --ignore-environment container=chroot PATH=/usr/bin:/usr/sbin \
        /usr/lib/systemd/systemd --unit=multi-user.target
' boot "$root"
"#;

/// Removes what [`BOOT`] left in the host's control groups, once their processes are gone.
const SHUT_DOWN: &str = r#"
for _ in {1..50}; do
    find "$1"/mnt/cgroup/publish-real-"$2" -depth -type d -exec rmdir {} + 2>/dev/null && exit
    sleep 0.1
done
"#;

/// A system like Flatcar, as far as an extension can tell.
const FLATCAR: &str = "NAME=\"Flatcar Container Linux by Kinvolk\"
ID=flatcar
ID_LIKE=coreos
VERSION_ID=4230.2.0
SYSEXT_LEVEL=1.0
";

/// A machine.
pub struct Node {
    root: PathBuf,
    holder: Child,
    /// The service manager of a machine that was booted, or rather the process whose child it is.
    manager: Option<Child>,
    /// Its end is what the holder waits for.
    _alive: ChildStdin,
}

impl Node {
    /// A machine like Flatcar that has never followed anything.
    pub fn new() -> Self {
        let root = prepared_root();
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "bash", "-euc", HOLD, "hold"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let alive = holder.stdin.take().expect("piped");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().expect("piped"))
            .read_line(&mut said)
            .expect("the namespace's output");
        assert_eq!(said, "ready\n", "a mount namespace over {} could not be made", root.display());

        let node = Self { root, holder, manager: None, _alive: alive };
        node.ok(&format!("rm /etc/os-release; cat >/etc/os-release <<'end'\n{FLATCAR}end"));
        node.ok("mkdir -p /etc/extensions /opt/extensions");
        node
    }

    /// Starts the service manager, and waits until it has nothing more to do.
    pub fn boot(&mut self) {
        let manager = Command::new("setpriv")
            // However this process ends, so does the machine.
            .args(["--pdeathsig", "KILL", "nsenter", "--target"])
            .arg(self.holder.id().to_string())
            .args(["--mount", "--", "bash", "-euc", BOOT, "boot"])
            .arg(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("setpriv runs");
        self.manager = Some(manager);
        self.until("the machine boots", "systemctl is-system-running", "running");
    }

    /// Waits until a script prints a line.
    #[track_caller]
    pub fn until(&self, what: &str, script: &str, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let run = self.run(script);
            let printed = String::from_utf8_lossy(&run.stdout);
            if printed.trim_end() == line {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: `{script}` still prints {printed}{}",
                String::from_utf8_lossy(&run.stderr)
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Shows a folder of the host, read-only, at `/srv/NAME` of this machine.
    pub fn show(&self, folder: &Path, name: &str) {
        let place = self.root.join("srv").join(name);
        let shown = self
            .enter()
            .args(["bash", "-euc", r#"mkdir -p "$2"; mount --bind -o ro "$1" "$2""#, "show"])
            .arg(folder)
            .arg(place)
            .status()
            .expect("nsenter runs");
        assert!(shown.success(), "{} cannot be shown to the node", folder.display());
    }

    /// Runs a script on this machine.
    pub fn run(&self, script: &str) -> Output {
        self.enter()
            .arg("chroot")
            .arg(&self.root)
            // Nothing of the host's environment, least of all a proxy.
            .args([
                "env",
                "--ignore-environment",
                "PATH=/usr/bin:/usr/sbin",
                "HOME=/root",
                "LANG=C.UTF-8",
            ])
            .args(["bash", "-euo", "pipefail", "-c", script])
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs")
    }

    /// Runs a script that must succeed; its output.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        let run = self.run(script);
        assert!(
            run.status.success(),
            "on the node, `{script}`: {}\n{}{}",
            run.status,
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr),
        );
        String::from_utf8(run.stdout).expect("the node prints UTF-8")
    }

    /// Whether a path exists on this machine, also as a dangling symlink.
    pub fn has(&self, path: &str) -> bool {
        self.run(&format!("test -e '{path}' || test -L '{path}'")).status.success()
    }

    /// Installs an image that is shown at `/srv`, in the layout that the program's clients use.
    pub fn install(&self, name: &str, image: &str) {
        self.ok(&format!(
            "mkdir -p /opt/extensions/{name}
             cp '/srv/{image}' /opt/extensions/{name}/
             ln -s \"/opt/extensions/{name}/$(basename '{image}')\" /etc/extensions/{name}.raw"
        ));
    }

    /// Everything below `/usr` and `/opt`: type, mode, owner, size, time, link. Images in `/opt` come
    /// and go with updates, so they are left out.
    pub fn tree(&self) -> String {
        self.ok(r"find /usr /opt -path /opt/extensions -prune -o -printf '%p %y %m %U:%G %s %T@ %l\n' | sort")
    }

    /// What the service's program prints.
    pub fn greet(&self) -> String {
        self.ok(&format!("/usr/bin/{NAME}"))
    }

    /// `nsenter`, to be given a program that runs on the host's files but among this machine's mounts
    /// and processes.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--mount");
        let init = self.manager.as_ref().and_then(|manager| child_of(manager.id()));
        if init.is_some() {
            command.args(["--pid", "--uts", "--cgroup"]);
        }
        command.arg("--target").arg(init.unwrap_or_else(|| self.holder.id().to_string())).arg("--");
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut manager) = self.manager.take() {
            let _ = manager.kill();
            let _ = manager.wait();
            let _ = self
                .enter()
                .args(["bash", "-euc", SHUT_DOWN, "shut-down"])
                .arg(&self.root)
                .arg(manager.id().to_string())
                .status();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The only child of a process.
fn child_of(process: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next().map(str::to_owned)
}

/// The root that `tests/real/setup` made; a failure that says what to do when there is none.
pub fn prepared_root() -> PathBuf {
    assert!(
        rustix::process::geteuid().is_root(),
        "the tests of the real consumers need root: they mount and chroot"
    );
    let target = || {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
            .join("real/trixie")
    };
    let root = std::env::var_os("PUBLISH_REAL_ROOT").map_or_else(target, PathBuf::from);
    assert!(
        root.join("etc/publish-real-root").exists(),
        "{} is not a prepared root: run tests/real/setup as root first",
        root.display()
    );
    root
}
