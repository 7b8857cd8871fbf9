//! What a program or a shared library needs before it can start (System V ABI, "Dynamic Linking").
//!
//! Reads as little as that takes, through the crate `object`: a file in an image is decompressed
//! from its start again for every step back. Bounded, because images come from anywhere.

use std::io::{self, Read};

use object::Endianness;
use object::elf::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRTAB, DynamicTag, FileHeader32, FileHeader64,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadCacheOps, ReadRef};

/// The longest path of a dynamic linker, in bytes.
const PATH: u64 = 4096;
/// The most that is read of a dynamic section, in bytes.
const DYNAMIC: u64 = 64 << 10;
/// The most libraries that one program is believed to need.
const LIBRARIES: usize = 1000;

/// What a dynamic program needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The dynamic linker; none for shared libraries and for static programs.
    pub interpreter: Option<String>,
    /// Names of shared libraries.
    pub needed: Vec<String>,
    /// Where it looks for them first.
    pub search: Vec<String>,
}

/// A file that can be read from its start any number of times.
pub struct Reopened<'f> {
    /// Opens it.
    pub open: Box<dyn Fn() -> io::Result<Box<dyn Read + 'f>> + 'f>,
    /// Its length in bytes.
    pub length: u64,
    /// How many bytes may still be read of it and of others.
    pub left: &'f std::cell::Cell<u64>,
}

/// A file, and how far it was read.
struct Reading<'f> {
    file: Reopened<'f>,
    reader: Option<Box<dyn Read + 'f>>,
    at: u64,
}

impl ReadCacheOps for Reading<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.file.length)
    }

    fn seek(&mut self, to: u64) -> Result<u64, ()> {
        let skip = match to.checked_sub(self.at) {
            Some(skip) if self.reader.is_some() => skip,
            _ => {
                self.reader = Some((self.file.open)().map_err(drop)?);
                self.at = 0;
                to
            }
        };
        let left = self.file.left.get().checked_sub(skip).ok_or(())?;
        let reader = self.reader.as_mut().ok_or(())?;
        let skipped = io::copy(&mut reader.take(skip), &mut io::sink()).map_err(drop)?;
        self.file.left.set(left);
        self.at += skipped;
        if skipped == skip { Ok(to) } else { Err(()) }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, ()> {
        let got = self.reader.as_mut().ok_or(())?.read(into).map_err(drop)?;
        self.at += got as u64;
        self.file.left.set(self.file.left.get().checked_sub(got as u64).ok_or(())?);
        Ok(got)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Result<(), ()> {
        let mut filled = 0;
        while filled < into.len() {
            match self.read(&mut into[filled..])? {
                0 => return Err(()),
                got => filled += got,
            }
        }
        Ok(())
    }
}

/// Reads what a program needs; `None` if it is no ELF file, or none that can be made sense of.
#[must_use]
pub fn read(file: Reopened<'_>) -> Option<Program> {
    let data = ReadCache::new(Reading { file, reader: None, at: 0 });
    let ident = (&data).read_bytes_at(0, 16).ok()?;
    match ident {
        [0x7f, b'E', b'L', b'F', 1, ..] => needs::<FileHeader32<Endianness>>(&data),
        [0x7f, b'E', b'L', b'F', 2, ..] => needs::<FileHeader64<Endianness>>(&data),
        _ => None,
    }
}

fn needs<H: FileHeader<Endian = Endianness>>(data: &ReadCache<Reading<'_>>) -> Option<Program> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let mut program = Program::default();
    for segment in segments {
        let size: u64 = segment.p_filesz(endian).into();
        if size <= PATH
            && let Ok(Some(path)) = segment.interpreter(endian, data)
        {
            program.interpreter = text(path);
        }
    }
    for segment in segments {
        let size: u64 = segment.p_filesz(endian).into();
        if size > DYNAMIC {
            continue;
        }
        let Ok(Some(entries)) = segment.dynamic(endian, data) else { continue };
        let value = |tag: DynamicTag| {
            let entry = entries.iter().find(|entry| entry.tag(endian) == tag)?;
            Some(entry.val(endian))
        };
        // Where the texts are: an address, which a segment says where in the file it is.
        let Some(texts) = value(DT_STRTAB).and_then(|address| {
            segments.iter().find_map(|segment| {
                let (from, size) =
                    (segment.p_vaddr(endian).into(), segment.p_filesz(endian).into());
                let into = address.checked_sub(from).filter(|into| *into < size)?;
                let offset: u64 = segment.p_offset(endian).into();
                (segment.p_type(endian) == object::elf::PT_LOAD)
                    .then(|| offset.checked_add(into))?
            })
        }) else {
            continue;
        };
        let length = data.len().ok()?;
        for entry in entries.iter().take_while(|entry| entry.tag(endian) != DT_NULL).take(LIBRARIES)
        {
            let at = || texts.checked_add(entry.val(endian)).filter(|at| *at < length);
            let read = || text(data.read_bytes_at_until(at()?..length, 0).ok()?);
            match entry.tag(endian) {
                DT_NEEDED => program.needed.extend(read()),
                DT_RUNPATH | DT_RPATH => {
                    let paths = read().unwrap_or_default();
                    program.search.extend(paths.split(':').map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    Some(program)
}
