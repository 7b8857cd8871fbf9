//! `[build]` and `[test]`: a command that makes what is in an image, and one that tries it.
//!
//! Owns how they are written. Knows nothing of how they are run.

use std::time::Duration;

use regex::Regex;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::quantity;
use super::source::OwnerRepo;
use crate::fetch::oci::Reference;

/// `[build]`: what makes the content of an image, where upstream has none that is ready.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "RawBuild")]
#[schemars(into = "RawBuild")]
pub struct BuildRule {
    /// What makes it.
    pub by: Maker,
    /// How long that may take.
    pub timeout: Duration,
}

/// What makes the content of an image.
#[derive(Debug, Clone)]
pub enum Maker {
    /// A command.
    Command(CommandRule),
    /// A workflow on GitHub.
    Workflow(WorkflowRule),
}

/// A command that makes the content of an image.
#[derive(Debug, Clone)]
pub struct CommandRule {
    /// The program and its arguments; no shell reads them.
    pub command: Words,
    /// The image whose programs it runs with; without one it runs on this machine.
    pub container: Option<Container>,
    /// What runs the container; left out, what there is.
    pub engine: Option<Engine>,
    /// Whether it may use the network.
    pub network: bool,
    /// What of our own environment it is given besides what every command gets.
    pub env: Vec<Variable>,
}

/// A workflow that makes the content of an image.
#[derive(Debug, Clone)]
pub struct WorkflowRule {
    /// Whose it is.
    pub repo: OwnerRepo,
    /// The name of its file.
    pub file: String,
    /// The branch or tag that it runs on.
    pub git_ref: String,
    /// The artifact that counts; without a name the only one.
    pub artifact: Option<String>,
}

impl WorkflowRule {
    /// How people call it: `OWNER/REPO/workflow.yml`.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}/{}", self.repo, self.file)
    }
}

/// `[build]` as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawBuild {
    /// A program and its arguments; no shell reads them.
    command: Option<Words>,
    /// The image whose programs it runs with; without one it runs on this machine.
    container: Option<Container>,
    /// What runs the container; left out, what there is, podman first.
    engine: Option<Engine>,
    /// Whether the command may use the network.
    #[serde(default)]
    network: bool,
    /// Variables of our own environment that the command is given too.
    #[serde(default)]
    env: Vec<Variable>,
    /// A workflow on GitHub that makes it, in the place of a command: `OWNER/REPO/workflow.yml`.
    dispatch: Option<Workflow>,
    /// The branch or tag that the workflow runs on.
    #[serde(rename = "ref")]
    #[schemars(extend("default" = "main"))]
    git_ref: Option<Name>,
    /// The artifact of the run that counts; without a name the only one.
    artifact: Option<Name>,
    /// How long it may take.
    #[serde(default = "an_hour", deserialize_with = "quantity::duration")]
    #[schemars(with = "quantity::Time", extend("default" = "1h"))]
    timeout: Duration,
}

impl TryFrom<RawBuild> for BuildRule {
    type Error = String;
    fn try_from(raw: RawBuild) -> Result<Self, String> {
        let RawBuild {
            command,
            container,
            engine,
            network,
            env,
            dispatch,
            git_ref,
            artifact,
            timeout,
        } = raw;
        let of_commands = container.is_some() || engine.is_some() || network || !env.is_empty();
        let by = match (command, dispatch) {
            (Some(_), None) if git_ref.is_some() || artifact.is_some() => {
                return Err("`ref` and `artifact` are a workflow's\nhint: they go with `dispatch`".to_owned());
            }
            (Some(_), None) if engine.is_some() && container.is_none() => {
                return Err("`engine` has no container to run\nhint: add container = \"docker.io/library/alpine:3.22\", or leave it out".to_owned());
            }
            (Some(command), None) => {
                Maker::Command(CommandRule { command, container, engine, network, env })
            }
            (None, Some(_)) if of_commands => {
                return Err("`container`, `engine`, `network` and `env` are a command's\nhint: the workflow says where it runs".to_owned());
            }
            (None, Some(Workflow { repo, file })) => Maker::Workflow(WorkflowRule {
                repo,
                file,
                git_ref: git_ref.map_or_else(|| "main".to_owned(), |name| name.0),
                artifact: artifact.map(|name| name.0),
            }),
            _ => return Err("[build] has one of `command` and `dispatch`\nhint: command = [\"./build.sh\"], or dispatch = \"OWNER/REPO/workflow.yml\"".to_owned()),
        };
        Ok(Self { by, timeout })
    }
}

/// `OWNER/REPO/workflow.yml`
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = r"^[^/]+/[^/]+/[A-Za-z0-9._-]+\.ya?ml$", "examples" = ["OWNER/REPO/workflow.yml"]))]
struct Workflow {
    repo: OwnerRepo,
    file: String,
}

impl TryFrom<String> for Workflow {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let parts = text.rsplit_once('/').and_then(|(repo, file)| {
            let is_file = [".yml", ".yaml"].iter().any(|end| file.ends_with(end));
            let repo = OwnerRepo::try_from(repo.to_owned()).ok()?;
            (is_file && file.chars().all(legal)).then(|| Self { repo, file: file.to_owned() })
        });
        parts.ok_or_else(|| {
            format!(
                "`{}` is not OWNER/REPO/workflow.yml\nhint: the file's name in .github/workflows of that repository",
                text.escape_debug()
            )
        })
    }
}

/// A name that somebody on GitHub gave.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        if name.is_empty() || name.len() > 255 || name.contains(char::is_control) {
            return Err(format!("`{}` is no name", name.escape_debug()));
        }
        Ok(Self(name))
    }
}

impl BuildRule {
    /// Whether it is given assets as they are.
    #[must_use]
    pub fn takes_assets(&self) -> bool {
        matches!(self.by, Maker::Command(_))
    }

    /// How people call it: `./build.sh in docker.io/library/alpine:3.22`.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.by {
            Maker::Command(rule) => rule.shown(),
            Maker::Workflow(rule) => rule.shown(),
        }
    }

    /// What people call that which comes of it.
    #[must_use]
    pub fn product(&self) -> String {
        match &self.by {
            Maker::Command(rule) => rule.product(),
            Maker::Workflow(rule) => format!("what {} makes", rule.shown()),
        }
    }
}

impl CommandRule {
    /// As [`BuildRule::shown`].
    #[must_use]
    pub fn shown(&self) -> String {
        let program = self.command.program().escape_debug();
        match &self.container {
            Some(container) => format!("{program} in {}", container.as_str()),
            None => program.to_string(),
        }
    }

    /// As [`BuildRule::product`].
    #[must_use]
    pub fn product(&self) -> String {
        format!("what {} makes", self.command.program().escape_debug())
    }
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Podman.
    Podman,
    /// Docker.
    Docker,
}

impl Engine {
    /// The program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }
}

/// `[test]`: a program of the image that is run to try it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestRule {
    /// The program, as a path in the image, and its arguments.
    #[serde(deserialize_with = "of_an_image")]
    #[schemars(with = "Words")]
    pub run: Words,
    /// What must be in what it prints: a regular expression. Left out, that it ends well is enough.
    pub expect: Option<Expected>,
    /// How long it may take.
    #[serde(default = "a_minute", deserialize_with = "quantity::duration")]
    #[schemars(with = "quantity::Time", extend("default" = "1m"))]
    pub timeout: Duration,
}

/// Words whose first is the plain path of a program in an image, or the name of one.
fn of_an_image<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
    let words = Words::deserialize(deserializer)?;
    let program = words.program();
    let path = program.strip_prefix('/').unwrap_or(program);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(D::Error::custom(format!(
            "`{}` is not the plain path of a program in the image\nhint: without `.`, `..` and doubled slashes, such as \"usr/bin/x\"",
            program.escape_debug()
        )));
    }
    Ok(words)
}

fn an_hour() -> Duration {
    Duration::from_secs(60 * 60)
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>")]
#[schemars(into = "Vec<String>", extend("minItems" = 1, "examples" = [["./build.sh"]]))]
pub struct Words(Vec<String>);

impl Words {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.0[0]
    }

    /// What it is given.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.0[1..]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl TryFrom<Vec<String>> for Words {
    type Error = String;
    fn try_from(words: Vec<String>) -> Result<Self, String> {
        if words.first().is_none_or(String::is_empty) {
            return Err("it names no program\nhint: such as [\"./build.sh\"]".to_owned());
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err("a word of it has a NUL in it".to_owned());
        }
        Ok(Self(words))
    }
}

/// A container image, as container tools write it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("examples" = ["docker.io/library/alpine:3.22"]))]
pub struct Container(String);

impl Container {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Container {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<Reference>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(format!(
                "`{}` is not an image in a registry\nhint: with its registry and its tag or digest, such as \"docker.io/library/alpine:3.22\"",
                text.escape_debug()
            )),
        }
    }
}

/// The name of a variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^[A-Za-z_][A-Za-z0-9_]*$", "examples" = ["GOPROXY"]))]
pub struct Variable(String);

impl Variable {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Variable {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| !c.is_ascii_digit());
        if !legal {
            return Err(format!(
                "`{}` is not the name of a variable\nhint: only its name, such as \"GOPROXY\"; the value comes from the environment",
                name.escape_debug()
            ));
        }
        if name.starts_with("PUBLISH_") {
            return Err(format!("`{name}` is for `publish` to set\nhint: leave it out"));
        }
        Ok(Self(name))
    }
}

/// What must be in what a program prints.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("format" = "regex"))]
pub struct Expected(Regex);

impl Expected {
    /// Whether it is there.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for Expected {
    type Error = String;
    fn try_from(pattern: String) -> Result<Self, String> {
        Regex::new(&pattern).map(Self).map_err(|error| format!("no regular expression: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BuildRule, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_left_out_is_the_safest() {
        let rule = read("command = [\"./build.sh\", \"two words\"]").unwrap();
        assert_eq!(rule.timeout, Duration::from_secs(3600));
        let Maker::Command(rule) = rule.by else { panic!("a command") };
        assert_eq!((rule.command.program(), rule.command.arguments().len()), ("./build.sh", 1));
        assert!(!rule.network && rule.env.is_empty() && rule.container.is_none());
        let Maker::Workflow(rule) = read("dispatch = \"o/r/image.yml\"").unwrap().by else {
            panic!("a workflow")
        };
        assert_eq!((rule.git_ref.as_str(), rule.artifact), ("main", None));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (text, part) in [
            ("", "one of `command` and `dispatch`"),
            ("command = [\"a\"]\ndispatch = \"o/r/w.yml\"", "one of `command` and `dispatch`"),
            ("dispatch = \"o/r\"", "not OWNER/REPO/workflow.yml"),
            ("dispatch = \"o/r/../w.yml\"", "not OWNER/REPO/workflow.yml"),
            ("dispatch = \"o/r/w.yml\"\nnetwork = true", "are a command's"),
            ("command = [\"a\"]\nref = \"x\"", "are a workflow's"),
            ("dispatch = \"o/r/w.yml\"\nref = \"\"", "no name"),
            ("command = []", "names no program"),
            ("command = [\"\"]", "names no program"),
            ("command = [\"a\\u0000\"]", "NUL"),
            ("command = \"./build.sh\"", "expected a sequence"),
            ("command = [\"a\"]\ncontainer = \"alpine\"", "with its registry"),
            ("command = [\"a\"]\ncontainer = \"--privileged\"", "with its registry"),
            ("command = [\"a\"]\nengine = \"podman\"", "no container to run"),
            ("command = [\"a\"]\nengine = \"lxc\"", "unknown variant `lxc`"),
            ("command = [\"a\"]\nenv = [\"A=b\"]", "only its name"),
            ("command = [\"a\"]\nenv = [\"PUBLISH_ROOT\"]", "for `publish` to set"),
            ("command = [\"a\"]\ntimeout = 5", "invalid type"),
            ("comand = [\"a\"]", "unknown field `comand`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let test = |text| toml::from_str::<TestRule>(text).map(drop).unwrap_err().to_string();
        assert!(test("run = [\"a\"]\nexpect = \"(\"").contains("no regular expression"));
        assert!(test("expect = \"a\"").contains("missing field `run`"));
    }
}
