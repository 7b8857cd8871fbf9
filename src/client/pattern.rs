//! Match patterns of sysupdate.d(5), read as the clients read them.
//!
//! Owns the two steps that a client takes: specifiers of the file, then wildcards of the name. Also what
//! a version is to which client. Knows nothing of manifests.

use std::fmt;

use crate::name::{Arch, is_portable};

/// A client whose rules differ from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// systemd 257
    V257,
    /// systemd 262
    V262,
}

impl Client {
    /// All that are known.
    pub const ALL: [Self; 2] = [Self::V257, Self::V262];

    /// Whether it takes a text for a version; what it does not take it drops without a word.
    #[must_use]
    pub fn reads(self, version: &str) -> bool {
        let legal = |c: char| match self {
            Self::V257 => is_portable(c),
            Self::V262 => is_portable(c) || matches!(c, '~' | '^'),
        };
        !version.is_empty() && version.chars().all(legal)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V257 => "systemd 257",
            Self::V262 => "systemd 262",
        })
    }
}

/// A pattern, its specifiers expanded: what is before the version and what is after it. Other wildcards
/// than `@v` are never written here, so none is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    after: String,
}

impl Pattern {
    /// Reads a pattern as a node of this architecture does. `None`: the client refuses it.
    #[must_use]
    pub fn parse(text: &str, arch: Arch) -> Option<Self> {
        let mut parts = vec![String::new()];
        let mut chars = expand(text, arch)?.chars().collect::<Vec<_>>().into_iter();
        while let Some(c) = chars.next() {
            let last = parts.last_mut()?;
            match c {
                '@' => match chars.next()? {
                    '@' => last.push('@'),
                    'v' => parts.push(String::new()),
                    _ => return None,
                },
                '$' | '*' | '?' | '[' | ']' | '!' | '\\' | '|' | '/' => return None,
                c if !(' '..='~').contains(&c) => return None,
                c => last.push(c),
            }
        }
        let [before, after] = <[String; 2]>::try_from(parts).ok()?;
        Some(Self { before, after })
    }

    /// The version that a client reads in a name; `None`: it does not see the file.
    ///
    /// The first place where the text after the version could begin is where the version ends, and then
    /// nothing may follow, as in systemd's own loop.
    #[must_use]
    pub fn version<'n>(&self, name: &'n str, client: Client) -> Option<&'n str> {
        let rest = name.strip_prefix(self.before.as_str())?;
        let version = if self.after.is_empty() {
            rest
        } else {
            let end = rest.find(self.after.as_str())?;
            (end + self.after.len() == rest.len()).then(|| &rest[..end])?
        };
        client.reads(version).then_some(version)
    }
}

/// `%a` and `%%`, as far as they are written here; `None` for any other specifier.
fn expand(text: &str, arch: Arch) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match after.chars().next()? {
            'a' => out.push_str(arch.as_str()),
            '%' => out.push('%'),
            _ => return None,
        }
        rest = &after[1..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
        Pattern::parse(pattern, Arch::X86_64)?.version(name, Client::V257)
    }

    #[test]
    fn a_name_is_split_as_a_client_splits_it() {
        assert_eq!(read("x-@v-%a.raw", "x-1.0-r1-x86-64.raw"), Some("1.0-r1"));
        assert_eq!(read("x-@v-%a.raw", "x-1.0-arm64.raw"), None);
        assert_eq!(read("x-@v-%a.raw", "x--x86-64.raw"), None);
        // The first end counts, and nothing comes behind it.
        assert_eq!(read("x-@v-%a.raw", "x-1-x86-64.raw-x86-64.raw"), None);
        assert_eq!(read("x-1.31.@v-%a.raw", "x-1.31.4+k3s1-x86-64.raw"), Some("4+k3s1"));
        assert_eq!(read("x-1.31.@v-%a.raw", "x-1.310.4-x86-64.raw"), None);
        assert_eq!(read("@v%a", "1x86-64"), Some("1"));
        assert_eq!(read("%a-@v", "x86-64-1.0"), Some("1.0"));
    }

    #[test]
    fn what_a_client_refuses_is_no_pattern() {
        for bad in ["x-%a.raw", "@v-@v", "@v@a", "@v@", "%b@v", "@v%", "a/@v", "@v*", "@v\u{e9}"] {
            assert_eq!(Pattern::parse(bad, Arch::X86_64), None, "{bad}");
        }
    }

    #[test]
    fn only_newer_clients_read_a_tilde() {
        let pattern = Pattern::parse("x-@v.raw", Arch::Arm64).unwrap();
        assert_eq!(pattern.version("x-1~rc1.raw", Client::V257), None);
        assert_eq!(pattern.version("x-1~rc1.raw", Client::V262), Some("1~rc1"));
    }
}
