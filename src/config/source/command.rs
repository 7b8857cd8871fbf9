//! `[source.command]`: a program that prints versions.
//!
//! Owns how it is written. Knows nothing of how it is run.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::build::Words;
use crate::config::quantity;

/// `[source.command]`, or `command = […]` in `[source]`.
#[derive(Debug, Clone)]
pub struct CommandRule {
    /// The program and its arguments; no shell reads them.
    pub run: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Where it runs: the folder of the component's file.
    pub folder: PathBuf,
}

/// `[source.command]`: a program that prints versions.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "SourceCommand")]
pub(super) struct Table {
    /// The program and its arguments; no shell reads them.
    #[schemars(with = "Words")]
    run: Vec<String>,
    /// How long it may take.
    #[serde(default = "a_minute", deserialize_with = "quantity::duration")]
    #[schemars(with = "quantity::Time", extend("default" = "1m"))]
    timeout: Duration,
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

impl<'de> Deserialize<'de> for CommandRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct EitherForm;
        impl<'de> Visitor<'de> for EitherForm {
            type Value = CommandRule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a program and its arguments, or a table with `run`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<CommandRule, A::Error> {
                let run = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                rule(Table { run, timeout: a_minute() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CommandRule, A::Error> {
                rule(Table::deserialize(MapAccessDeserializer::new(map))?)
            }
        }
        from.deserialize_any(EitherForm)
    }
}

fn rule<E: serde::de::Error>(Table { run, timeout }: Table) -> Result<CommandRule, E> {
    if run.first().is_none_or(String::is_empty) {
        return Err(E::custom(
            "the command names no program\nhint: such as command = [\"./versions.sh\"]",
        ));
    }
    if run.iter().any(|word| word.contains('\0')) {
        return Err(E::custom("a word of the command has a NUL in it"));
    }
    Ok(CommandRule { run, timeout, folder: PathBuf::new() })
}
