//! A bucket in moto, which enforces keys and compares before it writes in one step. It is a Python
//! program: `.ci/run` installs it and runs these tests, and `$PUBLISH_MOTO` names its `moto_server`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use http::Method;

use crate::pack::noise;
use crate::repo::{Repo, Running, until};

struct Moto {
    port: u16,
    key: String,
    secret: String,
    _server: Running,
}

impl Moto {
    fn start() -> Self {
        let program = std::env::var_os("PUBLISH_MOTO").expect("$PUBLISH_MOTO names moto_server");
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let server = Running::start(
            Command::new(program)
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                // So many requests set up the keys that all others need.
                .env("INITIAL_NO_AUTH_ACTION_COUNT", "4")
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        until("moto", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let mut moto = Self { port, key: String::new(), secret: String::new(), _server: server };
        moto.iam("CreateUser", "");
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
        let policy: String = url::form_urlencoded::byte_serialize(policy.as_bytes()).collect();
        moto.iam("PutUserPolicy", &format!("&PolicyName=all&PolicyDocument={policy}"));
        let answer = moto.iam("CreateAccessKey", "");
        let within = |tag: &str| {
            let (_, rest) = answer.split_once(&format!("<{tag}>")).expect("a key");
            rest.split_once('<').unwrap().0.to_owned()
        };
        (moto.key, moto.secret) = (within("AccessKeyId"), within("SecretAccessKey"));
        moto.ask(&Method::PUT, "/the-bucket", "s3", "");
        moto
    }

    fn iam(&self, action: &str, more: &str) -> String {
        let body = format!("Action={action}&UserName=publisher&Version=2010-05-08{more}");
        self.ask(&Method::POST, "/", "iam", &body)
    }

    /// moto tells its services apart by what a signature would be for.
    fn ask(&self, method: &Method, path: &str, service: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        answer
    }

    fn repo(&self) -> Repo {
        let mut repo = Repo::new();
        let text = std::fs::read_to_string(repo.path("publish.toml")).unwrap();
        repo.write("publish.toml", text.replace("\"public\"", "\"s3://the-bucket/repo\""));
        repo.env("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", self.port));
        repo.env("AWS_ACCESS_KEY_ID", &self.key);
        repo.env("AWS_SECRET_ACCESS_KEY", &self.secret);
        repo
    }
}

fn simple(moto: &Moto) -> Repo {
    let repo = moto.repo();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo
}

#[test]
#[ignore = "needs moto: .ci/run has it"]
fn a_repository_in_moto() {
    let moto = Moto::start();
    let mut repo = simple(&moto);
    repo.release("x", "1.1", noise(20 << 20));
    let ran = repo.sync().ok().prints(&["published 2 images to s3://the-bucket/repo"]);
    assert!(!ran.stderr.contains("lock"), "moto compares\n{ran}");
    repo.sync().ok().prints(&["nothing to do"]);
    repo.release("x", "1.2", "three");
    repo.sync().ok().prints(&["published 1 image"]);
    // In parts.
    repo.env("AWS_UNSIGNED_PAYLOAD", "true");
    repo.release("x", "1.3", noise(20 << 20));
    repo.sync().ok().prints(&["published 1 image"]);
    repo.publish(&["verify"]).ok();
}

#[test]
#[ignore = "needs moto: .ci/run has it"]
fn a_wrong_secret_is_refused_by_moto() {
    let moto = Moto::start();
    let mut repo = simple(&moto);
    repo.env("AWS_SECRET_ACCESS_KEY", "another");
    repo.sync().code(3).says(&["error: x: cannot ", "403", "hint: ", "AWS_SECRET_ACCESS_KEY"]);
    repo.env("AWS_SECRET_ACCESS_KEY", &moto.secret);
    repo.env("AWS_ACCESS_KEY_ID", "AKIANOBODY");
    repo.sync().code(3).says(&["403", "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"]);
    repo.env("AWS_ACCESS_KEY_ID", &moto.key);
    let text = std::fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("the-bucket", "no-bucket"));
    repo.sync().code(3).says(&["NoSuchBucket", "make it first"]);
    repo.write("publish.toml", text);
    repo.sync().ok();
}

/// Four real processes at one folder of one bucket: every line gets in, whoever is faster.
#[test]
#[ignore = "needs moto: .ci/run has it"]
fn four_programs_at_once() {
    let moto = Moto::start();
    let repos: Vec<Repo> = (0..4)
        .map(|number| {
            let repo = moto.repo();
            many(&repo);
            repo.release("x", &format!("1.{number}"), format!("{number}"));
            repo
        })
        .collect();
    std::thread::scope(|scope| {
        for repo in &repos {
            scope.spawn(|| repo.sync().ok());
        }
    });
    let look = simple(&moto);
    for number in 0..4 {
        look.release("x", &format!("1.{number}"), format!("{number}"));
    }
    many(&look);
    look.sync().ok().prints(&["nothing to do"]);
}

/// A component that holds more versions than there are publishers.
fn many(repo: &Repo) {
    repo.simple("x");
    let file = std::fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{file}[versions]\nnewest = 9\n"));
}
