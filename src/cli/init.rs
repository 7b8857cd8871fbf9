//! `publish init`: a repository that works, to start from.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::schema::What;
use super::{Context, Ended, print, print_json, program};

/// A release of the example, under the name it gets.
macro_rules! release {
    ($name:literal) => {
        (
            concat!("components/pulse-releases/", $name),
            include_bytes!(concat!("../../config/example/pulse-releases/", $name)),
        )
    };
}

/// The example of this project's own `config/`, under the names it gets.
const FILES: [(&str, &[u8]); 10] = [
    ("components/pulse.toml", include_bytes!("../../config/example/pulse.toml")),
    (
        "components/pulse/usr/lib/systemd/system/pulse.service.d/10-harden.conf",
        include_bytes!(
            "../../config/example/pulse/usr/lib/systemd/system/pulse.service.d/10-harden.conf"
        ),
    ),
    release!("pulse_1.0.0_amd64.tgz"),
    release!("pulse_1.0.0_amd64.tgz.sha256"),
    release!("pulse_1.0.0_arm64.tgz"),
    release!("pulse_1.0.0_arm64.tgz.sha256"),
    release!("pulse_1.1.0_amd64.tgz"),
    release!("pulse_1.1.0_amd64.tgz.sha256"),
    release!("pulse_1.1.0_arm64.tgz"),
    release!("pulse_1.1.0_arm64.tgz.sha256"),
];

/// By these lines editors know what may be written in a file. There is no address that they could name.
const CONFIG_SCHEMA: &str = "#:schema schema/repository.json\n";
const COMPONENT_SCHEMA: &str = "#:schema ../schema/component.json\n";

const CONFIG: &str = r#"# The repository. `publish sync` brings it up to date; `publish plan` shows what it would do.

[repository]
url = "http://127.0.0.1:8080/"             # what nodes fetch: change it to your web server's address
store = "public"                           # a directory, relative to this file
architectures = ["x86-64", "arm64"]        # systemd's names
components = "components"                  # one file a component

# [network]
# concurrency = 8                          # polls, and builds with their downloads, at once
# timeout = "30s"                          # a server that is silent for longer counts as down
# rewrite = { "https://github.com/" = "https://mirror.example.com/github/" }

# [limits]                                 # what a broken or hostile upstream may cost at most
# download = "4GiB"
# unpacked = "8GiB"
"#;

/// The workflows that keep a repository up to date on GitHub, as this project has them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Workflow {
    // One job does it all.
    Sync,
    // Each image is built in a job of its own.
    Matrix,
}

/// Where GitHub looks for workflows.
const WORKFLOW: &str = ".github/workflows/publish.yml";

/// The line of a workflow that names the action: of this project, its own.
const OURS: &str = "uses: ./";

impl Workflow {
    /// Its text for another repository.
    fn text(self) -> String {
        let ours = match self {
            Self::Sync => include_str!("../../.github/workflows/publish.yml"),
            Self::Matrix => include_str!("../../config/actions/publish-matrix.yml"),
        };
        let uses = match action() {
            Some((repository, commit)) => {
                format!("uses: {repository}@{commit} # v{}", env!("CARGO_PKG_VERSION"))
            }
            None => "uses: OWNER/publish@COMMIT".to_owned(),
        };
        ours.replace(OURS, &uses)
    }
}

/// The repository and the commit that a workflow of GitHub's built this program from: its action is there.
fn action() -> Option<(&'static str, &'static str)> {
    option_env!("GITHUB_REPOSITORY").zip(option_env!("GITHUB_SHA"))
}

pub(super) fn run(
    context: &Context,
    directory: &Path,
    workflow: Option<Workflow>,
) -> anyhow::Result<Ended> {
    let workflow = workflow.map(|workflow| (WORKFLOW, workflow.text().into_bytes()));
    // Whoever has a repository already wants the workflow alone.
    let has_one = workflow.is_some()
        && ["publish.toml", "config/publish.toml"].iter().any(|name| directory.join(name).exists());
    let has_workflow = workflow.is_some();
    let example = example().into_iter().filter(|_| !has_one);
    let files: Vec<(&str, Vec<u8>)> = example.chain(workflow).collect();
    // All or nothing: nobody wants half an example between his own files.
    if let Some((taken, _)) = files.iter().find(|(name, _)| directory.join(name).exists()) {
        bail!(
            "{} is there already\nhint: nothing was written; give another folder",
            directory.join(taken).display()
        );
    }
    for (name, content) in &files {
        let path = directory.join(name);
        write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if context.json {
        let names: Vec<_> = files.iter().map(|(name, _)| directory.join(name)).collect();
        print_json("init", &serde_json::json!({ "files": names }))?;
        return Ok(Ended::Well);
    }
    let what = if has_one { "wrote a workflow for the" } else { "started a" };
    let mut out = format!("{what} repository in {}\n\n", directory.display());
    let example = [
        ("publish.toml", "where it is published, and for which architectures"),
        ("components/pulse.toml", "an example component"),
        ("components/pulse-releases/", "the releases it follows: it works offline"),
        ("schema/", "what may be written in the two, for editors"),
    ];
    let of_it = has_workflow.then_some((WORKFLOW, "what keeps it up to date on GitHub"));
    for (name, purpose) in example.into_iter().filter(|_| !has_one).chain(of_it) {
        let _ = writeln!(out, "  {name:29}  {purpose}");
    }
    if has_workflow && action().is_none() {
        let _ = writeln!(
            out,
            "\nthis program was not built by a release: in {WORKFLOW}, put\nthe repository and the commit of its action in the place of OWNER/publish@COMMIT"
        );
    }
    let program = program();
    let at = if directory == Path::new(".") {
        String::new()
    } else {
        format!("cd {} && ", directory.display())
    };
    let _ = writeln!(out, "\nnext\n  {at}{program} sync");
    print(&out)?;
    Ok(Ended::Well)
}

/// Every file of the example, and what is in it.
fn example() -> Vec<(&'static str, Vec<u8>)> {
    let config = [CONFIG_SCHEMA, CONFIG].concat().into_bytes();
    let example = FILES.into_iter().map(|(name, content)| {
        let is_component = Path::new(name).extension().is_some_and(|ending| ending == "toml");
        let first = if is_component { COMPONENT_SCHEMA } else { "" };
        (name, [first.as_bytes(), content].concat())
    });
    let schemas = [
        ("schema/repository.json", What::Repository.text().into_bytes()),
        ("schema/component.json", What::Component.text().into_bytes()),
    ];
    [("publish.toml", config)].into_iter().chain(example).chain(schemas).collect()
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create_new(path)?.write_all(content)
}
