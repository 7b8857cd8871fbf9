//! A program that signs: the key is in a token, behind a service, or on another machine.
//!
//! Owns running it: what is to be signed goes to its stdin, the bare signature comes from its stdout.
//! Refuses to know what a signature is. The program is the operator's own, and has his environment: its
//! credentials are there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;

use crate::child::{self, Group};

/// How long it may take.
const TIME: Duration = Duration::from_secs(60);
/// The most bytes that it may write; a signature has a thousand at most.
const MOST: u64 = 16 << 10;
/// How many lines of its messages are shown.
const LINES: usize = 8;

/// A program that does not sign.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// It cannot be run.
    #[error("cannot run `{program}`")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It takes too long.
    #[error("`{program}` {}", child::too_long(TIME))]
    Slow {
        /// The program.
        program: String,
    },
    /// It failed by its own account.
    #[error("`{program}` {ended}{}", child::at_the_end(messages))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        ended: String,
        /// The end of what it wrote to stderr.
        messages: Vec<String>,
    },
}

impl ProgramError {
    /// What to do about it.
    #[must_use]
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Run { .. } => {
                "a path in [image] verity command is relative to the component's file, such as \"./sign.sh\"; a name without a slash is looked for in PATH"
            }
            Self::Slow { .. } | Self::Failed { .. } => {
                "run it by hand in the folder of the component's file: `printf %064d 0 | PROGRAM` writes a signature"
            }
        }
    }
}

/// The program and where it runs.
#[derive(Debug)]
pub(super) struct Program {
    command: Vec<String>,
    folder: PathBuf,
}

impl Program {
    pub(super) fn new(command: &[String], folder: &Path) -> Self {
        // An empty path is the current folder, but not to `chdir`.
        Self { command: command.to_vec(), folder: PathBuf::from(".").join(folder) }
    }

    pub(super) fn name(&self) -> &str {
        self.command.first().map(String::as_str).unwrap_or_default()
    }

    /// Runs it on a thread that may wait, and returns what it wrote.
    pub(super) fn run(&self, text: &[u8]) -> Result<Vec<u8>, ProgramError> {
        let program = self.name().to_owned();
        let run = |source| ProgramError::Run { program: program.clone(), source };
        // Of its own: ours may end while this thread waits, and with it all that waits in it.
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(run)?;
        let ended = runtime.block_on(async {
            // What is left of it when its time is up is killed as it is let go of.
            tokio::time::timeout(TIME, self.follow(text)).await
        });
        let Ok(ended) = ended else { return Err(ProgramError::Slow { program }) };
        let (status, signature, messages) = ended.map_err(run)?;
        if !status.success() {
            return Err(ProgramError::Failed { program, ended: child::how(status), messages });
        }
        Ok(signature)
    }

    async fn follow(&self, text: &[u8]) -> io::Result<(ExitStatus, Vec<u8>, Vec<String>)> {
        // A path must not become another one where the program starts.
        let folder = std::path::absolute(&self.folder)?;
        let mut command = child::tied(child::find(self.name(), &folder)?).await;
        command.args(self.command.iter().skip(1)).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::start(command)?;
        let child = group.child();
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        // Less than any pipe holds. Who does not read it signs something else, which is seen.
        let _ = stdin.write_all(text).await;
        drop(stdin);
        let mut signature = Vec::new();
        let mut stdout = stdout.take(MOST);
        let (_, messages) = futures::future::try_join(
            stdout.read_to_end(&mut signature),
            child::last_words(stderr, LINES),
        )
        .await?;
        drop(stdout);
        let status = group.child().wait().await?;
        Ok((status, signature, messages.lines()))
    }
}
