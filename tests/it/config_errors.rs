//! Mistakes in the configuration: where they are, what would be right, exit code 4, nothing written.

use std::fs;

use crate::repo::{Ran, Repo, snapshot};

const SOURCE: &str = "[source.directory]\npath = \"x\"\nmatch = \"x-{version}\"\n";

/// What the program says of this `components/x.toml`.
fn component(text: &str) -> String {
    let repo = Repo::new();
    repo.component("x", text);
    wrong(&repo)
}

/// What the program says of this `publish.toml`.
fn config(text: &str) -> String {
    let repo = Repo::new();
    repo.write("publish.toml", text);
    wrong(&repo)
}

/// Every command that reads the configuration says the same, and writes nothing.
fn wrong(repo: &Repo) -> String {
    let before = snapshot(&repo.path("."));
    let mut said = Vec::new();
    for args in
        [&["sync"][..], &["plan"], &["sync", "--dry-run"], &["verify"], &["build", "x"], &["serve"]]
    {
        let Ran { stderr, stdout, .. } = repo.publish(args).code(4);
        assert_eq!(stdout, "", "{args:?}");
        said.push(stderr);
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!(snapshot(&repo.path(".")), before);
    said.remove(0)
}

#[test]
fn a_typo_in_a_key() {
    insta::assert_snapshot!(config("[repository]\nstore = \"public\"\nurll = \"https://x.org/\"\n"), @r#"
        error: publish.toml:3:1: unknown field `urll`, expected one of `url`, `store`, `cache-control`, `architectures`, `components`, `client-files`, `page`
            |
          3 | urll = "https://x.org/"
            | ^^^^
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}\n[versions]\nnewst = 3\n")), @r"
        error: components/x.toml:6:1: unknown field `newst`, expected one of `tag`, `require`, `include`, `exclude`, `pin`, `accept`, `newest`, `per`, `branches`, `prerelease`, `min-age`, `wait`, `partial`, `replace`
            |
          6 | newst = 3
            | ^^^^^
        ");
    insta::assert_snapshot!(component("[source.directry]\npath = \"x\"\n"), @r"
        error: components/x.toml:1:9: unknown field `directry`, expected one of `github`, `gitlab`, `gitea`, `git`, `http`, `command`, `directory`, `repository`
            |
          1 | [source.directry]
            |         ^^^^^^^^
        ");
}

#[test]
fn a_typo_in_a_value() {
    insta::assert_snapshot!(component(&format!("{SOURCE}[versions]\nper = \"minro\"\n")), @r#"
        error: components/x.toml:5:8: unknown variant `minro`, expected `major` or `minor`
            |
          5 | per = "minro"
            |        ^^^^^
        "#);
    insta::assert_snapshot!(config("[repository]\n[network]\ntimeout = \"5 parsecs\"\n"), @r#"
        error: publish.toml:3:12: `5 parsecs` is not a time such as "30s", "24h" or "2d"
            |
          3 | timeout = "5 parsecs"
            |            ^^^^^^^^^
        "#);
    insta::assert_snapshot!(component("[source.http]\nurl = \"htp://x.org/\"\nmatch = '(?<version>.)'\n"), @r#"
        error: components/x.toml:2:8: `htp://x.org/` is not an http or https URL
            |
          2 | url = "htp://x.org/"
            |        ^^^^^^^^^^^^
        "#);
    insta::assert_snapshot!(component("[source.http]\nurl = \"http://x.org/\"\nmatch = '([0-9]+)'\n"), @r"
        error: components/x.toml:3:9: the regular expression has no group `version`
            |
          3 | match = '([0-9]+)'
            |         ^^^^^^^^^^
          hint: write `(?<version>[0-9.]+)` where the version stands
        ");
    insta::assert_snapshot!(component("[source.github]\nrepo = \"https://github.com/o/r\"\n"), @r#"
        error: components/x.toml:2:9: `https://github.com/o/r` is not OWNER/REPOSITORY
            |
          2 | repo = "https://github.com/o/r"
            |         ^^^^^^^^^^^^^^^^^^^^^^
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[[asset]]\nname = \"x-{{versoin}}\"\n")), @r#"
        error: components/x.toml:5:9: `x-{versoin}` has an unknown variable `{versoin}`
            |
          5 | name = "x-{versoin}"
            |         ^^^^^^^^^^^
          hint: there are {version}, {arch}, {tag}, {name} and, for a checksum file, {url}
        "#);
}

#[test]
fn what_names_no_version() {
    let versions = |text: &str| component(&format!("{SOURCE}[versions]\n{text}\n"));
    insta::assert_snapshot!(versions("exclude = [\"1.0\", \"/1.(/\"]"), @r#"
        error: components/x.toml:5:20: `/1.(/` is no regular expression: unclosed group
            |
          5 | exclude = ["1.0", "/1.(/"]
            |                    ^^^^^
          hint: a text without slashes around it is a version as it is
        "#);
    insta::assert_snapshot!(versions("include = [\"/1.0\"]"), @r#"
        error: components/x.toml:5:13: `/1.0` is no regular expression
            |
          5 | include = ["/1.0"]
            |             ^^^^
          hint: one stands between two slashes, such as "/-fips$/"
        "#);
    insta::assert_snapshot!(versions("require = \">=one\""), @r#"
        error: components/x.toml:5:12: `>=one` is no requirement: unexpected character 'o' while parsing major version number
            |
          5 | require = ">=one"
            |            ^^^^^
          hint: such as ">=1.58", "~1.31", or, for versions of another kind, ">=2024-05-01, <2025"
        "#);
    insta::assert_snapshot!(versions("branches = 4"), @r#"
        error: components/x.toml:5:12: [versions] branches: there is only one branch
            |
          5 | branches = 4
            |            ^
          hint: `per = "minor"` makes one of each 1.x, `per = "major"` of each x
        "#);
    insta::assert_snapshot!(versions("pin = \"1.0\"\nexclude = [\"/^1/\"]"), @r#"
        error: components/x.toml:5:8: [versions] pin: `1.0` is excluded too
            |
          5 | pin = "1.0"
            |        ^^^
        "#);
    insta::assert_snapshot!(versions("replace = { \"+\" = \"~\" }"), @r#"
        error: components/x.toml:5:20: `~` has a character that clients refuse in a version
            |
          5 | replace = { "+" = "~" }
            |                    ^
          hint: they take A-Z a-z 0-9 . , _ + -
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[[companion]]\nname = \"c\"\nsource.github.repo = \"o/r\"\n[[asset]]\nurl = \"https://e.org/{{d.version}}\"\n[asset.files]\n\"usr/x\" = \"x\"\n")), @r#"
        error: components/x.toml:8:8: `https://e.org/{d.version}` says something of `d`, but no companion is called that
            |
          8 | url = "https://e.org/{d.version}"
            |        ^^^^^^^^^^^^^^^^^^^^^^^^^
          hint: there are: c
        "#);
}

#[test]
fn a_value_of_the_wrong_type() {
    insta::assert_snapshot!(component(&format!("{SOURCE}[versions]\nnewest = \"three\"\n")), @r#"
        error: components/x.toml:5:10: invalid type: string "three", expected i64
            |
          5 | newest = "three"
            |          ^^^^^^^
        "#);
}

#[test]
fn text_that_is_no_toml() {
    insta::assert_snapshot!(config("[repository\nstore = \"public\"\n"), @r"
        error: publish.toml:1:12: unclosed table, expected `]`
            |
          1 | [repository
            |            ^
        ");
}

#[test]
fn a_foreign_architecture() {
    insta::assert_snapshot!(config("[repository]\narchitectures = [\"amd64\"]\n"), @r#"
        error: publish.toml:2:19: unknown architecture `amd64`
            |
          2 | architectures = ["amd64"]
            |                   ^^^^^
          hint: systemd calls it x86-64
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}\n[arch]\naarch64 = \"arm64\"\n")), @r#"
        error: components/x.toml:6:1: unknown architecture `aarch64`
            |
          6 | aarch64 = "arm64"
            | ^^^^^^^
          hint: systemd calls it arm64
        "#);
    insta::assert_snapshot!(config("[repository]\narchitectures = [\"vax\"]\n"), @r#"
        error: publish.toml:2:19: unknown architecture `vax`
            |
          2 | architectures = ["vax"]
            |                   ^^^
        "#);
}

#[test]
fn two_sources_or_none() {
    insta::assert_snapshot!(component(&format!("{SOURCE}\n[source.github]\nrepo = \"o/r\"\n")), @r"
        error: components/x.toml:1:2: more than one source: `github` and `directory`
            |
          1 | [source.directory]
            |  ^^^^^^
          hint: a component follows one; make another component for the other
        ");
    insta::assert_snapshot!(component("description = \"x\"\n"), @r#"
        error: components/x.toml: it has no source
          hint: add one of [source.github], [source.gitlab], [source.gitea], [source.git], [source.http], [source.command], [source.directory], [source.repository]
        "#);
    insta::assert_snapshot!(component("[source]\n"), @r"
        error: components/x.toml:1:1: no source
            |
          1 | [source]
            | ^^^^^^^^
          hint: add one of [source.github], [source.gitlab], [source.gitea], [source.git], [source.http], [source.command], [source.directory], [source.repository]
        ");
}

#[test]
fn what_a_recipe_cannot_mean() {
    insta::assert_snapshot!(component(&format!("{SOURCE}[[asset]]\nname = \"x\"\n[asset.files]\n\"etc/x\" = \"x\"\n")), @r#"
        error: components/x.toml:7:2: `etc/x` would not be seen on a node
            |
          7 | "etc/x" = "x"
            |  ^^^^^
          hint: a system extension merges only `usr/` and `opt/`; `[extension] kind = "confext"` makes one for `etc/`
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[files]\n\"/usr/x\" = {{ text = \"\" }}\n")), @r#"
        error: components/x.toml:5:2: `/usr/x` is absolute
            |
          5 | "/usr/x" = { text = "" }
            |  ^^^^^^
          hint: paths in an image are relative to its root: `usr/x`
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[files]\n\"usr/x\" = \"x\"\n")), @r#"
        error: components/x.toml:5:2: [files] has no asset to pick `usr/x` from
            |
          5 | "usr/x" = "x"
            |  ^^^^^
          hint: move the line to [asset.files], or use `text` or `symlink`
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[services]\nenable = [\"x\"]\n")), @r#"
        error: components/x.toml:5:12: `x` is not a unit's name
            |
          5 | enable = ["x"]
            |            ^
          hint: with its ending, such as `x.service`
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[extension]\nid = \"flatcar\"\n")), @r#"
        error: components/x.toml:4:1: no host takes `id = "flatcar"` alone
            |
          4 | [extension]
            | ^^^^^^^^^^^
          hint: add `sysext-level` or `version-id`; either must equal the host's
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[image]\nname = \"x-{{version}}.raw\"\n")), @r#"
        error: components/x.toml:5:9: [image] name: `x-{version}.raw` must have `{arch}` in it
            |
          5 | name = "x-{version}.raw"
            |         ^^^^^^^^^^^^^^^
        "#);
}

/// Each of two values is right by itself.
#[test]
fn what_does_not_go_together() {
    insta::assert_snapshot!(component(&format!("{SOURCE}[lint]\nallow = [\"usr-sbin\"]\ndeny = [\"setuid\", \"usr-sbin\"]\n")), @r#"
        error: components/x.toml:6:20: [lint] deny: `usr-sbin` is in `allow` too
            |
          6 | deny = ["setuid", "usr-sbin"]
            |                    ^^^^^^^^
          hint: take it out of one of them; allow.usr-sbin = ["usr/…"] allows it in some files alone
        "#);
    insta::assert_snapshot!(component("[source.git]\nurl = \"https://e.org/r\"\n[versions]\nmin-age = \"2d\"\n"), @r#"
        error: components/x.toml:4:11: [versions] min-age: this source does not tell when a version was released
            |
          4 | min-age = "2d"
            |           ^^^^
          hint: leave it out, or follow the project's releases, or a page that has dates
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[[asset]]\nname = \"x\"\nattestation = {{ workflow = \".github/workflows/x.yml\" }}\nfiles.\"usr/x\" = \"x\"\n")), @r#"
        error: components/x.toml:6:15: [[asset]] attestation: of which repository?
            |
          6 | attestation = { workflow = ".github/workflows/x.yml" }
            |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          hint: add repo = "OWNER/REPOSITORY"
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[[companion]]\nname = \"c\"\nsource.github.repo = \"o/r\"\n[companion.versions]\npin = \"1.0\"\nexclude = [\"1.0\"]\n")), @r#"
        error: components/x.toml:8:8: [companion.versions] pin: `1.0` is excluded too
            |
          8 | pin = "1.0"
            |        ^^^
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[[asset]]\nname = \"x\"\nof = \"nope\"\nfiles.\"usr/x\" = \"x\"\n")), @r#"
        error: components/x.toml:6:7: [[asset]] of: no companion is called `nope`
            |
          6 | of = "nope"
            |       ^^^^
          hint: there is no [[companion]]
        "#);
    insta::assert_snapshot!(config("[repository]\n[network.rewrite]\n\"https://e.org/\" = \"mirror\"\n"), @r#"
        error: publish.toml:3:21: [network] rewrite: `mirror` is not the beginning of a URL
            |
          3 | "https://e.org/" = "mirror"
            |                     ^^^^^^
          hint: write it as "https://host/path/"
        "#);
    insta::assert_snapshot!(component("[source.directory]\npath = \"x\"\nmatch = \"x\"\n"), @r#"
        error: components/x.toml:3:10: [source.directory] match: `x` must have `{version}` in it
            |
          3 | match = "x"
            |          ^
        "#);
}

#[test]
fn what_no_image_is_called_and_no_path_is() {
    insta::assert_snapshot!(component(&format!("{SOURCE}[image]\nname = \"../{{name}}-{{version}}-{{arch}}.raw\"\n")), @r#"
        error: components/x.toml:5:9: [image] name: `../{name}-{version}-{arch}.raw` is no name that a manifest may list: it must start with a letter or a digit
            |
          5 | name = "../{name}-{version}-{arch}.raw"
            |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          hint: such as "{name}-{version}-{arch}.raw"; `path` is where the folder is chosen
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[require]\npaths = [\"usr/bin/x\", \"../x\"]\n")), @r#"
        error: components/x.toml:5:24: `../x` is nowhere in an image: no path there has a `.` or `..` in it
            |
          5 | paths = ["usr/bin/x", "../x"]
            |                        ^^^^
          hint: write it from the image's root, such as `usr/bin/tool`
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[versions]\nrequire = \">= v1.1\"\n")), @r#"
        error: components/x.toml:5:12: `>= v1.1` is about tags, not about versions, which have no `v`
            |
          5 | require = ">= v1.1"
            |            ^^^^^^^
          hint: write ">= 1.1"; [versions] tag says what a tag looks like
        "#);
    insta::assert_snapshot!(component(&format!("{SOURCE}[[companion]]\nname = \"version\"\nsource.github.repo = \"o/r\"\n")), @r#"
        error: components/x.toml:5:9: `version` is what {version} of the component itself is called
            |
          5 | name = "version"
            |         ^^^^^^^
          hint: call it by its project's name
        "#);
    insta::assert_snapshot!(config("[repository]\narchitectures = [\"arm64\", \"x86-64\", \"arm64\"]\n"), @r#"
        error: publish.toml:2:17: `arm64` is there twice
            |
          2 | architectures = ["arm64", "x86-64", "arm64"]
            |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#);
}

#[test]
fn files_that_are_not_there() {
    insta::assert_snapshot!(component(&format!("{SOURCE}[[asset]]\nname = \"x\"\nsignature = {{ openpgp = {{ name = \"x.asc\" }}, keyring = \"keys/x.gpg\" }}\nfiles.\"usr/x\" = \"x\"\n")), @r#"
        error: components/x.toml:6:56: [[asset]] signature: `keys/x.gpg` cannot be read: No such file or directory (os error 2)
            |
          6 | signature = { openpgp = { name = "x.asc" }, keyring = "keys/x.gpg" }
            |                                                        ^^^^^^^^^^
          hint: the path is relative to the folder of this file
        "#);
    insta::assert_snapshot!(config("[repository]\n[network]\nca = \"ca.pem\"\n"), @r#"
        error: publish.toml:3:7: [network] ca: `ca.pem` cannot be read: No such file or directory (os error 2)
            |
          3 | ca = "ca.pem"
            |       ^^^^^^
          hint: the path is relative to the folder of this file
        "#);
    insta::assert_snapshot!(config("[repository]\n[trust]\nsigstore-root = \"root.json\"\n"), @r#"
        error: publish.toml:3:18: [trust] sigstore-root: `root.json` cannot be read: No such file or directory (os error 2)
            |
          3 | sigstore-root = "root.json"
            |                  ^^^^^^^^^
          hint: the path is relative to the folder of this file
        "#);
}

#[test]
fn no_configuration_at_all() {
    let repo = Repo::empty();
    insta::assert_snapshot!(wrong(&repo), @r"
        error: publish.toml: No such file or directory (os error 2)
          hint: `publish init` starts a repository here; --config names another file
        ");
    repo.publish(&["sync", "--config", "other.toml"]).code(4).says(&["other.toml", "hint: "]);
}

#[test]
fn no_components() {
    let repo = Repo::new();
    fs::remove_dir(repo.path("components")).unwrap();
    insta::assert_snapshot!(wrong(&repo), @r"
        error: publish.toml: the folder of components, components: No such file or directory (os error 2)
          hint: [repository] components names it, relative to this file
        ");
}

#[test]
fn a_file_whose_name_no_component_can_have() {
    for name in ["-x", "a b", "ä", "a%b", ".x"] {
        let repo = Repo::new();
        repo.component(name, SOURCE);
        let said = wrong(&repo);
        assert!(said.contains(&format!("components/{name}.toml")), "{said}");
        assert!(
            said.contains("component name") && said.contains("hint: the file's name"),
            "{said}"
        );
    }
}

#[test]
fn two_components_in_one_folder() {
    let repo = Repo::new();
    repo.component("x", &format!("path = \"tools\"\n{SOURCE}"));
    repo.component("y", &format!("path = \"tools/\"\n{SOURCE}"));
    insta::assert_snapshot!(wrong(&repo), @r"
        error: components/y.toml: component `x` has the folder `tools` already
          hint: give each component a `path` of its own: clients tell images apart by folder
        ");
}

#[test]
fn a_folder_where_a_file_may_be() {
    for (path, taken) in [
        ("index.html", "index.html"),
        ("feed.xml/x", "feed.xml"),
        ("tools/x.html", "tools/x.html"),
        ("tools/x-1.0-x86-64.raw/x", "tools/x-1.0-x86-64.raw"),
    ] {
        let said = component(&format!("path = \"{path}\"\n{SOURCE}"));
        let text = format!(
            "the folder `{path}` is where a file may be, `{taken}`\n  hint: give the component another `path`"
        );
        assert!(said.contains(&text), "{path}: {said}");
    }
}

#[test]
fn a_homepage_that_no_browser_should_open() {
    let said = component(&format!("homepage = \"javascript:alert(1)\"\n{SOURCE}"));
    assert!(
        said.contains("components/x.toml:1:") && said.contains("is not an http or https URL"),
        "{said}"
    );
}

#[test]
fn a_folder_outside_the_repository() {
    for path in ["../x", "/x", ".publish", "a/../../x", "a//b", ""] {
        let said = component(&format!("path = \"{path}\"\n{SOURCE}"));
        assert!(said.contains("components/x.toml:1:") && said.contains("folder"), "{path}: {said}");
    }
}

#[test]
fn a_file_that_is_no_text() {
    let repo = Repo::new();
    repo.write("components/x.toml", b"description = \"\xff\"\n");
    let said = wrong(&repo);
    assert!(said.contains("components/x.toml") && said.contains("UTF-8"), "{said}");
}

/// Where something is wrong, but only a reader who sees both lines can tell.
#[test]
fn a_caret_stands_under_the_word_also_after_tabs_and_umlauts() {
    insta::assert_snapshot!(config("[repository]\n\tarchitectures = [\"x86-64\",\t\"amd64\"] # für alle\n"), @r#"
        error: publish.toml:2:30: unknown architecture `amd64`
            |
          2 | 	architectures = ["x86-64",	"amd64"] # für alle
            | 	                          	 ^^^^^
          hint: systemd calls it x86-64
        "#);
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    let repo = Repo::new();
    for args in [
        &["sync", "--no-such"][..],
        &["serve", "--listen", "everywhere"],
        &["sync", "--only", "../x"],
        &["build", "x", "--arch", "aarch64"],
        &["inspect"],
    ] {
        repo.publish(args).code(2);
    }
}

#[test]
fn a_store_that_is_none() {
    insta::assert_snapshot!(config("[repository]\nstore = \"ftp://bucket/prefix\"\n"), @r#"
        error: publish.toml:2:10: cannot publish to `ftp://`
            |
          2 | store = "ftp://bucket/prefix"
            |          ^^^^^^
          hint: name a directory, relative to this file, or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, github-release://OWNER/REPO/{component}
        "#);
    insta::assert_snapshot!(config("[repository]\nstore = \"s3://ab/prefix\"\n"), @r#"
        error: publish.toml:2:15: `ab` is no bucket's name: it has at least 3 characters of a-z 0-9 . - _
            |
          2 | store = "s3://ab/prefix"
            |               ^^
          hint: such as "s3://my-bucket/some/folder"
        "#);
    insta::assert_snapshot!(config("[repository]\nstore = \"s3://AKIA:secret@bucket\"\n"), @r#"
        error: publish.toml:2:9: a store must not have a name, a password or a port in it
            |
          2 | store = "s3://AKIA:secret@bucket"
            |         ^^^^^^^^^^^^^^^^^^^^^^^^^
          hint: credentials and the endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL
        "#);
    insta::assert_snapshot!(config("[repository]\n[repository.cache-control]\nimages = \"\"\n"), @r#"
        error: publish.toml:3:10: `` is no Cache-Control header
            |
          3 | images = ""
            |          ^^
          hint: such as "public, max-age=3600"
        "#);
}
