//! The service manager: what it is told of us, as `sd_notify(3)` has it.
//!
//! Owns the socket and the words. Where there is no service manager, or one that does not ask, all of
//! this does nothing. Knows nothing of what is done meanwhile.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Longer ones are cut: `systemctl status` shows one line.
const LONGEST: usize = 200;

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// We began, or have read the configuration anew.
    Ready,
    /// The configuration is being read anew.
    Reloading,
    /// This is the end.
    Stopping,
    /// We are well.
    Alive,
    /// For people.
    Status(&'a str),
}

/// The service manager, if there is one that listens.
#[derive(Debug)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    #[must_use]
    pub fn find() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let socket = address.and_then(|address| match open(&address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("the service manager cannot be reached: {error}");
                None
            }
        });
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        // Meant for us, and not for whoever started us.
        let ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|time| *time > 0 && ours);
        Self { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// How often it wants to hear that we are well, if it does.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.socket.is_some())
    }

    /// Tells it. A service manager that does not listen is no reason to stop.
    pub fn say(&self, said: &[Said<'_>]) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message(said).as_bytes(), address) {
            tracing::debug!("the service manager was not told: {error}");
        }
    }
}

/// A path, or a name in the abstract name space, which begins with an `@`.
fn open(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that is too busy to listen must not hold us up.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

fn message(said: &[Said<'_>]) -> String {
    let mut text = String::new();
    for said in said {
        let _ = match said {
            Said::Ready => writeln!(text, "READY=1"),
            Said::Reloading => writeln!(text, "RELOADING=1\nMONOTONIC_USEC={}", monotonic()),
            Said::Stopping => writeln!(text, "STOPPING=1"),
            Said::Alive => writeln!(text, "WATCHDOG=1"),
            Said::Status(status) => {
                // A new line would be another word of ours.
                let status = status.chars().map(|c| if c.is_control() { ' ' } else { c });
                writeln!(text, "STATUS={}", status.take(LONGEST).collect::<String>())
            }
        };
    }
    text
}

/// The manager tells by this which of its own reloads is answered.
fn monotonic() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_and_nothing_else() {
        let said = [Said::Ready, Said::Status("failed: a\nSTOPPING=1\u{1b}[2J"), Said::Alive];
        assert_eq!(message(&said), "READY=1\nSTATUS=failed: a STOPPING=1 [2J\nWATCHDOG=1\n");
        let long = message(&[Said::Status(&"ä".repeat(1000))]);
        assert_eq!(long.chars().count(), "STATUS=\n".len() + LONGEST);
    }

    #[test]
    fn a_reload_has_its_time() {
        let text = message(&[Said::Reloading]);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(time.parse::<i64>().unwrap() > 0);
    }
}
