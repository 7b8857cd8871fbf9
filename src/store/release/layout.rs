//! Which asset of which release an object is. Pure.
//!
//! A folder is a release, because assets have no folders. What is for publish alone goes into a draft,
//! which only those see who may write to the project: there, an object's whole path is its name.

use std::fmt::Write as _;

use crate::config::ReleaseUrl;
use crate::store::PRIVATE;

/// What a new content of an asset is called until the old one is gone.
const NEXT: &str = ".next";

/// A release, and the name of an asset in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub tag: String,
    pub name: String,
    /// Whether it is in the draft.
    pub private: bool,
}

/// Where an object is; `None` if there is no place for it.
pub(super) fn spot(url: &ReleaseUrl, path: &str) -> Option<Spot> {
    if let Some(rest) = below_private(path) {
        return Some(Spot { tag: url.state(), name: escape(rest), private: true });
    }
    let (tag, name) = match path.rsplit_once('/') {
        None => (url.root(), path),
        Some((folder, name)) => (url.tag_of(folder)?, name),
    };
    Some(Spot { tag, name: name.to_owned(), private: false })
}

/// The object that an asset is; `None` if it is none of ours.
pub(super) fn path(url: &ReleaseUrl, tag: &str, name: &str) -> Option<String> {
    if tag == url.state() {
        return Some(format!("{PRIVATE}/{}", unescape(name)?));
    }
    if tag == url.root() {
        return Some(name.to_owned());
    }
    Some(format!("{}/{name}", url.folder_of(tag)?))
}

/// The name of a new content until it takes the place of the old one.
pub(super) fn next(name: &str) -> String {
    format!("{name}{NEXT}")
}

/// The asset that such a content is for.
pub(super) fn is_next(name: &str) -> Option<&str> {
    name.strip_suffix(NEXT)
}

/// Whether a folder is the private one, or below it.
pub(super) fn is_private(folder: &str) -> bool {
    folder == PRIVATE || below_private(folder).is_some()
}

/// A path below the private folder, relative to it.
fn below_private(path: &str) -> Option<&str> {
    path.strip_prefix(PRIVATE)?.strip_prefix('/')
}

/// Of names, GitHub keeps letters, digits, `.`, `-`, `_` and little more as they are. An underscore begins
/// what stands for another byte.
fn escape(path: &str) -> String {
    let mut name = String::with_capacity(path.len() + 8);
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b".-".contains(&byte) {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "_{byte:02X}");
        }
    }
    name
}

fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('_');
    let mut path = parts.next()?.as_bytes().to_vec();
    for part in parts {
        path.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        path.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(path).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::StoreUrl;

    fn store(text: &str) -> ReleaseUrl {
        match StoreUrl::try_from(format!("github-release://o/r/{text}")).unwrap() {
            StoreUrl::Release(url) => url,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn folders_are_releases_and_the_rest_is_apart() {
        let url = store("stable/{component}");
        for (object, tag, name) in [
            ("ts/SHA256SUMS", "stable/ts", "SHA256SUMS"),
            ("tools/ts/x+y.raw", "stable/tools/ts", "x+y.raw"),
            ("import-pubring.gpg", "stable/repository", "import-pubring.gpg"),
            (".publish/lock", "stable/publish-state", "lock"),
            (
                ".publish/images/ts/a_b-1+1.raw.json",
                "stable/publish-state",
                "images_2Fts_2Fa_5Fb-1_2B1.raw.json",
            ),
        ] {
            let at = spot(&url, object).unwrap();
            assert_eq!((&*at.tag, &*at.name), (tag, name));
            assert_eq!(path(&url, tag, name).unwrap(), object);
        }
        for (tag, name) in
            [("ts", "x"), ("stable/publish-state", "a_b"), ("stable/publish-state", "a_ü")]
        {
            assert_eq!(path(&url, tag, name), None, "{tag} {name}");
        }
    }

    #[test]
    fn one_release_has_one_folder() {
        let url = store("ts");
        assert_eq!(spot(&url, "ts/SHA256SUMS").unwrap().tag, "ts");
        assert_eq!(spot(&url, "other/SHA256SUMS"), None);
    }

    proptest! {
        #[test]
        fn every_name_is_one_object(path in "[ -~]{1,40}") {
            let name = escape(&path);
            prop_assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_".contains(&c)));
            prop_assert_eq!(unescape(&name), Some(path));
        }

        #[test]
        fn whatever_an_asset_is_called(name in "\\PC{0,40}") {
            let _ = unescape(&name);
        }
    }
}
