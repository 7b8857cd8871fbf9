//! gpg and gpgv, as people and clients use them, each with a home of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A home of gpg.
pub struct Gpg {
    home: TempDir,
}

impl Gpg {
    /// An empty one; `None` where the machine has no gpg, and the test has nothing to say.
    pub fn new() -> Option<Self> {
        for program in ["gpg", "gpgv"] {
            let there = Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if there.is_err() {
                eprintln!("skipped: this machine has no {program}");
                return None;
            }
        }
        let home = tempfile::Builder::new().prefix("gpg").tempdir().expect("a temporary folder");
        // Otherwise it warns, in whatever a test reads.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Some(Self { home })
    }

    /// Runs gpg; what it printed.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Vec<u8> {
        let output = self.try_run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {args:?}: {said}");
        output.stdout
    }

    fn try_run(&self, args: &[&str]) -> Output {
        Command::new("gpg")
            .args(["--batch", "--quiet", "--pinentry-mode", "loopback"])
            .args(["--passphrase", "", "--trust-model", "always"])
            .args(args)
            .env("GNUPGHOME", self.home.path())
            .stdin(Stdio::null())
            .output()
            .expect("gpg runs")
    }

    /// Makes a key, and gives its fingerprint.
    #[track_caller]
    pub fn key(&self, user: &str, algorithm: &str, usage: &str) -> String {
        self.run(&["--quick-generate-key", user, algorithm, usage, "never"]);
        self.fingerprint(user)
    }

    /// The fingerprint of a key.
    #[track_caller]
    pub fn fingerprint(&self, user: &str) -> String {
        let listed = self.run(&["--with-colons", "--list-keys", user]);
        let listed = String::from_utf8(listed).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).expect("a fingerprint");
        line.split(':').nth(9).expect("ten fields").to_owned()
    }

    /// Takes a key back for good, as its owner does.
    #[track_caller]
    pub fn revoke(&self, key: &str) {
        let path = self.home.path().join(format!("openpgp-revocs.d/{key}.rev"));
        // gpg puts a colon before the block, so that nobody imports it by mistake.
        let text = fs::read_to_string(&path).unwrap().replace(":-----BEGIN", "-----BEGIN");
        fs::write(&path, text).unwrap();
        self.run(&["--import", path.to_str().unwrap()]);
    }

    /// Signs a file into another.
    #[track_caller]
    pub fn sign(&self, file: &Path, to: &Path, more: &[&str]) {
        let (file, to) = (file.to_str().unwrap(), to.to_str().unwrap());
        self.run(&[more, &["--yes", "--output", to, "--detach-sign", file]].concat());
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // The agent would outlive the test.
        let _ = Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.home.path())
            .stderr(Stdio::null())
            .status();
    }
}

/// What a client does: gpg with this keyring alone; what it said.
pub fn gpgv(keyring: &Path, signature: &Path, data: &Path) -> Result<String, String> {
    let output = Command::new("gpgv")
        .arg("--keyring")
        .arg(fs::canonicalize(keyring).expect("a keyring"))
        .args([signature, data])
        .output()
        .expect("gpgv runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}
