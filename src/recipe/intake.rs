//! Where the contents of a build go: into the image at once, to the side for a second look, or
//! nowhere.
//!
//! Owns that choice, so that what is unpacked seldom lies on a disk. Refuses to know paths, archive
//! formats and how an image keeps a content.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::elf;
use super::spool::{Content, Kept, Spool, SpoolError};

/// What a content is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Nothing. It is read over, and may cost no more than the others.
    Nothing,
    /// The image.
    Image,
    /// The recipe must see it again, because texts in it are replaced.
    Recipe,
}

/// An image takes a content in, whole, and gives back its number.
pub type Keep<'k> = dyn FnMut(&mut dyn Read) -> Result<usize, SpoolError> + 'k;

/// How much of the start of a content is kept for whoever looks what it is, in bytes.
pub(super) const HEAD: usize = elf::HEADER;

/// Takes contents in.
pub struct Intake<'k> {
    keep: Option<&'k mut Keep<'k>>,
    folder: PathBuf,
    aside: Option<Spool>,
}

impl<'k> Intake<'k> {
    /// Contents go into an image; what the recipe must see again goes to a file without a name in
    /// `folder`.
    pub fn into_image(folder: &Path, keep: &'k mut Keep<'k>) -> Self {
        Self { keep: Some(keep), folder: folder.to_owned(), aside: None }
    }

    /// All contents go to a file without a name in `folder`.
    #[must_use]
    pub fn on_disk(folder: &Path) -> Intake<'static> {
        Intake { keep: None, folder: folder.to_owned(), aside: None }
    }

    /// One like this, but on the disk.
    #[must_use]
    pub(super) fn beside(&self) -> Intake<'static> {
        Intake::on_disk(&self.folder)
    }

    /// Takes a content of at most `limit` bytes in.
    ///
    /// # Errors
    /// [`SpoolError::Limit`] when there are more, otherwise the failure of the reader, or of the
    /// place where it goes.
    pub fn take(
        &mut self,
        reader: &mut dyn Read,
        limit: u64,
        want: Want,
    ) -> Result<Content, SpoolError> {
        match (want, &mut self.keep) {
            (Want::Nothing, _) => {
                let mut seen = Seen::new(reader, limit);
                match io::copy(&mut seen, &mut io::sink()) {
                    Ok(len) => Ok(Content::Absent { len }),
                    Err(error) => Err(seen.explain(SpoolError::Read(error))),
                }
            }
            (Want::Image, Some(keep)) => {
                let mut seen = Seen::new(reader, limit);
                match keep(&mut seen) {
                    Ok(number) => {
                        Ok(Content::Kept(Kept { number, len: seen.len, head: seen.head.into() }))
                    }
                    Err(error) => Err(seen.explain(error)),
                }
            }
            (Want::Recipe | Want::Image, _) => {
                let spool = match &mut self.aside {
                    Some(spool) => spool,
                    aside => {
                        let new = Spool::new_in(&self.folder).map_err(SpoolError::Write)?;
                        aside.insert(new)
                    }
                };
                spool.append(reader, limit)
            }
        }
    }
}

/// A reader with a limit that remembers how it began.
struct Seen<'r> {
    reader: &'r mut dyn Read,
    limit: u64,
    len: u64,
    head: Vec<u8>,
}

impl<'r> Seen<'r> {
    fn new(reader: &'r mut dyn Read, limit: u64) -> Self {
        Self { reader, limit, len: 0, head: Vec::new() }
    }

    /// The limit is the cause of whatever failed after it.
    fn explain(&self, error: SpoolError) -> SpoolError {
        if self.len > self.limit { SpoolError::Limit { limit: self.limit } } else { error }
    }
}

impl Read for Seen<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(into)?;
        self.len += got as u64;
        if self.len > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut rest = &into[..got];
        for most in [HEAD, elf::HEAD] {
            // There are many files in an image, and few programs.
            if most > HEAD && !elf::is_program(&self.head) {
                break;
            }
            let (head, more) = rest.split_at(most.saturating_sub(self.head.len()).min(rest.len()));
            self.head.extend_from_slice(head);
            rest = more;
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(reader: &mut dyn Read) -> Result<usize, SpoolError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(SpoolError::Read)?;
        Ok(bytes.len())
    }

    #[test]
    fn each_content_goes_where_it_is_wanted() {
        let folder = std::env::temp_dir();
        let mut keep = keep;
        let mut intake = Intake::into_image(&folder, &mut keep);
        let mut take = |want| intake.take(&mut &b"content"[..], 7, want).unwrap();
        assert!(matches!(take(Want::Nothing), Content::Absent { len: 7 }));
        let Content::Kept(kept) = take(Want::Image) else { panic!("it is in the image") };
        assert_eq!((kept.number, kept.len, &kept.head[..]), (7, 7, &b"content"[..]));
        assert_eq!(take(Want::Recipe).read_all(7).unwrap(), b"content");
        let content = Intake::on_disk(&folder).take(&mut &b"content"[..], 7, Want::Image);
        assert_eq!(content.unwrap().read_all(7).unwrap(), b"content");
    }

    #[test]
    fn the_limit_holds_wherever_it_goes() {
        let folder = std::env::temp_dir();
        let mut keep = keep;
        let mut intake = Intake::into_image(&folder, &mut keep);
        for want in [Want::Nothing, Want::Image, Want::Recipe] {
            let error = intake.take(&mut io::repeat(0), 100_000, want).unwrap_err();
            assert!(matches!(error, SpoolError::Limit { limit: 100_000 }), "{want:?}: {error}");
        }
    }
}
