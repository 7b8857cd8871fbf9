//! The tree of files that an image will hold.
//!
//! Owns the shape: every parent is a folder and is there, and no path goes through a link. Knows
//! nothing of where files come from.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use thiserror::Error;

use super::spool::Content;

/// Two things that cannot be in one place.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TreeError {
    /// A parent is not a folder.
    #[error("`{path}` cannot be below `{parent}`, which is {what}")]
    Parent {
        /// What should be added.
        path: String,
        /// What is in the way.
        parent: String,
        /// What that is.
        what: &'static str,
    },
    /// A folder and something else.
    #[error("`{path}` is a folder and {what} at once")]
    Folder {
        /// The path.
        path: String,
        /// What else it should be.
        what: &'static str,
    },
}

/// Something in a tree. All belongs to root and has the image's date.
#[derive(Debug, Clone)]
pub enum Node {
    /// A folder; always 0755, because the modes of folders show through when images are merged.
    Folder,
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its bytes.
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads, as it will be written.
        target: String,
    },
}

impl Node {
    /// A regular file.
    #[must_use]
    pub fn file(mode: u32, content: Content) -> Self {
        Self::File { mode, content }
    }

    /// Its bytes, for a regular file.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::File { content, .. } => content.len(),
            Self::Folder | Self::Symlink { .. } => 0,
        }
    }

    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Folder => "a folder",
            Self::File { .. } => "a file",
            Self::Symlink { .. } => "a symlink",
        }
    }
}

/// Nodes by path. Paths are relative to the image's root, without `.` and `..`; parents come
/// before what they hold.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Adds a node and the folders above it. A file or link replaces another one.
    ///
    /// # Errors
    /// A folder would have to be something else at the same time.
    pub fn insert(&mut self, path: &str, node: Node) -> Result<(), TreeError> {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            match self.0.get(parent) {
                Some(Node::Folder) => {}
                Some(other) => {
                    return Err(TreeError::Parent {
                        path: path.to_owned(),
                        parent: parent.to_owned(),
                        what: other.what(),
                    });
                }
                None => {
                    self.0.insert(parent.to_owned(), Node::Folder);
                }
            }
        }
        match (self.0.get(path), &node) {
            (Some(Node::Folder), Node::Folder) => {}
            (Some(Node::Folder), other) | (Some(other), Node::Folder) => {
                return Err(TreeError::Folder { path: path.to_owned(), what: other.what() });
            }
            _ => {
                self.0.insert(path.to_owned(), node);
            }
        }
        Ok(())
    }

    /// Takes a node away, and all below it. False if there is none.
    pub fn remove(&mut self, path: &str) -> bool {
        let below: Vec<String> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in &below {
            self.0.remove(path);
        }
        self.0.remove(path).is_some()
    }

    /// The node at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// All nodes, parents first.
    pub fn iter(&self) -> btree_map::Iter<'_, String, Node> {
        self.0.iter()
    }

    /// All nodes below a path, without itself.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Node)> {
        let prefix = format!("{path}/");
        let from = (Bound::Excluded(prefix.clone()), Bound::Unbounded);
        self.0
            .range::<String, _>(from)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, node)| (path.as_str(), node))
    }

    /// True if there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'t> IntoIterator for &'t Tree {
    type Item = (&'t String, &'t Node);
    type IntoIter = btree_map::Iter<'t, String, Node>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Node {
        Node::file(0o644, Content::from_bytes(Vec::new()))
    }

    #[test]
    fn parents_are_made_and_stay_folders() {
        let mut tree = Tree::default();
        tree.insert("usr/bin/a", file()).unwrap();
        tree.insert("usr/bin/a", file()).unwrap();
        assert_eq!(
            tree.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
            ["usr", "usr/bin", "usr/bin/a"]
        );
        assert!(tree.insert("usr/bin", file()).is_err());
        assert!(tree.insert("usr/bin/a/b", file()).is_err());
        assert!(tree.insert("usr/bin/a", Node::Folder).is_err());
        tree.insert("usr/l", Node::Symlink { target: "bin".to_owned() }).unwrap();
        assert!(tree.insert("usr/l/x", file()).is_err());
    }

    #[test]
    fn removing_takes_what_is_below_and_nothing_beside() {
        let mut tree = Tree::default();
        for path in ["usr/a/x", "usr/a/y/z", "usr/a-b", "usr/ab"] {
            tree.insert(path, file()).unwrap();
        }
        assert!(tree.remove("usr/a"));
        assert!(!tree.remove("usr/a"));
        assert_eq!(
            tree.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
            ["usr", "usr/a-b", "usr/ab"]
        );
    }
}
