//! `[build]`: a command makes what is in an image, and all that such a command may do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::repo::{Ran, Repo, Running, until};

/// A repository with a component `x` whose image this script makes of the release `x-1.0`.
fn scripted(script: &str, rule: &str) -> Repo {
    let mut repo = Repo::new();
    repo.env("PATH", &std::env::var("PATH").unwrap());
    repo.component(
        "x",
        &format!(
            "[source.directory]\npath = \"x-releases\"\nmatch = \"x-{{version}}\"\n[[asset]]\nname = \"x-{{version}}\"\n[build]\ncommand = [\"./build.sh\", \"two words\"]\n{rule}\n"
        ),
    );
    repo.release("x", "1.0", "x 1.0");
    rewrite(&repo, script);
    repo
}

fn rewrite(repo: &Repo, script: &str) {
    // Under another name first: a program that is open for writing cannot be run.
    repo.write("new", format!("#!/bin/sh -e\n{script}\n"));
    fs::set_permissions(repo.path("new"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(repo.path("components/x")).unwrap();
    fs::rename(repo.path("new"), repo.path("components/x/build.sh")).unwrap();
}

const INSTALL: &str = "mkdir -p $PUBLISH_ROOT/usr/bin; cp $PUBLISH_WORK/assets/x-$PUBLISH_VERSION $PUBLISH_ROOT/usr/bin/x; chmod 700 $PUBLISH_ROOT/usr/bin/x";

const IMAGE: &str = "x-1.0-x86-64.raw";

fn fails(script: &str, texts: &[&str]) -> Ran {
    let repo = scripted(script, "");
    let ran = repo.sync().code(3).says(&["error: x 1.0 x86-64: ", "hint: "]).says(texts);
    assert!(!repo.path("public/x").join(IMAGE).exists());
    ran
}

/// What is there when it ends is the tree, by the rules for archives; overlay, `[files]` and services lie
/// upon it, and a second run has nothing to do.
#[test]
fn what_a_command_leaves_becomes_the_image() {
    let script = format!(
        "{INSTALL}
        ln $PUBLISH_ROOT/usr/bin/x $PUBLISH_ROOT/usr/bin/y
        ln -s x $PUBLISH_ROOT/usr/bin/z
        chmod 4755 $PUBLISH_ROOT/usr/bin/y
        mkdir -m 700 $PUBLISH_ROOT/usr/share $PUBLISH_ROOT/usr/empty
        echo theirs > $PUBLISH_ROOT/usr/share/text"
    );
    let rule = "[files]\n\"usr/share/text\" = { text = \"ours\" }\n[services]\nenable = [\"x.service\"]\n[versions]\nnewest = 9";
    let repo = scripted(&script, rule);
    repo.write(
        "components/x/usr/lib/systemd/system/x.service",
        "[Service]\nExecStart=/usr/bin/x\n",
    );
    repo.publish(&["plan"]).ok().prints(&["new version", "made by ./build.sh\n"]);
    let plan = repo.publish(&["--json", "plan"]).ok().json();
    assert_eq!(plan["components"][0]["command"], "./build.sh");
    repo.sync().ok().says(&["ran ./build.sh for x-1.0-x86-64.raw"]);
    let image = repo.image("x", IMAGE);
    assert_eq!(
        image.paths(),
        [
            "usr/bin/x",
            "usr/bin/y",
            "usr/bin/z",
            "usr/lib/systemd/system/multi-user.target.d/10-x-x.service.conf",
            "usr/lib/systemd/system/x.service",
            "usr/share/text"
        ]
    );
    assert_eq!((image.text("usr/bin/x"), image.text("usr/share/text")), ("x 1.0", "ours"));
    // Nothing is set-uid by accident, and nothing shows what umask was here.
    assert_eq!((image.mode("usr/bin/x"), image.mode("usr/bin/y")), (0o755, 0o755));
    assert_eq!(image.link("usr/bin/z"), "x");
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
    // The same inputs give the same bytes, whenever and wherever it ran.
    repo.publish(&["build", "x", "1.0", "--check"]).ok().prints(&["same"]);
}

/// It gets what it is told, and nothing of our environment that may be a secret.
#[test]
fn the_world_of_a_command_is_small() {
    let script = format!("{INSTALL}; env > seen; printf '%s' \"$1\" > argument; cat > input; pwd");
    let mut repo = scripted(&script, "env = [\"EXTRA\", \"ABSENT\"]");
    for (name, value) in [
        ("GITHUB_TOKEN", "ghp_secret"),
        ("PUBLISH_SIGNING_KEY", "secret"),
        ("HOME", "/home/secret"),
        ("EXTRA", "wanted"),
        ("LANG", "de_DE"),
        ("SOURCE_DATE_EPOCH", "1700000000"),
    ] {
        repo.env(name, value);
    }
    repo.env("XDG_STATE_HOME", repo.path("state").to_str().unwrap());
    repo.sync().ok();
    let read = |name: &str| fs::read_to_string(repo.path(&format!("components/x/{name}"))).unwrap();
    let seen = read("seen");
    assert!(!seen.contains("secret") && !seen.contains("ABSENT"), "{seen}");
    for line in [
        "PUBLISH_COMPONENT=x",
        "PUBLISH_VERSION=1.0",
        "PUBLISH_ARCH=x86-64",
        "PUBLISH_TAG=1.0",
        "EXTRA=wanted",
        "LANG=C.UTF-8",
        "TZ=UTC",
        "SOURCE_DATE_EPOCH=1700000000",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line}: {seen}");
    }
    let value = |name: &str| {
        seen.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap().to_owned()
    };
    assert_eq!(value("HOME"), value("PUBLISH_WORK"));
    assert!(value("TMPDIR").starts_with(&value("PUBLISH_WORK")));
    assert_eq!((read("argument"), read("input")), ("two words".to_owned(), String::new()));
    // It works where its component's files are, and what it said is kept for its owner alone.
    let log = repo.path("state/publish/logs/x/x-1.0-x86-64.log");
    let folder = fs::canonicalize(repo.path("components/x")).unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap().trim(), folder.to_str().unwrap());
    assert_eq!(fs::metadata(log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn there_is_no_network_unless_it_is_asked_for() {
    let script = format!("{INSTALL}; cat /proc/net/dev | grep -c : > interfaces");
    let repo = scripted(&script, "");
    let count = || {
        let text = fs::read_to_string(repo.path("components/x/interfaces")).unwrap();
        text.trim().parse::<usize>().unwrap()
    };
    repo.sync().ok();
    assert_eq!(count(), 1, "the loopback alone");
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}network = true\n"));
    repo.sync().ok();
    let ours = fs::read_to_string("/proc/net/dev").unwrap();
    assert_eq!(count(), ours.lines().filter(|line| line.contains(':')).count());
}

/// Where the machine allows no namespaces, nothing runs that must not have the network.
#[test]
fn a_machine_that_cannot_keep_it_from_the_network_runs_nothing() {
    let mut repo = scripted(&format!("{INSTALL}; touch ran"), "");
    // A PATH in which `unshare` is another one.
    repo.write(
        "bin/unshare",
        "#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2; exit 1\n",
    );
    fs::set_permissions(repo.path("bin/unshare"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", repo.path("bin").display(), std::env::var("PATH").unwrap());
    repo.env("PATH", &path);
    repo.sync().code(3).says(&[
        "does not let a command run without the network: unshare failed",
        "hint: allow user namespaces",
    ]);
    assert!(!repo.path("components/x/ran").exists());
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}network = true\n"));
    repo.sync().ok();
    assert!(repo.path("components/x/ran").exists());
}

#[test]
fn a_failure_is_told_with_the_end_of_what_was_said() {
    let ran = fails(
        "echo compiling; echo 'cc: no such file\x1b[2J' >&2; exit 3",
        &[
            "x 1.0 x86-64: cannot build\n",
            "`./build.sh` ended with exit code 3; the end of what it said:\n    | compiling\n    | cc: no such file\\u{1b}",
            "$XDG_STATE_HOME",
        ],
    );
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
    fails("false", &["ended with exit code 1, and said nothing"]);
    fails("head -c 3000000 /dev/zero | tr '\\0' x; printf END; exit 1", &["xxxEND\n"]);
    let ran = fails("yes noise | head -n 200000; exit 1", &["    | noise\n"]);
    assert!(ran.stderr.len() < 2_000, "{}", ran.stderr.len());
}

#[test]
fn what_it_must_not_leave_is_refused() {
    let left =
        |what: &str| format!("mkdir -p $PUBLISH_ROOT/usr/bin; cd $PUBLISH_ROOT/usr/bin; {what}");
    fails(&left("mkfifo pipe"), &["`usr/bin/pipe` in PUBLISH_ROOT is a FIFO"]);
    fails(&left("ln -s ../../etc/shadow a"), &["symlink `usr/bin/a`", "leaves the image"]);
    fails(&left("touch 'a\nb'"), &["has a control character in its path"]);
    fails(&left("mkdir ../../etc; echo > ../../etc/x"), &["`etc` would not be seen on a node"]);
    fails("true", &["the command left nothing in PUBLISH_ROOT"]);
    let gone = "`./build.sh` left no folder where PUBLISH_ROOT was";
    fails("rmdir $PUBLISH_ROOT", &[gone, "hint: fill the folder and let it stay"]);
    fails("rmdir $PUBLISH_ROOT; ln -s /usr $PUBLISH_ROOT", &[gone]);
    let repo = scripted(&left("truncate -s 3M a"), "");
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", format!("{config}[limits]\nunpacked = \"2MiB\"\n"));
    repo.sync().code(3).says(&["cannot unpack what the command left", "more than 2097152 bytes"]);
}

#[test]
fn a_command_that_cannot_be_run() {
    let repo = scripted("true", "");
    let script = repo.path("components/x/build.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    repo.sync().code(3).says(&["cannot run `./build.sh`", "hint: make it executable"]);
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &text.replace("./build.sh", "nothing-like-it"));
    repo.sync().code(3).says(&["cannot run `nothing-like-it`", "is looked for in PATH"]);
    repo.component("x", &text);
    fs::remove_file(&script).unwrap();
    repo.sync().code(3).says(&["cannot run `./build.sh`", "beside the component's file"]);
}

/// What is beside the component may be read by its command: a change of any of it is a revision.
#[test]
fn a_changed_script_is_a_revision() {
    let repo = scripted(INSTALL, "");
    repo.sync().ok();
    repo.write("components/x/notes/patch", "+ better\n");
    repo.publish(&["plan"]).ok().prints(&["the recipe changed"]);
    repo.sync().ok();
    rewrite(&repo, &format!("{INSTALL}; echo >> $PUBLISH_ROOT/usr/bin/x"));
    repo.sync().ok();
    assert!(repo.listed("x").contains(&"x-1.0-r2-x86-64.raw".to_owned()), "{:?}", repo.listed("x"));
    // How long it may take changes no byte.
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}timeout = \"5m\"\n"));
    repo.sync().ok().prints(&["nothing to do"]);
}

/// What a command makes of nothing that we fetch, nobody vouches for.
#[test]
fn a_command_without_assets_is_unverified() {
    let repo = scripted("mkdir -p $PUBLISH_ROOT/usr; echo > $PUBLISH_ROOT/usr/x", "");
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    let (text, rest) = text.split_once("[[asset]]").unwrap();
    let (_, rest) = rest.split_once("[build]").unwrap();
    repo.component("x", &format!("{text}[build]{rest}"));
    repo.publish(&["plan"]).ok().prints(&["unverified: nothing vouches for what ./build.sh makes"]);
    repo.sync().ok();
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", format!("{config}[trust]\nrequire = \"digest\"\n"));
    repo.publish(&["build", "x", "--output", "out"])
        .code(3)
        .says(&["cannot trust what ./build.sh makes"]);
}

/// Whether a process of this number is there and not just waiting to be taken away.
fn lives(repo: &Repo) -> bool {
    // In its own namespace of processes, its number is another one: it is known by what it holds.
    let held = fs::canonicalize(repo.path("components/x/held")).unwrap();
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let files = fs::read_dir(process.path().join("fd"));
        files.is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| fs::read_link(file.path()).is_ok_and(|at| at == held))
            })
        })
    })
}

/// One in the background, one in a session of its own, and the script itself.
const CHILDREN: &str =
    "exec 9> held; sleep 1000 & setsid sleep 1000 >/dev/null 2>&1 & echo > started; sleep 1000";

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let repo = scripted(CHILDREN, "timeout = \"1s\"");
    repo.sync().code(3).says(&["`./build.sh` took longer than 1 s and was killed"]);
    until("the end of the children", || !lives(&repo));
}

#[test]
fn an_interrupt_kills_it_with_its_children() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let repo = scripted(CHILDREN, "");
        let mut command = repo.command(&["sync"]);
        let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        until("the start", || repo.path("components/x/started").exists());
        running.signal(signal);
        running.wait();
        until("the end of the children", || !lives(&repo));
        assert_eq!(repo.temporary(), Vec::<String>::new(), "temporary files are left");
    }
}

/// Nobody can answer that signal, and a machine that runs out of memory sends it.
#[test]
fn a_command_does_not_outlive_a_publish_that_is_killed() {
    for network in ["", "network = true"] {
        let repo = scripted(CHILDREN, network);
        let mut command = repo.command(&["sync"]);
        let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        until("the start", || repo.path("components/x/started").exists());
        assert!(lives(&repo));
        running.signal(rustix::process::Signal::KILL);
        running.wait();
        until("the end of the command", || !lives(&repo));
        // Nobody was left to take them away.
        repo.clean_up();
    }
}

/// What is killed, by itself or by others, has made nothing.
#[test]
fn a_command_that_a_signal_ends_has_failed() {
    fails(
        &format!("{INSTALL}; kill -9 $$"),
        &["`./build.sh` was ended by signal 9 (exit code 137)"],
    );
    fails(&format!("{INSTALL}; kill $$"), &["`./build.sh` was ended by signal 15", "said nothing"]);
}

/// Whoever stays behind is not waited for, and does not survive.
#[test]
fn children_do_not_outlive_the_command() {
    for network in ["", "network = true"] {
        let repo = scripted(
            &format!("{INSTALL}; exec 9> held; sleep 1000 & setsid sleep 1000 &"),
            network,
        );
        repo.sync().ok();
        until("the end of the children", || !lives(&repo));
    }
}

/// What comes of an asset is copied: a command that spoils its own spoils nobody else's.
#[test]
fn assets_are_the_commands_own() {
    let script = format!("{INSTALL}; echo spoiled > $PUBLISH_WORK/assets/x-1.0");
    let repo = scripted(&script, "");
    repo.sync().ok();
    let release = fs::read_to_string(repo.path("components/x-releases/x-1.0")).unwrap();
    assert_eq!(release, "x 1.0");
    assert_eq!(repo.image("x", IMAGE).text("usr/bin/x"), "x 1.0");
}
