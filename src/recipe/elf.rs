//! The little of ELF that tells whether a program can run at all: its machine, and whether it is
//! whole (System V ABI, "ELF Header").

use crate::name::Arch;

/// Length of the header of a 64-bit file, in bytes; a 32-bit one is shorter.
pub(crate) const HEADER: usize = 64;

/// How much of a program is kept to look at: its header, and the table that most have right behind it.
pub(crate) const HEAD: usize = 1024;

/// Whether a file begins as a program does.
pub(crate) fn is_program(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

/// What a program's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elf {
    machine: u16,
    /// Where the last table ends: a shorter file was cut.
    pub(crate) end: u64,
}

/// Reads the header at the start of a file; `None` if it is no ELF file.
pub(crate) fn read(head: &[u8]) -> Option<Elf> {
    let ident = head.get(..16)?;
    if !is_program(ident) {
        return None;
    }
    let big = ident[5] == 2;
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = head.get(at..at + len)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
    };
    // Offset, entry size and number of program headers, then the same of section headers.
    let tables = match ident[4] {
        1 => [(28, 4, 42, 44), (32, 4, 46, 48)],
        2 => [(32, 8, 54, 56), (40, 8, 58, 60)],
        _ => return None,
    };
    let mut ends = [0; 2];
    for ((offset, width, size, count), end) in tables.into_iter().zip(&mut ends) {
        let table = number(offset, width)?;
        let length = number(size, 2)? * number(count, 2)?;
        *end = if length == 0 { 0 } else { table.saturating_add(length) };
    }
    let mut end = ends[0].max(ends[1]);
    // Without sections, which stand at a file's end, only the segments tell how long it is. With them
    // they do not: what was split off for debuggers still names what it has no more.
    if ends[1] == 0 {
        let [(offset, width, size, count), _] = tables;
        let (at, in_file) = if width == 4 { (4, 16) } else { (8, 32) };
        for segment in 0..number(count, 2)? {
            let start = number(offset, width)?.saturating_add(number(size, 2)? * segment);
            let field = |field: u64| {
                let at = usize::try_from(start.checked_add(field)?).ok()?;
                at.checked_add(width).filter(|end| *end <= head.len())?;
                number(at, width)
            };
            // The table is not where it usually is: nothing is known.
            let (Some(start), Some(length)) = (field(at), field(in_file)) else { break };
            end = end.max(start.saturating_add(length));
        }
    }
    let machine = u16::try_from(number(18, 2)?).ok()?;
    Some(Elf { machine, end })
}

impl Elf {
    /// Whether a kernel of this architecture runs it: its own machine, or the 32-bit one before it.
    pub(crate) fn runs_on(&self, arch: Arch) -> bool {
        let machines: &[u16] = match arch {
            Arch::X86_64 => &[62, 3],
            Arch::X86 => &[3],
            Arch::Arm64 => &[183, 40],
            Arch::Arm => &[40],
            Arch::Riscv64 | Arch::Riscv32 => &[243],
            Arch::Loongarch64 => &[258],
            Arch::Ppc64Le | Arch::Ppc64 => &[21],
            Arch::S390x => &[22],
            Arch::Mips64Le | Arch::MipsLe => &[8],
        };
        machines.contains(&self.machine)
    }

    /// The machine's name, for people.
    pub(crate) fn machine(&self) -> String {
        match self.machine {
            3 => "x86".to_owned(),
            8 => "mips".to_owned(),
            21 => "ppc64".to_owned(),
            22 => "s390x".to_owned(),
            40 => "arm".to_owned(),
            62 => "x86-64".to_owned(),
            183 => "arm64".to_owned(),
            243 => "riscv".to_owned(),
            258 => "loongarch64".to_owned(),
            other => format!("ELF machine {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_is_whole_and_runs_here() {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let elf = read(&bytes[..HEADER]).unwrap();
        assert!(elf.runs_on(Arch::native().unwrap()));
        assert!(!elf.runs_on(Arch::S390x) && elf.machine() == Arch::native().unwrap().as_str());
        assert!(elf.end <= bytes.len() as u64 && elf.end > bytes.len() as u64 / 2);
    }

    #[test]
    fn without_sections_the_segments_tell_the_end() {
        let path = std::env::current_exe().unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        let with = read(&bytes[..HEAD]).unwrap().end;
        // Where the sections are, and how many.
        bytes[40..48].fill(0);
        bytes[60..62].fill(0);
        let without = read(&bytes[..HEAD]).unwrap().end;
        assert!(without < with && without > HEAD as u64 * 100, "{without} of {with}");
        // Of a table that is elsewhere nothing is known.
        assert!(read(&bytes[..HEADER]).unwrap().end <= HEAD as u64 * 10);
        bytes[32..40].fill(0xff);
        assert!(read(&bytes[..HEAD]).is_some());
    }

    #[test]
    fn what_is_too_short_is_none() {
        assert_eq!(read(b"#!/bin/sh"), None);
        assert_eq!(read(b"\x7fELF"), None);
        assert_eq!(read(&[b"\x7fELF\x02\x01".as_slice(), &[0; 20]].concat()), None);
    }
}
