//! The GUID partition table: what it says of partitions, there and back.
//!
//! Owns the bytes of both copies of the table and of the protective MBR before them. Refuses to know
//! what partitions are for. What is read comes from anywhere: one table of at most 16 KiB is looked
//! at, its checksums must be right, and no partition leaves the file or lies in another.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use thiserror::Error;

/// The bytes of a sector; what systemd and the kernel take for a file's.
pub(super) const SECTOR: u64 = 512;
/// How many partitions there is room for: what every tool makes.
const ROWS: usize = 128;
/// The bytes of a row of the table.
const ROW: usize = 128;
/// The bytes of the table.
const TABLE: u64 = (ROWS * ROW) as u64;
/// The bytes of the header that count.
const HEADER: usize = 92;
/// Before the first partition: the protective MBR, the header and the table.
pub(super) const BEFORE: u64 = 2 * SECTOR + TABLE;
/// Behind the last one: the table again, and its header.
pub(super) const BEHIND: u64 = TABLE + SECTOR;
/// Where the header is.
const AT: u64 = SECTOR;
/// How a header begins, with its version.
const MAGIC: &[u8; 12] = b"EFI PART\0\0\x01\0";
/// The longest name, in UTF-16.
const NAME: usize = 36;

/// A UUID, its bytes in the order in which it is written down.
pub(super) type Uuid = [u8; 16];

/// A table that is none.
#[derive(Debug, Error)]
pub(super) enum GptError {
    /// The file cannot be read.
    #[error("cannot read the partition table")]
    Disk(#[from] io::Error),
    /// It makes no sense.
    #[error("{0}")]
    Broken(&'static str),
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    /// What it is.
    pub(super) kind: Uuid,
    /// Which one it is.
    pub(super) id: Uuid,
    /// Where it is in the file, in bytes: whole sectors.
    pub(super) at: Range<u64>,
    /// The bits that say how it is to be mounted.
    pub(super) flags: u64,
    /// Its name.
    pub(super) name: String,
}

/// All of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Which disk it is.
    pub(super) id: Uuid,
    /// The partitions, in the order of the rows.
    pub(super) partitions: Vec<Partition>,
}

impl Table {
    /// The bytes before the first partition of a disk of so many bytes, and those behind the last one.
    pub(super) fn render(&self, size: u64) -> (Vec<u8>, Vec<u8>) {
        let last = size / SECTOR - 1;
        let mut rows = Vec::with_capacity(ROWS * ROW);
        for Partition { kind, id, at, flags, name } in &self.partitions {
            rows.extend(swapped(kind));
            rows.extend(swapped(id));
            rows.extend((at.start / SECTOR).to_le_bytes());
            rows.extend((at.end / SECTOR - 1).to_le_bytes());
            rows.extend(flags.to_le_bytes());
            let mut units: Vec<u16> = name.encode_utf16().take(NAME).collect();
            units.resize(NAME, 0);
            rows.extend(units.into_iter().flat_map(u16::to_le_bytes));
        }
        rows.resize(ROWS * ROW, 0);
        let header = |own: u64, other: u64, table: u64| {
            let mut header = Vec::with_capacity(HEADER);
            header.extend(MAGIC);
            header.extend(92u32.to_le_bytes());
            header.extend([0; 8]);
            for field in [own, other, BEFORE / SECTOR, last - BEHIND / SECTOR] {
                header.extend(field.to_le_bytes());
            }
            header.extend(swapped(&self.id));
            header.extend(table.to_le_bytes());
            header.extend(128u32.to_le_bytes());
            header.extend(128u32.to_le_bytes());
            header.extend(crc32fast::hash(&rows).to_le_bytes());
            let sum = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            header.resize(512, 0);
            header
        };
        let mut before = protective(last);
        before.extend(header(1, last, 2));
        before.extend(&rows);
        let own = header(last, 1, last - TABLE / SECTOR);
        rows.extend(own);
        (before, rows)
    }

    /// Reads the table at the beginning of a file of so many bytes. `None` if there is none.
    ///
    /// # Errors
    /// There is one, but it is broken.
    pub(super) fn read(file: &File, size: u64) -> Result<Option<Self>, GptError> {
        let mut header = [0; HEADER];
        match file.read_exact_at(&mut header, AT) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if !header.starts_with(&MAGIC[..8]) {
            return Ok(None);
        }
        if !header.starts_with(MAGIC) {
            return Err(GptError::Broken("its partition table is of an unknown version"));
        }
        let word = |at: usize| {
            u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes are taken"))
        };
        let long = |at: usize| {
            u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes are taken"))
        };
        let mut summed = header;
        summed[16..20].fill(0);
        if word(12) != 92 || word(16) != crc32fast::hash(&summed) {
            return Err(GptError::Broken("the checksum of its partition table's header is wrong"));
        }
        // The number of rows and the size of each are free, but nobody makes use of it.
        if (long(24), long(72), word(80), word(84)) != (1, 2, 128, 128) {
            return Err(GptError::Broken("its partition table is unlike any that tools make"));
        }
        let mut rows = [0; ROWS * ROW];
        match file.read_exact_at(&mut rows, 2 * SECTOR) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(GptError::Broken("it is cut short"));
            }
            other => other?,
        }
        if word(88) != crc32fast::hash(&rows) {
            return Err(GptError::Broken("the checksum of its partition table is wrong"));
        }
        let mut partitions = Vec::new();
        for row in rows.chunks_exact(ROW).filter(|row| row[..16] != [0; 16]) {
            partitions.push(partition(row, size)?);
        }
        let mut places: Vec<_> = partitions.iter().map(|partition| partition.at.clone()).collect();
        places.sort_by_key(|place| place.start);
        if places.windows(2).any(|two| two[0].end > two[1].start) {
            return Err(GptError::Broken("two of its partitions lie in each other"));
        }
        Ok(Some(Self { id: swapped(&header[56..72]), partitions }))
    }
}

fn partition(row: &[u8], size: u64) -> Result<Partition, GptError> {
    let long =
        |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().expect("eight bytes are taken"));
    let bytes = |sector: u64| sector.checked_mul(SECTOR).filter(|at| *at <= size);
    let start = bytes(long(32)).filter(|start| *start >= BEFORE);
    let end = long(40).checked_add(1).and_then(bytes);
    let (Some(start), Some(end)) = (start, end) else {
        return Err(GptError::Broken("a partition is not where the file has anything"));
    };
    if start >= end {
        return Err(GptError::Broken("a partition ends before it begins"));
    }
    let units: Vec<u16> = row[56..]
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    Ok(Partition {
        kind: swapped(&row[..16]),
        id: swapped(&row[16..32]),
        at: start..end,
        flags: long(48),
        name: String::from_utf16_lossy(&units),
    })
}

/// For tools that know nothing of this table: a disk that is taken, all of it.
fn protective(last: u64) -> Vec<u8> {
    let mut sector = vec![0; 512];
    // From sector 1, in two notations; of type 0xEE.
    sector[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    sector[454..458].copy_from_slice(&1u32.to_le_bytes());
    let length = u32::try_from(last).unwrap_or(u32::MAX);
    sector[458..462].copy_from_slice(&length.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// The first three fields of a UUID are numbers, and numbers are little-endian here. Twice is the UUID.
fn swapped(uuid: &[u8]) -> Uuid {
    let mut out: Uuid = uuid.try_into().expect("sixteen bytes are given");
    out[..4].reverse();
    out[4..6].reverse();
    out[6..8].reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(places: &[(u64, u64)], size: u64) -> (Table, File) {
        let partition = |(start, end): &(u64, u64)| Partition {
            kind: [7; 16],
            id: std::array::from_fn(|at| u8::try_from(at).unwrap()),
            at: *start..*end,
            flags: 1 << 60,
            name: "root-x86-64-verity-sig".to_owned(),
        };
        let partitions = places.iter().map(partition).collect();
        let table = Table { id: [9; 16], partitions };
        let file = tempfile::tempfile().unwrap();
        let (before, behind) = table.render(size);
        assert_eq!((before.len() as u64, behind.len() as u64), (BEFORE, BEHIND));
        file.set_len(size).unwrap();
        file.write_all_at(&before, 0).unwrap();
        file.write_all_at(&behind, size - BEHIND).unwrap();
        (table, file)
    }

    #[test]
    fn what_is_written_is_read() {
        let size = 1 << 20;
        let (table, file) = disk(&[(20480, 40960), (40960, 45056), (50176, 50688)], size);
        assert_eq!(Table::read(&file, size).unwrap(), Some(table));
        assert_eq!(Table::read(&tempfile::tempfile().unwrap(), 0).unwrap(), None);
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused() {
        let size = 1 << 20;
        for (places, why) in [
            (&[(0, 20480)][..], "is not where the file has anything"),
            (&[(20480, size + 512)], "is not where the file has anything"),
            (&[(20480, 20480)], "ends before it begins"),
            (&[(20480, 40960), (40448, 50176)], "lie in each other"),
        ] {
            let (_, file) = disk(places, size);
            let error = Table::read(&file, size).unwrap_err().to_string();
            assert!(error.contains(why), "{places:?}: {error}");
        }
        // Every byte of a header and of a row counts.
        let (_, file) = disk(&[(20480, 40960)], size);
        for at in (512 + 8..512 + 92).chain(1024..1152) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            assert!(Table::read(&file, size).is_err(), "byte {at}");
            file.write_all_at(&byte, at).unwrap();
        }
    }
}
