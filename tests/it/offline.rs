//! The repository of the README: `config/publish.toml` and its example, without any network.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::repo::{Ran, Repo, get};

/// The project's own configuration, in a folder of its own.
pub fn example() -> Repo {
    let repo = Repo::empty();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config"), &repo.path("config"));
    repo
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

const IMAGES: [&str; 4] = [
    "pulse-1.0.0-arm64.raw",
    "pulse-1.0.0-x86-64.raw",
    "pulse-1.1.0-arm64.raw",
    "pulse-1.1.0-x86-64.raw",
];

/// A release of the example under another version: what upstream does next.
fn another_release(repo: &Repo, version: &str, arches: &[&str]) {
    for arch in arches {
        let name = format!("pulse_{version}_{arch}.tgz");
        let folder = repo.path("config/example/pulse-releases");
        let bytes = fs::read(folder.join(format!("pulse_1.1.0_{arch}.tgz"))).unwrap();
        fs::write(
            folder.join(format!("{name}.sha256")),
            format!("{}  {name}\n", crate::web::sha256(&bytes)),
        )
        .unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn the_first_sync_publishes_everything_and_says_what_comes_next() {
    let repo = example();
    let ran = repo.sync().ok().prints(&[
        "published 4 images",
        "newest 1.1.0",
        "new version",
        "verify",
        "serve",
    ]);
    for image in IMAGES {
        assert!(ran.stdout.contains(image), "{ran}");
    }
    // What a node is to be told, with the words of sysupdate.d(5).
    let ran = ran.prints(&[
        "Type=url-file",
        "Path=http://127.0.0.1:8080/pulse/",
        "MatchPattern=pulse-@v-%a.raw",
    ]);
    assert!(!ran.stdout.contains("built"), "progress belongs on stderr\n{ran}");
    assert_eq!(repo.listed("pulse"), IMAGES);
    repo.publish(&["verify"]).ok();
}

#[test]
fn a_second_sync_writes_nothing_at_all() {
    let repo = example();
    repo.sync().ok();
    let before = repo.snapshot();
    let ran = repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before, "{ran}");
    assert!(!ran.stderr.contains("built"), "{ran}");
}

#[test]
fn the_image_is_what_the_component_says() {
    let repo = example();
    repo.sync().ok();
    let image = repo.image("pulse", "pulse-1.1.0-arm64.raw");
    assert_eq!(image.link("usr/bin/heartbeat"), "pulse");
    assert_eq!(image.mode("usr/bin/pulse"), 0o755);
    assert_eq!(image.mode("usr/share/pulse/README"), 0o644);
    assert_eq!(image.text("usr/share/pulse/version"), "1.1.0\n");
    let unit = image.text("usr/lib/systemd/system/pulse.service");
    assert!(unit.contains("/usr/bin/pulse") && !unit.contains("/usr/local"), "{unit}");
    assert!(
        image.text("usr/lib/systemd/system/pulse.service.d/10-harden.conf").contains("DynamicUser")
    );
    let upholds =
        image.text("usr/lib/systemd/system/multi-user.target.d/10-pulse-pulse.service.conf");
    assert_eq!(upholds, "[Unit]\nUpholds=pulse.service\n");
    // A node looks for the name of the link it merges, or of the file somebody dropped.
    for name in ["pulse", "pulse-1.1.0-arm64"] {
        let release = image.text(&format!("usr/lib/extension-release.d/extension-release.{name}"));
        assert_eq!(release, "ID=_any\nARCHITECTURE=arm64\nEXTENSION_RELOAD_MANAGER=1\n");
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes_anywhere() {
    let (here, there) = (example(), example());
    here.sync().ok();
    // Another folder, another time zone, another umask, another language, and one core.
    let mut shell = Command::new("sh");
    there.prepare(&mut shell);
    shell.args(["-c", "umask 077; exec \"$0\" sync", env!("CARGO_BIN_EXE_publish")]);
    shell.env("TZ", "Asia/Kathmandu").env("LC_ALL", "C");
    there.run(&mut shell).ok();
    for image in IMAGES {
        let read = |repo: &Repo| fs::read(repo.path(&format!("public/pulse/{image}"))).unwrap();
        assert!(read(&here) == read(&there), "{image} differs");
    }
    assert_eq!(here.manifest("pulse"), there.manifest("pulse"));
}

#[test]
fn a_dry_run_writes_nothing() {
    let repo = example();
    repo.publish(&["sync", "--dry-run"]).ok().prints(&["would publish 4 images", "dry run"]);
    assert!(!repo.path("public").exists());
    repo.sync().ok();
    another_release(&repo, "1.2.0", &["amd64", "arm64"]);
    let before = repo.snapshot();
    repo.publish(&["sync", "--dry-run"])
        .ok()
        .prints(&["would publish 2 images", "pulse-1.2.0-x86-64.raw"]);
    repo.publish(&["plan"]).ok().prints(&[
        "2 images to build",
        "pulse-1.2.0-arm64.raw",
        "new version",
    ]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn a_new_version_only_adds() {
    let repo = example();
    repo.sync().ok();
    let before = repo.snapshot();
    another_release(&repo, "1.2.0", &["amd64", "arm64"]);
    let ran = repo.sync().ok().prints(&["published 2 images", "newest 1.2.0"]);
    let after = repo.snapshot();
    for image in IMAGES {
        let path = format!("pulse/{image}");
        assert_eq!(after[&path], before[&path], "{image} was touched\n{ran}");
    }
    let (old, new) = (&before["pulse/SHA256SUMS"].0, &after["pulse/SHA256SUMS"].0);
    let new = std::str::from_utf8(new).unwrap();
    assert!(std::str::from_utf8(old).unwrap().lines().all(|line| new.contains(line)), "{new}");
    assert_eq!(repo.listed("pulse").len(), 6);
}

#[test]
fn a_file_that_is_gone_comes_back() {
    let repo = example();
    repo.sync().ok();
    let manifest = repo.manifest("pulse");
    fs::remove_file(repo.path("public/pulse/pulse-1.0.0-arm64.raw")).unwrap();
    repo.publish(&["verify"]).code(3).prints(&["pulse-1.0.0-arm64.raw: is listed, but not there"]);
    repo.publish(&["plan"]).ok().prints(&["1 image to build", "listed, but the file is gone"]);
    repo.sync().ok().prints(&["published 1 image", "listed, but the file is gone"]);
    assert_eq!(repo.manifest("pulse"), manifest);
    repo.publish(&["verify"]).ok();
}

#[test]
fn another_architecture_is_added_to_versions_that_are_out() {
    let repo = example();
    let config = fs::read_to_string(repo.path("config/publish.toml")).unwrap();
    let narrow = config.replace(r#"["x86-64", "arm64"]"#, r#"["x86-64"]"#);
    assert_ne!(config, narrow);
    repo.write("config/publish.toml", narrow);
    repo.sync().ok().prints(&["published 2 images"]);
    repo.write("config/publish.toml", config);
    repo.sync().ok().prints(&["published 2 images", "new architecture"]);
    assert_eq!(repo.listed("pulse"), IMAGES);
}

#[test]
fn init_starts_a_repository_that_works() {
    let repo = Repo::empty();
    repo.publish(&["init"]).ok().prints(&["started a repository", "publish.toml", "sync"]);
    repo.sync().ok().prints(&["published 4 images"]);
    repo.publish(&["verify"]).ok().prints(&["every byte is right"]);
    assert_eq!(repo.listed("pulse"), IMAGES);
    // A second one would write over somebody's work.
    let before = fs::read(repo.path("publish.toml")).unwrap();
    let ran = repo.publish(&["init"]).says(&["publish.toml", "is there already"]);
    assert_ne!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(fs::read(repo.path("publish.toml")).unwrap(), before);
}

#[test]
fn init_takes_a_folder_that_is_not_there_yet() {
    let repo = Repo::empty();
    let ran = repo.publish(&["init", "new/here"]).ok().prints(&["cd new/here"]);
    assert!(repo.path("new/here/publish.toml").exists(), "{ran}");
    repo.publish(&["--config", "new/here/publish.toml", "sync"]).ok();
    assert!(repo.path("new/here/public/pulse/SHA256SUMS").exists());
}

#[test]
fn init_writes_nothing_where_one_of_its_files_is_taken() {
    let repo = Repo::empty();
    repo.write("components/pulse.toml", "# mine\n");
    let ran = repo.publish(&["init"]).says(&["components/pulse.toml", "nothing was written"]);
    assert_ne!(ran.status.code(), Some(0), "{ran}");
    assert!(!repo.path("publish.toml").exists());
}

#[test]
fn the_configuration_is_found_where_people_put_it() {
    let mut repo = example();
    repo.publish(&["plan"]).ok();
    repo.publish(&["plan", "--config", "config/publish.toml"]).ok();
    fs::rename(repo.path("config"), repo.path("elsewhere")).unwrap();
    repo.publish(&["plan"]).code(4).says(&["publish.toml", "hint: "]);
    repo.env("PUBLISH_CONFIG", "elsewhere/publish.toml");
    repo.publish(&["plan"]).ok();
}

/// What a node and a person with a browser get.
#[test]
fn serve_gives_out_the_repository_and_nothing_else() {
    let repo = example();
    let ran = repo.publish(&["serve", "--listen", "127.0.0.1:0"]).says(&["publish sync"]);
    assert_ne!(ran.status.code(), Some(0), "there is nothing to serve yet\n{ran}");
    repo.sync().ok();
    let (server, url) = serve(&repo);

    let (status, manifest) = get(&url, "/pulse/SHA256SUMS");
    assert_eq!((status, String::from_utf8(manifest).unwrap()), (200, repo.manifest("pulse")));
    let (status, image) = get(&url, "/pulse/pulse-1.1.0-x86-64.raw");
    assert_eq!(status, 200);
    assert!(image == fs::read(repo.path("public/pulse/pulse-1.1.0-x86-64.raw")).unwrap());
    assert_eq!(get(&url, "/pulse/none.raw").0, 404);
    let record = "images/pulse/pulse-1.1.0-x86-64.raw.json";
    assert!(repo.path(&format!("public/.publish/{record}")).exists());
    for hidden in [
        ".publish",
        "%2epublish",
        "%2Epublish",
        "pulse/../.publish",
        "./.publish",
        ".%70ublish",
        "/.publish",
    ] {
        assert_eq!(get(&url, &format!("/{hidden}/{record}")).0, 404, "{hidden}");
    }
    for outside in [
        "/../config/publish.toml",
        "/%2e%2e/config/publish.toml",
        "/pulse/..%2f..%2fconfig/publish.toml",
    ] {
        let status = get(&url, outside).0;
        assert!((400..500).contains(&status), "{outside}: {status}");
    }

    repo.publish(&["verify", &url]).ok().prints(&["every byte is right", "4 files"]);
    repo.publish(&["verify", &format!("{url}pulse/")]).ok().prints(&["every byte is right"]);
    drop(server);
    repo.publish(&["verify", &url]).says(&["cannot reach"]);
}

/// Starts `publish serve` on a free port; its address ends with a slash.
pub fn serve(repo: &Repo) -> (crate::repo::Running, String) {
    let mut command = repo.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut server = crate::repo::Running::start(command.stdout(std::process::Stdio::piped()));
    let line = server.line();
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .expect("an address")
        .to_owned();
    (server, url)
}

#[test]
fn verify_finds_every_kind_of_damage() {
    let repo = example();
    repo.sync().ok();
    let image = "public/pulse/pulse-1.1.0-x86-64.raw";
    let good = fs::read(repo.path(image)).unwrap();
    let manifest = repo.manifest("pulse");
    let wrong = |texts: &[&str]| -> Ran { repo.publish(&["verify"]).code(3).prints(texts) };

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    repo.write(image, flipped);
    wrong(&["pulse-1.1.0-x86-64.raw: has SHA-256", "it is not right"]);
    repo.write(image, &good);

    for (bad, problem) in [
        (manifest.trim_end().to_owned(), "newline"),
        (manifest.replace('\n', "\r\n"), "line 1"),
        (format!("{manifest}\n"), "line 5"),
        (format!("# sums\n{manifest}"), "line 1"),
        (manifest.replace("  pulse-1.1.0-x86", "  ./pulse-1.1.0-x86"), "line 4"),
    ] {
        repo.write("public/pulse/SHA256SUMS", &bad);
        wrong(&["SHA256SUMS", problem]);
    }
    repo.write("public/pulse/SHA256SUMS", &manifest);

    // Harmless to clients, so not wrong; but somebody pays for it.
    repo.write("public/pulse/pulse-9.9.9-x86-64.raw", "stray");
    repo.publish(&["verify"]).ok().prints(&["warning: pulse-9.9.9-x86-64.raw: is not listed"]);
    fs::remove_file(repo.path("public/pulse/pulse-9.9.9-x86-64.raw")).unwrap();

    // Listed with the right digest, but no client could merge it.
    let text = "no image";
    repo.write("public/pulse/pulse-2.0-x86-64.raw", text);
    let line = format!("{}  pulse-2.0-x86-64.raw\n", crate::web::sha256(text.as_bytes()));
    repo.write("public/pulse/SHA256SUMS", format!("{manifest}{line}"));
    wrong(&["pulse-2.0-x86-64.raw", "not a squashfs or EROFS image"]);

    fs::remove_file(repo.path("public/pulse/SHA256SUMS")).unwrap();
    repo.publish(&["verify"]).code(3).says(&["there is no SHA256SUMS in", "pulse"]);
}

#[test]
fn verify_reads_a_directory_without_any_configuration() {
    let repo = example();
    repo.sync().ok();
    fs::remove_dir_all(repo.path("config")).unwrap();
    repo.publish(&["verify", "public"]).ok().prints(&["pulse: 4 files", "every byte is right"]);
    repo.publish(&["verify", "public/pulse"]).ok().prints(&["4 files"]);
    let ran = repo.publish(&["verify", "nowhere"]).says(&["nowhere"]);
    assert!(!ran.status.success(), "{ran}");
}

#[test]
fn verify_reads_what_a_server_gives_out_byte_by_byte() {
    let repo = example();
    repo.sync().ok();
    let (_server, url) = serve(&repo);
    let image = repo.path("public/pulse/pulse-1.0.0-arm64.raw");
    let mut bytes = fs::read(&image).unwrap();
    bytes[100] ^= 0x40;
    fs::write(&image, bytes).unwrap();
    fs::remove_file(repo.path("public/pulse/pulse-1.1.0-arm64.raw")).unwrap();
    let ran = repo.publish(&["verify", &url, "--json"]).code(3);
    let problems = ran.json()["folders"][0]["problems"].clone();
    let found: Vec<_> =
        problems.as_array().unwrap().iter().map(|p| (&p["file"], &p["problem"])).collect();
    assert_eq!(found.len(), 2, "{ran}");
    assert_eq!(found[0].0, "pulse-1.0.0-arm64.raw");
    assert!(found[0].1.as_str().unwrap().starts_with("has SHA-256"), "{ran}");
    assert_eq!(found[1].0, "pulse-1.1.0-arm64.raw");
    assert!(found[1].1.as_str().unwrap().contains("no such file"), "{ran}");
}

#[test]
fn serve_stops_when_it_is_told_to() {
    let repo = example();
    repo.sync().ok();
    let mut command = repo.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut server = crate::repo::Running::start(
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()),
    );
    assert!(server.line().contains("until interrupted"));
    server.signal(rustix::process::Signal::INT);
    let (_, said) = server.wait();
    // That is how it is meant to end, and no sync was interrupted.
    assert!(!said.contains("error") && !said.contains("sync"), "{said}");
}

#[test]
fn who_builds_can_say_what_the_date_is() {
    let mut repo = example();
    repo.env("SOURCE_DATE_EPOCH", "1000000000");
    repo.sync().ok();
    let image = "public/pulse/pulse-1.0.0-arm64.raw";
    repo.publish(&["inspect", image]).ok().prints(&["dated      2001-09-09T01:46:40Z"]);
}
