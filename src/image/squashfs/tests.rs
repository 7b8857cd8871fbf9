//! Images read back by an independent reader, and what must not happen on the way.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

use backhand::{FilesystemReader, InnerNode};
use proptest::prelude::*;

use super::*;

const ALL: [Compression; 9] = [
    Compression::Zstd { level: 15 },
    Compression::Zstd { level: 3 },
    Compression::Xz { level: 6, bcj: None },
    Compression::Xz { level: 1, bcj: Some(Bcj::X86) },
    Compression::Gzip { level: 9 },
    Compression::Gzip { level: 3 },
    Compression::Gzip { level: 12 },
    Compression::Lz4 { hc: false },
    Compression::Lz4 { hc: true },
];
const TIME: u32 = 1_700_000_000;

type Memory = Cursor<Vec<u8>>;

fn options(compression: Compression, block_size: u32) -> Options {
    Options { compression, block_size }
}

fn zstd() -> Options {
    options(Compression::Zstd { level: 3 }, 4096)
}

fn writer(options: &Options, threads: usize) -> Writer<Memory> {
    on(&Pool::new(threads).unwrap(), options)
}

fn on(pool: &Pool, options: &Options) -> Writer<Memory> {
    Writer::new(Memory::default(), Memory::default(), options, pool).unwrap()
}

/// The bytes of an image.
fn complete(writer: Writer<Memory>, entries: &[Entry]) -> Vec<u8> {
    let written = writer.finish(entries, TIME, || Ok(Memory::default())).unwrap();
    let mut image = written.image.into_inner();
    assert!(image.len() as u64 >= written.size);
    assert_eq!(written.size % 4096, 0);
    image.truncate(usize::try_from(written.size).unwrap());
    image
}

/// Something of a tree to be written.
#[derive(Debug, Clone)]
enum Sample {
    Folder,
    File(Vec<u8>),
    Symlink(String),
    Link(String),
}

type Samples = BTreeMap<String, Sample>;

fn entry(path: &str, node: Node) -> Entry {
    Entry { path: path.to_owned(), mode: 0o644, node, xattrs: Vec::new() }
}

/// Adds the folders above a path too.
fn add(tree: &mut Samples, path: &str, sample: Sample) {
    for (at, _) in path.match_indices('/') {
        tree.insert(path[..at].to_owned(), Sample::Folder);
    }
    tree.insert(path.to_owned(), sample);
}

fn write(tree: &Samples, options: &Options, threads: usize) -> Vec<u8> {
    finish(tree.iter(), writer(options, threads))
}

/// Takes samples in in the order in which they come.
fn finish<'s>(
    samples: impl Iterator<Item = (&'s String, &'s Sample)>,
    mut writer: Writer<Memory>,
) -> Vec<u8> {
    let mut entries = Vec::new();
    for (path, sample) in samples {
        let node = match sample {
            Sample::Folder => Node::Directory,
            Sample::File(bytes) => Node::File(writer.content(&mut &bytes[..]).unwrap()),
            Sample::Symlink(target) => Node::Symlink(target.clone()),
            Sample::Link(target) => Node::HardLink(target.clone()),
        };
        entries.push(entry(path, node));
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    complete(writer, &entries)
}

/// Reads an image with backhand and compares it with what it was made of.
fn check(image: Vec<u8>, tree: &Samples) {
    let image = FilesystemReader::from_reader(Cursor::new(image)).unwrap();
    let mut seen = 0;
    for node in image.files() {
        assert_eq!(node.header.mtime, TIME);
        assert_eq!((node.header.uid, node.header.gid), (0, 0));
        let path = node.fullpath.strip_prefix("/").unwrap().to_str().unwrap();
        if path.is_empty() {
            assert_eq!(node.header.permissions, 0o755);
            continue;
        }
        seen += 1;
        let mut expected = &tree[path];
        if let Sample::Link(target) = expected {
            expected = &tree[target];
        }
        match (&node.inner, expected) {
            (InnerNode::Dir(_), Sample::Folder) => assert_eq!(node.header.permissions, 0o644),
            (InnerNode::File(file), Sample::File(bytes)) => {
                assert_eq!(node.header.permissions, 0o644);
                let mut found = Vec::new();
                image.file(file).reader().read_to_end(&mut found).unwrap();
                assert!(found == *bytes, "{path}: other content");
            }
            (InnerNode::Symlink(link), Sample::Symlink(target)) => {
                assert_eq!(link.link, Path::new(target));
            }
            (found, _) => panic!("{path}: {found:?}"),
        }
    }
    assert_eq!(seen, tree.len());
}

/// Bytes that no compressor makes smaller.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Bytes that all compressors make smaller.
fn text(length: usize) -> Vec<u8> {
    (0u32..).flat_map(|line| format!("line {line}\n").into_bytes()).take(length).collect()
}

/// Everything that is known to be difficult.
fn odd(block: usize) -> Samples {
    // More than may be under way at once, where blocks are small.
    let large = if block == 4096 { 40 * block } else { 5 * block };
    let mut tree = Samples::new();
    for size in [0, 1, block - 1, block, block + 1, 3 * block + 5] {
        add(&mut tree, &format!("sizes/noise{size}"), Sample::File(noise(size, size as u64)));
        add(&mut tree, &format!("sizes/text{size}"), Sample::File(text(size)));
        add(&mut tree, &format!("same/text{size}"), Sample::File(text(size)));
        add(&mut tree, &format!("zero/{size}"), Sample::File(vec![0; size]));
        let mut near = text(size);
        if let Some(last) = near.last_mut() {
            *last ^= 1;
        }
        add(&mut tree, &format!("near/text{size}"), Sample::File(near));
    }
    // Larger than what is kept back of a file that may be a copy.
    for name in ["a", "b", "d"] {
        add(&mut tree, &format!("large/{name}"), Sample::File(text(large + 7)));
    }
    add(&mut tree, "large/c", Sample::File(text(large + 8)));
    let mut mixed = vec![0; block];
    mixed.extend(noise(block, 7));
    mixed.extend(vec![0; 2 * block]);
    add(&mut tree, "mixed/hole-tail", Sample::File([&mixed[..], b"tail"].concat()));
    add(&mut tree, "mixed/hole-end", Sample::File([&mixed[..], &[0; 9]].concat()));
    add(&mut tree, &"n".repeat(255), Sample::File(b"long name".to_vec()));
    add(&mut tree, &format!("deep/{}f", "d/".repeat(300)), Sample::File(b"deep".to_vec()));
    add(&mut tree, "links/sym", Sample::Symlink("../nowhere".to_owned()));
    // Any longer, and it is backhand that refuses it.
    add(&mut tree, "links/long", Sample::Symlink("x".repeat(255)));
    add(&mut tree, "links/a", Sample::Link("sizes/text1".to_owned()));
    add(&mut tree, "links/b", Sample::Link(format!("sizes/text{}", 3 * block + 5)));
    add(&mut tree, "links/c", Sample::Link("links/sym".to_owned()));
    add(&mut tree, "empty", Sample::Folder);
    // In the order of paths `a-b` comes between `a` and what is in it.
    for path in ["a/x", "a-b/x", "a.b/x", "ab/x"] {
        add(&mut tree, path, Sample::File(path.as_bytes().to_vec()));
    }
    add(&mut tree, "ü/日本", Sample::File(b"not ascii".to_vec()));
    tree
}

#[test]
fn backhand_reads_back_what_every_compressor_wrote() {
    let tree = odd(4096);
    for compression in ALL {
        check(write(&tree, &options(compression, 4096), 2), &tree);
    }
}

#[test]
fn larger_blocks_are_read_back_too() {
    let tree = odd(131_072);
    for compression in [ALL[1], ALL[3], ALL[5], ALL[7]] {
        check(write(&tree, &options(compression, 131_072), 2), &tree);
    }
    // With parameters of its own.
    check(write(&tree, &options(ALL[0], 1 << 20), 2), &tree);
}

#[test]
fn many_small_files_and_nothing_at_all() {
    let mut tree = Samples::new();
    check(write(&tree, &zstd(), 2), &tree);
    for at in 0..3000 {
        add(&mut tree, &format!("folder/{at}"), Sample::File(text(at % 500)));
    }
    check(write(&tree, &zstd(), 2), &tree);
}

#[test]
fn the_number_of_threads_cannot_be_seen() {
    for compression in ALL {
        let tree = odd(4096);
        let one = write(&tree, &options(compression, 4096), 1);
        for threads in [2, 8] {
            assert!(one == write(&tree, &options(compression, 4096), threads), "{compression:?}");
        }
    }
}

#[test]
fn equal_contents_are_stored_once_whatever_their_size() {
    for size in [10, 4096, 4097, 3 * 4096, 50 * 4096 + 1] {
        let mut writer = writer(&zstd(), 2);
        let bytes = noise(size, 1);
        let first = writer.content(&mut &bytes[..]).unwrap();
        let other = writer.content(&mut &b"other"[..]).unwrap();
        let again = writer.content(&mut &bytes[..]).unwrap();
        let mut near = bytes.clone();
        near[size - 1] ^= 1;
        let near = writer.content(&mut &near[..]).unwrap();
        let both = [entry("a", Node::File(first)), entry("b", Node::File(again))];
        let image = complete(writer, &both);
        assert!(image.len() <= (size + 1024).next_multiple_of(4096));
        let _ = (other, near);
    }
}

/// Yields `good` bytes, then fails.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.0.min(into.len());
        into[..got].fill(b'x');
        self.0 -= got;
        if got == 0 { Err(io::Error::other("broken")) } else { Ok(got) }
    }
}

#[test]
fn a_content_that_cannot_be_read_leaves_no_trace() {
    let tree = odd(4096);
    let mut writer = writer(&zstd(), 2);
    for at in 0..tree.len() {
        let error = writer.content(&mut Failing(at * 1000)).unwrap_err();
        assert!(matches!(error, SquashfsError::Read(_)));
    }
    assert!(finish(tree.iter(), writer) == write(&tree, &zstd(), 2));
}

#[test]
fn the_order_in_which_contents_come_cannot_be_seen() {
    for compression in ALL {
        let tree = odd(4096);
        let options = options(compression, 4096);
        let backwards = finish(tree.iter().rev(), writer(&options, 3));
        assert!(backwards == write(&tree, &options, 2), "{compression:?}");
    }
}

#[test]
fn what_no_path_has_is_left_out() {
    let tree = odd(4096);
    let mut writer = writer(&zstd(), 2);
    writer.content(&mut &noise(100_001, 77)[..]).unwrap();
    assert!(finish(tree.iter(), writer) == write(&tree, &zstd(), 2));
}

#[test]
fn images_that_share_their_threads_do_not_mix() {
    let pool = Pool::new(2).unwrap();
    let tree = odd(4096);
    let (zstd, gzip) = (zstd(), options(Compression::Gzip { level: 3 }, 8192));
    let on_pool = |options: &Options| finish(tree.iter(), on(&pool, options));
    std::thread::scope(|scope| {
        let images = [&zstd, &gzip, &zstd].map(|options| scope.spawn(|| on_pool(options)));
        let [a, b, c] = images.map(|image| image.join().unwrap());
        assert!(a == c && a == write(&tree, &zstd, 1) && b == write(&tree, &gzip, 1));
    });
}

/// What must never change without a reason: the digest of one tree for each compressor. New
/// versions of the C libraries may compress differently; then the images of all repositories do,
/// and this is the place where that is noticed.
#[test]
fn the_same_tree_is_the_same_bytes_for_ever() {
    let tree = odd(4096);
    let digests: Vec<String> = ALL
        .into_iter()
        .map(|compression| {
            let image = write(&tree, &options(compression, 128 << 10), 2);
            format!("{compression:?} {}", crate::name::Sha256::of(&image))
        })
        .collect();
    insta::assert_snapshot!(digests.join("\n"), @"
    Zstd { level: 15 } 32d15998fcf04e702f5f5c34741e380cad88851276c6f28327c44b98666d6d5e
    Zstd { level: 3 } 1b1cdf9cc56e7c29608612d15581eae3c5978f96c8c215a2006faf2a35456361
    Xz { level: 6, bcj: None } 8b869ddcd1a32926262bde2cc185f34778e3da7c2f28f98c264ac504b7080086
    Xz { level: 1, bcj: Some(X86) } f4f078906d26457cd4d91b3e5f4385a5eb436d29a0309bc6132e169f66927f6a
    Gzip { level: 9 } 69cc2485d03572ce3fccc887e80be9336b5d89d25a2ce9242f3b2bf493501f82
    Gzip { level: 3 } 1b4bcfa30817d06df63e186f6ba41da7cd1fb2a099b32f2d95e4c3c933c0edff
    Gzip { level: 12 } 6eff20f859367bad834eecd64e06f57de11dfd5533d09a5bc729e804094e252a
    Lz4 { hc: false } 01f80d6caab6dbaec0643c14c220663d9b9dfe9b2490dafb6915595372d70e4f
    Lz4 { hc: true } acb95ae4cc0ec1abbd011835cf7fbd1c873d4f5754a0f003248e37f332db56bd
    ");
}

/// Takes so many bytes, then has no more room.
struct Full(usize, Cursor<Vec<u8>>);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Full {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.read(into)
    }
}

impl Seek for Full {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.1.seek(to)
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_is_full() {
    let bytes = noise(40 * 4096 + 7, 3);
    let attempt = |rooms: [usize; 3]| {
        let [image, tails, other] = rooms.map(|room| Full(room, Cursor::default()));
        let mut writer = Writer::new(image, tails, &zstd(), &Pool::new(2).unwrap())?;
        let content = writer.content(&mut &bytes[..]);
        if content.is_err() {
            assert!(matches!(writer.content(&mut io::empty()), Err(SquashfsError::Broken)));
        }
        // What is left out, and before it, makes a second file necessary.
        let mut entries = vec![entry("f", Node::File(content?))];
        if rooms[2] > 0 {
            let late = writer.content(&mut &bytes[1..])?;
            entries.insert(0, entry("a", Node::File(late)));
        }
        writer.finish(&entries, TIME, || Ok(other))
    };
    let enough = usize::MAX;
    let size = |rooms| usize::try_from(attempt(rooms).unwrap().size).unwrap();
    let (one, two) = (size([enough, enough, 0]), size([enough; 3]));
    for room in (0..one).step_by(777) {
        let full = attempt([room, enough, 0]);
        assert!(matches!(full, Err(SquashfsError::Write(_))), "{room}");
    }
    for room in (1..two).step_by(777) {
        let full = attempt([enough, enough, room]);
        assert!(matches!(full, Err(SquashfsError::Write(_))), "{room}");
    }
    assert!(matches!(attempt([enough, 6, 0]), Err(SquashfsError::Write(_))));
    // The superblock is written twice.
    attempt([one + SUPERBLOCK, 7, 0]).unwrap();
    attempt([two, 13, two + SUPERBLOCK]).unwrap();
}

#[test]
fn a_writer_can_be_dropped_at_any_time() {
    for size in [0, 4096, 100 * 4096] {
        let mut writer = writer(&zstd(), 3);
        writer.content(&mut &noise(size, 4)[..]).unwrap();
    }
}

#[test]
fn trees_that_cannot_be_stored_are_refused() {
    let refused = |entries: &[Entry]| {
        writer(&zstd(), 1).finish(entries, TIME, || Ok(Memory::default())).unwrap_err()
    };
    let folder = |path: &str| entry(path, Node::Directory);
    for entries in [
        vec![folder("b"), folder("a")],
        vec![folder("a"), folder("a")],
        vec![folder("a/b")],
        vec![entry("a", Node::Symlink("x".into())), folder("a/b")],
        vec![folder("a"), folder("a//b")],
        vec![folder("/")],
        vec![folder("..")],
        vec![folder("a\0")],
        vec![folder(&"n".repeat(256))],
        vec![entry("", Node::Symlink("x".into()))],
        vec![entry("a", Node::Symlink(String::new()))],
        vec![entry("a", Node::Symlink("x".repeat(4096)))],
        vec![entry("a", Node::File(ContentId(0)))],
    ] {
        let error = refused(&entries);
        assert!(matches!(error, SquashfsError::Path { .. }), "{entries:?}: {error}");
    }
    for target in ["", "a", "b", "none"] {
        let entries = [folder("a"), entry("b", Node::HardLink(target.to_owned()))];
        assert!(matches!(refused(&entries), SquashfsError::Link { .. }), "{target}");
    }
    for name in ["system.posix_acl_access", "user.", "user", "user.a"] {
        let xattrs = vec![(name.to_owned(), Vec::new()), ("user.a".to_owned(), Vec::new())];
        let entries = [Entry { xattrs, ..folder("a") }];
        assert!(matches!(refused(&entries), SquashfsError::Xattr { .. }), "{name}");
    }
}

#[test]
fn options_that_the_format_does_not_have_are_refused() {
    let refused = |compression, block_size| {
        let (pool, options) = (Pool::new(1).unwrap(), options(compression, block_size));
        Writer::new(Memory::default(), Memory::default(), &options, &pool).err().unwrap()
    };
    for size in [0, 2048, 5000, 2 << 20] {
        assert!(matches!(refused(ALL[0], size), SquashfsError::BlockSize(_)), "{size}");
    }
    for compression in [
        Compression::Zstd { level: 0 },
        Compression::Zstd { level: 23 },
        Compression::Xz { level: 10, bcj: None },
        Compression::Gzip { level: 0 },
        Compression::Gzip { level: 13 },
    ] {
        assert!(matches!(refused(compression, 4096), SquashfsError::Level { .. }));
    }
}

#[test]
fn attributes_do_not_hide_anything_from_a_reader_that_knows_none() {
    let mut writer = writer(&zstd(), 2);
    let mut tree = Samples::new();
    let mut entries = Vec::new();
    for (path, bytes) in [("a", text(10)), ("b", text(9000)), ("c", vec![0; 5000])] {
        let label = ("security.selinux".to_owned(), b"system_u:object_r:usr_t:s0\0".to_vec());
        let own = ("user.large".to_owned(), noise(9000, 5));
        let node = Node::File(writer.content(&mut &bytes[..]).unwrap());
        entries.push(Entry { xattrs: vec![own, label], ..entry(path, node) });
        add(&mut tree, path, Sample::File(bytes));
    }
    let label = vec![("trusted.x".to_owned(), Vec::new())];
    entries.push(Entry { xattrs: label.clone(), ..entry("d", Node::Directory) });
    entries.push(Entry { xattrs: label, ..entry("e", Node::Symlink("a".to_owned())) });
    add(&mut tree, "d", Sample::Folder);
    add(&mut tree, "e", Sample::Symlink("a".to_owned()));
    check(complete(writer, &entries), &tree);
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![0usize..300, 4090usize..4100, 8190usize..8196, 0usize..60_000];
    (size, 0u64..4, 0u8..4).prop_map(|(size, seed, kind)| match kind {
        0 => noise(size, seed),
        1 => vec![0; size],
        2 => text(size),
        _ => {
            let mut bytes = text(size);
            let hole = size / 3..size / 3 * 2;
            bytes[hole].fill(0);
            bytes
        }
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    prop_oneof![
        6 => content().prop_map(Sample::File),
        1 => "[a-z./]{1,200}".prop_map(Sample::Symlink),
        1 => Just(Sample::Folder),
    ]
}

fn tree() -> impl Strategy<Value = Samples> {
    let path = proptest::collection::vec("[a-c.-]{0,3}[a-z]", 1..5);
    let links = proptest::collection::vec(any::<prop::sample::Index>(), 0..4);
    (proptest::collection::vec((path, sample()), 0..40), links).prop_map(|(samples, links)| {
        let mut tree = Samples::new();
        for (path, sample) in samples {
            // What is a file cannot be a folder as well.
            let path = path.join("/");
            let clash = |at: usize| !matches!(tree.get(&path[..at]), None | Some(Sample::Folder));
            if !tree.contains_key(&path) && !path.match_indices('/').any(|(at, _)| clash(at)) {
                add(&mut tree, &path, sample);
            }
        }
        let leaves: Vec<String> = tree
            .iter()
            .filter(|(_, sample)| !matches!(sample, Sample::Folder))
            .map(|(path, _)| path.clone())
            .collect();
        for (at, link) in links.iter().enumerate().filter(|_| !leaves.is_empty()) {
            tree.insert(format!("{at}"), Sample::Link(link.get(&leaves).clone()));
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_tree_comes_back(tree in tree(), compression in 0..ALL.len(), threads in 1usize..4) {
        let image = write(&tree, &options(ALL[compression], 4096), threads);
        prop_assert!(image == write(&tree, &options(ALL[compression], 4096), 1));
        check(image, &tree);
    }
}
