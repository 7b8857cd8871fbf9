//! What another project releases, and goes into the same image.

use std::fs;

use crate::repo::Repo;
use crate::web::Web;

const COMPONENT: &str = r#"[source.directory]
path = "k-releases"
match = "k-{version}"

[[companion]]
name = "cni"
[companion.source.directory]
path = "cni-releases"
match = "cni-{version}-{arch}"
[companion.arch]
x86-64 = "amd64"

[[asset]]
name = "k-{version}"
[asset.files]
"usr/bin/k" = "k-{version}"

[[asset]]
of = "cni"
name = "cni-{cni.version}-{cni.arch}"
[asset.files]
"usr/bin/cni" = "cni-{cni.version}-{cni.arch}"

[files]
"usr/share/k/cni" = { text = "{cni.tag} {nats.version}\n" }
"#;

fn scene() -> Repo {
    let repo = Repo::new();
    let text = COMPONENT.replace(" {nats.version}", "");
    repo.component("k", &text);
    repo.write("components/k-releases/k-1.31.0", "k");
    cni(&repo, "1.5.0");
    repo
}

fn cni(repo: &Repo, version: &str) {
    repo.write(&format!("components/cni-releases/cni-{version}-amd64"), format!("cni {version}"));
}

#[test]
fn it_goes_in_once_and_stays() {
    let repo = scene();
    repo.publish(&["plan"]).ok().prints(&[
        "k-1.31.0-x86-64.raw  new version, with cni 1.5.0 (the newest that goes with it)",
    ]);
    let plan = repo.publish(&["plan", "--json"]).ok().json();
    let companion = &plan["components"][0]["builds"][0]["companions"][0];
    assert_eq!((&companion["name"], &companion["release"]), (&"cni".into(), &"1.5.0".into()));
    repo.sync().ok();
    let image = repo.image("k", "k-1.31.0-x86-64.raw");
    assert_eq!(
        (image.text("usr/bin/cni"), image.text("usr/share/k/cni")),
        ("cni 1.5.0", "1.5.0\n")
    );
    let record = "public/.publish/images/k/k-1.31.0-x86-64.raw.json";
    let record = fs::read_to_string(repo.path(record)).unwrap();
    assert!(record.contains("\"companions\"") && record.contains("cni-1.5.0-amd64"), "{record}");

    // A newer one is for newer versions.
    cni(&repo, "1.6.0");
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
    repo.publish(&["build", "k", "1.31.0", "--check"]).ok().prints(&[": same"]);
    repo.write("components/k-releases/k-1.31.1", "k");
    repo.sync().ok();
    assert_eq!(repo.image("k", "k-1.31.1-x86-64.raw").text("usr/bin/cni"), "cni 1.6.0");

    // A changed recipe is a revision with the same companion.
    let text = fs::read_to_string(repo.path("components/k.toml")).unwrap();
    repo.component("k", &text.replace("{cni.tag}", "cni {cni.version}"));
    repo.sync().ok();
    let image = repo.image("k", "k-1.31.0-r1-x86-64.raw");
    assert_eq!(image.text("usr/share/k/cni"), "cni 1.5.0\n");
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn one_that_is_followed_makes_a_revision() {
    let repo = scene();
    let text = fs::read_to_string(repo.path("components/k.toml")).unwrap();
    repo.component("k", &text.replace("name = \"cni\"\n", "name = \"cni\"\nfollow = true\n"));
    repo.sync().ok();
    cni(&repo, "1.6.0");
    repo.sync().ok().prints(&["k-1.31.0-r1-x86-64.raw", "a companion has a newer release"]);
    assert_eq!(repo.image("k", "k-1.31.0-r1-x86-64.raw").text("usr/bin/cni"), "cni 1.6.0");
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn one_that_fits_is_taken_and_none_is_told() {
    let repo = scene();
    let text = fs::read_to_string(repo.path("components/k.toml")).unwrap();
    let matched = |lines: &str| {
        text.replace("[companion.arch]", &format!("[companion.match]\n{lines}\n[companion.arch]"))
    };
    cni(&repo, "1.4.9");
    repo.component("k", &matched("\"1.31\" = \"<1.5\""));
    repo.sync().ok();
    assert_eq!(repo.image("k", "k-1.31.0-x86-64.raw").text("usr/bin/cni"), "cni 1.4.9");
    repo.component("k", &matched("\"*\" = \"~{minor}\""));
    repo.sync().code(3).says(&[
        "error: k 1.31.0: there is no release of the companion `cni` that goes with it",
        "hint: [companion.match] asks for `~{minor}`; it has 1.5.0, 1.4.9",
    ]);
    assert_eq!(repo.listed("k"), ["k-1.31.0-x86-64.raw"]);
}

#[test]
fn a_companion_that_cannot_be_asked_is_named_and_costs_one_request() {
    let (repo, web) = (scene(), Web::start());
    let text = fs::read_to_string(repo.path("components/k.toml")).unwrap();
    let rule =
        "[companion.source.directory]\npath = \"cni-releases\"\nmatch = \"cni-{version}-{arch}\"\n";
    let http = format!(
        "[companion.source.http]\nurl = \"{}/cni\"\nmatch = 'v(?<version>\\S+)'\n",
        web.url()
    );
    let asset = format!("url = \"{}/cni-{{cni.version}}\"", web.url());
    let text = text.replace(rule, &http);
    let text = text.replace("of = \"cni\"\nname = \"cni-{cni.version}-{cni.arch}\"", &asset);
    let text = text.replace("\"cni-{cni.version}-{cni.arch}\"", "\"cni-{cni.version}\"");
    repo.component("k", &text);
    repo.sync().code(3).says(&["error: k: the companion `cni`", "404"]);
    web.put("/cni", "v1.5.0");
    web.put("/cni-1.5.0", "cni");
    repo.sync().ok();
    web.clear_requests();
    repo.sync().ok().prints(&["nothing to do"]);
    let asked: Vec<_> = web.requests().into_iter().map(|r| (r.path, r.status)).collect();
    assert_eq!(asked, [("/cni".to_owned(), 304)]);
}

#[test]
fn what_says_something_of_nobody_gets_a_caret() {
    for (from, to, said) in [
        (
            "name = \"cni-{cni.version}-{cni.arch}\"",
            "name = \"cni-{cin.version}\"",
            "`cni-{cin.version}` says something of `cin`, but no companion is called that",
        ),
        ("of = \"cni\"", "of = \"cin\"", "[[asset]] of: no companion is called `cin`"),
        ("of = \"cni\"", "of = \"cni\"\nurl = \"https://e.org/\"", "an asset has one of"),
        (" {nats.version}", " {nats.version}!", "says something of `nats`"),
        ("name = \"cni\"\n", "name = \"c.ni\"\n", "could not stand before the dot"),
        ("name = \"cni\"\n", "name = \"cni\"\nnewest = 2\n", "unknown field `newest`"),
        (
            "[companion.arch]",
            "[companion.match]\n\"*\" = \"soon\"\n[companion.arch]",
            "`soon` is no requirement",
        ),
        (
            "[companion.arch]",
            "[companion.match]\n\"soon\" = \">=1\"\n[companion.arch]",
            "`soon` names no versions",
        ),
    ] {
        let repo = Repo::new();
        let text = COMPONENT.replace(from, to);
        let text = if from.contains("nats") { text } else { text.replace(" {nats.version}", "") };
        assert_ne!(text, COMPONENT.replace(" {nats.version}", ""), "{from}");
        repo.component("k", &text);
        repo.sync().code(4).says(&["components/k.toml:", said]);
    }
    let repo = Repo::new();
    let twice = "[[companion]]\nname = \"cni\"\nsource.github.repo = \"o/r\"\n";
    let text = COMPONENT.replace(" {nats.version}", "");
    repo.component("k", &text.replace("[files]", &format!("{twice}[files]")));
    repo.sync().code(4).says(&["two companions are called `cni`"]);
}
