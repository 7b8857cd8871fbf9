//! Archives: those that upstreams ship, and those that nobody should.

use std::io::Write;

use tar::{EntryType, Header};

/// A tar archive in the making. Paths are written as they are, also hostile ones.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// A regular file.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path, mode, "", content.as_ref())
    }

    pub fn folder(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, 0o755, "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, target, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, 0o644, target, b"")
    }

    /// Any kind of entry.
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        target: &str,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        // Not root, and not now: neither may show in an image.
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        // The crate's own setters refuse what a hostile archive has.
        let bytes = header.as_mut_bytes();
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    /// A Debian package that installs it: deb(5) 2.0, an ar(5) archive of three members.
    pub fn deb(self) -> Vec<u8> {
        let control = Self::new().file("./control", 0o644, "Package: x\n").gz();
        let members = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.gz", control),
            ("data.tar.gz", self.gz()),
        ];
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in members {
            let header = format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                "100644",
                content.len()
            );
            bytes.extend(header.bytes());
            let odd = content.len() % 2 == 1;
            bytes.extend(content);
            bytes.extend(odd.then_some(b'\n'));
        }
        bytes
    }

    pub fn plain(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    pub fn gz(self) -> Vec<u8> {
        gz(&self.plain())
    }

    pub fn xz(self) -> Vec<u8> {
        let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
        out.write_all(&self.plain()).unwrap();
        out.finish().unwrap()
    }

    pub fn zst(self) -> Vec<u8> {
        zstd::encode_all(self.plain().as_slice(), 1).unwrap()
    }

    pub fn bz2(self) -> Vec<u8> {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        out.write_all(&self.plain()).unwrap();
        out.finish().unwrap()
    }
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A zip archive of files with their modes.
pub fn zip<C: AsRef<[u8]>>(files: &[(&str, u32, C)]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, mode, content) in files {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        out.start_file(*path, options).unwrap();
        out.write_all(content.as_ref()).unwrap();
    }
    out.finish().unwrap().into_inner()
}

/// Bytes that hardly compress, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        // xorshift64*: Marsaglia 2003, Vigna 2016.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(length);
    out
}
