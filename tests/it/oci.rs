//! Assets that are container images.

use std::path::Path;

use serde_json::{Value, json};

use crate::pack::Tar;
use crate::registry::{GZIP, PLAIN, Registry, ZSTD};
use crate::repo::Repo;
use crate::web::Web;

struct Scene {
    registry: Registry,
    repo: Repo,
    web: Web,
}

const WHOLE: &str = "\"usr\" = \"usr\"";

impl Scene {
    fn new(files: &str) -> Self {
        let (registry, web) = (Registry::start(), Web::start());
        let rewrite =
            format!("[network]\nrewrite = {{ \"https://ghcr.io/\" = \"{}/\" }}\n", registry.url());
        let scene = Self { registry, repo: Repo::with(&rewrite), web };
        scene.web.put("/versions", "v1.0;");
        scene.component(files);
        scene
    }

    fn component(&self, files: &str) {
        let url = self.web.url();
        let text = format!(
            "[source.http]\nurl = \"{url}/versions\"\nmatch = 'v(?<version>[0-9.]+);'\n\n[[asset]]\noci = \"ghcr.io/o/it:v{{version}}\"\n[asset.files]\n{files}\n"
        );
        self.repo.component("it", &text);
    }

    #[track_caller]
    fn refuses(&self, texts: &[&str]) {
        let ran = self.repo.sync().code(3).says(&["error: it 1.0 x86-64"]).says(texts);
        assert!(!self.repo.path("public/it").exists(), "something was published\n{ran}");
    }

    fn record(&self) -> Value {
        let path = "public/.publish/images/it/it-1.0-x86-64.raw.json";
        serde_json::from_slice(&std::fs::read(self.repo.path(path)).unwrap()).unwrap()
    }
}

fn lower() -> Tar {
    Tar::new()
        .folder("./")
        .file("usr/bin/tool", 0o755, "tool 1")
        .file("usr/lib/it/a", 0o644, "a")
        .file("usr/lib/it/b", 0o644, "b")
        .file("usr/lib/it/sub/c", 0o644, "c")
        .file("usr/share/it/x", 0o644, "x")
        .file("usr/share/it/y", 0o644, "y")
        .symlink("usr/lib/it/kind", "a")
        .file("etc/passwd", 0o644, "root")
        .entry(tar::EntryType::Char, "dev/null", 0o666, "", b"")
}

fn upper() -> Tar {
    Tar::new()
        // A folder whose lower content goes, though what this layer puts there stays.
        .file("usr/share/it/new", 0o644, "new")
        .file("usr/share/it/.wh..wh..opq", 0o644, "")
        .file("usr/lib/it/.wh.a", 0o644, "")
        .file("usr/lib/it/.wh.sub", 0o644, "")
        .hard_link("usr/bin/again", "usr/bin/tool")
        // A link becomes a folder, and a file becomes a link.
        .folder("usr/lib/it/kind/")
        .file("usr/lib/it/kind/d", 0o644, "d")
        .symlink("usr/lib/it/b", "kind/d")
}

#[test]
fn layers_lie_one_on_the_other() {
    let scene = Scene::new(WHOLE);
    let arm = scene
        .registry
        .image("arm64", &[(GZIP, Tar::new().file("usr/bin/tool", 0o755, "arm").gz())]);
    let empty = Tar::new().plain();
    let amd = scene
        .registry
        .image("amd64", &[(GZIP, lower().gz()), (PLAIN, empty), (ZSTD, upper().zst())]);
    scene.registry.tag("o/it:v1.0", &[arm, amd.clone()]);
    scene.repo.sync().ok();
    let image = scene.repo.image("it", "it-1.0-x86-64.raw");
    assert_eq!(
        image.paths(),
        ["usr/bin/again", "usr/bin/tool", "usr/lib/it/b", "usr/lib/it/kind/d", "usr/share/it/new"]
    );
    assert_eq!((image.text("usr/bin/tool"), image.text("usr/bin/again")), ("tool 1", "tool 1"));
    assert_eq!(image.link("usr/lib/it/b"), "kind/d");
    let record = scene.record();
    assert_eq!(record["inputs"].as_array().unwrap().len(), 1);
    assert_eq!(record["inputs"][0]["from"], "ghcr.io/o/it:v1.0");
    assert_eq!(
        format!("sha256:{}", record["inputs"][0]["sha256"].as_str().unwrap()),
        amd["digest"]
    );
    // Nothing new: nothing is asked of the registry.
    let asked = scene.registry.requests().len();
    scene.repo.sync().ok();
    assert_eq!(scene.registry.requests().len(), asked);
    scene.repo.publish(&["verify"]).ok();
}

#[test]
fn an_image_as_a_tool_makes_it() {
    let scene = Scene::new("\"usr\" = \"usr\"");
    scene
        .registry
        .take_layout(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/umoci"), "o/it");
    scene.web.put("/versions", "v1.0;");
    let text = std::fs::read_to_string(scene.repo.path("components/it.toml")).unwrap();
    scene.repo.component("it", &text.replace(":v{version}", ":{version}"));
    scene.repo.sync().ok();
    let image = scene.repo.image("it", "it-1.0-x86-64.raw");
    assert_eq!(image.paths(), ["usr/bin/again", "usr/bin/t", "usr/bin/tool", "usr/share/tool/b"]);
    assert_eq!(image.text("usr/bin/again"), "#!/bin/sh\necho tool\n");
}

#[test]
fn one_file_of_many_layers_is_enough() {
    let scene = Scene::new("\"usr/bin/again\" = \"usr/bin/again\"");
    // The link's content is in a layer of which nothing was wanted.
    let image = scene.registry.image("amd64", &[(GZIP, lower().gz()), (GZIP, upper().gz())]);
    scene.registry.tag_one("o/it:v1.0", &image);
    scene.repo.sync().ok();
    let image = scene.repo.image("it", "it-1.0-x86-64.raw");
    assert_eq!((image.paths(), image.text("usr/bin/again")), (vec!["usr/bin/again"], "tool 1"));
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let scene = Scene::new(WHOLE);
    let layer = Tar::new().file("usr/bin/tool", 0o755, "tool").gz();
    let image = scene.registry.image("amd64", &[(GZIP, layer.clone())]);
    scene.registry.tag("o/it:v1.0", std::slice::from_ref(&image));
    scene.registry.corrupt(&scene.registry.blob(&layer));
    scene.refuses(&["the release says", "hint: "]);
    scene.registry.blob(&layer);
    // An index that names another manifest than the registry gives out.
    let digest = image["digest"].as_str().unwrap();
    let mut lying = image.clone();
    lying["digest"] = json!(format!("sha256:{}", "b".repeat(64)));
    scene.registry.tag("o/it:v1.0", &[lying]);
    scene.refuses(&["404 Not Found"]);
    scene.registry.tag_bytes(digest, b"{}".to_vec());
    scene.registry.tag("o/it:v1.0", &[image]);
    scene.refuses(&["has SHA-256", "ghcr.io/o/it:v1.0 says"]);
}

#[test]
fn what_has_no_use_is_refused_by_name() {
    let scene = Scene::new(WHOLE);
    scene.refuses(&["404 Not Found", "hint: "]);
    let layer = || Tar::new().file("usr/bin/tool", 0o755, "tool").gz();
    let arm = scene.registry.image("arm64", &[(GZIP, layer())]);
    scene.registry.tag("o/it:v1.0", std::slice::from_ref(&arm));
    scene.refuses(&["ghcr.io/o/it:v1.0", "other platforms than linux/amd64"]);
    scene.registry.tag_one("o/it:v1.0", &arm);
    scene.refuses(&["another platform than linux/amd64"]);
    for (layers, text) in [
        (vec![], "it has 0 layers"),
        (vec![("application/vnd.wasm.content.layer.v1+wasm", layer())], "no tar archive"),
        (vec![(GZIP, b"\x1f\x8bno".to_vec())], "gzip stream"),
        (vec![(GZIP, Tar::new().file("../x", 0o644, "").gz())], "leaves the image root"),
        (
            vec![
                (GZIP, lower().gz()),
                (GZIP, Tar::new().file("usr/lib/it/kind/z", 0o644, "").gz()),
            ],
            "goes through the symlink",
        ),
    ] {
        let image = scene.registry.image("amd64", &layers);
        scene.registry.tag("o/it:v1.0", &[image]);
        scene.refuses(&[text]);
    }
    for manifest in
        ["", "[]", "{}", "{\"manifests\": 1}", "{\"layers\":[{\"digest\":\"md5:x\",\"size\":-1}]}"]
    {
        scene.registry.tag_bytes("o/it:v1.0", manifest.into());
        scene.refuses(&["ghcr.io/o/it:v1.0: it"]);
    }
}

#[test]
fn a_tag_that_moved_is_an_alarm() {
    let scene = Scene::new(WHOLE);
    let image = |text| {
        scene.registry.image("amd64", &[(GZIP, Tar::new().file("usr/bin/tool", 0o755, text).gz())])
    };
    scene.registry.tag("o/it:v1.0", &[image("one")]);
    scene.repo.sync().ok();
    scene.registry.tag("o/it:v1.0", &[image("two")]);
    // Nobody looks as long as nothing is to be built.
    scene.repo.sync().ok();
    scene.component("\"opt/it\" = \"usr\"");
    scene.repo.sync().code(3).says(&["upstream replaced ghcr.io/o/it:v1.0", "hint: "]);
    assert_eq!(scene.repo.listed("it"), ["it-1.0-x86-64.raw"]);
}

#[test]
fn what_names_no_image_is_a_mistake_of_the_component() {
    let scene = Scene::new(WHOLE);
    let text = std::fs::read_to_string(scene.repo.path("components/it.toml")).unwrap();
    for (wrong, part) in [
        ("oci = \"alpine:{version}\"", "is not an image in a registry"),
        ("oci = \"ghcr.io/o/it\"", "is not an image in a registry"),
        ("oci = \"ghcr.io/o/it:1\"\nurl = \"https://e.org/\"", "one of `url`, `name` and `oci`"),
        ("oci = \"ghcr.io/o/it:1\"\nsha256 = \"x\"", "hint: to pin one"),
    ] {
        scene.repo.component("it", &text.replace("oci = \"ghcr.io/o/it:v{version}\"", wrong));
        scene.repo.sync().code(4).says(&["components/it.toml", part]);
    }
}
