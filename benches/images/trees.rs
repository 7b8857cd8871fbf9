//! The trees: real programs out of Debian's packages, unpacked once.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// A folder with a `usr/` in it.
pub struct Tree {
    /// What rows call it: about its size in MiB, or `many` for many small files.
    pub name: &'static str,
    /// The folder. It has the extension-release that our images get, so that others can get the
    /// same; [`Tree::plain`] has not.
    pub folder: PathBuf,
    /// The same files without an extension-release.
    pub plain: PathBuf,
    /// The same as an archive, compressed by gzip as releases are.
    pub archive: PathBuf,
}

/// The component that all images are of, and their version.
pub const COMPONENT: &str = "bench";
pub const VERSION: &str = "1";

fn packages(tree: &str) -> &'static [&'static str] {
    match tree {
        "10" => &["bat", "fd-find", "ripgrep"],
        "50" => &["rclone"],
        "300" => &["containerd", "docker.io", "rclone"],
        _ => &["golang-1.19-src"],
    }
}

impl Tree {
    /// Makes it, unless an earlier run did.
    pub fn get(name: &'static str) -> Result<Self> {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a target folder")?;
        let all = all.join("bench-trees");
        let folder = all.join(name);
        let tree = Self {
            name,
            plain: folder.join("plain"),
            archive: folder.join("tree.tar.gz"),
            folder: folder.join("root"),
        };
        if !folder.exists() {
            eprintln!("making the tree {name} of {}", packages(name).join(", "));
            // Until it has its name it is not taken for a whole one.
            let half = all.join(format!("{name}.part"));
            if half.exists() {
                fs::remove_dir_all(&half)?;
            }
            make(name, &half).with_context(|| format!("cannot make the tree {name}"))?;
            fs::rename(&half, &folder)?;
        }
        Ok(tree)
    }

    /// Every regular file, in the order of the paths.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                match entry.file_type()? {
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => files.push(entry.path()),
                    _ => {}
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Gets it into the page cache.
    pub fn warm(&self) -> Result<()> {
        for file in self.files()? {
            io::copy(&mut fs::File::open(file)?, &mut io::sink())?;
        }
        Ok(())
    }
}

fn make(name: &str, half: &Path) -> Result<()> {
    let (packages_at, plain, root) = (half.join("debs"), half.join("plain"), half.join("root"));
    for folder in [&packages_at, &plain, &root] {
        fs::create_dir_all(folder)?;
    }
    run(Command::new("apt-get").arg("download").args(packages(name)).current_dir(&packages_at))?;
    for package in fs::read_dir(&packages_at)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(package?.path()).arg(&plain))?;
    }
    fs::remove_dir_all(&packages_at)?;
    // Only this is merged by systemd-sysext, and so only this is packed.
    for entry in fs::read_dir(&plain)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "usr") {
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    run(Command::new("cp").args(["--archive", "--link"]).arg(plain.join("usr")).arg(&root))?;
    let releases = root.join("usr/lib/extension-release.d");
    fs::create_dir_all(&releases)?;
    for name in [COMPONENT.to_owned(), format!("{COMPONENT}-{VERSION}-x86-64")] {
        let release = releases.join(format!("extension-release.{name}"));
        fs::write(&release, "ID=_any\nARCHITECTURE=x86-64\n")?;
        fs::set_permissions(&release, fs::Permissions::from_mode(0o644))?;
    }
    let tar =
        "tar --sort=name --owner=0 --group=0 --numeric-owner --create usr | gzip -6 --no-name";
    let tar = format!("set -e; {tar} > ../tree.tar.gz");
    run(Command::new("sh").args(["-c", &tar]).current_dir(&plain))?;
    let digest = "sha256sum tree.tar.gz > tree.tar.gz.sha256";
    run(Command::new("sh").args(["-c", digest]).current_dir(half))
}

/// Runs a command that has nothing to say.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(done) => {
            let text = String::from_utf8_lossy(&done.stderr);
            ensure!(done.status.success(), "{program} failed: {text}");
            Ok(())
        }
        Err(error) => bail!("cannot run {program}: {error}"),
    }
}
