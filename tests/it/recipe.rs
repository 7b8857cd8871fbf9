//! Recipes: what the tables of a component make of an asset, seen in the image.

use crate::pack::{Tar, gz, zip};
use crate::repo::{Image, Ran, Repo};
use crate::web::Web;

/// A component that fetches `asset` (its URL's last part) and gets `rest` below `[[asset]]`.
pub struct Bench {
    pub web: Web,
    pub repo: Repo,
}

impl Bench {
    pub fn new(asset: &str, bytes: impl Into<Vec<u8>>, rest: &str) -> Self {
        Self::with("", asset, bytes, rest)
    }

    /// With more sections before the asset.
    pub fn with(sections: &str, asset: &str, bytes: impl Into<Vec<u8>>, rest: &str) -> Self {
        let bench = Self { web: Web::start(), repo: Repo::new() };
        bench.web.put("/versions.json", r#"["1.2.3"]"#);
        bench.web.put(&format!("/{asset}"), bytes);
        let url = bench.web.url();
        bench.repo.component(
            "it",
            &format!(
                "[source.http]\nurl = \"{url}/versions.json\"\nmatch = '\"(?<version>[0-9.]+)\"'\n{sections}\n[[asset]]\nurl = \"{url}/{asset}\"\n{rest}"
            ),
        );
        bench
    }

    pub fn sync(&self) -> Ran {
        self.repo.sync()
    }

    /// The image it makes.
    #[track_caller]
    pub fn image(&self) -> Image {
        self.sync().ok();
        self.repo.image("it", "it-1.2.3-x86-64.raw")
    }

    /// It makes none, and says why.
    #[track_caller]
    pub fn refuses(&self, texts: &[&str]) -> Ran {
        let ran = self.sync().code(3).says(&["error: it 1.2.3 x86-64"]).says(texts);
        assert!(!self.repo.path("public/it").exists(), "something was published\n{ran}");
        ran
    }
}

fn tool() -> Tar {
    Tar::new()
        .folder("tool-1.2.3/")
        .file("tool-1.2.3/tool", 0o755, "#!/bin/sh\n")
        .file("tool-1.2.3/README", 0o600, "read me\n")
        .file("tool-1.2.3/lib/a.so", 0o755, "a")
        .file("tool-1.2.3/lib/b.so", 0o644, "b")
        .file("tool-1.2.3/lib/deep/c.so", 0o644, "c")
        .symlink("tool-1.2.3/lib/current.so", "a.so")
}

const PICK: &str = "strip-components = 1\n[asset.files]\n\"usr/bin/\" = \"tool\"\n";

#[test]
fn every_kind_of_archive_is_told_by_its_bytes() {
    let zipped = zip(&[("tool-1.2.3/tool", 0o755, "#!/bin/sh\n")]);
    // Each under a name that says something else.
    for (name, bytes) in [
        ("tool.zip", tool().gz()),
        ("tool.tar.gz", tool().xz()),
        ("tool.tar.xz", tool().zst()),
        ("tool.bin", tool().bz2()),
        ("tool", tool().plain()),
        ("tool.tgz", zipped),
    ] {
        let image = Bench::new(name, bytes, PICK).image();
        assert_eq!(image.paths(), ["usr/bin/tool"], "{name}");
        assert_eq!(image.text("usr/bin/tool"), "#!/bin/sh\n");
        assert_eq!(image.mode("usr/bin/tool"), 0o755);
    }
}

#[test]
fn a_bare_program_and_a_compressed_one_are_archives_of_one_file() {
    for (name, bytes) in [
        ("tool-linux", b"\x7fELF tool".to_vec()),
        ("tool-linux.gz", gz(b"\x7fELF tool")),
        ("tool-linux.zst", zstd::encode_all(&b"\x7fELF tool"[..], 1).unwrap()),
    ] {
        let image =
            Bench::new(name, bytes, "[asset.files]\n\"usr/bin/tool\" = \"tool-linux\"\n").image();
        assert_eq!(image.bytes("usr/bin/tool"), b"\x7fELF tool", "{name}");
        assert_eq!(image.mode("usr/bin/tool"), 0o755, "{name}");
    }
}

#[test]
fn files_globs_and_folders_go_where_cp_would_put_them() {
    let image = Bench::new(
        "tool.tgz",
        tool().gz(),
        r#"strip-components = 1
[asset.files]
"usr/bin/renamed" = "tool"
"usr/share/doc/tool/" = ["README", "tool"]
"usr/lib/tool/" = "lib/*.so"
"usr/lib/whole" = "lib"
"usr/lib/into/" = "lib"
"opt/all" = "."
"#,
    )
    .image();
    assert_eq!(
        image.paths(),
        [
            "opt/all/README",
            "opt/all/lib/a.so",
            "opt/all/lib/b.so",
            "opt/all/lib/current.so",
            "opt/all/lib/deep/c.so",
            "opt/all/tool",
            "usr/bin/renamed",
            "usr/lib/into/lib/a.so",
            "usr/lib/into/lib/b.so",
            "usr/lib/into/lib/current.so",
            "usr/lib/into/lib/deep/c.so",
            "usr/lib/tool/a.so",
            "usr/lib/tool/b.so",
            "usr/lib/tool/current.so",
            "usr/lib/whole/a.so",
            "usr/lib/whole/b.so",
            "usr/lib/whole/current.so",
            "usr/lib/whole/deep/c.so",
            "usr/share/doc/tool/README",
            "usr/share/doc/tool/tool",
        ]
    );
    assert_eq!(image.link("usr/lib/tool/current.so"), "a.so");
    // What a packager's umask made of a mode does not show.
    assert_eq!(image.mode("usr/share/doc/tool/README"), 0o644);
}

#[test]
fn a_glob_stays_in_its_folder_and_two_stars_do_not() {
    let files = "strip-components = 1\n[asset.files]\n\"usr/lib/tool/\" = \"**/*.so\"\n";
    let image = Bench::new("tool.tgz", tool().gz(), files).image();
    assert_eq!(
        image.paths(),
        ["a.so", "b.so", "c.so", "current.so"].map(|name| format!("usr/lib/tool/{name}"))
    );
}

#[test]
fn several_entries_for_one_name_are_refused() {
    let files = "strip-components = 1\n[asset.files]\n\"usr/lib/tool\" = \"lib/*.so\"\n";
    Bench::new("tool.tgz", tool().gz(), files).refuses(&[
        "lib/*.so",
        "usr/lib/tool",
        "hint: end the name with a slash",
    ]);
}

#[test]
fn modes_texts_links_and_deletions() {
    let image = Bench::new(
        "tool.tgz",
        tool().gz(),
        r#"strip-components = 1
[asset.files]
"usr/bin/" = { from = "tool", mode = "4755" }
"usr/lib/tool" = "lib"
"usr/lib/tool/deep" = { delete = true }

[files]
"usr/share/tool/about" = { text = "{name} {version} {arch} {tag} {not}\n", mode = "0600" }
"usr/bin/t" = { symlink = "tool" }
"usr/lib/tool/b.so" = { delete = true }
"#,
    )
    .image();
    assert_eq!(image.mode("usr/bin/tool"), 0o4755);
    assert_eq!(image.text("usr/share/tool/about"), "it 1.2.3 x86-64 1.2.3 {not}\n");
    assert_eq!(image.mode("usr/share/tool/about"), 0o600);
    assert_eq!(image.link("usr/bin/t"), "tool");
    assert_eq!(
        image.paths(),
        [
            "usr/bin/t",
            "usr/bin/tool",
            "usr/lib/tool/a.so",
            "usr/lib/tool/current.so",
            "usr/share/tool/about"
        ]
    );
}

#[test]
fn a_setuid_bit_of_the_archive_is_not_taken_over() {
    let bytes = Tar::new().file("tool", 0o6777, "x").gz();
    let image = Bench::new("tool.tgz", bytes, "[asset.files]\n\"usr/bin/\" = \"tool\"\n").image();
    assert_eq!(image.mode("usr/bin/tool"), 0o755);
}

#[test]
fn replace_changes_every_occurrence_and_misses_none_silently() {
    let unit = "[Service]\nExecStart=/usr/sbin/d\nExecStop=/usr/sbin/d --stop\n";
    let bytes = || Tar::new().file("d.service", 0o644, unit).gz();
    let files = |from: &str| {
        format!(
            "[asset.files]\n\"usr/lib/systemd/system/d.service\" = {{ from = \"d.service\", replace = {{ \"{from}\" = \"/usr/bin/\" }} }}\n"
        )
    };
    let image = Bench::new("d.tgz", bytes(), &files("/usr/sbin/")).image();
    assert_eq!(
        image.text("usr/lib/systemd/system/d.service"),
        "[Service]\nExecStart=/usr/bin/d\nExecStop=/usr/bin/d --stop\n"
    );
    Bench::new("d.tgz", bytes(), &files("/sbin/x/")).refuses(&[
        "d.service",
        "`/sbin/x/` to replace",
        "hint: ",
    ]);
}

#[test]
fn the_overlay_goes_in_as_it_is() {
    let bench = Bench::new("tool.tgz", tool().gz(), PICK);
    bench.repo.write("components/it/usr/lib/systemd/system/it.service.d/10.conf", "[Service]\n");
    bench.repo.write("components/it/notes.txt", "not for nodes\n");
    std::os::unix::fs::symlink("tool", {
        std::fs::create_dir_all(bench.repo.path("components/it/usr/bin")).unwrap();
        bench.repo.path("components/it/usr/bin/t")
    })
    .unwrap();
    let image = bench.image();
    assert_eq!(
        image.paths(),
        ["usr/bin/t", "usr/bin/tool", "usr/lib/systemd/system/it.service.d/10.conf"]
    );
    assert_eq!(image.link("usr/bin/t"), "tool");
}

#[test]
fn the_overlay_wins_over_the_asset_and_files_over_both() {
    let bench = Bench::new(
        "tool.tgz",
        tool().gz(),
        "strip-components = 1\n[asset.files]\n\"usr/share/\" = [\"README\", \"tool\"]\n[files]\n\"usr/share/tool\" = { text = \"files\" }\n",
    );
    bench.repo.write("components/it/usr/share/README", "overlay");
    bench.repo.write("components/it/usr/share/tool", "overlay");
    let image = bench.image();
    assert_eq!(image.text("usr/share/README"), "overlay");
    assert_eq!(image.text("usr/share/tool"), "files");
}

#[test]
fn a_component_can_do_without_any_asset() {
    let repo = Repo::new();
    repo.simple("conf");
    let text = std::fs::read_to_string(repo.path("components/conf.toml")).unwrap();
    let (source, _) = text.split_once("[[asset]]").unwrap();
    repo.component(
        "conf",
        &format!("{source}[files]\n\"usr/lib/conf\" = {{ text = \"{{version}}\" }}\n"),
    );
    repo.release("conf", "7", "");
    repo.sync().ok();
    assert_eq!(repo.image("conf", "conf-7-x86-64.raw").text("usr/lib/conf"), "7");
}

#[test]
fn enabling_needs_a_unit_that_is_there() {
    let bytes = || {
        Tar::new()
            .file("d.service", 0o644, "[Service]\n")
            .file("t@.service", 0o644, "[Service]\n")
            .gz()
    };
    let rest = |units: &str| {
        format!(
            "[asset.files]\n\"usr/lib/systemd/system/\" = [\"d.service\", \"t@.service\"]\n[services]\nenable = [{units}]\n"
        )
    };
    let image = Bench::new("d.tgz", bytes(), &rest("\"d.service\", \"t@1.service\"")).image();
    let folder = "usr/lib/systemd/system/multi-user.target.d";
    assert_eq!(
        image.text(&format!("{folder}/10-it-d.service.conf")),
        "[Unit]\nUpholds=d.service\n"
    );
    assert_eq!(
        image.text(&format!("{folder}/10-it-t@1.service.conf")),
        "[Unit]\nUpholds=t@1.service\n"
    );
    let release = image.text("usr/lib/extension-release.d/extension-release.it");
    assert!(release.contains("EXTENSION_RELOAD_MANAGER=1"), "units must be read: {release}");

    Bench::new("d.tgz", bytes(), &rest("\"e.service\"")).refuses(&[
        "`e.service`",
        "no such unit",
        "usr/lib/systemd/system",
    ]);
}

#[test]
fn several_assets_and_when() {
    let repo = Repo::new();
    let web = Web::start();
    let url = web.url();
    web.put("/list", "v1.0.0 v2.0.0\n");
    for version in ["1.0.0", "2.0.0"] {
        web.put(
            &format!("/tool-{version}-amd64.tgz"),
            Tar::new().file("tool", 0o755, version).gz(),
        );
        web.put(&format!("/{version}/LICENSE"), format!("license {version}"));
    }
    web.put("/extra", "extra");
    repo.component(
        "tool",
        &format!(
            r#"[source.http]
url = "{url}/list"
match = '(?<version>v[0-9.]+)'
[versions]
tag = "v{{version}}"
[arch]
x86-64 = "amd64"
[[asset]]
url = "{url}/{{name}}-{{version}}-{{arch}}.tgz"
[asset.files]
"usr/bin/" = "{{name}}"
[[asset]]
url = "{url}/{{version}}/LICENSE?tag={{tag}}"
[asset.files]
"usr/share/tool/{{version}}" = "LICENSE"
[[asset]]
url = "{url}/extra"
when = ">=2"
[asset.files]
"usr/bin/" = "extra"
"#
        ),
    );
    let ran = repo.sync();
    // A destination is a path, not a template.
    let ran = ran.ok();
    let old = repo.image("tool", "tool-1.0.0-x86-64.raw");
    let new = repo.image("tool", "tool-2.0.0-x86-64.raw");
    assert_eq!(old.text("usr/bin/tool"), "1.0.0", "{ran}");
    assert_eq!(new.text("usr/bin/tool"), "2.0.0");
    assert!(new.files.contains_key("usr/bin/extra") && !old.files.contains_key("usr/bin/extra"));
    assert!(web.requests().iter().any(|request| request.path == "/2.0.0/LICENSE?tag=v2.0.0"));
    assert!(
        old.paths().iter().any(|path| path.starts_with("usr/share/tool/")),
        "{:?}",
        old.paths()
    );
}

#[test]
fn an_asset_of_all_versions_is_fetched_once() {
    let repo = Repo::new();
    let web = Web::start();
    web.put("/list", "1.0 1.1 1.2");
    web.put("/LICENSE", "license");
    repo.component(
        "x",
        &format!(
            "[source.http]\nurl = \"{0}/list\"\nmatch = '(?<version>[0-9.]+)'\n[[asset]]\nurl = \"{0}/LICENSE\"\n[asset.files]\n\"usr/share/x/\" = \"LICENSE\"\n",
            web.url()
        ),
    );
    repo.sync().ok().prints(&["published 3 images"]);
    let asked = web.requests().into_iter().filter(|request| request.path == "/LICENSE").count();
    assert_eq!(asked, 1);
}

/// Two versions share an asset; its first download fails, and the second version fetches it again
/// while its own asset is on the way. Neither may end up in the other's place.
#[test]
fn downloads_at_the_same_time_do_not_mix() {
    let repo = Repo::with("[network]\ntimeout = \"5s\"\n");
    let web = Web::start();
    web.put("/list", "1.0 2.0");
    web.put("/shared", "shared ".repeat(1000));
    web.put("/own-1.0", "own 1.0 ".repeat(2000));
    web.put("/own-2.0", "own 2.0");
    web.fault("/shared", crate::web::Fault::Status(404), 1);
    web.fault(
        "/own-1.0",
        crate::web::Fault::Slow { chunk: 4000, delay: std::time::Duration::from_millis(150) },
        1,
    );
    repo.component(
        "x",
        &format!(
            "[source.http]\nurl = \"{0}/list\"\nmatch = '(?<version>[0-9.]+)'\n[[asset]]\nurl = \"{0}/shared\"\n[asset.files]\n\"usr/share/x/\" = \"shared\"\n[[asset]]\nurl = \"{0}/own-{{version}}\"\n[asset.files]\n\"usr/bin/x\" = \"own-{{version}}\"\n",
            web.url()
        ),
    );
    let ran = repo.sync();
    // Whichever version met the fault is missing; what is published must be right.
    for version in ["1.0", "2.0"] {
        let name = format!("x-{version}-x86-64.raw");
        if repo.path(&format!("public/x/{name}")).exists() {
            let image = repo.image("x", &name);
            assert_eq!(
                image.text("usr/share/x/shared"),
                "shared ".repeat(1000),
                "{version}\n{ran}"
            );
            let times = if version == "1.0" { 2000 } else { 0 };
            let own = if times == 0 { "own 2.0".to_owned() } else { "own 1.0 ".repeat(times) };
            assert_eq!(image.text("usr/bin/x"), own, "{version}\n{ran}");
        }
    }
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 2);
}

#[test]
fn every_compression_makes_an_image_that_reads_back() {
    for compression in ["zstd", "xz", "gzip", "lz4"] {
        let bench = Bench::new(
            "tool.tgz",
            tool().gz(),
            &format!("{PICK}\n[image]\ncompression = \"{compression}\"\n"),
        );
        assert_eq!(bench.image().text("usr/bin/tool"), "#!/bin/sh\n");
        let image = "public/it/it-1.2.3-x86-64.raw";
        bench.repo.publish(&["inspect", image]).ok().prints(&[&format!("squashfs, {compression}")]);
    }
}

#[test]
fn the_extension_says_what_it_extends() {
    let rest =
        format!("{PICK}\n[extension]\nid = \"flatcar\"\nsysext-level = \"1.0\"\nreload = true\n");
    let image = Bench::new("tool.tgz", tool().gz(), &rest).image();
    assert_eq!(
        image.text("usr/lib/extension-release.d/extension-release.it"),
        "ID=flatcar\nARCHITECTURE=x86-64\nEXTENSION_RELOAD_MANAGER=1\nSYSEXT_LEVEL=1.0\n"
    );
}

#[test]
fn the_image_has_the_name_that_the_component_gives_it() {
    let bench = Bench::new(
        "tool.tgz",
        tool().gz(),
        &format!("{PICK}\n[image]\nname = \"{{name}}_{{version}}_{{arch}}.raw\"\n"),
    );
    bench.sync().ok();
    assert_eq!(bench.repo.listed("it"), ["it_1.2.3_x86-64.raw"]);
    bench.sync().ok().prints(&["nothing to do"]);
    bench.repo.publish(&["verify"]).ok();
}

#[test]
fn an_asset_without_the_file_says_what_it_has() {
    let files = "[asset.files]\n\"usr/bin/\" = \"tool\"\n";
    // Elsewhere: most likely strip-components is missing.
    Bench::new("tool.tgz", tool().gz(), files).refuses(&[
        "tool.tgz has no `tool`",
        "hint: there is `tool-1.2.3/tool`; see `strip-components`",
    ]);
    let other = Tar::new().file("bin/a", 0o755, "a").file("bin/b", 0o755, "b").gz();
    Bench::new("tool.tgz", other, files)
        .refuses(&["tool.tgz has no `tool`", "hint: it has `bin/a`, `bin/b`"]);
    Bench::new("tool.tgz", Tar::new().file("x", 0o644, "").gz(), PICK)
        .refuses(&["has no `tool`", "nothing in it"]);
}

#[test]
fn what_no_node_would_merge_is_refused() {
    let bytes = Tar::new().file("os-release", 0o644, "ID=x\n").gz();
    Bench::new("x.tgz", bytes, "[asset.files]\n\"usr/lib/\" = \"os-release\"\n").refuses(&[
        "usr/lib/os-release",
        "makes nodes refuse the image",
        "hint: ",
    ]);
    Bench::new(
        "tool.tgz",
        tool().gz(),
        &format!("{PICK}[files]\n\"usr/bin/tool\" = {{ delete = true }}\n"),
    )
    .refuses(&["the image would be empty", "hint: "]);
    Bench::new(
        "tool.tgz",
        tool().gz(),
        &format!("{PICK}[files]\n\"usr/bin/x\" = {{ delete = true }}\n"),
    )
    .refuses(&["nothing at `usr/bin/x` to delete", "hint: "]);
}

#[test]
fn a_path_through_a_file_or_a_link_is_refused() {
    let through =
        |first: &str| format!("{PICK}[files]\n{first}\n\"usr/lib/x/y\" = {{ text = \"\" }}\n");
    for first in ["\"usr/lib/x\" = { text = \"\" }", "\"usr/lib/x\" = { symlink = \"y\" }"] {
        Bench::new("tool.tgz", tool().gz(), &through(first))
            .refuses(&["`usr/lib/x/y` cannot be below `usr/lib/x`"]);
    }
}

#[test]
fn a_hard_link_in_an_archive_is_the_file_again() {
    let bytes = Tar::new().file("git", 0o755, "git").hard_link("git-add", "git").gz();
    let image = Bench::new("git.tgz", bytes, "[asset.files]\n\"usr/bin/\" = \"git*\"\n").image();
    assert_eq!((image.text("usr/bin/git"), image.text("usr/bin/git-add")), ("git", "git"));
    assert_eq!(image.mode("usr/bin/git-add"), 0o755);
}

#[test]
fn a_name_that_no_line_holds_stays_out_of_an_image() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.write("components/x/usr/lib/a\nb", "");
    let ran = repo.sync().code(3).says(&["the name `a\\nb` has a control character in it"]);
    assert!(!repo.path("public/x/SHA256SUMS").exists(), "{ran}");
}
