//! The configuration: `publish.toml` and a file for each component.
//!
//! Owns what may be written there, and says where in the file something is wrong. [`parse`] and
//! [`component::parse`] are pure; [`load`] is the only I/O. Knows nothing of what is done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::name::{Arch, ComponentName, Folder};
use crate::page::{CATALOG, FEED, INDEX};
use crate::sign::KEYRING;

pub mod asset;
pub mod asset_name;
pub mod build;
pub mod companion;
pub mod component;
pub mod diagnose;
pub mod extension;
pub mod files;
pub mod image;
pub mod lint;
pub mod mirror;
pub mod network;
pub mod page;
mod quantity;
pub mod reference;
pub mod report;
pub mod requirement;
pub mod retention;
pub mod schema;
pub mod signing;
pub mod source;
mod store;
pub mod trust;
pub mod verity;
pub mod versions;
pub mod watch;
pub mod xattrs;

pub use component::Component;
pub use diagnose::ConfigError;
pub use network::Network;
pub use page::Page;
pub use quantity::{Count, Size};
pub use report::{Hook, Report};
pub use retention::Retention;
pub use signing::{SecretAt, Signing};
pub use store::{BucketUrl, CacheControl, ReleaseUrl, Service, StoreUrl, Tag};
pub use trust::Trust;
pub use watch::Watch;

/// The longest configuration file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// A whole configuration, read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// What `publish.toml` says.
    pub document: Document,
    /// The components, sorted by name.
    pub components: Vec<Arc<Component>>,
    /// Whether these are all of them.
    pub whole: bool,
    /// Whether what somebody else may have made of the repository is taken for right once: asked for on
    /// the command line, never in a file.
    pub adopt: bool,
}

/// `publish.toml`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    /// Where the repository is and what it holds.
    pub repository: Repository,
    /// Who vouches for it; nobody, if left out.
    #[serde(default)]
    pub signing: Option<Signing>,
    /// How long what is no longer offered is kept.
    #[serde(default)]
    pub retention: Retention,
    /// What must vouch for what upstreams give.
    #[serde(default)]
    pub trust: Trust,
    /// How upstreams are reached.
    #[serde(default)]
    pub network: Network,
    /// What a hostile or broken upstream may cost at most.
    #[serde(default)]
    pub limits: Limits,
    /// How `publish watch` goes.
    #[serde(default)]
    pub watch: Watch,
    /// What is written for those who watch over a publisher.
    #[serde(default)]
    pub report: Report,
    /// Who is told when something changes, fails or is well again.
    #[serde(default)]
    pub notify: Vec<Hook>,
}

/// `[repository]`: where it is and what it holds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repository {
    /// What nodes fetch. Files for nodes need it; the repository works without.
    #[serde(default, deserialize_with = "base_url")]
    #[schemars(with = "Option<String>", extend("format" = "uri"))]
    pub url: Option<Url>,
    /// A directory, relative to the configuration file, a bucket, or releases.
    #[serde(default = "default_store")]
    #[schemars(extend("default" = "public"))]
    pub store: StoreUrl,
    /// What buckets tell caches.
    #[serde(default)]
    pub cache_control: CacheControl,
    /// What images are built for, where a component does not narrow it.
    #[serde(default = "default_architectures", deserialize_with = "distinct_architectures")]
    pub architectures: Vec<Arch>,
    /// The folder of component files, relative to the configuration file.
    #[serde(default = "default_components")]
    pub components: PathBuf,
    /// Whether what nodes need to follow a component is written beside it.
    #[serde(default = "yes")]
    pub client_files: bool,
    /// Whether people get a page, and what it is called. They do unless this says no; in
    /// releases on GitHub, only where this asks for it.
    #[serde(default)]
    #[schemars(with = "schema::Either<bool, page::Table>")]
    pub page: Page,
}

fn yes() -> bool {
    true
}

/// The beginning of every URL that a client asks for.
fn base_url<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(from)?;
    let bad = |problem: &str| {
        let text = text.escape_debug();
        serde::de::Error::custom(format!(
            "`{text}` {problem}\nhint: such as \"https://files.example.com/\""
        ))
    };
    let url = Url::parse(&text).map_err(|_| bad("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https" | "file") {
        return Err(bad("is nothing that clients fetch from"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("must end with the path"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("must not have a password in it: everybody would read it"));
    }
    Ok(Some(url))
}

fn default_store() -> StoreUrl {
    StoreUrl::Directory(PathBuf::from("public"))
}

fn default_architectures() -> Vec<Arch> {
    vec![Arch::X86_64, Arch::Arm64]
}

fn default_components() -> PathBuf {
    PathBuf::from("components")
}

fn distinct_architectures<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Vec<Arch>, D::Error> {
    let arches = Vec::<Arch>::deserialize(from)?;
    if arches.is_empty() {
        return Err(serde::de::Error::custom("an image needs at least one architecture"));
    }
    let mut distinct = BTreeSet::new();
    match arches.into_iter().find(|arch| !distinct.insert(*arch)) {
        Some(twice) => Err(serde::de::Error::custom(format!("`{twice}` is there twice"))),
        None => Ok(distinct.into_iter().collect()),
    }
}

/// `[limits]`: what a broken or hostile upstream may cost at most.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// The most bytes one download may have.
    pub download: Size,
    /// The most bytes one archive may unpack to.
    pub unpacked: Size,
    /// The most entries one archive may have.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { download: Size(4 << 30), unpacked: Size(8 << 30), entries: 500_000 }
    }
}

/// Reads the text of a `publish.toml`. Pure.
///
/// # Errors
/// What is wrong and where; `file` is only named.
pub fn parse(file: &Path, text: &str) -> Result<Document, ConfigError> {
    let document: Document =
        toml::from_str(text).map_err(|error| ConfigError::from_toml(file, text, &error))?;
    document.network.check().map_err(|message| ConfigError::in_text(file, text, &message))?;
    Ok(document)
}

/// Reads a configuration and its components from disk.
///
/// # Errors
/// A file that cannot be read, or the first thing that is wrong in one.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = read(file)?;
    let mut document = parse(file, &text)?;
    let base = file.parent().unwrap_or(Path::new("")).to_owned();
    check_named(file, &text, &base, &document)?;
    name_releases(file, &text, &mut document.repository)?;
    document.network.relative_to(&base);
    document.report.relative_to(&base);
    let folder = base.join(&document.repository.components);
    let mut files = Vec::new();
    let entries = fs::read_dir(&folder).map_err(|error| {
        ConfigError::new(file, format!("the folder of components, {}: {error}", folder.display()))
            .with_hint("[repository] components names it, relative to this file")
    })?;
    for entry in entries {
        let path = entry.map_err(|error| ConfigError::new(&folder, error.to_string()))?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    // So that of several mistakes it is always the same one that is told.
    files.sort_unstable();
    let mut components = load_components(&files)?;
    components.sort_by(|a, b| a.name.cmp(&b.name));
    check_folders(&components)?;
    let config = Config { file: file.to_owned(), document, components, whole: true, adopt: false };
    check_store(&config, &folder)?;
    check_releases(&config)?;
    Ok(config)
}

/// Where nodes find releases is known without being said, but for a GitHub of one's own.
fn name_releases(file: &Path, text: &str, repository: &mut Repository) -> Result<(), ConfigError> {
    let StoreUrl::Release(release) = &repository.store else { return Ok(()) };
    let there = release.url();
    let is_wrong = |url: &Url| {
        url.host_str() == there.host_str()
            && url.as_str().trim_end_matches('/') != there.as_str().trim_end_matches('/')
    };
    if repository.url.as_ref().is_some_and(is_wrong) {
        let message = format!(
            "[repository] url is not where {release} is given out\nhint: leave it out: it is {there}"
        );
        return Err(ConfigError::in_text(file, text, &message));
    }
    repository.url.get_or_insert(there);
    Ok(())
}

/// Reads components, on all cores where they are many.
fn load_components(files: &[PathBuf]) -> Result<Vec<Arc<Component>>, ConfigError> {
    /// Fewer are not worth a thread.
    const A_THREADS: usize = 64;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = |files: &[PathBuf]| -> Result<Vec<Arc<Component>>, ConfigError> {
        files.iter().map(|file| load_component(file).map(Arc::new)).collect()
    };
    let share = files.len().div_ceil(cores).max(A_THREADS);
    let loaded: Result<Vec<Vec<_>>, _> = std::thread::scope(|scope| {
        let mut shares = files.chunks(share);
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || load(share))).collect();
        let own = std::iter::once_with(|| load(own));
        let others = others.into_iter().map(|other| match other.join() {
            Ok(loaded) => loaded,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        own.chain(others).collect()
    });
    Ok(loaded?.into_iter().flatten().collect())
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let text = || {
        // A pipe or a device would never end, and no configuration is that long.
        let metadata = fs::metadata(file)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if metadata.len() > LONGEST {
            return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
        }
        fs::read_to_string(file)
    };
    text().map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => {
                "`publish init` starts a repository here; --config names another file"
            }
            _ => "it must be a readable text file in UTF-8",
        };
        ConfigError::new(file, error.to_string()).with_hint(hint)
    })
}

/// Files that nothing can be asked or believed without: one that is not there is told of before anybody
/// is asked, and where it is named.
fn check_named(
    file: &Path,
    text: &str,
    base: &Path,
    document: &Document,
) -> Result<(), ConfigError> {
    let ca = document.network.ca.iter().map(|path| ("[network] ca", path));
    let root = document.trust.sigstore_root.iter().map(|path| ("[trust] sigstore-root", path));
    for (what, path) in ca.chain(root) {
        must_be_there(&base.join(path), |problem| {
            let named = path.display();
            let message = format!(
                "{what}: `{named}` {problem}\nhint: the path is relative to the folder of this file"
            );
            ConfigError::in_text(file, text, &message)
        })?;
    }
    Ok(())
}

/// A path to a file, whatever is in it.
fn must_be_there(path: &Path, wrong: impl Fn(String) -> ConfigError) -> Result<(), ConfigError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(wrong("is not a regular file".to_owned())),
        Err(error) => Err(wrong(format!("cannot be read: {error}"))),
    }
}

fn load_component(path: &Path) -> Result<Component, ConfigError> {
    let name: ComponentName =
        path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().parse().map_err(
            |error: crate::name::NameError| {
                ConfigError::new(path, error.to_string())
                    .with_hint("the file's name is the component's name")
            },
        )?;
    let text = read(path)?;
    let mut component = component::parse(name, path, &text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for key in component.assets.iter().filter_map(|asset| asset.trust.key_file()) {
        must_be_there(key, |problem| {
            let named = key.strip_prefix(folder).unwrap_or(key).display();
            let message = format!(
                "[[asset]] signature: `{named}` {problem}\nhint: the path is relative to the folder of this file"
            );
            ConfigError::in_text(path, &text, &message)
        })?;
    }
    if let Some(verity) = &mut component.image.verity {
        verity.load(folder).map_err(|problem| {
            ConfigError::in_text(path, &text, &format!("[image] verity: {problem}"))
        })?;
    }
    let overlay = path.with_extension("");
    component.overlay = overlay.is_dir().then_some(overlay);
    if let (Some(overlay), Some(_)) = (&component.overlay, component.mirrored()) {
        let message = format!("the files in {} would go nowhere", overlay.display());
        return Err(ConfigError::new(path, message)
            .with_hint("files of [source.repository] are published as they are"));
    }
    Ok(component)
}

/// One folder has one component: a client's pattern `a-@v-%a.raw` also matches `a-b-1.0-x86-64.raw`.
fn check_folders(components: &[Arc<Component>]) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for component in components {
        if let Some(other) = seen.insert(&component.folder, &component.name) {
            return Err(ConfigError::new(
                &component.file,
                format!("component `{other}` has the folder `{}` already", component.folder),
            )
            .with_hint(
                "give each component a `path` of its own: clients tell images apart by folder",
            ));
        }
        if let Some(path) = place_of_a_file(&component.folder) {
            return Err(ConfigError::new(
                &component.file,
                format!("the folder `{}` is where a file may be, `{path}`", component.folder),
            )
            .with_hint("give the component another `path`"));
        }
    }
    Ok(())
}

/// Endings of what is published, beside the images of a component or above all of them.
const ENDINGS: [&str; 9] = ["raw", "transfer", "sh", "bu", "ign", "html", "json", "xml", "gpg"];

/// A path above a folder, or its own, that a page, the keyring or another component's file could have.
fn place_of_a_file(folder: &Folder) -> Option<&str> {
    let at_the_root = [INDEX, CATALOG, FEED, KEYRING];
    let mut ends =
        folder.as_str().match_indices('/').map(|(at, _)| at).chain([folder.as_str().len()]);
    ends.find_map(|end| {
        let path = &folder.as_str()[..end];
        let is_taken = match path.rsplit_once('/') {
            None => at_the_root.contains(&path),
            Some((_, name)) => name.rsplit_once('.').is_some_and(|(_, end)| ENDINGS.contains(&end)),
        };
        is_taken.then_some(path)
    })
}

/// Where a path leads that need not be there: along the links of what is there of it.
fn real(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    match there {
        Some((above, there)) => Ok(there.join(path.strip_prefix(above).unwrap_or(Path::new("")))),
        None => Ok(path),
    }
}

/// A web server gives out all that is in the store: the configuration must not be.
fn check_store(config: &Config, components: &Path) -> Result<(), ConfigError> {
    let store = config.store();
    let signing = config.document.signing.iter();
    let signing = signing.flat_map(|s| [Some(&s.key), s.passphrase.as_ref()]).flatten();
    let signing = signing.map(|at| ("signing", at));
    let network = config.document.network.secrets().map(|at| ("network", at));
    let hooks = config.document.notify.iter().map(|hook| ("notify", &hook.url));
    for (section, at) in signing.chain(network).chain(hooks) {
        if let SecretAt::File(file) = at
            && config.serves(&config.folder().join(file))
        {
            let message = format!(
                "[{section}] the secret {} would be in the store, where everybody may read it",
                file.display()
            );
            return Err(ConfigError::new(&config.file, message)
                .with_hint("move it out; if it was ever served, make a new one"));
        }
    }
    for path in [config.file.as_path(), components] {
        if config.serves(path) {
            let message = format!("the store {store} would hold the configuration itself");
            return Err(ConfigError::new(&config.file, message)
                .with_hint("let [repository] store name a folder of its own"));
        }
    }
    Ok(())
}

/// What a folder is called is the tag of its release: one tag has room for one component.
fn check_releases(config: &Config) -> Result<(), ConfigError> {
    let StoreUrl::Release(release) = &config.document.repository.store else { return Ok(()) };
    for component in &config.components {
        let folder = &component.folder;
        let tag = release.tag_of(folder.as_str());
        if tag.is_some_and(|tag| [release.root(), release.state()].contains(&tag)) {
            let message =
                format!("`{folder}` is the name of a release of publish's own in {release}");
            return Err(ConfigError::new(&component.file, message)
                .with_hint("give the component another `path`"));
        }
        if let Tag::One(tag) = &release.tag
            && tag != folder.as_str()
        {
            let message = format!(
                "{release} is one release, which is the folder `{tag}`, and the folder here is `{folder}`"
            );
            return Err(ConfigError::new(&component.file, message).with_hint(format!(
                "`path = \"{tag}\"` makes it this component's; `github-release://{}/{{component}}` is a release for each",
                release.repo
            )));
        }
    }
    Ok(())
}

impl Config {
    /// Where people find what is in no folder, such as the keyring; `None` if nobody said where the
    /// repository is.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<String> {
        let url = self.document.repository.url.as_ref()?;
        let slash = if url.path().ends_with('/') { "" } else { "/" };
        // A release has no folder above it.
        let root = match &self.document.repository.store {
            StoreUrl::Release(release) => {
                let root = release.root();
                let below = match &release.tag {
                    Tag::Each(before) => root.strip_prefix(before.as_str()).unwrap_or(&root),
                    Tag::One(_) => &root,
                };
                format!("{below}/")
            }
            StoreUrl::Directory(_) | StoreUrl::Bucket(_) => String::new(),
        };
        Some(format!("{url}{slash}{root}{name}"))
    }

    /// The folder of the configuration file: what its paths are relative to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Whether a path is in the store, if that is a directory: a web server gives out all that is there.
    #[must_use]
    pub fn serves(&self, path: &Path) -> bool {
        let store = self.store();
        let inside = store.directory().and_then(|directory| real(directory).ok());
        inside.is_some_and(|inside| real(path).is_ok_and(|path| path.starts_with(inside)))
    }

    /// Where the repository is; a directory is relative to the current folder.
    #[must_use]
    pub fn store(&self) -> StoreUrl {
        self.document.repository.store.relative_to(self.folder())
    }

    /// Keeps only the components of these names; all if there are none.
    ///
    /// # Errors
    /// A name that there is no component of.
    pub fn only(mut self, names: &[ComponentName]) -> Result<Self, ConfigError> {
        for name in names {
            self.component(name)?;
        }
        if !names.is_empty() {
            self.components.retain(|component| names.contains(&component.name));
            self.whole = false;
        }
        Ok(self)
    }

    /// The component of this name.
    ///
    /// # Errors
    /// There is none; the hint lists those there are.
    pub fn component(&self, name: &ComponentName) -> Result<&Arc<Component>, ConfigError> {
        self.components.iter().find(|component| component.name == *name).ok_or_else(|| {
            let known =
                self.components.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let error = ConfigError::new(&self.file, format!("there is no component `{name}`"));
            error.asked_for().with_hint(if known.is_empty() {
                "there is none at all".to_owned()
            } else {
                format!("there are: {known}")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn error(text: &str) -> String {
        parse(Path::new("publish.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_foreign_architecture_gets_a_caret_and_a_hint() {
        insta::assert_snapshot!(error("[repository]\narchitectures = [\"x86-64\", \"amd64\"]\n"), @r#"
        publish.toml:2:29: unknown architecture `amd64`
            |
          2 | architectures = ["x86-64", "amd64"]
            |                             ^^^^^
        "#);
    }

    #[test]
    fn a_typo_in_a_key_gets_a_caret() {
        insta::assert_snapshot!(error("[repository]\nstroe = \"public\"\n"), @r#"
        publish.toml:2:1: unknown field `stroe`, expected one of `url`, `store`, `cache-control`, `architectures`, `components`, `client-files`, `page`
            |
          2 | stroe = "public"
            | ^^^^^
        "#);
    }

    #[test]
    fn what_this_version_cannot_do_is_refused() {
        for text in [
            "[repository]\nstore = \"ftp://e.org/\"\n",
            "[repository.cache-control]\nimages = \"a\\nb\"\n",
            "[repository]\n[network]\nconcurrency = 0\n",
            "[repository]\n[network]\ntimeout = \"soon\"\n",
            "[repository]\n[network]\nrewrite = { \"example.com\" = \"x\" }\n",
            "[repository]\n[limits]\nunpacked = \"4\"\n",
            "[repository]\narchitectures = []\n",
            "[repository]\narchitectures = [\"arm64\", \"arm64\"]\n",
            "[repository]\nurl = \"ftp://e.org/\"\n",
            "[repository]\nurl = \"https://e.org/?q\"\n",
            "[repository]\nurl = \"https://u:p@e.org/\"\n",
            "",
        ] {
            assert!(parse(Path::new("x"), text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn sizes_and_times_have_units() {
        let text = "[repository]\n[limits]\nunpacked = \"4GiB\"\n[network]\ntimeout = \"2d\"\n";
        let document = parse(Path::new("x"), text).unwrap();
        assert_eq!(document.limits.unpacked.bytes(), 4 << 30);
        assert_eq!(document.network.timeout, Duration::from_secs(2 * 86400));
    }
}
