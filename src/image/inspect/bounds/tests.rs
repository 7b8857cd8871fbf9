//! Images that ask for too much, made byte by byte; and one that does not.

use std::fs;

use super::super::inspect;
use super::*;

/// An image without compression, as the kernel's documentation says one looks.
#[derive(Default)]
struct Raw {
    inodes: Vec<u8>,
    folders: Vec<u8>,
    count: u32,
    root: u64,
}

fn place(at: usize) -> (u64, u16) {
    let (block, offset) = (at / METADATA, at % METADATA);
    ((block * (METADATA + HEADER)) as u64, u16::try_from(offset).unwrap())
}

impl Raw {
    fn begin(&mut self, kind: u16) -> u32 {
        self.count += 1;
        for field in [kind, 0o755, 0, 0] {
            self.inodes.extend(field.to_le_bytes());
        }
        self.words(&[0, self.count]);
        self.count
    }

    fn words(&mut self, words: &[u32]) {
        self.inodes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    /// A file with no data, whatever its size; its list of blocks is `listed` long.
    fn file(&mut self, size: u64, listed: usize) -> u32 {
        let number = self.begin(9);
        self.words(&[0, 0]);
        self.inodes.extend(size.to_le_bytes());
        self.words(&[0, 0, 1, NO_FRAGMENT, 0, u32::MAX]);
        self.words(&vec![0; listed]);
        number
    }

    /// A folder with these names in it; the last one is the root.
    fn folder(&mut self, entries: &[(u32, u16, &str)]) -> u32 {
        let begin = self.folders.len();
        for (inode, kind, name) in entries {
            for word in [0, 0, *inode] {
                self.folders.extend(word.to_le_bytes());
            }
            for field in [0, 0, *kind, u16::try_from(name.len()).unwrap() - 1] {
                self.folders.extend(field.to_le_bytes());
            }
            self.folders.extend(name.as_bytes());
        }
        self.listed(begin, self.folders.len() - begin)
    }

    /// A folder whose names are in some place.
    fn listed(&mut self, at: usize, length: usize) -> u32 {
        let (block, offset) = place(self.inodes.len());
        self.root = block << 16 | u64::from(offset);
        let number = self.begin(1);
        let (block, offset) = place(at);
        self.words(&[u32::try_from(block).unwrap(), 2]);
        let length = u16::try_from(length).unwrap();
        self.inodes.extend((length + 3).to_le_bytes());
        self.inodes.extend(offset.to_le_bytes());
        self.words(&[1]);
        number
    }

    fn image(&self) -> Vec<u8> {
        let table = |bytes: &[u8]| -> Vec<u8> {
            let header = |block: &[u8]| (u16::try_from(block.len()).unwrap() | RAW).to_le_bytes();
            bytes.chunks(METADATA).flat_map(|block| [&header(block), block].concat()).collect()
        };
        let [inodes, folders, ids] = [&self.inodes[..], &self.folders, &[0; 4]].map(table);
        let inodes_at = SUPERBLOCK as u64;
        let folders_at = inodes_at + inodes.len() as u64;
        let ids_at = folders_at + folders.len() as u64;
        let index_at = ids_at + ids.len() as u64;
        let mut image = b"hsqs".to_vec();
        for word in [self.count, 0, 128 << 10, 0] {
            image.extend(word.to_le_bytes());
        }
        for field in [6u16, 17, 0, 1, 4, 0] {
            image.extend(field.to_le_bytes());
        }
        let end = index_at + 8;
        for at in [self.root, end, index_at, NO_TABLE, inodes_at, folders_at, NO_TABLE, NO_TABLE] {
            image.extend(at.to_le_bytes());
        }
        image.extend([inodes, folders, ids, ids_at.to_le_bytes().to_vec()].concat());
        image
    }

    #[track_caller]
    fn is_refused(&self, because: &str) {
        let error = read(&self.image()).unwrap_err();
        assert!(error.contains(because), "{error}");
    }
}

fn read(image: &[u8]) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.raw");
    fs::write(&path, image).unwrap();
    let inspection = inspect(&path, None, None).map_err(|error| error.to_string())?;
    Ok(inspection.entries.into_iter().map(|entry| entry.path).collect())
}

#[test]
fn an_honest_image_is_read() {
    let mut raw = Raw::default();
    let file = raw.file(1 << 20, 8);
    let usr = raw.folder(&[(file, 2, "a"), (file, 2, "b")]);
    raw.folder(&[(usr, 1, "usr")]);
    assert_eq!(read(&raw.image()).unwrap(), ["usr", "usr/a", "usr/b"]);
}

#[test]
fn a_size_needs_a_list_of_blocks() {
    let mut raw = Raw::default();
    let file = raw.file(1 << 40, 1);
    raw.folder(&[(file, 2, "a")]);
    raw.is_refused("an inode is broken");
}

#[test]
fn names_do_not_leave_their_folder() {
    for name in ["..", ".", "a/b", "a\0b"] {
        let mut raw = Raw::default();
        let file = raw.file(0, 0);
        raw.folder(&[(file, 2, name)]);
        raw.is_refused("a name is none");
    }
}

#[test]
fn folders_are_in_one_place() {
    let mut raw = Raw::default();
    let inner = raw.folder(&[]);
    raw.folder(&[(inner, 1, "a"), (inner, 1, "b")]);
    raw.is_refused("a folder is in two folders");

    let mut raw = Raw::default();
    raw.folder(&[(1, 1, "a")]);
    raw.is_refused("a folder is in two folders");
}

#[test]
fn folders_that_share_their_names_are_counted_each() {
    let mut raw = Raw::default();
    let file = raw.file(0, 0);
    let names: Vec<String> = (0..2000).map(|at| format!("{at:04}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (file, 2, name.as_str())).collect();
    let first = raw.folder(&entries);
    let length = raw.folders.len();
    let folders: Vec<u32> = (0..300).map(|_| raw.listed(0, length)).collect();
    let entries: Vec<_> =
        folders.iter().zip(&names).map(|(folder, name)| (*folder, 1, name.as_str())).collect();
    raw.folder(&[&[(first, 1, "first")], &entries[..]].concat());
    raw.is_refused("more entries than any honest image");
}

#[test]
fn one_list_of_blocks_does_not_count_for_many() {
    let mut raw = Raw::default();
    let file = raw.file(1 << 36, 1 << 19);
    let names: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (file, 2, name.as_str())).collect();
    raw.folder(&entries);
    raw.is_refused("more entries than any honest image");
}

#[test]
fn folders_are_only_so_deep() {
    let deep = |folders| {
        let mut raw = Raw::default();
        let mut inner = raw.folder(&[]);
        for _ in 0..folders {
            inner = raw.folder(&[(inner, 1, "a")]);
        }
        raw
    };
    assert_eq!(read(&deep(DEEPEST).image()).unwrap().len(), DEEPEST);
    deep(DEEPEST + 1).is_refused("deeper than");
}

#[test]
fn a_small_block_does_not_unpack_to_a_large_one() {
    let mut raw = Raw::default();
    raw.folder(&[]);
    let mut image = raw.image();
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 19).unwrap();
    let at = image.len() as u64;
    image.extend(u16::try_from(bomb.len()).unwrap().to_le_bytes());
    image.extend(&bomb);
    // The table of inodes.
    image[64..72].copy_from_slice(&at.to_le_bytes());
    let end = image.len() as u64;
    image[72..80].copy_from_slice(&end.to_le_bytes());
    let error = read(&image).unwrap_err();
    assert!(error.contains("a metadata block is broken"), "{error}");
}

#[test]
fn what_is_cut_anywhere_is_refused() {
    let mut raw = Raw::default();
    let file = raw.file(0, 0);
    raw.folder(&[(file, 2, "a")]);
    let image = raw.image();
    for length in 0..image.len() {
        assert!(read(&image[..length]).is_err(), "{length}");
    }
}
