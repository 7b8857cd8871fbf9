//! Programs that run for us: they end when we do, with all that they started, and their last words are
//! kept.
//!
//! Owns groups of processes and the end of what they say. Refuses to know what a program is run for.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

mod kin;

use kin::Kin;

/// How much of what is said is kept for each line that is shown, in bytes.
const OF_A_LINE: usize = 256;

/// A running program and whatever it started: the group is killed when it is let go of.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: Option<Pid>,
    kin: Kin,
    /// Lets go of the thread that started it.
    _starter: mpsc::Sender<()>,
}

/// Those that live: threads that wait for one may not get to let go of it.
static LIVE: Mutex<BTreeMap<Kin, Option<Pid>>> = Mutex::new(BTreeMap::new());

fn live() -> MutexGuard<'static, BTreeMap<Kin, Option<Pid>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all groups that are left, before we end ourselves.
pub fn end_all() {
    for (kin, id) in std::mem::take(&mut *live()) {
        end(id, &kin);
    }
}

fn end(id: Option<Pid>, kin: &Kin) {
    // Children that outlive a program that ended well are killed too. The group's number is
    // free for others only after all of them are gone; so this meets nobody else, but for one
    // that ended and left nothing: then there is, as good as always, no such group.
    if let Some(id) = id {
        let _ = kill_process_group(id, Signal::KILL);
    }
    // And those that left the group.
    kin.kill();
}

impl Group {
    /// Starts a program as the first of a group of its own.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let kin = Kin::default();
        command.env(kin::MARK, kin.mark()).process_group(0);
        // The kernel takes the end of the thread that forked for the end of a parent; so that thread
        // stays for as long as this does, and is none of those that come and go.
        let (starter, dropped) = mpsc::channel::<()>();
        let (outcome, child) = mpsc::sync_channel(1);
        let runtime = Handle::current();
        thread::Builder::new().name("starter".to_owned()).spawn(move || {
            let child = {
                let _inside = runtime.enter();
                command.spawn()
            };
            // It holds ends of pipes.
            drop(command);
            let _ = outcome.send(child);
            let _ = dropped.recv();
        })?;
        let child = child.recv().map_err(io::Error::other)??;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        live().insert(kin.clone(), id);
        Ok(Self { child, id, kin, _starter: starter })
    }

    /// The program itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Kills all of them.
    pub fn kill(&self) {
        end(self.id, &self.kin);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        live().remove(&self.kin);
        // Takes it away, so that no dead process is left behind.
        let _ = self.child.try_wait();
    }
}

/// How long the end of what was killed is waited for.
const DEATH: Duration = Duration::from_secs(2);

/// A program that is listened to until it ends: what it says on stdout and stderr comes as one.
#[derive(Debug)]
pub struct Followed {
    group: Group,
    said: Receiver,
}

impl Followed {
    /// Starts it. It has nothing to read.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(mut command: Command) -> io::Result<Self> {
        // One pipe for both, so that errors stand where they happened.
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let said = Receiver::from_owned_fd(reader.into())?;
        let group = Group::start(command)?;
        Ok(Self { group, said })
    }

    /// Listens until it ends; `None` if its time is up. Whatever it started is killed then.
    ///
    /// # Errors
    /// It cannot be followed.
    pub async fn watch(
        &mut self,
        limit: Duration,
        hear: &mut impl FnMut(&[u8]),
    ) -> io::Result<Option<ExitStatus>> {
        let mut piece = vec![0; 16 << 10];
        let mut open = true;
        let time = tokio::time::sleep(limit);
        tokio::pin!(time);
        let ended = loop {
            tokio::select! {
                read = self.said.read(&mut piece), if open => match read? {
                    // Who closed it may still run.
                    0 => open = false,
                    length => hear(&piece[..length]),
                },
                status = self.group.child().wait() => break Some(status?),
                () = &mut time => break None,
            }
        };
        self.group.kill();
        // What is still on its way, but not what others may yet say.
        while let Ok(length @ 1..) = self.said.try_read(&mut piece) {
            hear(&piece[..length]);
        }
        Ok(ended)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.group.kill();
        // The pipe ends when the last of them does; until then they may write where somebody cleans up.
        let begun = Instant::now();
        let mut piece = [0; 4096];
        while begun.elapsed() < DEATH {
            match self.said.try_read(&mut piece) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(0) | Err(_) => break,
            }
        }
    }
}

/// Where programs are: as our own environment says, or where they are everywhere.
#[must_use]
pub fn path() -> OsString {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    std::env::var_os("PATH").unwrap_or_else(|| usual.into())
}

/// What can be run under a name or a path, which is relative to a folder. Whatever stands between us and a
/// program could only say that nothing was found.
///
/// # Errors
/// There is no such program, or nobody may run it.
pub fn find(program: &str, folder: &Path) -> io::Result<PathBuf> {
    if program.contains('/') {
        let path = folder.join(program.trim_start_matches("./"));
        access(&path, Access::EXEC_OK)?;
        return Ok(path);
    }
    if is_in_path(program) { Ok(program.into()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Whether there is a program of this name.
#[must_use]
pub fn is_in_path(name: &str) -> bool {
    let at = |folder: PathBuf| access(folder.join(name), Access::EXEC_OK).is_ok();
    std::env::split_paths(&path()).any(at)
}

/// Ends at once if whoever asked for it is gone already, before the kernel was told whose end counts.
const TIED: &str = "[ \"$PPID\" = \"$1\" ] || exit 1; shift; unset PWD OLDPWD SHLVL; exec \"$@\"";

/// A program, to be given its arguments, that is killed when we are, be it by a signal that nobody can
/// answer. That takes `setpriv` of util-linux; without it, it lives on.
pub async fn tied(program: impl AsRef<OsStr>) -> Command {
    match tie("KILL", TIED).await {
        Some(mut command) => {
            command.arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// A shell script that gets this signal when we end, to be given its arguments: the first is our number.
/// `None` without `setpriv`.
pub async fn tie(signal: &str, script: &str) -> Option<Command> {
    static CAN: OnceCell<bool> = OnceCell::const_new();
    let begin = |signal: &str, script: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", signal, "sh", "-c", script]);
        command
    };
    let can = CAN.get_or_init(async || {
        let mut command = begin("KILL", "exit 0");
        command.env_clear().env("PATH", path()).stdin(Stdio::null());
        command.kill_on_drop(true).output().await.is_ok_and(|output| output.status.success())
    });
    if !*can.await {
        return None;
    }
    let mut command = begin(signal, script);
    command.args(["publish", &std::process::id().to_string()]);
    Some(command)
}

/// For a shell that is the first process of a namespace, which no signal of its own kind reaches: it
/// runs what it is given as its child, which is a process like any other, and says nothing itself.
pub const FIRST: &str =
    "unset PWD OLDPWD SHLVL; exec 3>&2 2>/dev/null; (exec \"$@\" 2>&3 3>&-); exit $?";

/// How a program ended: the rest of a sentence that begins with its name.
#[must_use]
pub fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        // So a shell tells of it.
        (Some(code @ 129..=192), _) => {
            format!("was ended by signal {} (exit code {code})", code - 128)
        }
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in no known way".to_owned(),
    }
}

/// The same, for one whose time was up.
#[must_use]
pub fn too_long(limit: Duration) -> String {
    format!("took longer than {} s and was killed", limit.as_secs_f32())
}

/// The end of what a program said, each line below the other: the end of a sentence.
#[must_use]
pub fn at_the_end(said: &[String]) -> String {
    if said.is_empty() {
        return ", and said nothing".to_owned();
    }
    let lines = said.iter().map(|line| format!("\n    | {line}"));
    format!("; the end of what it said:{}", lines.collect::<String>())
}

/// The end of what a program says, fit to be shown.
#[derive(Debug)]
pub struct LastWords {
    most: usize,
    kept: VecDeque<u8>,
    cut: bool,
}

impl LastWords {
    /// At most so many lines of it.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, kept: VecDeque::new(), cut: false }
    }

    /// It says more.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let more = self.kept.len().saturating_sub(self.most * OF_A_LINE);
        self.kept.drain(..more);
        self.cut |= more > 0;
    }

    /// Its last lines, without what could drive a terminal.
    #[must_use]
    pub fn lines(mut self) -> Vec<String> {
        let text = String::from_utf8_lossy(self.kept.make_contiguous());
        let text = text.trim_end();
        // The first line of an end is but the end of a line. It counts where it is all that there is.
        let text = match text.split_once('\n') {
            Some((_, rest)) if self.cut => rest,
            None if self.cut => {
                let from = text.char_indices().rev().take(OF_A_LINE).last();
                from.map_or("", |(from, _)| &text[from..])
            }
            _ => text,
        };
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        let mut lines: Vec<String> = lines.map(|line| line.escape_debug().to_string()).collect();
        lines.drain(..lines.len().saturating_sub(self.most));
        lines
    }
}

/// Listens to the end of what a program says: at most so many lines of it.
///
/// # Errors
/// The pipe cannot be read.
pub async fn last_words(mut from: impl AsyncRead + Unpin, most: usize) -> io::Result<LastWords> {
    let (mut words, mut piece) = (LastWords::new(most), vec![0; 4096]);
    loop {
        match from.read(&mut piece).await? {
            0 => return Ok(words),
            length => words.hear(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_drives_no_terminal() {
        let mut words = LastWords::new(8);
        for number in 0..1000 {
            words.hear(format!("line {number}\n\n").as_bytes());
        }
        words.hear(b"\x1b[2J \xff last");
        let lines = words.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (8, "line 993"));
        assert_eq!(lines[7], "\\u{1b}[2J \u{fffd} last");
    }

    #[test]
    fn of_a_line_without_an_end_the_last_is_shown() {
        for after in ["", "\n"] {
            let mut words = LastWords::new(8);
            words.hear("ä".repeat(5000).as_bytes());
            words.hear(format!("the end{after}").as_bytes());
            let lines = words.lines();
            assert_eq!((lines.len(), lines[0].chars().count()), (1, OF_A_LINE));
            assert!(lines[0].ends_with("ääthe end"), "{lines:?}");
        }
    }
}
