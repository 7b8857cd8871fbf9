//! Folders that no component has any more: told, kept fresh, and let go when somebody says so.

use std::fs;

use crate::repo::Repo;
use crate::web::sha256;

const SIGNED: &str = "[signing]\nkey = { file = \"signing.key\" }\nbest-before = \"14d\"\n";
const IMAGE: &str = "public/x/x-1.0-x86-64.raw";

/// `x` and `y` are published, and then the component of `x` is gone.
fn left(sections: &str) -> Repo {
    let repo = Repo::with(sections);
    for name in ["x", "y"] {
        repo.simple(name);
        repo.release(name, "1.0", "one");
    }
    if !sections.is_empty() {
        repo.publish(&["key", "generate"]).ok();
    }
    repo.sync().ok();
    fs::rename(repo.path("components/x.toml"), repo.path("x.gone")).unwrap();
    repo
}

#[test]
fn it_is_told_and_signed_in_time() {
    let repo = left(SIGNED);
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]).says(&[
        "warning: x/ has no component any more, and still offers 1 image",
        "hint: with `path = \"x\"` a component goes on with it; `",
        "retire x` lets it go",
    ]);
    assert_eq!(repo.snapshot(), before);
    repo.publish(&["status"])
        .ok()
        .prints(&["x/: current, without a component, 1 image\n  expires    20"])
        .says(&["warning: x/ has no component"]);
    let ran = repo.publish(&["status", "--check"]).ok();
    assert_eq!(ran.stdout, "OK: 1 component and 1 folder without one current\n");
    assert!(!ran.stderr.contains("warning"), "{ran}");
    // Who names some of the components does not say that there are no others.
    let ran = repo.publish(&["sync", "--only", "y"]).ok();
    assert!(!ran.stderr.contains("warning"), "{ran}");

    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("14d", "60d"));
    let ran = repo.publish(&["status", "--check"]).code(3);
    assert_eq!(
        ran.stdout,
        "BEHIND: 2 of 1 component and 1 folder without one: y behind, x/ behind\n"
    );
    repo.publish(&["sync", "--dry-run"])
        .ok()
        .prints(&["would sign the manifest of x/: in time before it expires"]);
    let ran = repo.publish(&["sync", "--json"]).ok();
    let told = &ran.json()["left"][0];
    assert_eq!((&told["folder"], &told["signed"]), (&"x".into(), &"renew".into()));
    repo.publish(&["verify"]).ok();
    repo.publish(&["status"]).ok().prints(&["x/: current"]);
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn what_somebody_else_wrote_into_it_is_not_signed() {
    let repo = left(SIGNED);
    let manifest = repo.manifest("x");
    repo.write("public/x/SHA256SUMS", format!("{}  evil.raw\n{manifest}", sha256(b"evil")));
    // The lock comes and goes: that shows in its folder.
    let files = || {
        let mut files = repo.snapshot();
        files.retain(|path, _| !path.ends_with(".publish"));
        files
    };
    let before = files();
    for args in [&["sync"][..], &["status"], &["retire", "x"]] {
        let ran = repo.publish(args).says(&["not as any key of [signing] has signed it", "hint: "]);
        assert!(!ran.status.success(), "{ran}");
        assert!(files() == before, "something was written\n{ran}");
    }
}

#[test]
fn it_goes_when_somebody_says_so() {
    let repo = left(SIGNED);
    repo.publish(&["retire", "y"])
        .code(2)
        .says(&["y is the folder of component `y`", "hint: remove components/y.toml first"]);
    repo.publish(&["retire", "z"])
        .code(2)
        .says(&["z offers nothing", "hint: without a component: x"]);
    assert!(!repo.path("public/z").exists());

    repo.publish(&["retire", "x"])
        .ok()
        .prints(&["took x-1.0-x86-64.raw out of x", "sync deletes 1 file, from 20"]);
    assert!(repo.path(IMAGE).exists(), "for the grace");
    let before = repo.snapshot();
    let ran = repo.sync().ok().prints(&["nothing to do"]);
    assert!(!ran.stderr.contains("x/"), "{ran}");
    repo.publish(&["status"]).ok().prints(&["x/: let go\n  to delete  1 file, from 20"]);
    let check = repo.publish(&["status", "--check"]).ok();
    assert_eq!(check.stdout, "OK: 1 component current\n");
    assert_eq!(repo.snapshot(), before);

    repo.two_days_pass("x");
    repo.publish(&["sync", "--dry-run"]).ok().prints(&["would delete 1 file of x/"]);
    repo.sync().ok().prints(&["deleted 1 file of x/"]);
    assert!(!repo.path(IMAGE).exists());
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);

    // It comes back: the name is spent, because nodes may know it with other bytes.
    fs::rename(repo.path("x.gone"), repo.path("components/x.toml")).unwrap();
    repo.sync().ok().prints(&["x-1.0-r1-x86-64.raw"]);
    assert_eq!(repo.listed("x"), ["x-1.0-r1-x86-64.raw"]);
    repo.publish(&["verify"]).ok();
}

#[test]
fn a_component_that_moved_leaves_its_folder() {
    let repo = left(SIGNED);
    let text = fs::read_to_string(repo.path("x.gone")).unwrap();
    repo.component("x", &format!("path = \"tools/x\"\n{text}"));
    repo.sync().ok().prints(&["in tools/x/"]).says(&["x/ has no component any more"]);
    assert_eq!((repo.listed("x").len(), repo.listed("tools/x").len()), (1, 1));
    // And back: a folder in a folder is found, too.
    repo.component("x", &text);
    repo.sync().ok().says(&["warning: tools/x/ has no component any more"]);
}

#[test]
fn lines_of_others_stay_when_a_folder_goes() {
    let repo = left("");
    let manifest = repo.manifest("x");
    repo.write("public/x/other.raw", "other");
    repo.write("public/x/SHA256SUMS", format!("{}  other.raw\n{manifest}", sha256(b"other")));
    repo.publish(&["retire", "x"])
        .ok()
        .says(&["warning: nothing tells who made other.raw: x goes on offering that"]);
    assert_eq!(repo.listed("x"), ["other.raw"]);
    repo.two_days_pass("x");
    repo.sync().ok().prints(&["deleted 1 file of x/"]).says(&["x/ has no component any more"]);
    assert_eq!(repo.listed("x"), ["other.raw"]);
}
