//! The pages for people: what a sync writes, when it does not, and that no text in them is more than that.

use std::fs;

use serde_json::Value;

use crate::repo::{Ran, Repo, Running, get};

fn read(repo: &Repo, path: &str) -> String {
    fs::read_to_string(repo.path(&format!("public/{path}")))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn catalog(repo: &Repo) -> Value {
    serde_json::from_str(&read(repo, "catalog.json")).unwrap()
}

/// The names of the components that the catalogue tells of.
fn told(repo: &Repo) -> Vec<String> {
    let catalog = catalog(repo);
    let components = catalog["components"].as_array().unwrap().iter();
    components.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn published(names: &[&str]) -> Repo {
    let repo = Repo::new();
    for name in names {
        repo.simple(name);
        repo.release(name, "1.0", format!("{name} 1.0"));
    }
    repo.sync().ok();
    repo
}

/// A second sync says nothing is to be done, and writes nothing.
#[track_caller]
fn rests(repo: &Repo) -> Ran {
    let before = repo.snapshot();
    let ran = repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before, "a sync without work wrote something\n{ran}");
    ran
}

#[test]
fn pages_come_with_what_they_tell_and_rest() {
    let repo = published(&["x", "y"]);
    let index = read(&repo, "index.html");
    assert!(index.contains("<h1 dir=\"auto\">files.example.com</h1>"), "{index}");
    assert!(index.contains("<a href=\"x/x.html\">x</a>"), "{index}");
    let page = read(&repo, "x/x.html");
    for text in [
        "Path=https://files.example.com/x/",
        "publish build --check x 1.0",
        "curl -fO https://files.example.com/x/x.sh",
        "href=\"../index.html\"",
        "not signed",
    ] {
        assert!(page.contains(text), "{text}\n{page}");
    }
    assert!(read(&repo, "feed.xml").contains("<title>y 1.0</title>"));
    rests(&repo);
    repo.publish(&["verify"]).ok();

    // The next version: what changed is told, and pages that tell nothing of it stay as they are.
    let before = repo.snapshot();
    repo.release("x", "1.1", "x 1.1, which is larger");
    repo.sync().ok();
    let after = repo.snapshot();
    assert_eq!(before["y/y.html"], after["y/y.html"]);
    assert_ne!(before["x/x.html"], after["x/x.html"]);
    let catalog = catalog(&repo);
    assert_eq!(catalog["version"], 1);
    let x = &catalog["components"][0];
    assert_eq!(x["newest"], "1.1");
    let image = &x["versions"][0]["images"][0];
    assert_eq!(image["changes"]["since"], "1.0");
    assert_eq!(image["changes"]["files"]["resized"]["names"][0], "usr/bin/x");
    assert_eq!(image["inputs"][0]["from"], "x-1.1");
    let listed = repo.manifest("x");
    assert!(listed.contains(&format!("{}  x-1.1-x86-64.raw", image["sha256"].as_str().unwrap())));
    assert!(read(&repo, "x/x.html").contains("Size over versions"));
    rests(&repo);
}

#[test]
fn what_is_lost_or_cut_short_comes_back() {
    let repo = published(&["x"]);
    let whole = repo.snapshot();
    for path in ["index.html", "catalog.json", "feed.xml", "x/x.html"] {
        let text = read(&repo, path);
        for left in [None, Some(0), Some(text.len() / 2)] {
            match left {
                None => fs::remove_file(repo.path(&format!("public/{path}"))).unwrap(),
                Some(left) => repo.write(&format!("public/{path}"), &text[..left]),
            }
            repo.sync().ok();
            assert_eq!(read(&repo, path), text, "{path}");
        }
    }
    rests(&repo);
    // Without the record, nobody knows what is ours; but these very bytes are nobody else's.
    fs::remove_file(repo.path("public/.publish/page.json")).unwrap();
    repo.sync().ok();
    let bytes = |snapshot: &crate::repo::Snapshot, path: &str| snapshot[path].0.clone();
    let now = repo.snapshot();
    for path in ["index.html", "catalog.json", "feed.xml", "x/x.html", ".publish/page.json"] {
        assert_eq!(bytes(&now, path), bytes(&whole, path), "{path}");
    }
    rests(&repo);
}

#[test]
fn what_somebody_else_put_there_stays() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "x 1.0");
    repo.write("public/index.html", "<h1>mine</h1>");
    let says = ["warning: public/index.html is somebody else's", "page = false"];
    repo.sync().ok().says(&says);
    assert_eq!(read(&repo, "index.html"), "<h1>mine</h1>");
    assert_eq!(told(&repo), ["x"]);
    rests(&repo).says(&says);
    repo.publish(&["verify"]).ok().prints(&["../index.html: is somebody else's"]);
    fs::remove_file(repo.path("public/index.html")).unwrap();
    repo.sync().ok();
    assert!(read(&repo, "index.html").contains("files.example.com"));
    // One of ours that somebody edits is a problem, but nothing that a sync writes over.
    let edited = read(&repo, "index.html").replacen("files", "filez", 1);
    repo.write("public/index.html", edited);
    rests(&repo);
    repo.publish(&["verify"]).code(3).prints(&["../index.html: has other bytes"]);
}

#[test]
fn only_some_components_leave_the_others_told() {
    let repo = published(&["x", "y"]);
    repo.release("x", "1.1", "x 1.1");
    repo.publish(&["sync", "--only", "x"]).ok();
    assert_eq!(told(&repo), ["x", "y"]);
    assert!(read(&repo, "index.html").contains("y/y.html"));
    rests(&repo);
    // A catalogue that nobody can read is made anew, of those that are known: the next sync knows all.
    repo.write("public/catalog.json", "");
    repo.publish(&["sync", "--only", "x"]).ok();
    repo.sync().ok();
    assert_eq!(told(&repo), ["x", "y"]);
    rests(&repo);
}

#[test]
fn what_is_taken_out_is_told_and_what_is_retired_goes() {
    let repo = published(&["x", "y"]);
    repo.release("x", "1.1", "x 1.1");
    repo.sync().ok();
    repo.publish(&["yank", "x", "1.1", "--reason", "it <b>bites</b>"]).ok();
    let page = read(&repo, "x/x.html");
    assert!(page.contains("<bdi>it &lt;b&gt;bites&lt;/b&gt;</bdi>"), "{page}");
    assert_eq!(catalog(&repo)["components"][0]["newest"], "1.0");
    rests(&repo);
    fs::remove_file(repo.path("components/y.toml")).unwrap();
    repo.sync().ok();
    // It is still offered.
    assert_eq!(told(&repo), ["x", "y"]);
    repo.publish(&["retire", "y"]).ok();
    assert_eq!(told(&repo), ["x"]);
    assert!(!repo.path("public/y/y.html").exists());
    assert!(!read(&repo, "index.html").contains("y/y.html"));
    rests(&repo);
}

#[test]
fn a_page_has_a_title_or_is_not_there() {
    let repo = published(&["x"]);
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    let set = |page: &str| repo.write("publish.toml", format!("{config}{page}\n"));
    set("page = { title = \"Ours & <yours>\" }");
    repo.sync().ok();
    assert!(read(&repo, "index.html").contains("<title>Ours &amp; &lt;yours&gt;</title>"));
    assert!(read(&repo, "x/x.html").contains("Ours &amp; &lt;yours&gt;</a>"));
    rests(&repo);
    set("page = false");
    repo.sync().ok();
    for path in ["index.html", "catalog.json", "feed.xml", "x/x.html", ".publish/page.json"] {
        assert!(!repo.path(&format!("public/{path}")).exists(), "{path}");
    }
    rests(&repo);
    set("page = \"no\"");
    repo.sync().code(4).says(&["publish.toml:", "page = \"no\"", "`false`, or a table"]);
}

/// Without an address, nodes cannot be told anything, and a feed has no name.
#[test]
fn a_repository_without_an_address_has_a_page_too() {
    let repo = Repo::empty();
    repo.write("publish.toml", "[repository]\narchitectures = [\"x86-64\"]\n");
    repo.simple("x");
    repo.release("x", "1.0", "x 1.0");
    repo.sync().ok();
    assert!(read(&repo, "index.html").contains("<h1 dir=\"auto\">Repository</h1>"));
    assert!(!read(&repo, "x/x.html").contains("Follow it"));
    assert!(!repo.path("public/feed.xml").exists());
    rests(&repo);
}

#[test]
fn a_folder_is_answered_with_its_page() {
    let repo = published(&["x"]);
    let mut command = repo.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut server = Running::start(command.stdout(std::process::Stdio::piped()));
    let line = server.line();
    let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap().to_owned();
    let (status, body) = get(&url, "/");
    assert_eq!((status, body), (200, read(&repo, "index.html").into_bytes()));
    assert_eq!(get(&url, "/x/x.html").0, 200);
    assert_eq!(get(&url, "/.publish/page.json").0, 404);
}

/// What no text may do anything with, wherever it goes.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"'`$(id)`id` %n \\",
    "</script></style></title>]]>--><!--",
    "\u{202e}gnp.exe\u{2066}",
    "a\u{0}b\u{1b}[31m\r\n[Transfer]\nVerify=no\u{2028}x: y",
    "{{ 7*7 }}{% for %}&lt;&#0;",
];

#[test]
fn hostile_descriptions_are_inert_everywhere() {
    let repo = Repo::new();
    let long = "<b>".repeat(4000);
    let texts = HOSTILE.iter().copied().chain([long.as_str()]);
    for (number, text) in texts.clone().enumerate() {
        let name = format!("x{number}");
        repo.simple(&name);
        let rest = fs::read_to_string(repo.path(&format!("components/{name}.toml"))).unwrap();
        // JSON's strings are TOML's, but for a character that neither takes as it is.
        let text = serde_json::to_string(text).unwrap().replace('\u{7f}', "");
        repo.component(&name, &format!("description = {text}\n{rest}"));
        repo.release(&name, "1.0", "x");
    }
    repo.sync().ok();
    for number in 0..texts.count() {
        let name = format!("x{number}");
        let page = read(&repo, &format!("{name}/{name}.html"));
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert_eq!(page.matches("</style").count(), 1, "{page}");
        assert_eq!(page.matches("<b>").count(), 0, "{page}");
        assert!(!page.contains(['\u{202e}', '\u{2066}', '\u{0}', '\u{1b}', '\r', '\u{2028}']));
        let transfer = read(&repo, &format!("{name}/{name}.transfer"));
        assert_eq!(transfer.matches("\n[Transfer]\n").count(), 1, "{transfer}");
        assert!(transfer.lines().all(|line| line.len() < 1000), "{transfer}");
        let script = repo.path(&format!("public/{name}/{name}.sh"));
        let checked = std::process::Command::new("sh").arg("-n").arg(script).status().unwrap();
        assert!(checked.success());
        serde_json::from_str::<Value>(&read(&repo, &format!("{name}/{name}.ign"))).unwrap();
    }
    let index = read(&repo, "index.html");
    assert_eq!(index.matches("<script").count(), 1, "{index}");
    let feed = read(&repo, "feed.xml");
    assert_eq!(elements(&feed, b"entry"), 7, "{feed}");
    assert_eq!(elements(&feed, b"script"), 0, "{feed}");
    rests(&repo);
}

/// How many elements of a name a well-formed document has.
fn elements(xml: &str, name: &[u8]) -> usize {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    reader.config_mut().enable_all_checks(true);
    let mut found = 0;
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("{error}\n{xml}")) {
            Event::Start(start) | Event::Empty(start) => {
                assert!(start.attributes().all(|attribute| attribute.is_ok()), "{xml}");
                found += usize::from(start.name().as_ref() == name);
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}
