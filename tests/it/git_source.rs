//! Source `git`: tags of a repository that a real git serves.

use crate::git::{Git, Protocol};
use crate::repo::{Ran, Repo};
use crate::web::{Fault, Web};

/// A component `tool` that follows a repository, and files for its versions.
fn follow(repo: &Repo, url: &str, files: &Web) {
    for version in ["0.9.0", "1.0.0", "1.1.0", "1.2.0"] {
        files.put(&format!("/tool-{version}"), format!("tool {version}"));
    }
    repo.component(
        "tool",
        &format!(
            "[source.git]\nurl = \"{url}\"\n[[asset]]\nurl = \"{}/tool-{{version}}\"\n[asset.files]\n\"usr/bin/tool\" = \"tool-{{version}}\"\n",
            files.url()
        ),
    );
}

const IMAGES: [&str; 3] =
    ["tool-0.9.0-x86-64.raw", "tool-1.0.0-x86-64.raw", "tool-1.1.0-x86-64.raw"];

#[test]
fn tags_become_images_in_every_protocol_and_both_hashes() {
    for (protocol, hash, questions) in [
        (Protocol::Asked, "sha1", 2),
        (Protocol::Asked, "sha256", 2),
        (Protocol::One, "sha1", 1),
        (Protocol::Old, "sha256", 1),
    ] {
        let Some(git) = Git::start(protocol) else { return };
        let (repo, files) = (Repo::new(), Web::start());
        git.repository("tool", hash);
        git.tags("tool", &["v0.9.0", "v1.0.0", "v1.1.0", "nightly", "other/v3.0.0"]);
        follow(&repo, &git.url("tool"), &files);
        repo.sync().ok();
        // `v9.0.0` is a branch.
        assert_eq!(repo.listed("tool"), IMAGES);
        assert_eq!(git.asked().len(), questions, "{:?}", git.asked());
        let plan = repo.publish(&["plan", "-v"]).ok();
        assert_eq!(plan.stdout.matches("nightly").count(), 1, "{plan}");
        let before = repo.snapshot();
        repo.sync().ok().prints(&["nothing to do"]);
        assert_eq!(repo.snapshot(), before);
    }
}

#[test]
fn a_repository_with_thousands_of_tags() {
    let Some(git) = Git::start(Protocol::Asked) else { return };
    let (repo, files) = (Repo::new(), Web::start());
    git.repository("tool", "sha1");
    git.many("tool", (0..5000).map(|number| format!("v1.{number}.0")));
    follow(&repo, &git.url("tool"), &files);
    repo.publish(&["plan"]).ok().prints(&["1.4999.0"]);
}

#[test]
fn a_repository_without_tags_is_an_error() {
    for protocol in [Protocol::Asked, Protocol::Old] {
        let Some(git) = Git::start(protocol) else { return };
        let (repo, files) = (Repo::new(), Web::start());
        git.repository("tool", "sha1");
        follow(&repo, &git.url("tool"), &files);
        repo.sync().code(3).says(&["tool.git has no tag", "hint: a release needs a tag"]);
    }
}

/// The second question must go where the first one was led, or it would become a GET.
#[test]
fn a_repository_that_moved_is_followed() {
    let Some(git) = Git::start(Protocol::Asked) else { return };
    let (repo, files) = (Repo::new(), Web::start());
    git.repository("new", "sha1");
    git.tags("new", &["v0.9.0", "v1.0.0", "v1.1.0"]);
    follow(&repo, &git.url("old"), &files);
    let moved = format!("warning: tool: {} moved to {}", git.url("old"), git.url("new"));
    repo.sync().ok().says(&[&moved, "write that in [source.git] url"]);
    assert_eq!(repo.listed("tool"), IMAGES);
}

#[test]
fn a_repository_that_there_is_none_of() {
    let Some(git) = Git::start(Protocol::Asked) else { return };
    let (repo, files) = (Repo::new(), Web::start());
    follow(&repo, &git.url("nothing"), &files);
    repo.sync().code(3).says(&["error: tool", "nothing.git/info/refs", "404", "hint: "]);
}

/// A line as git writes it.
fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

#[test]
fn hostile_answers_spoil_nothing() {
    let (repo, web) = (Repo::with("[network]\ntimeout = \"2s\"\n"), Web::start());
    let refs = "/x.git/info/refs?service=git-upload-pack";
    let hash = "0123456789012345678901234567890123456789";
    let list = |tags: &[&[u8]]| {
        let mut all = b"001e# service=git-upload-pack\n0000".to_vec();
        for tag in tags {
            let length = hash.len() + 1 + 10 + tag.len() + 1 + 4;
            all.extend(format!("{length:04x}{hash} refs/tags/").bytes());
            all.extend(*tag);
            all.push(b'\n');
        }
        all.extend(b"0000");
        all
    };
    follow(&repo, &format!("{}/x.git", web.url()), &web);
    web.put(refs, list(&[b"v1.0.0"]));
    repo.sync().ok();
    let before = repo.snapshot();
    let fails = |texts: &[&str]| -> Ran {
        let ran = repo.sync().code(3).says(&["error: tool", "hint: "]).says(texts);
        assert_eq!(repo.snapshot(), before, "{ran}");
        ran
    };

    let long = "9".repeat(10_000);
    web.put(
        refs,
        list(&[b"v1.0.0", b"v1.\xff\xfe", b"v1.2\x1b[2J", b"v1/2", b"v1.3%s", long.as_bytes()]),
    );
    let ran = fails(&["3 releases have no name that can be shown", "v1.3%s"]);
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains(&long), "{ran}");

    // A dumb server, a page, half an answer, an error in the server's own words.
    for (body, text) in [
        (format!("{hash}\trefs/tags/v1.0.0\n"), "it is a copy of a repository that no git"),
        ("<html>log in</html>".to_owned(), "it is not what a git server says"),
        (String::new(), "it is empty"),
        (line(&format!("{hash} refs/tags/v1.0.0\n")), "it ends in the middle"),
        (line("ERR access denied\n"), "it says: access denied"),
        (line("version 2\n") + &line("fetch\n") + "0000", "it cannot list references"),
    ] {
        web.put(refs, body);
        fails(&["cannot read the answer of", "x.git: ", text, "`git clone`"]);
    }
    let many: Vec<String> = (0..100_001).map(|number| number.to_string()).collect();
    let many: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
    web.put(refs, list(&many));
    fails(&["more than 100000 tags"]);
    web.put(refs, list(&[b"v1.0.0"]));
    web.fault("/x.git/*", Fault::Endless, 1);
    fails(&["info/refs"]);
    web.fault("/x.git/*", Fault::Stall, 3);
    fails(&["info/refs"]);
    repo.sync().ok();
}

/// What a new server answers to the second question is not trusted either.
#[test]
fn a_second_answer_that_is_none() {
    let (repo, web) = (Repo::new(), Web::start());
    follow(&repo, &format!("{}/x.git", web.url()), &web);
    let refs = "/x.git/info/refs?service=git-upload-pack";
    web.put(refs, line("version 2\n") + &line("ls-refs=unborn\n") + "0000");
    let answer =
        |body: &str| Fault::Answer { status: 200, headers: Vec::new(), body: body.to_owned() };
    for body in ["", "0001", "zzzz", &line("nothing\n"), &line("a refs/tags/v1\n")] {
        web.fault("/x.git/git-upload-pack", answer(body), 1);
        repo.sync().code(3).says(&["cannot read the answer of", "hint: "]);
    }
    web.fault("/x.git/git-upload-pack", answer("0000"), 1);
    repo.sync().code(3).says(&["has no tag"]);
}
