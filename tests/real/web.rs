//! The servers that a node fetches a repository from; each ends with the value that stands for it.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::workspace::Workspace;

/// How long a server may take until it says where it listens.
const START: Duration = Duration::from_secs(20);

/// A running web server.
pub struct Web {
    server: Child,
    url: String,
}

impl Web {
    /// `publish serve`, on a port of its own choice.
    pub fn publish(workspace: &Workspace) -> Self {
        let mut command = workspace.publish();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        Self::start(command)
    }

    /// A web server that knows nothing of repositories.
    pub fn plain(folder: &Path) -> Self {
        let mut command = Command::new("python3");
        command
            .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory"])
            .arg(folder)
            .arg("0");
        Self::start(command)
    }

    /// Where it listens, without a final slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn start(mut command: Command) -> Self {
        let mut server = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));

        let (sender, lines) = mpsc::channel();
        forward(server.stdout.take().expect("piped"), sender.clone());
        forward(server.stderr.take().expect("piped"), sender);

        let mut said = String::new();
        while let Ok(line) = lines.recv_timeout(START) {
            if let Some(url) = address(&line) {
                return Self { server, url };
            }
            said.push_str(&line);
            said.push('\n');
        }
        let _ = server.kill();
        let _ = server.wait();
        panic!("{command:?} did not say where it listens:\n{said}");
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Reads a stream to its end, also when nobody listens any more: a full pipe would stop the server.
fn forward(stream: impl Read + Send + 'static, sender: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
}

/// The address in a line such as `serving public at http://127.0.0.1:8080/`.
fn address(line: &str) -> Option<String> {
    const HOST: &str = "http://127.0.0.1:";
    let port = line.split_once(HOST)?.1;
    let digits = port.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(port.len());
    (digits > 0).then(|| format!("{HOST}{}", &port[..digits]))
}
