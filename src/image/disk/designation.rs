//! What partitions are for, as the Discoverable Partitions Specification has it.
//!
//! Owns the UUIDs of their types. Only root file systems are known, because an extension is one: it
//! has its `usr/` inside.

use super::gpt::Uuid;
use crate::name::Arch;

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A file system.
    Data,
    /// Its hash tree.
    Hashes,
    /// A signature of the root hash.
    Signature,
}

/// Such a partition is not to be written to.
pub(super) const READ_ONLY: u64 = 1 << 60;

/// The type of a partition for a machine.
pub(super) fn kind(arch: Arch, role: Role) -> Uuid {
    let [data, hashes, signature] = kinds(arch);
    match role {
        Role::Data => data,
        Role::Hashes => hashes,
        Role::Signature => signature,
    }
    .to_be_bytes()
}

/// What a partition of this type is.
pub(super) fn role(kind: Uuid) -> Option<(Arch, Role)> {
    let kind = u128::from_be_bytes(kind);
    Arch::ALL.iter().find_map(|arch| {
        let at = kinds(*arch).iter().position(|known| *known == kind)?;
        Some((*arch, [Role::Data, Role::Hashes, Role::Signature][at]))
    })
}

/// What tools call it.
pub(super) fn name(arch: Arch, role: Role) -> String {
    let ending = match role {
        Role::Data => "",
        Role::Hashes => "-verity",
        Role::Signature => "-verity-sig",
    };
    format!("root-{arch}{ending}")
}

/// The file system, its hash tree, the signature.
#[expect(clippy::unreadable_literal, reason = "as the specification writes them, without dashes")]
const fn kinds(arch: Arch) -> [u128; 3] {
    match arch {
        Arch::X86_64 => [
            0x4f68bce3e8cd4db196e7fbcaf984b709,
            0x2c7357edebd246d9aec123d437ec2bf5,
            0x41092b059fc84523994f2def0408b176,
        ],
        Arch::X86 => [
            0x44479540f29741b29af7d131d5f0458a,
            0xd13c5d3bb5d1422ab29f9454fdc89d76,
            0x5996fc05109c48de808b23fa0830b676,
        ],
        Arch::Arm64 => [
            0xb921b0451df041c3af444c6f280d3fae,
            0xdf3300ced69f4c92978c9bfb0f38d820,
            0x6db69de629f44758a7a5962190f00ce3,
        ],
        Arch::Arm => [
            0x69dad7102ce44e3cb16c21a1d49abed3,
            0x7386cdf2203c47a9a498f2ecce45a2d6,
            0x42b0455feb11491d98d356145ba9d037,
        ],
        Arch::Riscv64 => [
            0x72ec70a6cf7440e6bd494bda08e8f224,
            0xb6ed5582440b4209b8da5ff7c419ea3d,
            0xefe0f087ea8d4469821a4c2a96a8386a,
        ],
        Arch::Riscv32 => [
            0x60d5a7fe8e7d435cb7143dd8162144e1,
            0xae0253be11674007ac6843926c14c5de,
            0x3a112a7587294380b4cf764d79934448,
        ],
        Arch::Loongarch64 => [
            0x77055800792c4f94b39a98c91b762bb6,
            0xf3393b22e9af4613a9489d3bfbd0c535,
            0x5afb67ebecc84f85ae8eac1e7c50e7d0,
        ],
        Arch::Ppc64Le => [
            0xc31c45e63f39412e80fb4809c4980599,
            0x906bd94445894aaea4e4dd983917446a,
            0xd4a236e7e8734c07bf1dbf6cf7f1c3c6,
        ],
        Arch::Ppc64 => [
            0x912ade1da83949138964a10eee08fbd2,
            0x9225a9a33c194d89b4f6eeff88f17631,
            0xf5e2c20c45b24ffabce92a60737e1aaf,
        ],
        Arch::S390x => [
            0x5eead9a9fe094a1ea1d7520d00531306,
            0xb325bfbec7be4ab88357139e652d2f6b,
            0xc80187a573a3491a901a017c3fa953e9,
        ],
        Arch::Mips64Le => [
            0x700bda437a344507b179eeb93d7a7ca3,
            0x16b417f83e064f578dd29b5232f41aa6,
            0x904e58ef5c654a319c576af5fc7c5de7,
        ],
        Arch::MipsLe => [
            0x37c58c8ad9134156a25f48b1b64e07f0,
            0xd7d1502d2a044a338f1216651205ff7b,
            0xc919cc1f44564eff918cf75e94525ca5,
        ],
    }
}
