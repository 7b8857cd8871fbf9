//! Pages of made-up repositories.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::catalog::{Catalog, Changes, Entry, FileChanges, Item, Names, Release, VERSION, Yanked};
use super::{feed, html};
use crate::name::{Arch, FileName, Sha256};
use crate::repository::commit::InputRecord;

/// What no text may do anything with.
const HOSTILE: &str = "<script>alert(1)</script>\"'>]]>--><b>&amp;{{ 7*7 }}\u{202e}\u{1}\u{0}";

pub(super) fn entry(name: &str, versions: &[&str]) -> Entry {
    let release = |version: &&str| Release {
        version: version.parse().unwrap(),
        images: vec![Item {
            file: format!("{name}-{version}-x86-64.raw").parse().unwrap(),
            architecture: Arch::X86_64,
            sha256: Sha256::of(version.as_bytes()),
            size: Some(1 << 20),
            published: Timestamp::from_second(1_700_000_000).ok(),
            release: None,
            revision: 0,
            tool: None,
            inputs: Vec::new(),
            companions: BTreeMap::new(),
            changes: None,
        }],
    };
    Entry {
        name: name.parse().unwrap(),
        folder: name.parse().unwrap(),
        description: None,
        homepage: None,
        changelog: None,
        signed: false,
        expires: None,
        newest: versions.first().map(|version| version.parse().unwrap()),
        versions: versions.iter().map(release).collect(),
        yanked: Vec::new(),
        earlier: Vec::new(),
        client_files: Vec::new(),
    }
}

pub(super) fn catalog(components: Vec<Entry>) -> Catalog {
    Catalog {
        version: VERSION,
        title: "files.example.com".to_owned(),
        url: Some("https://files.example.com/".to_owned()),
        keyring: None,
        components,
    }
}

/// An entry with everything that can be there, and nothing friendly in it.
fn hostile() -> Entry {
    let text = || HOSTILE.to_owned();
    let mut entry = entry("x", &["1.1", "1.0"]);
    entry.description = Some(text());
    entry.homepage = Some(text());
    entry.changelog = Some(text());
    entry.expires = Some(Timestamp::UNIX_EPOCH);
    entry.signed = true;
    let yank = |version: &str| Yanked {
        version: version.parse().unwrap(),
        at: Timestamp::UNIX_EPOCH,
        reason: Some(text()),
    };
    entry.yanked = vec![yank("0.9")];
    let item = &mut entry.versions[0].images[0];
    item.tool = Some(text());
    item.inputs = vec![InputRecord {
        from: format!("javascript:{HOSTILE}"),
        sha256: Sha256::of(b""),
        size: 1,
        promised_by: vec![text()],
    }];
    let names = || Names { count: 2, names: vec![text()] };
    let files = FileChanges { added: names(), removed: names(), resized: names() };
    let since = "1.0".parse().unwrap();
    item.changes = Some(Changes { since, growth: -1, files: Some(files) });
    entry
}

#[test]
fn hostile_texts_are_texts() {
    let mut catalog = catalog(vec![hostile()]);
    catalog.title = HOSTILE.to_owned();
    let files: BTreeMap<FileName, String> =
        [("x.transfer".parse().unwrap(), format!("{HOSTILE}\n\tsecond\n"))].into();
    let page = html::component(&catalog, &catalog.components[0], &files);
    for text in [html::index(&catalog), page, feed::render(&catalog).unwrap()] {
        assert_eq!(
            text.matches("<script").count(),
            usize::from(text.contains("</html>")),
            "{text}"
        );
        assert!(!text.contains("<b>"), "{text}");
        assert!(!text.contains("href=\"javascript:"), "{text}");
        assert!(text.contains("{{ 7*7 }}"), "{text}");
        for c in ['\u{202e}', '\u{1}', '\u{0}'] {
            assert!(!text.contains(c), "{text}");
        }
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut bare = entry("x", &["1.0"]);
    let item = &mut bare.versions[0].images[0];
    (item.size, item.published) = (None, None);
    let mut nothing = entry("y", &[]);
    nothing.newest = None;
    let mut catalog = catalog(vec![bare, nothing]);
    catalog.url = None;
    let index = html::index(&catalog);
    assert!(index.contains("nothing now"), "{index}");
    assert!(!index.contains("feed.xml"), "{index}");
    for entry in &catalog.components {
        let page = html::component(&catalog, entry, &BTreeMap::new());
        assert!(page.contains("<h1>"), "{page}");
        assert!(!page.contains("curl"), "{page}");
    }
    assert_eq!(feed::render(&catalog), None);
    let empty = Catalog { components: Vec::new(), ..catalog };
    assert!(html::index(&empty).contains("Nothing is published yet."));
}

#[test]
fn a_catalogue_is_read_as_it_was_written() {
    let catalog = catalog(vec![hostile(), entry("y", &["2.0"])]);
    assert_eq!(Catalog::read(catalog.render().as_bytes()), Some(catalog.clone()));
    let newer = catalog.render().replace("\"version\": 1,", "\"version\": 2,");
    assert_eq!(Catalog::read(newer.as_bytes()), None);
    assert_eq!(Catalog::read(b"<html>"), None);
}

#[test]
fn a_feed_holds_what_came_last() {
    let versions: Vec<String> = (0..150).rev().map(|n| format!("1.{n}")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let mut many = entry("x", &versions);
    for (number, release) in many.versions.iter_mut().rev().enumerate() {
        let at = 1_700_000_000 + i64::try_from(number).unwrap();
        release.images[0].published = Timestamp::from_second(at).ok();
    }
    let feed = feed::render(&catalog(vec![many])).unwrap();
    assert_eq!(feed.matches("<entry>").count(), 100);
    assert!(feed.contains("<title>x 1.149</title>"), "{feed}");
    assert!(!feed.contains("<title>x 1.49</title>"), "{feed}");
    assert!(feed.contains("<updated>2023-11-14T22:15:49Z</updated>"), "{feed}");
    assert!(feed.contains("<id>https://files.example.com/x/x.html#v1.149</id>"), "{feed}");
}
