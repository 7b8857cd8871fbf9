//! The two that make images: `publish build`, as a user runs it, and mksquashfs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::measure::{self, Cost};
use crate::rows::Way;
use crate::trees::{COMPONENT, Tree, VERSION};
use crate::web::Web;

/// A folder on the disk of the trees.
fn folder() -> Result<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// A repository with one component.
pub struct Project {
    folder: TempDir,
    web: Option<Web>,
}

impl Project {
    /// One whose component is the tree as an overlay, or as an archive on a web server.
    pub fn new(way: Way, ours: &str, tree: &Tree) -> Result<Self> {
        let folder = folder()?;
        let at = |path: &str| folder.path().join(path);
        for path in ["components", "releases", "tmp"] {
            fs::create_dir(at(path))?;
        }
        fs::write(at(&format!("releases/{COMPONENT}_{VERSION}")), "")?;
        let repository = "[repository]\nstore = \"public\"\narchitectures = [\"x86-64\"]\n";
        fs::write(at("publish.toml"), repository)?;
        let source = format!(
            "[source.directory]\npath = \"../releases\"\nmatch = \"{COMPONENT}_{{version}}\"\n"
        );
        let (asset, web) = match way {
            Way::Folder => {
                std::os::unix::fs::symlink(&tree.plain, at(&format!("components/{COMPONENT}")))?;
                (String::new(), None)
            }
            Way::Download => {
                let web = Web::start(&tree.archive)?;
                let url = web.url();
                let files = "[asset.files]\n\"usr/\" = \"usr/*\"\n";
                let asset =
                    format!("[[asset]]\nurl = \"{url}\"\nsha256 = \"{{url}}.sha256\"\n{files}");
                (asset, Some(web))
            }
        };
        let component = format!("{source}{asset}[image]\n{ours}\n");
        fs::write(at(&format!("components/{COMPONENT}.toml")), component)?;
        Ok(Self { folder, web })
    }

    /// Where the archive is.
    pub fn url(&self) -> &str {
        self.web.as_ref().map_or("", Web::url)
    }

    /// Builds its image.
    pub fn build(&self) -> Result<Cost> {
        let folder = self.folder.path();
        let out = folder.join("out");
        let image = out.join(format!("{COMPONENT}-{VERSION}-x86-64.raw"));
        let temporary = format!("TMPDIR={}", folder.join("tmp").display());
        let program = env!("CARGO_BIN_EXE_publish");
        let command =
            ["env", &temporary, program, "--quiet", "build", COMPONENT, "--output", "out"];
        let cost = measure::run(&command, folder, &image)?;
        fs::remove_dir_all(out)?;
        Ok(cost)
    }
}

/// mksquashfs, in the newest version that is here.
pub struct Mksquashfs {
    command: String,
    pub version: String,
}

/// What makes its images like ours: owners, dates, and no talk.
const ALIKE: &str = "-all-root -all-time 0 -mkfs-time 0 -noappend -no-progress -quiet";

impl Mksquashfs {
    pub fn find() -> Result<Self> {
        let command = match std::env::var("MKSQUASHFS") {
            Ok(command) => command,
            Err(_) => in_root().unwrap_or_else(|| "mksquashfs".to_owned()),
        };
        let done = Command::new("sh").args(["-c", &format!("{command} -version")]).output()?;
        let text = String::from_utf8_lossy(&done.stdout);
        let version = text.lines().next().unwrap_or_default().to_owned();
        ensure!(version.contains("mksquashfs"), "`{command}` is no mksquashfs");
        Ok(Self { command, version })
    }

    fn line(&self, from: &str, options: &str) -> String {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        format!("{} {from} out.raw {options} {ALIKE} -processors {cores}", self.command)
    }

    /// Packs a tree.
    pub fn pack(&self, tree: &Tree, options: &str) -> Result<Cost> {
        let from = tree.folder.to_str().context("a path of UTF-8")?;
        shell(&self.line(from, options))
    }

    /// Does what people write into their scripts: from the address of an archive to the digest of
    /// an image.
    pub fn recipe(&self, tree: &Tree, url: &str, options: &str) -> Result<Cost> {
        ensure!(tree.archive.is_file(), "no archive of the tree {}", tree.name);
        let pack = self.line("root", options);
        shell(&format!(
            "set -e
            curl -fsS -O {url} -O {url}.sha256
            sha256sum --check --quiet tree.tar.gz.sha256
            mkdir root
            tar -xzf tree.tar.gz -C root
            releases=root/usr/lib/extension-release.d
            mkdir -p $releases
            for name in {COMPONENT} {COMPONENT}-{VERSION}-x86-64; do
                printf 'ID=_any\\nARCHITECTURE=x86-64\\n' > $releases/extension-release.$name
            done
            {pack}
            sha256sum out.raw"
        ))
    }
}

fn shell(script: &str) -> Result<Cost> {
    let folder = folder()?;
    measure::run(&["sh", "-c", script], folder.path(), &folder.path().join("out.raw"))
}

/// That of the root for the tests with real clients, run with that root's own libraries.
fn in_root() -> Option<String> {
    let root = std::env::var_os("PUBLISH_REAL_ROOT").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
        Some(cache.join("publish/trixie"))
    })?;
    let program = root.join("usr/bin/mksquashfs");
    let loaders = ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"];
    let loader = loaders.iter().map(|loader| root.join(loader)).find(|loader| loader.exists())?;
    let machine = std::env::consts::ARCH;
    let libraries = root.join(format!("usr/lib/{machine}-linux-gnu"));
    program.exists().then(|| {
        format!("{} --library-path {} {}", loader.display(), libraries.display(), program.display())
    })
}
