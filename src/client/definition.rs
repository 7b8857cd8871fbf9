//! `.component` and `.feature` files: what systemd 262 tells people of what a node can follow.
//!
//! Owns their text (sysupdate.components(5), sysupdate.features(5)). Neither is needed to follow a
//! component; an older systemd does not look at the first.

use std::fmt::Write as _;

use super::{Offer, inert};

/// The place of a component's definition on a node.
#[must_use]
pub fn component_path(offer: &Offer<'_>) -> String {
    format!("/etc/sysupdate.{}.component", offer.component.name)
}

/// `sysupdate.NAME.component`: a title, and whether it is followed.
#[must_use]
pub fn component(offer: &Offer<'_>) -> String {
    section("Component", offer)
}

/// The place of a component's feature on a node.
#[must_use]
pub fn feature_path(offer: &Offer<'_>) -> String {
    let name = &offer.component.name;
    format!("/etc/sysupdate.{name}.d/{name}.feature")
}

/// `NAME.feature`, and how the transfer joins it: a transfer that names a feature which is not there is
/// off, so the transfer itself does not.
#[must_use]
pub fn feature(offer: &Offer<'_>) -> String {
    let name = &offer.component.name;
    format!(
        "# The transfer belongs to it with a drop-in, {path}:\n#   [Transfer]\n#   Features={name}\n\n{}",
        section("Feature", offer),
        path = feature_drop_in_path(offer),
    )
}

/// The place of the drop-in that makes the transfer belong to the feature.
#[must_use]
pub fn feature_drop_in_path(offer: &Offer<'_>) -> String {
    let name = &offer.component.name;
    format!("/etc/sysupdate.{name}.d/{name}.transfer.d/{name}.conf")
}

fn section(name: &str, offer: &Offer<'_>) -> String {
    // No specifier is expanded in this one.
    let mut text = format!("[{name}]\nDescription={}\n", offer.description());
    if let Some(url) = offer.component.homepage.as_ref().or(offer.changelog().as_ref())
        && matches!(url.scheme(), "http" | "https")
    {
        let _ = writeln!(text, "Documentation={}", inert::url(url));
    }
    text.push_str("Enabled=true\n");
    text
}
