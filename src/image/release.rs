//! extension-release: what an image claims to extend (os-release(5), systemd-sysext(8)).

use std::collections::BTreeMap;
use std::fmt;

use super::Identity;
use crate::config::extension::Kind;

/// Where the extension-release for an image of this kind and name is.
#[must_use]
pub fn path(kind: Kind, name: &str) -> String {
    format!("{}/extension-release.{name}", kind.release_folder())
}

/// The keys and values of an extension-release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionRelease(BTreeMap<String, String>);

impl ExtensionRelease {
    /// That of an image of ours.
    #[must_use]
    pub fn new(identity: &Identity<'_>) -> Self {
        let extension = identity.extension;
        let mut keys = BTreeMap::from([
            ("ID".to_owned(), extension.id.clone()),
            ("ARCHITECTURE".to_owned(), identity.arch.to_string()),
        ]);
        let level_key = extension.kind.level_key();
        keys.extend(extension.level.clone().map(|level| (level_key.to_owned(), level)));
        keys.extend(extension.version_id.clone().map(|id| ("VERSION_ID".to_owned(), id)));
        if extension.reload.unwrap_or(identity.services) {
            keys.insert("EXTENSION_RELOAD_MANAGER".to_owned(), "1".to_owned());
        }
        Self(keys)
    }

    /// Reads one as systemd does: shell-like assignments, `#` comments, quotes taken off.
    ///
    /// What is no assignment is left out, as systemd leaves it out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let assignments = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        Self(
            assignments
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.trim().to_owned(), unquote(value.trim())))
                .collect(),
        )
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All keys and values.
    #[must_use]
    pub fn keys(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    value.to_owned()
}

impl fmt::Display for ExtensionRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `ID=` first, as people expect it; the rest is in the order of the alphabet.
        let id = self.0.get_key_value("ID");
        let rest = self.0.iter().filter(|(key, _)| *key != "ID");
        id.into_iter().chain(rest).try_for_each(|(key, value)| writeln!(f, "{key}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_systemd_reads_it() {
        let text = "# c\nID=\"flatcar\"\nSYSEXT_LEVEL='1.0'\n\nnonsense\n ARCHITECTURE = x86-64 \n";
        let release = ExtensionRelease::parse(text);
        assert_eq!(release.get("ID"), Some("flatcar"));
        assert_eq!(release.get("SYSEXT_LEVEL"), Some("1.0"));
        assert_eq!(release.get("ARCHITECTURE"), Some("x86-64"));
        assert_eq!(ExtensionRelease::parse(&release.to_string()), release);
        assert!(release.to_string().starts_with("ID=flatcar\n"));
    }
}
