//! Kin: every process that a program started, wherever it went.
//!
//! Owns finding them again. A process group does not hold who calls `setsid`, and a parent does not know
//! the children of a child that ended; but each has the environment that it was started with, and
//! that has a mark. Who takes the mark out of it leaves the family: this is against programs that forget
//! their children, not against those that hide them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that marks them.
pub(super) const MARK: &str = "PUBLISH_RUN";

/// How often they are looked for: one that is killed may just have started another.
const ROUNDS: usize = 16;

/// The family of one program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kin(String);

impl Default for Kin {
    fn default() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp::now().as_nanosecond();
        Self(format!("{}.{number}.{now}", std::process::id()))
    }
}

impl Kin {
    /// What the program must have in its environment as [`MARK`].
    pub(super) fn mark(&self) -> &str {
        &self.0
    }

    /// Kills all of them that live. Without `/proc` nobody is found.
    pub(super) fn kill(&self) {
        for _ in 0..ROUNDS {
            let found = self.find().unwrap_or_default();
            if found.is_empty() {
                return;
            }
            for process in found {
                // One that ended meanwhile is what was wanted.
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
        }
    }

    /// Those that live, each held so that its number cannot become another's.
    fn find(&self) -> io::Result<Vec<OwnedFd>> {
        let mark = format!("{MARK}={}", self.0);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(entry) = entry else { continue };
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(id) = number.and_then(Pid::from_raw) else { continue };
            // That of others is not for us to read, and that of a dead one is empty.
            let is_kin = || {
                let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|line| line == mark.as_bytes())
            };
            if !is_kin() {
                continue;
            }
            if let Ok(process) = pidfd_open(id, PidfdFlags::empty())
                // The number may have become another's before it was held.
                && is_kin()
            {
                found.push(process);
            }
        }
        Ok(found)
    }
}
