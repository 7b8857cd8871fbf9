//! What those are told who do not look: metrics, the last report as a file, and messages to a receiver
//! that goes wrong as real ones do.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::pack::noise;
use crate::repo::{Ran, Repo};
use crate::web::{Port, Server, lock};

/// What is in the address, and nowhere else.
const TOKEN: &str = "T0K3N-hunter2";

/// How a receiver answers.
#[derive(Debug, Clone)]
enum Answer {
    /// This status; with a 302 to somewhere else on the same server.
    Status(u16),
    /// Never.
    Silence,
}

#[derive(Debug, Default)]
struct Shared {
    /// The path of each request that arrived, and its body.
    arrived: Vec<(String, String)>,
    /// The next answers; after these, all is well.
    answers: Vec<Answer>,
}

/// Somebody who takes messages.
struct Receiver {
    shared: Arc<Mutex<Shared>>,
    server: Server,
}

impl Receiver {
    fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let app = Router::new().fallback(take).with_state(shared.clone());
        Self { shared, server: Port::open().serve_app(app) }
    }

    fn url(&self) -> String {
        format!("{}/services/{TOKEN}", self.server.url)
    }

    /// The next requests are answered so.
    fn answer(&self, answers: &[Answer]) {
        lock(&self.shared).answers = answers.to_vec();
    }

    /// The bodies that arrived since the last call, each a document.
    fn arrived(&self) -> Vec<Value> {
        let arrived = std::mem::take(&mut lock(&self.shared).arrived);
        let document = |(path, body): (String, String)| {
            assert_eq!(path, format!("/services/{TOKEN}"), "{body}");
            serde_json::from_str(&body).unwrap()
        };
        arrived.into_iter().map(document).collect()
    }
}

async fn take(
    State(shared): State<Arc<Mutex<Shared>>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let answer = {
        let mut shared = lock(&shared);
        shared.arrived.push((uri.path().to_owned(), body));
        if shared.answers.is_empty() { Answer::Status(200) } else { shared.answers.remove(0) }
    };
    match answer {
        Answer::Status(status) => {
            let headers = [(header::LOCATION, "/elsewhere")];
            (StatusCode::from_u16(status).unwrap(), headers, "ok").into_response()
        }
        Answer::Silence => std::future::pending().await,
    }
}

/// Two components, each with a release, whose news go to a receiver; `more` is more of `[[notify]]`.
fn scene(more: &str) -> (Repo, Receiver) {
    let receiver = Receiver::start();
    let mut repo = Repo::with(&format!(
        "[report]\nmetrics = \"out/publish.prom\"\njson = \"out/last.json\"\nstate = \"state\"\n\n[network]\ntimeout = \"1s\"\n\n[[notify]]\nurl = {{ env = \"HOOK\" }}\n{more}\n"
    ));
    repo.env("HOOK", &receiver.url());
    for name in ["x", "y"] {
        repo.simple(name);
        repo.release(name, "1.0", name);
    }
    (repo, receiver)
}

/// A sync, in which nothing that is said has the address.
#[track_caller]
fn sync(repo: &Repo) -> Ran {
    let ran = repo.publish(&["sync", "-vvv"]);
    assert!(!ran.stderr.contains(TOKEN) && !ran.stdout.contains(TOKEN), "{ran}");
    ran
}

fn breaks(repo: &Repo, name: &str) {
    let folder = |way: &str| repo.path(&format!("components/{name}-{way}"));
    fs::rename(folder("releases"), folder("away")).unwrap();
}

fn heals(repo: &Repo, name: &str) {
    let folder = |way: &str| repo.path(&format!("components/{name}-{way}"));
    fs::rename(folder("away"), folder("releases")).unwrap();
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["component"].as_str().unwrap()).collect()
}

#[test]
fn a_failure_is_told_once_and_so_is_its_end() {
    let (repo, receiver) = scene("");
    sync(&repo).ok();
    let news = receiver.arrived();
    assert_eq!(news.len(), 1, "{news:#?}");
    assert_eq!(names(&news[0]["changed"]), ["x", "y"]);
    assert_eq!(news[0]["repository"], "https://files.example.com/");
    assert_eq!(news[0]["changed"][0]["published"][0], "x-1.0-x86-64.raw");
    sync(&repo).ok();
    assert_eq!(receiver.arrived(), Vec::<Value>::new());

    breaks(&repo, "x");
    sync(&repo).code(3);
    let news = receiver.arrived();
    assert_eq!((news.len(), names(&news[0]["failed"])), (1, vec!["x"]), "{news:#?}");
    let told = &news[0]["failed"][0]["errors"][0];
    assert_eq!(told["message"], "x: cannot read the folder components/x-releases");
    for _ in 0..2 {
        sync(&repo).code(3);
        assert_eq!(receiver.arrived(), Vec::<Value>::new());
    }
    // Another failure of the same component is another matter.
    repo.write("components/x-releases", "no folder");
    sync(&repo).code(3);
    let news = receiver.arrived();
    assert_eq!((news.len(), names(&news[0]["failed"])), (1, vec!["x"]), "{news:#?}");
    fs::remove_file(repo.path("components/x-releases")).unwrap();
    heals(&repo, "x");
    repo.release("y", "1.1", "two");
    sync(&repo).ok();
    let news = receiver.arrived();
    assert_eq!(names(&news[0]["recovered"]), ["x"], "{news:#?}");
    assert_eq!(names(&news[0]["changed"]), ["y"], "{news:#?}");
    // And from then on it is news again.
    breaks(&repo, "x");
    sync(&repo).code(3);
    assert_eq!(names(&receiver.arrived()[0]["failed"]), ["x"]);
}

#[test]
fn what_a_receiver_does_wrong_fails_no_sync_and_loses_no_failure() {
    let (repo, receiver) = scene("on = [\"failure\", \"recovery\"]");
    sync(&repo).ok();
    assert_eq!(receiver.arrived(), Vec::<Value>::new());
    breaks(&repo, "x");
    // It is tried again where that may help …
    receiver.answer(&[Answer::Status(503)]);
    sync(&repo).code(3);
    assert_eq!(receiver.arrived().len(), 2);
    heals(&repo, "x");
    // … and else by the next run.
    for (answers, requests, said) in [
        (vec![Answer::Status(403)], 1, "the receiver answers 403 Forbidden"),
        // That would carry the message to somebody else.
        (vec![Answer::Status(302)], 1, "the receiver answers 302 Found"),
        (vec![Answer::Status(500); 3], 3, "the receiver answers 500"),
        (vec![Answer::Silence; 3], 3, "it does not answer in time"),
    ] {
        receiver.answer(&answers);
        let ran = sync(&repo).ok().says(&["warning: [[notify]] 1, env HOOK: ", said]);
        assert_eq!(receiver.arrived().len(), requests, "{ran}");
    }
    sync(&repo).ok();
    assert_eq!(names(&receiver.arrived()[0]["recovered"]), ["x"]);
}

#[test]
fn an_address_that_is_none_is_told_without_a_word_of_it() {
    let (mut repo, receiver) = scene("");
    for wrong in ["", "no address hunter2", "ftp://hunter2.example/"] {
        repo.env("HOOK", wrong);
        let ran = sync(&repo).ok().says(&["warning: [[notify]] 1, env HOOK: "]);
        assert!(!ran.stderr.contains("hunter2"), "{ran}");
        fs::remove_dir_all(repo.path("public")).unwrap();
    }
    // Nobody listens any more.
    let url = receiver.url();
    drop(receiver);
    repo.env("HOOK", &url);
    sync(&repo).ok().says(&["the receiver cannot be reached"]);
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("{ env = \"HOOK\" }", "\"https://hunter2.example/\""));
    let ran = repo.sync().code(4).says(&["{ env = \"NAME\" }"]);
    assert!(!ran.stderr.contains("hunter2"), "{ran}");
}

#[test]
fn a_text_for_slack_and_a_credential_of_the_service_manager() {
    let (mut repo, receiver) = scene("kind = \"slack\"");
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("env = \"HOOK\"", "credential = \"hook\""));
    sync(&repo).ok().says(&["there is no credential hook"]);
    repo.write("credentials/hook", receiver.url() + "\n");
    repo.env("CREDENTIALS_DIRECTORY", repo.path("credentials").to_str().unwrap());
    repo.release("x", "1.1", "two");
    breaks(&repo, "y");
    sync(&repo).code(3);
    let news = receiver.arrived();
    let text = news[0]["text"].as_str().unwrap();
    insta::assert_snapshot!(text, @r"
    *publish* https://files.example.com/
    :x: y: cannot read the folder components/y-releases: No such file or directory (os error 2)
          hint: [source.directory] path names it, relative to the component's file
    :package: x 1.1: 1 image published
    ");
}

/// The store is the first thing that may be away, so nothing of this is kept there.
#[test]
fn a_sync_that_comes_to_nothing_is_told_too() {
    let (repo, receiver) = scene("on = [\"failure\", \"recovery\"]");
    sync(&repo).ok();
    fs::rename(repo.path("public"), repo.path("away")).unwrap();
    repo.write("public", "no folder");
    for told in [1, 0] {
        sync(&repo).code(1);
        let news = receiver.arrived();
        assert_eq!(news.len(), told, "{news:#?}");
        assert!(news.iter().all(|news| news["failed"][0]["component"].is_null()), "{news:#?}");
    }
    assert_eq!(metric(&repo, "publish_sync_success"), "0");
    assert_eq!(metric(&repo, "publish_component_images{component=\"x\"}"), "1");
    fs::remove_file(repo.path("public")).unwrap();
    fs::rename(repo.path("away"), repo.path("public")).unwrap();
    sync(&repo).ok();
    assert_eq!(receiver.arrived()[0]["recovered"].as_array().unwrap().len(), 1);
    assert_eq!(metric(&repo, "publish_sync_success"), "1");
}

/// The number of a metric.
#[track_caller]
fn metric(repo: &Repo, name: &str) -> String {
    let text = fs::read_to_string(repo.path("out/publish.prom")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not there\n{text}")).to_owned()
}

#[test]
fn metrics_and_a_report_after_every_sync() {
    let (mut repo, _receiver) = scene("");
    repo.env("HOOK", "");
    let ran = repo.publish(&["sync", "--json"]).ok();
    assert_eq!(fs::read_to_string(repo.path("out/last.json")).unwrap(), ran.stdout);
    let of = |what: &str, name: &str| format!("publish_component_{what}{{component=\"{name}\"}}");
    assert_eq!(metric(&repo, &of("success", "x")), "1");
    assert_eq!(metric(&repo, &of("versions_behind", "x")), "0");
    let size = fs::metadata(repo.path("public/x/x-1.0-x86-64.raw")).unwrap().len();
    assert_eq!(metric(&repo, &of("bytes", "x")), size.to_string());
    let before = metric(&repo, &of("last_success_time_seconds", "x"));

    // What cannot be built is behind, and what is published of it stays as it was.
    repo.release("x", "1.1", noise(1000));
    let blocked = repo.path("public/x/x-1.1-x86-64.raw");
    fs::create_dir(&blocked).unwrap();
    let ran = repo.publish(&["sync", "--json"]).code(3);
    assert_eq!(fs::read_to_string(repo.path("out/last.json")).unwrap(), ran.stdout);
    assert_eq!(metric(&repo, &of("success", "x")), "0");
    assert_eq!(metric(&repo, &of("versions_behind", "x")), "1");
    assert_eq!(metric(&repo, &of("images", "x")), "1");
    assert_eq!(metric(&repo, &of("last_success_time_seconds", "x")), before);
    assert_eq!(metric(&repo, &of("success", "y")), "1");
    metric(&repo, &of("failing_since_time_seconds", "x"));
    // A monitor hears since when.
    let ran = repo.publish(&["status", "--check"]).code(3);
    assert!(ran.stdout.contains("x behind 1.0 of 1.1"), "{ran}");
    breaks(&repo, "x");
    let ran = repo.publish(&["status", "--check"]).code(3);
    assert!(ran.stdout.contains("x failed since 20"), "{ran}");
    heals(&repo, "x");

    fs::remove_dir(&blocked).unwrap();
    repo.sync().ok();
    assert_eq!(metric(&repo, &of("versions_behind", "x")), "0");
    // A component that is gone is no metric any more; `--only` takes none away.
    repo.publish(&["sync", "--only", "x"]).ok();
    assert_eq!(metric(&repo, &of("success", "y")), "1");
    fs::remove_file(repo.path("components/y.toml")).unwrap();
    repo.sync().ok();
    let text = fs::read_to_string(repo.path("out/publish.prom")).unwrap();
    assert!(!text.contains("\"y\""), "{text}");
}

#[test]
fn what_cannot_be_written_fails_no_sync() {
    let (repo, receiver) = scene("");
    repo.write("out", "no folder");
    repo.write("state", "no folder either");
    let said = &["warning: cannot write out/last.json", "warning: cannot write out/publish.prom"];
    let ran = sync(&repo).ok().says(said);
    assert!(
        ran.stderr.contains("warning: what was told before is not known: state/told-"),
        "{ran}"
    );
    assert_eq!(receiver.arrived().len(), 1);
    // Nobody writes where nobody asked for it.
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    assert!(!repo.path("state").exists() && !repo.path(".local").exists());
}

#[test]
fn a_report_takes_nobodys_place() {
    let (repo, _receiver) = scene("");
    sync(&repo).ok();
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    for (place, why) in [
        ("public/x/SHA256SUMS", "it is in the store"),
        ("components/x.toml", "no report of ours"),
        ("components", "is no file"),
    ] {
        let before = fs::read(repo.path(place)).ok();
        repo.write("publish.toml", text.replace("out/publish.prom", place));
        sync(&repo).ok().says(&["warning: cannot write ", why]);
        assert_eq!(fs::read(repo.path(place)).ok(), before, "{place}");
    }
}
