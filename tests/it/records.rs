//! What publish keeps for itself beside images, when it is spoilt or lost: told by name, and nothing is
//! built, taken away or begun anew because of it.

use std::fs;

use crate::repo::Repo;

fn published(versions: &[&str]) -> Repo {
    let repo = Repo::new();
    repo.simple("x");
    for version in versions {
        repo.release("x", version, version);
    }
    repo.sync().ok();
    repo
}

fn record(image: &str) -> String {
    format!("public/.publish/images/x/{image}.json")
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_changes_nothing() {
    let repo = published(&["1.0", "1.1"]);
    let spoilt = record("x-1.0-x86-64.raw");
    repo.write(&spoilt, "{ \"version\": 2, <<<<<<< ours");
    let before = repo.snapshot();
    let told = ["warning: x: the record of x-1.0-x86-64.raw, ", &spoilt, " cannot be read: "];
    for command in [&["sync"][..], &["plan"], &["status"]] {
        repo.publish(command).ok().says(&told);
        let ran = repo.publish(&[&["-q", "--json"], command].concat()).ok().says(&told);
        let warning = ran.json()["components"][0]["warnings"][0].as_str().unwrap().to_owned();
        assert!(warning.starts_with("warning: x: the record of x-1.0-x86-64.raw, "), "{warning}");
    }
    for command in [&["verify"][..], &["verify", "--quick"]] {
        repo.publish(command).code(3).prints(&[
            "error: x-1.0-x86-64.raw: its record, .publish/images/x/",
            "it is not right",
        ]);
    }
    assert_eq!(repo.snapshot(), before);

    // Another recipe makes a revision of what it is known to have changed, and of nothing else.
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[files]\n\"usr/share/x\" = {{ text = \"x\" }}\n"));
    repo.sync().ok().says(&told);
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw", "x-1.1-r1-x86-64.raw"]);

    // A revision stays one, also when nobody but its record could say so.
    repo.write(&record("x-1.1-r1-x86-64.raw"), "");
    fs::remove_file(repo.path("components/x-releases/x-1.1")).unwrap();
    repo.publish(&["plan"])
        .ok()
        .says(&["the record of x-1.1-r1-x86-64.raw"])
        .prints(&["x: nothing to do", "upstream no longer lists 1.1;"]);
}

/// What comes only after a manifest tells one that was lost from one that never was.
#[test]
fn a_manifest_of_one_version_that_is_gone_is_told_too() {
    let address = "[repository]\nurl = \"https://x.example.com/\"\narchitectures = [\"x86-64\"]\n";
    let repo = Repo::new();
    repo.write("publish.toml", address);
    repo.simple("x");
    repo.release("x", "1.0", "1.0");
    repo.sync().ok();
    fs::remove_file(repo.path("public/x/SHA256SUMS")).unwrap();
    let before = repo.snapshot();
    repo.sync().code(3).says(&[
        "error: x: public/x/SHA256SUMS is gone, but there are records of 1 image",
        "hint: bring it back from a copy",
    ]);
    assert_eq!(repo.snapshot(), before);

    // Where nothing does, as after a run that was killed, it goes on, but not in silence.
    fs::remove_dir_all(repo.path("public")).unwrap();
    repo.write("publish.toml", "[repository]\narchitectures = [\"x86-64\"]\n");
    repo.sync().ok();
    fs::remove_file(repo.path("public/x/SHA256SUMS")).unwrap();
    repo.publish(&["-q", "sync"]).ok().says(&[
        "warning: x: public/x/SHA256SUMS is not there, but records of 1 image are: a run that was cut short",
    ]);
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    let ran = repo.sync().ok();
    assert!(!ran.stderr.contains("warning"), "{ran}");
}

/// To start over would forget every version that is not among the newest.
#[test]
fn a_manifest_that_is_gone_is_an_alarm() {
    let repo = published(&["1.0", "1.1"]);
    let manifest = repo.manifest("x");
    fs::remove_file(repo.path("public/x/SHA256SUMS")).unwrap();
    repo.release("x", "1.2", "1.2");
    let before = repo.snapshot();
    for command in [&["sync"][..], &["plan"], &["status"]] {
        repo.publish(command).code(3).says(&[
            "error: x: public/x/SHA256SUMS is gone, but there are records of 2 images",
            "hint: bring it back from a copy",
        ]);
    }
    assert_eq!(repo.snapshot(), before);
    repo.write("public/x/SHA256SUMS", manifest);
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 3);

    // Somebody wants to start over.
    fs::remove_dir_all(repo.path("public/x")).unwrap();
    repo.sync().code(3).says(&["there are records of 3 images"]);
    fs::remove_dir_all(repo.path("public/.publish/images/x")).unwrap();
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 3);
}
