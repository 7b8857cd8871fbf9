//! `[network]`: how upstreams are reached, and who we are to them.
//!
//! Owns how that is written. A secret itself never stands in a configuration, and nothing is read
//! here but the text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

use super::quantity::{Time, duration};
use super::{Count, SecretAt};

/// `[network]`: how upstreams are reached, and who we are to them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Network {
    /// How many builds, with their downloads, run at once.
    pub concurrency: Count,
    /// How many requests one host has to answer at once.
    pub per_host: Count,
    /// URL prefixes to replace before anything is asked for: a proxy or an artifact cache.
    pub rewrite: BTreeMap<String, String>,
    /// How long a server may be silent before it counts as down.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "Time", extend("default" = "30s"))]
    pub timeout: Duration,
    /// Certificate authorities to trust beside the system's: a file in PEM.
    pub ca: Option<PathBuf>,
    /// What to show to which server.
    pub credentials: BTreeMap<Server, Credential>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            concurrency: Count(8),
            per_host: Count(16),
            rewrite: BTreeMap::new(),
            timeout: Duration::from_secs(30),
            ca: None,
            credentials: BTreeMap::new(),
        }
    }
}

impl Network {
    /// Reads its paths from the folder of the configuration file.
    pub(super) fn relative_to(&mut self, folder: &Path) {
        let files = self.credentials.values_mut().map(|credential| match credential {
            Credential::Bearer(secret) | Credential::Basic(_, secret) => secret,
        });
        let files = files.filter_map(|secret| match secret {
            SecretAt::File(file) => Some(file),
            SecretAt::Env(_) | SecretAt::Credential(_) => None,
        });
        for file in files.chain(&mut self.ca) {
            *file = folder.join(&*file);
        }
    }

    /// The files that hold secrets.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretAt> {
        self.credentials.values().map(|credential| match credential {
            Credential::Bearer(secret) | Credential::Basic(_, secret) => secret,
        })
    }

    /// What serde cannot tell by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut urls = self.rewrite.iter().flat_map(|(from, to)| [from, to]);
        match urls.find(|url| Url::parse(url).is_err()) {
            None => Ok(()),
            Some(url) => Err(format!(
                "[network] rewrite: `{}` is not the beginning of a URL\nhint: write it as \"https://host/path/\"",
                url.escape_debug()
            )),
        }
    }
}

/// A server as credentials are for it: scheme, host and port, all three.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("examples" = ["git.example.com"]))]
pub struct Server(String);

impl Server {
    /// The server that a URL leads to.
    #[must_use]
    pub fn of(url: &Url) -> Self {
        Self(url.origin().ascii_serialization())
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Server {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{}` is no server\nhint: such as \"git.example.com\" or \"git.example.com:8443\"; without encryption \"http://…\"",
                text.escape_debug()
            )
        };
        // Without a scheme it is https: a secret goes over an open line only by somebody's wish.
        let full = if text.contains("://") { text.clone() } else { format!("https://{text}") };
        let url = Url::parse(&full).map_err(|_| bad())?;
        let plain = url.username().is_empty() && url.password().is_none();
        let only = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let known = matches!(url.scheme(), "http" | "https");
        let real = match url.host() {
            Some(Host::Domain(name)) => !name.contains('*'),
            Some(_) => true,
            None => false,
        };
        if plain && only && known && real && !full.ends_with('/') {
            Ok(Self::of(&url))
        } else {
            Err(bad())
        }
    }
}

/// What a server wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(into = "Written")]
pub enum Credential {
    /// A token.
    Bearer(SecretAt),
    /// A user and his password.
    Basic(String, SecretAt),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    /// A token, sent as `Bearer`.
    token: Option<SecretAt>,
    /// A user, sent as `Basic`.
    username: Option<String>,
    /// The user's password.
    password: Option<SecretAt>,
}

impl TryFrom<Written> for Credential {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written { token: Some(token), username: None, password: None } => {
                Ok(Self::Bearer(token))
            }
            Written { token: None, username: Some(name), password: Some(password) }
                if !name.contains(':') && !name.chars().any(char::is_control) =>
            {
                Ok(Self::Basic(name, password))
            }
            _ => Err("credentials are a `token`, or a `username` and a `password`\nhint: { token = { env = \"NAME\" } } or { username = \"…\", password = { file = \"FILE\" } }".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Network, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn credentials_are_for_one_scheme_host_and_port() {
        let network = read(
            "[credentials]\n\"git.example.com\" = { token = { env = \"T\" } }\n\"http://127.0.0.1:80\" = { username = \"u\", password = { file = \"p\" } }\n\"h:8443\" = { token = { env = \"T\" } }\n",
        )
        .unwrap();
        let known =
            |url: &str| network.credentials.contains_key(&Server::of(&Url::parse(url).unwrap()));
        assert!(known("https://git.example.com/x") && known("https://git.example.com:443/"));
        assert!(known("http://127.0.0.1/") && known("https://h:8443/x"));
        for other in ["http://git.example.com/", "https://git.example.com:444/", "https://h/"] {
            assert!(!known(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_credential_is_refused() {
        for text in [
            "[credentials]\n\"h/path\" = { token = { env = \"T\" } }\n",
            "[credentials]\n\"ftp://h\" = { token = { env = \"T\" } }\n",
            "[credentials]\n\"u:p@h\" = { token = { env = \"T\" } }\n",
            "[credentials]\n\"*.h\" = { token = { env = \"T\" } }\n",
            "[credentials]\n\"\" = { token = { env = \"T\" } }\n",
            "[credentials]\nh = { token = \"secret\" }\n",
            "[credentials]\nh = { username = \"u\" }\n",
            "[credentials]\nh = { username = \"u:v\", password = { env = \"T\" } }\n",
            "[credentials]\nh = { username = \"u\", token = { env = \"T\" } }\n",
            "[credentials]\nh = {}\n",
            "per-host = 0\n",
        ] {
            let error = read(text).map(|network| panic!("{text}: {network:?}")).unwrap_err();
            assert!(!error.message().contains("secret\""), "{error}");
        }
    }

    #[test]
    fn files_are_where_the_configuration_is() {
        let mut network = read(
            "ca = \"ca.pem\"\n[credentials]\na = { token = { file = \"t\" } }\nb = { token = { env = \"T\" } }\n",
        )
        .unwrap();
        network.relative_to(Path::new("/etc/publish"));
        assert_eq!(network.ca.as_deref(), Some(Path::new("/etc/publish/ca.pem")));
        let secrets: Vec<_> = network.secrets().collect();
        assert_eq!(*secrets[0], SecretAt::File("/etc/publish/t".into()));
        assert_eq!(*secrets[1], SecretAt::Env("T".into()));
    }
}
