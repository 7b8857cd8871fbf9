//! The pages about sources: every example is one that works.

use std::fs;
use std::path::Path;

use publish::config::component;

use crate::pack::zip;
use crate::repo::Repo;
use crate::web::{Web, sha256};

const PAGES: [&str; 7] = ["github", "gitlab", "gitea", "git", "http", "command", "directory"];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/sources/{name}.md"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The examples of a page about a source.
fn examples(name: &str) -> Vec<String> {
    examples_in(&page(name))
}

fn examples_in(page: &str) -> Vec<String> {
    let blocks = page.split("\n```toml\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_example_is_a_component() {
    let mut count = 0;
    for name in PAGES {
        let examples = examples(name);
        assert!(!examples.is_empty(), "{name}.md has no example");
        for text in examples {
            let parsed =
                component::parse("x".parse().unwrap(), Path::new("components/x.toml"), &text);
            let parsed = parsed.unwrap_or_else(|error| panic!("{name}.md:\n{error}"));
            let table = format!("{:?}", parsed.source).to_lowercase();
            assert!(table.starts_with(name), "{name}.md has an example of another source: {table}");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

/// The page about `[build]` is as good.
#[test]
fn every_example_of_a_command_is_a_component() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/build.md");
    let examples = examples_in(&fs::read_to_string(path).unwrap());
    assert!(examples.len() >= 3, "{}", examples.len());
    for text in examples {
        let parsed = component::parse("x".parse().unwrap(), Path::new("components/x.toml"), &text);
        let parsed = parsed.unwrap_or_else(|error| panic!("build.md:\n{error}"));
        assert!(parsed.build.is_some() || parsed.test.is_some(), "{text}");
    }
}

#[test]
fn every_source_has_a_page_in_both_lists() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for name in PAGES {
        assert!(page("README").contains(&format!("[`[source.{name}]`]({name}.md)")), "{name}");
        let link = format!("[`[source.{name}]`](docs/sources/{name}.md)");
        assert!(readme.contains(&link), "{name}");
    }
}

/// An example, with a server in the place of its upstream.
fn run(example: &str, hosts: &[&str], files: &[(&str, Vec<u8>)]) -> Repo {
    let web = Web::start();
    let rewrite: Vec<String> = hosts
        .iter()
        .map(|host| format!("\"https://{host}/\" = \"{}/{host}/\"", web.url()))
        .collect();
    let repo = Repo::with(&format!("[network]\nrewrite = {{ {} }}\n", rewrite.join(", ")));
    for (path, body) in files {
        web.put(path, body.clone());
    }
    repo.component("x", example);
    repo.sync().ok();
    repo.publish(&["verify"]).ok();
    repo
}

/// Their page and their API, with versions of the Enterprise in between.
#[test]
fn hashicorp_needs_three_lines() {
    let program = zip(&[("LICENSE.txt", 0o644, "BUSL"), ("consul", 0o755, "consul")]);
    let host = "/releases.hashicorp.com/consul";
    let page = "<ul>\n<li><a href=\"../\">../</a></li>\n<li><a href=\"/consul/1.20.1+ent/\">consul_1.20.1+ent</a></li>\n<li><a href=\"/consul/1.20.1/\">consul_1.20.1</a></li>\n<li><a href=\"/consul/1.20.0-rc1/\">consul_1.20.0-rc1</a></li>\n</ul>";
    let sums = format!("{}  consul_1.20.1_linux_amd64.zip\n", sha256(&program));
    let repo = run(
        &examples("http")[0],
        &["releases.hashicorp.com"],
        &[
            (&format!("{host}/"), page.into()),
            (&format!("{host}/1.20.1/consul_1.20.1_SHA256SUMS"), sums.into()),
            (&format!("{host}/1.20.1/consul_1.20.1_linux_amd64.zip"), program),
        ],
    );
    assert_eq!(repo.listed("x"), ["x-1.20.1-x86-64.raw"]);

    let program = zip(&[("nomad", 0o755, "nomad")]);
    let host = "/releases.hashicorp.com/nomad/1.9.3";
    let sums = format!("{}  nomad_1.9.3_linux_amd64.zip\n", sha256(&program));
    let list = r#"[{"builds":[],"is_prerelease":true,"name":"nomad","timestamp_created":"2024-11-12T10:00:00.000Z","version":"1.9.4-rc.1"},
        {"builds":[{"arch":"amd64","os":"linux","url":"x"}],"is_prerelease":false,"name":"nomad","timestamp_created":"2024-11-11T16:31:25.316Z","version":"1.9.3"}]"#;
    let repo = run(
        examples("http").iter().find(|example| example.contains("api.releases")).unwrap(),
        &["releases.hashicorp.com", "api.releases.hashicorp.com"],
        &[
            (
                "/api.releases.hashicorp.com/v1/releases/nomad?license_class=oss&limit=20",
                list.into(),
            ),
            (&format!("{host}/nomad_1.9.3_SHA256SUMS"), sums.into()),
            (&format!("{host}/nomad_1.9.3_linux_amd64.zip"), program),
        ],
    );
    assert_eq!(repo.listed("x"), ["x-1.9.3-x86-64.raw"]);
    repo.publish(&["inspect", "public/x/x-1.9.3-x86-64.raw"]).ok().prints(&["2024-11-11T16:31:25"]);
}

/// Two branches of Kubernetes, each with a text that says which version is stable.
#[test]
fn a_stable_text_for_each_branch() {
    let host = "/dl.k8s.io/release";
    let program = |version: &str| {
        let path = format!("{host}/v{version}/bin/linux/amd64/kubectl");
        [
            (format!("{path}.sha256"), sha256(version.as_bytes()).into_bytes()),
            (path, version.into()),
        ]
    };
    let mut files = vec![
        (format!("{host}/stable-1.33.txt"), b"v1.33.5".to_vec()),
        (format!("{host}/stable-1.34.txt"), b"v1.34.1".to_vec()),
    ];
    files.extend(["1.33.5", "1.34.1"].iter().flat_map(|version| program(version)));
    let files: Vec<_> = files.iter().map(|(path, body)| (path.as_str(), body.clone())).collect();
    let repo = run(
        examples("http").iter().find(|example| example.contains("stable-1.33")).unwrap(),
        &["dl.k8s.io"],
        &files,
    );
    assert_eq!(repo.listed("x"), ["x-1.33.5-x86-64.raw", "x-1.34.1-x86-64.raw"]);
}
