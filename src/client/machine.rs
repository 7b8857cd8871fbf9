//! All that a node has for a component: files, links and units, whatever they are written as.
//!
//! Owns what they are. [`super::butane`], [`super::ignition`] and [`super::script`] only write them down.

use super::{ClientError, Layout, Offer, Stem, Trust, inert, transfer};
use crate::name::{Arch, Sha256};
use crate::sign::KEYRING;

/// The program; not in the path.
pub const SYSUPDATE: &str = "/usr/lib/systemd/systemd-sysupdate";

/// What systemd 262 calls its timer: the old name is an alias there. `systemctl enable` follows it, a
/// preset, which is what Ignition makes of a unit that is enabled, passes it over in silence.
pub const TIMER_OF_262: &str = "systemd-sysupdate-update.timer";

/// What is on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Regular files.
    pub files: Vec<File>,
    /// Symbolic links.
    pub links: Vec<Link>,
    /// Units, and drop-ins of units that are there.
    pub units: Vec<Unit>,
}

/// A file, readable for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its place.
    pub path: String,
    /// What is in it.
    pub contents: Contents,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// What a server gives.
    Remote {
        /// Where.
        url: String,
        /// What it must be.
        sha256: Sha256,
    },
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its place.
    pub path: String,
    /// Where it leads.
    pub target: String,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Whether it is started at boot.
    pub enabled: bool,
    /// All of it, if it is ours.
    pub contents: Option<String>,
    /// Additions to one that is not.
    pub dropins: Vec<(String, String)>,
}

/// The units and their drop-ins that keep a component up to date: no image, no transfer.
#[must_use]
pub fn units(offer: &Offer<'_>) -> Vec<Unit> {
    let name = &offer.component.name;
    let layout = Layout::of(offer.component);
    let enabled = |name: &str| Unit {
        name: name.to_owned(),
        enabled: true,
        contents: None,
        dropins: Vec::new(),
    };
    // One that fails, because its server is down, must not keep the others from their updates. The
    // service counts as started at once, so the time limit of its start is that of the downloads.
    let update = format!(
        "[Service]\nTimeoutStartSec=1h\n# What is left of an update that was cut off keeps systemd 262 from all others.\nExecStartPre=-{SYSUPDATE} -C {name} vacuum\nExecStartPre=-{SYSUPDATE} -C {name} update\n"
    );
    let mut dropins = vec![(format!("10-{name}.conf"), update)];
    if let Some(merges) = layout.merges {
        let kind = merges.trim_start_matches("systemd-").trim_end_matches(".service");
        dropins.push((format!("20-{kind}.conf"), refresh(merges)));
    }
    dropins.push((
        "30-no-transfers-of-its-own.conf".to_owned(),
        "# Without a transfer in sysupdate.d the service itself has nothing to do, and says so with 1.\n[Service]\nSuccessExitStatus=1\n".to_owned(),
    ));
    let mut units = vec![
        enabled("systemd-sysupdate.timer"),
        enabled(TIMER_OF_262),
        Unit { dropins, enabled: false, ..enabled("systemd-sysupdate.service") },
    ];
    units.extend(layout.merges.map(enabled));
    units.extend(restart(offer, &layout));
    units
}

/// Merges what is there now. Through the manager: the service itself may make no mounts.
fn refresh(merges: &str) -> String {
    format!("[Service]\nExecStartPost=/usr/bin/systemctl reload-or-restart {merges}\n")
}

/// What restarts the component's services when another image counts: after an update, or when somebody
/// set the link back. What is merged need not have been by then, so that is done first.
///
/// The folder of the links is watched: systemd 257 does not see a link that another one takes the place
/// of. So the service remembers what it saw last, from boot on, and does nothing for the others' links.
fn restart(offer: &Offer<'_>, layout: &Layout) -> Vec<Unit> {
    let name = &offer.component.name;
    let services: Vec<String> = offer
        .component
        .services
        .enable
        .iter()
        // A template is started by whoever knows its instances.
        .filter(|unit| !unit.as_str().contains("@."))
        .map(|unit| format!("\"{}\"", inert::word(unit.as_str())))
        .collect();
    let Some(merges) = layout.merges.filter(|_| !services.is_empty()) else { return Vec::new() };
    let path = format!(
        "[Unit]\nDescription=Watch for another image of {name}\n\n[Path]\nPathChanged={}\n\n[Install]\nWantedBy=multi-user.target\n",
        layout.link_folder()
    );
    // A change while this runs starts nothing anew, so it looks again at its end. Every other link of
    // the folder starts it too: that may be often, and must not count as too often.
    let service = format!(
        "[Unit]\nDescription=Restart what runs from {name}, once it has another image\nAfter={merges} systemd-sysupdate.service\nStartLimitIntervalSec=0\n\n[Service]\nType=oneshot\nExecStart=/usr/bin/sh -ec '\\\n    test -e {link} || exit 0; \\\n    test -e {state} || readlink -f {link} >{state}; \\\n    while now=$$(readlink -f {link}); [ \"$$now\" != \"$$(cat {state})\" ]; do \\\n        systemctl reload-or-restart {merges}; \\\n        systemctl try-restart {services}; \\\n        echo \"$$now\" >{state}; \\\n    done'\n\n[Install]\nWantedBy=multi-user.target\n",
        link = layout.link,
        state = format_args!("/run/{name}-restart"),
        services = services.join(" "),
    );
    let unit = |ending: &str, contents| Unit {
        name: format!("{}-restart.{ending}", escaped(name.as_str())),
        enabled: true,
        contents: Some(contents),
        dropins: Vec::new(),
    };
    vec![unit("path", path), unit("service", service)]
}

/// A component's name as a part of a unit's, which has fewer characters (systemd-escape(1)).
fn escaped(name: &str) -> String {
    name.replace('+', "\\x2b").replace(',', "\\x2c")
}

impl Machine {
    /// A node of an architecture that follows a component, or one branch of it, from the newest image on.
    ///
    /// # Errors
    /// There is no image yet, or the keyring is not here.
    pub fn new(offer: &Offer<'_>, arch: Arch, stem: Option<&Stem>) -> Result<Self, ClientError> {
        let component = offer.component.name.to_string();
        let layout = Layout::of(offer.component);
        let first = offer
            .newest(arch, stem)
            .ok_or_else(|| ClientError::NoImage { component: component.clone(), arch })?;
        let image = format!("{}/{}", layout.folder, first.name);
        let mut url = offer.folder();
        url.set_path(&format!("{}{}", url.path(), first.name));
        let mut files = vec![
            File {
                path: image.clone(),
                contents: Contents::Remote { url: url.to_string(), sha256: first.sha256 },
            },
            File {
                path: transfer::path(offer),
                contents: Contents::Text(transfer::transfer(offer, stem)?.text),
            },
        ];
        match offer.trust {
            Trust::Unsigned => {}
            Trust::Signed(None) => return Err(ClientError::NoKeyring(component)),
            Trust::Signed(Some(keyring)) => files.push(File {
                path: format!("/etc/systemd/{KEYRING}"),
                contents: Contents::Bytes(keyring.clone()),
            }),
        }
        let links = vec![Link { path: layout.link, target: image }];
        Ok(Self { files, links, units: units(offer) })
    }

    /// Adds what another component needs. What both have is there once.
    ///
    /// # Errors
    /// Both have something of one name, and it is not the same.
    pub fn add(&mut self, other: Self) -> Result<(), ClientError> {
        let clash = |what: &str| ClientError::Clash { what: what.to_owned() };
        for file in other.files {
            match self.files.iter().find(|known| known.path == file.path) {
                Some(known) if *known == file => {}
                Some(_) => return Err(clash(&file.path)),
                None => self.files.push(file),
            }
        }
        for link in other.links {
            match self.links.iter().find(|known| known.path == link.path) {
                Some(known) if *known == link => {}
                Some(_) => return Err(clash(&link.path)),
                None => self.links.push(link),
            }
        }
        for unit in other.units {
            let Some(known) = self.units.iter_mut().find(|known| known.name == unit.name) else {
                self.units.push(unit);
                continue;
            };
            if known.enabled != unit.enabled || known.contents != unit.contents {
                return Err(clash(&unit.name));
            }
            for dropin in unit.dropins {
                match known.dropins.iter().find(|(name, _)| *name == dropin.0) {
                    Some(known) if *known == dropin => {}
                    Some(_) => return Err(clash(&format!("{} of {}", dropin.0, unit.name))),
                    None => known.dropins.push(dropin),
                }
            }
        }
        Ok(())
    }
}
