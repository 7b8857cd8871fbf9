//! What a program or a shared library needs before it can start (System V ABI, "Dynamic Linking").
//!
//! Reads as little as that takes, through the crate `object`: a file in an image is decompressed
//! from its start again for every step back. Bounded, because images come from anywhere.

use std::io::{self, Read};

use object::Endianness;
use object::elf::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRTAB, DynamicTag, FileHeader32, FileHeader64,
    PT_DYNAMIC, PT_INTERP, PT_LOAD,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadCacheOps, ReadRef};

/// The longest path of a dynamic linker, in bytes.
const PATH: u64 = 4096;
/// The most that is read of a dynamic section, in bytes.
const DYNAMIC: u64 = 64 << 10;
/// The most libraries that one program is believed to need, and folders to look into for them.
const LIBRARIES: usize = 256;
const FOLDERS: usize = 16;
/// The most segments of a program that is looked into.
const SEGMENTS: usize = 1000;
/// How far the names of libraries may lie apart in a file, in bytes.
const NAMES: u64 = 32 << 20;

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
    if segments.len() > SEGMENTS {
        return None;
    }
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let first = |kind| segments.iter().find(|segment| segment.p_type(endian) == kind);
    let size = |segment: &H::ProgramHeader| -> u64 { segment.p_filesz(endian).into() };
    let mut program = Program::default();
    if let Some(segment) = first(PT_INTERP).filter(|segment| size(segment) <= PATH) {
        let path = segment.interpreter(endian, data).ok().flatten();
        program.interpreter = path.and_then(text);
    }
    let dynamic = first(PT_DYNAMIC).filter(|segment| size(segment) <= DYNAMIC);
    let entries = dynamic.and_then(|segment| segment.dynamic(endian, data).ok().flatten());
    let entries: Vec<(DynamicTag, u64)> = entries
        .into_iter()
        .flatten()
        .map(|entry| (entry.tag(endian), entry.val(endian)))
        .take_while(|(tag, _)| *tag != DT_NULL)
        .collect();
    // Where the names are: an address, which a segment says where in the file it is.
    let texts = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).and_then(|(_, address)| {
        segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find_map(|segment| {
            let into = address.checked_sub(segment.p_vaddr(endian).into())?;
            let offset: u64 = segment.p_offset(endian).into();
            (into < size(segment)).then(|| offset.checked_add(into))?
        })
    });
    let is_name = |(tag, _): &&(DynamicTag, u64)| [DT_NEEDED, DT_RUNPATH, DT_RPATH].contains(tag);
    let names = || entries.iter().filter(is_name);
    let (Some(texts), Some(low), Some(high)) =
        (texts, names().map(|(_, at)| *at).min(), names().map(|(_, at)| *at).max())
    else {
        return Some(program);
    };
    // All at once: for each alone, the file might have to be unpacked from its start again.
    let begin = texts.checked_add(low)?;
    let length = (high - low).checked_add(PATH).filter(|length| *length <= NAMES)?;
    let length = length.min(data.len().ok()?.checked_sub(begin)?);
    let block = data.read_bytes_at(begin, length).ok()?;
    for (tag, at) in names() {
        let bytes = usize::try_from(at - low).ok().and_then(|at| block.get(at..))?;
        let Some(name) = bytes.split(|byte| *byte == 0).next().and_then(text) else { continue };
        if *tag == DT_NEEDED {
            program.needed.push(name);
        } else {
            program.search.extend(name.split(':').map(str::to_owned));
        }
    }
    program.needed.truncate(LIBRARIES);
    program.search.truncate(FOLDERS);
    Some(program)
}
