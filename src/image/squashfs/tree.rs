//! From paths to inodes and directories.
//!
//! Owns which trees can be stored, inode numbers, link counts, and the order in which inodes are
//! written. Refuses to know how an inode or a directory is encoded.

use super::contents::Data;
use super::directory::{self, Child};
use super::inode::{self, Common, Kind};
use super::metadata::{Metadata, Place};
use super::xattr::Xattrs;
use super::{Compression, Entry, Node, SquashfsError};

/// The kernel's limit of a name.
const NAME: usize = 255;
/// The kernel's limit of a symlink's target.
const TARGET: usize = 4095;

/// The inodes and directories of an image, ready to be written.
pub(super) struct Tables {
    pub(super) inodes: Vec<u8>,
    pub(super) directories: Vec<u8>,
    /// The place of each inode, by its number.
    pub(super) places: Vec<Place>,
    pub(super) root: Place,
    pub(super) xattrs: Xattrs,
}

/// Makes the tables of a tree. `entries` is as [`super::Writer::finish`] takes it.
pub(super) fn tables(
    entries: &[Entry],
    data: &Data,
    compression: Compression,
    time: u32,
) -> Result<Tables, SquashfsError> {
    let implied =
        Entry { path: String::new(), mode: 0o755, node: Node::Directory, xattrs: Vec::new() };
    let root = entries.first().is_none_or(|entry| !entry.path.is_empty()).then_some(&implied);
    let plan = Plan::new(root.into_iter().chain(entries).collect())?;
    let mut build = Build {
        places: vec![None; plan.inodes],
        inodes: Metadata::new(compression)?,
        directories: Metadata::new(compression)?,
        xattrs: Xattrs::new(compression)?,
        plan: &plan,
        data,
        time,
    };
    // A folder lists the places of inodes, so those of what is in it come first. Backwards in the
    // order of paths, all that is below a folder comes before it.
    for at in (0..plan.nodes.len()).rev() {
        if matches!(plan.nodes[at].node, Node::Directory) {
            build.directory(at)?;
        }
    }
    let Build { places, inodes, directories, xattrs, .. } = build;
    let places: Vec<Place> =
        places.into_iter().map(|place| place.expect("each inode is in a folder")).collect();
    Ok(Tables {
        inodes: inodes.end()?,
        directories: directories.end()?,
        root: places[plan.numbers[ROOT] as usize - 1],
        places,
        xattrs,
    })
}

/// The root's place among the nodes.
pub(in crate::image) const ROOT: usize = 0;

/// A tree that was found to be sound. All lists go by the place of a path in `nodes`.
pub(in crate::image) struct Plan<'e> {
    pub(in crate::image) nodes: Vec<&'e Entry>,
    /// The folder each path is in.
    pub(in crate::image) parents: Vec<u32>,
    /// All but the root, by folder, and in a folder by name.
    by_parent: Vec<u32>,
    /// The path whose inode each has: its own, but for hard links.
    pub(in crate::image) targets: Vec<u32>,
    /// Inode numbers.
    pub(in crate::image) numbers: Vec<u32>,
    /// For folders how many folders are in them, for others how many names they have.
    pub(in crate::image) links: Vec<u32>,
    pub(in crate::image) inodes: usize,
}

impl<'e> Plan<'e> {
    pub(in crate::image) fn new(nodes: Vec<&'e Entry>) -> Result<Self, SquashfsError> {
        let count = u32::try_from(nodes.len()).map_err(|_| SquashfsError::TooLarge("a tree"))?;
        let mut plan = Self {
            parents: Vec::with_capacity(nodes.len()),
            by_parent: (1..count).collect(),
            targets: Vec::with_capacity(nodes.len()),
            numbers: Vec::with_capacity(nodes.len()),
            links: vec![0; nodes.len()],
            inodes: 0,
            nodes,
        };
        for at in 0..count {
            plan.check(at as usize)?;
            let parent = plan.parent(at as usize)?;
            plan.parents.push(parent);
            plan.targets.push(plan.target(at)?);
        }
        // Numbers follow the paths, so that a folder's inodes have near ones.
        let mut next = 1;
        for at in 0..count {
            let own = plan.targets[at as usize] == at;
            plan.numbers.push(if own { next } else { 0 });
            next += u32::from(own);
        }
        plan.inodes = next as usize - 1;
        for at in 0..plan.nodes.len() {
            let target = plan.targets[at] as usize;
            plan.numbers[at] = plan.numbers[target];
            if !matches!(plan.nodes[at].node, Node::Directory) {
                plan.links[target] += 1;
            } else if at != ROOT {
                plan.links[plan.parents[at] as usize] += 1;
            }
        }
        let parents = &plan.parents;
        plan.by_parent.sort_by_key(|at| parents[*at as usize]);
        Ok(plan)
    }

    /// Refuses what does not fit in an image.
    fn check(&self, at: usize) -> Result<(), SquashfsError> {
        let Entry { path, node, .. } = self.nodes[at];
        let refused = |reason| Err(SquashfsError::Path { path: path.clone(), reason });
        if at == ROOT {
            return match node {
                Node::Directory => Ok(()),
                _ => refused("is the root and not a folder"),
            };
        }
        if self.nodes[at - 1].path >= *path {
            return refused("is not in order, or there twice");
        }
        for name in path.split('/') {
            if matches!(name, "" | "." | "..") || name.contains('\0') || name.len() > NAME {
                return refused("has a part that is not a name");
            }
        }
        match node {
            Node::Symlink(target) if target.is_empty() || target.contains('\0') => {
                refused("leads nowhere")
            }
            Node::Symlink(target) if target.len() > TARGET => refused("leads too far"),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &str) -> Option<u32> {
        let at = self.nodes.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        u32::try_from(at).ok()
    }

    fn parent(&self, at: usize) -> Result<u32, SquashfsError> {
        let path = &self.nodes[at].path;
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.find(parent)
            .filter(|parent| matches!(self.nodes[*parent as usize].node, Node::Directory))
            .ok_or_else(|| SquashfsError::Path { path: path.clone(), reason: "is not in a folder" })
    }

    fn target(&self, at: u32) -> Result<u32, SquashfsError> {
        let Entry { path, node, .. } = self.nodes[at as usize];
        let Node::HardLink(target) = node else { return Ok(at) };
        self.find(target)
            .filter(|target| {
                matches!(self.nodes[*target as usize].node, Node::File(_) | Node::Symlink(_))
            })
            .ok_or_else(|| SquashfsError::Link { path: path.clone(), target: target.clone() })
    }

    /// What is in a folder, in the order of names.
    pub(in crate::image) fn children(&self, folder: usize) -> &[u32] {
        let parent = |at: &u32| self.parents[*at as usize] as usize;
        let first = self.by_parent.partition_point(|at| parent(at) < folder);
        let count = self.by_parent[first..].partition_point(|at| parent(at) == folder);
        &self.by_parent[first..first + count]
    }
}

/// Tables in the making.
struct Build<'p> {
    plan: &'p Plan<'p>,
    data: &'p Data,
    time: u32,
    inodes: Metadata,
    directories: Metadata,
    xattrs: Xattrs,
    /// By inode number, as far as they are written.
    places: Vec<Option<Place>>,
}

impl Build<'_> {
    /// Writes a folder: first the inodes of the files in it, one after another, then their names,
    /// then its own.
    fn directory(&mut self, folder: usize) -> Result<(), SquashfsError> {
        let plan = self.plan;
        let names = plan.children(folder);
        let mut children = Vec::with_capacity(names.len());
        for at in names {
            let at = *at as usize;
            let target = plan.targets[at] as usize;
            let number = plan.numbers[at];
            let (kind, place) = match self.places[number as usize - 1] {
                Some(place) => (kind(&plan.nodes[target].node), place),
                None => self.leaf(target)?,
            };
            let path = plan.nodes[at].path.as_str();
            let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
            children.push(Child { name, kind, place, number });
        }
        let listing = directory::write(&mut self.directories, &children)?;
        let common = self.common(folder)?;
        // The root is in no folder: by custom it names the number after the last.
        let parent = if folder == ROOT {
            u32::try_from(plan.inodes + 1).map_err(|_| SquashfsError::TooLarge("a tree"))?
        } else {
            plan.numbers[plan.parents[folder] as usize]
        };
        let inode = inode::directory(&common, plan.links[folder], parent, &listing)?;
        self.put(common.number, &inode)?;
        Ok(())
    }

    /// Writes the inode of a file or symlink.
    fn leaf(&mut self, at: usize) -> Result<(Kind, Place), SquashfsError> {
        let Entry { path, node, .. } = self.plan.nodes[at];
        let common = self.common(at)?;
        let links = self.plan.links[at];
        let inode = match node {
            Node::File(content) => {
                let stored = self.data.stored.get(content.0).ok_or_else(|| {
                    SquashfsError::Path { path: path.clone(), reason: "has no content" }
                })?;
                inode::file(&common, links, self.data, stored)
            }
            Node::Symlink(target) => inode::symlink(&common, links, target),
            Node::Directory | Node::HardLink(_) => unreachable!("both were dealt with"),
        };
        Ok((kind(node), self.put(common.number, &inode)?))
    }

    fn common(&mut self, at: usize) -> Result<Common, SquashfsError> {
        let Entry { path, mode, node, xattrs } = self.plan.nodes[at];
        let xattrs = self.xattrs.add(path, xattrs)?;
        // A link's own mode means nothing; this is the one that Linux shows.
        let mode = if matches!(node, Node::Symlink(_)) { 0o777 } else { *mode };
        Ok(Common { mode, time: self.time, number: self.plan.numbers[at], xattrs })
    }

    fn put(&mut self, number: u32, inode: &[u8]) -> Result<Place, SquashfsError> {
        let place = self.inodes.place()?;
        self.inodes.put(inode)?;
        self.places[number as usize - 1] = Some(place);
        Ok(place)
    }
}

fn kind(node: &Node) -> Kind {
    match node {
        Node::Directory => Kind::Directory,
        Node::File(_) | Node::HardLink(_) => Kind::File,
        Node::Symlink(_) => Kind::Symlink,
    }
}
