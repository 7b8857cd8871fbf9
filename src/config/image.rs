//! `[image]`: the file system of an image, how small it is made, and what the file is called.
//!
//! Owns which combinations there are. Knows nothing of how a block is compressed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Size;
use super::verity::{self, Verity};
use crate::template::Template;

/// `[image]`: the file system of an image, how small it is made, and what the file is called.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Raw")]
#[schemars(into = "Raw")]
pub struct ImageRule {
    /// What the file is.
    pub format: Format,
    /// Whether the image protects itself.
    #[serde(skip_serializing)]
    pub verity: Option<Verity>,
    /// What the file is called.
    #[serde(serialize_with = "super::component::as_text")]
    pub name: Template,
    /// Whether somebody said what it is called.
    #[serde(skip_serializing)]
    pub is_named: bool,
    /// Whether somebody said something of what the file is.
    #[serde(skip_serializing)]
    pub is_shaped: bool,
}

/// What an image's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// squashfs 4.0
    Squashfs {
        /// How its blocks are compressed.
        compression: Compression,
        /// How much of a file is compressed at once, in bytes.
        block_size: u32,
    },
    /// EROFS
    Erofs {
        /// How its pieces are compressed: anything but xz.
        compression: Compression,
        /// How much of a file is a piece, in bytes.
        block_size: u32,
    },
    /// The one file of the component, as it is: a portable service or a unified kernel image that
    /// somebody else built.
    None,
    /// A file of somebody's repository, as it is: byte for byte what their manifest says.
    Mirrored,
}

/// How the blocks of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Zstandard, level 1 to 22.
    Zstd(u32),
    /// xz, preset 0 to 9.
    Xz {
        /// The preset.
        level: u32,
        /// Whether machine code goes through the filter of its architecture first.
        bcj: bool,
    },
    /// gzip (zlib), level 1 to 12.
    Gzip(u32),
    /// LZ4, level 1 (fast) or 12 (hc).
    Lz4(u32),
}

/// What most people want to say about size and speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Preset {
    /// zstd at level 9, in blocks of 256 KiB; with EROFS lz4 at level 12.
    Balanced,
    /// zstd at level 19, in blocks of 512 KiB.
    Small,
    /// lz4 at level 1, in blocks of 128 KiB.
    Fast,
}

impl Preset {
    /// Algorithm, level and block size; `docs/images.md` has the measurements behind them.
    fn meaning(self, system: FileSystem) -> (Algorithm, u32, u32) {
        match self {
            // Kernels before 6.10 read no zstd there, and nodes have them.
            Self::Balanced if system == FileSystem::Erofs => (Algorithm::Lz4, 12, 256 << 10),
            Self::Balanced => (Algorithm::Zstd, 9, 256 << 10),
            Self::Small => (Algorithm::Zstd, 19, 512 << 10),
            Self::Fast => (Algorithm::Lz4, 1, 128 << 10),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Algorithm {
    Zstd,
    Xz,
    Gzip,
    Lz4,
}

impl Algorithm {
    /// The level where only the algorithm is given.
    fn level(self) -> u32 {
        match self {
            Self::Zstd | Self::Gzip => 9,
            Self::Xz => 6,
            Self::Lz4 => 12,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum FileSystem {
    Squashfs,
    Erofs,
    None,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    /// What the file is: squashfs, erofs, or, with `none`, the one file of the component as it is.
    #[schemars(extend("default" = "squashfs"))]
    format: Option<FileSystem>,
    /// What the rest starts from.
    #[schemars(extend("default" = "balanced"))]
    preset: Option<Preset>,
    /// How blocks are compressed; the preset's, if left out.
    compression: Option<Algorithm>,
    /// zstd: 1 to 22; xz: 0 to 9; gzip: 1 to 12; lz4: 1 or 12.
    level: Option<u32>,
    /// How much of a file is compressed at once: a power of two from 4KiB to 1MiB.
    #[schemars(extend("examples" = ["256KiB"]))]
    block_size: Option<Size>,
    /// Whether machine code goes through the filter of its architecture first; with xz.
    bcj: Option<bool>,
    /// Whether it is a disk image with a dm-verity tree, and who signs that.
    #[serde(default, deserialize_with = "verity::verity")]
    #[schemars(with = "super::schema::Either<bool, verity::Table>", extend("default" = false))]
    verity: Option<Verity>,
    /// What the file is called.
    #[schemars(extend("default" = "{name}-{version}-{arch}.raw"))]
    name: Option<Template>,
}

impl Default for ImageRule {
    fn default() -> Self {
        let (_, level, block_size) = Preset::Balanced.meaning(FileSystem::Squashfs);
        let compression = Compression::Zstd(level);
        let format = Format::Squashfs { compression, block_size };
        let name = default_name();
        Self { format, verity: None, name, is_named: false, is_shaped: false }
    }
}

fn default_name() -> Template {
    Template::parse("{name}-{version}-{arch}.raw").expect("a literal template")
}

impl TryFrom<Raw> for ImageRule {
    type Error = String;
    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { format, preset, compression, level, block_size, bcj, verity, name } = raw;
        let is_shaped = format.is_some()
            || preset.is_some()
            || compression.is_some()
            || level.is_some()
            || block_size.is_some()
            || bcj.is_some()
            || verity.is_some();
        let is_named = name.is_some();
        let name = name.unwrap_or_else(default_name);
        let system = format.unwrap_or(FileSystem::Squashfs);
        if system == FileSystem::None {
            if preset.is_some()
                || compression.is_some()
                || level.is_some()
                || block_size.is_some()
                || bcj.is_some()
            {
                return Err("`format = \"none\"` publishes the file as it is\nhint: leave out what says how to compress it".to_owned());
            }
            if verity.is_some() {
                return Err("`format = \"none\"` publishes the file as it is\nhint: leave `verity` out: whoever made the file protects it".to_owned());
            }
            return Ok(Self { format: Format::None, verity, name, is_named, is_shaped });
        }
        let (preset_algorithm, preset_level, preset_block) =
            preset.unwrap_or(Preset::Balanced).meaning(system);
        let algorithm = compression.unwrap_or(preset_algorithm);
        // A preset's level is one of its own algorithm.
        let otherwise =
            if algorithm == preset_algorithm { preset_level } else { algorithm.level() };
        let level = level.unwrap_or(otherwise);
        let levels = match algorithm {
            Algorithm::Zstd => 1..=22,
            Algorithm::Xz => 0..=9,
            Algorithm::Gzip | Algorithm::Lz4 => 1..=12,
        };
        if !levels.contains(&level) || algorithm == Algorithm::Lz4 && ![1, 12].contains(&level) {
            let (first, last) = levels.into_inner();
            let word = if algorithm == Algorithm::Lz4 { "or" } else { "to" };
            return Err(format!("{algorithm} has no level {level}\nhint: {first} {word} {last}"));
        }
        if system == FileSystem::Erofs && algorithm == Algorithm::Xz {
            return Err("EROFS has no xz\nhint: `compression = \"zstd\"` is nearly as small; or leave `format` out, for squashfs has it".to_owned());
        }
        if bcj.is_some() && algorithm != Algorithm::Xz {
            return Err("`bcj` goes with `compression = \"xz\"`".to_owned());
        }
        let compression = match algorithm {
            Algorithm::Zstd => Compression::Zstd(level),
            Algorithm::Xz => Compression::Xz { level, bcj: bcj.unwrap_or(false) },
            Algorithm::Gzip => Compression::Gzip(level),
            Algorithm::Lz4 => Compression::Lz4(level),
        };
        let block_size = match block_size {
            None => preset_block,
            Some(size) => u32::try_from(size.bytes())
                .ok()
                .filter(|size| size.is_power_of_two() && (4 << 10..=1 << 20).contains(size))
                .ok_or("no file system has blocks of this size\nhint: a power of two from \"4KiB\" to \"1MiB\"")?,
        };
        let format = match system {
            FileSystem::Erofs => Format::Erofs { compression, block_size },
            FileSystem::Squashfs | FileSystem::None => Format::Squashfs { compression, block_size },
        };
        Ok(Self { format, verity, name, is_named, is_shaped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Format, String> {
        toml::from_str::<ImageRule>(text)
            .map(|rule| rule.format)
            .map_err(|error| error.message().to_owned())
    }

    fn squashfs(compression: Compression, block_size: u32) -> Format {
        Format::Squashfs { compression, block_size }
    }

    #[test]
    fn a_preset_is_where_the_rest_starts_from() {
        let balanced = Preset::Balanced.meaning(FileSystem::Squashfs);
        assert_eq!(read("").unwrap(), squashfs(Compression::Zstd(balanced.1), balanced.2));
        assert_eq!(read("preset = \"balanced\""), read(""));
        assert_eq!(read("compression = \"zstd\""), read(""));
        assert_eq!(
            read("preset = \"small\"\nlevel = 15").unwrap(),
            squashfs(Compression::Zstd(15), 512 << 10)
        );
        assert_eq!(
            read("compression = \"xz\"\nbcj = true\nblock-size = \"128KiB\"").unwrap(),
            squashfs(Compression::Xz { level: 6, bcj: true }, 128 << 10)
        );
        assert_eq!(read("format = \"none\""), Ok(Format::None));
        assert_eq!(read("format = \"squashfs\""), read(""));
        let erofs = |compression, block_size| Ok(Format::Erofs { compression, block_size });
        assert_eq!(read("format = \"erofs\""), erofs(Compression::Lz4(12), 256 << 10));
        assert_eq!(
            read("format = \"erofs\"\ncompression = \"zstd\""),
            erofs(Compression::Zstd(9), 256 << 10)
        );
        assert_eq!(
            read("format = \"erofs\"\npreset = \"small\""),
            erofs(Compression::Zstd(19), 512 << 10)
        );
    }

    #[test]
    fn what_no_image_can_be_is_refused() {
        for text in [
            "level = 23",
            "level = 0",
            "compression = \"lz4\"\nlevel = 3",
            "compression = \"brotli\"",
            "bcj = true",
            "block-size = \"2MiB\"",
            "block-size = \"100KiB\"",
            "format = \"erofs\"\ncompression = \"xz\"",
            "format = \"none\"\nlevel = 3",
            "format = \"none\"\nverity = true",
            "preset = \"tiny\"",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
