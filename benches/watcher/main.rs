//! What it costs to follow a thousand upstreams that have nothing new, as ratios to nvchecker, which
//! polls the same upstreams in the same run.
//!
//! ```text
//! cargo bench --bench watcher                        five pairs of a thousand components
//! cargo bench --bench watcher -- components=100 pairs=9
//! ```
//!
//! The upstreams are servers in this process, on several addresses of the loopback, that answer 20 ms
//! after they were asked: GitHub's API (a fifth of the components), and pages on six hosts. A tenth of
//! the components follow a page that another one follows. Everything is published already, so
//! `publish plan` finds nothing to do. nvchecker runs as it comes, with its 20 requests at once; it
//! knows no validators, so it gets the listings in full. Wall and processor times are medians of
//! alternating pairs, `peak` is the resident memory.
//!
//! Needs the package `time` and nvchecker 2.x (`pip install nvchecker`), in the PATH or named by
//! `$NVCHECKER`.

#[expect(dead_code, reason = "nobody asks for sizes here")]
#[path = "../images/measure.rs"]
mod measure;
#[path = "../repository/table.rs"]
mod table;
mod upstream;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use measure::Cost;
use table::{alternate, compare};
use upstream::{Asked, Upstreams};

/// The most memory that a round may take, in MiB.
const MEMORY: f64 = 100.0;

/// What a component follows.
struct Followed {
    /// As publish is told.
    rule: String,
    url: String,
    /// As nvchecker is told.
    pattern: &'static str,
}

/// The upstream of a component.
fn followed(number: usize, upstreams: &Upstreams) -> Followed {
    if number.is_multiple_of(5) {
        let repo = format!("owner/repo{number}");
        return Followed {
            rule: format!(
                "[source.github]\nrepo = \"{repo}\"\n[versions]\ntag = \"v{{version}}\"\nnewest = 1\n"
            ),
            url: format!("{}/repos/{repo}/releases?per_page=100", upstreams.api()),
            pattern: r#""tag_name":"v([0-9.]+)""#,
        };
    }
    // The last digit 1 follows what its neighbour follows.
    let page = if number % 10 == 1 { number + 1 } else { number };
    let url = upstreams.page(page);
    Followed {
        rule: format!(
            "[source.http]\nurl = \"{url}\"\nmatch = 'tool-(?<version>[0-9.]+)\\.tgz'\n[versions]\nnewest = 1\n"
        ),
        url,
        pattern: r"tool-([0-9.]+)\.tgz",
    }
}

/// A folder with a configuration for each of the two.
struct Project {
    folder: PathBuf,
    api: String,
    nvchecker: PathBuf,
}

impl Project {
    fn new(folder: &Path, components: usize, upstreams: &Upstreams) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("components"))?;
        fs::write(
            folder.join("publish.toml"),
            "[repository]\nstore = \"public\"\narchitectures = [\"x86-64\"]\n",
        )?;
        let mut theirs = "[__config__]\noldver = \"old.json\"\nnewver = \"new.json\"\n".to_owned();
        for number in 0..components {
            let Followed { rule, url, pattern } = followed(number, upstreams);
            let files = "[files]\n\"usr/share/tool/version\" = { text = \"{version}\\n\" }\n";
            let file = folder.join(format!("components/tool{number:04}.toml"));
            fs::write(file, format!("{rule}{files}"))?;
            write!(
                theirs,
                "[tool{number:04}]\nsource = \"regex\"\nurl = \"{url}\"\nregex = '{pattern}'\n"
            )?;
        }
        fs::write(folder.join("nvchecker.toml"), theirs)?;
        let nvchecker = std::env::var_os("NVCHECKER").map_or("nvchecker".into(), PathBuf::from);
        Ok(Self { folder: folder.to_owned(), api: upstreams.api(), nvchecker })
    }

    fn publish(&self, command: &str) -> Result<Cost> {
        let api = format!("GITHUB_API_URL={}", self.api);
        let program = env!("CARGO_BIN_EXE_publish");
        self.run(&["env", "-u", "GITHUB_TOKEN", "-u", "GH_TOKEN", &api, program, "-q", command])
    }

    fn nvchecker(&self) -> Result<Cost> {
        let program = self.nvchecker.to_str().context("a path in UTF-8")?;
        self.run(&[program, "-c", "nvchecker.toml", "-l", "error"])
    }

    fn run(&self, command: &[&str]) -> Result<Cost> {
        measure::run(command, &self.folder, &self.folder.join("publish.toml"))
    }
}

fn main() -> Result<()> {
    let (mut components, mut pairs) = (1000, 5);
    // Cargo itself adds `--bench`.
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        if let Some(number) = argument.strip_prefix("components=") {
            components = number.parse().context("components=N")?;
        } else if let Some(number) = argument.strip_prefix("pairs=") {
            pairs = number.parse().context("pairs=N")?;
        } else {
            anyhow::bail!("no such argument: {argument}");
        }
    }
    let upstreams = Upstreams::start()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-watcher");
    let project = Project::new(&folder, components, &upstreams)?;
    let distinct: std::collections::BTreeSet<_> =
        (0..components).map(|number| followed(number, &upstreams).url).collect();

    let first = project.publish("sync").context("the first sync")?;
    let Asked { requests, unchanged } = upstreams.asked();
    println!(
        "{components} components, {} addresses: the first sync took {:.1} s, {requests} requests ({unchanged} unchanged), peak {:.0} MiB",
        distinct.len(),
        first.wall,
        first.peak,
    );
    project.nvchecker()?;
    upstreams.asked();

    let mut requests = 0;
    let (ours, theirs) = alternate(
        pairs,
        |_| {
            let cost = project.publish("plan")?;
            let asked = upstreams.asked();
            ensure!(
                asked.requests == distinct.len() && asked.unchanged == distinct.len(),
                "{} addresses, but {} requests, {} unchanged",
                distinct.len(),
                asked.requests,
                asked.unchanged
            );
            Ok(cost)
        },
        |_| {
            let cost = project.nvchecker()?;
            requests = requests.max(upstreams.asked().requests);
            Ok(cost)
        },
    )?;
    compare("plan / nvchecker, nothing new", &ours, &theirs, Some(0.2));
    let peak = ours.iter().map(|cost| cost.peak).fold(0.0, f64::max);
    let over = if peak > MEMORY { "!" } else { "" };
    println!("requests {}/{requests}, largest peak {peak:.0} MiB ≤{MEMORY}{over}", distinct.len());
    fs::remove_dir_all(&folder)?;
    Ok(())
}
