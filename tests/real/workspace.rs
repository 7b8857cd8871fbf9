//! A folder as a user has it: `publish.toml`, components, upstream's releases, the repository; and the
//! program run in it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::upstream::{self, FOREIGN, NATIVE};

/// What an image claims about the system it fits: lines of a component's `[extension]`.
pub const ANY: &str = "id = \"_any\"\nreload = true";

/// See [`ANY`].
pub const FLATCAR: &str = "id = \"flatcar\"\nsysext-level = \"1.0\"";

/// The program itself.
pub fn binary() -> PathBuf {
    std::env::var_os("PUBLISH_BIN")
        .unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_publish")))
        .into()
}

/// A repository in the making.
pub struct Workspace {
    folder: TempDir,
    env: Vec<(&'static str, String)>,
}

impl Workspace {
    /// An unsigned repository without components.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(
            folder.path().join("publish.toml"),
            format!(
                r#"[repository]
url = "http://127.0.0.1/"
store = "public"
architectures = ["{NATIVE}", "{FOREIGN}"]
"#
            ),
        )
        .unwrap();
        fs::create_dir(folder.path().join("components")).unwrap();
        fs::create_dir(folder.path().join("releases")).unwrap();
        Self { folder, env: Vec::new() }
    }

    /// Publishes to releases of `o/r` on this GitHub instead of into a folder.
    pub fn on_github(&mut self, api: &str, site: &str) {
        let path = self.folder.path().join("publish.toml");
        let text = String::from_utf8(read(&path)).expect("a text");
        let text = text
            .replace("http://127.0.0.1/", &format!("{site}/o/r/releases/download/"))
            .replace("\"public\"", "\"github-release://o/r/{component}\"");
        fs::write(path, text).unwrap();
        self.env.push(("GITHUB_API_URL", api.to_owned()));
        self.env.push(("GITHUB_TOKEN", "ghs_test".to_owned()));
    }

    /// Says who signs: the lines of `[signing]`.
    pub fn sign(&self, lines: &str) {
        let path = self.folder.path().join("publish.toml");
        let text = String::from_utf8(read(&path)).expect("a text");
        let base = text.split("[signing]").next().expect("a beginning");
        fs::write(path, format!("{base}[signing]\n{lines}\n")).unwrap();
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Runs `publish` with these arguments; whether it succeeded, and all that it said.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let run = self.publish().args(arguments).output().expect("publish runs");
        let said = [run.stdout, run.stderr].concat();
        (run.status.success(), String::from_utf8(said).expect("a text"))
    }

    /// Adds the component `name`, which ships upstream's service; `extension` is [`ANY`] or the like.
    pub fn component(&self, name: &str, extension: &str) {
        let text = format!(
            r#"description = "Greets"

[source.directory]
path = "../releases"
match = "greeter_{{version}}_{{arch}}.tar.gz"

[arch]
{NATIVE} = "{}"
{FOREIGN} = "{}"

[[asset]]
name = "greeter_{{version}}_{{arch}}.tar.gz"
strip-components = 1

[asset.files]
"usr/bin/" = ["greeter"]
"usr/lib/systemd/system/" = ["greeter.service"]
"usr/share/greeter/" = ["share/greeter.conf", "share/blocks", "share/same-first-block", "share/empty"]

[files]
"usr/bin/greet" = {{ symlink = "greeter" }}
"usr/share/greeter/version" = {{ text = "{{version}}\n" }}

[services]
enable = ["greeter.service"]

[extension]
{extension}
"#,
            upstream::word(NATIVE),
            upstream::word(FOREIGN),
        );
        fs::write(self.folder.path().join("components").join(format!("{name}.toml")), text)
            .unwrap();
    }

    /// Adds a component that ships `greeter.conf` of upstream's service, with `rest` at its end.
    pub fn configuration(&self, name: &str, folder: &str, rest: &str) {
        let text = format!(
            r#"[source.directory]
path = "../releases"
match = "greeter_{{version}}_{{arch}}.tar.gz"

[arch]
{NATIVE} = "{}"

[[asset]]
name = "greeter_{{version}}_{{arch}}.tar.gz"
strip-components = 1

[asset.files]
"{folder}/" = ["share/greeter.conf"]

{rest}
"#,
            upstream::word(NATIVE),
        );
        fs::write(self.folder.path().join("components").join(format!("{name}.toml")), text)
            .unwrap();
    }

    /// Upstream releases `version`.
    pub fn release(&self, version: &str) {
        upstream::release(&self.releases(), version);
    }

    /// The folder that upstream drops its releases into.
    pub fn releases(&self) -> PathBuf {
        self.folder.path().join("releases")
    }

    /// The repository.
    pub fn public(&self) -> PathBuf {
        self.folder.path().join("public")
    }

    /// The image of `version` and `arch` in the repository.
    pub fn image(&self, name: &str, version: &str, arch: &str) -> PathBuf {
        self.public().join(name).join(format!("{name}-{version}-{arch}.raw"))
    }

    /// `publish`, to be given its arguments.
    pub fn publish(&self) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.folder.path()).env_remove("PUBLISH_CONFIG");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `publish sync`, which must succeed.
    pub fn sync(&self) {
        let run = self.publish().arg("sync").output().expect("publish runs");
        assert!(
            run.status.success(),
            "publish sync: {}\n{}{}",
            run.status,
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr),
        );
    }

    /// Upstream releases `version`, and the repository follows.
    pub fn publish_version(&self, version: &str) {
        self.release(version);
        self.sync();
    }
}

/// The bytes of a file, or a failure that names it.
pub fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
