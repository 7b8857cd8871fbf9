//! The command line: what a user types, and which exit code a command ends with.
//!
//! Owns arguments, output on stdout and exit codes. The work is the library's. One file a command
//! that does more than one call.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};
use serde::Serialize;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::child;
use crate::config::{self, Config, ConfigError};
use crate::image::inspect::InspectError;
use crate::name::{Arch, ComponentName, Folder};
use crate::report::{self, Log, Progress, Told, runner, say};
use crate::repository::yank::YankError;
use crate::store::StoreError;
use crate::trust::lockfile::LockfileError;
use crate::version::Version;

mod actions;
mod build;
mod check;
mod client;
mod init;
mod inspect;
mod key;
mod matrix;
mod plan;
mod prune;
mod retire;
mod schema;
mod serve;
mod shell;
mod staged;
mod status;
mod sync;
mod verify;
mod watch;
mod yank;

/// Turn upstream releases into a static repository of systemd-sysext images
/// that machines follow with systemd-sysupdate.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 80,
    after_help = "Exit codes: 0 done, or nothing to do; 1 unexpected; 2 usage; 3 some components\n\
                  failed or are behind, the rest is done; 4 bad configuration; 5 another\n\
                  publisher holds the repository."
)]
pub struct Args {
    /// The configuration [default: publish.toml, then config/publish.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PUBLISH_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    only: Only,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Say more; -vv for every request
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// How stderr is written: for people, or a JSON document a line
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_default_value = true
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// Before the command or after it; what is given in both places counts together.
#[derive(Debug, clap::Args)]
struct Only {
    /// Only this component; may be given again
    #[arg(long, value_name = "NAME", value_delimiter = ',', num_args = 1)]
    only: Vec<ComponentName>,
}

/// How stderr is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the repository up to date: poll, build, publish
    Sync {
        /// Stop after the plan; nothing is written
        #[arg(long)]
        dry_run: bool,
        /// Take what is there for right, once: sign manifests that no key of
        /// [signing] has signed, let theirs take the place of our signature,
        /// begin a mirror's memory anew
        #[arg(long)]
        adopt: bool,
        /// Refuse what publish.lock does not know; it stays as it is
        #[arg(long)]
        locked: bool,
        /// Build nothing: publish what `publish build --staged` left in this
        /// folder, if it is what the plan wants
        #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
        staged: Option<PathBuf>,
        #[command(flatten)]
        only: Only,
    },
    /// Show what sync would do, and why; -v for every upstream release
    Plan {
        /// Print a matrix for GitHub Actions: a job for each image to build
        #[arg(long, conflicts_with = "json")]
        matrix: bool,
        /// Keep the matrix in this folder, too, for `publish build` and
        /// `publish sync`
        #[arg(long, value_name = "DIR", requires = "matrix")]
        staged: Option<PathBuf>,
        #[command(flatten)]
        only: Only,
    },
    /// Build images of one component here; nothing is published
    Build {
        /// The component
        #[arg(required_unless_present = "staged")]
        name: Option<ComponentName>,
        /// The version; the newest that the component wants, if left out
        version: Option<String>,
        /// Only for this architecture; may be given again
        #[arg(long)]
        arch: Vec<Arch>,
        /// The folder for the images
        #[arg(short, long, value_name = "DIR", default_value = ".", conflicts_with = "check")]
        output: PathBuf,
        /// Build a published version again, and compare; nothing is kept
        #[arg(long, requires = "version")]
        check: bool,
        /// Run what [test] says in the images, as far as they are for this machine
        #[arg(long, conflicts_with = "check")]
        test: bool,
        /// Test over the usr/ of this folder instead of this machine's
        #[arg(long, value_name = "DIR", requires = "test")]
        base: Option<PathBuf>,
        /// Refuse what publish.lock does not know; it stays as it is
        #[arg(long)]
        locked: bool,
        #[command(flatten)]
        ordered: staged::Args,
    },
    /// Sync on an interval until stopped; SIGHUP reads the configuration again
    Watch {
        /// How long from one sync to the next [default: interval of [watch], 15m]
        #[arg(long, value_name = "TIME")]
        interval: Option<config::watch::Interval>,
        #[command(flatten)]
        only: Only,
    },
    /// What upstream has and what is published; exit 3 if something is behind
    Status {
        /// One line, for monitoring
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        only: Only,
    },
    /// Let old versions go: lines at once, their files after the grace
    Prune {
        /// Only list what would go
        #[arg(long)]
        dry_run: bool,
        /// Delete up to so many files [default: max-delete of [retention]]
        #[arg(long, value_name = "N")]
        max_delete: Option<usize>,
        #[command(flatten)]
        only: Only,
    },
    /// Take a bad version out of the manifest; it is not built again
    Yank {
        /// The component
        name: ComponentName,
        /// The version, with all its revisions; or one revision, such as 1.0-r1
        version: Version,
        /// Why, for who asks later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Even if nothing else is published
        #[arg(long)]
        force: bool,
    },
    /// Put a yanked version back
    Restore {
        /// The component
        name: ComponentName,
        /// The version, as it was yanked
        version: Version,
        /// Let the next sync build a new revision instead
        #[arg(long)]
        rebuild: bool,
    },
    /// Let a whole folder go that no component has any more
    Retire {
        /// The folder: `publish status` lists them
        folder: Folder,
    },
    /// Read a published repository as a client does, and check every byte
    Verify {
        /// Whose signatures count: a keyring as nodes have it
        #[arg(long, value_name = "FILE")]
        keyring: Option<PathBuf>,
        /// Download nothing: only whether files are there, and their sizes
        #[arg(long)]
        quick: bool,
        /// A directory, a URL or a bucket; the configured repository, if left
        /// out
        #[arg(value_name = "URL|DIR|s3://…")]
        target: Option<String>,
        #[command(flatten)]
        only: Only,
    },
    /// Show what is inside an image and whether a client takes it, or compare two
    Inspect {
        /// The image
        #[arg(value_name = "IMAGE.raw")]
        image: PathBuf,
        /// Another one, to compare it with
        #[arg(value_name = "OTHER.raw", conflicts_with = "list")]
        other: Option<PathBuf>,
        /// List every file
        #[arg(long)]
        list: bool,
        /// The certificate that the image must be signed for, in PEM form
        #[arg(long, value_name = "FILE", conflicts_with = "other")]
        certificate: Option<PathBuf>,
    },
    /// What a node needs to follow a component: sysupdate.d, Butane, a script
    Client(client::Args),
    /// Make a signing key, or write the keyring that nodes need
    #[command(subcommand)]
    Key(key::Command),
    /// Serve the repository on a local port, to try it
    Serve {
        /// Address and port; port 0 takes a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: std::net::SocketAddr,
    },
    /// Start a repository here: a configuration and an example component
    Init {
        /// The folder to start it in
        #[arg(value_name = "DIR", default_value = ".")]
        directory: PathBuf,
        /// Write the workflow that keeps it up to date on GitHub, too, or, where
        /// there is a repository, the workflow alone
        #[arg(
            long,
            value_name = "KIND",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "sync"
        )]
        github: Option<init::Workflow>,
    },
    /// What may be written in the configuration, as JSON Schema for editors
    Schema {
        /// `repository` for publish.toml, `component` for a component's file
        #[arg(value_enum, hide_possible_values = true, required_unless_present = "markdown")]
        what: Option<schema::What>,
        /// Every key of both files, as a page for people
        #[arg(long, conflicts_with = "what")]
        markdown: bool,
    },
    /// Print what completes this program's command line in a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, for a package
    #[command(hide = true)]
    Man {
        /// The folder for them
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Something was asked for that is not there, or not for this command: it is the command line that is
/// wrong.
#[derive(Debug, Error)]
#[error("{0}")]
struct Usage(String);

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// All is well.
    Well,
    /// Some components failed, or something that was checked is not right.
    Partly,
}

/// What every command has at hand.
struct Context {
    config: Option<PathBuf>,
    only: Vec<ComponentName>,
    json: bool,
    verbose: bool,
    progress: Progress,
}

/// Runs the program.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    start_logging(&args);
    if runner::is_there() {
        // A panic may quote what came from outside.
        std::panic::set_hook(Box::new(|panic| say(&format!("{panic}\n"))));
    }
    let json = args.json;
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let serves = matches!(args.command, Command::Serve { .. });
            // It has its own way with signals.
            let watches = matches!(args.command, Command::Watch { .. });
            let ended = runtime.block_on(async {
                tokio::select! {
                    // Listened for before anything is started: nothing outlives a signal.
                    biased;
                    // That is how it is meant to end.
                    signal = signalled(), if !watches => if serves { Ok(Ended::Well) } else { Err(signal) },
                    ended = run(args) => ended,
                }
            });
            // Builds that are still running on their threads have nothing to write to any more.
            runtime.shutdown_timeout(Duration::from_millis(100));
            child::end_all();
            ended
        });
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Partly) => ExitCode::from(3),
        Err(error) => fail(&error, json),
    }
}

fn start_logging(args: &Args) {
    // Other crates speak of frames and sockets: only for who asks three times.
    let filter = match (args.quiet, args.verbose) {
        (true, _) => "error,publish::said=warn",
        (false, 0) => "warn,publish::said=info",
        (false, 1) => "warn,publish=info",
        (false, 2) => "warn,publish=debug",
        (false, _) => "debug",
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => {
            log.with_ansi(io::stderr().is_terminal()).without_time().with_target(false).init();
        }
        LogFormat::Json => {
            report::speak_json();
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
    }
}

async fn run(args: Args) -> anyhow::Result<Ended> {
    let mut only = args.only.only;
    if let Command::Sync { only: more, .. }
    | Command::Watch { only: more, .. }
    | Command::Plan { only: more, .. }
    | Command::Status { only: more, .. }
    | Command::Prune { only: more, .. }
    | Command::Verify { only: more, .. } = &args.command
    {
        only.extend(more.only.iter().cloned());
    }
    let context = Context {
        config: args.config,
        only,
        json: args.json,
        verbose: args.verbose > 0,
        progress: Progress::new(args.quiet),
    };
    match args.command {
        Command::Sync { dry_run, adopt, locked, staged, .. } => {
            sync::run(&context, dry_run, adopt, locked, staged.as_deref()).await
        }
        Command::Plan { matrix: true, staged, .. } => {
            matrix::run(&context, staged.as_deref()).await
        }
        Command::Watch { interval, .. } => watch::run(context, interval).await,
        Command::Plan { .. } => plan::run(&context).await,
        Command::Build { name: None, ordered, locked, .. } => {
            staged::run(&context, &ordered, locked).await
        }
        Command::Build { name: Some(name), version: Some(version), arch, check: true, .. } => {
            check::run(&context, &name, &version, &arch).await
        }
        Command::Build { name: Some(name), version, arch, output, test, base, locked, .. } => {
            let base = test.then(|| base.unwrap_or_else(|| PathBuf::from("/")));
            let wish = build::Wish { version, arches: arch, output, locked, base };
            build::run(&context, &name, &wish).await
        }
        Command::Status { check, .. } => status::run(&context, check).await,
        Command::Prune { dry_run, max_delete, .. } => {
            prune::run(&context, dry_run, max_delete).await
        }
        Command::Yank { name, version, reason, force } => {
            yank::yank(&context, &name, &version, reason, force).await
        }
        Command::Restore { name, version, rebuild } => {
            yank::restore(&context, &name, &version, rebuild).await
        }
        Command::Retire { folder } => retire::run(&context, &folder).await,
        Command::Verify { keyring, quick, target, .. } => {
            verify::run(&context, target.as_deref(), keyring.as_deref(), quick).await
        }
        Command::Inspect { image, other: None, list, certificate } => {
            // Not on this thread, which hears signals.
            let looked = tokio::task::spawn_blocking(move || {
                inspect::run(&context, &image, list, certificate.as_deref())
            });
            looked.await?
        }
        Command::Inspect { image, other: Some(other), .. } => {
            tokio::task::spawn_blocking(move || inspect::compare(&context, &image, &other)).await?
        }
        Command::Client(args) => client::run(&context, &args).await,
        Command::Key(command) => key::run(&context, &command),
        Command::Serve { listen } => serve::run(&context, listen).await,
        Command::Init { directory, github } => init::run(&context, &directory, github),
        Command::Schema { what, markdown: _ } => schema::run(what),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { directory } => shell::man(&directory),
    }
}

/// Waits for a signal to end, and says which. Dropping a command half way removes its temporary
/// files; what is published is right at every instant.
async fn signalled() -> anyhow::Error {
    let waiting = [
        (SignalKind::interrupt(), "interrupted"),
        (SignalKind::terminate(), "terminated"),
        (SignalKind::hangup(), "the terminal is gone"),
    ]
    .map(|(kind, name)| {
        Box::pin(async move {
            match signal(kind) {
                Ok(mut signal) => {
                    signal.recv().await;
                    anyhow::anyhow!("{name}; what is published is whole")
                }
                Err(error) => error.into(),
            }
        })
    });
    futures::future::select_all(waiting).await.0
}

fn fail(error: &anyhow::Error, json: bool) -> ExitCode {
    let told = Told::new(error.as_ref());
    say(&told.text());
    if json {
        // Where a program reads stdout, it finds a document there in any case.
        let _ = print_json("error", &serde_json::json!({ "errors": [told] }));
    }
    let is = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    // What people keep beside the configuration, under version control, is a part of it.
    let locked = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref().is_some_and(LockfileError::is_unreadable)
    };
    if is(<dyn std::error::Error>::is::<Usage>)
        || is(|error| error.downcast_ref().is_some_and(YankError::is_of_nothing))
        || is(|error| error.downcast_ref().is_some_and(ConfigError::is_asked_for))
    {
        ExitCode::from(2)
    } else if is(<dyn std::error::Error>::is::<ConfigError>) || error.chain().any(locked) {
        ExitCode::from(4)
    } else if is(|error| matches!(error.downcast_ref(), Some(StoreError::Locked { .. }))) {
        ExitCode::from(5)
    } else if is(|error| error.downcast_ref().is_some_and(InspectError::is_a_verdict)) {
        ExitCode::from(3)
    } else {
        ExitCode::from(1)
    }
}

impl Context {
    /// The configuration, with only the components that were asked for.
    fn load(&self) -> Result<Config, ConfigError> {
        config::load(&self.config_file())?.only(&self.only)
    }

    fn config_file(&self) -> PathBuf {
        let standard = ["publish.toml", "config/publish.toml"].map(PathBuf::from);
        match &self.config {
            Some(file) => file.clone(),
            None => standard.iter().find(|file| file.exists()).unwrap_or(&standard[0]).clone(),
        }
    }
}

/// Prints a result as one JSON document.
fn print_json(command: &str, result: &impl Serialize) -> io::Result<()> {
    write(&runner::json(document(command, result)?))
}

/// A result as one JSON document.
fn document(command: &str, result: &impl Serialize) -> io::Result<String> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        version: u32,
        command: &'a str,
        #[serde(flatten)]
        result: &'a T,
    }
    let text = serde_json::to_string_pretty(&Document { version: 1, command, result })?;
    Ok(format!("{text}\n"))
}

/// Prints text to stdout. A reader that went away (`publish plan | head`) is no error.
fn print(text: &str) -> io::Result<()> {
    write(&runner::shown(text))
}

fn write(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A socket in a pipe's place, as some programs give their children, is reset when its reader leaves
        // with something unread.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// What to type to run this program again: `publish`, or the path it was started by.
fn program() -> String {
    std::env::args()
        .next()
        .filter(|name| name.contains('/'))
        .unwrap_or_else(|| "publish".to_owned())
}
