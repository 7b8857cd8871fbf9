//! `github-release://OWNER/REPO/{component}`: a repository whose folders are releases on GitHub.
//!
//! Owns how that is written, and which release a folder is. Knows nothing of GitHub's API.

use std::fmt;

use url::Url;

/// What stands for the folder of a component.
const COMPONENT: &str = "{component}";

/// The release of what is in no folder, such as the keyring.
const ROOT: &str = "repository";

/// The draft of what is for publish alone.
const STATE: &str = "publish-state";

/// Releases of one project on GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseUrl {
    /// `OWNER/REPO`
    pub repo: String,
    /// Which of its releases.
    pub tag: Tag,
}

/// How folders are called as releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// Each folder is a release of its own: what is before it in the tag, with a slash at its end; empty
    /// if there is nothing.
    Each(String),
    /// There is one release, and one folder of the same name.
    One(String),
}

impl ReleaseUrl {
    /// The tag of the release that is a folder; `None` if it has no release.
    #[must_use]
    pub fn tag_of(&self, folder: &str) -> Option<String> {
        match &self.tag {
            Tag::Each(before) => Some(format!("{before}{folder}")),
            Tag::One(tag) => (tag == folder).then(|| tag.clone()),
        }
    }

    /// The folder that a release is; `None` if it is none of this store.
    #[must_use]
    pub fn folder_of<'t>(&self, tag: &'t str) -> Option<&'t str> {
        if tag == self.root() || tag == self.state() {
            return None;
        }
        match &self.tag {
            Tag::Each(before) => tag.strip_prefix(before.as_str()).filter(|rest| !rest.is_empty()),
            Tag::One(one) => (one == tag).then_some(tag),
        }
    }

    /// The tag of the release of what is in no folder.
    #[must_use]
    pub fn root(&self) -> String {
        self.beside(ROOT)
    }

    /// The tag of the draft of what is for publish alone.
    #[must_use]
    pub fn state(&self) -> String {
        self.beside(STATE)
    }

    fn beside(&self, what: &str) -> String {
        match &self.tag {
            Tag::Each(before) => format!("{before}{what}"),
            Tag::One(tag) => format!("{tag}/{what}"),
        }
    }

    /// What comes before a folder in the URLs that nodes ask, on github.com.
    #[must_use]
    pub fn url(&self) -> Url {
        let before = match &self.tag {
            Tag::Each(before) => before.as_str(),
            Tag::One(_) => "",
        };
        let url = format!("https://github.com/{}/releases/download/{before}", self.repo);
        Url::parse(&url).expect("a URL of plain names")
    }

    pub(super) fn parse(rest: &str) -> Result<Self, String> {
        const FORM: &str = "hint: such as \"github-release://octocat/images/{component}\"";
        let mut parts = rest.splitn(3, '/');
        let (owner, repo) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let tag = parts.next().unwrap_or_default().trim_end_matches('/');
        for name in [owner, repo] {
            let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
            if name.is_empty() || matches!(name, "." | "..") || !name.bytes().all(plain) {
                return Err(format!(
                    "`{}` is no project on GitHub: OWNER/REPO\n{FORM}",
                    format!("{owner}/{repo}").escape_debug()
                ));
            }
        }
        let is_tag = |tag: &str| {
            tag.split('/').all(|part| {
                part.bytes().all(|c| c.is_ascii_alphanumeric() || b".,_+-".contains(&c))
                    && part.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
            })
        };
        let tag = match tag.split_once(COMPONENT) {
            None if tag.is_empty() => {
                return Err(format!("a store of releases must say which: a tag\n{FORM}"));
            }
            None if is_tag(tag) => Tag::One(tag.to_owned()),
            Some(("", "")) => Tag::Each(String::new()),
            Some((before, "")) if before.strip_suffix('/').is_some_and(is_tag) => {
                Tag::Each(before.to_owned())
            }
            Some(_) => {
                return Err(format!(
                    "`{}`: `{COMPONENT}` must be the whole tag, or what comes after its last slash: the URL that nodes ask ends with it\n{FORM}; and `path = \"sysext-tailscale\"` in a component is its tag",
                    tag.escape_debug()
                ));
            }
            None => {
                return Err(format!(
                    "`{}` is no tag: A-Z a-z 0-9 . , _ + -, with a slash between its parts\n{FORM}",
                    tag.escape_debug()
                ));
            }
        };
        Ok(Self { repo: format!("{owner}/{repo}"), tag })
    }
}

impl fmt::Display for ReleaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "github-release://{}/", self.repo)?;
        match &self.tag {
            Tag::Each(before) => write!(f, "{before}{COMPONENT}"),
            Tag::One(tag) => f.write_str(tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> ReleaseUrl {
        ReleaseUrl::parse(rest).unwrap()
    }

    #[test]
    fn a_folder_is_a_release_and_a_release_its_folder() {
        let each = read("o/r/{component}");
        assert_eq!(each.tag_of("tools/ts").unwrap(), "tools/ts");
        assert_eq!(each.folder_of("tools/ts"), Some("tools/ts"));
        assert_eq!((each.root(), each.folder_of("repository")), ("repository".to_owned(), None));
        let below = read("o/r/stable/{component}");
        assert_eq!(below.tag_of("ts").unwrap(), "stable/ts");
        assert_eq!(below.folder_of("stable/ts"), Some("ts"));
        assert_eq!((below.folder_of("ts"), below.folder_of("stable/")), (None, None));
        assert_eq!(below.state(), "stable/publish-state");
        assert_eq!(below.url().as_str(), "https://github.com/o/r/releases/download/stable/");
        let one = read("o/r/ts");
        assert_eq!(one.tag_of("ts").unwrap(), "ts");
        assert_eq!((one.tag_of("y"), one.folder_of("y")), (None, None));
        assert_eq!(one.root(), "ts/repository");
        assert_eq!(one.url().as_str(), "https://github.com/o/r/releases/download/");
    }

    #[test]
    fn every_form_reads_as_it_is_written() {
        for text in ["o/r/{component}", "O-1/r.x_y/a/b/{component}", "o/r/v1.0", "o/r/a/b"] {
            assert_eq!(read(text).to_string(), format!("github-release://{text}"));
        }
        assert_eq!(read("o/r/{component}/"), read("o/r/{component}"));
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for text in [
            "",
            "o",
            "o/r",
            "o/r/",
            "o//x",
            "o/../x",
            "o/r x/y",
            "o:p@h/r/x",
            "o/r/sysext-{component}",
            "o/r/{component}-x",
            "o/r/{component}/{component}",
            "o/r//x",
            "o/r/../x",
            "o/r/.x",
            "o/r/{version}",
            "o/r/a b",
        ] {
            assert!(ReleaseUrl::parse(text).is_err(), "{text} was taken");
        }
    }
}
