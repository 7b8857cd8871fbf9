//! The same version, made otherwise: published as a revision of it, never under the same name.

use std::fs;

use crate::github::{GitHub, Release};
use crate::repo::{Ran, Repo};
use crate::web::{Web, sha256};

/// One component with one release that is out.
fn published() -> Repo {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    repo
}

/// Adds lines to the component's file.
fn edit(repo: &Repo, lines: &str) {
    let path = repo.path("components/x.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{text}\n{lines}\n")).unwrap();
}

fn nothing_to_do(repo: &Repo) {
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn a_changed_recipe_is_a_revision() {
    let repo = published();
    let first = fs::read(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    edit(&repo, "[files]\n\"usr/share/x/version\" = { text = \"{version}\" }");
    repo.publish(&["plan"]).ok().prints(&[
        "1 image to build, 1 line to take out",
        "x-1.0-r1-x86-64.raw  the recipe changed",
        "x-1.0-x86-64.raw     out: newer ones took its place",
    ]);
    repo.sync().ok().prints(&["x-1.0-r1-x86-64.raw", "the recipe changed", "newest 1.0-r1"]);
    assert_eq!(repo.listed("x"), ["x-1.0-r1-x86-64.raw"]);
    let image = repo.image("x", "x-1.0-r1-x86-64.raw");
    assert_eq!(image.text("usr/share/x/version"), "1.0", "texts have upstream's version");
    assert!(
        image.files.contains_key("usr/lib/extension-release.d/extension-release.x-1.0-r1-x86-64")
    );
    assert_eq!(fs::read(repo.path("public/x/x-1.0-x86-64.raw")).unwrap(), first, "for the grace");
    repo.publish(&["verify"]).code(0);
    nothing_to_do(&repo);

    edit(&repo, "\"usr/share/x/more\" = { text = \"more\" }");
    repo.sync().ok().prints(&["x-1.0-r2-x86-64.raw"]);
    assert_eq!(repo.listed("x"), ["x-1.0-r2-x86-64.raw"]);
    nothing_to_do(&repo);

    // Back to an earlier recipe is forward for nodes.
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &text[..text.find("[files]\n\"usr/share").unwrap()]);
    repo.sync().ok().prints(&["x-1.0-r3-x86-64.raw"]);
    nothing_to_do(&repo);
    repo.release("x", "1.0.1", "next");
    repo.sync().ok().prints(&["x-1.0.1-x86-64.raw", "new version", "newest 1.0.1"]);
    assert_eq!(repo.listed("x"), ["x-1.0-r3-x86-64.raw", "x-1.0.1-x86-64.raw"]);
    nothing_to_do(&repo);
}

#[test]
fn a_changed_overlay_is_a_revision() {
    let repo = published();
    repo.write("components/x/usr/lib/x.conf", "a");
    repo.sync().ok().prints(&["x-1.0-r1-x86-64.raw"]);
    repo.write("components/x/notes", "not in the image");
    nothing_to_do(&repo);
    repo.write("components/x/usr/lib/x.conf", "b");
    repo.sync().ok().prints(&["x-1.0-r2-x86-64.raw"]);
    assert_eq!(repo.image("x", "x-1.0-r2-x86-64.raw").text("usr/lib/x.conf"), "b");
    nothing_to_do(&repo);
}

#[test]
fn what_changes_no_byte_builds_nothing() {
    let repo = published();
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("description = \"X\"\nhomepage = \"https://e.org/\"\n{text}\n[versions]\nnewest = 2\n[extension]\nid = \"_any\"\n"));
    let offered = || {
        let mut all = repo.snapshot();
        all.retain(|path, _| path.contains(".raw") || path.ends_with("SHA256SUMS"));
        all
    };
    let before = offered();
    // The files for nodes have the description.
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(offered(), before);
    nothing_to_do(&repo);
}

#[test]
fn every_version_that_is_held_gets_its_revision() {
    let repo = published();
    for version in ["1.1", "1.2"] {
        repo.release("x", version, version);
    }
    repo.sync().ok();
    edit(
        &repo,
        "[services]\nenable = [\"x.service\"]\n[files]\n\"usr/lib/systemd/system/x.service\" = { text = \"[Service]\\nExecStart=/usr/bin/x\\n\" }",
    );
    repo.sync().ok().prints(&["published 3 images", "took 3 lines out"]);
    assert_eq!(
        repo.listed("x"),
        ["x-1.0-r1-x86-64.raw", "x-1.1-r1-x86-64.raw", "x-1.2-r1-x86-64.raw"],
        "three versions, whatever their revisions"
    );
    nothing_to_do(&repo);
}

#[test]
fn a_recipe_that_cannot_be_built_takes_nothing_away() {
    let repo = published();
    let before = repo.manifest("x");
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &text.replace("\"usr/bin/x\" = \"x-", "\"usr/bin/x\" = \"y-"));
    repo.sync().code(3).says(&["error: x 1.0-r1 x86-64"]);
    assert_eq!(repo.manifest("x"), before);
    repo.component("x", &text);
    nothing_to_do(&repo);
}

#[test]
fn an_image_without_a_record_is_left_alone() {
    let repo = published();
    let record = "public/.publish/images/x/x-1.0-x86-64.raw.json";
    let text = fs::read_to_string(repo.path(record)).unwrap();
    fs::remove_file(repo.path(record)).unwrap();
    edit(&repo, "[files]\n\"usr/share/x/version\" = { text = \"{version}\" }");
    nothing_to_do(&repo);
    // Nor one whose record is of the first format, which did not say by what recipe.
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["release", "revision", "recipe"] {
        value.as_object_mut().unwrap().remove(key).unwrap();
    }
    value["version"] = 1.into();
    repo.write(record, value.to_string());
    nothing_to_do(&repo);
    repo.write(record, text);
    repo.sync().ok().prints(&["x-1.0-r1-x86-64.raw"]);
}

#[test]
fn an_upstream_whose_versions_break_the_order_is_told() {
    // Upstream calls its own patches so.
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0.0.0", "one");
    repo.release("x", "1.0.0.0-r1", "patched");
    repo.sync().ok();
    nothing_to_do(&repo);
    edit(&repo, "[files]\n\"usr/share/x/v\" = { text = \"{version}\" }");
    let ran = repo.sync().code(3).says(&[
        "error: x 1.0.0.0: it must be published as `1.0.0.0-r1`, but nodes would not sort that beside `1.0.0.0-r1` as they sort `1.0.0.0`",
        "hint: what is published stays as it is; exclude `1.0.0.0-r1`",
    ]);
    assert_eq!(repo.listed("x"), ["x-1.0.0.0-r1-r1-x86-64.raw", "x-1.0.0.0-x86-64.raw"], "{ran}");
}

#[test]
fn a_version_that_would_stand_below_a_revision_is_told() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0.0.0", "one");
    repo.sync().ok();
    edit(&repo, "[files]\n\"usr/share/x/v\" = { text = \"{version}\" }");
    repo.sync().ok().prints(&["x-1.0.0.0-r1-x86-64.raw"]);
    repo.release("x", "1.0.0.0-p1", "patched");
    repo.sync().code(3).says(&[
        "error: x 1.0.0.0-p1: nodes would not sort `1.0.0.0-p1` beside `1.0.0.0-r1`, which is published",
        "exclude `1.0.0.0-p1`",
    ]);
    let releases = repo.path("components/x-releases");
    fs::rename(releases.join("x-1.0.0.0-p1"), releases.join("x-1.0.0.0-r1")).unwrap();
    repo.sync().code(3).says(&["error: x 1.0.0.0-r1: nodes would not sort `1.0.0.0-r1` beside"]);
    assert_eq!(repo.listed("x"), ["x-1.0.0.0-r1-x86-64.raw"]);
    // What is left out anyway disturbs nobody.
    edit(&repo, "[versions]\nexclude = [\"1.0.0.0-r1\"]");
    nothing_to_do(&repo);
}

/// A server with one version, whose file may change behind our back.
fn fetched() -> (Web, Repo) {
    let web = Web::start();
    let repo = Repo::new();
    web.put("/list", "1.0");
    web.put("/x-1.0", "one");
    repo.component(
        "x",
        &format!(
            "[source.http]\nurl = \"{0}/list\"\nmatch = '(?<version>[0-9.]+)'\n[[asset]]\nurl = \"{0}/x-{{version}}\"\n[asset.files]\n\"usr/bin/x\" = \"x-{{version}}\"\n",
            web.url()
        ),
    );
    repo.sync().ok();
    web.put("/x-1.0", "two");
    (web, repo)
}

fn alarmed(ran: Ran, url: &str) {
    ran.code(3).says(&[
        &format!("upstream replaced {url}/x-1.0: it had SHA-256 {} when it was published, and has {} now", sha256(b"one"), sha256(b"two")),
        "hint: what is published stays as it is; find out what happened",
        &format!("accept = {{ \"1.0\" = [\"{}\"] }}", sha256(b"two")),
    ]);
}

#[test]
fn other_bytes_under_the_same_url_are_an_alarm() {
    let (web, repo) = fetched();
    nothing_to_do(&repo);
    let manifest = repo.manifest("x");
    // Whenever it is fetched again: for a new recipe,
    edit(&repo, "[files]\n\"usr/share/x/v\" = { text = \"{version}\" }");
    alarmed(repo.sync(), &web.url());
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    // for another architecture,
    let (web, repo) = fetched();
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", config.replace("[\"x86-64\"]", "[\"x86-64\", \"arm64\"]"));
    alarmed(repo.sync(), &web.url());
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    // for a file that is gone.
    let (web, repo) = fetched();
    fs::remove_file(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    alarmed(repo.sync(), &web.url());
    assert_eq!(repo.manifest("x"), manifest);
    // Until upstream has it again.
    web.put("/x-1.0", "one");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    assert_eq!(repo.manifest("x"), manifest);
}

#[test]
fn what_was_accepted_is_a_revision() {
    let (web, repo) = fetched();
    edit(&repo, &format!("[versions]\naccept = {{ \"1.0\" = [\"{}\"] }}", sha256(b"two")));
    repo.sync().ok().prints(&["x-1.0-r1-x86-64.raw"]);
    assert_eq!(repo.image("x", "x-1.0-r1-x86-64.raw").text("usr/bin/x"), "two");
    nothing_to_do(&repo);
    // Only that.
    web.put("/x-1.0", "three");
    fs::remove_file(repo.path("public/x/x-1.0-r1-x86-64.raw")).unwrap();
    repo.sync().code(3).says(&[&sha256(b"two"), &sha256(b"three")]);
}

#[test]
fn a_release_that_tells_other_digests_is_an_alarm_without_a_download() {
    let mut repo = Repo::new();
    let github = GitHub::start();
    github.repo("o/x");
    let release = |content: &str| {
        github.remove_release("o/x", "v1.0");
        github.release("o/x", Release::new("v1.0").asset("x", content));
    };
    release("one");
    repo.env("GITHUB_API_URL", &github.api());
    repo.component(
        "x",
        "[source.github]\nrepo = \"o/x\"\n[[asset]]\nname = \"x\"\n[asset.files]\n\"usr/bin/x\" = \"x\"\n",
    );
    repo.sync().ok();
    release("two");
    for command in ["sync", "plan", "status"] {
        let ran = repo.publish(&[command]).code(3);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains(&sha256(b"one")) && all.contains(&sha256(b"two")), "{ran}");
    }
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    edit(&repo, &format!("[versions]\naccept = {{ \"1.0\" = [\"{}\"] }}", sha256(b"two")));
    repo.sync()
        .ok()
        .prints(&["x-1.0-r1-x86-64.raw", "upstream replaced a file, and that was accepted"]);
    nothing_to_do(&repo);
}

#[test]
fn a_length_that_changed_is_an_alarm_too() {
    let mut repo = Repo::new();
    let github = GitHub::start();
    github.repo("o/x");
    let release = |content: &str| {
        github.remove_release("o/x", "v1.0");
        github.release("o/x", Release::new("v1.0").asset("x", content));
        github.no_digest("o/x", "v1.0", "x");
    };
    release("one");
    repo.env("GITHUB_API_URL", &github.api());
    repo.component(
        "x",
        "[source.github]\nrepo = \"o/x\"\n[[asset]]\nname = \"x\"\n[asset.files]\n\"usr/bin/x\" = \"x\"\n",
    );
    repo.sync().ok();
    release("three");
    repo.sync().code(3).says(&[
        "error: x v1.0: upstream replaced ",
        "it had 3 bytes when it was published, and has 5 now",
        "accept the new file's SHA-256",
    ]);
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    edit(&repo, &format!("[versions]\naccept = {{ \"1.0\" = [\"{}\"] }}", sha256(b"three")));
    repo.sync().ok().prints(&["x-1.0-r1-x86-64.raw"]);
    nothing_to_do(&repo);
}

#[test]
fn a_lost_file_is_built_again_whatever_the_clock_says() {
    let mut repo = published();
    let before = repo.manifest("x");
    fs::remove_file(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    repo.env("SOURCE_DATE_EPOCH", "1000000000");
    repo.sync().ok().prints(&["listed, but the file is gone"]);
    assert_eq!(repo.manifest("x"), before);
    repo.publish(&["verify"]).ok();
}

#[test]
fn check_builds_again_and_compares() {
    let repo = published();
    let before = repo.snapshot();
    let check = |version: &str| repo.publish(&["build", "--check", "x", version]);
    check("1.0").ok().prints(&["x-1.0-x86-64.raw: same"]);
    assert_eq!(repo.snapshot(), before, "it only looks");
    repo.release("x", "1.0", "two");
    check("1.0").code(3).prints(&[
        "x-1.0-x86-64.raw: different",
        &format!("x-1.0 had SHA-256 {} then, and has {} now", sha256(b"one"), sha256(b"two")),
    ]);
    repo.release("x", "1.0", "one");
    edit(&repo, "[files]\n\"usr/share/x/v\" = { text = \"{version}\" }");
    check("1.0").code(3).prints(&["the recipe is another one"]);
    repo.sync().ok();
    check("1.0-r1").ok().prints(&["x-1.0-r1-x86-64.raw: same"]);
    let ran = check("1.0").says(&["version `1.0` is not published", "published: 1.0-r1"]);
    assert!(!ran.status.success(), "{ran}");
    let ran = repo.publish(&["build", "--check", "x", "1.0-r1", "--json"]).ok();
    assert_eq!(ran.json()["images"][0]["same"], true);
    repo.publish(&["build", "--check", "x"]).code(2);
}

/// The same inputs give the same bytes, also with tomorrow's program: a lost file must be made again
/// as it was. Who has to change what stands here raises `ENGINE`, and every image of every repository
/// is published anew.
#[test]
fn the_engine_makes_the_bytes_it_made() {
    let repo = Repo::new();
    let codecs = ["zstd", "xz", "gzip", "lz4"];
    for codec in codecs {
        repo.simple(codec);
        let path = repo.path(&format!("components/{codec}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}[image]\ncompression = \"{codec}\"\n")).unwrap();
        let content: Vec<String> = (0..20_000).map(|n| format!("{}\n", n * n)).collect();
        repo.release(codec, "1.0", content.concat());
    }
    repo.sync().ok();
    let made = codecs.map(|codec| {
        let manifest = repo.manifest(codec);
        format!("{codec} {}", &manifest[..16])
    });
    assert_eq!((publish::recipe::fingerprint::ENGINE, made.join(", ")), (1, "zstd fdcc81d8ffa3ac66, xz ae8be44d5704752f, gzip 2ae650bbf2eed5bd, lz4 14778f514c6ce511".to_owned()));
}
