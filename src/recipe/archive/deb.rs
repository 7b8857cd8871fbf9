//! Reads a Debian package: the files it installs, and nothing of its scripts.
//!
//! Owns the framing of `ar` as far as deb(5) uses it: one member after another, of which the one
//! called `data.tar` counts. It refuses to know what is in that archive, which is the business of
//! [`tar`](super::tar).

use std::io::{self, Read};

use super::entries::Entries;
use super::sniff::{Part, Stream};
use super::{ArchiveError, Format, tar};
use crate::recipe::intake::Intake;

/// What an `ar` archive begins with.
const MAGIC: &[u8] = b"!<arch>\n";
/// Length of the header of a member, in bytes.
const HEADER: usize = 60;
/// Members before the one that counts: dpkg writes two, and signing tools add a few.
const MEMBERS: usize = 16;

/// Reads the files of a package.
pub(super) fn read(
    mut file: impl Read + 'static,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let mut magic = [0; MAGIC.len()];
    fill(&mut file, &mut magic)?;
    for number in 0..MEMBERS {
        let mut header = [0; HEADER];
        fill(&mut file, &mut header)?;
        let (name, size) = member(&header)
            .ok_or_else(|| ArchiveError::damaged(Format::Deb, "a member has no proper header"))?;
        if let Some(packing) = name.strip_prefix(b"data.tar") {
            if !matches!(packing, b"" | b".gz" | b".xz" | b".zst" | b".bz2") {
                return Err(ArchiveError::Packing(Format::Deb));
            }
            let (mut stream, _) =
                Stream::of_payload(Part { whole: file, left: size }, entries.limits())?;
            return tar::read(&mut stream, tar::End::Any, entries, intake);
        }
        let mut content = Part { whole: &mut file, left: size };
        if number == 0 {
            let mut version = [0; 2];
            fill(&mut content, &mut version)?;
            if version != *b"2." {
                return Err(ArchiveError::damaged(Format::Deb, "it is of an unknown version"));
            }
        }
        io::copy(&mut content, &mut io::sink()).map_err(failed)?;
        // Members begin at even positions.
        fill(&mut file, &mut [0; 1][..usize::from(size % 2 == 1)])?;
    }
    Err(ArchiveError::damaged(Format::Deb, "there is no data.tar among its first members"))
}

/// Name and length of a member.
fn member(header: &[u8; HEADER]) -> Option<(&[u8], u64)> {
    let name = header[..16].trim_ascii_end();
    let size = header[48..58].trim_ascii_end();
    let digits = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
    if header[58..] != *b"`\n" || !digits {
        return None;
    }
    // GNU ends names with a slash.
    let name = name.strip_suffix(b"/").unwrap_or(name);
    Some((name, std::str::from_utf8(size).ok()?.parse().ok()?))
}

fn fill(file: &mut impl Read, bytes: &mut [u8]) -> Result<(), ArchiveError> {
    file.read_exact(bytes).map_err(failed)
}

fn failed(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated(Format::Deb),
        _ => ArchiveError::Read(error),
    }
}
