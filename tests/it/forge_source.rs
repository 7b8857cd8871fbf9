//! Sources `gitlab` and `gitea`: releases and tags, whole listings, and whose token goes where.

use std::time::SystemTime;

use crate::forge::{Forge, Release};
use crate::repo::Repo;
use crate::web::{Fault, Web, iso_date, seconds};

const TOKEN: &str = "glpat-0123456789abcdefghij";

/// A component `tool` that follows a project on a forge.
struct Bench {
    forge: Forge,
    repo: Repo,
    kind: &'static str,
}

impl Bench {
    fn gitlab() -> Self {
        Self::new("gitlab", Forge::gitlab("group/sub/tool"))
    }

    fn gitea() -> Self {
        Self::new("gitea", Forge::gitea("o/tool"))
    }

    fn both() -> [Self; 2] {
        [Self::gitlab(), Self::gitea()]
    }

    fn new(kind: &'static str, forge: Forge) -> Self {
        let bench = Self { forge, repo: Repo::with("[network]\ntimeout = \"5s\"\n"), kind };
        bench.follow("", "");
        bench
    }

    /// The component, with more lines in its source and its versions.
    fn follow(&self, source: &str, versions: &str) {
        self.follow_as(self.project(), source, versions);
    }

    fn project(&self) -> &'static str {
        if self.kind == "gitlab" { "group/sub/tool" } else { "o/tool" }
    }

    fn follow_as(&self, project: &str, source: &str, versions: &str) {
        let field = if self.kind == "gitlab" { "project" } else { "repo" };
        self.repo.component(
            "tool",
            &format!(
                r#"[source.{}]
url = "{}"
{field} = "{project}"
{source}
[versions]
{versions}
[[asset]]
name = "tool-{{version}}"
[asset.files]
"usr/bin/tool" = "tool-{{version}}"
"#,
                self.kind,
                self.forge.url()
            ),
        );
    }

    fn release(tag: &str) -> Release {
        let version = tag.trim_start_matches('v');
        Release::new(tag).asset(&format!("tool-{version}"), &format!("tool {version}"))
    }

    fn publish(&self, tag: &str) {
        self.forge.release(Self::release(tag));
    }

    fn versions(&self) -> Vec<String> {
        let names = self.repo.listed("tool");
        let version =
            |name: &String| name["tool-".len()..].trim_end_matches("-x86-64.raw").to_owned();
        names.iter().map(version).collect()
    }

    #[track_caller]
    fn fails(&self, texts: &[&str]) {
        self.repo.sync().code(3).says(&["error: tool", "hint: "]).says(texts);
    }
}

#[test]
fn releases_become_images_and_drafts_do_not() {
    for bench in Bench::both() {
        for tag in ["v1.0.0", "v1.1.0", "nightly"] {
            bench.publish(tag);
        }
        bench.forge.release(Bench::release("v1.2.0").unpublished());
        bench.repo.sync().ok();
        assert_eq!(bench.versions(), ["1.0.0", "1.1.0"]);
        let image = bench.repo.image("tool", "tool-1.1.0-x86-64.raw");
        assert_eq!(image.text("usr/bin/tool"), "tool 1.1.0");
        // Dated as the release.
        let inspect = ["inspect", "public/tool/tool-1.1.0-x86-64.raw"];
        bench.repo.publish(&inspect).ok().prints(&["2024-01-03T00:00:00Z"]);
        let plan = bench.repo.publish(&["plan", "-v"]).ok().prints(&["nightly"]);
        assert!(!plan.stdout.contains("1.2.0"), "{plan}");

        let before = bench.repo.snapshot();
        bench.forge.clear_requests();
        bench.repo.sync().ok().prints(&["nothing to do"]);
        assert_eq!(bench.repo.snapshot(), before);
        let statuses: Vec<_> =
            bench.forge.requests().iter().map(|request| request.status).collect();
        // Gitea has no validators.
        assert_eq!(statuses, if bench.kind == "gitlab" { [304] } else { [200] });
    }
}

#[test]
fn prereleases_are_marked() {
    let bench = Bench::gitea();
    bench.publish("v1.0.0");
    bench.forge.release(Bench::release("v1.1.0").prerelease());
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0"]);
    bench.follow("", "prerelease = true");
    bench.repo.sync().ok();
    assert_eq!(bench.versions(), ["1.0.0", "1.1.0"]);
}

#[test]
fn a_long_list_is_read_to_its_end_unless_pages_says_less() {
    for bench in Bench::both() {
        bench.forge.page_size(4);
        // The highest version is the oldest release.
        bench.publish("v2.0.0");
        for number in 0..13 {
            bench.publish(&format!("v1.0.{number}"));
        }
        bench.follow("", "newest = 1");
        bench.repo.publish(&["plan"]).ok().prints(&["2.0.0"]);
        assert_eq!(bench.forge.requests().len(), 4, "14 releases, 4 a page");
        bench.forge.clear_requests();
        bench.follow("pages = 2", "newest = 1");
        bench.repo.publish(&["plan"]).ok().prints(&["1.0.12"]);
        assert_eq!(bench.forge.requests().len(), 2);
    }
}

/// A site behind a proxy that it was not told of gives links that lead elsewhere. Nothing is asked of
/// whoever is there: a token goes along with each page.
#[test]
fn the_next_page_is_asked_of_the_same_server() {
    for mut bench in Bench::both() {
        let elsewhere = Web::start();
        bench.forge.page_size(1);
        bench.forge.believes(&elsewhere.url());
        bench.repo.env("GITLAB_TOKEN", TOKEN);
        bench.repo.env("GITLAB_HOST", &bench.forge.url());
        bench.publish("v1.0.0");
        bench.publish("v1.1.0");
        bench.repo.sync().ok();
        assert_eq!(bench.versions(), ["1.0.0", "1.1.0"]);
        assert_eq!(elsewhere.requests().len(), 0);
    }
}

#[test]
fn pages_that_go_in_a_circle_end() {
    for bench in Bench::both() {
        bench.publish("v1.0.0");
        bench.forge.loops();
        bench.fails(&[&format!(
            "{} about {}: its pages go in a circle",
            bench.kind,
            bench.project()
        )]);
    }
}

#[test]
fn tags_are_followed_where_there_are_no_releases() {
    for bench in Bench::both() {
        bench.fails(&["lists no release of", "`tags = true`"]);
        for tag in ["v0.9.0", "v1.0.0", "latest"] {
            bench.forge.tag(tag);
        }
        let web = Web::start();
        for version in ["0.9.0", "1.0.0"] {
            web.put(&format!("/tool-{version}"), version);
        }
        let field = if bench.kind == "gitlab" { "project" } else { "repo" };
        bench.repo.component(
            "tool",
            &format!(
                "[source.{}]\nurl = \"{}/\"\n{field} = \"{}\"\ntags = true\n[versions]\nmin-age = \"2d\"\n[[asset]]\nurl = \"{}/tool-{{version}}\"\n[asset.files]\n\"usr/bin/tool\" = \"tool-{{version}}\"\n",
                bench.kind,
                bench.forge.url(),
                bench.project(),
                web.url()
            ),
        );
        bench.repo.sync().ok();
        assert_eq!(bench.versions(), ["0.9.0", "1.0.0"]);
    }
}

#[test]
fn a_cooldown_counts_from_the_releases_date() {
    for bench in Bench::both() {
        bench.publish("v1.0.0");
        let now = seconds(SystemTime::now()).cast_unsigned();
        bench.forge.release(Bench::release("v1.1.0").published(&iso_date(now - 3600)));
        bench.follow("", "min-age = \"2d\"");
        bench.repo.sync().ok();
        assert_eq!(bench.versions(), ["1.0.0"]);
    }
}

#[test]
fn a_project_that_moved_is_followed_and_its_name_is_told() {
    for bench in Bench::both() {
        bench.publish("v1.0.0");
        let old = if bench.kind == "gitlab" { "old/tool" } else { "old/name" };
        bench.forge.moved_from(old);
        bench.follow_as(old, "", "");
        let ran = bench.repo.sync().ok().says(&[&format!(
            "warning: tool: {old} moved to {}; write that in [source.{}]",
            bench.project(),
            bench.kind
        )]);
        assert_eq!(ran.stderr.matches("moved to").count(), 1, "{ran}");
        assert_eq!(bench.versions(), ["1.0.0"]);
        bench.follow("", "");
        let ran = bench.repo.sync().ok();
        assert!(!ran.stderr.contains("moved"), "{ran}");
    }
}

/// A token, its site, and a private project.
#[test]
fn a_token_opens_a_private_project_and_goes_to_its_own_site_alone() {
    for (mut bench, token, site) in [
        (Bench::gitlab(), "GITLAB_TOKEN", "GITLAB_HOST"),
        (Bench::gitlab(), "CI_JOB_TOKEN", "CI_SERVER_URL"),
        (Bench::gitea(), "GITEA_TOKEN", "GITEA_SERVER_URL"),
        (Bench::gitea(), "FORGEJO_TOKEN", "FORGEJO_SERVER_URL"),
    ] {
        let elsewhere = Web::start();
        bench.forge.private(TOKEN);
        bench.forge.release(
            Bench::release("v1.0.0").link("elsewhere", &format!("{}/file", elsewhere.url())),
        );
        bench.fails(&["404 Not Found", "check [source.", "a private one needs "]);
        bench.repo.env(token, TOKEN);
        bench.fails(&[&format!("{token} was not sent, because {site} does not name 127.0.0.1")]);
        // A bare host is one that is reached by https.
        bench.repo.env(site, &bench.forge.host());
        bench.fails(&[&format!("{token} was not sent")]);
        assert!(bench.forge.requests().iter().all(|asked| asked.header("authorization").is_none()));
        bench.repo.env(site, &bench.forge.url());
        let ran = bench.repo.publish(&["-vv", "sync"]).ok();
        assert!(!ran.stderr.contains(TOKEN) && !ran.stdout.contains(TOKEN), "{ran}");
        // The very file: not the page to log in at.
        let image = bench.repo.image("tool", "tool-1.0.0-x86-64.raw");
        assert_eq!(image.text("usr/bin/tool"), "tool 1.0.0");

        // A file that lies elsewhere is fetched without it.
        elsewhere.put("/file", "elsewhere");
        let text = std::fs::read_to_string(bench.repo.path("components/tool.toml")).unwrap();
        let text = text.replace("name = \"tool-{version}\"", "name = \"elsewhere\"");
        let text = text.replace("= \"tool-{version}\"", "= \"*\"");
        bench.repo.component("tool", &text);
        bench.repo.sync().ok();
        let asked = elsewhere.requests();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
        for (path, (bytes, ..)) in bench.repo.snapshot() {
            assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "{path}");
        }
    }
}

#[test]
fn a_wrong_token_is_told_by_its_name() {
    for (mut bench, token, site) in [
        (Bench::gitlab(), "GITLAB_TOKEN", "GITLAB_HOST"),
        (Bench::gitea(), "GITEA_TOKEN", "GITEA_SERVER_URL"),
    ] {
        bench.publish("v1.0.0");
        bench.forge.private(TOKEN);
        bench.repo.env(token, "wrong");
        bench.repo.env(site, &bench.forge.url());
        bench.fails(&["401 Unauthorized", &format!("{token} holds a token that is not accepted")]);
        bench.repo.env(token, "no\u{1}token");
        bench.fails(&[&format!("{token} holds characters that no token has")]);
    }
}

#[test]
fn gitlabs_sources_are_assets_too() {
    let bench = Bench::gitlab();
    bench.publish("v1.0.0");
    bench.repo.component(
        "tool",
        &format!(
            "[source.gitlab]\nurl = \"{}\"\nproject = \"group/sub/tool\"\n[[asset]]\nname = \"tool-v{{version}}.tar\"\n[asset.files]\n\"usr/share/source\" = \"source\"\n",
            bench.forge.url()
        ),
    );
    bench.repo.sync().ok();
    let image = bench.repo.image("tool", "tool-1.0.0-x86-64.raw");
    assert_eq!(image.text("usr/share/source"), "source of v1.0.0");
}

#[test]
fn a_guest_of_gitlab_is_told_why_there_are_no_tags() {
    let bench = Bench::gitlab();
    bench.publish("v1.0.0");
    bench.forge.hides_tags();
    bench.fails(&["a release has no tag", "the token needs that right"]);
}

#[test]
fn answers_that_are_none_are_errors() {
    for bench in Bench::both() {
        bench.publish("v1.0.0");
        bench.repo.sync().ok();
        // What upstreams answered is nothing that is published.
        let published = || {
            let mut all = bench.repo.snapshot();
            all.retain(|path, _| path != ".publish" && !path.starts_with(".publish/upstream"));
            all
        };
        let before = published();
        let answer =
            |body: &str| Fault::Answer { status: 200, headers: Vec::new(), body: body.to_owned() };
        let deep = "[".repeat(50_000);
        for body in ["<html>log in</html>", "{}", "[7]", "[", "null", "", &deep] {
            bench.forge.fault("/api/*", answer(body), 1);
            bench.fails(&["cannot read the answer of", "check `url` in the component"]);
        }
        bench.forge.fault("/api/*", answer("[]"), 1);
        bench.fails(&["lists no release of"]);
        assert_eq!(published(), before);
    }
}

/// Names that no file has, and no terminal should see.
#[test]
fn hostile_tags_spoil_nothing() {
    for bench in Bench::both() {
        bench.publish("v1.0.0");
        let long = format!("v1.{}", "0".repeat(10_000));
        for tag in ["v1.0.1/../../x", "v1.0.2%2e", "v1.0.3\nv9", "v1.0.4\u{1b}[2J", "", &long] {
            bench.forge.release(Release::new(tag));
        }
        let ran = bench.repo.sync().code(3).says(&["4 releases have no name that can be shown"]);
        assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains(&long), "{ran}");
        assert_eq!(bench.versions(), ["1.0.0"]);
        let plan = bench.repo.publish(&["plan", "-v"]);
        assert!(!plan.stdout.contains('\u{1b}') && plan.stdout.len() < 10_000, "{plan}");
    }
}
