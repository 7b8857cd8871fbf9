//! Ignition 3.3.0: what Flatcar and Fedora's system for containers read at their first boot.
//!
//! Owns the JSON (Ignition's configuration specification). Knows nothing of what is on the node.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::machine::{Contents, File, Machine, Unit};

/// The version of the specification: the last that Debian's `ignition-validate` knows, and what Butane
/// makes of `flatcar` 1.0.0.
pub const VERSION: &str = "3.3.0";

/// A whole file may be read and written by its owner, and read by all.
pub const MODE: u32 = 0o644;

#[derive(Serialize)]
struct Document<'a> {
    ignition: Header,
    storage: Storage<'a>,
    systemd: Systemd<'a>,
}

#[derive(Serialize)]
struct Header {
    version: &'static str,
}

#[derive(Serialize)]
struct Storage<'a> {
    files: Vec<Entry<'a>>,
    links: Vec<Linked<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    path: &'a str,
    contents: Resource,
    mode: u32,
}

#[derive(Serialize)]
struct Resource {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<Verification>,
}

#[derive(Serialize)]
struct Verification {
    hash: String,
}

#[derive(Serialize)]
struct Linked<'a> {
    path: &'a str,
    hard: bool,
    target: &'a str,
}

#[derive(Serialize)]
struct Systemd<'a> {
    units: Vec<Started<'a>>,
}

#[derive(Serialize)]
struct Started<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropins: Vec<DropIn<'a>>,
}

#[derive(Serialize)]
struct DropIn<'a> {
    name: &'a str,
    contents: &'a str,
}

/// Bytes as a URL.
#[must_use]
pub fn data(bytes: &[u8]) -> String {
    format!("data:;base64,{}", STANDARD.encode(bytes))
}

/// The document.
#[must_use]
pub fn render(machine: &Machine) -> String {
    let links = machine.links.iter();
    let links = links.map(|link| Linked { path: &link.path, hard: false, target: &link.target });
    let document = Document {
        ignition: Header { version: VERSION },
        storage: Storage {
            files: machine.files.iter().map(entry).collect(),
            links: links.collect(),
        },
        systemd: Systemd { units: machine.units.iter().map(started).collect() },
    };
    let mut text = serde_json::to_string_pretty(&document).expect("it has only text keys");
    text.push('\n');
    text
}

fn entry(file: &File) -> Entry<'_> {
    let plain = |source| Resource { source, verification: None };
    let contents = match &file.contents {
        Contents::Remote { url, sha256 } => Resource {
            source: url.clone(),
            verification: Some(Verification { hash: format!("sha256-{sha256}") }),
        },
        Contents::Text(text) => plain(data(text.as_bytes())),
        Contents::Bytes(bytes) => plain(data(bytes)),
    };
    Entry { path: &file.path, contents, mode: MODE }
}

fn started(unit: &Unit) -> Started<'_> {
    let dropins = unit.dropins.iter().map(|(name, contents)| DropIn { name, contents });
    Started {
        name: &unit.name,
        enabled: unit.enabled,
        contents: unit.contents.as_deref(),
        dropins: dropins.collect(),
    }
}
