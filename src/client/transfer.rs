//! Transfers: what systemd-sysupdate reads in `/etc/sysupdate.NAME.d/`.
//!
//! Owns the text of one (sysupdate.d(5)), for a component and for each of its branches.

use std::fmt::Write as _;

use super::{ClientError, Layout, Offer, Stem, Trust, inert};

/// How many versions a node keeps: the one that runs, and the one to go back to.
const INSTANCES: u32 = 2;

/// A transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The file's name in the repository: `tailscale.transfer`, `kubernetes-v1.31.transfer`.
    pub file: String,
    /// The branch it follows; `None`: all versions.
    pub stem: Option<Stem>,
    /// The file.
    pub text: String,
}

/// The place of a component's transfer on a node, whatever branch it follows: two in that folder would
/// have to agree on one version.
#[must_use]
pub fn path(offer: &Offer<'_>) -> String {
    let name = &offer.component.name;
    format!("/etc/sysupdate.{name}.d/{name}.transfer")
}

/// The transfer that follows all versions, or those of one branch.
///
/// # Errors
/// The component's images have a name that no pattern fits.
pub fn transfer(offer: &Offer<'_>, stem: Option<&Stem>) -> Result<Transfer, ClientError> {
    let name = &offer.component.name;
    let pattern = offer.pattern(stem)?;
    let Layout { folder, link, .. } = Layout::of(offer.component);
    let mut text = format!("# {}\n", offer.description());
    let _ = match stem {
        Some(stem) => writeln!(text, "# Follows the versions {}* alone.", stem.text),
        None => writeln!(text, "# Follows every new version."),
    };
    let verify = match offer.trust {
        Trust::Signed(_) => "yes",
        Trust::Unsigned => "no",
    };
    let _ = writeln!(text, "\n[Transfer]\nVerify={verify}");
    if let Some(url) = offer.changelog() {
        let _ = writeln!(text, "ChangeLog={}", inert::changelog(&url));
    }
    let _ = writeln!(
        text,
        "\n[Source]\nType=url-file\nPath={}\nMatchPattern={pattern}",
        inert::url(&offer.folder())
    );
    let _ = writeln!(
        text,
        "\n[Target]\nType=regular-file\nPath={folder}\nMatchPattern={pattern}\nCurrentSymlink={link}\nMode=0644\nInstancesMax={INSTANCES}"
    );
    let file = match stem {
        Some(stem) => format!("{name}-v{}.transfer", stem.name),
        None => format!("{name}.transfer"),
    };
    Ok(Transfer { file, stem: stem.cloned(), text })
}

/// All transfers of a component: that of all versions, then those of its branches.
///
/// # Errors
/// As [`transfer`].
pub fn transfers(offer: &Offer<'_>) -> Result<Vec<Transfer>, ClientError> {
    let stems = offer.stems();
    let branches = stems.iter().map(|stem| transfer(offer, Some(stem)));
    std::iter::once(transfer(offer, None)).chain(branches).collect()
}
