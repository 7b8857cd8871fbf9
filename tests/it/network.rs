//! Manners: how often, how many at once, through what, and as whom upstreams are asked.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use crate::github::{GitHub, Release};
use crate::repo::{Ran, Repo};
use crate::tls;
use crate::web::{Fault, Web};

const ALWAYS: usize = usize::MAX;

/// A component that follows a page; its files need no asset.
fn follow(repo: &Repo, name: &str, url: &str) {
    repo.component(
        name,
        &format!(
            "[source.http]\nurl = \"{url}\"\nmatch = 'v(?<version>[0-9.]+)'\n[files]\n\"usr/x\" = {{ text = \"\" }}\n"
        ),
    );
}

/// A component that follows a repository of GitHub's.
fn follow_github(repo: &Repo, name: &str, upstream: &str) {
    repo.component(
        name,
        &format!(
            "[source.github]\nrepo = \"{upstream}\"\n[files]\n\"usr/x\" = {{ text = \"\" }}\n"
        ),
    );
}

/// So many repositories of GitHub's, each followed by a component, one request at a time.
fn github(number: usize) -> (GitHub, Repo) {
    let github = GitHub::start();
    let mut repo = Repo::with("[network]\nper-host = 1\n");
    repo.env("GITHUB_API_URL", &github.api());
    for n in 0..number {
        github.release(&format!("o/r{n}"), Release::new("1.0"));
        follow_github(&repo, &format!("c{n}"), &format!("o/r{n}"));
    }
    (github, repo)
}

fn with_network(repo: &Repo, text: &str) {
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", format!("{config}[network]\n{text}\n"));
}

fn paths(web: &Web) -> Vec<String> {
    web.requests().into_iter().map(|request| request.path).collect()
}

#[test]
fn who_follows_the_same_asks_once_for_all() {
    let (github, repo) = github(1);
    let web = Web::start();
    web.put("/list", "v1.0");
    for n in 0..5 {
        follow(&repo, &format!("page{n}"), &format!("{}/list", web.url()));
        follow_github(&repo, &format!("git{n}"), "o/r0");
    }
    repo.sync().ok().prints(&["published 11 images"]);
    assert_eq!((paths(&web), github.requests().len()), (vec!["/list".to_owned()], 1));
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
    assert_eq!((web.requests()[1].status, github.requests()[1].status), (304, 304));
    assert_eq!(web.requests().len() + github.requests().len(), 4);
}

#[test]
fn a_failure_is_shared_like_an_answer() {
    let repo = Repo::new();
    let web = Web::start();
    web.fault("/list", Fault::Status(500), ALWAYS);
    follow(&repo, "a", &format!("{}/list", web.url()));
    follow(&repo, "b", &format!("{}/list", web.url()));
    repo.sync().code(3).says(&["error: a: cannot ask", "error: b: cannot ask", "500 Internal"]);
    assert_eq!(web.requests().len(), 3, "the tries of one");
}

#[test]
fn an_answer_that_nobody_wants_any_more_is_forgotten() {
    let repo = Repo::new();
    let web = Web::start();
    for name in ["a", "b", "c"] {
        web.put(&format!("/{name}"), "v1.0");
        follow(&repo, name, &format!("{}/{name}", web.url()));
    }
    repo.sync().ok();
    let kept = || {
        let folder = fs::read_dir(repo.path("public/.publish/upstream")).unwrap();
        let texts = folder.map(|entry| fs::read(entry.unwrap().path()).unwrap());
        let texts = texts.map(|text| String::from_utf8_lossy(&text).matches("etag").count());
        texts.sum::<usize>()
    };
    assert_eq!(kept(), 3);
    // Who looks at one of them forgets nothing of the others, nor does who could not ask.
    repo.publish(&["sync", "--only", "a"]).ok();
    assert_eq!(kept(), 3);
    fs::remove_file(repo.path("components/c.toml")).unwrap();
    web.fault("/a", Fault::Status(404), 1);
    repo.sync().code(3);
    assert_eq!(kept(), 3);
    web.put("/b", "v1.0 v1.1");
    repo.sync().ok();
    assert_eq!(kept(), 2);
    let before = repo.snapshot();
    repo.sync().ok();
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn one_who_was_sent_away_speaks_for_all() {
    let (github, repo) = github(6);
    github.secondary_limit(3600, ALWAYS);
    let ran = repo.sync().code(3).says(&["secondary rate limit", "too many requests until 2"]);
    assert_eq!(github.requests().len(), 1, "{ran}");
    assert_eq!(ran.stderr.matches("was not asked: 127.0.0.1:").count(), 5, "{ran}");
    assert_eq!(ran.stderr.matches("wants no requests until 2").count(), 5, "{ran}");
}

#[test]
fn a_limit_that_only_words_tell() {
    let (github, repo) = github(3);
    let limit = Fault::Answer {
        status: 403,
        headers: Vec::new(),
        body: r#"{"message":"You have exceeded a secondary rate limit."}"#.to_owned(),
    };
    github.api_fault("/*", limit, ALWAYS);
    // Any of them may be the first.
    repo.sync().code(3).says(&["github said of o/r", ": You have exceeded", "was not asked"]);
    assert_eq!(github.requests().len(), 1);
}

#[test]
fn the_last_request_of_a_quota_is_the_last_one() {
    let (github, repo) = github(6);
    github.rate_limit(2, SystemTime::now() + Duration::from_secs(3600));
    let ran = repo.sync().code(3);
    assert_eq!(github.requests().len(), 2, "{ran}");
    assert_eq!(ran.stderr.matches("wants no requests until").count(), 4, "{ran}");
    assert!(!ran.stderr.contains("API rate limit exceeded"), "nobody ran into it\n{ran}");
}

#[test]
fn a_quota_that_is_there_again_in_a_moment_is_waited_for_by_all() {
    let (github, repo) = github(4);
    github.rate_limit(2, SystemTime::now() + Duration::from_secs(3));
    repo.sync().ok().prints(&["published 4 images"]);
    assert!(github.requests().iter().all(|request| request.status == 200));
}

#[test]
fn a_server_may_say_when_by_the_clock() {
    let repo = Repo::with("[network]\nper-host = 1\n");
    let web = Web::start();
    web.put("/a", "v1.0");
    web.put("/b", "v1.0");
    follow(&repo, "a", &format!("{}/a", web.url()));
    follow(&repo, "b", &format!("{}/b", web.url()));
    let later = |status, when: &str| Fault::Answer {
        status,
        headers: vec![("retry-after".to_owned(), when.to_owned())],
        body: String::new(),
    };
    web.fault("/*", later(503, "1"), 1);
    web.fault("/*", later(429, "Fri, 31 Dec 1999 23:59:59 GMT"), 1);
    repo.sync().ok();
    assert_eq!(web.requests().len(), 4, "{:?}", web.requests());
    web.fault("/*", later(429, "Fri, 31 Dec 2100 23:59:59 GMT"), 1);
    web.clear_requests();
    repo.sync().code(3).says(&["until 2100-12-31T23:59:59Z", "was not asked"]);
    assert_eq!(web.requests().len(), 1);
}

/// Answers that make no sense are told as such.
#[test]
fn a_304_that_nobody_asked_for_and_a_wait_that_is_over() {
    let (repo, web) = (Repo::new(), Web::start());
    follow(&repo, "x", &format!("{}/list", web.url()));
    web.fault("/list", Fault::Status(304), ALWAYS);
    repo.sync().code(3).says(&["/list answered 304", "hint: it says that nothing changed to who"]);
    web.heal();
    let past = ("retry-after".to_owned(), "Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
    let fault = Fault::Answer { status: 429, headers: vec![past], body: String::new() };
    web.fault("/list", fault, ALWAYS);
    let ran = repo.sync().code(3).says(&["/list answered 429", "names a time that is over"]);
    assert!(!ran.stderr.contains("1994"), "{ran}");
}

#[test]
fn a_host_that_is_down_is_not_asked_by_everybody() {
    let repo = Repo::with("[network]\nper-host = 1\n");
    let web = Web::start();
    for n in 0..8 {
        follow(&repo, &format!("c{n}"), &format!("{}/{n}", web.url()));
    }
    web.fault("/*", Fault::Reset, ALWAYS);
    let ran = repo.sync().code(3).says(&["cannot reach", "hint: "]);
    // Three addresses were tried to the end, and no other one.
    assert!((9..20).contains(&web.requests().len()), "{}\n{ran}", web.requests().len());
    assert_eq!(ran.stderr.matches("did not answer before").count(), 5, "{ran}");

    // One address that is broken, or two, say nothing of the others.
    web.heal();
    web.fault("/1", Fault::Reset, ALWAYS);
    web.fault("/2", Fault::Status(500), ALWAYS);
    for n in 0..8 {
        web.put(&format!("/{n}"), "v1.0");
    }
    let ran = repo.sync().code(3).prints(&["published 6 images", "2 components failed"]);
    assert!(!ran.stderr.contains("others"), "{ran}");
}

#[test]
fn status_tells_what_is_left_to_ask() {
    let (github, repo) = github(2);
    let at = github.api().trim_start_matches("http://").to_owned();
    repo.publish(&["status"])
        .code(3)
        .prints(&[&format!("{at}: 4998 of 5000 requests left until 20")]);
    repo.publish(&["-v", "plan"])
        .ok()
        .says(&[&format!("{at}: 4996 of 5000 requests left until 20")]);
    let json = repo.publish(&["status", "--json"]).code(3).json();
    assert_eq!(json["quotas"][0]["host"], at);
    assert_eq!(
        (&json["quotas"][0]["remaining"], &json["quotas"][0]["limit"]),
        (&4994.into(), &5000.into())
    );
    assert!(json["quotas"][0]["reset"].as_str().unwrap().starts_with("20"));
    assert!(github.requests().iter().all(|request| request.path.starts_with("/repos/")));

    // Nothing else told it: asking is free.
    github.api_fault("/repos/*", Fault::Status(404), ALWAYS);
    repo.publish(&["status"]).code(3).prints(&[&format!("{at}: 4992 of 5000 requests left")]);
    assert_eq!(github.requests().last().unwrap().path, "/rate_limit");
    let ran = repo.publish(&["status", "--check"]).code(3);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran}");
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn documents_may_come_compressed() {
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/list", "v1.0");
    web.pack("/list", gz(b"v1.0"));
    follow(&repo, "x", &format!("{}/list", web.url()));
    repo.sync().ok().prints(&["published 1 image"]);
    assert_eq!(web.requests()[0].header("accept-encoding"), Some("gzip"));
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(web.requests()[1].status, 304);
    // What was kept is not in gzip, so a form that is not understood costs nothing.
    repo.publish(&["plan"]).ok();
}

#[test]
fn what_a_document_unpacks_to_is_bounded() {
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/list", "v1.0");
    follow(&repo, "x", &format!("{}/list", web.url()));
    // Members of gzip, one after the other, are one.
    let bomb = gz(&vec![b' '; 1 << 20]).repeat(65);
    assert!(bomb.len() < 100_000);
    web.pack("/list", bomb);
    repo.sync().code(3).says(&["/list is larger than 67108864 bytes"]);
    for broken in [&b"no gzip"[..], &gz(b"v1.0")[..12]] {
        web.pack("/list", broken);
        repo.sync().code(3).says(&["/list ended early"]);
    }
    web.pack("/list", gz(b"v1.0"));
    repo.sync().ok();
}

#[test]
fn hostile_answers_to_a_poll() {
    let answer = |status, headers: Vec<(String, String)>, body: &str| Fault::Answer {
        status,
        headers,
        body: body.to_owned(),
    };
    let bomb = (0..4000).map(|n| (format!("x-{n}"), "y".repeat(200))).collect();
    for (fault, text) in [
        (answer(200, bomb, "v1.0"), "cannot reach"),
        (answer(304, Vec::new(), ""), "304"),
        (answer(206, Vec::new(), "v1.0"), "206"),
        (answer(204, Vec::new(), ""), "204"),
    ] {
        let (repo, web) = (Repo::new(), Web::start());
        web.fault("/list", fault, ALWAYS);
        follow(&repo, "x", &format!("{}/list", web.url()));
        repo.sync().code(3).says(&["error: x: cannot ask upstream", text]);
        assert!(!repo.path("public/x").exists());
    }
    // Not even text, but what is looked for is in it.
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/list", [b"\xff\xfe\0 v1.0 \xc3\x28".as_slice(), &[0x80; 1000]].concat());
    follow(&repo, "x", &format!("{}/list", web.url()));
    repo.sync().ok().prints(&["newest 1.0"]);
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(web.requests().last().unwrap().status, 304);
}

#[test]
fn a_proxy_is_asked_where_the_environment_names_one() {
    let (mut repo, web) = (Repo::new(), Web::start());
    web.put("/list", "v1.0");
    follow(&repo, "x", "http://upstream.example/list");
    for name in ["HTTP_PROXY", "http_proxy"] {
        repo.env(name, &web.url());
    }
    repo.sync().ok().prints(&["published 1 image"]);
    assert_eq!(web.requests()[0].header("host"), Some("upstream.example"));
    // Not for those who are reached without.
    let other = Web::start();
    other.put("/list", "v1.0");
    follow(&repo, "x", &format!("{}/list", other.url()));
    repo.env("NO_PROXY", "127.0.0.1");
    repo.publish(&["plan"]).ok();
    assert_eq!((web.requests().len(), other.requests().len()), (1, 1));
}

#[test]
fn an_authority_of_ones_own_and_a_tunnel() {
    let url = tls::serve("v1.0");
    let mut repo = Repo::new();
    follow(&repo, "x", &format!("{url}/list"));
    repo.sync().code(3).says(&["error: x: cannot ask upstream", "certificate", "hint: "]);
    repo.write("ca.pem", tls::AUTHORITY);
    with_network(&repo, "ca = \"ca.pem\"");
    repo.publish(&["plan"]).ok();

    let (proxy, told) = tls::tunnel(&url);
    repo.env("HTTPS_PROXY", &proxy);
    let port = url.rsplit_once(':').unwrap().1;
    follow(&repo, "x", &format!("https://localhost:{port}/list"));
    repo.publish(&["plan"]).ok();
    let told = told.try_recv().unwrap();
    assert!(told.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1")), "{told}");

    for (text, problem) in [("", "no certificate"), ("rubbish", "no certificate")] {
        repo.write("ca.pem", text);
        repo.publish(&["plan"]).code(4).says(&["[network] ca: cannot use ", "ca.pem", problem]);
    }
    fs::remove_file(repo.path("ca.pem")).unwrap();
    repo.publish(&["plan"]).code(4).says(&[
        "[network] ca: `ca.pem` cannot be read: No such file",
        "^^^^^^",
        "hint: the path is relative",
    ]);
}

const SECRET: &str = "hunter2-and-more";

#[track_caller]
fn keeps_the_secret(repo: &Repo, ran: Ran) -> Ran {
    // As it is, and as it stands in a header.
    for secret in [SECRET, "aHVudGVyMi1hbmQtbW9yZQ", "dTpodW50ZXIyLWFuZC1tb3Jl"] {
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{ran}");
        for (path, (bytes, ..)) in repo.snapshot() {
            assert!(!String::from_utf8_lossy(&bytes).contains(secret), "{path}");
        }
    }
    ran
}

#[test]
fn credentials_are_shown_to_their_server_alone() {
    let (mut repo, web, other) = (Repo::new(), Web::start(), Web::start());
    web.put("/list", "v1.0");
    other.put("/elsewhere", "v1.0");
    // Also not when the other server leads on to itself, nor back to where it began.
    other.fault("/on", Fault::Redirect(format!("{}/elsewhere", other.url())), ALWAYS);
    other.fault("/back", Fault::Redirect(format!("{}/open", web.url())), ALWAYS);
    web.put("/open", "v1.0");
    web.fault("/away", Fault::Redirect(format!("{}/on", other.url())), ALWAYS);
    web.fault("/and-back", Fault::Redirect(format!("{}/back", other.url())), ALWAYS);
    repo.env("TOKEN", SECRET);
    let server = web.url();
    with_network(
        &repo,
        &format!(
            "rewrite = {{ \"https://upstream.example/\" = \"{0}/\" }}\n[network.credentials]\n\"{server}\" = {{ token = {{ env = \"TOKEN\" }} }}\n\"https://upstream.example\" = {{ token = {{ env = \"NONE\" }} }}",
            other.url()
        ),
    );
    follow(&repo, "a", &format!("{server}/list"));
    follow(&repo, "b", &format!("{server}/away"));
    follow(&repo, "c", "https://upstream.example/elsewhere");
    follow(&repo, "d", &format!("{server}/and-back"));
    let ran = keeps_the_secret(&repo, repo.publish(&["-vv", "sync"]));
    ran.ok();
    let bearer = format!("Bearer {SECRET}");
    for request in web.requests() {
        let shown = (request.path != "/open").then_some(bearer.as_str());
        assert_eq!(request.header("authorization"), shown, "{}", request.path);
    }
    assert_eq!((web.requests().len(), other.requests().len()), (4, 4));
    for request in other.requests() {
        assert_eq!(request.header("authorization"), None, "{}", request.path);
    }
}

#[test]
fn a_password_from_a_file() {
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/list", "v1.0");
    repo.write("secrets/password", format!("{SECRET}\n"));
    with_network(
        &repo,
        &format!(
            "[network.credentials]\n\"{}\" = {{ username = \"u\", password = {{ file = \"secrets/password\" }} }}",
            web.url()
        ),
    );
    follow(&repo, "x", &format!("{}/list", web.url()));
    keeps_the_secret(&repo, repo.publish(&["-vv", "sync"])).ok();
    let basic = "Basic dTpodW50ZXIyLWFuZC1tb3Jl";
    assert_eq!(web.requests()[0].header("authorization"), Some(basic));
    fs::remove_file(repo.path("secrets/password")).unwrap();
    repo.sync().code(3).says(&[
        "there are no credentials for http://127.0.0.1:",
        "cannot read",
        "hint: ",
    ]);
    assert_eq!(web.requests().len(), 1, "it is not asked without them");
}

#[test]
fn a_password_in_the_store_would_be_everybodys() {
    let repo = Repo::new();
    repo.sync().ok();
    repo.write("public/password", SECRET);
    with_network(
        &repo,
        "[network.credentials]\nh = { username = \"u\", password = { file = \"public/password\" } }",
    );
    repo.sync().code(4).says(&["[network] the secret", "would be in the store"]);
}

#[test]
fn a_netrc_file_is_read() {
    for name in ["NETRC", "HOME"] {
        let (mut repo, web) = (Repo::new(), Web::start());
        web.put("/list", "v1.0");
        repo.write(".netrc", format!("machine 127.0.0.1 login u password {SECRET}\n"));
        let at = if name == "HOME" { repo.path("") } else { repo.path(".netrc") };
        repo.env(name, at.to_str().unwrap());
        follow(&repo, "x", &format!("{}/list", web.url()));
        keeps_the_secret(&repo, repo.publish(&["-vv", "sync"])).ok();
        let basic = "Basic dTpodW50ZXIyLWFuZC1tb3Jl";
        assert_eq!(web.requests()[0].header("authorization"), Some(basic), "{name}");
    }
}
