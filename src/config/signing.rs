//! `[signing]`: where the key is, and how long a manifest may be believed.
//!
//! Owns how that is written. A secret itself never stands in a configuration.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::diagnose::SECRET;
use super::quantity::{Time, duration};

/// What `best-before` must be at least, and at most, in seconds.
const PERIODS: std::ops::RangeInclusive<u64> = 2 * DAY..=3660 * DAY;

const DAY: u64 = 24 * 60 * 60;

/// `[signing]`: where the key is, and how long a manifest may be believed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signing {
    /// The secret key.
    pub key: SecretAt,
    /// What opens it, if it is locked.
    #[serde(default)]
    pub passphrase: Option<SecretAt>,
    /// How long clients may believe a manifest; for ever, if left out.
    #[serde(default, deserialize_with = "period")]
    #[schemars(with = "Option<Time>", extend("examples" = ["14d"]))]
    pub best_before: Option<Duration>,
    /// More public keys for the clients' keyring, relative to the configuration file: the next key or
    /// the last one, while nodes are moved from one to the other.
    #[serde(default)]
    pub keyring: Vec<PathBuf>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretAt {
    /// A variable of the environment.
    Env(String),
    /// A file, relative to the configuration file.
    File(PathBuf),
    /// A credential that the service manager gave us: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Place {
    /// The name of a variable of the environment.
    Env(String),
    /// A file, relative to the configuration file.
    File(PathBuf),
    /// A credential of the service manager, by its name.
    Credential(String),
}

impl JsonSchema for SecretAt {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Place::json_schema(generator);
        schema.insert("description".to_owned(), "Where a secret comes from.".into());
        schema
    }
}

impl<'de> Deserialize<'de> for SecretAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = SecretAt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`{ env = \"NAME\" }`, `{ file = \"FILE\" }` or `{ credential = \"NAME\" }`",
                )
            }
            // Not quoted: it may be the secret.
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<SecretAt, E> {
                Err(E::custom(format!(
                    "{SECRET}\nhint: name the place: {{ env = \"NAME\" }} or {{ file = \"FILE\" }}"
                )))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretAt, A::Error> {
                let place = Place::deserialize(MapAccessDeserializer::new(&mut map))?;
                if map.next_key::<IgnoredAny>()?.is_some() {
                    return Err(serde::de::Error::custom(
                        "a secret is in one place\nhint: leave the others out",
                    ));
                }
                match place {
                    Place::Env(name)
                        if name.is_empty() || name.contains(['=', '\0', '\n', ' ', '-']) =>
                    {
                        Err(serde::de::Error::custom(format!(
                            "{SECRET}, and this is no variable's name\nhint: such as {{ env = \"PUBLISH_SIGNING_KEY\" }}"
                        )))
                    }
                    Place::Env(name) => Ok(SecretAt::Env(name)),
                    Place::File(file) if file.as_os_str().is_empty() => {
                        Err(serde::de::Error::custom("an empty path is no file"))
                    }
                    Place::File(file) => Ok(SecretAt::File(file)),
                    Place::Credential(name)
                        if name.is_empty()
                            || name.len() > 255
                            || matches!(name.as_str(), "." | "..")
                            || name.contains(|c: char| c == '/' || !c.is_ascii_graphic()) =>
                    {
                        Err(serde::de::Error::custom(
                            "this is no credential's name\nhint: as in the unit: LoadCredential=NAME:/path has { credential = \"NAME\" }",
                        ))
                    }
                    Place::Credential(name) => Ok(SecretAt::Credential(name)),
                }
            }
        }
        from.deserialize_any(Table)
    }
}

/// Two days at least: a sync that runs daily must be able to renew it in time.
fn period<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let period = duration(from)?;
    if PERIODS.contains(&period.as_secs()) {
        return Ok(Some(period));
    }
    let problem = if period.as_secs() < *PERIODS.start() {
        "is less than two days: one sync that fails would stop every node"
    } else {
        "is more than ten years, which promises nothing"
    };
    Err(serde::de::Error::custom(format!("`best-before` {problem}\nhint: such as \"14d\"")))
}
