//! A folder as a user has it, and the program run in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use backhand::{FilesystemReader, InnerNode};
use serde_json::Value;
use tempfile::TempDir;

use crate::web::sha256;

/// A configuration for one architecture, with room for more sections below.
const CONFIG: &str = r#"[repository]
url = "https://files.example.com/"
store = "public"
architectures = ["x86-64"]
"#;

/// A repository in the making.
pub struct Repo {
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl Repo {
    /// A configuration without components, for x86-64 alone.
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same, with more sections.
    pub fn with(sections: &str) -> Self {
        let repo = Self::empty();
        repo.write("publish.toml", format!("{CONFIG}{sections}"));
        fs::create_dir(repo.path("components")).unwrap();
        repo
    }

    /// Nothing at all.
    pub fn empty() -> Self {
        let folder =
            tempfile::Builder::new().prefix("publish-it-").tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Self { folder, env: Vec::new() }
    }

    /// Sets a variable for every run to come.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// A path in the folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file and the folders above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes a component.
    pub fn component(&self, name: &str, text: &str) {
        self.write(&format!("components/{name}.toml"), text);
    }

    /// Drops a release of a [`simple`](Self::simple) component into its folder.
    pub fn release(&self, name: &str, version: &str, content: impl AsRef<[u8]>) {
        self.write(&format!("components/{name}-releases/{name}-{version}"), content);
    }

    /// A component that follows a folder, with one program and no archive. It has no release yet.
    pub fn simple(&self, name: &str) {
        fs::create_dir_all(self.path(&format!("components/{name}-releases"))).unwrap();
        self.component(
            name,
            &format!(
                r#"[source.directory]
path = "{name}-releases"
match = "{name}-{{version}}"

[[asset]]
name = "{name}-{{version}}"
[asset.files]
"usr/bin/{name}" = "{name}-{{version}}"
"#
            ),
        );
    }

    /// The program, ready to run here with nothing in its environment but what the test says.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_publish"));
        self.prepare(&mut command);
        command.args(args);
        command
    }

    /// Makes a command run here, with nothing in its environment but what the test says.
    pub fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("TMPDIR", self.path("tmp"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
    }

    /// Runs the program to its end. Whatever happens, it leaves no temporary file behind.
    pub fn publish(&self, args: &[&str]) -> Ran {
        self.run(&mut self.command(args))
    }

    /// As [`publish`](Self::publish), for a command that was prepared here.
    pub fn run(&self, command: &mut Command) -> Ran {
        let before = self.temporary();
        let ran = Ran::of(command);
        assert_eq!(self.temporary(), before, "temporary files are left\n{ran}");
        ran
    }

    /// Takes away what a killed run could not.
    pub fn clean_up(&self) {
        fs::remove_dir_all(self.path("tmp")).unwrap();
        fs::create_dir(self.path("tmp")).unwrap();
    }

    /// What lies in the folder of temporary files.
    pub fn temporary(&self) -> Vec<String> {
        snapshot(&self.path("tmp")).into_keys().collect()
    }

    /// `publish sync`
    pub fn sync(&self) -> Ran {
        self.publish(&["sync"])
    }

    /// Every file of the store: bytes and time of change. Folders too, because a file that came and
    /// went shows in them.
    pub fn snapshot(&self) -> Snapshot {
        snapshot(&self.path("public"))
    }

    /// The text of a folder's manifest.
    pub fn manifest(&self, folder: &str) -> String {
        fs::read_to_string(self.path(&format!("public/{folder}/SHA256SUMS"))).expect("a manifest")
    }

    /// The names in a folder's manifest, each of a file that is there and has the digest: the
    /// promise that the whole project stands on.
    pub fn listed(&self, folder: &str) -> Vec<String> {
        listed(&self.path(&format!("public/{folder}")))
    }

    /// As if every line that went out of a folder had gone two days ago.
    pub fn two_days_pass(&self, folder: &str) {
        let path = format!("public/.publish/folders/{folder}.json");
        let mut value: Value =
            serde_json::from_slice(&fs::read(self.path(&path)).unwrap()).unwrap();
        for removed in value["removed"].as_object_mut().unwrap().values_mut() {
            let at: jiff::Timestamp = removed["at"].as_str().unwrap().parse().unwrap();
            removed["at"] = (at - jiff::SignedDuration::from_hours(48)).to_string().into();
        }
        self.write(&path, value.to_string());
    }

    /// An image of the store.
    pub fn image(&self, folder: &str, name: &str) -> Image {
        Image::open(&self.path(&format!("public/{folder}/{name}")))
    }
}

/// Path → bytes and time of change.
pub type Snapshot = BTreeMap<String, (Vec<u8>, i64, i64)>;

/// Every file and folder below a folder, which need not be there.
pub fn snapshot(root: &Path) -> Snapshot {
    fn walk(root: &Path, at: &Path, found: &mut Snapshot) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(name, (bytes, metadata.mtime(), metadata.mtime_nsec()));
            if metadata.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = Snapshot::new();
    if root.is_dir() {
        let metadata = fs::metadata(root).unwrap();
        found.insert(".".to_owned(), (Vec::new(), metadata.mtime(), metadata.mtime_nsec()));
        walk(root, root, &mut found);
        // A folder that is empty has nothing in it to name.
        if found.len() == 1 {
            found.clear();
        }
    }
    found
}

/// What a client takes from a manifest; every line must be in the one dialect that all clients read.
pub fn listed(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("SHA256SUMS")).expect("a manifest");
    assert!(text.ends_with('\n'), "no final newline: {text:?}");
    let mut names = Vec::new();
    for line in text.lines() {
        let (digest, name) =
            line.split_once("  ").unwrap_or_else(|| panic!("no manifest line: {line:?}"));
        assert!(
            digest.len() == 64 && digest.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')),
            "{line:?}"
        );
        assert!(
            name.bytes().all(|c| c.is_ascii_alphanumeric() || b".,_+-".contains(&c)),
            "{line:?}"
        );
        // Until when it is fresh: no file.
        if name.starts_with("BEST-BEFORE-") {
            assert_eq!(digest, sha256(b""), "{line:?}");
            continue;
        }
        let bytes = fs::read(folder.join(name))
            .unwrap_or_else(|error| panic!("{name} is listed, but: {error}"));
        assert_eq!(sha256(&bytes), digest, "{name} is not what the manifest says");
        names.push(name.to_owned());
    }
    names
}

/// How a run of the program ended.
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--- {}\n--- stdout\n{}--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the program starts");
        Self {
            status: output.status,
            stdout: String::from_utf8(output.stdout).expect("results are text"),
            stderr: String::from_utf8(output.stderr).expect("messages are text"),
        }
    }

    /// It ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// It ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Stderr has each of these.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "stderr lacks {text:?}\n{self}");
        }
        self
    }

    /// Stdout has each of these.
    #[track_caller]
    pub fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text), "stdout lacks {text:?}\n{self}");
        }
        self
    }

    /// Stdout is one JSON document of the known version.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{self}"));
        assert_eq!(value["version"], 1, "{self}");
        value
    }
}

/// An image, read back.
pub struct Image {
    pub path: PathBuf,
    /// Path → what is there.
    pub files: BTreeMap<String, Node>,
}

/// Something in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Folder,
    File { mode: u16, bytes: Vec<u8> },
    Symlink(String),
    Other,
}

impl Image {
    /// Reads an image, which must belong to root as a whole.
    pub fn open(path: &Path) -> Self {
        let file = BufReader::new(
            File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        );
        let reader = FilesystemReader::from_reader(file).expect("a squashfs image");
        let mut files = BTreeMap::new();
        for node in reader.files() {
            let at = node.fullpath.to_str().unwrap().trim_start_matches('/').to_owned();
            let header = node.header;
            assert_eq!((header.uid, header.gid), (0, 0), "{at} does not belong to root");
            let found = match &node.inner {
                InnerNode::File(file) => {
                    let mut bytes = Vec::new();
                    reader.file(file).reader().read_to_end(&mut bytes).unwrap();
                    Node::File { mode: header.permissions & 0o7777, bytes }
                }
                InnerNode::Symlink(link) => Node::Symlink(link.link.to_str().unwrap().to_owned()),
                InnerNode::Dir(_) => {
                    assert_eq!(
                        header.permissions & 0o7777,
                        0o755,
                        "the folder {at} shows through on a node"
                    );
                    Node::Folder
                }
                _ => Node::Other,
            };
            if !at.is_empty() {
                files.insert(at, found);
            }
        }
        Self { path: path.to_owned(), files }
    }

    /// The text of a file.
    #[track_caller]
    pub fn text(&self, path: &str) -> &str {
        std::str::from_utf8(self.bytes(path)).expect("a text")
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn bytes(&self, path: &str) -> &[u8] {
        match self.files.get(path) {
            Some(Node::File { bytes, .. }) => bytes,
            other => panic!(
                "{path} of {} is {other:?}; there are {:?}",
                self.path.display(),
                self.paths()
            ),
        }
    }

    /// The permissions of a file.
    #[track_caller]
    pub fn mode(&self, path: &str) -> u16 {
        match self.files.get(path) {
            Some(Node::File { mode, .. }) => *mode,
            other => panic!("{path} of {} is {other:?}", self.path.display()),
        }
    }

    /// Where a link leads.
    #[track_caller]
    pub fn link(&self, path: &str) -> &str {
        match self.files.get(path) {
            Some(Node::Symlink(target)) => target,
            other => panic!("{path} of {} is {other:?}", self.path.display()),
        }
    }

    /// All paths that are no folders and no extension-release.
    pub fn paths(&self) -> Vec<&str> {
        let own = |path: &&str| !path.starts_with("usr/lib/extension-release.d/");
        let files = self.files.iter().filter(|(_, node)| **node != Node::Folder);
        files.map(|(path, _)| path.as_str()).filter(own).collect()
    }
}

/// A program that runs beside the test, and ends with it.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it; `command` says what becomes of its output.
    pub fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("the program starts") }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its piped stdout.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        // Unbuffered, so that nothing of later lines is lost.
        let stdout = self.child.stdout.as_mut().expect("a pipe");
        BufReader::with_capacity(1, stdout).read_line(&mut line).expect("a line");
        line
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            .expect("a process number");
        rustix::process::kill_process(id, signal).expect("the process is there");
    }

    /// Whether it has ended by itself.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("it was started here").is_some()
    }

    /// Waits until it ends; gives what it said on stderr, if that is piped.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).expect("messages are text");
        }
        (self.child.wait().expect("it ends"), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something that another process does.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `GET` with the path exactly as given: status and body.
pub fn get(base: &str, path: &str) -> (u16, Vec<u8>) {
    let host = base.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("the server listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding"), "{head}");
    (head[9..12].parse().expect("a status"), answer.split_off(end + 4))
}
