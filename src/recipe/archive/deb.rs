//! Reads a Debian package: the files it installs, and nothing of its scripts.
//!
//! Owns the framing of `ar` as far as deb(5) uses it: one member after another, of which the one
//! called `data.tar` counts. It refuses to know what is in that archive, which is the business of
//! [`tar`](super::tar).

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

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
    file: impl Read + 'static,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let mut file = Shared(Rc::new(RefCell::new((file, 0))));
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
            let end = file.at() + size + size % 2;
            let part = Part { whole: file.clone(), left: size };
            let (mut stream, _) = Stream::of_payload(part, entries.limits())?;
            tar::read(&mut stream, tar::End::Any, entries, intake)?;
            drop(stream);
            return alone(&mut file, end);
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

/// Makes sure that no other member claims to be what is installed: which of two counts is for each
/// reader to choose, so that what one looked at another would not install. `end` is where the first one
/// ends. What cannot be read after it is no member for dpkg either.
fn alone<R: Read>(file: &mut Shared<R>, end: u64) -> Result<(), ArchiveError> {
    let skip = |file: &mut Shared<R>, to: u64| {
        let left = to.saturating_sub(file.at());
        io::copy(&mut file.take(left), &mut io::sink()).map(drop)
    };
    skip(file, end).map_err(failed)?;
    for _ in 0..MEMBERS {
        let mut header = [0; HEADER];
        match file.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read.map_err(failed)?,
        }
        let Some((name, size)) = member(&header) else { break };
        if name.starts_with(b"data.tar") {
            return Err(ArchiveError::damaged(Format::Deb, "it has more than one data.tar"));
        }
        let end = file.at().saturating_add(size).saturating_add(size % 2);
        skip(file, end).map_err(failed)?;
    }
    Ok(())
}

/// A file that is read on when what read a part of it is done, and how far it was read.
struct Shared<R>(Rc<RefCell<(R, u64)>>);

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R> Shared<R> {
    fn at(&self) -> u64 {
        self.0.borrow().1
    }
}

impl<R: Read> Read for Shared<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (file, at) = &mut *self.0.borrow_mut();
        let got = file.read(into)?;
        *at += got as u64;
        Ok(got)
    }
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
