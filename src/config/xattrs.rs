//! `[xattrs]`: extended attributes of files in an image, by rule.
//!
//! Owns how a rule is written and which bytes it stands for. Knows nothing of images.

use std::collections::BTreeMap;
use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The rules, in the order in which they are written: of two that say something of one attribute
/// of a file, the later holds.
#[derive(Debug, Clone, Default)]
pub struct XattrRules(Vec<XattrRule>);

/// What files of one pattern get.
#[derive(Debug, Clone)]
pub struct XattrRule {
    /// The pattern, as written.
    pub pattern: String,
    glob: GlobMatcher,
    attributes: BTreeMap<String, Vec<u8>>,
}

impl XattrRule {
    /// The names and values.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.attributes
    }
}

impl XattrRules {
    /// The attributes of the file or folder at a path, and which rules match it.
    #[must_use]
    pub fn of(&self, path: &str) -> (BTreeMap<String, Vec<u8>>, Vec<usize>) {
        let mut attributes = BTreeMap::new();
        let mut matching = Vec::new();
        for (at, rule) in self.0.iter().enumerate() {
            if rule.glob.is_match(path) {
                attributes.extend(rule.attributes.clone());
                matching.push(at);
            }
        }
        (attributes, matching)
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[XattrRule] {
        &self.0
    }
}

/// What the table of one pattern may say.
#[derive(Deserialize)]
struct Table(BTreeMap<String, String>);

impl Table {
    fn attributes(self) -> Result<BTreeMap<String, Vec<u8>>, String> {
        if self.0.is_empty() {
            return Err("no attribute\nhint: such as { selinux = \"system_u:object_r:bin_t:s0\" }"
                .to_owned());
        }
        self.0.into_iter().map(|(name, value)| attribute(&name, value)).collect()
    }
}

fn attribute(name: &str, value: String) -> Result<(String, Vec<u8>), String> {
    let shown = value.escape_debug();
    match name {
        "selinux" => {
            let legal = |c: char| c.is_ascii_alphanumeric() || ":_.,-".contains(c);
            if value.split(':').count() < 3 || !value.chars().all(legal) {
                return Err(format!(
                    "`{shown}` is not a label\nhint: such as \"system_u:object_r:bin_t:s0\""
                ));
            }
            // libselinux stores the NUL, and so do mksquashfs and the kernel's own labels.
            let mut label = value.into_bytes();
            label.push(0);
            Ok(("security.selinux".to_owned(), label))
        }
        "capabilities" => {
            let capabilities = capabilities(&value).ok_or_else(|| {
                format!(
                    "`{shown}` are not capabilities\nhint: such as \"cap_net_raw,cap_net_admin+ep\""
                )
            })?;
            Ok(("security.capability".to_owned(), capabilities))
        }
        _ if name.starts_with("trusted.overlay.") => Err(format!(
            "`{}` is overlayfs's own: it would hide the host's files\nhint: leave it out",
            name.escape_debug()
        )),
        _ => match name.split_once('.') {
            Some(("user" | "trusted" | "security", rest)) if !rest.is_empty() => {
                Ok((name.to_owned(), value.into_bytes()))
            }
            _ => Err(format!(
                "`{}` is no attribute\nhint: `selinux`, `capabilities`, or the full name, such as \"user.comment\"",
                name.escape_debug()
            )),
        },
    }
}

/// The capabilities in the order of their numbers (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// `cap_net_raw,cap_net_admin+ep`, as setcap(8) takes it, into the `vfs_cap_data` of revision 2
/// (`linux/capability.h`).
fn capabilities(text: &str) -> Option<Vec<u8>> {
    let (names, sets) = text.split_once(['+', '='])?;
    let mut bits = 0u64;
    for name in names.split(',') {
        let name = name.trim().strip_prefix("cap_")?;
        bits |= 1 << CAPABILITIES.iter().position(|known| *known == name)?;
    }
    if sets.is_empty() || !sets.chars().all(|set| "eip".contains(set)) {
        return None;
    }
    let set = |letter| if sets.contains(letter) { bits } else { 0 };
    let (permitted, inheritable) = (set('p'), set('i'));
    let effective = u32::from(sets.contains('e'));
    // A file has no effective set of its own, only a flag that makes one of the other two.
    if effective == 1 && permitted | inheritable == 0 {
        return None;
    }
    let mut data = (0x0200_0000u32 | effective).to_le_bytes().to_vec();
    for shift in [0, 32] {
        for set in [permitted, inheritable] {
            let half = u32::try_from(set >> shift & 0xffff_ffff).expect("32 bits");
            data.extend(half.to_le_bytes());
        }
    }
    Some(data)
}

impl<'de> Deserialize<'de> for XattrRules {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = XattrRules;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of patterns and attributes")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<XattrRules, A::Error> {
                let mut rules = Vec::new();
                while let Some((pattern, table)) = map.next_entry::<String, Table>()? {
                    let glob = GlobBuilder::new(&pattern)
                        .literal_separator(true)
                        .build()
                        .map_err(A::Error::custom)?
                        .compile_matcher();
                    let attributes = table.attributes().map_err(A::Error::custom)?;
                    rules.push(XattrRule { pattern, glob, attributes });
                }
                Ok(XattrRules(rules))
            }
        }
        from.deserialize_map(InOrder)
    }
}

impl Serialize for XattrRules {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|rule| (&rule.pattern, &rule.attributes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<XattrRules, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn the_later_rule_holds() {
        let rules = read(
            "\"**\" = { selinux = \"u:r:usr_t:s0\" }\n\"a/*\" = { selinux = \"u:r:bin_t:s0\", \"user.x\" = \"y\" }\n",
        );
        let rules = rules.unwrap();
        let (attributes, matching) = rules.of("a/b");
        assert_eq!(attributes["security.selinux"], b"u:r:bin_t:s0\0");
        assert_eq!((attributes.len(), matching), (2, vec![0, 1]));
        assert_eq!(rules.of("").1, [0]);
        assert_eq!(rules.of("a/b/c").0.len(), 1);
    }

    #[test]
    fn capabilities_are_what_setcap_writes() {
        // setcap cap_net_raw+ep; getfattr -n security.capability -e hex
        let raw = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(capabilities("cap_net_raw+ep").unwrap(), raw);
        let both = capabilities("cap_bpf,cap_chown=p").unwrap();
        assert_eq!(both[..8], [0, 0, 0, 2, 1, 0, 0, 0]);
        assert_eq!(both[12..16], [0x80, 0, 0, 0]);
        for bad in ["cap_net_raw", "net_raw+ep", "cap_nothing+ep", "cap_net_raw+", "cap_kill+e"] {
            assert_eq!(capabilities(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_attribute_is_refused() {
        for text in [
            "\"a\" = {}\n",
            "\"a\" = { selinux = \"x\" }\n",
            "\"a\" = { comment = \"x\" }\n",
            "\"a\" = { \"trusted.overlay.opaque\" = \"y\" }\n",
            "\"a\" = { \"system.x\" = \"x\" }\n",
            "\"a[\" = { \"user.x\" = \"x\" }\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
