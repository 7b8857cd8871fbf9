//! The extended attributes of an image, as far as nodes act on them when they merge it.
//!
//! Owns which of them matter. The library that reads images knows nothing of them.

use std::collections::{BTreeMap, BTreeSet};

use backhand::compression::Compressor;
use backhand::{InnerNode, Node, SquashfsFileReader};

use super::bounds::{Fields, Image, Refused};

/// The bytes of a row of the table of sets, and the rows in a block of it.
const ROW: usize = 16;
const ROWS: u64 = 512;
/// The most sets of an image.
const MOST_SETS: u64 = 500_000;
/// How many times over sets may share their bytes. Honest ones do not.
const MOST_SHARED: usize = 16;
/// What a number stands for in names; nothing else is known to Linux.
const USER: u16 = 0;
const TRUSTED: u16 = 1;
/// The value is elsewhere.
const ELSEWHERE: u16 = 1 << 8;

const BROKEN: &str = "an extended attribute is broken";

/// What matters of them.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Names that overlayfs takes for its own: merged, such a file hides the host's, or is another one.
    /// How many files have each, and which of them is the first by name.
    pub(super) overlay: BTreeMap<String, (usize, String)>,
    /// The sets that have such names.
    hiding: BTreeMap<u32, BTreeSet<String>>,
    /// The sets that say of an extension-release that it is for an image of any name.
    pub(super) loose: BTreeSet<u32>,
}

/// Reads all sets.
pub(super) fn read(
    image: &Image<'_>,
    at: u64,
    compressor: Compressor,
) -> Result<Attributes, Refused> {
    let mut head = [0; 24];
    image.read(at, &mut head[..ROW])?;
    let mut fields = Fields { bytes: &head, at: 0 };
    let (start, count) = (fields.number(8).ok_or(BROKEN)?, fields.number(4).ok_or(BROKEN)?);
    let mut attributes = Attributes::default();
    if count == 0 {
        return Ok(attributes);
    }
    if count > MOST_SETS {
        return Err("more extended attributes than any honest image".into());
    }
    // The sets lie before their table, and the table before its index.
    image.read(at, &mut head)?;
    let rows_at = Fields { bytes: &head, at: ROW }.number(8).ok_or(BROKEN)?;
    let sets = image.table(start, rows_at, compressor)?;
    let rows = image.table(rows_at, at, compressor)?;
    if rows.starts.len() as u64 != count.div_ceil(ROWS) {
        return Err(BROKEN.into());
    }
    let mut left = sets.bytes.len().saturating_mul(MOST_SHARED);
    let mut rows = Fields { bytes: &rows.bytes, at: 0 };
    for number in 0..u32::try_from(count).map_err(|_| BROKEN)? {
        let place = rows.number(8).ok_or(BROKEN)?;
        let (names, _length) = (rows.word().ok_or(BROKEN)?, rows.word().ok_or(BROKEN)?);
        let begin = sets.starts.get(&(place >> 16)).ok_or(BROKEN)? + (place & 0xffff) as usize;
        let mut fields = Fields { bytes: &sets.bytes, at: begin };
        for _ in 0..names {
            attributes.take(number, &mut fields).ok_or(BROKEN)?;
        }
        left = left.checked_sub(fields.at - begin).ok_or(BROKEN)?;
    }
    Ok(attributes)
}

impl Attributes {
    /// Something has a set.
    pub(super) fn meet(&mut self, set: u32, folder: &[u8], name: &[u8]) {
        let Some(names) = self.hiding.get(&set) else { return };
        let parts = [folder, name].map(String::from_utf8_lossy);
        let path = parts.join("/").trim_start_matches('/').to_owned();
        for attribute in names.clone() {
            self.hides(&attribute, &path);
        }
    }

    /// Something has such a name.
    pub(super) fn hides(&mut self, attribute: &str, path: &str) {
        let (count, first) =
            self.overlay.entry(attribute.to_owned()).or_insert_with(|| (0, path.to_owned()));
        *count += 1;
        if path < first.as_str() {
            path.clone_into(first);
        }
    }

    /// Whether an extension-release is for an image of any name.
    pub(super) fn is_loose(&self, node: &Node<SquashfsFileReader>) -> bool {
        match &node.inner {
            InnerNode::File(SquashfsFileReader::Extended(file)) => {
                self.loose.contains(&file.xattr_index)
            }
            _ => false,
        }
    }

    /// Reads one attribute of a set.
    fn take(&mut self, set: u32, fields: &mut Fields<'_>) -> Option<()> {
        let kind = fields.short()?;
        let length = usize::from(fields.short()?);
        let name = fields.take(length)?;
        let length = fields.word()? as usize;
        let value = fields.take(length)?;
        match kind & !ELSEWHERE {
            TRUSTED if name.starts_with(b"overlay.") => {
                let name = format!("trusted.{}", String::from_utf8_lossy(name));
                self.hiding.entry(set).or_default().insert(name);
            }
            USER if name == b"extension-release.strict" && is_false(value) => {
                self.loose.insert(set);
            }
            _ => {}
        }
        Some(())
    }
}

/// As systemd reads it.
pub(in crate::image) fn is_false(value: &[u8]) -> bool {
    let words: [&[u8]; 6] = [b"0", b"no", b"n", b"false", b"f", b"off"];
    words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use crate::image::inspect::inspect;
    use crate::image::squashfs::{Compression, Entry, Node, Options, Pool, Writer};
    use crate::lint::Lint;

    /// An image of which these have an attribute of overlayfs; gives what is said of that.
    fn told(hiding: &[&str]) -> Vec<String> {
        let options = Options { compression: Compression::Zstd { level: 1 }, block_size: 4096 };
        let memory = || Cursor::new(Vec::new());
        let pool = Pool::new(1).unwrap();
        let mut writer = Writer::new(memory(), memory(), &options, &pool).unwrap();
        let file = writer.content(&mut &b"x"[..]).unwrap();
        let nodes = [
            ("", Node::Directory),
            ("usr", Node::Directory),
            ("usr/bin", Node::Directory),
            ("usr/bin/x", Node::File(file)),
            ("usr/bin/y", Node::Symlink("x".to_owned())),
        ];
        let entries = nodes.map(|(path, node)| {
            let names = if hiding.contains(&path) {
                vec!["trusted.overlay.opaque", "user.other"]
            } else {
                vec!["trusted.overlays"]
            };
            let xattrs = names.into_iter().map(|name| (name.to_owned(), b"y".to_vec())).collect();
            Entry { path: path.to_owned(), mode: 0o755, node, xattrs }
        });
        let written = writer.finish(&entries, 0, || Ok(memory())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.raw");
        std::fs::write(&path, written.image.into_inner()).unwrap();
        let findings = inspect(&path, None, None).unwrap().findings.into_iter();
        let found = findings.filter(|finding| finding.lint == Lint::OverlayAttribute);
        found.map(|finding| format!("`{}` {}", finding.path.unwrap(), finding.message)).collect()
    }

    #[test]
    fn what_hides_files_of_the_host_is_named() {
        let end = ": merged, it would hide or change files of the host";
        let has = |path: &str, others: &str| {
            vec![format!("`{path}` has the attribute trusted.overlay.opaque{others}{end}")]
        };
        assert_eq!(told(&[]), Vec::<String>::new());
        for path in ["usr/bin", "usr/bin/x", "usr/bin/y"] {
            assert_eq!(told(&[path]), has(path, ""));
        }
        assert_eq!(told(&[""]), has("/", ""));
        let several = ["usr/bin/y", "usr/bin", "usr/bin/x"];
        assert_eq!(told(&several), has("usr/bin", ", as 2 more have"));
    }
}
