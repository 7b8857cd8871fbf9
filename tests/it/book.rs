//! The pages for people: every link in them leads somewhere, and every page is in the book.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages below a folder, relative to the project.
fn pages_in(folder: &str, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            pages_in(&path, found);
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "md") {
            found.insert(path.into());
        }
    }
}

fn pages() -> BTreeSet<PathBuf> {
    let mut pages = BTreeSet::from(["README.md".into()]);
    pages_in("docs", &mut pages);
    pages
}

/// A page's lines without those of its examples.
fn prose(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let mut example = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            example = !example;
        } else if !example {
            lines.push(line.to_owned());
        }
    }
    assert!(!example, "{}: an example does not end", page.display());
    lines
}

/// What headings are linked by, as GitHub and mdBook make it of them.
fn anchors(page: &Path) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(page) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let slug: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let again = (1..).map(|n| format!("{slug}-{n}"));
        let free = std::iter::once(slug.clone()).chain(again).find(|s| !anchors.contains(s));
        anchors.extend(free);
    }
    anchors
}

/// The targets of a page's links.
fn links(page: &Path) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(page) {
        if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            links.push(target.to_owned());
        }
        let after = line.split("](").skip(1);
        links.extend(after.map(|rest| rest.split(')').next().unwrap_or_default().to_owned()));
    }
    links
}

/// The path without its `..`, which must not lead out of the project.
fn resolved(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{}: {target} leads out", page.display()),
            Component::Normal(name) => path.push(name),
            _ => panic!("{}: {target} is no relative path", page.display()),
        }
    }
    path
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        for link in links(&page) {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if target.is_empty() { page.clone() } else { resolved(&page, target) };
            if !root().join(&path).exists() {
                wrong.push(format!("{}: {link}: there is no such file", page.display()));
            } else if !anchor.is_empty() && !anchors(&path).contains(anchor) {
                wrong.push(format!("{}: {link}: there is no such heading", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 100, "{count}");
}

#[test]
fn every_page_is_in_the_book() {
    let summary = Path::new("docs/SUMMARY.md");
    let listed: BTreeSet<PathBuf> =
        links(summary).iter().map(|link| resolved(summary, link)).collect();
    let mut there = pages();
    there.remove(Path::new("README.md"));
    there.remove(summary);
    assert_eq!(listed, there);
}
