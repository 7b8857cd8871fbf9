//! Images read back, and what must not happen on the way.
//!
//! The reader is no kin of the writer: it was tried with what mkfs.erofs(1) makes.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom, Write as _};

use proptest::prelude::*;

use super::read::Image;
use super::{Writer, crc32c};
use crate::image::squashfs::{Compression, Entry, Node, Options, Pool};
use crate::name::Sha256;

const ALL: [Compression; 5] = [
    Compression::Lz4 { hc: false },
    Compression::Lz4 { hc: true },
    Compression::Zstd { level: 3 },
    Compression::Gzip { level: 9 },
    Compression::Zstd { level: 19 },
];
const TIME: u64 = 1_700_000_000;

type Memory = Cursor<Vec<u8>>;
type Files = BTreeMap<String, Vec<u8>>;
type Xattrs = Vec<(String, Vec<u8>)>;

/// The bytes of an image of these files, which come in this order.
fn write<'f>(
    files: impl Iterator<Item = (&'f String, &'f Vec<u8>)>,
    options: &Options,
    threads: usize,
    xattrs: &Xattrs,
) -> Vec<u8> {
    let pool = Pool::new(threads).unwrap();
    let mut writer = Writer::new(Memory::default(), Memory::default(), options, &pool).unwrap();
    let mut entries = BTreeMap::new();
    let mut add = |path: &str, mode, node| {
        let entry = Entry { path: path.to_owned(), mode, node, xattrs: xattrs.clone() };
        entries.insert(path.to_owned(), entry);
    };
    add("", 0o755, Node::Directory);
    for (path, bytes) in files {
        for (at, _) in path.match_indices('/') {
            add(&path[..at], 0o755, Node::Directory);
        }
        add(path, 0o4711, Node::File(writer.content(&mut &bytes[..]).unwrap()));
    }
    add("z-link", 0, Node::Symlink("usr/nowhere".to_owned()));
    add("z-long", 0, Node::Symlink("x".repeat(4090)));
    let entries: Vec<Entry> = entries.into_values().collect();
    let written = writer.finish(&entries, TIME, || Ok(Memory::default())).unwrap();
    let mut image = written.image.into_inner();
    assert_eq!(written.size % 4096, 0);
    image.truncate(usize::try_from(written.size).unwrap());
    image
}

fn options(compression: Compression, block_size: u32) -> Options {
    Options { compression, block_size }
}

/// Opens bytes that are behind others.
fn open(bytes: &[u8]) -> std::io::Result<Image> {
    let mut file = tempfile::tempfile().unwrap();
    file.seek(SeekFrom::Start(8192)).unwrap();
    file.write_all(bytes).unwrap();
    Image::open(file, 8192, bytes.len() as u64)
}

/// All files of an image, which must be sound.
fn read(bytes: &[u8]) -> Files {
    let image = open(bytes).unwrap();
    let mut files = Files::new();
    for entry in image.entries().unwrap() {
        assert_eq!((entry.inode.time, entry.inode.owner), (TIME, (0, 0)));
        match entry.inode.kind() {
            'd' => assert_eq!(entry.inode.mode & 0o7777, 0o755),
            'l' => {
                let target = entry.target.unwrap();
                assert!(target == "usr/nowhere" || target == "x".repeat(4090));
            }
            kind => {
                assert_eq!((kind, entry.inode.mode & 0o7777), ('-', 0o4711));
                let mut bytes = Vec::new();
                image.content(&entry.inode).unwrap().read_to_end(&mut bytes).unwrap();
                files.insert(entry.path, bytes);
            }
        }
    }
    files
}

/// Bytes that no compressor makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

/// What lies on either side of every limit.
fn samples() -> Files {
    let mut files = Files::new();
    for length in [0, 1, 3071, 3072, 3073, 4095, 4096, 4097, 8191, 8192, 8193, 65536, 300_001] {
        files.insert(format!("usr/noise/{length}"), noise(length));
        files.insert(format!("usr/zeros/{length}"), vec![0; length]);
        let text: Vec<u8> = b"what is often said ".iter().copied().cycle().take(length).collect();
        files.insert(format!("usr/text/{length}"), text);
    }
    let mixed = [noise(20_000), vec![7; 50_000], noise(3000)].concat();
    files.insert("usr/mixed".to_owned(), mixed.clone());
    files.insert("usr/mixed-again".to_owned(), mixed);
    for number in 0..400 {
        files.insert(format!("usr/many/a name that is not short {number:03}"), vec![1; 10]);
        // Before and behind what stands for the folder itself.
        files.insert(format!("usr/odd/{}{number}", ["+", "-", ".", "..", "a"][number % 5]), vec![]);
    }
    files
}

#[test]
fn what_was_written_is_read() {
    let files = samples();
    for compression in ALL {
        for block_size in [4096, 8192, 128 << 10, 1 << 20] {
            let image = write(files.iter(), &options(compression, block_size), 2, &vec![]);
            assert!(read(&image) == files, "{compression:?} {block_size}");
        }
    }
}

#[test]
fn neither_the_order_nor_the_threads_can_be_seen() {
    let files = samples();
    let options = options(Compression::Lz4 { hc: true }, 16 << 10);
    let first = write(files.iter(), &options, 1, &vec![]);
    assert!(first == write(files.iter().rev(), &options, 3, &vec![]));
    // Equal contents are there once.
    let mut fewer = files.clone();
    fewer.remove("usr/mixed-again");
    assert_eq!(first.len(), write(fewer.iter(), &options, 1, &vec![]).len());
}

#[test]
fn the_bytes_are_the_same_for_ever() {
    // If this one changes, images that were published would be made anew, with other bytes.
    let files = Files::from([
        ("usr/bin/x".to_owned(), vec![0; 100_000]),
        ("usr/bin/y".to_owned(), noise(5000)),
        ("usr/lib/z".to_owned(), b"short".to_vec()),
    ]);
    let xattrs = vec![("user.x".to_owned(), b"y".to_vec())];
    let image = write(files.iter(), &options(Compression::Lz4 { hc: true }, 65536), 2, &xattrs);
    assert_eq!(
        Sha256::of(&image).to_string(),
        "442ab5b8730fc6a2dd1b1317bf0ecb20a9e799de59a5c93568a2565a20c23f90"
    );
}

#[test]
fn attributes_are_read() {
    let files = samples();
    let name = |name: &str| name.to_owned();
    let mut xattrs = vec![
        (name("user.extension-release.strict"), b"no".to_vec()),
        (name("security.selinux"), b"system_u:object_r:bin_t:s0\0".to_vec()),
        (name("trusted.overlay.opaque"), b"y".to_vec()),
        // So long that nothing fits beside an inode.
        (name("user.long"), vec![1; 5000]),
    ];
    for _ in 0..2 {
        let image =
            write(files.iter(), &options(Compression::Zstd { level: 3 }, 65536), 2, &xattrs);
        assert!(read(&image) == files);
        for entry in open(&image).unwrap().entries().unwrap() {
            assert!(entry.loose);
            assert_eq!(entry.hides, ["trusted.overlay.opaque"]);
        }
        xattrs.pop();
    }
    xattrs.push(xattrs[0].clone());
    let pool = Pool::new(1).unwrap();
    let options = options(Compression::Lz4 { hc: false }, 4096);
    let writer = Writer::new(Memory::default(), Memory::default(), &options, &pool).unwrap();
    let root = Entry { path: String::new(), mode: 0o755, node: Node::Directory, xattrs };
    let error = writer.finish(&[root], 0, || Ok(Memory::default())).unwrap_err();
    assert!(error.to_string().contains("is there twice"), "{error}");
}

#[test]
fn the_checksum_is_that_of_the_kernel() {
    // Castagnoli's, of which the last inversion is left out.
    assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    let mut image = write(samples().iter(), &options(ALL[0], 4096), 1, &vec![]);
    image[1024 + 100] ^= 1;
    let error = open(&image).unwrap_err();
    assert_eq!(error.to_string(), "its superblock is damaged");
}

/// Reads as much of an image as is there; the error, if there is one.
fn try_read(bytes: &[u8]) -> std::io::Result<()> {
    let image = open(bytes)?;
    for entry in image.entries()? {
        if entry.inode.kind() == '-' {
            let content = image.content(&entry.inode)?;
            std::io::copy(&mut content.take(1 << 20), &mut std::io::sink())?;
        }
    }
    Ok(())
}

#[test]
fn what_is_cut_short_is_found() {
    let files =
        Files::from([("usr/x".to_owned(), noise(20_000)), ("usr/y".to_owned(), vec![0; 9000])]);
    let image = write(files.iter(), &options(ALL[2], 4096), 1, &vec![]);
    for length in (0..image.len()).step_by(1024) {
        assert!(try_read(&image[..length]).is_err(), "{length}");
    }
    try_read(&image).unwrap();
}

/// An image without a checksum, so that what is behind is reached.
fn unguarded(compression: Compression) -> Vec<u8> {
    let files = Files::from([
        ("usr/x".to_owned(), noise(9000)),
        ("usr/y".to_owned(), vec![0; 30_000]),
        ("usr/z".to_owned(), b"short".to_vec()),
    ]);
    let xattrs = vec![("user.x".to_owned(), b"y".to_vec())];
    let mut image = write(files.iter(), &options(compression, 16 << 10), 1, &xattrs);
    image[1024 + 8] &= !1;
    image
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is in an image, it is an error or it is read; nothing else.
    #[test]
    fn no_image_is_too_odd(
        which in 0..ALL.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut image = unguarded(ALL[which]);
        // Where something is that leads elsewhere: the superblock, and all behind the data.
        let inodes = usize::try_from(super::read::number(&image, 1024 + 40, 4)).unwrap() * 4096;
        let places: Vec<usize> = (1024..1152).chain(inodes..image.len()).collect();
        for (at, byte) in changes {
            let at = *at.get(&places);
            image[at] = byte;
        }
        let _ = try_read(&image);
    }
}

/// Changes bytes of an image that are there once, and behind its superblock.
fn patch(image: &mut [u8], from: &[u8], to: &[u8]) {
    let places: Vec<usize> =
        (4096..image.len() - from.len()).filter(|at| image[*at..].starts_with(from)).collect();
    assert_eq!((places.len(), from.len()), (1, to.len()));
    image[places[0]..places[0] + to.len()].copy_from_slice(to);
}

/// The kernel reads on behind an attribute that has neither name nor value.
#[test]
fn no_attribute_hides_another() {
    let name = |name: &str| name.to_owned();
    let xattrs =
        [(name("security.abcd"), Vec::new()), (name("trusted.overlay.opaque"), b"y".to_vec())];
    let pool = Pool::new(1).unwrap();
    let options = options(Compression::Lz4 { hc: false }, 4096);
    let writer = Writer::new(Memory::default(), Memory::default(), &options, &pool).unwrap();
    let root =
        Entry { path: String::new(), mode: 0o755, node: Node::Directory, xattrs: xattrs.into() };
    let mut image = writer.finish(&[root], 0, || Ok(Memory::default())).unwrap().image.into_inner();
    patch(&mut image, b"\x04\x06\0\0abcd", &[0; 8]);
    let entries = open(&image).unwrap().entries().unwrap();
    assert_eq!(entries[0].hides, ["trusted.overlay.opaque"]);
}

/// The kernel would not find them all, and finds one of those that are there twice.
#[test]
fn names_in_another_order_are_refused() {
    let files =
        Files::from([("usr/qa".to_owned(), b"a".to_vec()), ("usr/qb".to_owned(), b"b".to_vec())]);
    let whole = write(files.iter(), &options(Compression::Lz4 { hc: false }, 4096), 1, &Vec::new());
    for other in [b"qbqa", b"qaqa"] {
        let mut image = whole.clone();
        patch(&mut image, b"qaqb", other);
        let error = open(&image).unwrap().entries().unwrap_err();
        assert!(error.to_string().contains("not in their order"), "{error}");
    }
}

/// The images that fuzzing begins with: of one tree, by mkfs.erofs 1.5 and 1.8.
#[test]
fn what_others_write_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds/erofs");
    let lines: Vec<String> = (1..2000).map(|number: u32| number.to_string()).collect();
    let text = lines.join("\n");
    let mut count = 0;
    for seed in std::fs::read_dir(folder).unwrap() {
        let path = seed.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("theirs-") {
            continue;
        }
        count += 1;
        let image = open(&std::fs::read(&path).unwrap()).unwrap();
        let mut found = BTreeMap::new();
        for entry in image.entries().unwrap() {
            let is_strict = ["usr/bin/x", "usr/share/text"].contains(&entry.path.as_str());
            assert_eq!(entry.loose, is_strict, "{} {}", path.display(), entry.path);
            let hides = entry.path == "usr/share";
            assert_eq!(!entry.hides.is_empty(), hides, "{} {}", path.display(), entry.path);
            if entry.inode.kind() == '-' {
                let mut bytes = Vec::new();
                image.content(&entry.inode).unwrap().read_to_end(&mut bytes).unwrap();
                found.insert(entry.path, bytes);
            } else if let Some(target) = entry.target {
                assert_eq!((entry.path.as_str(), target.as_str()), ("usr/bin/y", "x"));
            }
        }
        let [release, script] = ["ID=_any\n", "#!/bin/sh\n"].map(|text| text.as_bytes().to_vec());
        let expected = BTreeMap::from([
            ("usr/bin/x".to_owned(), script),
            ("usr/lib/extension-release.d/extension-release.x".to_owned(), release),
            ("usr/share/text".to_owned(), text.as_bytes()[..5000].to_vec()),
            ("usr/share/zeros".to_owned(), vec![0; 9000]),
        ]);
        assert!(found == expected, "{}", path.display());
    }
    assert_eq!(count, 8);
}
