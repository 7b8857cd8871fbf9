//! Buckets: a whole repository in a real S3 server, and what such servers do wrong.

use std::fs;

use http::Method;

use crate::pack::noise;
use crate::repo::{Ran, Repo, listed, until};
use crate::s3::{S3, SECRET, Wrong};
use crate::web::{Request, sha256};

/// A component with one release.
fn simple(s3: &S3) -> Repo {
    let repo = s3.repo();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo
}

/// No secret in anything that was said.
#[track_caller]
fn keeps_the_secret(ran: Ran) -> Ran {
    assert!(!ran.stderr.contains(SECRET) && !ran.stdout.contains(SECRET), "{ran}");
    ran
}

fn put<'r>(requests: &'r [Request], name: &str) -> &'r Request {
    let path = |request: &&Request| {
        request.path.split('?').next().unwrap().ends_with(name)
            && (request.method == Method::PUT || request.path.contains("?uploads"))
    };
    requests.iter().find(path).unwrap_or_else(|| panic!("nothing puts {name}: {requests:#?}"))
}

#[test]
fn a_repository_in_a_bucket() {
    let s3 = S3::start();
    let repo = simple(&s3);
    repo.sync().ok().prints(&["published 1 image to s3://the-bucket/repo"]);
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
    let requests = s3.requests();
    let image = put(&requests, "/x/x-1.0-x86-64.raw");
    assert_eq!(image.header("content-type"), Some("application/octet-stream"));
    assert_eq!(image.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(image.header("if-none-match"), Some("*"));
    let manifest = put(&requests, "/x/SHA256SUMS");
    assert_eq!(manifest.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(manifest.header("cache-control"), Some("no-cache"));
    assert_eq!(manifest.header("if-none-match"), Some("*"));
    for (name, kind) in
        [("/index.html", "text/html; charset=utf-8"), ("/catalog.json", "application/json")]
    {
        let page = put(&requests, name);
        assert_eq!(page.header("content-type"), Some(kind));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
    }
    assert!(requests.iter().all(|request| request.header("content-encoding").is_none()));

    // Nothing is new: nothing is written, and little is asked.
    repo.sync().ok().prints(&["nothing to do: 1 component is up to date in s3://the-bucket/repo"]);
    let requests = s3.requests();
    assert!(requests.iter().all(|request| request.method == Method::GET), "{requests:#?}");
    // The files for nodes have a record, too, and folders without a component are looked for by both; so
    // have the pages, whose lengths in the root are listed.
    let what = "list, manifest, catalogue, record, records of files and pages, root, twice folders";
    assert_eq!(requests.len(), 9, "{what}: {requests:#?}");

    repo.release("x", "1.1", "two");
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw", "x-1.1-x86-64.raw"]);
    let requests = s3.requests();
    assert!(put(&requests, "/x/SHA256SUMS").header("if-match").is_some());
    assert!(
        !requests.iter().any(|r| r.method == Method::PUT && r.path.ends_with("x-1.0-x86-64.raw"))
    );
    repo.publish(&["plan"]).ok().prints(&["nothing to do"]);
    for target in [&["verify"][..], &["verify", "s3://the-bucket/repo"], &["verify", "--quick"]] {
        repo.publish(target).ok();
    }
    repo.publish(&["serve"]).code(1).says(&["s3://the-bucket/repo is no directory", "hint: "]);
}

#[test]
fn caches_are_told_what_the_configuration_says() {
    let s3 = S3::start();
    let repo = Repo::with(
        "[repository.cache-control]\nimages = \"max-age=60\"\nmanifests = \"max-age=5\"\n",
    );
    let repo = s3.adopt(repo);
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    let requests = s3.requests();
    assert_eq!(put(&requests, "/x-1.0-x86-64.raw").header("cache-control"), Some("max-age=60"));
    assert_eq!(put(&requests, "/x/SHA256SUMS").header("cache-control"), Some("max-age=5"));
}

/// What `publish` streams must be signed: without that, as in a set-up of one's own, files go in parts,
/// as the largest always do.
fn without_streams(repo: &mut Repo) {
    repo.env("AWS_UNSIGNED_PAYLOAD", "true");
}

#[test]
fn a_large_image_goes_up_in_one_request_and_only_where_nothing_is() {
    let s3 = S3::start();
    let repo = simple(&s3);
    repo.release("x", "1.1", noise(20 << 20));
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")).len(), 2);
    let requests = s3.requests();
    let large: Vec<_> = requests.iter().filter(|r| r.path.contains("x-1.1-x86-64.raw")).collect();
    // Whether it is there, the image, and what it was made of: looked for and written.
    let image: Vec<_> = large.iter().filter(|r| !r.path.contains(".publish")).collect();
    assert_eq!(image.len(), 2, "{large:#?}");
    assert_eq!((&image[0].method, image[0].status), (&Method::HEAD, 404));
    assert_eq!((&image[1].method, image[1].status), (&Method::PUT, 200));
    assert_eq!(image[1].header("if-none-match"), Some("*"));
    assert_eq!(image[1].header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(image[1].header("content-type"), Some("application/octet-stream"));
    let bytes = fs::read(s3.path("x/x-1.1-x86-64.raw")).unwrap();
    assert_eq!(image[1].header("content-length"), Some(bytes.len().to_string().as_str()));
    let digest = sha256(&bytes);
    assert_eq!(image[1].header("x-amz-content-sha256"), Some(digest.as_str()));
}

#[test]
fn an_upload_that_breaks_off_begins_anew() {
    let s3 = S3::start();
    let repo = simple(&s3);
    repo.release("x", "1.0", noise(9 << 20));
    s3.fault(Method::PUT, "x-1.0-x86-64.raw", Wrong::Half(3 << 20), 1);
    s3.fault(Method::PUT, "x-1.0-x86-64.raw", Wrong::Answer(503, "SlowDown"), 1);
    s3.fault(Method::PUT, "x-1.0-x86-64.raw", Wrong::Lost, 1);
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
    let requests = s3.requests();
    let puts = requests.iter().filter(|r| r.method == Method::PUT && r.path.ends_with("64.raw"));
    assert_eq!(puts.map(|put| put.status).collect::<Vec<_>>(), [204, 503, 204]);
}

#[test]
fn nothing_is_there_of_an_upload_that_never_ends() {
    let s3 = S3::start();
    let repo = simple(&s3);
    repo.release("x", "1.0", noise(9 << 20));
    s3.fault(Method::PUT, "x-1.0-x86-64.raw", Wrong::Half(3 << 20), usize::MAX);
    repo.sync()
        .code(3)
        .says(&["error: x 1.0: cannot write s3://the-bucket/repo/x/x-1.0-x86-64.raw"]);
    let is_there = || s3.path("x/x-1.0-x86-64.raw").exists() || s3.path("x/SHA256SUMS").exists();
    assert!(!is_there());
    s3.heal();
    // Nor of what came otherwise than it was sent: the next try is right.
    s3.fault(Method::PUT, "x-1.0-x86-64.raw", Wrong::Damaged, 1);
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
}

#[test]
fn a_large_image_goes_up_in_parts_and_only_where_nothing_is() {
    let s3 = S3::start();
    let mut repo = simple(&s3);
    without_streams(&mut repo);
    repo.release("x", "1.1", noise(20 << 20));
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")).len(), 2);
    let requests = s3.requests();
    let large: Vec<_> = requests.iter().filter(|r| r.path.contains("x-1.1-x86-64.raw")).collect();
    let begin = put(&requests, "x-1.1-x86-64.raw");
    assert_eq!(begin.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(begin.header("content-type"), Some("application/octet-stream"));
    assert_eq!(large.iter().filter(|r| r.path.contains("partNumber=")).count(), 3, "{large:#?}");
    let end =
        large.iter().find(|r| r.method == Method::POST && r.path.contains("?uploadId=")).unwrap();
    assert_eq!((end.status, end.header("if-none-match")), (200, Some("*")));
}

#[test]
fn somebody_elses_object_is_not_written_over() {
    let s3 = S3::start();
    let repo = simple(&s3);
    fs::create_dir_all(s3.path("x")).unwrap();
    fs::write(s3.path("x/x-1.0-x86-64.raw"), "mine").unwrap();
    repo.sync()
        .code(3)
        .says(&["s3://the-bucket/repo/x/x-1.0-x86-64.raw is there already with SHA-256"]);
    assert_eq!(fs::read(s3.path("x/x-1.0-x86-64.raw")).unwrap(), b"mine");
    assert!(!s3.path("x/SHA256SUMS").exists());
}

#[test]
fn a_server_that_ignores_conditions_is_found_out() {
    let s3 = S3::start();
    let repo = simple(&s3);
    s3.ignore_conditions();
    let ran =
        repo.sync().ok().says(&["s3://the-bucket/repo ignores If-None-Match", "a lock object"]);
    assert_eq!(ran.stderr.matches("a lock object").count(), 1, "{ran}");
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
    let requests = s3.requests();
    let lock = |method| {
        requests.iter().position(|r| r.method == method && r.path.ends_with("/.publish/lock"))
    };
    let image = requests
        .iter()
        .position(|r| r.path.ends_with("x-1.0-x86-64.raw") && r.method == Method::PUT);
    assert!(lock(Method::PUT) < image && image < lock(Method::DELETE), "{requests:#?}");
    assert!(!s3.path(".publish/lock").exists());
    // Whoever has nothing to write needs no lock, and no warning.
    let ran = repo.sync().ok();
    assert!(!ran.stderr.contains("lock"), "{ran}");
}

#[test]
fn a_lock_object_holds_until_it_expires() {
    let s3 = S3::start();
    let repo = simple(&s3);
    s3.ignore_conditions();
    fs::create_dir_all(s3.path(".publish")).unwrap();
    let holder = |expires: &str| {
        format!(
            "{{\"process\":4711,\"host\":\"builder-7\",\"since\":\"2026-01-02T03:04:05Z\",\"expires\":\"{expires}\",\"token\":\"theirs\"}}\n"
        )
    };
    fs::write(s3.path(".publish/lock"), holder("2999-01-01T00:00:00Z")).unwrap();
    repo.sync().code(5).says(&[
        "another publisher holds s3://the-bucket/repo: process 4711 on builder-7 since 2026-01-02T03:04:05Z",
        "not renewed in time",
    ]);
    assert!(!s3.path("x/SHA256SUMS").exists());
    fs::write(s3.path(".publish/lock"), holder("2026-01-02T03:06:05Z")).unwrap();
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
    // One that nobody can read holds, as long as it is young.
    repo.release("x", "1.1", "two");
    fs::write(s3.path(".publish/lock"), "half a li").unwrap();
    repo.sync().code(5).says(&["another publisher holds s3://the-bucket/repo"]);
}

/// Whatever stops a run, the next one need not wait until its lock has run out.
#[test]
fn a_lock_object_is_given_back_after_a_failure() {
    let s3 = S3::start();
    let repo = s3.adopt(Repo::with("[signing]\nkey = { file = \"signing.key\" }\n"));
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.publish(&["key", "generate"]).ok();
    s3.ignore_conditions();
    let refuse =
        || s3.fault(Method::PUT, "import-pubring.gpg", Wrong::Answer(403, "AccessDenied"), 1);
    refuse();
    repo.sync().code(1).says(&["cannot write s3://the-bucket/repo/import-pubring.gpg"]);
    assert!(!s3.path(".publish/lock").exists());
    repo.sync().ok();
    fs::remove_file(s3.path("import-pubring.gpg")).unwrap();
    refuse();
    repo.publish(&["yank", "x", "1.0", "--force"]).code(1).says(&["cannot write"]);
    assert!(!s3.path(".publish/lock").exists());
    repo.publish(&["yank", "x", "1.0", "--force"]).ok();
}

#[test]
fn a_burst_of_errors_is_outlived() {
    let s3 = S3::start();
    let repo = simple(&s3);
    s3.fault(Method::GET, "", Wrong::Answer(503, "SlowDown"), 2);
    s3.fault(Method::PUT, "x-1.0-x86-64.raw", Wrong::Answer(503, "SlowDown"), 1);
    s3.fault(Method::PUT, "x-1.0-x86-64.raw", Wrong::Lost, 1);
    s3.fault(Method::PUT, "SHA256SUMS", Wrong::Lost, 1);
    s3.fault(Method::PUT, "SHA256SUMS", Wrong::Cut, 1);
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn a_part_that_is_lost_is_sent_again() {
    let s3 = S3::start();
    let mut repo = simple(&s3);
    without_streams(&mut repo);
    repo.release("x", "1.0", noise(9 << 20));
    s3.fault(Method::PUT, "partNumber=2", Wrong::Cut, 1);
    s3.fault(Method::PUT, "partNumber=1", Wrong::Answer(500, "InternalError"), 1);
    s3.fault(Method::POST, "uploadId=", Wrong::Answer(503, "SlowDown"), 1);
    repo.sync().ok();
    assert_eq!(listed(&s3.path("x")), ["x-1.0-x86-64.raw"]);
}

/// What follows the one error. Several objects are read, and the folder is listed, at once: any of these
/// may be named.
fn of_any_object(ran: &Ran) -> &str {
    let told = ran.stderr.split_once("error: x: cannot ");
    let told = told.and_then(|(_, rest)| rest.split_once(" s3://the-bucket/repo/"));
    told.and_then(|(_, rest)| rest.split_once('\n')).unwrap_or_else(|| panic!("{ran}")).1
}

#[test]
fn each_refusal_says_what_to_do() {
    let s3 = S3::start();
    let mut repo = simple(&s3);
    repo.env("AWS_SECRET_ACCESS_KEY", "another");
    let ran = keeps_the_secret(repo.sync().code(3));
    insta::assert_snapshot!(of_any_object(&ran), @r"
          caused by: the server answered 403 Forbidden: SignatureDoesNotMatch
          hint: the secret is not the one of this key: check AWS_SECRET_ACCESS_KEY
        ");
    repo.env("AWS_SECRET_ACCESS_KEY", SECRET);
    for (status, code, hint) in [
        (403, "RequestTimeTooSkewed", "clock"),
        (404, "NoSuchBucket", "make it first"),
        (403, "AccessDenied", "s3:ListBucket"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
    ] {
        s3.fault(Method::GET, "", Wrong::Answer(status, code), usize::MAX);
        let ran = repo.sync().code(3).says(&["error: x: cannot ", code, "hint: ", hint]);
        assert_eq!(ran.stderr.matches(code).count(), 1, "{ran}");
        assert!(!s3.path("x").exists());
        s3.heal();
    }
}

/// A key that may not list gets 403 for what is missing. Taken for "nothing there", the repository
/// would be built anew over the one that is there.
#[test]
fn forbidden_is_not_missing() {
    let s3 = S3::start();
    let repo = simple(&s3);
    s3.hide_what_is_missing();
    repo.sync().code(3).says(&[
        "error: x: cannot read s3://the-bucket/repo/",
        "403 Forbidden",
        "s3:ListBucket",
    ]);
    assert!(s3.requests().iter().all(|request| request.method == Method::GET));
}

#[test]
fn a_server_that_is_not_there_is_named_once() {
    let s3 = S3::start();
    let mut repo = simple(&s3);
    repo.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let ran = keeps_the_secret(repo.sync().code(3));
    insta::assert_snapshot!(of_any_object(&ran), @r"
          caused by: no answer: Connection refused (os error 111)
          hint: is AWS_ENDPOINT_URL right, and the server up? it was asked several times
        ");
}

/// A directory needs no client, and so no certificates and no credentials.
#[test]
fn a_bucket_is_asked_nothing_for_a_directory() {
    let s3 = S3::start();
    let mut repo = Repo::new();
    repo.env("AWS_ENDPOINT_URL", "not even a URL");
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    assert_eq!(s3.requests().len(), 0);
}

/// Two publishers in two processes, at one bucket.
#[test]
fn a_lost_race_is_planned_again() {
    let s3 = S3::start();
    let repo = simple(&s3);
    repo.sync().ok();
    let _ = s3.requests();
    repo.release("x", "1.1", "two");
    // The other one is faster by a hair: it writes between our reading and our writing.
    s3.fault(Method::PUT, "SHA256SUMS", Wrong::Answer(412, "PreconditionFailed"), 1);
    repo.sync().ok().prints(&["published 1 image"]);
    assert_eq!(listed(&s3.path("x")).len(), 2);
    let puts = |requests: &[Request], name: &str| {
        requests.iter().filter(|r| r.method == Method::PUT && r.path.ends_with(name)).count()
    };
    let requests = s3.requests();
    assert_eq!(puts(&requests, "/SHA256SUMS"), 2);
    // For good.
    repo.release("x", "1.2", "three");
    s3.fault(Method::PUT, "SHA256SUMS", Wrong::Answer(412, "PreconditionFailed"), usize::MAX);
    repo.sync().code(3).says(&["error: x: the manifest of x changed meanwhile", "hint: "]);
    assert_eq!(listed(&s3.path("x")).len(), 2);
    until("the bounded number of attempts", || puts(&s3.requests(), "/SHA256SUMS") == 8);
}
