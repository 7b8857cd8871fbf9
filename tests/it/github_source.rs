//! Source `github`: releases, their assets, and all that GitHub does besides.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use crate::github::{GitHub, Release};
use crate::repo::Repo;
use crate::web::{Fault, Web};

const TOKEN: &str = "ghp_0123456789abcdefghij";
const FAR: Duration = Duration::from_secs(3600);

/// A component `tool` that follows `o/tool`, and `good`, which follows a folder.
struct Bench {
    github: GitHub,
    repo: Repo,
}

impl Bench {
    fn new() -> Self {
        let mut bench =
            Self { github: GitHub::start(), repo: Repo::with("[network]\ntimeout = \"5s\"\n") };
        bench.repo.env("GITHUB_API_URL", &bench.github.api());
        bench.follow("o/tool", "");
        bench.repo.simple("good");
        bench.repo.release("good", "1.0", "good");
        bench.github.repo("o/tool");
        bench
    }

    fn follow(&self, repo: &str, versions: &str) {
        self.repo.component(
            "tool",
            &format!(
                r#"[source.github]
repo = "{repo}"
[versions]
{versions}
[arch]
x86-64 = "amd64"
[[asset]]
name = "tool_{{version}}_{{arch}}"
[asset.files]
"usr/bin/tool" = "tool_{{version}}_{{arch}}"
"#
            ),
        );
    }

    fn release(tag: &str) -> Release {
        let version = tag.trim_start_matches('v');
        Release::new(tag)
            .asset(&format!("tool_{version}_amd64"), format!("tool {version}"))
            .asset("notes.txt", "notes")
    }

    fn publish(&self, tag: &str) {
        self.github.release("o/tool", Self::release(tag));
    }

    /// The versions of `tool` that are out.
    fn versions(&self) -> Vec<String> {
        let names = self.repo.listed("tool");
        names
            .iter()
            .map(|name| name["tool-".len()..].trim_end_matches("-x86-64.raw").to_owned())
            .collect()
    }

    /// `tool` fails with these texts; `good` does not.
    #[track_caller]
    fn fails(&self, texts: &[&str]) {
        let ran = self.repo.sync().code(3).says(&["error: tool", "hint: "]).says(texts);
        assert_eq!(self.repo.listed("good").len(), 1, "{ran}");
        assert!(!self.repo.path("public/tool/SHA256SUMS").exists(), "{ran}");
    }
}

#[test]
fn releases_become_images() {
    let bench = Bench::new();
    for tag in ["v1.0.0", "v1.1.0", "nightly", "v1.2.0", "v1.3.0"] {
        bench.publish(tag);
    }
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.1.0", "1.2.0", "1.3.0"]);
    let image = bench.repo.image("tool", "tool-1.3.0-x86-64.raw");
    assert_eq!(image.text("usr/bin/tool"), "tool 1.3.0");
    // Dated as the release, so that a rebuild gives the same bytes.
    let published = "2024-01-06T00:00:00Z";
    bench.repo.publish(&["inspect", "public/tool/tool-1.3.0-x86-64.raw"]).ok().prints(&[published]);
}

#[test]
fn drafts_and_prereleases_are_nobodys_release() {
    let mut bench = Bench::new();
    bench.repo.env("GITHUB_TOKEN", TOKEN);
    bench.publish("v1.0.0");
    bench.github.release("o/tool", Bench::release("v1.1.0").draft(true));
    bench.github.release("o/tool", Bench::release("v1.2.0").prerelease(true));
    bench.publish("v1.3.0-rc.1");
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0"]);
    let plan = bench
        .repo
        .publish(&["plan", "-v"])
        .ok()
        .prints(&["v1.2.0       out: a pre-release", "v1.3.0-rc.1  out: a pre-release"]);
    assert!(!plan.stdout.contains("v1.1.0"), "a draft is seen by its authors alone\n{plan}");

    bench.follow("o/tool", "prerelease = true\nexclude = [\"1.3.0-rc.1\"]");
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0", "1.2.0"]);
}

#[test]
fn a_long_list_is_read_to_its_end() {
    let bench = Bench::new();
    bench.github.page_size(4);
    bench.publish("v2.0.0");
    for number in 0..14 {
        bench.publish(&format!("v1.0.{number}"));
    }
    bench.follow("o/tool", "newest = 20");
    bench.repo.sync().ok().prints(&["newest 2.0.0"]);
    assert_eq!(bench.versions().len(), 15);
    let asked = bench.github.requests();
    assert_eq!(asked.len(), 4, "15 releases, 4 a page: {asked:?}");
    assert!(asked[0].path.contains("per_page=100"), "{}", asked[0].path);
}

#[test]
fn a_second_sync_is_free_of_charge() {
    let mut bench = Bench::new();
    bench.repo.env("GITHUB_TOKEN", TOKEN);
    bench.github.page_size(2);
    for number in 0..5 {
        bench.publish(&format!("v1.0.{number}"));
    }
    bench.repo.sync().ok();
    let (left, before) = (bench.github.remaining(), bench.repo.snapshot());
    bench.github.clear_requests();
    bench.repo.sync().ok().prints(&["nothing to do"]);
    let asked = bench.github.requests();
    assert!(asked.len() == 3 && asked.iter().all(|request| request.status == 304), "{asked:?}");
    assert_eq!(bench.github.web_requests().len() + bench.github.storage_requests().len(), 0);
    assert_eq!(bench.github.remaining(), left, "304s cost nothing");
    assert_eq!(bench.repo.snapshot(), before);

    bench.publish("v1.0.5");
    bench.repo.sync().ok().prints(&["published 1 image", "tool-1.0.5-x86-64.raw"]);
}

#[test]
fn the_token_goes_to_the_api_and_nowhere_else() {
    for name in ["GITHUB_TOKEN", "GH_TOKEN"] {
        let mut bench = Bench::new();
        bench.repo.env(name, TOKEN);
        bench.github.require_token(TOKEN);
        bench.publish("v1.0.0");
        bench.github.count_downloads();
        let ran = bench.repo.publish(&["-vv", "sync"]).ok();
        assert!(!ran.stderr.contains(TOKEN) && !ran.stdout.contains(TOKEN), "{ran}");
        let asked = bench.github.requests();
        assert!(!asked.is_empty());
        for request in asked {
            assert_eq!(request.header("authorization"), Some(&*format!("Bearer {TOKEN}")));
        }
        let elsewhere = [bench.github.web_requests(), bench.github.storage_requests()].concat();
        assert_eq!(elsewhere.len(), 2);
        for request in elsewhere {
            assert_eq!(request.header("authorization"), None, "{}", request.path);
        }
        for (path, (bytes, ..)) in bench.repo.snapshot() {
            assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "{path}");
        }
    }
}

#[test]
fn nobody_asks_with_a_token_he_has_not() {
    let mut bench = Bench::new();
    // What CI systems set where there is no secret.
    bench.repo.env("GITHUB_TOKEN", "");
    bench.publish("v1.0.0");
    bench.repo.sync().ok();
    assert!(
        bench.github.requests().iter().all(|request| request.header("authorization").is_none())
    );
}

#[test]
fn a_token_that_cannot_be_one_is_refused_before_it_is_sent() {
    let mut bench = Bench::new();
    bench.repo.env("GITHUB_TOKEN", "ghp_\u{7}x y");
    bench.publish("v1.0.0");
    bench.fails(&["GITHUB_TOKEN"]);
    assert!(bench.github.requests().is_empty());
}

#[test]
fn a_token_with_its_newline_is_taken() {
    let mut bench = Bench::new();
    bench.repo.env("GITHUB_TOKEN", &format!("{TOKEN}\n"));
    bench.github.require_token(TOKEN);
    bench.publish("v1.0.0");
    bench.repo.sync().ok();
}

#[test]
fn the_digest_of_an_asset_is_checked() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.wrong_digest("o/tool", "v1.0.0", "tool_1.0.0_amd64");
    bench.fails(&[
        "tool 1.0.0 x86-64: cannot trust tool_1.0.0_amd64",
        "has SHA-256",
        "but the release says",
        "do not publish it",
    ]);
}

#[test]
fn an_asset_that_changed_on_the_way_is_refused() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.corrupt_asset("o/tool", "v1.0.0", "tool_1.0.0_amd64");
    bench.fails(&["has SHA-256", "but the release says"]);
}

#[test]
fn a_truncated_asset_is_refused() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    let fault = Fault::Truncate(0);
    bench.github.asset_fault("o/tool", "v1.0.0", "tool_1.0.0_amd64", fault, usize::MAX);
    bench.fails(&["ended early"]);
}

#[test]
fn an_old_asset_without_a_digest_is_taken() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.no_digest("o/tool", "v1.0.0", "tool_1.0.0_amd64");
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0"]);
}

#[test]
fn a_release_without_the_asset_says_what_it_has() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.release(
        "o/tool",
        Release::new("v1.1.0").asset("tool_1.1.0_arm64", "x").asset("sums", "y"),
    );
    let ran = bench.repo.sync().code(3).says(&[
        "v1.1.0: the release has no asset `tool_1.1.0_amd64`",
        "it has tool_1.1.0_arm64, sums",
    ]);
    assert_eq!(bench.versions(), ["1.0.0"], "{ran}");
}

#[test]
fn an_exhausted_quota_is_told_at_once() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.rate_limit(0, SystemTime::now() + FAR);
    let started = Instant::now();
    bench.fails(&["API rate limit exceeded", "too many requests until 2", "set GITHUB_TOKEN"]);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.github.requests().len(), 1, "asking again would not help");
}

#[test]
fn a_quota_that_comes_back_in_a_moment_is_waited_for() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.secondary_limit(1, 1);
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0"]);
}

#[test]
fn a_secondary_limit_far_away_is_told_at_once() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.secondary_limit(3600, usize::MAX);
    let started = Instant::now();
    bench.fails(&["secondary rate limit", "too many requests until 2"]);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_wrong_token() {
    let mut bench = Bench::new();
    bench.repo.env("GITHUB_TOKEN", "ghp_expired");
    bench.github.require_token(TOKEN);
    bench.publish("v1.0.0");
    bench.fails(&["github said of o/tool: Bad credentials", "401", "GITHUB_TOKEN holds a token"]);
}

#[test]
fn a_repository_that_there_is_none_of() {
    let bench = Bench::new();
    bench.follow("o/tol", "");
    bench.fails(&[
        "github said of o/tol: Not Found",
        "404",
        "check [source.github] repo; a private one needs GITHUB_TOKEN",
    ]);
}

#[test]
fn a_repository_without_releases_is_no_news() {
    let bench = Bench::new();
    bench.fails(&["github lists no release of o/tool"]);
}

#[test]
fn a_private_repository_needs_a_token() {
    let mut bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.private("o/tool");
    bench.fails(&["Not Found", "a private one needs GITHUB_TOKEN"]);
    // With the token the list is there, and the assets must be, too: the web site does not know tokens.
    bench.repo.env("GITHUB_TOKEN", TOKEN);
    bench.github.require_token(TOKEN);
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0"]);
    for request in bench.github.storage_requests() {
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn a_hiccup_is_nothing() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.github.fail(502, 1);
    bench.github.api_fault("/*", Fault::Reset, 1);
    bench.github.asset_fault("o/tool", "v1.0.0", "tool_1.0.0_amd64", Fault::Status(503), 1);
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0"]);
}

#[test]
fn a_github_that_is_down() {
    // At once, because each waits before it tries again.
    std::thread::scope(|scope| {
        for status in [500, 502, 503] {
            scope.spawn(move || {
                let bench = Bench::new();
                bench.publish("v1.0.0");
                bench.github.fail(status, usize::MAX);
                bench.fails(&["o/tool", &status.to_string(), "the next sync tries again"]);
                assert_eq!(bench.github.requests().len(), 3);
            });
        }
    });
}

#[test]
fn a_github_that_is_not_there_at_all() {
    let Bench { github, repo } = Bench::new();
    let api = github.api();
    drop(github);
    let ran = repo.sync().code(3).says(&["error: tool", "cannot reach", "o/tool", "hint: "]);
    assert_eq!(repo.listed("good").len(), 1, "{ran}");
    assert!(
        ran.stderr.contains(api.trim_start_matches("http://"))
            || ran.stderr.contains("onnection refused"),
        "{ran}"
    );
}

#[test]
fn an_answer_that_is_none() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    let html = Fault::Answer {
        status: 200,
        headers: vec![("content-type".to_owned(), "text/html".to_owned())],
        body: "<html>log in to the hotel network</html>".to_owned(),
    };
    bench.github.api_fault("/*", html, usize::MAX);
    bench.fails(&["cannot read github's answer about o/tool", "check GITHUB_API_URL"]);
}

#[test]
fn a_listing_that_stalls() {
    let bench = Bench::new();
    let config = std::fs::read_to_string(bench.repo.path("publish.toml")).unwrap();
    bench.repo.write("publish.toml", config.replace("\"5s\"", "\"500ms\""));
    bench.publish("v1.0.0");
    bench.github.api_fault("/*", Fault::Stall, usize::MAX);
    bench.fails(&["o/tool"]);
}

#[test]
fn a_repository_that_moved_is_followed() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    bench.follow("old/name", "");
    bench.github.moved("old/name", "o/tool");
    let ran = bench
        .repo
        .sync()
        .ok()
        .says(&["warning: tool: old/name moved to o/tool; write that in [source.github] repo"]);
    assert_eq!(ran.stderr.matches("moved to").count(), 1, "{ran}");
    assert_eq!(bench.versions(), ["1.0.0"]);
    let before = bench.repo.snapshot();
    bench.github.clear_requests();
    bench.repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(bench.repo.snapshot(), before);
    assert_eq!(
        bench.github.requests().last().unwrap().status,
        304,
        "the second sync is free here, too"
    );
}

#[test]
fn a_cooldown_counts_from_the_releases_date() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    let now = crate::web::seconds(SystemTime::now()).cast_unsigned();
    bench
        .github
        .release("o/tool", Bench::release("v1.1.0").published(&crate::web::iso_date(now - 3600)));
    bench.follow("o/tool", "min-age = \"2d\"");
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0"]);
    bench.repo.publish(&["plan", "-v"]).ok().prints(&["v1.1.0  out: younger than `min-age`"]);
    bench.follow("o/tool", "min-age = \"30m\"");
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0", "1.1.0"]);
}

#[test]
fn a_name_in_a_release_is_not_a_path_here() {
    let bench = Bench::new();
    bench.repo.component(
        "tool",
        "[source.github]\nrepo = \"o/tool\"\n[[asset]]\nname = \"tool\"\n[asset.files]\n\"usr/bin/\" = \"*\"\n",
    );
    bench
        .github
        .release("o/tool", Release::new("v1.0.0").asset("tool", "x").asset("../../evil", "y"));
    bench.repo.sync().ok();
    assert!(!bench.repo.path("evil").exists());
}

/// A component that follows tags, and gets its files elsewhere.
fn follow_tags(bench: &Bench, source: &str, files: &Web) {
    bench.repo.component(
        "tool",
        &format!(
            "[source.github]\nrepo = \"o/tool\"\ntags = true\n{source}\n[versions]\nnewest = 2\n[[asset]]\nurl = \"{}/tool-{{version}}\"\n[asset.files]\n\"usr/bin/tool\" = \"tool-{{version}}\"\n",
            files.url()
        ),
    );
}

#[test]
fn tags_are_followed_where_there_are_no_releases() {
    let bench = Bench::new();
    bench.fails(&["github lists no release of o/tool", "`tags = true`"]);
    let files = Web::start();
    for number in 0..7 {
        bench.github.tag("o/tool", &format!("v1.{number}.0"));
        files.put(&format!("/tool-1.{number}.0"), "tool");
    }
    bench.github.tag("o/tool", "nightly");
    bench.github.page_size(3);
    follow_tags(&bench, "", &files);
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.5.0", "1.6.0"]);
    let before = bench.repo.snapshot();
    bench.github.clear_requests();
    bench.repo.sync().ok().prints(&["nothing to do"]);
    let asked = bench.github.requests();
    assert!(asked.len() == 3 && asked.iter().all(|request| request.status == 304), "{asked:?}");
    assert_eq!(bench.repo.snapshot(), before);
    bench.github.moved("old/name", "o/tool");
    let text = std::fs::read_to_string(bench.repo.path("components/tool.toml")).unwrap();
    bench.repo.component("tool", &text.replace("o/tool", "old/name"));
    bench.repo.sync().ok().says(&["warning: tool: old/name moved to o/tool"]);
    bench.repo.component("tool", &text.replace("newest = 2", "min-age = \"2d\""));
    bench.repo.publish(&["plan"]).code(4).says(&["does not tell when a version was released"]);
}

#[test]
fn as_many_pages_are_read_as_are_wanted() {
    let bench = Bench::new();
    bench.github.page_size(2);
    bench.publish("v2.0.0");
    for number in 0..6 {
        bench.publish(&format!("v1.0.{number}"));
    }
    bench.follow("o/tool", "");
    let text = std::fs::read_to_string(bench.repo.path("components/tool.toml")).unwrap();
    bench.repo.component("tool", &text.replace("[versions]", "pages = 2\n[versions]"));
    bench.repo.sync().ok().prints(&["newest 1.0.5"]);
    assert_eq!(bench.github.requests().len(), 2);
}

/// The stand-in's API is at the root, so the site is one that redirects nothing: the address that is
/// asked shows what became of `url`.
#[test]
fn an_enterprise_has_its_own_address_and_its_own_token() {
    let mut bench = Bench::new();
    let site = Web::start();
    bench.repo.env("GITHUB_TOKEN", TOKEN);
    let text = std::fs::read_to_string(bench.repo.path("components/tool.toml")).unwrap();
    let line = format!("[source.github]\nurl = \"{}\"", site.url());
    bench.repo.component("tool", &text.replace("[source.github]", &line));
    bench.fails(&["GITHUB_TOKEN was not sent, because GITHUB_API_URL does not name 127.0.0.1"]);
    let asked = site.requests();
    assert!(asked[0].path.starts_with("/api/v3/repos/o/tool/releases?"), "{}", asked[0].path);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(bench.github.requests().len(), 0);

    // One that is named for it.
    bench.repo.env("GH_ENTERPRISE_TOKEN", "ghe_token");
    bench.repo.env("GH_HOST", &site.url());
    site.clear_requests();
    bench.fails(&["a private one needs GH_ENTERPRISE_TOKEN to have access to it"]);
    for asked in site.requests() {
        assert_eq!(asked.header("authorization"), Some("Bearer ghe_token"));
    }
    // An action on an Enterprise is given its token as GITHUB_TOKEN, with its address.
    bench.repo.env("GH_ENTERPRISE_TOKEN", "");
    bench.repo.env("GITHUB_API_URL", &format!("{}/api/v3", site.url()));
    site.clear_requests();
    bench.fails(&["a private one needs GITHUB_TOKEN to have access to it"]);
    for asked in site.requests() {
        assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {TOKEN}")));
    }
}

#[test]
fn hostile_tags_spoil_nothing() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    let long = format!("v1.{}", "0".repeat(10_000));
    for tag in ["v1.0.1/../../x", "v1.0.2%2e", "v1.0.3\nv9", "v1.0.4\u{1b}[2J", &long] {
        bench.github.release("o/tool", Release::new(tag));
    }
    let ran = bench.repo.sync().code(3).says(&["3 releases have no name that can be shown"]);
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains(&long), "{ran}");
    assert_eq!(bench.versions(), ["1.0.0"]);
}

#[test]
fn pages_that_go_in_a_circle_end() {
    let bench = Bench::new();
    bench.publish("v1.0.0");
    let next = format!("<{}/repositories/1/releases?page=2>; rel=\"next\"", bench.github.api());
    let page = Fault::Answer {
        status: 200,
        headers: vec![("link".to_owned(), next)],
        body: "[]".to_owned(),
    };
    bench.github.api_fault("/*", page, usize::MAX);
    bench.fails(&["o/tool: its pages go in a circle"]);
    assert_eq!(bench.github.requests().len(), 2);
}

/// A mirror that `rewrite` names is another server than the one that the token is for.
#[test]
fn a_token_does_not_follow_a_rewrite() {
    let mut bench = Bench::new();
    bench.publish("v1.0.0");
    let api = bench.github.api();
    bench.repo.env("GITHUB_TOKEN", TOKEN);
    bench.repo.env("GITHUB_API_URL", "https://api.example.org");
    let config = std::fs::read_to_string(bench.repo.path("publish.toml")).unwrap();
    let rewrite = format!("[network]\nrewrite = {{ \"https://api.example.org\" = \"{api}\" }}\n");
    bench.repo.write("publish.toml", config.replacen("[network]\n", &rewrite, 1));
    bench.repo.sync().ok().prints(&["newest 1.0.0"]);
    assert!(!bench.github.requests().is_empty());
    for request in bench.github.requests() {
        assert_eq!(request.header("authorization"), None, "{}", request.path);
    }
}

/// What GitHub says in a form that nobody here can compare vouches for nothing, and is not passed over.
#[test]
fn a_digest_of_an_unknown_form_is_told_and_vouches_for_nothing() {
    let bench = Bench::new();
    bench.github.release("o/tool", Bench::release("v1.0.0"));
    bench.github.digest("o/tool", "v1.0.0", "tool_1.0.0_amd64", "blake3:\u{1b}0000");
    let told = [
        "warning: tool: github's digest of tool_1.0.0_amd64 cannot be read (`blake3:\\u{1b}0000`)",
        "unverified",
    ];
    for command in ["plan", "status", "sync"] {
        bench.repo.publish(&[command]).says(&told);
    }
    assert_eq!(bench.repo.listed("tool"), ["tool-1.0.0-x86-64.raw"]);

    let text = fs::read_to_string(bench.repo.path("publish.toml")).unwrap();
    bench.repo.write("publish.toml", format!("{text}[trust]\nrequire = \"digest\"\n"));
    fs::remove_dir_all(bench.repo.path("public")).unwrap();
    bench.repo.sync().code(3).says(&told).says(&["nothing vouches for it"]);
    assert!(!bench.repo.path("public/tool").exists());
}
