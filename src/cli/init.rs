//! `publish init`: a repository that works, to start from.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

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

pub(super) fn run(context: &Context, directory: &Path) -> anyhow::Result<Ended> {
    let files: Vec<(&str, &[u8])> =
        [("publish.toml", CONFIG.as_bytes())].into_iter().chain(FILES).collect();
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
    let mut out = format!("started a repository in {}\n\n", directory.display());
    for (name, purpose) in [
        ("publish.toml", "where it is published, and for which architectures"),
        ("components/pulse.toml", "an example component"),
        ("components/pulse-releases/", "the releases it follows: it works offline"),
    ] {
        let _ = writeln!(out, "  {name:26}  {purpose}");
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

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create_new(path)?.write_all(content)
}
