//! The name of an asset: one or several, and whose.
//!
//! Owns how it is written. Knows nothing of releases.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::template::Template;

/// A file of a release, by whatever name it has there.
#[derive(Debug, Clone)]
pub struct AssetName {
    /// The companion whose release it is of; the component's own, if left out.
    pub of: Option<String>,
    /// Its names, in the order in which they are looked for.
    pub names: Vec<Template>,
}

/// One name or a list of them.
pub(super) struct NameList(pub(super) Vec<Template>);

impl<'de> Deserialize<'de> for NameList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = NameList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an asset, or a list of the names it may have")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<NameList, E> {
                Template::parse(name).map(|name| NameList(vec![name])).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<NameList, A::Error> {
                let names: Vec<Template> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                match names.len() {
                    1..=16 => Ok(NameList(names)),
                    _ => Err(serde::de::Error::custom("an asset has 1 to 16 names")),
                }
            }
        }
        from.deserialize_any(OneOrMore)
    }
}
