//! `publish watch`: what the service manager hears, what signals do, and that nothing ends it or is left.

use std::fs::{self, File};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::pack::noise;
use crate::repo::{Repo, Running, listed, until};
use crate::s3::{S3, Wrong};
use crate::scene::{PROGRAM, Scene};
use crate::web::Fault;

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn at(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// Waits until it hears a line that begins so, and gives the whole message.
    #[track_caller]
    fn hears(&mut self, begin: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer) else {
                panic!("{begin} was not heard, but: {:#?}", self.heard)
            };
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.heard.push(message.clone());
            if message.lines().any(|line| line.starts_with(begin)) {
                return message;
            }
        }
    }
}

/// A watch with short pauses that a service manager listens to; it says all it says in `log`.
fn watch(repo: &mut Repo) -> (Running, Manager) {
    let address = repo.path("notify");
    // One that was killed leaves its socket.
    let _ = fs::remove_file(&address);
    repo.env("NOTIFY_SOCKET", address.to_str().unwrap());
    let manager = Manager::at(&SocketAddr::from_pathname(&address).unwrap());
    (start(repo), manager)
}

fn start(repo: &Repo) -> Running {
    let log = File::create(repo.path("log")).unwrap();
    let mut command = repo.command(&["watch", "--interval", "1s"]);
    Running::start(command.stdout(log.try_clone().unwrap()).stderr(log))
}

fn log(repo: &Repo) -> String {
    fs::read_to_string(repo.path("log")).unwrap()
}

fn offers(repo: &Repo, folder: &str, image: &str) -> bool {
    let path = repo.path(&format!("public/{folder}/SHA256SUMS"));
    fs::read_to_string(path).is_ok_and(|text| text.contains(image))
}

/// It ends well, and leaves neither its lock nor a folder of work.
#[track_caller]
fn ends(repo: &Repo, running: Running, signal: Signal) {
    running.signal(signal);
    let (status, _) = running.wait();
    assert_eq!(status.code(), Some(0), "{}", log(repo));
    assert!(!repo.path("public/.publish/lock").exists());
    assert_eq!(repo.temporary(), Vec::<String>::new(), "temporary files are left");
}

#[test]
fn it_syncs_at_once_and_again_and_reads_its_configuration_anew() {
    let mut repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    let (running, mut manager) = watch(&mut repo);
    manager.hears("READY=1");
    manager.hears("STATUS=1 component up to date; next sync at 20");
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    repo.release("x", "1.1", "two");
    until("the second sync", || offers(&repo, "x", "x-1.1-x86-64.raw"));

    // A broken configuration is told, and the one before stays.
    let whole = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", format!("{whole}\n[watch]\nintervall = \"1s\"\n"));
    running.signal(Signal::HUP);
    let reload = manager.hears("RELOADING=1");
    assert!(reload.contains("\nMONOTONIC_USEC="), "{reload}");
    manager.hears("STATUS=the configuration is broken");
    manager.hears("READY=1");
    let said = log(&repo);
    assert!(said.contains("unknown field `intervall`"), "{said}");
    assert!(said.contains("the configuration stays as it was"), "{said}");
    repo.release("x", "1.2", "three");
    until("a sync after that", || offers(&repo, "x", "x-1.2-x86-64.raw"));

    // A right one counts at once.
    repo.write("publish.toml", whole);
    repo.simple("y");
    repo.release("y", "1.0", "one");
    running.signal(Signal::HUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    until("the new component", || offers(&repo, "y", "y-1.0-x86-64.raw"));
    manager.hears("STATUS=2 components up to date");
    running.signal(Signal::INT);
    manager.hears("STOPPING=1");
    assert_eq!(running.wait().0.code(), Some(0));
    // What every sync does is not worth a line.
    assert!(!log(&repo).contains("polled"), "{}", log(&repo));
    repo.publish(&["verify"]).ok();
}

#[test]
fn syncs_that_fail_are_told_and_never_its_end() {
    let mut repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    fs::rename(repo.path("components/x-releases"), repo.path("away")).unwrap();
    let (running, mut manager) = watch(&mut repo);
    manager.hears("STATUS=1 of 1 component failed; next sync at ");
    manager.hears("STATUS=1 of 1 component failed; next sync at ");
    let said = log(&repo);
    assert_eq!(said.matches("hint: [source.directory] path names it").count(), 1, "{said}");
    assert!(said.contains("error: as before: x: cannot read the folder"), "{said}");
    fs::rename(repo.path("away"), repo.path("components/x-releases")).unwrap();
    manager.hears("STATUS=1 component up to date");
    ends(&repo, running, Signal::TERM);
}

#[test]
fn the_watchdog_hears_that_it_lives_also_by_an_abstract_name() {
    let mut repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    let name = format!("publish-it-{}", std::process::id());
    repo.env("NOTIFY_SOCKET", &format!("@{name}"));
    repo.env("WATCHDOG_USEC", "300000");
    let mut manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let running = start(&repo);
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    ends(&repo, running, Signal::TERM);

    // Somebody else's watchdog is none of ours. Another socket: what the first one said may still be on
    // its way in that one.
    let name = format!("{name}-other");
    repo.env("NOTIFY_SOCKET", &format!("@{name}"));
    let mut manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    repo.env("WATCHDOG_PID", "1");
    let running = start(&repo);
    manager.hears("STATUS=1 component up to date");
    manager.hears("STATUS=1 component up to date");
    assert!(!manager.heard.concat().contains("WATCHDOG"), "{:#?}", manager.heard);
    ends(&repo, running, Signal::TERM);
}

#[test]
fn what_cannot_be_used_at_all_is_told_at_once() {
    let repo = Repo::with("[signing]\nkey = { file = \"signing.key\" }\n");
    repo.publish(&["watch"]).code(4).says(&["signing.key"]);
    repo.publish(&["watch", "--interval", "0s"]).code(2).says(&["`0s` is less than a second"]);
    repo.write("publish.toml", "[repository]\n[watch]\ninterval = \"soon\"\n");
    repo.publish(&["watch"]).code(4).says(&["`soon` is not a time such as \"15m\""]);
}

#[test]
fn somebody_who_stops_it_in_the_middle_finds_nothing_half_done() {
    let mut scene = Scene::patient("1000s");
    for signal in [Signal::TERM, Signal::INT] {
        // The server sends the head of what `bad` needs, and then nothing.
        scene.web.clear_requests();
        scene.web.fault("/bad-1.1", Fault::Stall, usize::MAX);
        let (running, mut manager) = watch(&mut scene.repo);
        manager.hears("STATUS=syncing");
        until("the download", || {
            scene.web.requests().iter().any(|request| request.path == "/bad-1.1")
        });
        ends(&scene.repo, running, signal);
        manager.hears("STOPPING=1");
        scene.repo.publish(&["verify"]).ok();
        assert_eq!(scene.repo.listed("bad"), ["bad-1.0-x86-64.raw"]);
        scene.web.heal();
    }
    scene.serve(&PROGRAM, "1.1", "bad 1.1");
    scene.heals();
}

/// At whatever moment it is killed: what is served is right, and the next one goes on.
#[test]
fn a_watch_that_is_killed_leaves_what_is_right() {
    // What is written for nodes beside the images may lack then, which the next sync heals.
    let repo = Repo::new();
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    let text = text.replace("[repository]\n", "[repository]\nclient-files = false\n");
    repo.write("publish.toml", text);
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    for number in 1..7 {
        repo.release("x", &format!("1.{number}"), noise(300_000 + number));
        let before = count(&repo.path("public"));
        let running = start(&repo);
        // Another moment each time, which the number of files in the store tells: an image, and what it
        // was made of.
        let signal = if number % 2 == 0 { Signal::KILL } else { Signal::TERM };
        until("some of the work", || count(&repo.path("public")) > before + number / 4);
        if signal == Signal::TERM {
            ends(&repo, running, signal);
        } else {
            running.signal(signal);
            running.wait();
            repo.clean_up();
        }
        repo.listed("x");
        repo.publish(&["verify"]).ok();
    }
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 3);
}

/// How many files are below a folder.
fn count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

/// Where a lock is an object, the next publisher would have to wait until it runs out.
#[test]
fn a_lock_object_is_given_back_by_somebody_who_is_stopped() {
    let s3 = S3::start();
    let mut repo = s3.repo();
    repo.simple("x");
    repo.release("x", "1.0", noise(100_000));
    s3.ignore_conditions();
    s3.fault(http::Method::PUT, "x-1.0-x86-64.raw", Wrong::Answer(503, "SlowDown"), usize::MAX);
    let (running, mut manager) = watch(&mut repo);
    manager.hears("READY=1");
    until("the lock", || s3.path(".publish/lock").exists());
    until("the upload", || {
        s3.requests().iter().any(|request| request.path.contains("x-1.0-x86-64.raw"))
    });
    running.signal(Signal::TERM);
    assert_eq!(running.wait().0.code(), Some(0), "{}", log(&repo));
    assert!(!s3.path(".publish/lock").exists());
    s3.heal();
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
}

#[test]
fn a_log_for_programs_is_one_document_a_line() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    let ran = repo.publish(&["sync", "--log-format", "json"]).ok();
    let lines = ran.stderr.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(lines.iter().any(|line| line["message"] == "published x 1.0"), "{ran}");
    fs::remove_dir_all(repo.path("components/x-releases")).unwrap();
    let mut command = repo.command(&["--log-format", "json", "-q", "sync"]);
    let ran = repo.run(command.stdout(Stdio::null())).code(3);
    let error: serde_json::Value = serde_json::from_str(ran.stderr.trim_end()).unwrap();
    assert_eq!(error["level"], "ERROR");
    assert_eq!(error["message"], "x: cannot read the folder components/x-releases");
    assert!(error["hint"].as_str().unwrap().contains("[source.directory]"), "{error}");
}
