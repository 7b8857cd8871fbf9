//! The pages as HTML.
//!
//! Owns the templates, which are part of the program, and the policy that says what a browser may do
//! with a page: run the one script in it, whose digest is named, and load nothing from anywhere. So a
//! text that got through would still be inert.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, HtmlEscape, UndefinedBehavior, escape_formatter};
use serde::Serialize;
use sha2::Digest as _;
use url::Url;

use super::catalog::{Catalog, Changes, Entry, Release};
use super::chart::{self, Chart};
use crate::client::inert;
use crate::name::{Arch, FileName};
use crate::report::{count, human_size};
use crate::repository::commit::{CompanionRecord, InputRecord};
use crate::version::Version;

/// All that pages are made of.
pub(super) const TEMPLATES: [(&str, &str); 7] = [
    ("component.html", include_str!("templates/component.html")),
    ("feed.xml", include_str!("templates/feed.xml")),
    ("head.html", include_str!("templates/head.html")),
    ("index.html", include_str!("templates/index.html")),
    ("macros.html", include_str!("templates/macros.html")),
    ("script.js", SCRIPT),
    ("style.css", STYLE),
];

const SCRIPT: &str = include_str!("templates/script.js");
const STYLE: &str = include_str!("templates/style.css");

/// How many images of a component are told of in full: inputs and changes.
const TOLD: usize = 24;

/// What a browser may do with a page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |text: &str| STANDARD.encode(sha2::Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
        digest(STYLE),
        digest(SCRIPT)
    )
});

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    pages.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // What neither HTML nor XML has a way to write, and what turns text around, ends here.
    pages.set_formatter(|out, state, value| match value.as_str() {
        // The library would escape each slash, too, which makes texts twice as long for nothing.
        Some(text) if !value.is_safe() => {
            let escaped = HtmlEscape(&inert::lines(text)).to_string();
            Ok(out.write_str(&escaped.replace("&#x2f;", "/"))?)
        }
        _ => escape_formatter(out, state, value),
    });
    pages.add_filter("size", human_size);
    pages.add_filter("growth", growth);
    pages.add_filter("day", |at: String| at.split('T').next().unwrap_or_default().to_owned());
    pages.add_test("link", |text: String| {
        Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    });
    for (name, text) in TEMPLATES {
        // Neither is one: braces mean something else there.
        if name != "script.js" && name != "style.css" {
            pages.add_template(name, text).expect("the templates were tested");
        }
    }
    pages
});

/// A template with its values.
pub(super) fn fill(name: &str, values: &impl Serialize) -> String {
    let template = PAGES.get_template(name).expect("it is one of the templates");
    let text = template.render(Value::from(Serde(values)));
    text.expect("the templates were tested with all that is optional") + "\n"
}

/// `1.2 MiB larger`
fn growth(bytes: i64) -> String {
    let size = human_size(bytes.unsigned_abs());
    match bytes {
        0 => "the same size".to_owned(),
        1.. => format!("{size} larger"),
        _ => format!("{size} smaller"),
    }
}

/// A line of the list.
#[derive(Serialize)]
struct Row<'a> {
    href: String,
    name: &'a str,
    description: &'a str,
    newest: Option<&'a Version>,
    arches: Vec<Arch>,
    size: Option<u64>,
    published: Option<Timestamp>,
    signed: bool,
    expires: Option<Timestamp>,
}

#[derive(Serialize)]
struct Index<'a> {
    catalog: &'a Catalog,
    rows: Vec<Row<'a>>,
    /// How much there is.
    facts: [String; 3],
    policy: &'a str,
    style: &'a str,
    script: &'a str,
}

/// The page of the repository.
#[must_use]
pub fn index(catalog: &Catalog) -> String {
    let rows = catalog.components.iter().map(|entry| {
        let newest = entry.versions.first();
        let images = newest.map(|release| &release.images[..]).unwrap_or_default();
        Row {
            href: entry.page(),
            name: entry.name.as_str(),
            description: entry.description.as_deref().unwrap_or_default(),
            newest: entry.newest.as_ref(),
            arches: images.iter().map(|image| image.architecture).collect(),
            // Of the largest: what a node downloads at most.
            size: images.iter().filter_map(|image| image.size).max(),
            published: newest.and_then(Release::published),
            signed: entry.signed,
            expires: entry.expires,
        }
    });
    let images = || catalog.components.iter().flat_map(Entry::images);
    let bytes: u64 = images().filter_map(|image| image.size).sum();
    let facts = [
        count(catalog.components.len(), "component"),
        count(images().count(), "image"),
        human_size(bytes),
    ];
    let index = Index {
        catalog,
        rows: rows.collect(),
        facts,
        policy: &POLICY,
        style: STYLE,
        script: SCRIPT,
    };
    fill("index.html", &index)
}

/// A text that people copy.
#[derive(Serialize)]
struct Copied<'a> {
    id: String,
    file: &'a str,
    title: &'static str,
    about: String,
    text: &'a str,
    open: bool,
}

/// What went into an image.
#[derive(Serialize)]
struct Made<'a> {
    version: &'a Version,
    architecture: Arch,
    tool: Option<&'a str>,
    inputs: &'a [InputRecord],
    companions: &'a BTreeMap<String, CompanionRecord>,
}

/// What is otherwise in an image.
#[derive(Serialize)]
struct Changed<'a> {
    version: &'a Version,
    architecture: Arch,
    #[serde(flatten)]
    changes: &'a Changes,
}

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    /// The way to the root.
    up: String,
    has_feed: bool,
    entry: &'a Entry,
    texts: Vec<Copied<'a>>,
    /// How it is installed.
    installer: Option<String>,
    chart: Option<Chart>,
    changes: Vec<Changed<'a>>,
    inputs: Vec<Made<'a>>,
    /// How it is made again.
    rebuild: Option<String>,
    policy: &'a str,
    style: &'a str,
    script: &'a str,
}

/// The page of a component. `files` are what nodes need, as they lie beside the images.
#[must_use]
pub fn component(catalog: &Catalog, entry: &Entry, files: &BTreeMap<FileName, String>) -> String {
    let images = || {
        entry.versions.iter().flat_map(|release| release.images.iter().map(move |i| (release, i)))
    };
    let changes = images().filter_map(|(release, image)| {
        let (version, architecture) = (&release.version, image.architecture);
        image.changes.as_ref().map(|changes| Changed { version, architecture, changes })
    });
    let inputs =
        images().filter(|(_, image)| !image.inputs.is_empty() || !image.companions.is_empty());
    let inputs = inputs.map(|(release, image)| Made {
        version: &release.version,
        architecture: image.architecture,
        tool: image.tool.as_deref(),
        inputs: &image.inputs,
        companions: &image.companions,
    });
    let name = &entry.name;
    let file = format!("{name}.sh");
    let is_there = files.keys().any(|other| other.as_str() == file);
    let http = catalog.url.as_deref().filter(|url| url.starts_with("http"));
    let installer = http.filter(|_| is_there);
    let installer =
        installer.map(|url| format!("curl -fO {url}{}/{file}\nsudo sh {file}\n", entry.folder));
    let rebuild = images().find(|(_, image)| image.tool.is_some());
    let rebuild = rebuild.map(|(release, image)| {
        let version = image.release.as_ref().unwrap_or(&release.version);
        format!("publish build --check {name} {version}\n")
    });
    let page = Page {
        title: &catalog.title,
        up: "../".repeat(entry.folder.as_str().split('/').count()),
        has_feed: catalog.url.is_some(),
        entry,
        texts: texts(entry, files),
        installer,
        chart: chart::of(entry),
        changes: changes.take(TOLD).collect(),
        inputs: inputs.take(TOLD).collect(),
        rebuild,
        policy: &POLICY,
        style: STYLE,
        script: SCRIPT,
    };
    fill("component.html", &page)
}

/// The texts that people copy, the one that most need first.
fn texts<'a>(entry: &Entry, files: &'a BTreeMap<FileName, String>) -> Vec<Copied<'a>> {
    let name = entry.name.as_str();
    let first = entry.images().map(|image| image.architecture).min();
    let first = first.map(Arch::as_str).unwrap_or_default();
    let mut texts: Vec<(u8, Copied<'a>)> = Vec::new();
    for (number, (file, text)) in files.iter().enumerate() {
        let Some((stem, ending)) = file.as_str().rsplit_once('.') else { continue };
        let rest =
            stem.strip_prefix(name).map(|rest| rest.trim_start_matches('-')).unwrap_or_default();
        let arch = if rest.is_empty() { first } else { rest };
        let (order, title, about) = match ending {
            "transfer" if rest.is_empty() => {
                (0, "Transfer", format!("goes to /etc/sysupdate.{name}.d/{name}.transfer"))
            }
            "bu" => (1, "Butane", format!("a whole node for Flatcar, {arch}")),
            "ign" => (2, "Ignition", format!("the same, as machines read it, {arch}")),
            "sh" => (3, "Installer", "for any machine with systemd 257 or newer".to_owned()),
            "transfer" => (4, "Transfer", format!("in its place: only versions of {rest}")),
            _ => continue,
        };
        let (id, file) = (format!("text-{number}"), file.as_str());
        texts.push((order, Copied { id, file, title, about, text, open: order == 0 }));
    }
    // The first architecture has the shorter name.
    texts.sort_by_key(|(order, text)| (*order, text.file.len()));
    texts.into_iter().map(|(_, text)| text).collect()
}
