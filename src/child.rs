//! Programs that run for us: they end when we do, with all that they started, and their last words are
//! kept.
//!
//! Owns groups of processes and the end of what they say. Refuses to know what a program is run for.

use std::collections::VecDeque;
use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// How much of what is said is kept for each line that is shown, in bytes.
const OF_A_LINE: usize = 256;

/// A running program and whatever it started: the group is killed when it is let go of.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    /// Starts a program as the first of a group of its own.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, id })
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
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        // Takes it away, so that no dead process is left behind.
        let _ = self.child.try_wait();
    }
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
