//! Whole archives, good and hostile, through [`read`].

use std::io::Write;

use ::zip::CompressionMethod;
use ::zip::write::SimpleFileOptions;

use super::*;

mod packages;

const SMALL: Limits = Limits { bytes: 1 << 20, entries: 100 };

/// Where everything is wanted and can be read again.
fn read_file(
    asset: &std::path::Path,
    name: &str,
    limits: &Limits,
) -> Result<Archive, ArchiveError> {
    let asset = Arriving::at(asset.to_owned());
    asset.is_here().unwrap();
    let mut intake = Intake::on_disk(&std::env::temp_dir());
    read(&asset, name, limits, &|_| Want::Recipe, &mut intake)
}

fn read_as(name: &str, bytes: &[u8], limits: &Limits) -> Result<Archive, ArchiveError> {
    let mut asset = tempfile::NamedTempFile::new().unwrap();
    asset.write_all(bytes).unwrap();
    read_file(asset.path(), name, limits)
}

fn read_bytes(bytes: &[u8]) -> Result<Archive, ArchiveError> {
    read_as("asset", bytes, &SMALL)
}

fn message(bytes: &[u8]) -> String {
    read_bytes(bytes).unwrap_err().to_string()
}

/// The problem of the entry at fault, and its path.
fn problem(bytes: &[u8]) -> (String, Problem) {
    match read_bytes(bytes).unwrap_err() {
        ArchiveError::Entry { path, problem } => (path, problem),
        other => panic!("{other}"),
    }
}

fn content(archive: &Archive, path: &str) -> Vec<u8> {
    match &archive.entries[path] {
        Entry::File { content, .. } => content.read_all(u64::MAX).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A raw ustar header, for what no writer agrees to write.
fn header(kind: u8, path: &[u8], size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..path.len()].copy_from_slice(path);
    block[100..108].copy_from_slice(b"0000755\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(block)
}

fn sum(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn linked(kind: u8, path: &[u8], target: &[u8]) -> Vec<u8> {
    let mut block = header(kind, path, 0);
    block[157..157 + target.len()].copy_from_slice(target);
    sum(block).to_vec()
}

fn with_data(kind: u8, path: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, path, data.len() as u64).to_vec();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(path: &str, data: &[u8]) -> Vec<u8> {
    with_data(b'0', path.as_bytes(), data)
}

fn tar_of(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn pax_record(key: &str, value: &str) -> String {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length += 1;
    }
    format!("{length} {key}={value}\n")
}

fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let records: String = records.iter().map(|(key, value)| pax_record(key, value)).collect();
    with_data(kind, b"PaxHeaders/x", records.as_bytes())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    liblzma::encode_all(bytes, 1).unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;
const COMPRESSIONS: [(Format, Compress); 4] =
    [(Format::Gzip, gzip), (Format::Xz, xz), (Format::Zstd, zst), (Format::Bzip2, bz2)];

/// Bytes that no compression makes much smaller, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A tar as the crate's builder makes it, with all kinds of good entries.
fn sample() -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut add = |kind, path: &str, target: Option<&str>, data: &[u8]| {
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(data.len() as u64);
        match target {
            Some(target) => builder.append_link(&mut header, path, target).unwrap(),
            None => builder.append_data(&mut header, path, data).unwrap(),
        }
    };
    let long = format!("{}/x", "long".repeat(50));
    add(::tar::EntryType::Directory, "./usr/", None, b"");
    add(::tar::EntryType::Regular, "usr/bin/tool", None, &noise(3000));
    add(::tar::EntryType::Regular, "usr/empty", None, b"");
    add(::tar::EntryType::Regular, &long, None, b"long");
    add(::tar::EntryType::Symlink, "usr/link", Some(&"../far/".repeat(40)), b"");
    add(::tar::EntryType::Link, "usr/hard", Some("usr/bin/tool"), b"");
    builder.into_inner().unwrap()
}

fn assert_sample(archive: &Archive) {
    assert_eq!(archive.kind, Kind::Tar);
    assert_eq!(archive.entries.len(), 6);
    assert!(matches!(archive.entries["usr"], Entry::Directory { mode: 0o4755 }));
    assert_eq!(content(archive, "usr/bin/tool"), noise(3000));
    assert_eq!(content(archive, "usr/hard"), noise(3000));
    assert_eq!(content(archive, "usr/empty"), b"");
    assert_eq!(content(archive, &format!("{}/x", "long".repeat(50))), b"long");
    match &archive.entries["usr/link"] {
        Entry::Symlink { target } => assert_eq!(*target, "../far/".repeat(40)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tars_are_read_whatever_the_name_and_the_compression() {
    assert_sample(&read_as("tool.zip", &sample(), &SMALL).unwrap());
    for (format, compress) in COMPRESSIONS {
        let archive = read_as("tool.exe", &compress(&sample()), &SMALL);
        assert_sample(&archive.unwrap_or_else(|error| panic!("{format}: {error}")));
    }
}

#[test]
fn many_members_are_one_stream() {
    let tar = sample();
    for at in [1, 512, 513, 2000, tar.len() - 1] {
        let (one, two) = tar.split_at(at);
        for (format, compress) in COMPRESSIONS {
            let bytes = [compress(one), compress(b""), compress(two)].concat();
            let archive = read_bytes(&bytes);
            assert_sample(&archive.unwrap_or_else(|error| panic!("{format} at {at}: {error}")));
        }
    }
}

#[test]
fn skippable_zstd_frames_are_skipped() {
    let skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";
    let bytes = [&skippable[..], &zst(&sample()), skippable].concat();
    assert_sample(&read_bytes(&bytes).unwrap());
}

#[test]
fn padding_behind_gzip_is_no_error_and_garbage_is() {
    let mut bytes = gzip(&sample());
    bytes.resize(bytes.len() + 300_000, 0);
    assert_sample(&read_bytes(&bytes).unwrap());
    bytes.push(1);
    assert_eq!(message(&bytes), "gzip stream is damaged");
}

#[test]
fn single_files_are_programs_named_after_the_asset() {
    let program = b"\x7fELF program";
    let archive = read_as("kubectl", program, &SMALL).unwrap();
    assert_eq!(archive.kind, Kind::Bare);
    assert!(matches!(archive.entries["kubectl"], Entry::File { mode: 0o755, .. }));
    assert_eq!(content(&archive, "kubectl"), program);
    for (format, compress) in COMPRESSIONS {
        let archive = read_as("btop-1.2.gz", &compress(program), &SMALL).unwrap();
        assert_eq!(archive.kind, Kind::Compressed, "{format}");
        assert_eq!(archive.entries.len(), 1);
        assert!(matches!(archive.entries["btop-1.2"], Entry::File { mode: 0o755, .. }));
        assert_eq!(content(&archive, "btop-1.2"), program);
        assert!(matches!(read_bytes(&compress(b"")), Err(ArchiveError::Empty)), "{format}");
    }
    assert!(matches!(read_bytes(b""), Err(ArchiveError::Empty)));
    let error = read_as("../x", program, &SMALL).unwrap_err();
    assert_eq!(error.to_string(), "archive entry `../x` leaves the image root");
    let limits = Limits { bytes: 5, entries: 1 };
    let error = read_as("x", program, &limits).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge { limit: 5 }));
}

#[test]
fn old_and_odd_tars_are_read() {
    let mut v7 = header(0, b"dir/", 0);
    v7[257..265].fill(0);
    let mut split = header(b'0', b"name", 0);
    split[345..348].copy_from_slice(b"pre");
    split[263..265].fill(0);
    let tar = tar_of(&[sum(v7).to_vec(), file("dir/a", b"a"), sum(split).to_vec()]);
    let archive = read_bytes(&tar).unwrap();
    assert!(matches!(archive.entries["dir"], Entry::Directory { .. }));
    assert_eq!(content(&archive, "dir/a"), b"a");
    assert!(archive.entries.contains_key("pre/name"));
    // No end marker at all, and half of one.
    for blocks in [0, 1] {
        let tar = [file("a", b"a"), vec![0; 512 * blocks]].concat();
        for bytes in [gzip(&tar), xz(&tar)] {
            assert_eq!(read_bytes(&bytes).unwrap().entries.len(), 1);
        }
        // Without compression around it, only the mark tells the end from a cut.
        assert_eq!(read_bytes(&tar).is_ok(), blocks == 1);
    }
    let tar = tar_of(&[header(b'5', b"./", 0).to_vec(), file("./a", b"")]);
    assert_eq!(read_bytes(&tar).unwrap().entries.into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn pax_headers_rule_the_next_entry_only() {
    let long = format!("deep/{}", "x".repeat(200));
    let mut resized = file("short", b"data");
    resized[..512].copy_from_slice(&header(b'0', b"short", 0));
    let tar = tar_of(&[
        pax(b'g', &[("comment", "0123456789abcdef")]),
        pax(b'x', &[("SCHILY.xattr.a", "\n\nx"), ("path", &long), ("size", "4")]),
        resized,
        pax(b'x', &[("linkpath", "t")]),
        linked(b'2', b"link", b"wrong"),
        file("next", b"next"),
    ]);
    let archive = read_bytes(&tar).unwrap();
    assert_eq!(content(&archive, &long), b"data");
    assert_eq!(content(&archive, "next"), b"next");
    assert!(matches!(&archive.entries["link"], Entry::Symlink { target } if target == "t"));
    assert_eq!(archive.entries.len(), 3);
}

#[test]
fn broken_extension_headers_are_refused() {
    for (records, want) in [
        (pax(b'g', &[("path", "evil")]), Problem::Global),
        (pax(b'g', &[("size", "0")]), Problem::Global),
        (with_data(b'x', b"PaxHeaders/x", b"9 path=x\n\n"), Problem::Header),
        (with_data(b'g', b"PaxHeaders/x", b"path=x"), Problem::Header),
    ] {
        let found = problem(&tar_of(&[records, file("a", b"")]));
        assert_eq!(found, ("PaxHeaders/x".into(), want));
    }
    let tar = tar_of(&[file("a", b""), pax(b'x', &[("path", "lost")])]);
    assert_eq!(message(&tar), "tar archive is truncated");
    let mut bad = header(b'0', b"bad", 0);
    bad[124..136].copy_from_slice(b"zzzzzzzzzzz\0");
    assert_eq!(problem(&tar_of(&[sum(bad).to_vec()])), ("bad".into(), Problem::Header));
    let mut tar = tar_of(&[file("a", b""), file("b", b"")]);
    tar[512] = b'c';
    assert_eq!(message(&tar), "tar archive is damaged");
}

#[test]
fn extension_headers_cannot_fill_the_memory() {
    for kind in [b'L', b'K', b'x', b'g'] {
        // Only announced: a reader that believes it would look for 8 GiB.
        let tar = header(kind, b"huge", 0o77_777_777_777).to_vec();
        let found = problem(&tar);
        assert_eq!(found, ("huge".into(), Problem::HeaderTooLarge), "{}", char::from(kind));
        // Really there, behind a compression that makes it small.
        let tar = with_data(kind, b"huge", &vec![b'a'; (1 << 20) + 1]);
        assert_eq!(problem(&gzip(&tar)).1, Problem::HeaderTooLarge);
    }
    let name = with_data(b'L', b"@", &vec![b'a'; 5000]);
    assert_eq!(problem(&tar_of(&[name, file("a", b"")])).1, Problem::TooLong);
}

#[test]
fn paths_that_leave_are_refused_by_name() {
    let escaping = file("../../etc/passwd", b"x");
    assert_eq!(
        message(&gzip(&tar_of(&[file("good", b""), escaping]))),
        "archive entry `../../etc/passwd` leaves the image root"
    );
    for (path, want) in [
        (&b"/etc/passwd"[..], Problem::Absolute),
        (b"a/../b", Problem::LeavesRoot),
        (b"a\x1bb", Problem::Control),
        (b"a\xff", Problem::NotUtf8),
        (b"", Problem::EmptyPath),
    ] {
        assert_eq!(problem(&tar_of(&[with_data(b'0', path, b"")])).1, want);
        let long = with_data(b'L', b"@LongLink", path);
        assert_eq!(problem(&tar_of(&[long, file("a", b"")])).1, want);
    }
    let nul = with_data(b'L', b"@LongLink", b"good\0/../../evil\0");
    assert_eq!(problem(&tar_of(&[nul, file("a", b"")])).1, Problem::Control);
    let renamed = pax(b'x', &[("path", "../evil")]);
    assert_eq!(problem(&tar_of(&[renamed, file("a", b"")])).1, Problem::LeavesRoot);
}

#[test]
fn entries_through_others_are_refused_in_either_order() {
    let link = linked(b'2', b"link", b"/etc");
    let through = file("link/passwd", b"x");
    for members in [[link.clone(), through.clone()], [through, link]] {
        assert_eq!(
            message(&tar_of(&members)),
            "archive entry `link/passwd` goes through the symlink `link`"
        );
    }
    let below = [file("a", b""), file("a/b", b"")];
    assert_eq!(problem(&tar_of(&below)), ("a/b".into(), Problem::ThroughFile("a".into())));
}

#[test]
fn only_files_directories_and_links_are_taken() {
    for (kind, want) in [
        (b'3', Problem::Special("character device")),
        (b'4', Problem::Special("block device")),
        (b'6', Problem::Special("FIFO")),
        (b'V', Problem::UnknownType("V".into())),
        (0xff, Problem::UnknownType("\\xff".into())),
    ] {
        let found = problem(&tar_of(&[header(kind, b"node", 0).to_vec()]));
        assert_eq!(found, ("node".into(), want));
    }
    for kind in [b'1', b'2', b'5'] {
        let tar = tar_of(&[file("a", b""), with_data(kind, b"b", b"smuggled")]);
        assert_eq!(problem(&tar), ("b".into(), Problem::Misplaced));
    }
    let hard =
        |target: &[u8]| problem(&tar_of(&[linked(b'2', b"s", b"x"), linked(b'1', b"h", target)])).1;
    assert_eq!(hard(b"../x"), Problem::LinkLeavesRoot("../x".into()));
    assert_eq!(hard(b"later"), Problem::LinkMissing("later".into()));
    assert_eq!(hard(b"s"), Problem::LinkNotFile("s".into()));
    assert_eq!(problem(&tar_of(&[linked(b'2', b"s", b"")])).1, Problem::BadTarget);
    let replaced = tar_of(&[header(b'5', b"d", 0).to_vec(), file("d", b"")]);
    assert_eq!(problem(&replaced).1, Problem::ChangesType);
}

#[test]
fn the_last_file_of_a_path_wins() {
    let archive = read_bytes(&tar_of(&[file("a", b"one"), file("./a", b"two")])).unwrap();
    assert_eq!(content(&archive, "a"), b"two");
    assert_eq!(archive.entries.len(), 1);
}

/// A sparse file of the old GNU form: data at 0 and 4096 of 10000, so that one piece follows in an
/// extra header.
fn gnu_sparse(real_size: u64) -> Vec<u8> {
    let mut block = header(b'S', b"sparse", 512 + 3);
    block[257..265].copy_from_slice(b"ustar  \0");
    block[386..398].copy_from_slice(b"00000000000\0");
    block[398..410].copy_from_slice(b"00000001000\0");
    block[482] = 1;
    block[483..495].copy_from_slice(format!("{real_size:011o}\0").as_bytes());
    let mut extra = [0; 512];
    extra[..12].copy_from_slice(b"00000010000\0");
    extra[12..24].copy_from_slice(b"00000000003\0");
    let mut bytes = [sum(block), extra].concat();
    bytes.extend([b'a'; 512]);
    bytes.extend(b"end");
    bytes.resize(2048, 0);
    bytes
}

fn pax_sparse(version: (&str, &str), map: &str, real_size: &str, data: &[u8]) -> Vec<u8> {
    let mut folded = map.as_bytes().to_vec();
    folded.resize(folded.len().next_multiple_of(512), 0);
    folded.extend(data);
    let records = [
        ("GNU.sparse.major", version.0),
        ("GNU.sparse.minor", version.1),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", real_size),
    ];
    [pax(b'x', &records), file("GNUSparseFile.0/sparse", &folded)].concat()
}

#[test]
fn sparse_files_unfold() {
    let mut want = vec![0; 10_000];
    want[..512].fill(b'a');
    want[4096..4099].copy_from_slice(b"end");
    let data = [&[b'a'; 512][..], b"end"].concat();
    let map = "2\n0\n512\n4096\n3\n";
    for sparse in [gnu_sparse(10_000), pax_sparse(("1", "0"), map, "10000", &data)] {
        let archive = read_bytes(&tar_of(&[sparse, file("next", b"next")])).unwrap();
        assert_eq!(content(&archive, "sparse"), want);
        assert_eq!(content(&archive, "next"), b"next");
        assert_eq!(archive.entries.len(), 2);
    }
}

#[test]
fn sparse_files_that_lie_or_swell_are_refused() {
    let data = [&[b'a'; 512][..], b"end"].concat();
    for (version, map, real_size) in [
        (("0", "1"), "2\n0\n512\n4096\n3\n", "10000"),
        (("1", "0"), "2\n0\n512\n4096\n3\n", "4000"),
        (("1", "0"), "2\n0\n512\n4096\n4\n", "10000"),
        (("1", "0"), "99999999999\n0\n512\n", "10000"),
        (("1", "0"), "-1\n", "10000"),
        (("1", "0"), "x", "10000"),
    ] {
        let tar = tar_of(&[pax_sparse(version, map, real_size, &data)]);
        assert_eq!(problem(&tar), ("sparse".into(), Problem::Sparse), "{map}");
    }
    assert_eq!(problem(&tar_of(&[gnu_sparse(4098)])).1, Problem::Sparse);
    // Holes count as what they unpack to, whatever the archive has of them.
    let limit = SMALL.bytes;
    for sparse in [gnu_sparse(limit + 1), pax_sparse(("1", "0"), "0\n", &u64::MAX.to_string(), b"")]
    {
        let error = read_bytes(&tar_of(&[sparse])).unwrap_err();
        assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
    }
    // A chain of map blocks without an end.
    let mut endless = gnu_sparse(10_000)[..1024].to_vec();
    endless[1024 - 8] = 1;
    let block = endless[512..].to_vec();
    for _ in 0..3000 {
        let mut empty = block.clone();
        empty[..24].fill(0);
        endless.extend(empty);
    }
    assert_eq!(problem(&gzip(&endless)).1, Problem::Sparse);
}

#[test]
fn limits_are_exact() {
    let tar = gzip(&tar_of(&[file("a", &[1; 600]), file("b", &[2; 400])]));
    assert!(read_as("x", &tar, &Limits { bytes: 1000, entries: 2 }).is_ok());
    let error = read_as("x", &tar, &Limits { bytes: 999, entries: 2 }).unwrap_err();
    assert_eq!(error.to_string(), "archive unpacks to more than 999 bytes");
    assert!(error.hint().unwrap().contains("[limits]"));
    let error = read_as("x", &tar, &Limits { bytes: 1000, entries: 1 }).unwrap_err();
    assert_eq!(error.to_string(), "archive has more than 1 entries");
}

/// A gzip file of `head` and then of many zeros. One small member, over and over, saves the time
/// to compress what nobody is going to read.
fn gzip_with_zeros(head: &[u8], zeros: usize) -> Vec<u8> {
    const MEMBER: usize = 1 << 20;
    [gzip(head), gzip(&vec![0; MEMBER]).repeat(zeros / MEMBER)].concat()
}

#[test]
fn bombs_are_refused_early_and_leave_little() {
    let limits = Limits { bytes: 16 << 20, entries: 100 };
    let gib = 1 << 30;
    let bombs = [
        gzip_with_zeros(b"", gib),
        // One huge file, a huge rest behind the end, and a huge file that nobody announced.
        gzip_with_zeros(&header(b'0', b"huge", gib as u64), gib),
        gzip_with_zeros(&file("a", b""), gib),
    ];
    for bomb in bombs {
        let mut asset = tempfile::NamedTempFile::new().unwrap();
        // Whoever reads on after the limit meets the end instead.
        asset.write_all(&bomb[..bomb.len() / 8]).unwrap();
        let error = read_file(asset.path(), "bomb", &limits).unwrap_err();
        assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
    }
    let many: Vec<_> = (0..101).map(|n| header(b'5', format!("{n}").as_bytes(), 0)).collect();
    let error = read_as("x", &gzip(&many.concat()), &limits).unwrap_err();
    assert!(matches!(error, ArchiveError::TooMany { limit: 100 }));
}

#[test]
fn decoders_have_a_memory_limit() {
    let options = |dictionary: u32| {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(dictionary);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        filters
    };
    // An xz stream whose header asks for 1.5 GiB: encode with a small dictionary and rewrite the
    // filter properties, with the checksum of the block header behind them.
    let check = liblzma::stream::Check::Crc32;
    let stream = liblzma::stream::Stream::new_stream_encoder(&options(4096), check).unwrap();
    let mut bytes = Vec::new();
    liblzma::read::XzEncoder::new_stream(&b"data"[..], stream).read_to_end(&mut bytes).unwrap();
    let block = 12;
    let length = usize::from(bytes[block]) * 4;
    assert_eq!(bytes[block + 2..block + 4], [0x21, 1], "the LZMA2 filter and its one property");
    bytes[block + 4] = 39;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[block..block + length]);
    bytes[block + length..block + length + 4].copy_from_slice(&crc.sum().to_le_bytes());
    assert_eq!(message(&bytes), "xz stream needs too much memory to unpack");

    // A zstd frame whose window descriptor asks for 2 GiB, and an empty last block.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
    assert_eq!(message(&frame), "zstd stream needs too much memory to unpack");
    let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
    out.window_log(27).unwrap();
    out.write_all(&sample()).unwrap();
    assert_sample(&read_bytes(&out.finish().unwrap()).unwrap());
}

#[test]
fn compressed_archives_cut_anywhere_are_never_taken() {
    let tar = sample();
    for (format, compress) in COMPRESSIONS {
        let whole = compress(&tar);
        // Shorter than its magic number, a stream is a bare file like any other.
        for len in 6..whole.len() {
            match read_bytes(&whole[..len]) {
                Err(ArchiveError::Truncated(what)) => assert_eq!(what, format, "at {len}"),
                Err(ArchiveError::Damaged { .. }) => panic!("{format} at {len} is only cut"),
                other => panic!("{format} at {len}: {other:?}"),
            }
        }
        for len in 1..6 {
            let _ = read_bytes(&whole[..len]);
        }
    }
}

#[test]
fn compressed_archives_with_a_wrong_bit_are_the_same_or_refused() {
    let tar = sample();
    for (_, compress) in COMPRESSIONS {
        let mut whole = compress(&tar);
        for at in (6..whole.len()).step_by(7) {
            whole[at] ^= 0x10;
            if let Ok(archive) = read_bytes(&whole) {
                // Some bits mean nothing, such as those of the time in a gzip header.
                assert_sample(&archive);
            }
            whole[at] ^= 0x10;
        }
    }
}

#[test]
fn plain_tars_cut_inside_an_entry_are_truncated() {
    let tar = sample();
    let whole = read_bytes(&tar).unwrap().entries.len();
    let mut accepted = 0;
    for len in (512..tar.len()).step_by(512).chain((513..tar.len()).step_by(97)) {
        match read_bytes(&tar[..len]) {
            // All entries are there, and the first block of the end marker.
            Ok(archive) => {
                assert_eq!(archive.entries.len(), whole, "at {len}");
                accepted += 1;
            }
            Err(ArchiveError::Truncated(Format::Tar)) => {}
            Err(other) => panic!("at {len}: {other}"),
        }
    }
    assert!(accepted < tar.len() / 512, "some cuts are inside of entries");
    let inside = [header(b'0', b"a", 600).to_vec(), vec![1; 512]].concat();
    assert_eq!(message(&inside), "tar archive is truncated");
    // The stream around is whole, so it must not get the blame.
    assert_eq!(message(&gzip(&inside)), "tar archive is truncated");
}

#[test]
fn damage_behind_the_end_of_the_tar_is_seen() {
    for (format, compress) in COMPRESSIONS {
        let mut bytes = compress(&tar_of(&[file("a", b"a")]));
        // The checksum of each format is in its last bytes, but that of xz in front of its index.
        let at = bytes.len() - if format == Format::Xz { 36 } else { 2 };
        bytes[at] ^= 1;
        let error = read_bytes(&bytes).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Damaged { format: f, .. } if f == format),
            "{format}: {error}"
        );
    }
}

fn zip_of(build: impl FnOnce(&mut ::zip::ZipWriter<io::Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = ::zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    build(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

/// A zip with one stored file, whose path and content can be patched without new checksums.
fn zip_file(path: &str, data: &[u8]) -> Vec<u8> {
    zip_of(|zip| {
        zip.start_file(path, stored().unix_permissions(0o644)).unwrap();
        zip.write_all(data).unwrap();
    })
}

/// Replaces all of `old` by `new`, which is as long.
fn patched(mut bytes: Vec<u8>, old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut found = false;
    for at in 0..=bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
            found = true;
        }
    }
    assert!(found);
    bytes
}

/// Sets the external attributes and the maker of all entries.
fn with_attributes(mut bytes: Vec<u8>, maker: u8, attributes: u32) -> Vec<u8> {
    for at in 0..bytes.len() - 46 {
        if bytes[at..].starts_with(b"PK\x01\x02") {
            bytes[at + 5] = maker;
            bytes[at + 38..at + 42].copy_from_slice(&attributes.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn zips_are_read_whatever_the_name() {
    let bytes = zip_of(|zip| {
        zip.add_directory("usr/", SimpleFileOptions::default().unix_permissions(0o700)).unwrap();
        for (path, method) in [
            ("usr/stored", CompressionMethod::Stored),
            ("usr/deflated", CompressionMethod::Deflated),
            ("usr/bzip2", CompressionMethod::Bzip2),
        ] {
            let options = SimpleFileOptions::default().compression_method(method);
            zip.start_file(path, options.unix_permissions(0o751)).unwrap();
            zip.write_all(&noise(3000)).unwrap();
        }
        zip.add_symlink("usr/link", "../../far", SimpleFileOptions::default()).unwrap();
    });
    let archive = read_as("tool.tar.gz", &bytes, &SMALL).unwrap();
    assert_eq!(archive.kind, Kind::Zip);
    assert_eq!(archive.entries.len(), 5);
    assert!(matches!(archive.entries["usr"], Entry::Directory { mode: 0o700 }));
    for path in ["usr/stored", "usr/deflated", "usr/bzip2"] {
        assert_eq!(content(&archive, path), noise(3000));
        assert!(matches!(archive.entries[path], Entry::File { mode: 0o751, .. }));
    }
    assert!(
        matches!(&archive.entries["usr/link"], Entry::Symlink { target } if target == "../../far")
    );
    let empty = read_bytes(&zip_of(|_| {})).unwrap();
    assert!(empty.kind == Kind::Zip && empty.entries.is_empty());
    let dos = read_bytes(&with_attributes(bytes, 0, 0)).unwrap();
    assert!(matches!(dos.entries["usr"], Entry::Directory { mode: 0o755 }));
    assert!(matches!(dos.entries["usr/stored"], Entry::File { mode: 0o644, .. }));
}

#[test]
fn hostile_zip_entries_are_refused_by_name() {
    for (path, want) in [
        (&b"../bad"[..], Problem::LeavesRoot),
        (b"/.xbad", Problem::Absolute),
        (b"a\nxbad", Problem::Control),
        (b"a\0xbad", Problem::Control),
        (b"a\xffxbad", Problem::NotUtf8),
        (b"..\\bad", Problem::Backslash),
    ] {
        let good = &b"namename"[..path.len()];
        let name = std::str::from_utf8(good).unwrap();
        let bytes = patched(zip_file(name, b"x"), good, path);
        assert_eq!(problem(&bytes), (entries::quote(path), want));
    }
    let bytes = zip_of(|zip| {
        zip.add_symlink("link", "/etc", SimpleFileOptions::default()).unwrap();
        zip.start_file("link/passwd", stored()).unwrap();
    });
    assert_eq!(message(&bytes), "archive entry `link/passwd` goes through the symlink `link`");
    for kind in [0o010_000, 0o020_000, 0o060_000, 0o140_000] {
        let bytes = with_attributes(zip_file("node", b""), 3, (kind | 0o644) << 16);
        assert_eq!(problem(&bytes), ("node".into(), Problem::Special("special file")));
    }
    let bytes = with_attributes(zip_file("dir", b"smuggled"), 3, 0o040_755 << 16);
    assert_eq!(problem(&bytes), ("dir".into(), Problem::Misplaced));
}

#[test]
fn hostile_zip_symlinks_are_refused() {
    let link = |target: &[u8]| with_attributes(zip_file("link", target), 3, 0o120_777 << 16);
    let long = [b'x'; 4096];
    assert!(read_bytes(&link(&long)).is_ok());
    for target in [&b""[..], b"a\0b", b"\xff", &[b'x'; 4097], &vec![b'x'; 1 << 19]] {
        assert_eq!(problem(&link(target)), ("link".into(), Problem::BadTarget));
    }
    let bytes = patched(link(b"target-target"), b"target-target", b"target-tarxxx");
    assert_eq!(message(&bytes), "archive entry `link` is damaged");
}

#[test]
fn zip_entries_that_cannot_be_unpacked_are_refused() {
    let bytes = patched(zip_file("name", b"content"), b"content", b"CONTENT");
    assert_eq!(message(&bytes), "archive entry `name` is damaged");
    // The flags are at 6 in a local header and at 8 in the directory, the method behind them.
    let with_field = |field: usize, value: u8| {
        let mut bytes = zip_file("name", b"content");
        for at in 0..bytes.len() - 30 {
            match &bytes[at..at + 4] {
                b"PK\x03\x04" => bytes[at + 6 + field] = value,
                b"PK\x01\x02" => bytes[at + 8 + field] = value,
                _ => {}
            }
        }
        problem(&bytes)
    };
    assert_eq!(with_field(0, 1), ("name".into(), Problem::Encrypted));
    for method in [1, 6, 9, 14, 93, 95, 98, 250] {
        let (path, problem) = with_field(2, method);
        assert!(path == "name" && matches!(problem, Problem::Method(_)), "{method}: {problem}");
    }
}

#[test]
fn zip_bombs_are_refused() {
    let zeros = vec![0; 1 << 20];
    let bytes = zip_of(|zip| {
        for path in ["a", "b"] {
            let options = SimpleFileOptions::default();
            zip.start_file(path, options.compression_method(CompressionMethod::Deflated)).unwrap();
            zip.write_all(&zeros).unwrap();
        }
    });
    assert!(matches!(read_bytes(&bytes), Err(ArchiveError::TooLarge { .. })));
    // A declared size that lies does not help: the decoder stops at it.
    let size = u32::try_from(zeros.len()).unwrap().to_le_bytes();
    let small = patched(bytes, &size, &10u32.to_le_bytes());
    assert_eq!(message(&small), "archive entry `a` is damaged");
    // All entries of the directory share one local header and its data.
    let bytes = zip_of(|zip| {
        zip.start_file("a0", stored()).unwrap();
        zip.write_all(&vec![7; 600_000]).unwrap();
        zip.shallow_copy_file("a0", "a1").unwrap();
    });
    assert!(matches!(read_bytes(&bytes), Err(ArchiveError::TooLarge { limit: 1_048_576 })));
    let many = zip_of(|zip| {
        for n in 0..101 {
            zip.start_file(n.to_string(), stored()).unwrap();
        }
    });
    assert!(matches!(read_bytes(&many), Err(ArchiveError::TooMany { limit: 100 })));
}

#[test]
fn zips_cut_anywhere_are_truncated() {
    let inner = zip_file("inner", b"x");
    // The end of a stored zip inside of the cut one must not pass for its own.
    let bytes = zip_of(|zip| {
        zip.start_file("outer.zip", stored()).unwrap();
        zip.write_all(&inner).unwrap();
        zip.start_file("more", stored()).unwrap();
        zip.write_all(&noise(700)).unwrap();
    });
    assert_eq!(read_bytes(&bytes).unwrap().entries.len(), 2);
    for len in 4..bytes.len() {
        let error = read_bytes(&bytes[..len]).unwrap_err();
        assert!(matches!(error, ArchiveError::Directory(_)), "at {len}: {error}");
        assert!(error.to_string().contains("truncated"));
    }
}

#[test]
fn zip_directories_with_too_small_a_count_are_refused() {
    let mut bytes = zip_of(|zip| {
        for path in ["a", "b"] {
            zip.start_file(path, stored()).unwrap();
        }
    });
    let end = bytes.len() - 22;
    assert_eq!(bytes[end + 8..end + 12], [2, 0, 2, 0]);
    for count in [0, 1] {
        bytes[end + 8] = count;
        bytes[end + 10] = count;
        let error = read_bytes(&bytes).unwrap_err();
        assert!(matches!(error, ArchiveError::Directory(_)), "{error}");
    }
}

#[test]
fn noise_behind_any_magic_number_never_panics() {
    let noise = noise(20_000);
    let magics: [&[u8]; 9] = [
        b"!<arch>\ndebian-binary",
        b"\xed\xab\xee\xdb",
        b"\x1f\x8b\x08",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"BZh9",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"",
    ];
    for magic in magics {
        for start in (0..10_000).step_by(500) {
            let bytes = [magic, &noise[start..start + 2000]].concat();
            if let Ok(archive) = read_bytes(&bytes) {
                assert_eq!(archive.kind, Kind::Bare);
            }
        }
    }
    // A header with a right checksum in front of noise, for every type byte.
    for kind in 0..=255 {
        let mut block = header(kind, b"name", 700);
        block[345..512].copy_from_slice(&noise[usize::from(kind)..][..167]);
        let bytes = [&sum(block)[..], &noise[..2048]].concat();
        assert!(read_bytes(&bytes).is_err());
    }
}

#[test]
fn a_link_to_what_was_read_over_asks_for_another_time() {
    let mut link = header(b'1', b"wanted", 0);
    link[157..163].copy_from_slice(b"unseen");
    let tar = [file("unseen", b"content"), sum(link).to_vec(), vec![0; 1024]].concat();
    let mut asset = tempfile::NamedTempFile::new().unwrap();
    asset.write_all(&tar).unwrap();
    let asset = Arriving::at(asset.path().to_owned());
    asset.is_here().unwrap();
    let picky = |path: &str| if path == "wanted" { Want::Image } else { Want::Nothing };
    for (wants, fits) in [(&picky as &dyn Fn(&str) -> Want, false), (&|_| Want::Nothing, true)] {
        let mut intake = Intake::on_disk(&std::env::temp_dir());
        let archive = read(&asset, "x", &SMALL, wants, &mut intake);
        match archive {
            Ok(archive) => assert!(fits && archive.entries.len() == 2),
            Err(error) => assert!(!fits && matches!(error, ArchiveError::Again), "{error}"),
        }
    }
}
