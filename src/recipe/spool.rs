//! Where unpacked bytes wait between the upstream archive and the image.
//!
//! Owns one unlinked temporary file per build and the handles ([`Content`]) that point into it.
//! It refuses to know paths, modes and archive formats: no name which an archive contains can
//! become a name on the build host, because the only file here has no name at all.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

/// Bytes moved per system call: large enough that calls do not dominate, small enough to stay in
/// the cache of one core.
const CHUNK: usize = 128 * 1024;

/// Append-only, unlinked temporary file that holds the contents of all regular files of one
/// build, back to back.
///
/// The space is given back to the file system when the spool and every [`Content`] cut from it
/// are dropped, also when the process is killed.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    /// End of the last complete file, in bytes. Everything after it is garbage of a failed append.
    end: u64,
    chunk: Box<[u8]>,
}

/// Why bytes could not be spooled.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The source of the bytes failed.
    #[error("cannot read the bytes to unpack")]
    Read(#[source] io::Error),
    /// The temporary file failed, for example because its file system is full.
    #[error("cannot write unpacked bytes to the temporary file")]
    Write(#[source] io::Error),
    /// The source had more than `limit` bytes.
    #[error("more than {limit} bytes to unpack")]
    Limit {
        /// The limit that was given to [`Spool::append`], in bytes.
        limit: u64,
    },
}

impl Spool {
    /// Opens an empty spool on the file system of `dir`.
    ///
    /// # Errors
    ///
    /// Whatever the system says when it cannot make an unlinked file in `dir`.
    pub fn new_in(dir: &Path) -> io::Result<Spool> {
        Ok(Spool {
            file: Arc::new(tempfile::tempfile_in(dir)?),
            end: 0,
            chunk: vec![0; CHUNK].into_boxed_slice(),
        })
    }

    /// Copies `reader` to the end of the spool, and returns the span which it fills.
    ///
    /// `limit` is in bytes. At most `limit` bytes reach the disk. After an error the spool is as
    /// it was before: the next append overwrites what the failed one left.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Limit`] when `reader` yields more than `limit` bytes, otherwise the failure of
    /// the reader or of the temporary file.
    pub fn append(&mut self, reader: &mut dyn Read, limit: u64) -> Result<Content, SpoolError> {
        let mut len = 0u64;
        loop {
            let got = match reader.read(&mut self.chunk) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(SpoolError::Read(error)),
            };
            let grown = len.saturating_add(got as u64);
            if grown > limit {
                return Err(SpoolError::Limit { limit });
            }
            self.file
                .write_all_at(&self.chunk[..got], self.end + len)
                .map_err(SpoolError::Write)?;
            len = grown;
        }
        let offset = self.end;
        self.end += len;
        Ok(Content::Span { file: Arc::clone(&self.file), offset, len })
    }

    /// Bytes held by the spool.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.end
    }
}

/// A content that is in the image already.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The image's number of it.
    pub number: usize,
    /// How long it is, in bytes.
    pub len: u64,
    /// How it begins: enough to tell what it is.
    pub head: Arc<[u8]>,
}

/// The bytes of one regular file. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory, for the small files which a build makes itself.
    Memory(Arc<[u8]>),
    /// A part of an open file, which must not change while the content is in use.
    Span {
        /// The file, usually that of a [`Spool`].
        file: Arc<File>,
        /// Where the content starts, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        len: u64,
    },
    /// In the image already, and not to be read again.
    Kept(Kept),
    /// Nobody wanted it: only its length is known, in bytes.
    Absent {
        /// The length.
        len: u64,
    },
}

impl Content {
    /// Keeps `bytes` in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Content {
        Content::Memory(bytes.into())
    }

    /// Takes the whole of `file`, as long as it is now, without a copy.
    ///
    /// # Errors
    ///
    /// When the system does not tell the file's length.
    pub fn from_file(file: File) -> io::Result<Content> {
        let len = file.metadata()?.len();
        Ok(Content::Span { file: Arc::new(file), offset: 0, len })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Span { len, .. } | Content::Absent { len } => *len,
            Content::Kept(kept) => kept.len,
        }
    }

    /// How it begins, up to `length` bytes; of what is in the image already, no more than was
    /// remembered.
    ///
    /// # Errors
    /// The failure of the read.
    pub fn head(&self, length: usize) -> io::Result<Vec<u8>> {
        if let Content::Kept(kept) = self {
            return Ok(kept.head[..length.min(kept.head.len())].to_vec());
        }
        let mut head = Vec::new();
        self.open().take(length as u64).read_to_end(&mut head)?;
        Ok(head)
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A reader at the first byte. Any number of readers can work at the same time, because each
    /// has its own position and reads with `pread`.
    #[must_use]
    pub fn open(&self) -> ContentReader {
        ContentReader { content: self.clone(), at: 0 }
    }

    /// All bytes at once, for files which are small by nature.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::FileTooLarge`] when there are more than `limit` bytes, otherwise the
    /// failure of the read.
    pub fn read_all(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.len() > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {limit} bytes"),
            ));
        }
        let mut bytes = Vec::new();
        self.open().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads one [`Content`] from its start to its end.
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    /// Bytes read so far.
    at: u64,
}

impl Read for ContentReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.content.len() - self.at).unwrap_or(usize::MAX);
        let want = left.min(into.len());
        if want == 0 {
            return Ok(0);
        }
        let got = match &self.content {
            Content::Memory(bytes) => {
                let start = bytes.len() - left;
                into[..want].copy_from_slice(&bytes[start..start + want]);
                want
            }
            Content::Span { file, offset, .. } => {
                file.read_at(&mut into[..want], offset + self.at)?
            }
            Content::Kept(_) | Content::Absent { .. } => {
                return Err(io::Error::other("it is not kept where it can be read"));
            }
        };
        // A span that ends early means that somebody cut the file: an image made of the rest
        // would be wrong without anybody noticing.
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> Spool {
        Spool::new_in(&std::env::temp_dir()).unwrap()
    }

    /// Yields `good` bytes, then fails.
    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("broken"));
            }
            let got = self.0.min(into.len());
            into[..got].fill(b'x');
            self.0 -= got;
            Ok(got)
        }
    }

    #[test]
    fn files_lie_back_to_back() {
        let mut spool = spool();
        let first = spool.append(&mut &b"first"[..], 5).unwrap();
        let empty = spool.append(&mut io::empty(), 0).unwrap();
        let second = spool.append(&mut &b"second"[..], 100).unwrap();
        assert!(matches!(second, Content::Span { offset: 5, len: 6, .. }));
        assert!(empty.is_empty());
        assert_eq!(first.read_all(5).unwrap(), b"first");
        assert_eq!(empty.read_all(0).unwrap(), b"");
        assert_eq!(second.read_all(6).unwrap(), b"second");
        assert_eq!(spool.written(), 11);
    }

    #[test]
    fn contents_of_many_chunks_survive() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * CHUNK + 17).collect();
        let content = spool().append(&mut &bytes[..], u64::MAX).unwrap();
        assert_eq!(content.read_all(u64::MAX).unwrap(), bytes);
    }

    #[test]
    fn the_limit_is_exact_and_bounds_the_disk() {
        let mut spool = spool();
        assert!(spool.append(&mut io::repeat(0).take(4096), 4096).is_ok());
        let limit = 3 * CHUNK as u64;
        let error = spool.append(&mut io::repeat(0), limit).unwrap_err();
        assert!(matches!(error, SpoolError::Limit { limit: l } if l == limit));
        assert!(spool.file.metadata().unwrap().len() <= 4096 + limit);
        assert_eq!(spool.written(), 4096);
    }

    #[test]
    fn a_failed_append_leaves_no_trace() {
        let mut spool = spool();
        spool.append(&mut &b"kept"[..], 4).unwrap();
        let error = spool.append(&mut Failing(CHUNK * 2), u64::MAX).unwrap_err();
        assert!(matches!(error, SpoolError::Read(_)));
        let next = spool.append(&mut &b"next"[..], 4).unwrap();
        assert!(matches!(next, Content::Span { offset: 4, len: 4, .. }));
        assert_eq!(next.read_all(4).unwrap(), b"next");
    }

    #[test]
    fn readers_do_not_disturb_each_other() {
        let mut spool = spool();
        let content = spool.append(&mut &b"abcdef"[..], 6).unwrap();
        let (mut one, mut two) = (content.open(), content.open());
        let mut three = [0; 3];
        one.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"abc");
        two.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"abc");
        one.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"def");
        assert_eq!(one.read(&mut three).unwrap(), 0);
    }

    #[test]
    fn memory_and_file_contents_read_alike() {
        let memory = Content::from_bytes(*b"same");
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"same").unwrap();
        let file = Content::from_file(file).unwrap();
        for content in [memory, file] {
            assert_eq!(content.len(), 4);
            let mut two = [0; 2];
            let mut reader = content.open();
            reader.read_exact(&mut two).unwrap();
            reader.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"me");
            assert_eq!(content.read_all(4).unwrap(), b"same");
            let error = content.read_all(3).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
    }

    #[test]
    fn a_file_cut_behind_our_back_is_an_error() {
        let mut spool = spool();
        let content = spool.append(&mut &b"abcdef"[..], 6).unwrap();
        spool.file.set_len(3).unwrap();
        let error = content.read_all(6).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn readers_can_move_to_other_threads() {
        fn assert_send<T: Send>() {}
        assert_send::<ContentReader>();
        assert_send::<Spool>();
    }
}
