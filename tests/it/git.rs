//! A git server: the real `git http-backend`, as a CGI program behind a web server in this process.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request as Asked;
use axum::response::Response;
use http::StatusCode;
use tempfile::TempDir;

use crate::web::{Port, Server, lock};

/// Which protocol a server agrees to, whatever it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// What the client asks for.
    Asked,
    /// Version 1.
    One,
    /// Version 0, as a server behind a web server that does not pass the header on.
    Old,
}

/// A server of one folder of repositories.
pub struct Git {
    folder: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    server: Server,
}

impl Git {
    /// Starts, if there is a git on this machine; says so otherwise.
    pub fn start(protocol: Protocol) -> Option<Self> {
        let Ok(found) = Command::new("git").arg("--exec-path").output() else {
            eprintln!("SKIPPED: there is no git on this machine");
            return None;
        };
        let backend =
            String::from_utf8_lossy(&found.stdout).trim().to_owned() + "/git-http-backend";
        if !Path::new(&backend).exists() {
            eprintln!("SKIPPED: there is no git http-backend on this machine");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let app = Router::new().fallback(async move |request: Asked| {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
            lock(&log).push(format!("{} {}", parts.method, parts.uri));
            let path = parts.uri.path();
            let query = parts.uri.query().unwrap_or_default();
            // A repository that was renamed, as forges answer for it.
            if let Some(rest) = path.strip_prefix("/old.git/") {
                let mut moved = Response::new(Body::empty());
                *moved.status_mut() = StatusCode::MOVED_PERMANENTLY;
                let to = format!("/new.git/{rest}?{query}");
                moved.headers_mut().insert("location", to.parse().expect("a location"));
                return moved;
            }
            let header = |name: &str| {
                parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
            };
            let mut cgi = quiet(&backend);
            cgi.env("GIT_PROJECT_ROOT", &root)
                .env("GIT_HTTP_EXPORT_ALL", "1")
                .env("PATH_INFO", path)
                .env("QUERY_STRING", query)
                .env("REQUEST_METHOD", parts.method.as_str())
                .env("CONTENT_TYPE", header("content-type"))
                .env("REMOTE_ADDR", "127.0.0.1");
            match protocol {
                Protocol::Asked => cgi.env("GIT_PROTOCOL", header("git-protocol")),
                Protocol::One => cgi.env("GIT_PROTOCOL", "version=1"),
                Protocol::Old => &mut cgi,
            };
            run(&mut cgi, &body)
        });
        let server = Port::open().serve_app(app);
        Some(Self { folder, asked, server })
    }

    /// The address of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}.git", self.server.url)
    }

    /// Makes a repository with one commit and a branch; `format` is its hash.
    pub fn repository(&self, name: &str, format: &str) {
        let format = format!("--object-format={format}");
        let folder = format!("{name}.git");
        self.git(
            ".",
            &["init", "--quiet", "--bare", "--initial-branch=main", &format, &folder],
            "",
        );
        let tree = self.git(&folder, &["mktree"], "");
        let commit = self.git(&folder, &["commit-tree", "-m", "one", &tree], "");
        self.git(&folder, &["update-ref", "refs/heads/main", &commit], "");
        self.git(&folder, &["update-ref", "refs/heads/v9.0.0", &commit], "");
        self.git(&folder, &["update-ref", "refs/pull/1/head", &commit], "");
    }

    /// Makes tags, every second one annotated.
    pub fn tags(&self, name: &str, tags: &[&str]) {
        let folder = format!("{name}.git");
        for (index, tag) in tags.iter().enumerate() {
            let annotated: &[&str] = if index % 2 == 0 { &["-a", "-m", "it"] } else { &[] };
            let args = [&["tag"], annotated, &[*tag, "main"]].concat();
            self.git(&folder, &args, "");
        }
    }

    /// Makes as many tags as wanted, at once.
    pub fn many(&self, name: &str, tags: impl Iterator<Item = String>) {
        let folder = format!("{name}.git");
        let commit = self.git(&folder, &["rev-parse", "main"], "");
        let mut lines = String::new();
        for tag in tags {
            let _ = writeln!(lines, "create refs/tags/{tag} {commit}");
        }
        self.git(&folder, &["update-ref", "--stdin"], &lines);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    fn git(&self, folder: &str, args: &[&str], input: &str) -> String {
        let mut command = quiet("git");
        command
            .current_dir(self.folder.path().join(folder))
            .args(args)
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.org")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("git starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("git ends");
        assert!(output.status.success(), "git {args:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

/// A program of git's that reads no configuration of this machine.
fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path);
    // Where nobody lives, there is no configuration.
    command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("HOME", "/nonexistent")]);
    command
}

/// Runs a CGI program (RFC 3875) to its end.
fn run(cgi: &mut Command, body: &[u8]) -> Response {
    let mut child =
        cgi.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    // It may answer without having read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(body);
    let output = child.wait_with_output().expect("the program ends").stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
    let mut response = Response::new(Body::from(output[end + 4..].to_vec()));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        if name.eq_ignore_ascii_case("status") {
            let status = value.split(' ').next().and_then(|code| code.parse().ok());
            *response.status_mut() = status.expect("a status");
        } else {
            let name: http::HeaderName = name.parse().expect("a name");
            response.headers_mut().insert(name, value.parse().expect("a value"));
        }
    }
    response
}
