//! Programs that run for us: they end when we do, with all that they started, and their last words are
//! kept.
//!
//! Owns groups of processes and the end of what they say. Refuses to know what a program is run for.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use crate::source::kin::{self, Kin};

/// How much of what is said is kept for each line that is shown, in bytes.
const OF_A_LINE: usize = 256;

/// A running program and whatever it started: the group is killed when it is let go of.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: Option<Pid>,
    kin: Kin,
}

impl Group {
    /// Starts a program as the first of a group of its own.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let kin = Kin::default();
        let child = command.env(kin::MARK, kin.mark()).process_group(0).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, id, kin })
    }

    /// The program itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Kills all of them.
    pub fn kill(&self) {
        // Children that outlive a program that ended well are killed too. The group's number is
        // free for others only after all of them are gone; so this meets nobody else, but for one
        // that ended and left nothing: then there is, as good as always, no such group.
        if let Some(id) = self.id {
            let _ = kill_process_group(id, Signal::KILL);
        }
        // And those that left the group.
        self.kin.kill();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
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
        let group = Group::start(&mut command)?;
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

/// How a program ended: the rest of a sentence that begins with its name.
#[must_use]
pub fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
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
        // The first line of an end is but the end of a line.
        let lines = text.lines().skip(usize::from(self.cut)).map(str::trim_end);
        let lines = lines.filter(|line| !line.is_empty());
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
}
