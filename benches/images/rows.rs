//! What is measured, and what the ratios should be at most.

/// One line of the result.
pub struct Row {
    /// The words of its name that it is chosen by.
    words: [&'static str; 2],
    /// The tree that is packed.
    pub tree: &'static str,
    /// From where to where.
    pub way: Way,
    /// Our `[image]` section.
    pub ours: &'static str,
    /// What it is compared with.
    pub theirs: Theirs,
    /// Limits of the ratios.
    pub wall: Option<f64>,
    pub size: Option<f64>,
    pub peak: Option<f64>,
    /// The level of zstd whose pure time is measured.
    pub pure: Option<i32>,
}

/// From where to where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a folder to an image.
    Folder,
    /// From a web server to an image and its digest.
    Download,
}

/// What makes the other image.
#[derive(Clone, Copy)]
pub enum Theirs {
    /// mksquashfs, with these options.
    Mksquashfs(&'static str),
    /// Ourselves, with another `[image]` section.
    Ours(&'static str),
}

impl Row {
    pub fn name(&self) -> String {
        let [way, codec] = self.words;
        [way, codec, self.tree]
            .into_iter()
            .filter(|word| *word != "pack")
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// True if it has one of the words, separated by commas, of each argument.
    pub fn has(&self, arguments: &[String]) -> bool {
        let [way, codec] = self.words;
        let ours = [way, codec, self.tree];
        arguments.iter().all(|argument| argument.split(',').any(|word| ours.contains(&word)))
    }
}

/// Names, our section, their options, and the limit of the wall time.
type Codec = (&'static str, &'static str, &'static str, Option<f64>);

const CODECS: [Codec; 6] = [
    (
        "zstd15",
        "compression = \"zstd\"\nlevel = 15\nblock-size = \"128KiB\"",
        "-comp zstd -Xcompression-level 15 -b 131072",
        Some(1.0),
    ),
    (
        "zstd3",
        "compression = \"zstd\"\nlevel = 3\nblock-size = \"128KiB\"",
        "-comp zstd -Xcompression-level 3 -b 131072",
        Some(0.9),
    ),
    (
        "gzip9",
        "compression = \"gzip\"\nlevel = 9\nblock-size = \"128KiB\"",
        "-comp gzip -Xcompression-level 9 -b 131072",
        Some(0.4),
    ),
    (
        "lz4",
        "compression = \"lz4\"\nlevel = 1\nblock-size = \"128KiB\"",
        "-comp lz4 -b 131072",
        Some(0.85),
    ),
    (
        "lz4hc",
        "compression = \"lz4\"\nlevel = 12\nblock-size = \"128KiB\"",
        "-comp lz4 -Xhc -b 131072",
        None,
    ),
    (
        "xz",
        "compression = \"xz\"\nlevel = 6\nblock-size = \"128KiB\"",
        "-comp xz -b 131072",
        Some(1.1),
    ),
];

/// The tree of these that counts for the peak of memory.
const LARGE: &str = "300";

pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for tree in ["10", "50", LARGE, "many"] {
        let pack = |(codec, ours, theirs, wall): Codec| Row {
            words: ["pack", codec],
            tree,
            way: Way::Folder,
            ours,
            theirs: Theirs::Mksquashfs(theirs),
            wall,
            size: Some(1.0),
            peak: (tree == LARGE).then_some(0.1),
            pure: (codec == "zstd15").then_some(15),
        };
        rows.extend(CODECS.map(pack));
        rows.push(Row { size: Some(0.95), ..pack(("default", "", "", Some(0.2))) });
    }
    for tree in ["50", LARGE] {
        let whole = |(codec, ours, theirs, wall): Codec| Row {
            words: ["download", codec],
            tree,
            way: Way::Download,
            ours,
            theirs: Theirs::Mksquashfs(theirs),
            wall,
            size: None,
            peak: None,
            pure: None,
        };
        rows.push(whole(("default", "", "", Some(0.25))));
        // The same codec: first that of mksquashfs's default, then others.
        let [zstd15, zstd3, gzip9, lz4, ..] = CODECS;
        rows.push(whole((gzip9.0, gzip9.1, gzip9.2, Some(0.6))));
        for codec in [zstd15, zstd3, lz4] {
            rows.push(whole((codec.0, codec.1, codec.2, None)));
        }
    }
    // A hash tree and partitions, against the same image without.
    for (way, word) in [(Way::Folder, "verity"), (Way::Download, "verity-download")] {
        for (codec, ours, theirs, wall) in [
            ("default", "verity = true", "", Some(1.05)),
            ("lz4", "preset = \"fast\"\nverity = true", "preset = \"fast\"", None),
        ] {
            rows.push(Row {
                words: [word, codec],
                tree: LARGE,
                way,
                ours,
                theirs: Theirs::Ours(theirs),
                wall,
                size: Some(1.01),
                peak: None,
                pure: None,
            });
        }
    }
    // EROFS, against squashfs with the same compressor.
    for (codec, ours, theirs) in [
        ("lz4hc", "format = \"erofs\"", "compression = \"lz4\""),
        ("zstd9", "format = \"erofs\"\ncompression = \"zstd\"", ""),
        ("gzip9", "format = \"erofs\"\ncompression = \"gzip\"", "compression = \"gzip\""),
    ] {
        for tree in ["50", LARGE, "many"] {
            rows.push(Row {
                words: ["erofs", codec],
                tree,
                way: Way::Folder,
                ours,
                theirs: Theirs::Ours(theirs),
                wall: None,
                size: None,
                peak: None,
                pure: None,
            });
        }
    }
    rows
}
