//! What clients would do with a manifest, told before any of them does.
//!
//! Reads the transfers that are emitted and a manifest as systemd 257 and 262 read them, for each
//! architecture, and compares what wins with what should. A pure function of these.

use std::fmt;

use super::pattern::{Client, Pattern};
use super::transfer::{Transfer, transfers};
use super::{ClientError, Offer, Offered};
use crate::config::Component;
use crate::manifest::Manifest;
use crate::name::{Arch, FileName};
use crate::repository::shelf::Names;
use crate::version::compare;

/// A client that takes something else than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misled {
    /// The transfer it follows.
    pub transfer: String,
    /// The client.
    pub client: Client,
    /// The architecture of its node.
    pub arch: Arch,
    /// What it should take.
    pub expected: FileName,
    /// What it takes; `None`: nothing at all.
    pub takes: Option<String>,
}

impl fmt::Display for Misled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transfer, client, arch, expected, takes } = self;
        let takes = takes.as_deref().unwrap_or("nothing");
        write!(f, "{client} on {arch} with {transfer} would take {takes} instead of {expected}")
    }
}

/// The lines of a manifest that are images of a component.
#[must_use]
pub fn images(component: &Component, manifest: &Manifest) -> Vec<Offered> {
    let names = Names::of(component);
    let image = |(name, sha256): (&FileName, _)| {
        let (shown, arch) = names.read(name)?;
        Some(Offered { shown, arch, name: name.clone(), sha256 })
    };
    manifest.files().filter_map(image).collect()
}

/// What is wrong with what clients make of a manifest. The offer holds the images that are ours: what
/// somebody else listed is nothing that a node should take.
///
/// # Errors
/// No transfer can be made.
pub fn check(offer: &Offer<'_>, manifest: &Manifest) -> Result<Vec<Misled>, ClientError> {
    let mut misled = Vec::new();
    for transfer in transfers(offer)? {
        for arch in offer.arches() {
            let Some(expected) = offer.newest(arch, transfer.stem.as_ref()) else { continue };
            for client in Client::ALL {
                let taken = takes(&transfer, manifest, client, arch);
                if taken != [expected.name.as_str()] {
                    misled.push(Misled {
                        transfer: transfer.file.clone(),
                        client,
                        arch,
                        expected: expected.name.clone(),
                        takes: taken
                            .into_iter()
                            .find(|name| *name != expected.name.as_str())
                            .map(str::to_owned),
                    });
                }
            }
        }
    }
    Ok(misled)
}

/// The names of the newest version that a client sees: it takes one of these. More than one where it
/// holds their versions equal.
fn takes<'m>(
    transfer: &Transfer,
    manifest: &'m Manifest,
    client: Client,
    arch: Arch,
) -> Vec<&'m str> {
    let Some(pattern) = source_pattern(&transfer.text).and_then(|text| Pattern::parse(text, arch))
    else {
        return Vec::new();
    };
    let mut newest: Vec<(&str, &str)> = Vec::new();
    for (name, _) in manifest.files() {
        let Some(version) = pattern.version(name.as_str(), client) else { continue };
        let order = newest
            .first()
            .map_or(std::cmp::Ordering::Greater, |(known, _)| compare(version, known));
        if order.is_gt() {
            newest.clear();
        }
        if order.is_ge() {
            newest.push((version, name.as_str()));
        }
    }
    newest.into_iter().map(|(_, name)| name).collect()
}

/// `MatchPattern=` of the section `[Source]`.
fn source_pattern(text: &str) -> Option<&str> {
    let source = text.lines().skip_while(|line| *line != "[Source]").skip(1);
    let mut source = source.take_while(|line| !line.starts_with('['));
    source.find_map(|line| line.strip_prefix("MatchPattern="))
}
