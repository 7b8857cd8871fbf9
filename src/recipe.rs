//! Recipes: from fetched assets to the tree of files that an image will hold.
//!
//! Owns what the tables of a component mean: picking, replacing, linking, deleting, enabling. Knows
//! nothing of where assets came from or how an image is written. The tree is made of values: no
//! path of an archive ever becomes a path on this machine.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::Component;
use crate::config::component::AssetRule;
use crate::config::files::{FileRule, Files, Mode};
use crate::fetch::arriving::Arriving;
use crate::name::Arch;
use crate::template::Vars;

pub mod archive;
pub(crate) mod elf;
pub mod fingerprint;
pub mod intake;
pub mod lint;
mod overlay;
mod pick;
pub mod spool;
pub mod tree;

use archive::{Archive, ArchiveError, Limits, Problem};
use intake::{Intake, Want};
use spool::Content;
use tree::{Node, Tree, TreeError};

/// A tree that cannot be made as the component says.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The asset is not what it should be.
    #[error("cannot unpack {name}")]
    Archive {
        /// The asset's file name.
        name: String,
        /// Why.
        source: ArchiveError,
    },
    /// What a command left is nothing for an image.
    #[error("`{path}` in PUBLISH_ROOT {problem}")]
    Left {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A command that made nothing.
    #[error("the command left nothing in PUBLISH_ROOT")]
    NothingLeft,
    /// The asset lacks what the recipe picks.
    #[error("{asset} has no `{pattern}`")]
    Missing {
        /// The asset's file name.
        asset: String,
        /// What was looked for.
        pattern: String,
        /// What is there instead.
        there: String,
    },
    /// Several things for one name.
    #[error("`{pattern}` picks {count} entries of {asset}, but `{to}` is one name")]
    Several {
        /// The asset's file name.
        asset: String,
        /// What was looked for.
        pattern: String,
        /// How many there are.
        count: usize,
        /// Where they should go.
        to: String,
    },
    /// A pattern that cannot be read.
    #[error("`{pattern}` is not a glob: {problem}")]
    Glob {
        /// The pattern.
        pattern: String,
        /// Why not.
        problem: String,
    },
    /// A text to replace that does not occur.
    #[error("`{file}` has no `{text}` to replace")]
    Replace {
        /// The file, or the pattern that picked several.
        file: String,
        /// What was looked for.
        text: String,
    },
    /// A link of the asset that would lead out of the image.
    #[error("symlink `{path}` → `{target}` leaves the image")]
    Escape {
        /// Where it would be.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Two things that cannot be in one place.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Not one file where the image is one.
    #[error("the image is to be one file as it is, but there are {0}")]
    NotOne(usize),
    /// A `delete` that deletes nothing.
    #[error("there is nothing at `{0}` to delete")]
    Delete(String),
    /// What the finished tree must not be.
    #[error(transparent)]
    Lint(#[from] lint::LintError),
    /// A file on this machine could not be read or written.
    #[error("cannot read or write {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the overlay that is neither a file, a folder nor a link.
    #[error("{path} is neither a file, a folder nor a symlink", path = path.display())]
    Special {
        /// The file.
        path: PathBuf,
    },
}

impl RecipeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Archive { source, .. } => source.hint(),
            Self::Left { .. } => Some("what is there when the command ends goes into the image: let it take away what does not belong there".to_owned()),
            Self::NothingLeft => Some("it puts files where they are to be on a node, such as \"$PUBLISH_ROOT/usr/bin/x\"".to_owned()),
            Self::Missing { there, .. } => Some(there.clone()),
            Self::Several { .. } => Some("end the name with a slash to put them into a folder".to_owned()),
            Self::Replace { .. } => Some("the file changed upstream: look at it and adapt `replace`".to_owned()),
            Self::Escape { .. } => Some("pick files by name in [asset.files], and write the link into [files] if it is meant".to_owned()),
            Self::NotOne(_) => Some("pick one with a line of [asset.files]: \"image.raw\" = \"PATH\"".to_owned()),
            Self::Delete(_) => Some("the content changed upstream, or the path is wrong".to_owned()),
            Self::Lint(error) => error.hint(),
            Self::Tree(TreeError::Folder { .. }) => Some("a pattern such as `**` puts every file that it matches right into the folder: a folder is taken with all that is in it by its name, \"usr\" = \"usr\"".to_owned()),
            Self::Glob { .. } | Self::Tree(_) | Self::Disk { .. } | Self::Special { .. } => None,
        }
    }
}

/// An asset, with the rule it is fetched for. It may still be on its way, so nothing that is made of
/// it counts before its digest is known.
#[derive(Debug, Clone)]
pub struct Input<'c> {
    /// What of it goes where.
    pub rule: &'c AssetRule,
    /// Its file name upstream.
    pub name: String,
    /// The file, or the layers of an image.
    pub bytes: Bytes,
}

/// What came of an asset.
#[derive(Debug, Clone)]
pub enum Bytes {
    /// One file.
    File(Arriving),
    /// The layers of a container image, the lowest first.
    Layers(Vec<Arriving>),
}

impl Input<'_> {
    fn read(
        &self,
        limits: &Limits,
        wants: &dyn Fn(&str) -> Want,
        intake: &mut Intake<'_>,
    ) -> Result<Archive, ArchiveError> {
        match &self.bytes {
            Bytes::File(file) => archive::read(file, &self.name, limits, wants, intake),
            Bytes::Layers(layers) => archive::read_layers(layers, limits, wants, intake),
        }
    }
}

/// A finished tree.
#[derive(Debug)]
pub struct Made {
    /// The files of the image.
    pub tree: Tree,
    /// The newest date in any archive, in seconds since 1970: the release's date, as good as it
    /// can be told from the content.
    pub newest: Option<u64>,
}

/// Makes the tree of one image: what a command left, assets in their order, then the overlay, then
/// `[files]`, then the services. What comes later replaces what is there; `delete` in `[files]` comes before the rest of
/// `[files]`, in `[asset.files]` after the picks of that asset.
///
/// # Errors
/// Whatever in an asset or in the component does not fit.
pub fn make(
    component: &Component,
    arch: Arch,
    vars: &Vars<'_>,
    inputs: &[Input<'_>],
    left: Option<Left<'_>>,
    limits: &Limits,
    intake: &mut Intake<'_>,
) -> Result<Made, RecipeError> {
    let kind = component.extension.kind;
    let mut tree = Tree::default();
    let mut newest = None;
    if let Some(left) = left {
        let archive = take_left(left, limits, intake)?;
        pick::Picker::of_all(archive, LEFT, vars, kind).all(&mut tree)?;
    }
    // What is only given to the command is none of ours to unpack.
    for input in inputs.iter().filter(|input| !input.rule.files.is_empty()) {
        let archive = unpack(input, vars, limits, intake)?;
        newest = newest.max(archive.newest);
        let mut picker = pick::Picker::new(archive, input, vars, kind);
        for (to, rule) in &input.rule.files {
            picker.apply(to, rule, &mut tree)?;
        }
        delete(&input.rule.files, &mut tree)?;
    }
    if let Some(folder) = &component.overlay {
        overlay::add(folder, kind, intake, &mut tree)?;
    }
    delete(&component.files, &mut tree)?;
    for (to, rule) in &component.files {
        if let Some(node) = literal(rule, vars) {
            tree.insert(to.path(), node)?;
        }
    }
    for unit in &component.services.enable {
        let unit = unit.as_str();
        let path =
            format!("{}/multi-user.target.d/10-{}-{unit}.conf", kind.units(), component.name);
        let text = format!("[Unit]\nUpholds={unit}\n");
        tree.insert(&path, Node::file(0o644, Content::from_bytes(text.into_bytes())))?;
    }
    lint::check(&tree, component, arch)?;
    Ok(Made { tree, newest })
}

/// What was made for an image elsewhere.
#[derive(Debug, Clone, Copy)]
pub enum Left<'l> {
    /// By a command, in this folder.
    Folder(&'l Path),
    /// By a workflow, in this archive.
    Archive(&'l Arriving),
}

/// What errors call what a command left.
const LEFT: &str = "what the command left";

/// Reads what a command left.
fn take_left(
    left: Left<'_>,
    limits: &Limits,
    intake: &mut Intake<'_>,
) -> Result<Archive, RecipeError> {
    let folder = match left {
        Left::Folder(folder) => folder,
        Left::Archive(file) => {
            // Such a name says that it must be an archive.
            let read = archive::read(file, "artifact.tar", limits, &|_| Want::Image, intake);
            return read.map_err(|source| RecipeError::Archive {
                name: "what the workflow left".to_owned(),
                source,
            });
        }
    };
    let archive = archive::read_folder(folder, limits, intake).map_err(|error| match error {
        ArchiveError::Entry { path, problem } => RecipeError::Left { path, problem },
        source => RecipeError::Archive { name: LEFT.to_owned(), source },
    })?;
    if archive.entries.is_empty() {
        return Err(RecipeError::NothingLeft);
    }
    Ok(archive)
}

/// Finds the one file of a component that is published as it is.
///
/// # Errors
/// As [`make`], or there is not just one file.
pub fn whole(
    component: &Component,
    vars: &Vars<'_>,
    inputs: &[Input<'_>],
    limits: &Limits,
    intake: &mut Intake<'_>,
) -> Result<(Content, Option<u64>), RecipeError> {
    let mut tree = Tree::default();
    let mut newest = None;
    for input in inputs {
        let wants = |_: &str| Want::Recipe;
        let archive = input
            .read(limits, &wants, intake)
            .map_err(|source| RecipeError::Archive { name: input.name.clone(), source })?;
        newest = newest.max(archive.newest);
        let mut picker = pick::Picker::new(archive, input, vars, component.extension.kind);
        if input.rule.files.is_empty() {
            picker.all(&mut tree)?;
        }
        for (to, rule) in &input.rule.files {
            picker.apply(to, rule, &mut tree)?;
        }
    }
    let files = tree.iter().filter_map(|(_, node)| match node {
        Node::File { content, .. } => Some(content),
        _ => None,
    });
    let files: Vec<_> = files.cloned().collect();
    match <[Content; 1]>::try_from(files) {
        Ok([file]) => Ok((file, newest)),
        Err(files) => Err(RecipeError::NotOne(files.len())),
    }
}

/// Reads an asset once, and takes in only what is picked of it.
fn unpack(
    input: &Input<'_>,
    vars: &Vars<'_>,
    limits: &Limits,
    intake: &mut Intake<'_>,
) -> Result<Archive, RecipeError> {
    let wanted = pick::Wanted::new(input, vars)?;
    let read = match input.read(limits, &|path| wanted.of(path), intake) {
        // A picked name turned out to be a second one of a file that was not picked.
        Err(ArchiveError::Again) => input.read(limits, &|_| Want::Recipe, &mut intake.beside()),
        read => read,
    };
    read.map_err(|source| RecipeError::Archive { name: input.name.clone(), source })
}

fn delete(files: &Files, tree: &mut Tree) -> Result<(), RecipeError> {
    for (to, _) in files.iter().filter(|(_, rule)| **rule == FileRule::Delete) {
        if !tree.remove(to.path()) {
            return Err(RecipeError::Delete(to.to_string()));
        }
    }
    Ok(())
}

/// The node of a rule that needs no asset.
fn literal(rule: &FileRule, vars: &Vars<'_>) -> Option<Node> {
    match rule {
        FileRule::Text { text, mode } => {
            let mode = mode.map_or(0o644, Mode::bits);
            Some(Node::file(mode, Content::from_bytes(text.expand(vars).into_bytes())))
        }
        FileRule::Symlink(target) => Some(Node::Symlink { target: target.expand(vars) }),
        FileRule::Pick { .. } | FileRule::Delete => None,
    }
}

/// Permissions as images have them: programs 0755, the rest 0644. What a build machine's umask or a
/// packager's habits made of them must not show on a node, and nothing is setuid by accident.
fn normal_mode(mode: u32) -> u32 {
    if mode & 0o111 == 0 { 0o644 } else { 0o755 }
}
