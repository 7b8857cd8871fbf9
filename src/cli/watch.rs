//! `publish watch`: sync after sync until somebody stops it.
//!
//! Owns when the next sync begins, what signals do, and what the service manager hears. A sync that
//! fails is told and never the end of it. Each begins with what is in the store and nothing else, so
//! none of them depends on the one before, and memory holds nothing of it.

use std::collections::BTreeSet;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::sync::{self as one, Done};
use super::{Context, Ended, print};
use crate::config::Config;
use crate::config::watch::Interval;
use crate::news::Desk;
use crate::news::state::fingerprint;
use crate::report::{Progress, Told, count, say};
use crate::sign::Signer;
use crate::store::{Access, Store};
use crate::sync::{Outcome, Run, workshop};
use crate::systemd::{Manager, Said};

use pace::Pace;

mod pace;

/// How long what belongs together may take to be written, once somebody wants an end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a sync may do nothing that anybody could see, before the service manager is to know.
/// Compressing the largest image takes minutes.
const STANDSTILL: Duration = Duration::from_secs(30 * 60);

pub(super) async fn run(context: Context, interval: Option<Interval>) -> anyhow::Result<Ended> {
    // Before anything is started: nothing outlives a signal.
    let mut signals = Signals::new()?;
    let mut config = load(&context)?;
    let manager = Arc::new(Manager::find());
    let context = Context { progress: context.progress.calm(), ..context };
    let heart = Heart::start(manager.clone(), context.progress.clone());
    manager.say(&[Said::Ready]);
    let mut desk = Desk::default();
    let mut log = Log::default();
    let mut pace = Pace::default();
    loop {
        let interval = |config: &Config| interval.unwrap_or(config.document.watch.interval);
        manager.say(&[Said::Status(&format!("syncing since {:.0}", Timestamp::now()))]);
        heart.works(true);
        let (synced, reloaded) = sync(&context, &config, &mut signals, &manager, &mut desk).await;
        heart.works(false);
        let Some(done) = synced else { break };
        log.tell(&context, &config, &done)?;
        if let Some(next) = reloaded {
            config = next;
            continue;
        }
        let wait = pace.next(interval(&config).get(), came_to_nothing(&done));
        let next = Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX);
        manager.say(&[Said::Status(&format!("{}; next sync at {next:.0}", status(&done)))]);
        drop(done);
        let asked = tokio::select! {
            asked = signals.next() => Some(asked),
            () = tokio::time::sleep(wait) => None,
        };
        match asked {
            Some(Asked::Stop(_)) => {
                manager.say(&[Said::Stopping]);
                break;
            }
            Some(Asked::Reload) => {
                if let Some(next) = reload(&context, &manager) {
                    config = next;
                }
            }
            None => {}
        }
    }
    Ok(Ended::Well)
}

/// One sync with all that belongs to it, and what somebody asked for meanwhile: `None` if that was to
/// stop, and a configuration if it was to read that again.
async fn sync(
    context: &Context,
    config: &Config,
    signals: &mut Signals,
    manager: &Manager,
    desk: &mut Desk,
) -> (Option<anyhow::Result<Done>>, Option<Config>) {
    let store = Store::configured(config, Access::Read);
    let quiet = store.as_ref().ok().cloned();
    let work = async {
        let started = Instant::now();
        let done =
            AssertUnwindSafe(async { one::once(context, config, store?, None, Run::Real).await });
        let done = done.catch_unwind().await;
        let done =
            done.unwrap_or_else(|_| Err(anyhow::anyhow!("it crashed\nhint: please report this")));
        one::report(desk, config, &done, started.elapsed()).await;
        done
    };
    let mut work = Some(Box::pin(work));
    let mut reloaded = None;
    loop {
        let Some(working) = &mut work else { return (None, None) };
        let asked = tokio::select! {
            done = &mut *working => return (Some(done), reloaded),
            asked = signals.next() => asked,
        };
        match asked {
            Asked::Reload => reloaded = reload(context, manager).or(reloaded),
            Asked::Stop(why) => {
                manager.say(&[Said::Stopping, Said::Status("what is being written is finished")]);
                context.progress.line(&format!("{why}: what is published is whole"));
                let Some(store) = &quiet else { return (None, None) };
                // What belongs together is written to its end; everything else is let go of.
                tokio::select! {
                    _ = working => {}
                    () = store.quiet() => {}
                    () = tokio::time::sleep(PATIENCE) => {}
                    _ = signals.next() => {}
                }
                work = None;
                // A lock that is an object in a bucket takes a request to give back.
                let _ = tokio::time::timeout(PATIENCE, store.quiet()).await;
            }
        }
    }
}

/// The configuration, and all that a sync opens before it asks anybody.
fn load(context: &Context) -> anyhow::Result<Config> {
    let config = context.load()?;
    workshop(&config, &Progress::new(true))?;
    Signer::open(&config)?;
    Ok(config)
}

/// Reads the configuration again. A broken one is told, and the one before stays.
fn reload(context: &Context, manager: &Manager) -> Option<Config> {
    manager.say(&[Said::Reloading]);
    let loaded = load(context);
    if let Err(error) = &loaded {
        say(&Told::new(error.as_ref()).text());
        say("warning: the configuration stays as it was\n");
        manager.say(&[Said::Status("the configuration is broken: it stays as it was")]);
    } else {
        context.progress.line("the configuration was read again");
    }
    manager.say(&[Said::Ready]);
    loaded.ok()
}

/// Whether nothing at all went well, so that another sync soon would only do harm. One component of
/// many keeps nobody waiting.
fn came_to_nothing(done: &anyhow::Result<Done>) -> bool {
    match done {
        Err(error) => !one::is_held(error),
        Ok(done) => {
            let mut outcomes = done.outcomes.iter();
            done.error.is_some()
                || (!done.outcomes.is_empty() && outcomes.all(|outcome| !outcome.errors.is_empty()))
        }
    }
}

/// How it is, in a few words.
fn status(done: &anyhow::Result<Done>) -> String {
    match done {
        Err(error) => format!("the last sync failed: {}", Told::new(error.as_ref()).message),
        Ok(done) => {
            let all = done.outcomes.len();
            let failed = |outcome: &&Outcome| !outcome.errors.is_empty();
            match done.outcomes.iter().filter(failed).count() {
                0 if !done.is_well() => "the last sync failed in part".to_owned(),
                0 => format!("{} up to date", count(all, "component")),
                failed => format!("{failed} of {} failed", count(all, "component")),
            }
        }
    }
}

/// What is said of syncs: what is new in full, and what goes on and on in a line.
#[derive(Default)]
struct Log {
    /// What failed the last time.
    known: BTreeSet<String>,
    /// Whether anything was said yet.
    begun: bool,
}

impl Log {
    fn tell(
        &mut self,
        context: &Context,
        config: &Config,
        done: &anyhow::Result<Done>,
    ) -> io::Result<()> {
        let whole = done.as_ref().err().map(|error| Told::new(error.as_ref()));
        let errors: Vec<&Told> = match done {
            Ok(done) => {
                let of_components = done.outcomes.iter().flat_map(|outcome| &outcome.errors);
                of_components.chain(done.errors()).collect()
            }
            Err(_) => whole.iter().collect(),
        };
        let failing: BTreeSet<String> = errors.iter().map(|told| fingerprint(told)).collect();
        let is_old = !failing.is_empty() && failing == self.known;
        self.known = failing;
        if is_old {
            for told in &errors {
                say(&format!("error: as before: {}\n", told.message));
            }
        }
        match done {
            Ok(done) => {
                if !is_old {
                    done.say();
                }
                if context.json {
                    // One line a sync.
                    let text = super::document("sync", &done.result(config, Run::Real))?;
                    let value: serde_json::Value = serde_json::from_str(&text)?;
                    print(&format!("{value}\n"))?;
                } else if !self.begun || !done.is_unchanged() {
                    print(&done.text(config, Run::Real))?;
                }
                self.begun = true;
            }
            Err(_) if is_old => {}
            Err(_) => errors.iter().for_each(|told| say(&told.text())),
        }
        Ok(())
    }
}

/// What a signal asks for.
enum Asked {
    /// In the words that people read.
    Stop(&'static str),
    Reload,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop("terminated"),
            _ = self.interrupt.recv() => Asked::Stop("interrupted"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// What tells the service manager that we are well, if it wants to hear that: while nothing is to be
/// done, and while a sync gets on.
struct Heart {
    works: Arc<AtomicBool>,
    beating: Option<JoinHandle<()>>,
}

impl Heart {
    fn start(manager: Arc<Manager>, progress: Progress) -> Self {
        let works = Arc::new(AtomicBool::new(false));
        let beating = manager.watchdog().map(|time| {
            let works = works.clone();
            tokio::spawn(async move {
                let mut beats = tokio::time::interval(time / 3);
                let (mut pulse, mut moved) = (None, Instant::now());
                loop {
                    beats.tick().await;
                    let now = progress.pulse();
                    if !works.load(Ordering::Relaxed) || now.is_none() || now != pulse {
                        (pulse, moved) = (now, Instant::now());
                    }
                    if moved.elapsed() < STANDSTILL {
                        manager.say(&[Said::Alive]);
                    }
                }
            })
        });
        Self { works, beating }
    }

    fn works(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        if let Some(beating) = &self.beating {
            beating.abort();
        }
    }
}
