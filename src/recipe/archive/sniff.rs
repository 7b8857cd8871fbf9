//! What the bytes of an asset are, and the stream of bytes behind its compression.
//!
//! Owns the magic numbers and the decoders, with the bounds on their memory and their output. It
//! refuses to know file names (but for taking `.gz` off one) and what the stream contains.

use std::io::{self, BufRead, BufReader, Read};

use super::{ArchiveError, Format, Limits};

/// Bytes that tell the type of a file: one block of a tar archive.
pub(super) const HEAD: usize = 512;
/// Size of the buffers before and behind a decoder, in bytes.
const BUFFER: usize = 128 * 1024;
/// Memory for an xz decoder, in bytes. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;
/// Largest zstd window, as a power of two: 128 MiB, that of `zstd --long` and `zstd --ultra -22`.
/// RFC 8878 advises decoders to support 8 MiB and to refuse what is unreasonable.
const ZSTD_WINDOW: u32 = 27;
/// Bytes of tar framing per entry which do not count as content: a header, the padding, and a pax
/// header with its own padding, twice over.
const FRAMING: u64 = 4096;

/// What is around the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    None,
    Zip,
    Deb,
    Rpm,
    Compressed(Format),
}

/// Tells the outermost format from the first [`HEAD`] bytes, or fewer when there are no more.
pub(super) fn wrapping(head: &[u8]) -> Wrapping {
    match head {
        [0x1f, 0x8b, ..] => Wrapping::Compressed(Format::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Wrapping::Compressed(Format::Xz),
        // A Zstandard frame or a skippable one (RFC 8878, 3.1.1 and 3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Wrapping::Compressed(Format::Zstd)
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Wrapping::Compressed(Format::Bzip2),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Wrapping::Zip,
        // Any other `ar` archive is a library for compilers.
        _ if head.starts_with(b"!<arch>\ndebian-binary") => Wrapping::Deb,
        [0xed, 0xab, 0xee, 0xdb, ..] => Wrapping::Rpm,
        _ => Wrapping::None,
    }
}

/// Whether `head` is a tar header: it has the magic of ustar, or at least the checksum that a v7
/// header has.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Ok(block) = <&[u8; HEAD]>::try_from(head) else {
        return false;
    };
    block[257..262] == *b"ustar" || checksum_matches(block)
}

/// Whether the checksum of a tar header is right: the sum of its bytes with blanks in place of
/// the checksum itself. Some old tars summed signed bytes.
pub(super) fn checksum_matches(block: &[u8; HEAD]) -> bool {
    let field = block[148..156].split(|byte| *byte == 0).next().unwrap_or_default();
    let stored = std::str::from_utf8(field).ok();
    let Some(stored) = stored.and_then(|text| i64::from_str_radix(text.trim(), 8).ok()) else {
        return false;
    };
    let bytes = || block[..148].iter().chain(b"        ").chain(&block[156..]);
    let unsigned: i64 = bytes().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    stored == unsigned || stored == signed
}

/// The name of a compressed file once it is unpacked: without its last extension, when that is
/// one of a compression.
pub(super) fn uncompressed_name(name: &str) -> &str {
    const EXTENSIONS: [&str; 7] = ["gz", "xz", "zst", "zstd", "bz2", "bz", "z"];
    match name.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty()
                && EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)) =>
        {
            stem
        }
        _ => name,
    }
}

/// The bytes behind the compression of a file, bounded.
///
/// Reading to the end verifies the whole compressed stream: the end is only reported once every
/// checksum of the format has been seen.
pub(super) struct Stream {
    source: BufReader<Box<dyn Read>>,
    format: Format,
    /// What may still come, in bytes.
    left: u64,
    /// Whether the end was seen, which means that the compression around is whole.
    ended: bool,
    /// The archive in it, which is what ended too early when the compression did not.
    inside: Format,
    limits: Limits,
}

impl Stream {
    /// The bytes of `file` as they are.
    pub(super) fn plain(file: impl Read + 'static, limits: Limits) -> Stream {
        Stream::new(Box::new(file), Format::Plain, limits)
    }

    /// The bytes of `file`, which is compressed with `format`.
    pub(super) fn decode(
        file: impl Read + 'static,
        format: Format,
        limits: Limits,
    ) -> Result<Stream, ArchiveError> {
        let damaged = |source| ArchiveError::Damaged { format, source };
        let input = BufReader::with_capacity(BUFFER, file);
        let decoder: Box<dyn Read> = match format {
            Format::Gzip => Box::new(Gzip::new(input)),
            Format::Xz => {
                use liblzma::stream::{CONCATENATED, Stream};
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                    .map_err(|error| damaged(error.into()))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Format::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input).map_err(damaged)?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(damaged)?;
                Box::new(decoder)
            }
            Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Format::Plain
            | Format::Tar
            | Format::Zip
            | Format::Deb
            | Format::Rpm
            | Format::Cpio => Box::new(input),
        };
        Ok(Stream::new(decoder, format, limits))
    }

    fn new(source: Box<dyn Read>, format: Format, limits: Limits) -> Stream {
        let framing = (limits.entries as u64).saturating_add(256).saturating_mul(FRAMING);
        Stream {
            source: BufReader::with_capacity(BUFFER, source),
            format,
            left: limits.bytes.saturating_add(framing),
            ended: false,
            inside: Format::Tar,
            limits,
        }
    }

    /// Whether there is no compression around the bytes.
    pub(super) fn is_plain(&self) -> bool {
        self.format == Format::Plain
    }

    /// The same, known to hold another archive than tar.
    pub(super) fn holding(self, inside: Format) -> Stream {
        Stream { inside, ..self }
    }

    /// The bytes of `file`, and which compression they turn out to have. `head` are its first bytes.
    pub(super) fn of_payload(
        mut file: impl Read + 'static,
        limits: Limits,
    ) -> Result<(Stream, Vec<u8>), ArchiveError> {
        let mut head = Vec::with_capacity(HEAD);
        // The end of the file is told by whoever needs more of it.
        let read = (&mut file).take(HEAD as u64).read_to_end(&mut head);
        read.map_err(ArchiveError::Read)?;
        let bytes = io::Cursor::new(head.clone()).chain(file);
        let stream = match wrapping(&head) {
            Wrapping::Compressed(format) => Stream::decode(bytes, format, limits)?,
            _ => Stream::plain(bytes, limits),
        };
        Ok((stream, head))
    }

    /// The next bytes, so many of them. Reading them fails when the stream ends before they do.
    pub(super) fn part(&mut self, left: u64) -> Part<&mut Self> {
        Part { whole: self, left }
    }

    /// Reads over the next bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        match io::copy(&mut self.part(bytes), &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Whether a tar archive comes next. Takes nothing from the stream.
    pub(super) fn holds_tar(&mut self) -> Result<bool, ArchiveError> {
        let mut head = Vec::with_capacity(HEAD);
        let read = (&mut self.source).take(HEAD as u64).read_to_end(&mut head);
        read.map_err(|source| self.error(source))?;
        let tar = is_tar(&head);
        // Put the bytes back in front of the rest.
        let rest = std::mem::replace(&mut self.source, BufReader::new(Box::new(io::empty())));
        let whole: Box<dyn Read> = Box::new(io::Cursor::new(head).chain(rest));
        self.source = BufReader::with_capacity(BUFFER, whole);
        Ok(tar)
    }

    /// Reads to the end, so that damage behind the last byte of interest is seen.
    pub(super) fn drain(&mut self) -> Result<(), ArchiveError> {
        match io::copy(self, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(source) => Err(self.error(source)),
        }
    }

    /// What an error of this reader means.
    pub(super) fn error(&self, source: io::Error) -> ArchiveError {
        let format = self.format;
        match source.kind() {
            io::ErrorKind::FileTooLarge => ArchiveError::TooLarge { limit: self.limits.bytes },
            // What ended too early is the archive inside of the stream.
            io::ErrorKind::UnexpectedEof if self.ended => ArchiveError::Truncated(self.inside),
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated(format),
            _ if wants_memory(&source) => ArchiveError::Memory(format),
            _ if format == Format::Plain => ArchiveError::Read(source),
            _ => ArchiveError::Damaged { format, source },
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(into)?;
        self.ended |= got == 0 && !into.is_empty();
        match self.left.checked_sub(got as u64) {
            Some(left) => self.left = left,
            None => return Err(io::ErrorKind::FileTooLarge.into()),
        }
        Ok(got)
    }
}

/// The part of a file or a stream that belongs to one entry. It fails when those end before the part
/// does.
pub(super) struct Part<R> {
    pub(super) whole: R,
    pub(super) left: u64,
}

impl<R: Read> Read for Part<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        if want == 0 {
            return Ok(0);
        }
        let got = self.whole.read(&mut into[..want])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// Whether a decoder gave up because of its memory limit.
fn wants_memory(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    // The binding of zstd keeps the text of the C library and drops its code.
    matches!(inner, Some(liblzma::stream::Error::MemLimit))
        || error.to_string().contains("requires too much memory")
}

/// A gzip file: one member after another, and padding behind them.
///
/// `flate2` has a decoder for many members, but that one fails on the NUL bytes which tape-minded
/// tools leave behind the last one, and which `gzip` ignores.
struct Gzip<R> {
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(input: R) -> Self {
        Gzip { member: Some(flate2::bufread::GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let got = member.read(into)?;
            if got > 0 || into.is_empty() {
                return Ok(got);
            }
            let Some(member) = self.member.take() else {
                break;
            };
            let mut input = member.into_inner();
            match input.fill_buf()?.first() {
                None => break,
                Some(0) => skip_padding(&mut input)?,
                Some(_) => self.member = Some(flate2::bufread::GzDecoder::new(input)),
            }
        }
        Ok(0)
    }
}

/// Reads NUL bytes up to the end, and fails on anything else.
fn skip_padding(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "data behind the padding"));
        }
        let len = bytes.len();
        input.consume(len);
    }
}

/// Whether a file's name says that it is an archive or compressed. Never what it is: only what it
/// must not turn out not to be.
pub(super) fn names_an_archive(name: &str) -> bool {
    const OTHERS: [&str; 8] = [".tar", ".zip", ".gz", ".xz", ".zst", ".bz2", ".deb", ".rpm"];
    let name = name.to_ascii_lowercase();
    OTHERS.iter().chain(&COMPRESSED_TARS).any(|ending| name.ends_with(ending))
}

/// What the name of a compressed tar archive ends with, besides `.tar.` and a compression.
const COMPRESSED_TARS: [&str; 8] =
    [".tgz", ".txz", ".tbz", ".tbz2", ".tzst", ".taz", ".tlz", ".tb2"];

/// Whether a file's name says that there is a tar archive in it once it is decompressed.
pub(super) fn names_a_tar(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains(".tar.") || COMPRESSED_TARS.iter().any(|ending| name.ends_with(ending))
}

/// Whether a file's name says that it is a web page.
pub(super) fn names_html(name: &str) -> bool {
    let ending = std::path::Path::new(name).extension();
    ending
        .is_some_and(|ending| ["html", "htm"].iter().any(|html| ending.eq_ignore_ascii_case(html)))
}

/// Whether the first bytes are those of a web page, which is what many servers answer with, and
/// status 200, when they have nothing else.
pub(super) fn is_html(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let begins =
        |with: &[u8]| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    begins(b"<!doctype html") || begins(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_numbers_tell_the_format() {
        for (head, format) in [
            (&b"\x1f\x8b"[..], Format::Gzip),
            (b"\xfd7zXZ\0", Format::Xz),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"\x50\x2a\x4d\x18", Format::Zstd),
            (b"\x5f\x2a\x4d\x18", Format::Zstd),
            (b"BZh9", Format::Bzip2),
        ] {
            assert_eq!(wrapping(head), Wrapping::Compressed(format));
            assert_eq!(wrapping(&head[..head.len() - 1]), Wrapping::None);
        }
        assert_eq!(wrapping(b"PK\x03\x04"), Wrapping::Zip);
        assert_eq!(wrapping(b"PK\x05\x06"), Wrapping::Zip);
        for head in [&b""[..], b"\x7fELF", b"#!/bin/sh", b"BZh0", b"PK\x01\x02"] {
            assert_eq!(wrapping(head), Wrapping::None);
        }
    }

    #[test]
    fn tar_headers_are_known_with_and_without_magic() {
        let mut old = ::tar::Header::new_old();
        old.set_path("a").unwrap();
        old.set_size(0);
        old.set_cksum();
        assert!(is_tar(old.as_bytes()));
        let mut block = *old.as_bytes();
        block[0] = b'b';
        assert!(!is_tar(&block));
        assert!(!is_tar(&[0; HEAD]));
        assert!(!is_tar(&[b' '; HEAD]));
        assert!(!is_tar(&old.as_bytes()[..511]));
        let gnu = ::tar::Header::new_gnu();
        assert!(is_tar(gnu.as_bytes()), "the magic alone is enough");
    }

    #[test]
    fn a_checksum_of_signed_bytes_is_a_checksum() {
        let mut block = [0u8; HEAD];
        block[..2].copy_from_slice("é".as_bytes());
        let sum = i64::from(0xc3u8.cast_signed()) + i64::from(0xa9u8.cast_signed()) + 8 * 32;
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(checksum_matches(&block));
        block[3] = 1;
        assert!(!checksum_matches(&block));
    }

    #[test]
    fn only_extensions_of_compressions_are_dropped() {
        for (name, stem) in [
            ("btop-1.2.gz", "btop-1.2"),
            ("btop.XZ", "btop"),
            ("a.tar.zst", "a.tar"),
            ("btop-1.2", "btop-1.2"),
            (".gz", ".gz"),
            ("gz", "gz"),
        ] {
            assert_eq!(uncompressed_name(name), stem);
        }
    }
}
