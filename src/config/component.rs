//! A component: one thing the repository offers, as its file describes it.
//!
//! Owns the format of `components/NAME.toml`. Knows nothing of how a source is asked or an image
//! is built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::ConfigError;
use super::asset::TrustRule;
pub use super::asset::{AssetAt, AssetRule};
use super::asset_name::AssetName;
use super::build::{BuildRule, TestRule};
use super::companion::{Companion, Companions, check_companions};
use super::extension::{Extension, Kind};
use super::files::{FileRule, Files};
use super::image::{Format, ImageRule};
use super::lint::{LintRules, Require};
use super::mirror::RepositoryRule;
use super::source::{HttpUrl, NO_SOURCE, SourceRule};
use super::versions::Versions;
use super::xattrs::XattrRules;
use crate::manifest::BEST_BEFORE;
use crate::name::{Arch, ComponentName, FileName, Folder, NameError};
use crate::template::Vars;

/// A component, read and checked.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name: that of its file.
    pub name: ComponentName,
    /// Its file.
    pub file: PathBuf,
    /// The folder in the repository.
    pub folder: Folder,
    /// A line for people.
    pub description: Option<String>,
    /// Where people read more.
    pub homepage: Option<Url>,
    /// What it follows.
    pub source: SourceRule,
    /// Which versions it wants.
    pub versions: Versions,
    /// What upstream calls each architecture; empty: systemd's names, every architecture of the
    /// repository.
    pub arch: BTreeMap<Arch, String>,
    /// What is fetched.
    pub assets: Vec<AssetRule>,
    /// What other projects release, and goes in too.
    pub companions: Vec<Companion>,
    /// What makes files of the image.
    pub build: Option<BuildRule>,
    /// Files of the image that come from no asset.
    pub files: Files,
    /// Units that run once the image is merged.
    pub services: Services,
    /// What the image claims to extend.
    pub extension: Extension,
    /// How the image is written.
    pub image: ImageRule,
    /// Extended attributes of its files.
    pub xattrs: XattrRules,
    /// What it says to what is found in its images.
    pub lint: LintRules,
    /// What must be in its images.
    pub require: Require,
    /// What is run to try its images.
    pub test: Option<TestRule>,
    /// The folder beside the component's file: its `usr/` and `opt/` go in as they are, and in it
    /// `[build]` runs.
    pub overlay: Option<PathBuf>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Raw {
    /// A line for people.
    description: Option<String>,
    /// Where people read more.
    homepage: Option<HttpUrl>,
    /// The folder in the repository; the component's name, if left out.
    path: Option<Folder>,
    /// What it follows.
    source: Option<SourceRule>,
    /// Which versions it wants.
    #[serde(default)]
    versions: Versions,
    /// What upstream calls each architecture, `{arch}` in templates; if there is a table, only these.
    #[serde(default)]
    arch: BTreeMap<Arch, String>,
    /// What is fetched.
    #[serde(default, rename = "asset")]
    assets: Vec<AssetRule>,
    /// What other projects release, and goes in too.
    #[serde(default, rename = "companion")]
    companions: Companions,
    /// What makes files of the image.
    build: Option<BuildRule>,
    /// Files of the image that come from no asset: places in the image, and what goes there.
    #[serde(default)]
    files: Files,
    /// Units that run once the image is merged.
    #[serde(default)]
    services: Services,
    /// What the image claims to extend.
    #[serde(default)]
    extension: Extension,
    /// How the image is written.
    #[serde(default)]
    image: ImageRule,
    /// Extended attributes of files, by patterns of their paths; of two rules for one, the later holds.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, String>>")]
    xattrs: XattrRules,
    /// What is said to what is found in the images.
    #[serde(default)]
    lint: LintRules,
    /// What must be in the images.
    #[serde(default)]
    require: Require,
    /// What is run to try the images.
    test: Option<TestRule>,
}

pub(super) fn as_text<S: serde::Serializer>(
    value: &impl std::fmt::Debug,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{value:?}"))
}

/// `[services]`: units that run once the image is merged.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Services {
    /// Units that multi-user.target upholds.
    pub enable: Vec<UnitName>,
}

/// The endings of the units that there is a use for.
const ENDINGS: [&str; 6] = ["service", "socket", "timer", "path", "target", "mount"];

/// The name of a systemd unit, with its ending (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = UnitName::pattern(), "examples" = ["tailscaled.service"]))]
pub struct UnitName(String);

impl UnitName {
    /// What one looks like, as a regular expression.
    fn pattern() -> String {
        format!(r"^[A-Za-z0-9:_.\\@-]+\.({})$", ENDINGS.join("|"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let legal =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
        let ending =
            name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending);
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) && name.chars().all(legal) {
            Ok(Self(name))
        } else {
            Err(format!(
                "`{}` is not a unit's name\nhint: with its ending, such as `{0}.service`",
                name.escape_debug()
            ))
        }
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> String {
        name.0
    }
}

/// Reads the text of a component's file. Pure.
///
/// # Errors
/// What is wrong and where; relative paths become relative to the folder of `file`.
pub fn parse(name: ComponentName, file: &Path, text: &str) -> Result<Component, ConfigError> {
    let mut raw: Raw =
        toml::from_str(text).map_err(|error| ConfigError::from_toml(file, text, &error))?;
    let mut source = raw
        .source
        .clone()
        .ok_or_else(|| ConfigError::new(file, "it has no source").with_hint(NO_SOURCE))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    for source in raw.companions.sources().chain([&mut source]) {
        source.settle(folder);
    }
    for asset in &mut raw.assets {
        asset.trust.relative_to(folder);
    }
    let wrong = |message: String| ConfigError::in_text(file, text, &message);
    if let SourceRule::Repository(rule) = &source {
        check_mirror(&raw, rule).map_err(wrong)?;
        mirror(&mut raw, rule);
    }
    check(&raw, &source).map_err(wrong)?;
    let companions = std::mem::take(&mut raw.companions);
    let mut component = Component {
        folder: raw.path.unwrap_or_else(|| Folder::from(&name)),
        name,
        file: file.to_owned(),
        description: raw.description,
        homepage: raw.homepage.map(|HttpUrl(url)| url),
        source,
        versions: raw.versions,
        arch: raw.arch,
        assets: raw.assets,
        companions: Vec::new(),
        build: raw.build,
        files: raw.files,
        services: raw.services,
        extension: raw.extension,
        image: raw.image,
        xattrs: raw.xattrs,
        lint: raw.lint,
        require: raw.require,
        test: raw.test,
        overlay: None,
    };
    component.companions = companions.of(&component).map_err(wrong)?;
    check_companions(&component).map_err(wrong)?;
    Ok(component)
}

/// What no single value can tell.
fn check(raw: &Raw, source: &SourceRule) -> Result<(), String> {
    let Raw { image, versions, files, .. } = raw;
    match image.format {
        Format::Squashfs { .. } => check_files(raw)?,
        Format::None => check_whole(raw)?,
        Format::Mirrored if raw.build.is_some() || raw.test.is_some() => {
            return Err(
                "a mirror copies files as they are\nhint: leave [build] and [test] out".to_owned()
            );
        }
        Format::Mirrored => {}
    }
    let variables: &[&str] = match source {
        SourceRule::Repository(rule) if rule.verbatim => &[],
        // Files for no one architecture.
        SourceRule::Repository(rule) if !rule.patterns[0].uses("arch") => &["version"],
        _ => &["version", "arch"],
    };
    image.name.require(variables).map_err(|error| format!("[image] name: {error}"))?;
    let sample = "1.0-r1";
    let vars = Vars { name: "x", version: sample, arch: "x86-64", tag: sample, ..Vars::default() };
    if let Err(NameError::Malformed { problem, .. }) = image.name.expand(&vars).parse::<FileName>()
    {
        return Err(format!(
            "[image] name: `{}` is no name that a manifest may list: it {problem}\nhint: such as \"{{name}}-{{version}}-{{arch}}.raw\"; `path` is where the folder is chosen",
            image.name.as_str().escape_debug()
        ));
    }
    if image.name.as_str().starts_with(BEST_BEFORE) {
        return Err(format!(
            "[image] name: `{}` would be a promise of freshness, and no image",
            image.name
        ));
    }
    if matches!(image.format, Format::Squashfs { .. })
        && image.name.as_str().strip_suffix(".raw").is_none()
    {
        return Err(format!(
            "[image] name: `{}` does not end in .raw\nhint: systemd-sysext merges only such files",
            image.name
        ));
    }
    if let SourceRule::Directory(rule) = source {
        rule.pattern
            .require(&["version"])
            .map_err(|error| format!("[source.directory] match: {error}"))?;
    }
    for asset in &raw.assets {
        // The companion's own source may be a GitHub repository; else it is told where it is read.
        let own = matches!(&asset.at, AssetAt::Name(name) if name.of.is_some());
        let named = asset.trust.attestation.as_ref().is_none_or(|rule| rule.repo.is_some());
        if !named && (own || !matches!(source, SourceRule::Github(_))) {
            return Err("[[asset]] attestation: of which repository?\nhint: add repo = \"OWNER/REPOSITORY\"".to_owned());
        }
    }
    if versions.min_age.is_some() && !source.tells_dates() {
        return Err("[versions] min-age: this source does not tell when a version was released\nhint: leave it out, or follow the project's releases, or a page that has dates".to_owned());
    }
    versions.check()?;
    raw.lint.check()?;
    if let Some((destination, _)) =
        files.iter().find(|(_, rule)| matches!(rule, FileRule::Pick { .. }))
    {
        return Err(format!(
            "[files] has no asset to pick `{destination}` from\nhint: move the line to [asset.files], or use `text` or `symlink`"
        ));
    }
    if let Some((destination, _)) = files.iter().find(|(to, rule)| {
        to.is_folder() && matches!(rule, FileRule::Text { .. } | FileRule::Symlink(_))
    }) {
        return Err(format!(
            "[files] `{destination}` is a folder\nhint: name the file itself, without a final slash"
        ));
    }
    Ok(())
}

/// What goes into an image must be where a node looks.
fn check_files(raw: &Raw) -> Result<(), String> {
    let kind = raw.extension.kind;
    for asset in &raw.assets {
        // Whole files are given to the command; an image has only what is picked of it.
        let is_given = raw.build.as_ref().is_some_and(BuildRule::takes_assets)
            && !matches!(asset.at, AssetAt::Oci(_));
        if asset.files.is_empty() && !is_given {
            return Err("the asset gives no file to the image\nhint: add [asset.files], such as \"usr/bin/\" = \"NAME\"".to_owned());
        }
    }
    for to in raw.assets.iter().flat_map(|asset| asset.files.keys()).chain(raw.files.keys()) {
        if !kind.tops().contains(&to.path().split('/').next().unwrap_or_default()) {
            let hint = match kind {
                Kind::Sysext => {
                    "a system extension merges only `usr/` and `opt/`; `[extension] kind = \"confext\"` makes one for `etc/`"
                }
                Kind::Confext => "a configuration extension merges only `etc/`",
            };
            return Err(format!("`{to}` would not be seen on a node\nhint: {hint}"));
        }
    }
    Ok(())
}

/// What is published as it is has nothing in it that we could say.
fn check_whole(raw: &Raw) -> Result<(), String> {
    let rules: usize = raw.assets.iter().map(|asset| asset.files.len()).sum();
    let picks = raw.assets.iter().flat_map(|asset| asset.files.values());
    let only_picks = picks.clone().all(|rule| matches!(rule, FileRule::Pick { .. }));
    if raw.assets.is_empty() || rules > 1 || !only_picks {
        return Err("`format = \"none\"` publishes one file as it is\nhint: give each architecture's file as [[asset]], and, if it is in an archive, one line of [asset.files]: \"image.raw\" = \"PATH\"".to_owned());
    }
    if raw.build.is_some() || raw.test.is_some() {
        return Err(
            "`format = \"none\"` publishes one file as it is\nhint: leave [build] and [test] out"
                .to_owned(),
        );
    }
    if !raw.files.is_empty()
        || !raw.services.enable.is_empty()
        || !raw.xattrs.rules().is_empty()
        || !raw.require.paths.is_empty()
    {
        return Err("`format = \"none\"` publishes one file as it is\nhint: leave [files], [services], [xattrs] and [require] out".to_owned());
    }
    Ok(())
}

/// What of a component has no meaning for files that are published as they are.
fn check_mirror(raw: &Raw, rule: &RepositoryRule) -> Result<(), String> {
    let Raw { versions, arch, assets, files, services, extension, image, xattrs, .. } = raw;
    let Raw { companions, lint, require, .. } = raw;
    let built = [
        ("[[asset]]", !assets.is_empty()),
        ("[[companion]]", !companions.is_empty()),
        ("[files]", !files.is_empty()),
        ("[services]", !services.enable.is_empty()),
        ("[extension]", *extension != Extension::default()),
        ("[xattrs]", !xattrs.rules().is_empty()),
        ("[require]", !require.paths.is_empty()),
    ];
    if let Some((table, _)) = built.into_iter().find(|(_, is_there)| *is_there) {
        return Err(format!(
            "{table} says how an image is made, but files of [source.repository] are published as they are\nhint: leave it out; `match` says which files"
        ));
    }
    if !rule.inspect && lint.concerns_contents() {
        return Err("[lint] is about what is found in images, but with `inspect = false` nobody looks\nhint: leave one of them out".to_owned());
    }
    if image.is_shaped {
        return Err("[image] says what an image is made of, but files of [source.repository] are published as they are\nhint: only `name` can be said, to give them other names".to_owned());
    }
    if versions.tag.is_some() {
        return Err("[versions] tag: a repository has no tags\nhint: `match` in [source.repository] says where the version stands".to_owned());
    }
    if image.is_named && rule.patterns.len() > 1 {
        return Err(
            "[image] name: a version has several files\nhint: they keep the names that `match` has"
                .to_owned(),
        );
    }
    if rule.verbatim {
        let Versions { accept, newest, wait, .. } = Versions::default();
        let selects = versions.require.is_some()
            || !versions.exclude.is_empty()
            || versions.accept != accept
            || versions.newest != newest
            || !versions.include.is_empty()
            || versions.pin.is_some()
            || versions.per.is_some()
            || versions.branches.is_some()
            || versions.wait != wait
            || versions.partial
            || !versions.replace.is_empty()
            || versions.prerelease
            || versions.min_age.is_some();
        if selects || !arch.is_empty() || image.is_named {
            let table = match (selects, arch.is_empty()) {
                (true, _) => "[versions]",
                (false, false) => "[arch]",
                (false, true) => "[image]",
            };
            return Err(format!(
                "`verbatim = true` publishes everything as it is, so {table} has nothing to say\nhint: leave it out, or `verbatim`: then what is wanted is signed by this repository"
            ));
        }
    }
    Ok(())
}

/// Makes a component of files that are published as they are.
fn mirror(raw: &mut Raw, rule: &RepositoryRule) {
    raw.assets = rule
        .patterns
        .iter()
        .map(|pattern| AssetRule {
            at: AssetAt::Name(AssetName { of: None, names: vec![pattern.clone()] }),
            trust: TrustRule::default(),
            strip_components: 0,
            when: None,
            files: Files::default(),
        })
        .collect();
    raw.image.format = Format::Mirrored;
    if !raw.image.is_named {
        // Their name, with systemd's word for the architecture: what clients ask for.
        raw.image.name = rule.patterns[0].clone();
    }
}

impl Component {
    /// The repository whose files it publishes as they are, if it does.
    #[must_use]
    pub fn mirrored(&self) -> Option<&RepositoryRule> {
        match &self.source {
            SourceRule::Repository(rule) => Some(rule),
            _ => None,
        }
    }

    /// Whether a file of a repository that it mirrors is looked into, as the extension that it should be.
    #[must_use]
    pub fn is_looked_into(&self, file: &str) -> bool {
        file.strip_suffix(".raw").is_some() && self.mirrored().is_some_and(|rule| rule.inspect)
    }

    /// Whether its folder is another's, byte for byte: its manifest is not ours to sign or to change.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        self.mirrored().is_some_and(|rule| rule.verbatim)
    }

    /// The architectures it is built for, with upstream's names, among those of the repository.
    #[must_use]
    pub fn architectures(&self, repository: &[Arch]) -> BTreeMap<Arch, String> {
        if !self.image.name.uses("arch") {
            return BTreeMap::from([(Arch::ANY, String::new())]);
        }
        repository
            .iter()
            .filter_map(|arch| match self.arch.get(arch) {
                Some(theirs) => Some((*arch, theirs.clone())),
                None if self.arch.is_empty() => Some((*arch, arch.to_string())),
                None => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "[source.github]\nrepo = \"o/r\"\n";

    fn read(text: &str) -> Result<Component, ConfigError> {
        parse("x".parse().unwrap(), Path::new("components/x.toml"), text)
    }

    #[test]
    fn two_sources_are_named() {
        let error = read(&format!(
            "{SOURCE}[source.http]\nurl = \"https://e.org/\"\nmatch = '(?<version>.)'\n"
        ));
        let error = error.unwrap_err();
        assert!(error.to_string().contains("more than one source: `github` and `http`"), "{error}");
        assert!(error.hint().unwrap().contains("follows one"));
    }

    #[test]
    fn every_form_of_a_file_reads() {
        let component = read(&format!(
            r#"{SOURCE}
            [[asset]]
            url = "https://e.org/{{version}}.tgz"
            [asset.files]
            "usr/bin/" = ["a", "b"]
            "usr/bin/c" = "c"
            "usr/lib/d" = {{ from = "d", mode = "0600", replace = {{ "x" = "y" }} }}
            [files]
            "usr/e" = {{ text = "{{version}}" }}
            "usr/f" = {{ symlink = "e" }}
            "usr/g" = {{ delete = true }}
            "#
        ))
        .unwrap();
        assert_eq!(component.assets[0].files.len(), 3);
        assert_eq!(component.files.len(), 3);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (text, part) in [
            ("[extension]\nid = \"flatcar\"\n", "no host takes"),
            ("[image]\nname = \"{name}.raw\"\n", "{version}"),
            ("[image]\nname = \"{name}-{version}-{arch}.img\"\n", ".raw"),
            ("[image]\ncompression = \"zip\"\n", "zip"),
            ("[files]\n\"etc/x\" = { text = \"\" }\n", "would not be seen"),
            ("[files]\n\"/usr/x\" = { text = \"\" }\n", "absolute"),
            ("[files]\n\"usr/../x\" = { text = \"\" }\n", "plain path"),
            ("[files]\n\"usr/x\" = \"y\"\n", "no asset"),
            ("[files]\n\"usr/x/\" = { text = \"\" }\n", "is a folder"),
            ("[files]\n\"usr/x\" = { text = \"\", symlink = \"\" }\n", "one of"),
            ("[files]\n\"usr/x\" = { text = \"\", mode = \"999\" }\n", "mode"),
            ("[[asset]]\nurl = \"https://e.org/\"\n", "no file"),
            ("[[asset]]\nurl = \"ftp://e.org/\"\n[asset.files]\n\"usr/x\" = \"y\"\n", "http"),
            ("[services]\nenable = [\"tailscaled\"]\n", "unit"),
            ("[versions]\nrequire = \">=x\"\n", ""),
            ("[versions]\nnewest = 0\n", "1 to 1024"),
            ("[versions]\ntag = \"v\"\n", "{version}"),
            ("[versions]\ntag = \"v{versoin}\"\n", "versoin"),
        ] {
            let error = read(&format!("{SOURCE}{text}")).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read("").is_err());
        assert!(read("[source]\n").is_err());
    }

    use super::super::mirror::Trust;

    const MIRROR: &str = "[source.repository]\nurl = \"https://e.org/\"\nunsigned = true\n";

    #[test]
    fn a_mirror_keeps_the_names_that_clients_ask_for() {
        let text = format!("{MIRROR}match = \"k-v{{version}}-{{arch}}.raw\"\n");
        let component = read(&text).unwrap();
        assert_eq!(component.image.name.as_str(), "k-v{version}-{arch}.raw");
        let text = format!("{text}[image]\nname = \"k-{{version}}-{{arch}}.raw\"\n");
        assert_eq!(read(&text).unwrap().image.name.as_str(), "k-{version}-{arch}.raw");
        let os = read(&format!("{MIRROR}match = \"os_{{version}}.efi\"\n")).unwrap();
        assert_eq!(os.architectures(&[Arch::Arm64]), BTreeMap::from([(Arch::ANY, String::new())]));
        let signed = MIRROR.replace("unsigned = true", "keyring = \"their.gpg\"");
        let keyring = read(&signed).unwrap().mirrored().unwrap().trust.clone();
        assert_eq!(keyring, Trust::Keyring("components/their.gpg".into()));
    }

    #[test]
    fn what_means_nothing_for_a_mirror_is_refused() {
        for (text, part) in [
            ("[files]\n\"usr/x\" = { text = \"\" }\n", "published as they are"),
            ("[extension]\nreload = true\n", "published as they are"),
            ("[image]\ncompression = \"xz\"\n", "published as they are"),
            ("[image]\nformat = \"none\"\n", "published as they are"),
            ("[image]\nname = \"{version}.raw\"\n", "{arch}"),
            ("[versions]\ntag = \"v{version}\"\n", "no tags"),
            ("[require]\npaths = [\"usr/bin/x\"]\n", "published as they are"),
            ("inspect = false\n[lint]\ndeny = [\"setuid\"]\n", "nobody looks"),
            ("verbatim = true\n[versions]\nnewest = 2\n", "[versions]"),
            ("verbatim = true\n[arch]\nx86-64 = \"amd64\"\n", "[arch]"),
            ("verbatim = true\n[image]\nname = \"{version}-{arch}.raw\"\n", "[image]"),
            (
                "match = [\"{version}-{arch}\", \"{version}_{arch}\"]\n[image]\nname = \"{version}-{arch}\"\n",
                "several",
            ),
        ] {
            let error = read(&format!("{MIRROR}{text}")).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in [
            "verbatim = true\n",
            "[lint]\nallow = [\"setuid\"]\n",
            // Nobody needs to look into an image for this.
            "inspect = false\n[lint]\nallow = [\"size-changed\"]\n",
        ] {
            read(&format!("{MIRROR}{text}")).unwrap();
        }
        assert!(read(&format!("{MIRROR}verbatim = true\n")).unwrap().is_verbatim());
    }

    #[test]
    fn a_component_can_be_for_fewer_architectures() {
        let component = read(&format!("{SOURCE}[arch]\nx86-64 = \"amd64\"\n")).unwrap();
        let arches = component.architectures(&[Arch::X86_64, Arch::Arm64]);
        assert_eq!(arches, BTreeMap::from([(Arch::X86_64, "amd64".to_owned())]));
    }
}
