//! How images begin that are neither squashfs nor EROFS: what a node can mount, or write to a disk.
//!
//! Owns their first bytes. Refuses to read any further.

/// How much of a file has to be read, in bytes.
pub(super) const HEAD: u64 = 128 << 10;

/// Where each of them has what, as in `systemd-dissect` and libblkid.
const KNOWN: [(usize, &[u8]); 18] = [
    // Partition tables: GPT for both sizes of sectors, DOS. FAT has the same bytes as the latter.
    (512, b"EFI PART"),
    (4096, b"EFI PART"),
    (510, b"\x55\xaa"),
    // EROFS that is newer than what is known here, ext2 to ext4, btrfs, xfs, f2fs, ISO 9660, ntfs, bcachefs, old and new.
    (1024, b"\xe2\xe1\xf5\xe0"),
    (1080, b"\x53\xef"),
    (0x1_0040, b"_BHRfS_M"),
    (0, b"XFSB"),
    (1024, b"\x10\x20\xf5\xf2"),
    (0x8001, b"CD001"),
    (3, b"NTFS    "),
    (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    (4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9"),
    // Partitions of their own: encrypted, hashes, swap of pages of either size, the signature of hashes.
    (0, b"LUKS\xba\xbe"),
    (0, b"verity\0\0"),
    (4086, b"SWAPSPACE2"),
    (65526, b"SWAPSPACE2"),
    (0, b"{\"rootHash\""),
    (0, b"{\"certificateFingerprint\""),
];

/// Whether a file that begins with these bytes is an image of another kind.
pub(super) fn is_known(head: &[u8]) -> bool {
    KNOWN.iter().any(|(at, bytes)| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes)))
}
