//! Builds on other machines: one plans, several build, one publishes.
//!
//! The machine that publishes has its configuration in the folder itself. Those that build have the same
//! one in `builder/`, with a store that nobody reaches without credentials and without the signing key.
//! In `plain/` the same is done by one `publish sync`, to compare with.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::repo::{Ran, Repo, Running, snapshot, until};
use crate::web::{Fault, Web, sha256};

const STORE: &str = "store = \"public\"";

/// Two architectures, and what each component has of its own.
fn scene() -> Repo {
    scene_with("")
}

fn scene_with(sections: &str) -> Repo {
    let repo = Repo::with(sections);
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    let both = "architectures = [\"x86-64\", \"arm64\"]";
    repo.write("publish.toml", config.replace("architectures = [\"x86-64\"]", both));
    repo
}

/// A component with a file for each architecture.
fn tool(repo: &Repo, name: &str, versions: &[&str]) {
    repo.component(
        name,
        &format!(
            "[source.directory]\npath = \"{name}-releases\"\nmatch = \"{name}-{{version}}-{{arch}}\"\n\n[[asset]]\nname = \"{name}-{{version}}-{{arch}}\"\n[asset.files]\n\"usr/bin/{name}\" = \"{name}-{{version}}-{{arch}}\"\n"
        ),
    );
    for version in versions {
        put(repo, name, version);
    }
}

fn put(repo: &Repo, name: &str, version: &str) {
    for arch in ["x86-64", "arm64"] {
        let path = format!("components/{name}-releases/{name}-{version}-{arch}");
        repo.write(&path, format!("{name} {version} {arch}\n").repeat(500));
    }
}

/// Gives another machine the configuration.
fn check_out(repo: &Repo, to: &str, store: &str) {
    let _ = fs::remove_dir_all(repo.path(&format!("{to}/components")));
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    assert!(config.contains(STORE));
    repo.write(&format!("{to}/publish.toml"), config.replace(STORE, store));
    copy(&repo.path("components"), &repo.path(&format!("{to}/components")));
    if repo.path("publish.lock").exists() {
        fs::copy(repo.path("publish.lock"), repo.path(&format!("{to}/publish.lock"))).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut command = Command::new("cp");
    assert!(command.arg("-rT").arg(from).arg(to).status().unwrap().success());
}

/// The matrix: one line, and nothing else on stdout.
#[track_caller]
fn plan(repo: &Repo, args: &[&str]) -> Vec<Value> {
    check_out(repo, "builder", "store = \"s3://nobody-reaches-it/x\"");
    let ran = repo.publish(&[&["plan", "--matrix"], args].concat()).ok();
    assert_eq!(ran.stdout.matches('\n').count(), 1, "{ran}");
    let matrix: Value = serde_json::from_str(&ran.stdout).unwrap();
    matrix["include"].as_array().unwrap().clone()
}

/// What builds one job.
fn builder(repo: &Repo, job: &Value, to: &str) -> Command {
    let job = job["job"].as_str().expect("the orders are a text");
    repo.command(&["--config", "builder/publish.toml", "build", "--staged", to, "--job", job])
}

fn build(repo: &Repo, job: &Value, to: &str) -> Ran {
    repo.run(&mut builder(repo, job, to))
}

fn build_all(repo: &Repo, jobs: &[Value]) {
    for job in jobs {
        build(repo, job, "staged").ok();
    }
}

/// Four machines that build the jobs, each into a folder of its own; the folders are merged then.
pub fn fleet(jobs: &[Value], repo: &Repo, command: impl Fn(&Value, &str) -> Command + Sync) {
    let left = Mutex::new(jobs.iter());
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (left, command) = (&left, &command);
            scope.spawn(move || {
                let to = format!("machine-{number}");
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(job) = next else { break };
                    Ran::of(&mut command(job, &to)).ok();
                }
            });
        }
    });
    for number in 0..4 {
        let from = repo.path(&format!("machine-{number}"));
        if from.exists() {
            copy(&from, &repo.path("staged"));
        }
    }
}

fn publish(repo: &Repo) -> Ran {
    repo.publish(&["sync", "--staged", "staged"])
}

/// What clients read of a store, and how it was made: not what upstreams answered, nor what has the time
/// of its publication in it, such as signatures, and pages for people.
pub fn published(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = snapshot(store).into_iter().map(|(path, (bytes, ..))| (path, bytes));
    let mut files: BTreeMap<_, _> = files
        .filter(|(path, _)| !path.starts_with(".publish/upstream") && !path.contains("SHA256SUMS."))
        .collect();
    // Signatures that were pledged are in it, and those have dates.
    files.retain(|path, _| !path.starts_with(".publish/folders/"));
    let pages = ["catalog.json", "feed.xml", ".publish/page.json"];
    let is = |path: &str, end: &str| Path::new(path).extension().is_some_and(|it| it == end);
    files.retain(|path, _| !is(path, "html") && !pages.contains(&path.as_str()));
    let records = |path: &str| path.starts_with(".publish/images/") && is(path, "json");
    for (_, bytes) in files.iter_mut().filter(|(path, _)| records(path)) {
        let mut record: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        assert!(record.as_object_mut().unwrap().remove("published").is_some());
        *bytes = serde_json::to_vec(&record).unwrap();
    }
    files
}

#[track_caller]
fn same_as_plain(repo: &Repo) {
    check_out(repo, "plain", STORE);
    for key in ["signing.key"] {
        if repo.path(key).exists() {
            fs::copy(repo.path(key), repo.path(&format!("plain/{key}"))).unwrap();
        }
    }
    repo.publish(&["--config", "plain/publish.toml", "sync"]).ok();
    let (staged, plain) = (published(&repo.path("public")), published(&repo.path("plain/public")));
    assert_eq!(staged.keys().collect::<Vec<_>>(), plain.keys().collect::<Vec<_>>());
    for (path, bytes) in &plain {
        assert!(staged[path] == *bytes, "{path} is another one");
    }
    let lock = |path: &str| fs::read_to_string(repo.path(path)).ok();
    assert_eq!(lock("publish.lock"), lock("plain/publish.lock"));
}

fn statement(repo: &Repo, name: &str, image: &str) -> (String, Value) {
    let path = format!("staged/records/{name}/{image}.json");
    let value = serde_json::from_slice(&fs::read(repo.path(&path)).unwrap()).unwrap();
    (path, value)
}

/// Says something else of how the image was made.
fn change(repo: &Repo, name: &str, image: &str, change: impl Fn(&mut Value)) {
    let (path, mut said) = statement(repo, name, image);
    change(&mut said["left"]["image"]);
    repo.write(&path, said.to_string());
}

/// A sync that refuses one version of `a`, saying this, and publishes `b` all the same.
#[track_caller]
fn refuses(repo: &Repo, texts: &[&str]) {
    let ran = publish(repo).code(3).says(texts).says(&["error: a 1.0 ", "hint: "]);
    assert!(!repo.path("public/a/SHA256SUMS").exists(), "{ran}");
    assert_eq!(repo.listed("b").len(), 2, "{ran}");
}

/// Two components, each with one version for two architectures, built elsewhere.
fn staged() -> Repo {
    let repo = scene();
    tool(&repo, "a", &["1.0"]);
    tool(&repo, "b", &["1.0"]);
    let jobs = plan(&repo, &[]);
    build_all(&repo, &jobs);
    repo
}

const X86: &str = "a-1.0-x86-64.raw";
const ARM: &str = "a-1.0-arm64.raw";

#[test]
fn four_machines_make_what_one_makes() {
    let web = Web::start();
    let repo = scene_with("[signing]\nkey = { file = \"signing.key\" }\n");
    repo.publish(&["key", "generate"]).ok();
    tool(&repo, "a", &["1.0", "1.1"]);
    tool(&repo, "b", &["2.0"]);
    // First use, for both architectures; and a companion.
    let url = web.url();
    web.put("/list", "1.0;\n1.1;\n");
    for version in ["1.0", "1.1"] {
        web.put(&format!("/first-{version}"), version);
    }
    repo.component(
        "first",
        &format!(
            "[source.http]\nurl = \"{url}/list\"\nmatch = '(?<version>[0-9.]+);'\n\n[[asset]]\nurl = \"{url}/first-{{version}}\"\ntrust = \"first-use\"\n[asset.files]\n\"usr/bin/first\" = \"first-{{version}}\"\n"
        ),
    );
    repo.write("components/cni-releases/cni-1.5.0", "cni");
    repo.component(
        "k",
        "[source.directory]\npath = \"k-releases\"\nmatch = \"k-{version}\"\n\n[[companion]]\nname = \"cni\"\n[companion.source.directory]\npath = \"cni-releases\"\nmatch = \"cni-{version}\"\n\n[[asset]]\nname = \"k-{version}\"\n[asset.files]\n\"usr/bin/k\" = \"k-{version}\"\n\n[[asset]]\nof = \"cni\"\nname = \"cni-{cni.version}\"\n[asset.files]\n\"usr/bin/cni\" = \"cni-{cni.version}\"\n",
    );
    repo.write("components/k-releases/k-1.31.0", "k");

    let jobs = plan(&repo, &["--staged", "staged"]);
    assert_eq!(jobs.len(), 4 + 2 + 4 + 2);
    let first = &jobs[0];
    assert_eq!(
        (&first["component"], &first["version"], &first["images"], &first["index"]),
        (&json!("a"), &json!("1.1"), &json!(1), &json!(0)),
    );
    assert_eq!(first["runner"], "ubuntu-latest");
    let name = format!("a 1.1 {}", first["arch"].as_str().unwrap());
    assert_eq!(first["name"], name);
    // A newer companion, after the plan: the old one goes in.
    repo.write("builder/components/cni-releases/cni-1.6.0", "newer");
    fleet(&jobs, &repo, |job, to| builder(&repo, job, to));
    assert!(!repo.path("publish.lock").exists(), "who builds notes nothing");
    publish(&repo).ok().prints(&["published 12 images"]).says(&["in publish.lock: commit it"]);
    repo.publish(&["verify"]).ok();
    assert_eq!(repo.image("k", "k-1.31.0-x86-64.raw").text("usr/bin/cni"), "cni");
    same_as_plain(&repo);
    publish(&repo).ok().prints(&["nothing to do"]);
    assert_eq!(plan(&repo, &[]), Vec::<Value>::new());

    // A revision, made of what was accepted before; and a file that is gone.
    let text = fs::read_to_string(repo.path("components/k.toml")).unwrap();
    repo.component("k", &format!("{text}\n[files]\n\"usr/share/k/x\" = {{ text = \"x\" }}\n"));
    let gone = format!("public/b/{}", "b-2.0-arm64.raw");
    let before = fs::read(repo.path(&gone)).unwrap();
    fs::remove_file(repo.path(&gone)).unwrap();
    // Nodes have what was dated then.
    repo.write("components/cni-releases/cni-1.6.0", "newer");
    fs::remove_dir_all(repo.path("staged")).unwrap();
    let jobs = plan(&repo, &["--staged", "staged"]);
    let names: Vec<_> = jobs.iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"k 1.31.0-r1 arm64") && names.contains(&"b 2.0 arm64"), "{names:?}");
    build_all(&repo, &jobs);
    publish(&repo).ok().prints(&["published 3 images", "the recipe changed", "the file is gone"]);
    assert_eq!(fs::read(repo.path(&gone)).unwrap(), before);
    assert_eq!(repo.image("k", "k-1.31.0-r1-x86-64.raw").text("usr/bin/cni"), "cni");
    same_as_plain(&repo);
}

#[test]
fn a_job_is_taken_by_its_number_and_from_the_environment() {
    let repo = scene();
    tool(&repo, "a", &["1.0"]);
    let jobs = plan(&repo, &["--staged", "staged"]);
    let first = ["--config", "builder/publish.toml", "build", "--staged", "staged"];
    let ran = repo.publish(&[&first[..], &["--index", "0", "--json"]].concat()).ok().json();
    assert_eq!(ran["images"][0]["arch"], jobs[0]["arch"]);
    let mut second = repo.command(&first);
    second.env("PUBLISH_JOB", jobs[1]["job"].as_str().unwrap());
    repo.run(&mut second).ok().prints(&["staged/images/a/a-1.0-"]);
    publish(&repo).ok().prints(&["published 2 images"]);

    for (args, said) in [
        (&["--index", "2"][..], "the matrix has 2 jobs, and none is 2"),
        (&["--job", "{}"], "this is no job of `publish plan --matrix`"),
        (&["--job", "[]"], "it orders nothing"),
        (&[], "no job is given"),
    ] {
        repo.publish(&[&first[..], args].concat()).code(2).says(&[said]);
    }
    let elsewhere = ["build", "--staged", "nowhere", "--index", "0"];
    repo.publish(&elsewhere).code(2).says(&["nowhere/plan.json is not there", "hint: "]);
    let other = jobs[0]["job"].as_str().unwrap().replace("\"a\"", "\"z\"");
    repo.publish(&["build", "--staged", "s", "--job", &other])
        .code(2)
        .says(&["there is no component `z`"]);
}

#[test]
fn folders_may_lie_beside_each_other() {
    let repo = scene();
    tool(&repo, "a", &["1.0"]);
    for (number, job) in plan(&repo, &[]).iter().enumerate() {
        build(&repo, job, &format!("staged/artifact {number}")).ok();
    }
    publish(&repo).ok().prints(&["published 2 images"]);
}

#[test]
fn what_was_killed_or_failed_is_told_and_the_rest_is_published() {
    let web = Web::start();
    let repo = scene();
    tool(&repo, "b", &["1.0"]);
    let url = web.url();
    web.put("/list", "1.0;\n");
    web.put("/a-1.0", "a".repeat(1 << 20));
    let component = format!(
        "[source.http]\nurl = \"{url}/list\"\nmatch = '(?<version>[0-9.]+);'\n\n[[asset]]\nurl = \"{url}/a-{{version}}\"\n[asset.files]\n\"usr/bin/a\" = \"a-{{version}}\"\n"
    );
    repo.component("a", &component);
    let jobs = plan(&repo, &["--staged", "staged"]);
    let (of_a, of_b): (Vec<Value>, Vec<Value>) =
        jobs.into_iter().partition(|job| job["component"] == "a");
    build_all(&repo, &of_b);
    build(&repo, &of_a[0], "staged").ok();
    web.fault("/a-1.0", Fault::Stall, usize::MAX);
    web.clear_requests();
    let mut command = builder(&repo, &of_a[1], "staged");
    let killed = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    until("the download", || web.requests().iter().any(|asked| asked.path == "/a-1.0"));
    killed.signal(Signal::KILL);
    killed.wait();
    repo.clean_up();
    refuses(&repo, &["it was to be built elsewhere, and nobody staged it"]);

    // Half of a version is worth nothing, and whoever fails says why.
    web.heal();
    web.fault("/a-1.0", Fault::Status(403), usize::MAX);
    build(&repo, &of_a[1], "staged").code(3).says(&["error: a 1.0 ", "403"]);
    refuses(&repo, &["its build failed elsewhere: a 1.0 ", "403"]);
    let image = format!("a-1.0-{}.raw", of_a[1]["arch"].as_str().unwrap());
    let (path, mut said) = statement(&repo, "a", &image);
    said["left"]["failed"]["error"]["message"] = "x\u{1b}[2J\nerror: fake".into();
    repo.write(&path, said.to_string());
    refuses(&repo, &["its build failed elsewhere: x [2J error: fake: "]);

    web.heal();
    build(&repo, &of_a[1], "staged").ok();
    publish(&repo).ok().prints(&["published 2 images"]);
}

#[test]
fn what_upstream_has_later_is_left_for_the_next_run() {
    let repo = scene();
    tool(&repo, "a", &["1.0"]);
    repo.component(
        "a",
        &format!(
            "{}\n[versions]\nnewest = 1\n",
            fs::read_to_string(repo.path("components/a.toml")).unwrap()
        ),
    );
    tool(&repo, "b", &["1.0"]);
    let jobs = plan(&repo, &["--staged", "staged"]);
    // After the plan, before the builds.
    for folder in ["", "builder/"] {
        for arch in ["x86-64", "arm64"] {
            for name in ["a", "b"] {
                let path = format!("{folder}components/{name}-releases/{name}-1.1-{arch}");
                repo.write(&path, "later");
            }
        }
    }
    build_all(&repo, &jobs);
    let ran = publish(&repo).ok().prints(&["published 2 images"]);
    let ran = ran.says(&[
        "left a-1.1-x86-64.raw: it came up after the plan",
        "left a-1.0-x86-64.raw of a: staged, but the plan wants it no longer",
        "left b-1.1-arm64.raw: it came up after the plan",
    ]);
    assert_eq!(repo.listed("b"), ["b-1.0-arm64.raw", "b-1.0-x86-64.raw"], "{ran}");
    // Whoever does not know what was ordered is told of all that lacks.
    fs::remove_file(repo.path("staged/plan.json")).unwrap();
    publish(&repo).code(3).says(&[
        "error: b 1.1 x86-64: it was to be built elsewhere, and nobody staged it",
        "error: a 1.1 arm64",
    ]);
    fs::remove_dir_all(repo.path("staged")).unwrap();
    build_all(&repo, &plan(&repo, &[]));
    publish(&repo).ok().prints(&["published 4 images"]);
    same_as_plain_after(&repo);
}

/// As [`same_as_plain`], where the versions before have gone.
#[track_caller]
fn same_as_plain_after(repo: &Repo) {
    assert_eq!(repo.listed("a"), ["a-1.1-arm64.raw", "a-1.1-x86-64.raw"]);
    repo.publish(&["verify"]).ok();
}

#[test]
fn a_folder_in_the_store_is_refused() {
    let repo = scene();
    tool(&repo, "a", &["1.0"]);
    repo.sync().ok();
    symlink("public", repo.path("link")).unwrap();
    for (folder, command) in [
        ("public/staged", &["plan", "--matrix", "--staged"][..]),
        ("link/new/er", &["plan", "--matrix", "--staged"]),
        ("public/a", &["build", "--index", "0", "--staged"]),
        ("public/../public/a", &["build", "--index", "0", "--staged"]),
        ("public/staged", &["sync", "--staged"]),
    ] {
        let told = format!("error: --staged {folder} is in the store, where everybody may read it");
        let ran = repo.publish(&[command, &[folder]].concat()).code(2);
        ran.says(&[&told, "hint: take a folder beside it"]);
    }
}

#[test]
fn nothing_was_to_be_built() {
    let repo = scene();
    tool(&repo, "a", &["1.0"]);
    repo.sync().ok();
    assert_eq!(plan(&repo, &["--staged", "staged"]), Vec::<Value>::new());
    let before = repo.snapshot();
    publish(&repo).ok().prints(&["nothing to do"]);
    repo.publish(&["sync", "--staged", "not there"]).ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let web = Web::start();
    let repo = scene();
    let url = web.url();
    web.put("/list", "1.0;\n");
    web.put("/a-1.0", "a");
    repo.component(
        "a",
        &format!(
            "[source.http]\nurl = \"{url}/list\"\nmatch = '(?<version>[0-9.]+);'\n\n[[asset]]\nurl = \"{url}/a-{{version}}\"\n[asset.files]\n\"usr/bin/a\" = \"a-{{version}}\"\n"
        ),
    );
    repo.sync().ok();
    web.put("/list", "1.0;\n1.1;\n");
    let jobs = plan(&repo, &["--staged", "staged"]);
    assert_eq!(jobs.len(), 2);
    for job in &jobs {
        build(&repo, job, "staged").ok().says(&["upstream has no `a-1.1` yet"]);
    }
    publish(&repo).ok().prints(&["1.1 waits for `a-1.1`"]);
    web.put("/a-1.1", "a");
    let jobs = plan(&repo, &["--staged", "staged"]);
    build_all(&repo, &jobs);
    publish(&repo).ok().prints(&["published 2 images"]);
}

#[test]
fn an_image_that_was_changed_on_the_way_is_refused() {
    let image = format!("staged/images/a/{X86}");
    let flip = |repo: &Repo| {
        let mut bytes = fs::read(repo.path(&image)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        repo.write(&image, bytes);
    };
    let repo = staged();
    flip(&repo);
    refuses(&repo, &["the staged a-1.0-x86-64.raw is not what is said of it: it has SHA-256 "]);

    let repo = staged();
    fs::OpenOptions::new().append(true).open(repo.path(&image)).unwrap().set_len(100).unwrap();
    refuses(&repo, &["it has a length of 100, and its record says "]);

    let repo = staged();
    fs::remove_file(repo.path(&image)).unwrap();
    refuses(
        &repo,
        &[
            "cannot take staged/images/a/a-1.0-x86-64.raw",
            "No such file",
            "hint: copy the whole folder that `publish build --staged` wrote to",
        ],
    );

    // The record lies, too: then it is no image that a node would take.
    let repo = staged();
    repo.write(&image, "not an image at all\n");
    let (path, mut said) = statement(&repo, "a", X86);
    let bytes = fs::read(repo.path(&image)).unwrap();
    said["left"]["image"]["sha256"] = sha256(&bytes).into();
    said["left"]["image"]["size"] = bytes.len().into();
    repo.write(&path, said.to_string());
    refuses(&repo, &["the staged a-1.0-x86-64.raw cannot be looked into"]);
}

#[test]
fn what_is_said_of_an_image_and_can_be_seen_in_it_is_seen() {
    let repo = staged();
    change(&repo, "a", X86, |record| record["time"] = (1_u64 << 62).into());
    refuses(&repo, &["it has the date 0, and its record says 4611686018427387904"]);

    let repo = staged();
    let honest = [X86, ARM].map(|image| statement(&repo, "a", image).1["left"]["image"].clone());
    change(&repo, "a", X86, |record| record["contents"]["paths"] = json!({"usr/bin/other": 1}));
    change(&repo, "a", ARM, |record| record["contents"] = Value::Null);
    publish(&repo).ok();
    for (image, honest) in [X86, ARM].iter().zip(honest) {
        let path = repo.path(&format!("public/.publish/images/a/{image}.json"));
        let published: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert!(honest["contents"]["paths"]["usr/bin/a"].is_u64(), "{honest}");
        assert_eq!(published["contents"], honest["contents"]);
    }
}

#[test]
fn what_is_said_of_another_image_is_refused() {
    // The whole statement.
    let repo = staged();
    let (path, _) = statement(&repo, "a", X86);
    let (_, other) = statement(&repo, "a", ARM);
    repo.write(&path, other.to_string());
    refuses(&repo, &["its name is a-1.0-arm64.raw, and should be a-1.0-x86-64.raw"]);

    // Only the record in it: of the same release, but for another machine.
    let repo = staged();
    let (path, mut said) = statement(&repo, "a", X86);
    said["left"] = statement(&repo, "a", ARM).1["left"].clone();
    repo.write(&path, said.to_string());
    refuses(
        &repo,
        &["what was staged as a-1.0-x86-64.raw is not what the plan wants: its recipe is "],
    );

    // With the image, under the other's name.
    let repo = staged();
    let from = repo.path(&format!("staged/images/a/{ARM}"));
    fs::copy(from, repo.path(&format!("staged/images/a/{X86}"))).unwrap();
    let (_, arm) = statement(&repo, "a", ARM);
    let (path, mut mine) = statement(&repo, "a", X86);
    for key in ["sha256", "size"] {
        mine["left"]["image"][key] = arm["left"]["image"][key].clone();
    }
    repo.write(&path, mine.to_string());
    let ran = publish(&repo).code(3).says(&["error: a 1.0 x86-64: ", "ARCHITECTURE=arm64"]);
    assert!(!repo.path("public/a/SHA256SUMS").exists(), "{ran}");
}

#[test]
fn each_word_of_a_record_counts() {
    let other = "0".repeat(64);
    let changes: [(&str, Value, &str); 8] = [
        ("version", json!(1), "its record's version is 1, and should be 2"),
        ("tool", json!("publish 0.0.1"), "its builder is publish 0.0.1, and should be publish "),
        ("recipe", json!(other), "its recipe is 0000"),
        (
            "release",
            json!("0.9"),
            "its version is 0.9 (revision 0), and should be 1.0 (revision 0)",
        ),
        ("revision", json!(1), "its version is 1.0 (revision 1)"),
        (
            "companions",
            json!({"x": {"version": "1", "tag": "1"}}),
            "its company is x 1, and should be none",
        ),
        ("inputs", json!([]), "its number of inputs is 0, and should be 1"),
        (
            "inputs",
            json!([{"from": "b-1.0-x86-64", "sha256": other, "size": 1, "promised_by": []}]),
            "its input is b-1.0-x86-64, and should be a-1.0-x86-64",
        ),
    ];
    let repo = staged();
    let (path, said) = statement(&repo, "a", X86);
    for (key, value, text) in changes {
        let mut said = said.clone();
        said["left"]["image"][key] = value;
        repo.write(&path, said.to_string());
        refuses(&repo, &[text]);
    }
    let mut later = said.clone();
    later["version"] = 9.into();
    for (text, problem) in [
        ("{", "says nothing of it"),
        ("{\"version\": 2}", "says nothing of it"),
        (&later.to_string(), "its version 9 is not known"),
        (&" ".repeat(2 << 20), "it is larger than"),
    ] {
        repo.write(&path, text);
        refuses(&repo, &[problem]);
    }
    repo.write(&path, said.to_string());
    publish(&repo).ok().prints(&["published 2 images"]);
}

#[test]
fn another_recipe_than_the_plans_is_refused_on_both_machines() {
    let repo = staged();
    let text = fs::read_to_string(repo.path("components/a.toml")).unwrap();
    let changed = format!("{text}\n[files]\n\"usr/share/a\" = {{ text = \"new\" }}\n");
    repo.component("a", &changed);
    refuses(&repo, &["its recipe is ", "plan, build and sync from one commit"]);

    let repo = scene();
    tool(&repo, "a", &["1.0"]);
    tool(&repo, "b", &["1.0"]);
    let jobs = plan(&repo, &[]);
    repo.write("builder/components/a.toml", changed);
    for job in &jobs {
        let ran = build(&repo, job, "staged");
        if job["component"] == "a" {
            ran.code(3).says(&["error: a 1.0 ", "its recipe is another one here than in the plan"]);
        } else {
            ran.ok();
        }
    }
    refuses(&repo, &["its build failed elsewhere"]);
}

#[test]
fn links_and_other_files_are_not_followed() {
    let outside = |repo: &Repo| repo.write("outside/secret", "secret");
    let image = format!("staged/images/a/{X86}");
    let record = format!("staged/records/a/{X86}.json");

    let repo = staged();
    fs::rename(repo.path(&image), repo.path("moved.raw")).unwrap();
    symlink(repo.path("moved.raw"), repo.path(&image)).unwrap();
    refuses(&repo, &["cannot take staged/images/a/a-1.0-x86-64.raw"]);

    let repo = staged();
    fs::rename(repo.path(&record), repo.path("moved.json")).unwrap();
    symlink(repo.path("moved.json"), repo.path(&record)).unwrap();
    refuses(&repo, &["says nothing of it"]);

    let repo = staged();
    fs::rename(repo.path("staged/images/a"), repo.path("moved")).unwrap();
    symlink(repo.path("moved"), repo.path("staged/images/a")).unwrap();
    refuses(&repo, &["it is behind a link"]);

    let repo = staged();
    outside(&repo);
    fs::remove_file(repo.path(&image)).unwrap();
    let made = Command::new("mkfifo").arg(repo.path(&image)).status().unwrap();
    assert!(made.success());
    refuses(&repo, &["it is no regular file"]);

    // Names that nothing of ours has are nobody's.
    let repo = staged();
    for path in
        ["records/..x/-.json", "records/a b/c.json", "records/a/..json", "records/a/x y.json"]
    {
        repo.write(&format!("staged/{path}"), "{}");
    }
    symlink(repo.path("staged"), repo.path("staged/again")).unwrap();
    publish(&repo).ok().prints(&["published 4 images"]);
}

#[test]
fn first_uses_hold_for_what_was_built_elsewhere() {
    let web = Web::start();
    let repo = scene();
    tool(&repo, "b", &["1.0"]);
    let url = web.url();
    web.put("/list", "1.0;\n");
    web.put("/a-1.0", "honest");
    repo.component(
        "a",
        &format!(
            "[source.http]\nurl = \"{url}/list\"\nmatch = '(?<version>[0-9.]+);'\n\n[[asset]]\nurl = \"{url}/a-{{version}}\"\ntrust = \"first-use\"\n[asset.files]\n\"usr/bin/a\" = \"a-{{version}}\"\n"
        ),
    );
    let jobs = plan(&repo, &["--staged", "staged"]);
    build_all(&repo, &jobs);
    // Of two machines that met other bytes, one was lied to.
    web.put("/a-1.0", "evil");
    let of_a = jobs.iter().find(|job| job["component"] == "a").unwrap();
    build(&repo, of_a, "staged").ok();
    let ran = publish(&repo).code(3).says(&["error: a 1.0 ", "/a-1.0 had SHA-256 "]);
    assert!(!repo.path("public/a/SHA256SUMS").exists(), "{ran}");
    assert_eq!(repo.listed("b").len(), 2);

    // What the file knows, every machine is asked for.
    web.put("/a-1.0", "honest");
    build_all(&repo, &jobs);
    fs::remove_file(repo.path("publish.lock")).unwrap();
    publish(&repo).ok();
    let known = fs::read_to_string(repo.path("publish.lock")).unwrap();
    assert!(known.contains(&sha256(b"honest")), "{known}");
    repo.publish(&["sync", "--locked"]).ok();
}

#[test]
fn a_mirror_is_copied_by_the_last_machine() {
    let web = Web::start();
    let repo = scene();
    tool(&repo, "b", &["1.0"]);
    let image = b"theirs";
    web.put("/m/m-1.0-x86-64.raw", &image[..]);
    web.put("/m/SHA256SUMS", format!("{}  m-1.0-x86-64.raw\n", sha256(image)));
    repo.component(
        "m",
        &format!(
            "[source.repository]\nurl = \"{}/m/\"\nmatch = \"m-{{version}}-{{arch}}.raw\"\nunsigned = true\ninspect = false\n[versions]\npartial = true\n",
            web.url()
        ),
    );
    let jobs = plan(&repo, &["--staged", "staged"]);
    assert!(jobs.iter().all(|job| job["component"] == "b"), "{jobs:?}");
    build_all(&repo, &jobs);
    publish(&repo).ok().prints(&["published 3 images"]);
    assert_eq!(repo.listed("m"), ["m-1.0-x86-64.raw"]);
}
