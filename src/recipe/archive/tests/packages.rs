//! Packages of distributions: real ones, as their tools make them, and hostile ones.

use std::fmt::Write as _;

use super::*;

/// Real packages, made by dpkg-deb and rpmbuild; each is a seed of a fuzzer, which wants a byte
/// before it.
macro_rules! seed {
    ($name:literal) => {
        &include_bytes!(concat!("../../../../tests/fuzz/seeds/archive/", $name))[1..]
    };
}

/// A member of an `ar` archive.
fn ar_member(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len())
            .into_bytes();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    bytes
}

fn deb_with(members: &[(&str, &[u8])]) -> Vec<u8> {
    let members = members.iter().flat_map(|(name, data)| ar_member(name, data));
    b"!<arch>\n".iter().copied().chain(members).collect()
}

fn deb(data: &[u8]) -> Vec<u8> {
    deb_with(&[("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), ("data.tar", data)])
}

#[test]
fn debian_packages_are_their_files() {
    for bytes in [seed!("gzip.deb"), seed!("zstd.deb"), seed!("xz.deb")] {
        let archive = read_bytes(bytes).unwrap();
        assert_eq!(archive.kind, Kind::Deb);
        assert_eq!(archive.newest, Some(1_700_000_000));
        let paths: Vec<_> = archive.entries.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "usr",
                "usr/bin",
                "usr/bin/t",
                "usr/bin/tool",
                "usr/bin/tool-again",
                "usr/share",
                "usr/share/tool",
                "usr/share/tool/hello"
            ]
        );
        assert_eq!(content(&archive, "usr/bin/tool-again"), b"#!/bin/sh\necho tool\n");
        assert!(matches!(archive.entries["usr/bin/tool"], Entry::File { mode: 0o4755, .. }));
    }
    for (format, compress) in COMPRESSIONS {
        let name = match format {
            Format::Xz => "data.tar.xz/",
            _ => "data.tar.gz",
        };
        let packed = compress(&sample());
        let members = [
            ("debian-binary", &b"2.0\n"[..]),
            ("_sig", b""),
            (name, &packed),
            ("_gpgorigin", b"x"),
        ];
        let bytes = [deb_with(&members), b"what dpkg does not read".to_vec()].concat();
        assert_eq!(content(&read_bytes(&bytes).unwrap(), "usr/hard"), noise(3000), "{format}");
    }
}

#[test]
fn what_is_no_debian_package_is_refused_and_a_library_is_a_file() {
    let library = [&b"!<arch>\n"[..], &ar_member("x.o/", b"object")].concat();
    assert_eq!(read_bytes(&library).unwrap().kind, Kind::Bare);
    assert!(matches!(read_as("x.deb", b"not found", &SMALL).unwrap_err(), ArchiveError::NoArchive));
    for (bytes, part) in [
        (deb_with(&[("debian-binary", b"2.0\n"), ("data.tar.lzma", b"x")]), "packed in a way"),
        (deb_with(&[("debian-binary", b"3.0\n"), ("data.tar", b"")]), "damaged"),
        (deb_with(&[("debian-binary", b"2.0\n"), ("control.tar", b"")]), "truncated"),
        (deb_with(&[("debian-binary", &b"2.0\n"[..]); 20]), "damaged"),
        (patched(deb(&sample()), b"`\n", b"'\n"), "damaged"),
        (patched(deb(&sample()), b"4         `\n", b"-4        `\n"), "damaged"),
        (deb(b"no tar at all"), "truncated"),
        ([deb(&sample()), ar_member("data.tar", &sample())].concat(), "damaged"),
        ([deb(&sample()), ar_member("data.tar.xz", b"x")].concat(), "damaged"),
        (deb(&[b'x'; 2000]), "damaged"),
    ] {
        let message = message(&bytes);
        assert!(message.contains(part), "{message}");
    }
    let (path, found) = problem(&deb(&tar_of(&[file("./../etc/passwd", b"x")])));
    assert_eq!((path.as_str(), found), ("./../etc/passwd", Problem::LeavesRoot));
    let (_, found) = problem(&deb(&tar_of(&[header(b'3', b"dev/null", 0).to_vec()])));
    assert_eq!(found, Problem::Special("character device"));
}

#[test]
fn packages_cut_anywhere_are_never_taken() {
    for bytes in [
        seed!("gzip.deb"),
        seed!("xz.deb"),
        seed!("zstd.deb"),
        seed!("gzip.rpm"),
        seed!("xz.rpm"),
        seed!("zstd.rpm"),
    ] {
        for end in (1..bytes.len() - 1).step_by(7) {
            match read_bytes(&bytes[..end]) {
                Err(_) => {}
                Ok(archive) => assert_eq!((archive.kind, end < 60), (Kind::Bare, true), "{end}"),
            }
        }
    }
}

#[test]
fn rpm_packages_are_their_files() {
    for bytes in [seed!("gzip.rpm"), seed!("xz.rpm"), seed!("zstd.rpm")] {
        let archive = read_bytes(bytes).unwrap();
        assert_eq!(archive.kind, Kind::Rpm);
        let paths: Vec<_> = archive.entries.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "usr/bin/a-tool",
                "usr/bin/t",
                "usr/bin/tool",
                "usr/bin/tool-again",
                "usr/lib/tool",
                "usr/lib/tool/empty",
                "usr/lib/tool/empty2",
                "usr/share/tool",
                "usr/share/tool/hello"
            ]
        );
        for path in ["usr/bin/a-tool", "usr/bin/tool", "usr/bin/tool-again"] {
            assert_eq!(content(&archive, path), b"#!/bin/sh\necho tool\n", "{path}");
            assert!(matches!(archive.entries[path], Entry::File { mode: 0o755, .. }));
        }
        assert_eq!(content(&archive, "usr/lib/tool/empty2"), b"");
        assert!(
            matches!(&archive.entries["usr/bin/t"], Entry::Symlink { target } if target == "tool")
        );
        assert!(archive.newest.is_some());
    }
}

/// One file of a package in the making.
#[derive(Clone, Copy)]
struct Packed<'a> {
    path: &'a str,
    mode: u32,
    inode: u32,
    links: u32,
    data: &'a [u8],
}

fn packed<'a>(path: &'a str, mode: u32, data: &'a [u8]) -> Packed<'a> {
    Packed { path, mode, inode: 1, links: 1, data }
}

/// Fills up to a multiple of four bytes.
fn aligned(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn newc(file: Packed<'_>) -> Vec<u8> {
    let Packed { path, mode, inode, links, data } = file;
    let name = path.len() + 1;
    let size = data.len();
    let fields =
        [inode, mode, 0, 0, links, 1_700_000_000, u32::try_from(size).unwrap(), 0, 0, 0, 0];
    let fields = fields.iter().fold(String::new(), |mut fields, field| {
        write!(fields, "{field:08x}").unwrap();
        fields
    });
    let header = format!("070701{fields}{name:08x}00000000{path}\0");
    [aligned(header.into_bytes()), aligned(data.to_vec())].concat()
}

fn cpio(files: &[Packed<'_>]) -> Vec<u8> {
    let end = packed("TRAILER!!!", 0, b"");
    files.iter().chain([&end]).flat_map(|file| newc(*file)).collect()
}

/// A header with values of these tags: the type, how many, and the bytes.
fn rpm_header(values: &[(u32, u32, u32, Vec<u8>)]) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    for (tag, kind, count, bytes) in values {
        for number in [*tag, *kind, u32::try_from(store.len()).unwrap(), *count] {
            index.extend(number.to_be_bytes());
        }
        store.extend(bytes);
    }
    let mut header = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    header.extend(u32::try_from(values.len()).unwrap().to_be_bytes());
    header.extend(u32::try_from(store.len()).unwrap().to_be_bytes());
    [header, index, store].concat()
}

fn rpm_with(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xed, 0xab, 0xee, 0xdb];
    bytes.resize(96, 0);
    // Signatures of an odd length, so that something fills up to the next header.
    let signatures = rpm_header(&[(1000, 7, 3, vec![1, 2, 3])]);
    bytes.extend(&signatures);
    bytes.resize(96 + signatures.len().next_multiple_of(8), 0);
    [&bytes, header, payload].concat()
}

fn rpm(files: &[Packed<'_>]) -> Vec<u8> {
    rpm_with(&rpm_header(&[]), &zst(&cpio(files)))
}

/// A package whose archive has only numbers, in this order.
fn numbered(files: &[Packed<'_>], order: &[usize], long: bool) -> Vec<u8> {
    let count = u32::try_from(files.len()).unwrap();
    let each = |value: fn(&Packed<'_>) -> u32| -> Vec<u8> {
        files.iter().flat_map(|file| value(file).to_be_bytes()).collect()
    };
    let split = |file: &Packed<'_>| file.path.rfind('/').unwrap() + 1;
    let texts = |part: fn(&str, usize) -> &str| -> Vec<u8> {
        files
            .iter()
            .flat_map(|file| format!("{}\0", part(file.path, split(file))).into_bytes())
            .collect()
    };
    let size = |file: &Packed<'_>| u32::try_from(file.data.len()).unwrap();
    let sizes = if long {
        let wide = files.iter().flat_map(|file| u64::from(size(file)).to_be_bytes()).collect();
        (5008, 5, count, wide)
    } else {
        (1028, 4, count, files.iter().flat_map(|file| size(file).to_be_bytes()).collect())
    };
    let modes = files.iter().flat_map(|file| u16::try_from(file.mode).unwrap().to_be_bytes());
    let header = rpm_header(&[
        sizes,
        (1030, 3, count, modes.collect()),
        (1034, 4, count, each(|_| 1_700_000_000)),
        (1095, 4, count, each(|_| 1)),
        (1096, 4, count, each(|file| file.inode)),
        (1116, 4, count, (0..count).flat_map(u32::to_be_bytes).collect()),
        (1117, 8, count, texts(|path, at| &path[at..])),
        (1118, 8, count, texts(|path, at| &path[..at])),
    ]);
    let mut payload = Vec::new();
    for number in order {
        payload.extend(aligned(format!("07070X{number:08x}").into_bytes()));
        let file = &files[*number];
        let last = files.iter().rposition(|other| other.inode == file.inode).unwrap();
        if last == *number || file.mode & 0o170_000 != 0o100_000 {
            payload.extend(aligned(file.data.to_vec()));
        }
    }
    payload.extend(cpio(&[]));
    rpm_with(&header, &gzip(&payload))
}

#[test]
fn rpm_packages_with_numbers_for_names_are_read() {
    let tool = |path| Packed { inode: 7, ..packed(path, 0o100_755, b"tool") };
    let files = [
        tool("/usr/bin/a"),
        Packed { inode: 2, ..packed("/usr/share", 0o040_755, b"") },
        Packed { inode: 3, ..packed("/usr/bin/l", 0o120_777, b"tool") },
        tool("/usr/bin/b"),
        Packed { inode: 4, ..packed("/usr/share/odd", 0o100_644, b"12345") },
    ];
    for long in [true, false] {
        // The one with the content comes last, or first.
        for order in [[0, 1, 2, 3, 4], [3, 0, 4, 2, 1]] {
            let archive = read_bytes(&numbered(&files, &order, long)).unwrap();
            assert_eq!(archive.entries.len(), 5);
            assert_eq!(content(&archive, "usr/bin/a"), b"tool");
            assert_eq!(content(&archive, "usr/bin/b"), b"tool");
            assert_eq!(content(&archive, "usr/share/odd"), b"12345");
            assert!(
                matches!(&archive.entries["usr/bin/l"], Entry::Symlink { target } if target == "tool")
            );
            assert_eq!(archive.newest, Some(1_700_000_000));
        }
    }
    let error =
        message(&patched(numbered(&files, &[0], true), b"\x8e\xad\xe8\x01", b"\x8e\xad\xe8\x02"));
    assert!(error.contains("damaged"), "{error}");
    // A number that the header does not have, and a header without files.
    let payload = aligned(b"07070X0000000f".to_vec());
    let error = message(&rpm_with(&rpm_header(&[]), &gzip(&payload)));
    assert!(error.contains("RPM package is damaged"), "{error}");
}

#[test]
fn hostile_rpm_packages_are_refused_by_name() {
    for (file, problem_of) in [
        (packed("./../x", 0o100_644, b""), Problem::LeavesRoot),
        (packed("/etc/passwd", 0o100_644, b""), Problem::Absolute),
        (packed("./dev/x", 0o020_644, b""), Problem::Special("character device")),
        (packed("./dev/x", 0o060_644, b""), Problem::Special("block device")),
        (packed("./run/x", 0o010_644, b""), Problem::Special("FIFO")),
        (packed("./run/x", 0o140_644, b""), Problem::Special("socket")),
        (packed("./x", 0o040_755, b"content"), Problem::Misplaced),
        (packed("./x", 0o120_777, b""), Problem::BadTarget),
        (packed("./x", 0o120_777, &[b'x'; 5000]), Problem::BadTarget),
        (packed("./x", 0, b""), Problem::UnknownType("0".to_owned())),
    ] {
        let (_, found) = problem(&rpm(&[file]));
        assert_eq!(found, problem_of);
    }
    let link = packed("./usr/l", 0o120_777, b"/etc");
    let (_, found) = problem(&rpm(&[link, packed("./usr/l/passwd", 0o100_644, b"x")]));
    assert!(matches!(found, Problem::ThroughSymlink(_)));
    for (payload, part) in [
        (b"BZ lzma or whatever".to_vec(), "packed in a way"),
        (zst(b"070701zzzz"), "cpio archive is truncated"),
        (zst(&[b"070701".as_slice(), &[b'z'; 200]].concat()), "cpio archive is damaged"),
        (zst(&newc(packed("./x", 0o100_644, b"x"))), "cpio archive is truncated"),
    ] {
        let error = message(&rpm_with(&rpm_header(&[]), &payload));
        assert!(error.contains(part), "{error}");
    }
    // A size that no package has.
    let huge = cpio(&[packed("./x", 0o100_644, &[b'y'; 0x1234])]);
    let huge = patched(huge, b"00001234", b"ffffffff");
    let error = read_bytes(&rpm_with(&rpm_header(&[]), &huge)).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
    // A header that says it is huge.
    let mut bytes = rpm(&[]);
    bytes[104..108].fill(0xff);
    match read_bytes(&bytes).unwrap_err() {
        ArchiveError::Damaged { format: Format::Rpm, source } => {
            assert!(source.to_string().contains("longer than any real one"), "{source}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_wanted_name_of_a_file_that_was_read_over_asks_for_another_time() {
    let tool = |path, data| Packed { inode: 7, links: 2, ..packed(path, 0o100_755, data) };
    let bytes = rpm(&[tool("./wanted", b""), tool("./unseen", b"content")]);
    let mut asset = tempfile::NamedTempFile::new().unwrap();
    asset.write_all(&bytes).unwrap();
    let asset = Arriving::at(asset.path().to_owned());
    asset.is_here().unwrap();
    let picky = |path: &str| if path == "wanted" { Want::Image } else { Want::Nothing };
    let mut intake = Intake::on_disk(&std::env::temp_dir());
    let error = read(&asset, "x", &SMALL, &picky, &mut intake).unwrap_err();
    assert!(matches!(error, ArchiveError::Again), "{error}");
}
