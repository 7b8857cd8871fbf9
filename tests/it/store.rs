//! The store: two publishers, full and read-only disks, manifests of others, and being killed.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::pack::noise;
use crate::repo::{Ran, Repo, Running, snapshot, until};
use crate::scene::Scene;
use crate::web::{Fault, Web, sha256};

/// One component with one release waiting.
fn simple() -> Repo {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo
}

fn hold(repo: &Repo, text: &str) -> File {
    let path = repo.path("public/.publish/lock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn a_second_publisher_is_told_who_is_at_it() {
    let repo = simple();
    let holder = "{\"process\":4711,\"host\":\"builder-7\",\"since\":\"2026-01-02T03:04:05Z\"}\n";
    let lock = hold(&repo, holder);
    repo.sync().code(5).says(&[
        "another publisher holds public",
        "process 4711",
        "builder-7",
        "2026-01-02T03:04:05Z",
        "hint: ",
    ]);
    assert!(!repo.path("public/x").exists());
    assert_eq!(
        fs::read_to_string(repo.path("public/.publish/lock")).unwrap(),
        holder,
        "theirs, not ours"
    );
    // Reading is always allowed.
    repo.publish(&["plan"]).ok();
    repo.publish(&["sync", "--dry-run"]).ok();
    // The process ends, and its lock with it; the file stays, but counts for nothing.
    drop(lock);
    assert!(repo.path("public/.publish/lock").exists());
    repo.sync().ok().prints(&["published 1 image"]);
    assert!(!repo.path("public/.publish/lock").exists());
}

#[test]
fn a_lock_that_nobody_can_read_still_holds() {
    let repo = simple();
    let _lock = hold(&repo, "half a li");
    repo.sync().code(5).says(&["another publisher holds public"]);
}

#[test]
fn a_lock_of_a_process_that_is_gone_is_taken_over() {
    let repo = simple();
    // Longer than what is written over it, and of a process that certainly runs: number 1.
    let text = format!(
        "{{\"process\":1,\"host\":\"{}\",\"since\":\"2026-01-02T03:04:05Z\"}}\n",
        "h".repeat(200)
    );
    repo.write("public/.publish/lock", text);
    repo.sync().ok().prints(&["published 1 image"]);
}

#[test]
fn the_program_itself_holds_the_lock_while_it_publishes() {
    let web = Web::start();
    let repo = Repo::new();
    follow(&repo, &web);
    let running = stalled(&repo, &web);
    let host = rustix::system::uname();
    let process =
        format!("process {} on {} since 20", running.id(), host.nodename().to_str().unwrap());
    // The first one has temporary files of its own meanwhile.
    let second = Ran::of(&mut repo.command(&["sync", "--json"])).code(5).says(&[&process]);
    assert!(second.json()["errors"][0]["message"].as_str().unwrap().contains(&process), "{second}");
    running.signal(Signal::TERM);
    running.wait();
}

/// A sync of that component that waits for its download.
fn stalled(repo: &Repo, web: &Web) -> Running {
    web.fault("/x-1.0", Fault::Stall, 1);
    let running =
        Running::start(repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    until("the download", || web.requests().iter().any(|request| request.path == "/x-1.0"));
    running
}

/// A component whose asset comes from a server.
fn follow(repo: &Repo, web: &Web) {
    web.put("/list", "1.0");
    web.put("/x-1.0", "one");
    repo.component(
        "x",
        &format!(
            "[source.http]\nurl = \"{0}/list\"\nmatch = '(?<version>[0-9.]+)'\n[[asset]]\nurl = \"{0}/x-{{version}}\"\n[asset.files]\n\"usr/bin/x\" = \"x-{{version}}\"\n",
            web.url()
        ),
    );
}

#[test]
fn interrupted_it_ends_at_once_and_cleans_up() {
    for signal in [Signal::INT, Signal::TERM] {
        let web = Web::start();
        let repo = Repo::new();
        follow(&repo, &web);
        let running = stalled(&repo, &web);
        until("a temporary file", || !repo.temporary().is_empty());
        let started = std::time::Instant::now();
        running.signal(signal);
        let (status, said) = running.wait();
        assert!(started.elapsed().as_secs() < 5, "it took {:?}", started.elapsed());
        assert!(!status.success(), "{said}");
        assert!(said.contains("what is published is whole"), "{said}");
        assert_eq!(repo.temporary(), Vec::<String>::new(), "{said}");
        assert!(!repo.path("public/.publish/lock").exists(), "{said}");
        assert!(!repo.path("public/x").exists());
        repo.sync().ok();
        assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    }
}

#[test]
fn killed_in_the_middle_the_next_sync_goes_on() {
    let scene = Scene::program();
    scene.web.fault("/bad-1.1", Fault::Stall, 1);
    let running =
        Running::start(scene.repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::null()));
    until("the download", || scene.web.requests().iter().any(|request| request.path == "/bad-1.1"));
    running.signal(Signal::KILL);
    running.wait();
    // Nobody could clean up, but what is published is right.
    scene.repo.publish(&["verify"]).ok();
    assert_eq!(scene.repo.listed("bad"), ["bad-1.0-x86-64.raw"]);
    assert!(scene.repo.path("public/.publish/lock").exists());
    scene.repo.clean_up();
    scene.heals();
}

#[test]
fn what_a_killed_publisher_left_half_written_goes() {
    let repo = simple();
    repo.sync().ok();
    // As the file system backend of object_store names what it has not renamed yet.
    repo.write("public/x/x-1.1-x86-64.raw#3", "half");
    repo.write("public/x/SHA256SUMS#1", "half");
    repo.write("public/x/keep#me", "somebody's own");
    repo.release("x", "1.1", "new");
    repo.sync().ok();
    let mut names: Vec<_> =
        fs::read_dir(repo.path("public/x")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.retain(|name| !name.to_string_lossy().starts_with("x."));
    names.sort();
    assert_eq!(names, ["SHA256SUMS", "keep#me", "x-1.0-x86-64.raw", "x-1.1-x86-64.raw"]);
}

/// The manifest goes last: a crash before it leaves images that no line names yet.
#[test]
fn an_image_without_its_line_is_taken_up() {
    let repo = simple();
    repo.sync().ok();
    repo.release("x", "1.1", "new");
    let before = fs::read(repo.path("public/x/SHA256SUMS")).unwrap();
    repo.sync().ok();
    let after = fs::read(repo.path("public/x/SHA256SUMS")).unwrap();
    repo.write("public/x/SHA256SUMS", before);
    let image = snapshot(&repo.path("public/x"))["x-1.1-x86-64.raw"].clone();
    repo.sync().ok();
    assert_eq!(fs::read(repo.path("public/x/SHA256SUMS")).unwrap(), after);
    assert_eq!(snapshot(&repo.path("public/x"))["x-1.1-x86-64.raw"], image, "it was there already");
}

#[test]
fn a_file_of_somebody_else_is_not_written_over() {
    let repo = simple();
    repo.write("public/x/x-1.0-x86-64.raw", "mine");
    repo.sync().code(3).says(&[
        "error: x",
        "public/x/x-1.0-x86-64.raw is there already with SHA-256",
        &sha256(b"mine"),
        "no manifest lists the file",
    ]);
    assert_eq!(fs::read(repo.path("public/x/x-1.0-x86-64.raw")).unwrap(), b"mine");
    assert!(!repo.path("public/x/SHA256SUMS").exists());
}

#[test]
fn a_manifest_that_no_client_reads_is_left_alone() {
    for (text, problem) in [
        ("rubbish\n".to_owned(), "line 1: `rubbish` is not `HASH  NAME`"),
        (format!("{}  a.raw", sha256(b"a")), "newline"),
        (format!("{}  a.raw\r\n", sha256(b"a")), "line 1"),
        (format!("{0}  a.raw\n\n{0}  b.raw\n", sha256(b"a")), "line 2"),
        (
            format!("{}  a.raw\n{}  a.raw\n", sha256(b"a"), sha256(b"b")),
            "line 2: `a.raw` is listed before",
        ),
    ] {
        let repo = simple();
        repo.simple("good");
        repo.release("good", "1.0", "good");
        repo.write("public/x/SHA256SUMS", &text);
        repo.sync().code(3).says(&[
            "error: x",
            "public/x/SHA256SUMS cannot be used",
            problem,
            "nothing is written over it",
        ]);
        assert_eq!(repo.manifest("x"), text);
        assert!(!repo.path("public/x/x-1.0-x86-64.raw").exists());
        assert_eq!(repo.listed("good").len(), 1);
    }
}

#[test]
fn lines_of_others_stay_byte_for_byte() {
    let repo = simple();
    let theirs = [
        format!("{} *other-1.0-x86-64.raw", sha256(b"other").to_uppercase()),
        format!("{}  BEST-BEFORE-2030-01-01", sha256(b"")),
    ];
    repo.write("public/x/other-1.0-x86-64.raw", "other");
    repo.write("public/x/SHA256SUMS", format!("{}\n{}\n", theirs[0], theirs[1]));
    repo.sync().ok();
    let manifest = repo.manifest("x");
    let lines: Vec<&str> = manifest.lines().collect();
    assert_eq!(lines.len(), 3, "{manifest}");
    for line in &theirs {
        assert!(lines.contains(&line.as_str()), "{line}\n{manifest}");
    }
    assert!(lines.iter().any(|line| line.ends_with("  x-1.0-x86-64.raw")), "{manifest}");
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn a_store_that_cannot_be_a_folder() {
    let repo = simple();
    repo.write("public", "a file");
    let ran = repo.sync().says(&["public", "not a directory"]);
    assert!(!ran.status.success(), "{ran}");
    assert_eq!(fs::read(repo.path("public")).unwrap(), b"a file");
    let below = simple();
    below.write("file", "a file");
    let config = fs::read_to_string(below.path("publish.toml")).unwrap();
    below.write("publish.toml", config.replace("\"public\"", "\"file/public\""));
    let ran = below.sync().says(&["file/public"]);
    assert!(!ran.status.success(), "{ran}");
}

#[test]
fn a_folder_of_the_store_that_is_a_file() {
    let repo = simple();
    repo.simple("good");
    repo.release("good", "1.0", "good");
    repo.write("public/x", "a file");
    repo.sync().code(3).says(&["error: x", "public/x"]);
    assert_eq!(repo.listed("good").len(), 1);
    assert_eq!(fs::read(repo.path("public/x")).unwrap(), b"a file");
}

#[test]
fn a_store_that_is_a_link_is_followed() {
    let repo = simple();
    fs::create_dir(repo.path("elsewhere")).unwrap();
    symlink("elsewhere", repo.path("public")).unwrap();
    repo.sync().ok();
    assert!(repo.path("elsewhere/x/SHA256SUMS").exists());
    assert!(repo.path("public").is_symlink());
}

#[test]
fn a_web_server_of_another_user_can_read_what_is_published() {
    let repo = simple();
    let mut shell = Command::new("sh");
    repo.prepare(&mut shell);
    shell.args(["-c", "umask 022; exec \"$0\" sync", env!("CARGO_BIN_EXE_publish")]);
    repo.run(&mut shell).ok();
    for path in ["public/x/SHA256SUMS", "public/x/x-1.0-x86-64.raw"] {
        let mode = fs::metadata(repo.path(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{path}: {mode:o}");
    }
}

/// Runs a script in a mount namespace of its own, with the program as `$0`: its code and all it said.
/// `None` where the kernel allows no such thing, which it says before anything of ours has run.
fn in_namespace(repo: &Repo, script: &str) -> Option<(i32, String)> {
    let mut probe = Command::new("unshare");
    let possible =
        probe.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine does not let us mount anything");
        return None;
    }
    let mut command = Command::new("unshare");
    repo.prepare(&mut command);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["-rm", "sh", "-ec", script, env!("CARGO_BIN_EXE_publish")]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.code().unwrap(), said))
}

#[test]
fn a_full_disk_leaves_no_half_image_and_the_old_manifest() {
    let repo = simple();
    fs::create_dir(repo.path("public")).unwrap();
    fs::create_dir(repo.path("late")).unwrap();
    repo.write("late/x-1.1", noise(1 << 20));
    let script = r#"
        mount -t tmpfs -o size=512k none public
        "$0" sync
        cp public/x/SHA256SUMS before
        cp late/x-1.1 components/x-releases/
        code=0; "$0" sync || code=$?
        cp -a public after
        exit $code
    "#;
    let Some((code, said)) = in_namespace(&repo, script) else { return };
    assert_eq!(code, 3, "{said}");
    for text in ["error: x", "cannot write public/x/x-1.1-x86-64.raw", "hint: ", "free some space"]
    {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(
        fs::read(repo.path("before")).unwrap(),
        fs::read(repo.path("after/x/SHA256SUMS")).unwrap()
    );
    let mut names: Vec<_> =
        fs::read_dir(repo.path("after/x")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.retain(|name| !name.to_string_lossy().starts_with("x."));
    names.sort();
    assert_eq!(names, ["SHA256SUMS", "x-1.0-x86-64.raw"], "{said}");
    assert_eq!(repo.temporary(), Vec::<String>::new(), "{said}");
}

/// Who frees some space does not need any: not for the lock, and not for what is to be remembered.
#[test]
fn a_full_disk_can_be_pruned() {
    let repo = Repo::with("[retention]\ngrace = \"0s\"\n");
    repo.simple("x");
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[versions]\nnewest = 2\n"));
    fs::create_dir(repo.path("public")).unwrap();
    fs::create_dir(repo.path("late")).unwrap();
    repo.release("x", "1.0", noise(100 << 10));
    for version in ["1.1", "1.2"] {
        repo.write(&format!("late/x-{version}"), version);
    }
    let script = r#"
        mount -t tmpfs -o size=512k none public
        "$0" sync
        cp late/x-1.1 components/x-releases/
        "$0" sync
        cp late/x-1.2 components/x-releases/
        "$0" sync
        ! dd if=/dev/zero of=public/ballast bs=4k
        code=0; "$0" prune || code=$?
        cp -a public after
        exit $code
    "#;
    let Some((code, said)) = in_namespace(&repo, script) else { return };
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("deleted 1 file"), "{said}");
    assert!(!repo.path("after/x/x-1.0-x86-64.raw").exists(), "{said}");
}

#[test]
fn a_build_that_finds_no_room_leaves_nothing() {
    let repo = simple();
    repo.sync().ok();
    repo.release("x", "1.1", noise(1 << 20));
    let script = r#"
        mount -t tmpfs -o size=512k none "$TMPDIR"
        code=0; "$0" sync || code=$?
        ls -A "$TMPDIR" >left
        exit $code
    "#;
    let Some((code, said)) = in_namespace(&repo, script) else { return };
    assert_eq!(code, 3, "{said}");
    for text in ["error: x 1.1 x86-64: cannot build", "x-1.1-x86-64.raw", "$TMPDIR"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(fs::read_to_string(repo.path("left")).unwrap(), "", "{said}");
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
}

#[test]
fn a_read_only_store_is_named() {
    let repo = simple();
    repo.sync().ok();
    repo.release("x", "1.1", "new");
    let before = repo.snapshot();
    let script = "mount --bind public public && mount -o remount,bind,ro public && \"$0\" sync";
    let Some((code, said)) = in_namespace(&repo, script) else { return };
    assert!(code == 1 || code == 3, "{code}: {said}");
    for text in ["error: ", "public", "hint: the store must be writable"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(repo.snapshot(), before);
    assert_eq!(repo.temporary(), Vec::<String>::new(), "{said}");
}

/// Works on every machine: no file may grow over 256 KiB, neither temporary nor published.
#[test]
fn a_file_that_may_not_grow() {
    let repo = simple();
    repo.sync().ok();
    let before = snapshot(&repo.path("public/x"));
    repo.release("x", "1.1", noise(2 << 20));
    let mut shell = Command::new("sh");
    repo.prepare(&mut shell);
    shell.args([
        "-c",
        "trap '' XFSZ; ulimit -f 512; exec \"$0\" sync",
        env!("CARGO_BIN_EXE_publish"),
    ]);
    repo.run(&mut shell).code(3).says(&["error: x 1.1 x86-64: ", "hint: "]);
    assert_eq!(snapshot(&repo.path("public/x")), before);
}

#[test]
fn no_room_for_temporary_files() {
    let mut repo = simple();
    repo.env("TMPDIR", "/proc/none");
    repo.sync().code(3).says(&["error: x", "/proc/none", "$TMPDIR names another"]);
}

#[test]
fn a_published_repository_of_many_versions_stays_in_order() {
    let repo = simple();
    let file = repo.path("components/x.toml");
    let text = fs::read_to_string(&file).unwrap();
    repo.component("x", &format!("{text}[versions]\nnewest = 40\n"));
    for number in 0..30 {
        repo.release("x", &format!("2.{number}"), format!("{number}"));
    }
    repo.sync().ok().prints(&["published 31 images", "newest 2.29"]);
    let listed = repo.listed("x");
    assert_eq!(listed.len(), 31);
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(listed, sorted);
}

/// Somebody edits the manifest by hand, or with a tool that knows nothing of our lock.
#[test]
fn a_manifest_that_changes_meanwhile_is_not_written_over() {
    let scene = Scene::program();
    let manifest = scene.repo.manifest("bad");
    let delay = std::time::Duration::from_millis(300);
    scene.web.fault("/bad-1.1", Fault::Slow { chunk: 5000, delay }, 1);
    let running =
        Running::start(scene.repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    until("the download", || scene.web.requests().iter().any(|request| request.path == "/bad-1.1"));
    let theirs = format!("{}  zz-1.0-x86-64.raw\n", sha256(b"theirs"));
    scene.repo.write("public/bad/zz-1.0-x86-64.raw", "theirs");
    scene.repo.write("public/bad/SHA256SUMS", format!("{manifest}{theirs}"));
    let (status, said) = running.wait();
    // It reads again and plans again, and what it built meanwhile is good for the new plan.
    assert!(status.success(), "{said}");
    assert_eq!(scene.repo.listed("bad").len(), 3);
    let now = scene.repo.manifest("bad");
    assert!(now.contains(&manifest) && now.contains(&theirs), "{now}");
    let asked = |path: &str| scene.web.requests().iter().filter(|r| r.path == path).count();
    assert_eq!(asked("/bad-1.1"), 1);
}

#[test]
fn a_component_that_is_given_up_stays_published() {
    let repo = simple();
    repo.simple("y");
    repo.release("y", "1.0", "y");
    repo.sync().ok();
    let before = snapshot(&repo.path("public/x"));
    fs::remove_file(repo.path("components/x.toml")).unwrap();
    repo.release("y", "1.1", "y");
    repo.sync().ok().prints(&["published 1 image"]);
    assert_eq!(snapshot(&repo.path("public/x")), before);
}

#[test]
fn interrupted_in_the_middle_of_a_build_it_leaves_nothing() {
    let repo = simple();
    let file = repo.path("components/x.toml");
    let text = fs::read_to_string(&file).unwrap();
    // The slowest there is.
    repo.component("x", &format!("{text}[image]\ncompression = \"xz\"\n"));
    repo.release("x", "1.0", noise(20 << 20));
    let running =
        Running::start(repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    until("the image", || repo.temporary().iter().any(|path| path.ends_with("x-1.0-x86-64.raw")));
    running.signal(Signal::TERM);
    let started = std::time::Instant::now();
    let (status, said) = running.wait();
    assert!(started.elapsed().as_secs() < 5, "it took {:?}", started.elapsed());
    assert!(!status.success(), "{said}");
    assert_eq!(repo.temporary(), Vec::<String>::new(), "{said}");
    assert!(!repo.path("public/x").exists() && !repo.path("public/.publish/lock").exists());
}

#[test]
fn what_a_killed_run_left_is_taken_away_once_it_is_old() {
    let repo = simple();
    let file = repo.path("components/x.toml");
    let text = fs::read_to_string(&file).unwrap();
    repo.component("x", &format!("{text}[image]\ncompression = \"xz\"\n"));
    repo.release("x", "1.0", noise(20 << 20));
    let running =
        Running::start(repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::null()));
    until("the image", || repo.temporary().iter().any(|path| path.ends_with("x-1.0-x86-64.raw")));
    let at = fs::read_dir(repo.path("tmp")).unwrap().next().unwrap().unwrap().path();
    let folder = fs::File::open(&at).unwrap();
    let now = std::time::SystemTime::now();
    let is_from = |hours: u64| {
        folder.set_modified(now - std::time::Duration::from_secs(hours * 60 * 60)).unwrap();
    };
    repo.simple("y");
    repo.release("y", "1.0", "small");
    let build = || Ran::of(&mut repo.command(&["build", "y", "--output", "out"])).ok();
    // As long as it lives, nobody takes it, however old it is.
    running.signal(Signal::STOP);
    is_from(2);
    build();
    assert!(at.exists());
    running.signal(Signal::KILL);
    running.wait();
    is_from(0);
    build();
    assert!(at.exists(), "it is young");
    is_from(2);
    build();
    assert_eq!(repo.temporary(), Vec::<String>::new());
}
