//! Who may be asked now: one gate for all that is asked of upstreams, host by host.
//!
//! Owns how many requests a host has at once, waiting for one that wants to be left alone, and
//! knowing one that is down: what one request learned of a host holds for all. Knows nothing of what
//! is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Url;

use super::error::{FetchError, PATIENCE, TRIES, backoff};
use super::quota::{self, Quota, Said};

/// The most requests under way, to all hosts together: each is a socket.
const AT_ONCE: usize = 192;

/// How long a run waits for one host in all. A host that asks for a moment again and again is as good
/// as one that asks for an hour.
const IN_ALL: Duration = Duration::from_secs(60);

/// One broken address is not a broken host; so many, and no good one between them, are.
const BROKEN: usize = 3;

/// The gate. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Hosts>);

#[derive(Debug)]
struct Hosts {
    each: usize,
    all: Arc<Semaphore>,
    known: Mutex<BTreeMap<String, Arc<Host>>>,
}

#[derive(Debug)]
struct Host {
    /// With its port, if that is unusual.
    name: String,
    slots: Arc<Semaphore>,
    /// Whoever holds it may try whether the host is there again.
    probe: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    quota: Option<Quota>,
    /// It wants no requests before.
    until: Option<Timestamp>,
    /// How long it was, or is, waited for.
    waited: Duration,
    /// How often in turn there was no connection, and when last.
    refused: u32,
    refused_at: Option<Instant>,
    /// Addresses that were given up since the last good answer.
    broken: BTreeSet<String>,
    /// Why it is asked no more.
    down: Option<String>,
}

impl Host {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is small, and nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ask a host once. Dropped when the answer is here.
#[derive(Debug)]
pub(super) struct Pass {
    host: Arc<Host>,
    gate: Gate,
    /// How often it had been refused when this one went to ask.
    round: u32,
    _slot: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
    _probe: Option<OwnedMutexGuard<()>>,
}

impl Gate {
    /// A gate that lets so many requests to one host at once.
    pub(super) fn new(each: usize) -> Self {
        let all = Arc::new(Semaphore::new(AT_ONCE));
        Self(Arc::new(Hosts { each, all, known: Mutex::default() }))
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let name = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        // http and https of one host share what it wants; a strange port is another server.
        let mut hosts = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Host {
                slots: Arc::new(Semaphore::new(self.0.each)),
                name: name.clone(),
                probe: Arc::default(),
                state: Mutex::default(),
            })
        };
        hosts.entry(name.clone()).or_insert_with(new).clone()
    }

    /// Waits until a host may be asked; `shown` is what is to be asked, for people.
    ///
    /// # Errors
    /// It is down, or wants to be left alone for longer than anybody waits. It was not asked.
    pub(super) async fn enter(&self, url: &Url, shown: &str) -> Result<Pass, FetchError> {
        let host = self.host(url);
        let closed = "no semaphore is ever closed";
        let slot = host.slots.clone().acquire_owned().await.expect(closed);
        let mut probe = None;
        loop {
            let pause = match host.ask(shown)? {
                Now::Wait(pause) => pause,
                Now::Probe(pause) if probe.is_none() => {
                    probe = Some(host.probe.clone().lock_owned().await);
                    // Whoever held it before knows more by now.
                    if pause.is_zero() {
                        continue;
                    }
                    pause
                }
                Now::Probe(pause) if !pause.is_zero() => pause,
                Now::Probe(_) | Now::Go => break,
            };
            tracing::debug!(host = host.name, ?pause, "waiting");
            tokio::time::sleep(pause).await;
        }
        let round = host.state().refused;
        if round == 0 {
            probe = None;
        }
        let place = self.0.all.clone().acquire_owned().await.expect(closed);
        Ok(Pass { host, gate: self.clone(), round, _slot: slot, _place: place, _probe: probe })
    }

    /// Learns that a request was given up after all tries.
    pub(super) fn gave_up(&self, url: &Url, error: &FetchError) {
        let host = self.host(url);
        let mut state = host.state();
        state.broken.insert(url.path().to_owned());
        if state.broken.len() >= BROKEN {
            state.down.get_or_insert_with(|| error.to_string());
        }
    }

    /// What the host of a URL said of how much it may be asked.
    pub(super) fn quota(&self, url: &Url) -> Option<Quota> {
        self.host(url).state().quota
    }

    /// What each host said of how much it may be asked, by name.
    pub(super) fn quotas(&self) -> Vec<(String, Quota)> {
        let hosts = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().filter_map(|host| Some((host.name.clone(), host.state().quota?))).collect()
    }
}

/// What is to be done with a host.
enum Now {
    Go,
    /// Nobody asks it before.
    Wait(Duration),
    /// It could not be reached: one may try, after this.
    Probe(Duration),
}

impl Host {
    fn ask(&self, shown: &str) -> Result<Now, FetchError> {
        let state = self.state();
        if let Some(reason) = &state.down {
            let (host, reason) = (self.name.clone(), reason.clone());
            return Err(FetchError::Down { url: shown.to_owned(), host, reason });
        }
        if let Some(until) = state.until {
            let left = until.duration_since(Timestamp::now());
            if let Ok(left) = Duration::try_from(left)
                && !left.is_zero()
            {
                if left > PATIENCE || state.waited > IN_ALL {
                    let host = self.name.clone();
                    return Err(FetchError::Held { url: shown.to_owned(), host, until });
                }
                // All who wait would come at once.
                return Ok(Now::Wait(left + backoff(0)));
            }
        }
        let Some(at) = state.refused_at.filter(|_| state.refused > 0) else { return Ok(Now::Go) };
        let pause = (at + Duration::from_millis(250) * state.refused)
            .saturating_duration_since(Instant::now());
        Ok(Now::Probe(pause))
    }
}

impl Pass {
    /// Learns what an answer says. `from` is who gave it, at the end of all redirects.
    pub(super) fn answered(&self, from: &Url, status: StatusCode, headers: &HeaderMap) -> Said {
        let now = Timestamp::now();
        let said = quota::read(status, headers, now);
        let other = self.gate.host(from);
        if other.name == self.host.name {
            self.host.learn(status, said, now);
        } else {
            // It led us to another host. Whoever would be led there had better not come, either.
            self.host.learn(status, Said { quota: None, ..said }, now);
            other.learn(status, said, now);
        }
        said
    }

    /// Learns that the host wants to be left alone.
    pub(super) fn hold(&self, until: Timestamp) {
        self.host.hold(until, Timestamp::now());
    }

    /// Learns that there was no connection.
    pub(super) fn refused(&self, reason: &str) {
        let mut state = self.host.state();
        // Those who asked at the same time say nothing new.
        if state.refused == self.round {
            state.refused += 1;
            state.refused_at = Some(Instant::now());
        }
        if state.refused >= TRIES {
            state.down.get_or_insert_with(|| reason.to_owned());
        }
    }
}

impl Host {
    fn learn(&self, status: StatusCode, said: Said, now: Timestamp) {
        let mut state = self.state();
        state.refused = 0;
        if !status.is_server_error() {
            state.broken.clear();
        }
        state.quota = said.quota.or(state.quota);
        drop(state);
        if let Some(until) = said.until {
            self.hold(until, now);
        }
    }

    fn hold(&self, until: Timestamp, now: Timestamp) {
        let mut state = self.state();
        let before = state.until.unwrap_or(now).max(now);
        if until > before {
            let longer = Duration::try_from(until.duration_since(before)).unwrap_or_default();
            state.waited = state.waited.saturating_add(longer);
            state.until = Some(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[tokio::test]
    async fn what_one_request_is_told_holds_for_all_of_the_host() {
        let gate = Gate::new(2);
        let at = url("http://a.test/one");
        let pass = gate.enter(&at, "one").await.unwrap();
        let wait = headers(&[("retry-after", "3600".to_owned())]);
        assert!(pass.answered(&at, StatusCode::TOO_MANY_REQUESTS, &wait).refused);
        let held = gate.enter(&url("http://a.test/two"), "two").await.unwrap_err();
        assert!(matches!(&held, FetchError::Held { host, .. } if host == "a.test"), "{held}");
        gate.enter(&url("http://a.test:8080/"), "").await.expect("another server");
        gate.enter(&url("http://b.test/"), "").await.expect("another host");
    }

    #[tokio::test]
    async fn a_host_that_is_down_costs_its_tries_once() {
        let gate = Gate::new(64);
        let at = url("http://a.test/");
        // Many at once: those of the first round count as one.
        let first = futures::future::join_all((0..50).map(|_| gate.enter(&at, ""))).await;
        for pass in &first {
            pass.as_ref().unwrap().refused("refused");
        }
        drop(first);
        let tried = std::cell::Cell::new(0);
        futures::future::join_all((0..50).map(async |_| {
            if let Ok(pass) = gate.enter(&at, "").await {
                tried.set(tried.get() + 1);
                tokio::task::yield_now().await;
                pass.refused("refused");
            }
        }))
        .await;
        assert_eq!(tried.get(), TRIES - 1);
        let down = gate.enter(&at, "x").await.unwrap_err();
        assert!(matches!(down, FetchError::Down { .. }), "{down}");
    }

    #[tokio::test]
    async fn a_host_that_is_back_is_as_before() {
        let gate = Gate::new(2);
        let at = url("http://a.test/");
        for _ in 0..5 {
            gate.enter(&at, "").await.unwrap().refused("refused");
            gate.enter(&at, "").await.unwrap().answered(&at, StatusCode::OK, &HeaderMap::new());
        }
    }

    #[tokio::test]
    async fn one_broken_address_is_no_broken_host() {
        let gate = Gate::new(2);
        let error = || FetchError::Truncated { url: "x".into(), received: 1 };
        for _ in 0..9 {
            gate.gave_up(&url("http://a.test/one"), &error());
        }
        gate.gave_up(&url("http://a.test/two"), &error());
        gate.enter(&url("http://a.test/"), "").await.unwrap().answered(
            &url("http://a.test/"),
            StatusCode::NOT_FOUND,
            &HeaderMap::new(),
        );
        gate.gave_up(&url("http://a.test/three"), &error());
        gate.enter(&url("http://a.test/"), "").await.expect("a good answer in between");
        gate.gave_up(&url("http://a.test/four"), &error());
        gate.gave_up(&url("http://a.test/five"), &error());
        assert!(gate.enter(&url("http://a.test/"), "").await.is_err());
    }

    #[tokio::test]
    async fn waiting_again_and_again_comes_to_an_end() {
        let gate = Gate::new(2);
        let at = url("http://a.test/");
        let pass = gate.enter(&at, "").await.unwrap();
        for n in 1..=8 {
            let until = Timestamp::now() + jiff::SignedDuration::from_secs(n * 9);
            pass.hold(until);
        }
        assert!(gate.enter(&at, "").await.is_err());
    }

    #[tokio::test]
    async fn no_more_at_once_than_said() {
        let gate = Gate::new(2);
        let at = url("http://a.test/");
        let one = gate.enter(&at, "").await.unwrap();
        let _two = gate.enter(&at, "").await.unwrap();
        let mut three = Box::pin(gate.enter(&at, ""));
        assert!(futures::poll!(&mut three).is_pending());
        drop(one);
        three.await.unwrap();
    }
}
