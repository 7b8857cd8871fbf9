//! `[extension]`: what an image claims to extend (os-release(5), systemd-sysext(8)).
//!
//! Owns which claims can be made. Knows nothing of where in an image they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which folders of a node an image adds to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A system extension: `/usr` and `/opt`.
    #[default]
    Sysext,
    /// A configuration extension: `/etc` (systemd-confext(8)).
    Confext,
}

impl Kind {
    /// The folders at the root of such an image.
    #[must_use]
    pub fn tops(self) -> &'static [&'static str] {
        match self {
            Self::Sysext => &["usr", "opt"],
            Self::Confext => &["etc"],
        }
    }

    /// The folder that holds the extension-release.
    #[must_use]
    pub fn release_folder(self) -> &'static str {
        match self {
            Self::Sysext => "usr/lib/extension-release.d",
            Self::Confext => "etc/extension-release.d",
        }
    }

    /// The folder that units are in.
    #[must_use]
    pub fn units(self) -> &'static str {
        match self {
            Self::Sysext => "usr/lib/systemd/system",
            Self::Confext => "etc/systemd/system",
        }
    }

    /// The key of its level.
    #[must_use]
    pub fn level_key(self) -> &'static str {
        match self {
            Self::Sysext => "SYSEXT_LEVEL",
            Self::Confext => "CONFEXT_LEVEL",
        }
    }
}

/// `[extension]`: what an image claims to extend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Raw")]
#[schemars(into = "Raw")]
pub struct Extension {
    /// What it extends.
    pub kind: Kind,
    /// `ID=`; `_any` fits every distribution.
    pub id: String,
    /// `SYSEXT_LEVEL=` or `CONFEXT_LEVEL=`.
    pub level: Option<String>,
    /// `VERSION_ID=`
    pub version_id: Option<String>,
    /// `EXTENSION_RELOAD_MANAGER=1`: systemd reads its units again on a merge. Left out: when the
    /// component enables services.
    pub reload: Option<bool>,
}

impl Default for Extension {
    fn default() -> Self {
        let id = "_any".to_owned();
        Self { kind: Kind::Sysext, id, level: None, version_id: None, reload: None }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    /// What it extends.
    #[serde(default)]
    kind: Kind,
    /// `ID=` of the hosts that take it; `_any` fits every distribution.
    #[schemars(extend("default" = "_any"))]
    id: Option<String>,
    /// `SYSEXT_LEVEL=`, which must equal the host's.
    sysext_level: Option<String>,
    /// `CONFEXT_LEVEL=`, which must equal the host's.
    confext_level: Option<String>,
    /// `VERSION_ID=`, which must equal the host's.
    version_id: Option<String>,
    /// Whether systemd reads its units again on a merge; left out, where the component enables services.
    reload: Option<bool>,
}

impl TryFrom<Raw> for Extension {
    type Error = String;
    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { kind, id, sysext_level, confext_level, version_id, reload } = raw;
        let level = match (kind, sysext_level, confext_level) {
            (Kind::Sysext, level, None) | (Kind::Confext, None, level) => level,
            (Kind::Sysext, ..) => {
                return Err(
                    "`confext-level` goes with `kind = \"confext\"`\nhint: a system extension has a `sysext-level`".to_owned(),
                );
            }
            (Kind::Confext, ..) => {
                return Err("`sysext-level` goes with system extensions\nhint: a configuration extension has a `confext-level`".to_owned());
            }
        };
        let id = id.unwrap_or_else(|| "_any".to_owned());
        for value in [Some(&id), level.as_ref(), version_id.as_ref()].into_iter().flatten() {
            // os-release(5) also allows quoted values; none of these keys needs one.
            if value.is_empty()
                || !value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            {
                return Err(format!(
                    "`{}` cannot stand in an extension-release",
                    value.escape_debug()
                ));
            }
        }
        if id != "_any" && level.is_none() && version_id.is_none() {
            let key = match kind {
                Kind::Sysext => "sysext-level",
                Kind::Confext => "confext-level",
            };
            return Err(format!(
                "no host takes `id = \"{id}\"` alone\nhint: add `{key}` or `version-id`; either must equal the host's"
            ));
        }
        Ok(Self { kind, id, level, version_id, reload })
    }
}
