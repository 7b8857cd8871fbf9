//! The fingerprint of a recipe: whether a published image would be made the same way again.
//!
//! Owns which parts of a component, and of what lies beside it, decide an image's bytes. What came
//! from upstream is not in it: those digests are kept one by one. The same component must give the
//! same fingerprint for ever, or every image of every repository would be built anew; so fields
//! go in by name, and one that is left at its default does not go in at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use sha2::Digest;

use super::{RecipeError, normal_mode};
use crate::config::Component;
use crate::config::asset::{AssetAt, AssetRule};
use crate::config::asset_name::AssetName;
use crate::config::build::{BuildRule, CommandRule, Container, Maker, Variable, WorkflowRule};
use crate::config::component::UnitName;
use crate::config::extension::{Extension, Kind};
use crate::config::files::{FileRule, Files, Mode};
use crate::config::image::{Compression, Format, ImageRule};
use crate::config::verity::Verity;
use crate::config::versions::Versions;
use crate::name::{Arch, Sha256};
use crate::template::Vars;

/// The number of the engine. It goes up when the same inputs would give other bytes than before:
/// every image is then published as a new revision, so that is no light matter.
pub const ENGINE: u32 = 1;

/// Names and values, in the order they are told, each with its length: no two lists look alike.
struct Fields(sha2::Sha256);

impl Fields {
    fn tell(&mut self, name: &str, value: &str) {
        for text in [name, value] {
            self.0.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            self.0.update(text.as_bytes());
        }
    }

    fn tell_each<'v>(&mut self, name: &str, values: impl IntoIterator<Item = &'v str>) {
        for value in values {
            self.tell(name, value);
        }
    }
}

/// The fingerprint of the recipe for one version and architecture. `rules` are the asset rules that
/// hold for the version, each with the name that its file has in the release; `overlay` is what
/// [`overlay`] says. Pure.
#[must_use]
pub fn fingerprint(
    component: &Component,
    rules: &[(&AssetRule, Option<String>)],
    overlay: Option<Sha256>,
    vars: &Vars<'_>,
    arch: Arch,
) -> Sha256 {
    // Named one by one: whoever adds a field decides here whether it changes an image.
    let Component {
        name,
        file: _,
        folder: _,
        description: _,
        homepage: _,
        source: _,
        versions,
        arch: _,
        assets: _,
        companions: _,
        build,
        files,
        services,
        extension,
        image,
        xattrs,
        lint: _,
        require: _,
        test: _,
        overlay: _,
    } = component;
    let Versions {
        accept,
        tag: _,
        require: _,
        include: _,
        exclude: _,
        pin: _,
        newest: _,
        per: _,
        branches: _,
        prerelease: _,
        min_age: _,
        wait: _,
        partial: _,
        replace: _,
    } = versions;
    let mut fields = Fields(sha2::Sha256::new());
    fields.tell("engine", &ENGINE.to_string());
    fields.tell("name", name.as_str());
    fields.tell("version", vars.version);
    fields.tell("architecture", arch.as_str());
    // Somebody took other bytes from upstream for right: that is another image.
    for accepted in accept.get(vars.version).into_iter().flatten() {
        fields.tell("accept", &accepted.to_string());
    }
    for companion in vars.beside {
        fields.tell("companion", &companion.name);
        fields.tell("companion-version", &companion.version);
    }
    tell_assets(&mut fields, rules, vars);
    if let Some(build) = build {
        tell_build(&mut fields, build, vars);
    }
    if let Some(overlay) = overlay {
        fields.tell("overlay", &overlay.to_string());
    }
    fields.tell("files", "");
    tell_files(&mut fields, files, vars);
    let mut units: Vec<&str> = services.enable.iter().map(UnitName::as_str).collect();
    units.sort_unstable();
    units.dedup();
    fields.tell_each("enable", units.iter().copied());
    let Extension { kind, id, level, version_id, reload } = extension;
    match kind {
        Kind::Sysext => {}
        Kind::Confext => fields.tell("kind", "confext"),
    }
    fields.tell("id", id);
    fields.tell_each("level", level.as_deref());
    fields.tell_each("version-id", version_id.as_deref());
    if reload.unwrap_or(!units.is_empty()) {
        fields.tell("reload", "");
    }
    let ImageRule { format, verity, name, is_named: _, is_shaped: _ } = image;
    tell_format(&mut fields, *format, verity.as_ref());
    for rule in xattrs.rules() {
        fields.tell("xattrs", &rule.pattern);
        for (name, value) in rule.attributes() {
            fields.tell(name, &value.escape_ascii().to_string());
        }
    }
    // An image is called by what clients see.
    let version = &*versions.written(vars.version);
    let shown = Vars { arch: arch.as_str(), version, tag: version, ..*vars };
    fields.tell("image", &name.expand(&shown));
    Sha256::from_hasher(fields.0)
}

fn tell_assets(fields: &mut Fields, rules: &[(&AssetRule, Option<String>)], vars: &Vars<'_>) {
    for (rule, name) in rules {
        let AssetRule { at, trust: _, strip_components, when: _, files } = rule;
        match at {
            AssetAt::Url(url) => fields.tell("asset-url", &url.expand(vars)),
            AssetAt::Name(AssetName { of, names: _ }) => {
                fields.tell_each("asset-of", of.as_deref());
                fields.tell_each("asset-name", name.as_deref());
            }
            AssetAt::Oci(image) => fields.tell("asset-oci", &image.expand(vars)),
        }
        if *strip_components > 0 {
            fields.tell("strip-components", &strip_components.to_string());
        }
        tell_files(fields, files, vars);
    }
}

fn tell_build(fields: &mut Fields, build: &BuildRule, vars: &Vars<'_>) {
    let BuildRule { by, timeout: _ } = build;
    fields.tell("build", "");
    // What it is told besides.
    fields.tell("tag", vars.tag);
    fields.tell("upstream-architecture", vars.arch);
    let CommandRule { command, container, engine: _, network, env } = match by {
        Maker::Command(rule) => rule,
        Maker::Workflow(WorkflowRule { repo, file, git_ref, artifact }) => {
            fields.tell("workflow", &format!("{repo}/{file}"));
            fields.tell("ref", git_ref);
            fields.tell_each("artifact", artifact.as_deref());
            return;
        }
    };
    fields.tell_each("command", command.iter());
    fields.tell_each("container", container.as_ref().map(Container::as_str));
    if *network {
        fields.tell("network", "");
    }
    // Their values may be secrets, and are not for us to look at.
    fields.tell_each("env", env.iter().map(Variable::as_str));
}

fn tell_format(fields: &mut Fields, format: Format, verity: Option<&Verity>) {
    // What a preset stands for, not its name: who tunes it makes other images.
    match format {
        Format::Squashfs { compression, block_size }
        | Format::Erofs { compression, block_size } => {
            let (codec, level) = match compression {
                Compression::Zstd(level) => ("zstd", level),
                Compression::Xz { level, bcj: false } => ("xz", level),
                Compression::Xz { level, bcj: true } => ("xz+bcj", level),
                Compression::Gzip(level) => ("gzip", level),
                Compression::Lz4(level) => ("lz4", level),
            };
            let system = if matches!(format, Format::Erofs { .. }) { "erofs" } else { "squashfs" };
            fields.tell(system, &format!("{codec} {level} {block_size}"));
        }
        Format::None => fields.tell("as-it-is", ""),
        Format::Mirrored => fields.tell("mirrored", ""),
    }
    if let Some(verity) = verity {
        fields.tell("verity", "sha256");
        // Who has the key signs the same; the certificate is in the image.
        let certificate = verity.certificate().map(|it| it.fingerprint().to_string());
        fields.tell_each("certificate", certificate.as_deref());
    }
}

fn tell_files(fields: &mut Fields, files: &Files, vars: &Vars<'_>) {
    let mode = |fields: &mut Fields, mode: &Option<Mode>| {
        if let Some(mode) = mode {
            fields.tell("mode", &format!("{:o}", mode.bits()));
        }
    };
    for (to, rule) in files {
        fields.tell("to", to.to_string().as_str());
        match rule {
            FileRule::Pick { from, mode: bits, replace } => {
                for from in from {
                    fields.tell("from", &from.expand(vars));
                }
                mode(fields, bits);
                for (text, by) in replace {
                    fields.tell("replace", text);
                    fields.tell("by", &by.expand(vars));
                }
            }
            FileRule::Text { text, mode: bits } => {
                fields.tell("text", &text.expand(vars));
                mode(fields, bits);
            }
            FileRule::Symlink(target) => fields.tell("symlink", &target.expand(vars)),
            FileRule::Delete => fields.tell("delete", ""),
        }
    }
}

/// The digest of an overlay folder: names, permissions as images have them, contents, links.
///
/// # Errors
/// It cannot be read, or holds what no image can hold.
pub fn overlay(folder: &Path, kind: Kind) -> Result<Sha256, RecipeError> {
    let mut found = BTreeMap::new();
    for top in kind.tops() {
        let path = folder.join(top);
        match fs::symlink_metadata(&path) {
            Ok(_) => read(&path, top, &mut found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(RecipeError::Disk { path, source }),
        }
    }
    Ok(digest(&found))
}

/// The digest of all that is in a folder in which a command runs, which may read any of it.
///
/// # Errors
/// As [`overlay`].
pub fn folder(folder: &Path) -> Result<Sha256, RecipeError> {
    let mut found = BTreeMap::new();
    read(folder, ".", &mut found)?;
    Ok(digest(&found))
}

fn digest(found: &BTreeMap<String, String>) -> Sha256 {
    let mut fields = Fields(sha2::Sha256::new());
    for (path, what) in found {
        fields.tell(path, what);
    }
    Sha256::from_hasher(fields.0)
}

fn read(path: &Path, to: &str, found: &mut BTreeMap<String, String>) -> Result<(), RecipeError> {
    use std::os::unix::fs::PermissionsExt;
    let disk = |source: io::Error| RecipeError::Disk { path: path.to_owned(), source };
    let not_text = || disk(io::Error::new(io::ErrorKind::InvalidFilename, "the name is not UTF-8"));
    let metadata = fs::symlink_metadata(path).map_err(disk)?;
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        for entry in fs::read_dir(path).map_err(disk)? {
            let entry = entry.map_err(disk)?;
            let name = entry.file_name().into_string().map_err(|_| not_text())?;
            read(&entry.path(), &format!("{to}/{name}"), found)?;
        }
        "folder".to_owned()
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(disk)?;
        format!("link {}", target.to_str().ok_or_else(not_text)?)
    } else if kind.is_file() {
        let (sha256, _) =
            File::open(path).and_then(|mut file| Sha256::of_reader(&mut file)).map_err(disk)?;
        format!("file {:o} {sha256}", normal_mode(metadata.permissions().mode()))
    } else {
        return Err(RecipeError::Special { path: path.to_owned() });
    };
    found.insert(to.to_owned(), what);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::component;
    use crate::template::Beside;

    const BASE: &str = r#"[source.github]
repo = "o/r"
[[asset]]
url = "https://e.org/{version}-{arch}.tgz"
[asset.files]
"usr/bin/" = ["a"]
[files]
"usr/v" = { text = "{version}" }
"#;

    fn of(text: &str, arch: &str) -> Sha256 {
        let component = component::parse("x".parse().unwrap(), Path::new("x.toml"), text).unwrap();
        let beside: Vec<Beside> = component
            .companions
            .iter()
            .map(|companion| Beside {
                name: companion.name().to_owned(),
                version: "1.5".to_owned(),
                tag: "v1.5".to_owned(),
                arch: arch.to_owned(),
            })
            .collect();
        let vars = Vars { name: "x", version: "1.0", arch, tag: "v1.0", url: "", beside: &beside };
        let rules: Vec<_> = component.assets.iter().map(|rule| (rule, None)).collect();
        fingerprint(&component, &rules, None, &vars, Arch::X86_64)
    }

    #[test]
    fn it_is_the_same_for_ever() {
        // If this one changes, every image of every repository is built anew.
        assert_eq!(
            of(BASE, "amd64").to_string(),
            "0aba4732c380259e9efd322f05510018f32d0b321252f7785df7b70e8488c8a9"
        );
    }

    #[test]
    fn what_changes_no_byte_changes_nothing() {
        for (from, to) in [
            ("[source", "description = \"d\"\nhomepage = \"https://e.org/\"\n[source"),
            ("[files]", "[versions]\nnewest = 1\nmin-age = \"2d\"\nexclude = [\"1.1\"]\n[files]"),
            ("[files]", "[versions]\nwait = \"2d\"\npartial = true\npin = \"1.0\"\n[files]"),
            ("[files]", "[versions]\nreplace = { \"+\" = \"-\" }\n[files]"),
            ("[asset.files]", "sha256 = \"{url}.sha256\"\nwhen = \">=1\"\n[asset.files]"),
            ("[asset.files]", "trust = \"first-use\"\nsha512 = { name = \"x\" }\n[asset.files]"),
            (
                "[asset.files]",
                "signature = { openpgp = \"{url}.asc\", keyring = \"k\" }\nattestation = { workflow = \"w\" }\n[asset.files]",
            ),
            ("{ text = \"{version}\" }", "{ text = \"1.0\" }"),
            ("[files]", "[test]\nrun = [\"usr/bin/a\"]\n[files]"),
            ("[files]", "[extension]\nreload = false\n[image]\ncompression = \"zstd\"\n[files]"),
            (
                "[files]",
                "[versions.accept]\n\"1.1\" = [\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n[files]",
            ),
        ] {
            assert_eq!(of(&BASE.replace(from, to), "amd64"), of(BASE, "amd64"), "{to}");
        }
    }

    #[test]
    fn what_changes_a_byte_changes_it() {
        for (from, to) in [
            ("e.org", "f.org"),
            ("[files]", "[build]\ncommand = [\"./build.sh\"]\n[files]"),
            ("[\"a\"]", "[\"b\"]"),
            ("[\"a\"]", "{ from = \"a\", mode = \"0700\" }"),
            ("[\"a\"]", "{ from = \"a\", replace = { \"x\" = \"y\" } }"),
            ("[asset.files]", "strip-components = 1\n[asset.files]"),
            ("{version}\" }", "{version}\\n\" }"),
            ("{ text = \"{version}\" }", "{ symlink = \"{version}\" }"),
            ("[files]", "[services]\nenable = [\"a.service\"]\n[files]"),
            ("[files]", "[extension]\nreload = true\n[files]"),
            ("[files]", "[extension]\nid = \"f\"\nsysext-level = \"1\"\n[files]"),
            ("[files]", "[extension]\nid = \"f\"\nversion-id = \"1\"\n[files]"),
            ("[files]", "[image]\ncompression = \"xz\"\n[files]"),
            ("[files]", "[image]\npreset = \"small\"\n[files]"),
            ("[files]", "[image]\nlevel = 10\n[files]"),
            ("[files]", "[image]\nformat = \"erofs\"\ncompression = \"zstd\"\n[files]"),
            ("[files]", "[image]\nblock-size = \"64KiB\"\n[files]"),
            ("[files]", "[xattrs]\n\"usr/bin/*\" = { \"user.x\" = \"y\" }\n[files]"),
            ("[files]", "[image]\nname = \"{version}-{arch}.raw\"\n[files]"),
            ("[files]", "[[companion]]\nname = \"c\"\nsource.github.repo = \"o/c\"\n[files]"),
            ("[files]", "[versions]\nreplace = { \"0\" = \"1\" }\n[files]"),
            (
                "[files]",
                "[versions.accept]\n\"1.0\" = [\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n[files]",
            ),
        ] {
            assert_ne!(of(&BASE.replace(from, to), "amd64"), of(BASE, "amd64"), "{to}");
        }
        assert_ne!(of(BASE, "amd64"), of(BASE, "x64"));
    }

    #[test]
    fn an_overlay_is_its_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let digest = || overlay(folder.path(), Kind::Sysext).unwrap();
        fs::create_dir_all(path("usr/bin")).unwrap();
        fs::write(path("usr/bin/a"), "a").unwrap();
        fs::set_permissions(path("usr/bin/a"), fs::Permissions::from_mode(0o600)).unwrap();
        let first = digest();
        // Neither what is not in the image, nor who may write it here.
        fs::write(path("build.sh"), "x").unwrap();
        fs::set_permissions(path("usr/bin/a"), fs::Permissions::from_mode(0o664)).unwrap();
        assert_eq!(digest(), first);
        fs::set_permissions(path("usr/bin/a"), fs::Permissions::from_mode(0o755)).unwrap();
        let program = digest();
        assert_ne!(program, first);
        fs::write(path("usr/bin/a"), "b").unwrap();
        let other = digest();
        assert_ne!(other, program);
        std::os::unix::fs::symlink("a", path("usr/bin/b")).unwrap();
        let linked = digest();
        assert_ne!(linked, other);
        fs::create_dir(path("opt")).unwrap();
        assert_ne!(digest(), linked);
    }
}
