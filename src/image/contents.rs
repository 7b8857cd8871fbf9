//! What is in an image, short enough to be kept with every one.
//!
//! Owns how long that may be: of many files, only the folders are named. Knows nothing of how an image
//! is written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::inspect::Listed;
use crate::recipe::tree::{Node, Tree};

/// The most paths that are kept of one image.
const MOST: usize = 128;

/// The most bytes that these may have together.
const LONGEST: usize = 8 << 10;

/// The files of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// How many there are.
    pub files: usize,
    /// How many bytes they have, unpacked.
    pub bytes: u64,
    /// Their paths and lengths. What lies deeper than `depth` is summed up in its folder, whose name ends
    /// with a slash.
    pub paths: BTreeMap<String, u64>,
    /// How many parts the paths have at most, where some are summed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
}

impl Contents {
    /// Those of a tree. `None` where even its topmost folders would be too many.
    #[must_use]
    pub fn of(tree: &Tree) -> Option<Self> {
        let files = tree.iter().filter(|(_, node)| !matches!(node, Node::Folder));
        Self::of_files(files.map(|(path, node)| (path.clone(), node.size())).collect())
    }

    /// The same of an image that was read.
    #[must_use]
    pub fn read(entries: &[Listed]) -> Option<Self> {
        let files = entries.iter().filter(|entry| entry.kind != 'd');
        Self::of_files(files.map(|entry| (entry.path.clone(), entry.size)).collect())
    }

    fn of_files(paths: BTreeMap<String, u64>) -> Option<Self> {
        let (files, bytes) = (paths.len(), paths.values().sum());
        let whole = Self { files, bytes, paths, depth: None };
        if whole.is_short() {
            return Some(whole);
        }
        let deepest = whole.paths.keys().map(|path| parts(path)).max().unwrap_or(1);
        let summed = (1..deepest).rev().map(|depth| whole.summed_up(depth));
        summed.into_iter().find(Self::is_short)
    }

    /// Whether it is short enough to be kept.
    fn is_short(&self) -> bool {
        let length: usize = self.paths.keys().map(String::len).sum();
        self.paths.len() <= MOST && length <= LONGEST
    }

    /// The same with paths of this many parts at most.
    #[must_use]
    pub fn summed_up(&self, depth: usize) -> Self {
        let mut paths = BTreeMap::new();
        for (path, size) in &self.paths {
            let end = path.match_indices('/').nth(depth - 1).map(|(at, _)| at + 1);
            // A folder of that depth ends with the slash that would be cut after.
            let path = &path[..end.unwrap_or(path.len())];
            *paths.entry(path.to_owned()).or_insert(0) += size;
        }
        Self { paths, depth: Some(depth), ..*self }
    }
}

fn parts(path: &str) -> usize {
    path.trim_end_matches('/').split('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::spool::Content;

    fn tree(paths: impl IntoIterator<Item = String>) -> Tree {
        let mut tree = Tree::default();
        for path in paths {
            tree.insert(&path, Node::file(0o644, Content::from_bytes(b"12".to_vec()))).unwrap();
        }
        tree
    }

    #[test]
    fn few_files_are_named() {
        let contents = Contents::of(&tree(["usr/bin/x".to_owned(), "opt/y".to_owned()])).unwrap();
        assert_eq!((contents.files, contents.bytes, contents.depth), (2, 4, None));
        assert_eq!(contents.paths.keys().collect::<Vec<_>>(), ["opt/y", "usr/bin/x"]);
    }

    #[test]
    fn of_many_the_folders_are() {
        let many = (0..1000).map(|n| format!("usr/lib/modules/{n}.ko"));
        let contents = Contents::of(&tree(many.chain(["usr/bin/x".to_owned()]))).unwrap();
        assert_eq!((contents.files, contents.bytes, contents.depth), (1001, 2002, Some(3)));
        let paths: Vec<_> = contents.paths.iter().map(|(path, size)| (&**path, *size)).collect();
        assert_eq!(paths, [("usr/bin/x", 2), ("usr/lib/modules/", 2000)]);
        let less = contents.summed_up(2);
        assert_eq!(less.paths.keys().collect::<Vec<_>>(), ["usr/bin/", "usr/lib/"]);
        assert_eq!(less.summed_up(2), less);
    }

    #[test]
    fn what_would_never_be_short_is_left_out() {
        assert_eq!(Contents::of(&tree((0..1000).map(|n| format!("{n}/x")))), None);
        assert_eq!(Contents::of(&tree(["x".repeat(LONGEST + 1)])), None);
    }
}
