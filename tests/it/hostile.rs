//! Archives that nobody should ship: each is refused whole, and the repository never notices.

use tar::EntryType;

use crate::pack::{Tar, gz, zip};
use crate::scene::{ARCHIVE, PROGRAM, Rule, Scene};

fn honest() -> Tar {
    Tar::new().file("bad", 0o755, "bad 1.1")
}

/// The program is in each of them, but so is something that no honest archive has.
#[track_caller]
fn refused(bytes: &[u8], texts: &[&str]) {
    refused_with("", bytes, texts);
}

#[track_caller]
fn refused_with(sections: &str, bytes: &[u8], texts: &[&str]) {
    let scene = Scene::new(sections, &ARCHIVE, honest().gz());
    scene.serve(&ARCHIVE, "1.1", bytes);
    scene.fails("bad 1.1 x86-64: cannot build", texts).says(&["cannot unpack bad-1.1.tgz"]);
    // Nothing came out of the folder that the archive was unpacked in, nor anywhere near it.
    for outside in ["evil", "tmp/evil", "components/evil", "public/evil", "public/bad/evil"] {
        assert!(!scene.repo.path(outside).exists(), "{outside} was written");
    }
    scene.serve(&ARCHIVE, "1.1", honest().gz());
    scene.heals();
}

#[test]
fn a_path_that_leaves_the_tree() {
    for path in ["../evil", "../../../../../../evil", "x/../../evil", "bad/../../../evil"] {
        refused(
            &honest().file(path, 0o644, "evil").gz(),
            &[&format!("`{path}` leaves the image root")],
        );
    }
}

#[test]
fn an_absolute_path() {
    refused(&honest().file("/tmp/evil", 0o644, "evil").gz(), &["`/tmp/evil` has an absolute path"]);
}

#[test]
fn a_file_through_a_symlink_out_of_the_tree() {
    for target in ["/tmp", "..", "../../../.."] {
        let bytes = honest().symlink("way", target).file("way/evil", 0o644, "evil").gz();
        refused(&bytes, &["`way/evil` goes through the symlink `way`"]);
    }
    // The link may come last, too.
    let bytes = honest().file("way/evil", 0o644, "evil").symlink("way", "/tmp").gz();
    refused(&bytes, &["`way"]);
}

#[test]
fn a_hard_link_out_of_the_tree() {
    for target in ["../../../etc/passwd", "/etc/passwd"] {
        let bytes = honest().hard_link("evil", target).gz();
        refused(&bytes, &["`evil` is a hard link to", "which leaves the image root"]);
    }
    refused(
        &honest().hard_link("evil", "nothing").gz(),
        &["`nothing`, which is not in the archive before it"],
    );
}

#[test]
fn device_nodes_and_their_like() {
    for (kind, name) in [
        (EntryType::Char, "character device"),
        (EntryType::Block, "block device"),
        (EntryType::Fifo, ""),
    ] {
        let bytes = honest().entry(kind, "dev/evil", 0o666, "", b"").gz();
        refused(&bytes, &["`dev/evil` is a", name, "which an image cannot hold"]);
    }
}

#[test]
fn a_name_that_plays_with_the_terminal() {
    let scene = Scene::new("", &ARCHIVE, honest().gz());
    scene.serve(&ARCHIVE, "1.1", honest().file("evil\u{1b}[2Jx", 0o644, "").gz());
    let ran = scene.fails("bad 1.1 x86-64", &["control character"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let limits = "[limits]\nunpacked = \"1MiB\"\n";
    let bomb = "0".repeat(3 << 20);
    let says = ["unpacks to more than 1048576 bytes", "raise `unpacked` in [limits]"];
    refused_with(limits, &honest().file("bomb", 0o644, &bomb).zst(), &says);
    // As a single compressed file, as a zip, and in many small parts.
    let single = Rule { path: "bad-{version}.gz", ..PROGRAM };
    let scene = Scene::new(limits, &single, gz(b"bad 1.0"));
    scene.serve(&single, "1.1", gz(bomb.as_bytes()));
    scene.fails("bad 1.1 x86-64: cannot build", &says);
    refused_with(limits, &zip(&[("bad", 0o755, &bomb)]), &says);
    let mut many = honest();
    for number in 0..40 {
        many = many.file(&format!("part{number}"), 0o644, &bomb[..100 << 10]);
    }
    refused_with(limits, &many.zst(), &says);
}

#[test]
fn more_entries_than_the_limit() {
    let mut many = honest();
    for number in 0..200 {
        many = many.file(&format!("f{number}"), 0o644, "");
    }
    refused_with("[limits]\nentries = 100\n", &many.gz(), &["more than 100 entries", "[limits]"]);
}

#[test]
fn half_an_archive() {
    let whole = honest().file("more", 0o644, crate::pack::noise(20_000)).gz();
    refused(&whole[..whole.len() / 2], &["truncated"]);
    refused(b"", &["empty"]);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    refused(&damaged, &["damaged"]);
    let zipped = zip(&[("bad", 0o755, "bad")]);
    refused(&zipped[..zipped.len() - 10], &["zip archive is truncated or damaged"]);
}

#[test]
fn zip_has_the_same_holes() {
    refused(
        &zip(&[("bad", 0o755, "bad"), ("../evil", 0o644, "evil")]),
        &["`../evil` leaves the image root"],
    );
    refused(&zip(&[("bad", 0o755, "bad"), ("..\\evil", 0o644, "evil")]), &["backslash"]);
}

/// Taken into the image it would only be followed on a node.
#[test]
fn a_picked_link_that_leads_out_of_the_image() {
    let rule = crate::scene::Rule { files: "\"usr/lib/bad/\" = \".\"", ..ARCHIVE };
    for target in ["/etc/shadow", "../../../etc/shadow"] {
        let scene = Scene::new("", &rule, honest().gz());
        scene.serve(&rule, "1.1", honest().symlink("evil", target).gz());
        scene.fails(
            "bad 1.1 x86-64",
            &["`usr/lib/bad/evil`", target, "leaves the image", "[files]"],
        );
    }
    // One that is not picked harms nobody.
    let scene = Scene::new("", &ARCHIVE, honest().gz());
    scene.serve(&ARCHIVE, "1.1", honest().symlink("etc", "/etc").gz());
    scene.heals();
}
