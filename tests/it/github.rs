//! A stand-in for GitHub, as far as a reader or a writer of releases meets it.
//!
//! This module owns four servers that know each other, as the real ones do:
//! the REST API, the one for uploads (in `assets`, with all that changes
//! something), the web site with its download links, and the storage those
//! links lead to by a signed address on another host (here: another port). It
//! keeps to what the real ones do where a client could stumble: weak tags and
//! 304, Link headers by repository number, quotas, moved and private
//! repositories, drafts, and a storage that refuses an Authorization header.
#![allow(dead_code, reason = "a stand-in can do more than today's tests ask")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::response::Response;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::web::{
    Answer, Call, EPOCH, Fault, Faults, Files, Port, Request, Server, escape, iso_date, lock,
    reason, seconds, sha256,
};

#[path = "github/assets.rs"]
mod assets;

pub use assets::Death;

const DOCS: &str = "https://docs.github.com/rest";
const RATE_DOCS: &str =
    "https://docs.github.com/rest/overview/resources-in-the-rest-api#rate-limiting";
const SECONDARY_DOCS: &str = "https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits";
const REDIRECT_DOCS: &str =
    "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects";

// The words of the real ones.
const NO_AGENT: &str = "\r\nRequest forbidden by administrative rules. Please make sure your request has a User-Agent header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required). Check https://developer.github.com for other possible causes.\r\n";
const ANONYMOUS_LIMIT: &str = "API rate limit exceeded for 127.0.0.1. (But here's the good news: Authenticated requests get a higher rate limit. Check out the documentation for more details.)";
const SECONDARY_LIMIT: &str =
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
const SUPPORT: &str = "If you reach out to GitHub Support for help, please include the request ID";
const TWO_MECHANISMS: &str = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified";
const UNICORN: &str = "<!DOCTYPE html>\n<html>\n  <head><title>Unicorn! &middot; GitHub</title></head>\n  <body><p><strong>We had issues producing the response to your request.</strong></p></body>\n</html>\n";
const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// A release to publish; see [`GitHub::release`].
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "the real one has as many")]
pub struct Release {
    tag: String,
    name: Option<String>,
    body: Option<String>,
    draft: bool,
    prerelease: bool,
    immutable: bool,
    latest: bool,
    published: Option<String>,
    assets: Vec<(String, String, Bytes)>,
}

impl Release {
    /// A published release without assets; its name is its tag.
    pub fn new(tag: &str) -> Release {
        Release {
            tag: tag.to_owned(),
            name: Some(tag.to_owned()),
            body: Some(String::new()),
            draft: false,
            prerelease: false,
            immutable: false,
            latest: false,
            published: None,
            assets: Vec::new(),
        }
    }

    #[must_use]
    pub fn asset(self, name: &str, bytes: impl Into<Vec<u8>>) -> Release {
        self.asset_of("application/octet-stream", name, bytes)
    }

    /// An asset with a content type of its own.
    #[must_use]
    pub fn asset_of(mut self, kind: &str, name: &str, bytes: impl Into<Vec<u8>>) -> Release {
        let bytes = bytes.into().into();
        self.assets.push((name.to_owned(), kind.to_owned(), bytes));
        self
    }

    /// The title, `None` for one never given.
    #[must_use]
    pub fn name(mut self, name: Option<&str>) -> Release {
        self.name = name.map(ToOwned::to_owned);
        self
    }

    /// The notes, `None` for ones never given.
    #[must_use]
    pub fn body(mut self, body: Option<&str>) -> Release {
        self.body = body.map(ToOwned::to_owned);
        self
    }

    #[must_use]
    pub fn draft(mut self, draft: bool) -> Release {
        self.draft = draft;
        self
    }

    #[must_use]
    pub fn prerelease(mut self, prerelease: bool) -> Release {
        self.prerelease = prerelease;
        self
    }

    #[must_use]
    pub fn immutable(mut self) -> Release {
        self.immutable = true;
        self
    }

    /// Marked as the latest by hand, whatever the dates say.
    #[must_use]
    pub fn latest(mut self) -> Release {
        self.latest = true;
        self
    }

    /// When, as `2024-01-02T03:04:05Z`. Without it each release is a day
    /// younger than the one put in before.
    #[must_use]
    pub fn published(mut self, at: &str) -> Release {
        self.published = Some(at.to_owned());
        self
    }
}

/// What the storage holds for an asset, and what the API says of it.
#[derive(Clone)]
struct Asset {
    id: u64,
    label: String,
    /// `uploaded`, or `starter` for one whose bytes never all came.
    state: &'static str,
    name: String,
    kind: String,
    size: usize,
    digest: Option<String>,
    sha256: String,
    updated: String,
    downloads: u64,
}

#[derive(Clone)]
struct Stored {
    id: u64,
    release: Release,
    created: String,
    updated: String,
    assets: Vec<Asset>,
}

#[derive(Clone)]
struct Repo {
    id: u64,
    /// `owner/name` as first written; looking up ignores case.
    full: String,
    private: bool,
    releases: Vec<Stored>,
    /// Tags without a release.
    tags: BTreeSet<String>,
    /// Sigstore bundles, by `sha256:…`.
    attestations: BTreeMap<String, Vec<Value>>,
    /// Workflows that may be started, by the names of their files.
    workflows: BTreeMap<String, Workflow>,
    runs: Vec<Run>,
}

/// A workflow, and what its runs will be like.
#[derive(Clone)]
pub struct Workflow {
    /// The inputs that it declares.
    pub inputs: Vec<&'static str>,
    /// Whether the API knows `return_run_details`.
    pub tells: bool,
    /// How often its runs are asked after before they are over.
    pub polls: usize,
    /// How they end.
    pub conclusion: &'static str,
    /// What they leave: names and zips.
    pub artifacts: Vec<(&'static str, Vec<u8>)>,
    /// What the API says of the artifacts' digests, if that is not the truth.
    pub digest: Option<String>,
}

/// A run of a workflow.
#[derive(Clone)]
struct Run {
    id: u64,
    file: String,
    inputs: Value,
    left: usize,
    cancelled: bool,
    artifacts: Vec<u64>,
}

impl Repo {
    fn find(&mut self, tag: &str) -> Option<&mut Stored> {
        self.releases.iter_mut().find(|r| r.release.tag == tag)
    }

    /// Newest first, among equals the last one put in first.
    fn listed(&self, drafts: bool) -> Vec<&Stored> {
        let mut all: Vec<&Stored> = self.releases.iter().rev().collect();
        all.retain(|r| drafts || !r.release.draft);
        all.sort_by(|a, b| b.created.cmp(&a.created));
        all
    }

    fn latest(&self) -> Option<&Stored> {
        let mut all = self.listed(false);
        all.retain(|r| !r.release.prerelease);
        let marked = all.iter().find(|r| r.release.latest);
        marked.or(all.first()).copied()
    }

    /// All tags, highest first by their bytes, as the real list has them.
    fn tag_names(&self) -> Vec<&str> {
        let drawn = self.releases.iter().filter(|r| !r.release.draft);
        let mut names: BTreeSet<&str> = drawn.map(|r| r.release.tag.as_str()).collect();
        names.extend(self.tags.iter().map(String::as_str));
        names.into_iter().rev().collect()
    }
}

struct Quota {
    remaining: u32,
    /// `None`: what the real one gives, 60 an hour or 5000 with a token.
    limit: Option<u32>,
    reset: i64,
}

struct State {
    api: String,
    web: String,
    storage: String,
    repos: BTreeMap<String, Repo>,
    moved: BTreeMap<String, String>,
    token: Option<String>,
    quota: Quota,
    secondary: (u32, usize),
    failing: Vec<(u16, usize)>,
    page_size: usize,
    anonymous_304_counts: bool,
    count_downloads: bool,
    api_faults: Faults,
    web_faults: Faults,
    files: Files,
    next_id: u64,
    clock: u64,
    requests: Vec<Request>,
    web_requests: Vec<Request>,
    storage_requests: Vec<Request>,
    writing: assets::Writing,
}

/// Who asks, as far as it matters.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Nobody,
    Known,
    Wrong,
}

/// The three servers, with one world behind them.
pub struct GitHub {
    state: Arc<Mutex<State>>,
    api: Server,
    uploads: Server,
    web: Server,
    storage: Server,
}

impl GitHub {
    /// Starts without repositories and with a full quota.
    pub fn start() -> GitHub {
        let (api, web, storage) = (Port::open(), Port::open(), Port::open());
        let uploads = Port::open();
        let state = Arc::new(Mutex::new(State {
            api: api.url(),
            web: web.url(),
            storage: storage.url(),
            repos: BTreeMap::new(),
            moved: BTreeMap::new(),
            token: None,
            quota: Quota {
                remaining: 5000,
                limit: Some(5000),
                reset: seconds(SystemTime::now()) + 3600,
            },
            secondary: (0, 0),
            failing: Vec::new(),
            page_size: 100,
            anonymous_304_counts: false,
            count_downloads: false,
            api_faults: Faults::default(),
            web_faults: Faults::default(),
            files: Files::default(),
            next_id: 1000,
            clock: EPOCH,
            requests: Vec::new(),
            web_requests: Vec::new(),
            storage_requests: Vec::new(),
            writing: assets::Writing::new(uploads.url()),
        }));
        let serve = |port: Port, answer: fn(&mut State, &Call) -> Option<Response>| {
            let state = Arc::clone(&state);
            port.serve(move |call| answer(&mut lock(&state), &call))
        };
        GitHub {
            api: serve(api, State::serve_api),
            uploads: serve(uploads, State::serve_uploads),
            web: serve(web, State::serve_web),
            storage: serve(storage, State::serve_storage),
            state,
        }
    }

    /// The address of the API, for `GITHUB_API_URL`; no slash at its end.
    pub fn api(&self) -> String {
        self.api.url.clone()
    }

    /// The address of the web site, where `browser_download_url` points.
    pub fn web(&self) -> String {
        self.web.url.clone()
    }

    /// The address the downloads are redirected to.
    pub fn storage(&self) -> String {
        self.storage.url.clone()
    }

    /// Makes a repository, if it is not there; one without releases is there too.
    pub fn repo(&self, repo: &str) {
        lock(&self.state).repo(repo);
    }

    /// Publishes a release, or replaces the one with the same tag: it keeps its
    /// number, and so does each asset whose name and content stay.
    pub fn release(&self, repo: &str, release: Release) {
        lock(&self.state).release(repo, release);
    }

    /// Attests the bytes with this digest by a bundle.
    pub fn attest(&self, repo: &str, sha256: &str, bundle: Value) {
        let mut state = lock(&self.state);
        let all = &mut state.repo(repo).attestations;
        all.entry(format!("sha256:{sha256}")).or_default().push(bundle);
    }

    pub fn remove_release(&self, repo: &str, tag: &str) {
        let mut state = lock(&self.state);
        state.repo(repo).releases.retain(|r| r.release.tag != tag);
    }

    /// A workflow that may be started.
    pub fn workflow(&self, repo: &str, file: &str, workflow: Workflow) {
        lock(&self.state).repo(repo).workflows.insert(file.to_owned(), workflow);
    }

    /// The inputs that runs were started with, and whether somebody cancelled them.
    pub fn runs(&self, repo: &str) -> Vec<(Value, bool)> {
        let mut state = lock(&self.state);
        let runs = &state.repo(repo).runs;
        runs.iter().map(|run| (run.inputs.clone(), run.cancelled)).collect()
    }

    /// A tag without a release.
    pub fn tag(&self, repo: &str, tag: &str) {
        lock(&self.state).repo(repo).tags.insert(tag.to_owned());
    }

    /// From now on a token other than this is answered 401. Without this call
    /// every token is good.
    pub fn require_token(&self, token: &str) {
        lock(&self.state).token = Some(token.to_owned());
    }

    /// Hides a repository from whoever has no token.
    pub fn private(&self, repo: &str) {
        lock(&self.state).repo(repo).private = true;
    }

    /// How much is left until when. What is spent after `reset` comes from a
    /// fresh hour, as with the real one.
    pub fn rate_limit(&self, remaining: u32, reset: SystemTime) {
        lock(&self.state).quota = Quota { remaining, limit: None, reset: seconds(reset) };
    }

    /// What is left of the quota.
    pub fn remaining(&self) -> u32 {
        lock(&self.state).quota.remaining
    }

    /// The next `times` API requests meet the secondary limit.
    pub fn secondary_limit(&self, retry_after: u32, times: usize) {
        lock(&self.state).secondary = (retry_after, times);
    }

    /// The next `times` API requests fail with this status; later calls wait
    /// for the earlier ones to be used up.
    pub fn fail(&self, status: u16, times: usize) {
        lock(&self.state).failing.push((status, times));
    }

    /// Any other fault of the API, by path (`"/repos/o/r/releases"`, or `"/*"`).
    pub fn api_fault(&self, path: &str, fault: Fault, times: usize) {
        lock(&self.state).api_faults.add(path, fault, times);
    }

    /// A fault of the web site, by path.
    pub fn web_fault(&self, path: &str, fault: Fault, times: usize) {
        lock(&self.state).web_faults.add(path, fault, times);
    }

    /// `old` was renamed to `new` (which has or gets the releases).
    pub fn moved(&self, old: &str, new: &str) {
        let mut state = lock(&self.state);
        state.repo(new);
        state.moved.insert(old.to_lowercase(), new.to_lowercase());
    }

    /// The most one page holds, whatever `per_page` asks for.
    pub fn page_size(&self, most: usize) {
        lock(&self.state).page_size = most.max(1);
    }

    /// By its documentation the real API forgives a 304 only to a request with
    /// a token; here it is forgiven to all, unless this is called.
    pub fn count_anonymous_304(&self) {
        lock(&self.state).anonymous_304_counts = true;
    }

    /// From now on a download counts, and so changes the tag of the list.
    pub fn count_downloads(&self) {
        lock(&self.state).count_downloads = true;
    }

    /// A fault of one asset's bytes, in the storage.
    ///
    /// # Panics
    ///
    /// Without such an asset, as all calls below.
    pub fn asset_fault(&self, repo: &str, tag: &str, name: &str, fault: Fault, times: usize) {
        let mut state = lock(&self.state);
        let repo_id = state.repo(repo).id;
        let path = storage_path(repo_id, state.asset(repo, tag, name).id);
        state.files.faults.add(&path, fault, times);
    }

    /// The storage flips a byte of it, always.
    pub fn corrupt_asset(&self, repo: &str, tag: &str, name: &str) {
        self.asset_fault(repo, tag, name, Fault::Corrupt, usize::MAX);
    }

    /// The storage cuts the connection half way, always.
    pub fn truncate_asset(&self, repo: &str, tag: &str, name: &str) {
        let half = lock(&self.state).asset(repo, tag, name).size / 2;
        self.asset_fault(repo, tag, name, Fault::Truncate(half), usize::MAX);
    }

    /// The API states a digest of other bytes.
    pub fn wrong_digest(&self, repo: &str, tag: &str, name: &str) {
        let digest = format!("sha256:{}", sha256(b"other bytes"));
        lock(&self.state).asset(repo, tag, name).digest = Some(digest);
    }

    /// The API states a digest of this form.
    pub fn digest(&self, repo: &str, tag: &str, name: &str, digest: &str) {
        lock(&self.state).asset(repo, tag, name).digest = Some(digest.to_owned());
    }

    /// The API states no digest, as for assets older than June 2025.
    pub fn no_digest(&self, repo: &str, tag: &str, name: &str) {
        lock(&self.state).asset(repo, tag, name).digest = None;
    }

    /// What the API was asked, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    /// What the web site was asked.
    pub fn web_requests(&self) -> Vec<Request> {
        lock(&self.state).web_requests.clone()
    }

    /// What the storage was asked.
    pub fn storage_requests(&self) -> Vec<Request> {
        lock(&self.state).storage_requests.clone()
    }

    /// Forgets the requests of all three.
    pub fn clear_requests(&self) {
        let mut state = lock(&self.state);
        state.requests.clear();
        state.web_requests.clear();
        state.storage_requests.clear();
    }
}

/// Changing the world.
impl State {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn repo(&mut self, full: &str) -> &mut Repo {
        assert!(full.split('/').count() == 2, "{full} is no owner/name");
        let id = self.id();
        self.repos.entry(full.to_lowercase()).or_insert_with(|| Repo {
            id,
            full: full.to_owned(),
            private: false,
            releases: Vec::new(),
            tags: BTreeSet::new(),
            attestations: BTreeMap::new(),
            workflows: BTreeMap::new(),
            runs: Vec::new(),
        })
    }

    fn asset(&mut self, repo: &str, tag: &str, name: &str) -> &mut Asset {
        let stored = self.repo(repo).find(tag);
        stored
            .and_then(|stored| stored.assets.iter_mut().find(|asset| asset.name == name))
            .unwrap_or_else(|| panic!("no asset {name} at {tag} of {repo}"))
    }

    fn release(&mut self, full: &str, release: Release) {
        self.clock += 86_400;
        let now = iso_date(self.clock);
        let new_id = self.id();
        let repo_id = self.repo(full).id;
        let before = {
            let releases = &mut self.repo(full).releases;
            releases
                .iter()
                .position(|r| r.release.tag == release.tag)
                .map(|at| (at, releases.remove(at)))
        };
        let mut assets = Vec::new();
        for (name, kind, bytes) in &release.assets {
            let sum = sha256(bytes);
            let same = before.as_ref().and_then(|(_, stored)| {
                let mut known = stored.assets.iter();
                known.find(|asset| asset.name == *name && asset.sha256 == sum)
            });
            let (id, updated) = match same {
                Some(asset) => (asset.id, asset.updated.clone()),
                None => (self.id(), now.clone()),
            };
            self.files.put(&storage_path(repo_id, id), bytes.clone());
            assets.push(Asset {
                id,
                label: String::new(),
                state: "uploaded",
                name: name.clone(),
                kind: kind.clone(),
                size: bytes.len(),
                digest: Some(format!("sha256:{sum}")),
                sha256: sum,
                updated,
                downloads: 0,
            });
        }
        let (at, id, created) = match before {
            Some((at, stored)) => (Some(at), stored.id, stored.created),
            None => (None, new_id, now.clone()),
        };
        let stored = Stored {
            id,
            created: release.published.clone().unwrap_or(created),
            updated: now,
            release,
            assets,
        };
        let releases = &mut self.repo(full).releases;
        releases.insert(at.unwrap_or(releases.len()), stored);
    }
}

/// The API.
impl State {
    fn serve_api(&mut self, call: &Call) -> Option<Response> {
        self.unless_dead(call, State::serve_api_alive)
    }

    fn serve_api_alive(&mut self, call: &Call) -> Option<Response> {
        let answer = self.api_answer(call);
        let response = self.api_faults.apply(call, answer);
        let status = response.as_ref().map_or(0, |r| r.status().as_u16());
        self.requests.push(call.log(status));
        response
    }

    fn api_answer(&mut self, call: &Call) -> Answer {
        // Refused at the door, before any quota.
        if call.header("user-agent").is_none_or(str::is_empty) {
            return Answer::new(403, NO_AGENT)
                .with("content-type", "text/html")
                .with("cache-control", "no-cache");
        }
        if let Some((status, left)) = self.failing.iter_mut().find(|(_, left)| *left > 0) {
            if *left != usize::MAX {
                *left -= 1;
            }
            return broken(*status);
        }
        let who = self.who(call);
        let limit = self.refill(who);
        let limited = |answer: Answer, quota: &Quota| {
            let used = limit.saturating_sub(quota.remaining);
            answer
                .with("x-ratelimit-limit", &limit.to_string())
                .with("x-ratelimit-remaining", &quota.remaining.to_string())
                .with("x-ratelimit-reset", &quota.reset.to_string())
                .with("x-ratelimit-used", &used.to_string())
                .with("x-ratelimit-resource", "core")
        };
        let answer = if call.path == "/rate_limit" && who != Who::Wrong {
            self.rate_limit_answer(limit)
        } else if self.secondary.1 > 0 {
            if self.secondary.1 != usize::MAX {
                self.secondary.1 -= 1;
            }
            let text = format!("{SECONDARY_LIMIT} {SUPPORT} {}.", request_id(call));
            message(403, &text, SECONDARY_DOCS).with("retry-after", &self.secondary.0.to_string())
        } else if self.quota.remaining == 0 {
            let text = if who == Who::Known {
                format!("API rate limit exceeded for user ID 1. {SUPPORT} {}.", request_id(call))
            } else {
                ANONYMOUS_LIMIT.to_owned()
            };
            message(403, &text, RATE_DOCS)
        } else {
            let answer = self.routed(call, who);
            let free = answer.status == 304 && (who == Who::Known || !self.anonymous_304_counts);
            if !free {
                self.quota.remaining -= 1;
            }
            answer
        };
        limited(answer, &self.quota)
            .with("server", "github.com")
            .with("x-github-media-type", "github.v3; format=json")
            .with("x-github-request-id", &request_id(call))
            .with("x-github-api-version-selected", "2022-11-28")
    }

    fn who(&self, call: &Call) -> Who {
        let Some(value) = call.header("authorization") else {
            return Who::Nobody;
        };
        let token = value
            .split_once(' ')
            .filter(|(scheme, _)| {
                scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token")
            })
            .map(|(_, token)| token);
        match (&self.token, token) {
            (_, None) => Who::Wrong,
            (Some(good), Some(token)) if good != token => Who::Wrong,
            _ => Who::Known,
        }
    }

    /// The limit for this caller, after a new hour where one began.
    fn refill(&mut self, who: Who) -> u32 {
        let usual = if who == Who::Known { 5000 } else { 60 };
        let limit = self.quota.limit.unwrap_or(usual);
        let now = seconds(SystemTime::now());
        if now >= self.quota.reset {
            self.quota.remaining = limit;
            self.quota.reset = now + 3600;
        }
        limit.max(self.quota.remaining)
    }

    fn rate_limit_answer(&self, limit: u32) -> Answer {
        let remaining = self.quota.remaining;
        let reset = self.quota.reset;
        let rate = json!({
            "limit": limit, "remaining": remaining, "reset": reset,
            "used": limit.saturating_sub(remaining), "resource": "core",
        });
        let search = json!({
            "limit": 10, "remaining": 10, "reset": reset, "used": 0, "resource": "search",
        });
        let graphql = json!({
            "limit": 0, "remaining": 0, "reset": reset, "used": 0, "resource": "graphql",
        });
        let resources = json!({"core": rate, "search": search, "graphql": graphql});
        json_answer(200, &json!({"resources": resources, "rate": rate}))
            .with("cache-control", "no-cache")
    }

    fn routed(&mut self, call: &Call, who: Who) -> Answer {
        if who == Who::Wrong {
            return message(401, "Bad credentials", DOCS);
        }
        if let Some(answer) = self.actions(call, who).or_else(|| self.changed(call, who)) {
            return answer;
        }
        if call.method != Method::GET && call.method != Method::HEAD {
            return not_found();
        }
        // Tags may have slashes in them, so the path is taken apart by hand.
        let path = call.path.trim_end_matches('/');
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (key, rest) = match parts.as_slice() {
            ["repos", owner, name, rest @ ..] => (format!("{owner}/{name}").to_lowercase(), rest),
            ["repositories", id, rest @ ..] => {
                let found = self.repos.iter().find(|(_, r)| r.id.to_string() == *id);
                (found.map_or_else(String::new, |(key, _)| key.clone()), rest)
            }
            _ => return not_found(),
        };
        if let Some(new) = self.moved.get(&key) {
            let id = self.repos.get(new).map_or(0, |repo| repo.id);
            let mut to = format!("{}/repositories/{id}", self.api);
            for part in rest {
                to = format!("{to}/{}", escape(part));
            }
            if !call.query.is_empty() {
                to = format!("{to}?{}", call.query);
            }
            let body = json!({
                "message": "Moved Permanently", "url": to, "documentation_url": REDIRECT_DOCS,
            });
            return json_answer(301, &body).with("location", &to);
        }
        let Some(repo) = self.repos.get(&key) else {
            return not_found();
        };
        let known = who == Who::Known;
        if repo.private && !known {
            return not_found();
        }
        let seen = |found: Option<&Stored>| match found {
            Some(stored) if known || !stored.release.draft => {
                tagged(call, who, &self.release_json(repo, stored))
            }
            _ => not_found(),
        };
        match rest {
            [] => tagged(call, who, &self.repo_json(repo)),
            ["releases"] => {
                let all = repo.listed(known);
                let all = all.iter().map(|r| self.release_json(repo, r));
                self.paged(call, who, repo, rest, all.collect())
            }
            ["releases", "latest"] => seen(repo.latest()),
            ["releases", "tags", tag @ ..] => {
                let tag = tag.join("/");
                // A draft has no tag yet, not even for those who see it.
                let found = repo.releases.iter().find(|r| r.release.tag == tag);
                seen(found.filter(|stored| !stored.release.draft))
            }
            ["releases", "assets", id] => {
                let mut all = repo.releases.iter().flat_map(|r| {
                    let assets = r.assets.iter();
                    assets.map(move |asset| (r, asset))
                });
                let found = all.find(|(_, asset)| asset.id.to_string() == *id);
                match found.filter(|(stored, _)| known || !stored.release.draft) {
                    None => not_found(),
                    Some((_, asset)) if wants_bytes(call) && asset.state != "uploaded" => {
                        not_found()
                    }
                    Some((_, asset)) if wants_bytes(call) => {
                        Answer::new(302, "").with("location", &self.signed(repo, asset))
                    }
                    Some((stored, asset)) => {
                        tagged(call, who, &self.asset_json(repo, stored, asset))
                    }
                }
            }
            ["releases", id] => seen(repo.releases.iter().find(|r| r.id.to_string() == *id)),
            ["releases", id, "assets"] => {
                let found = repo.releases.iter().find(|r| r.id.to_string() == *id);
                match found.filter(|stored| known || !stored.release.draft) {
                    None => not_found(),
                    Some(r) => {
                        let all = r.assets.iter().map(|a| self.asset_json(repo, r, a));
                        self.paged(call, who, repo, rest, all.collect())
                    }
                }
            }
            ["attestations", digest] => match self.attestations_json(repo, digest) {
                None => not_found(),
                Some(answer) => tagged(call, who, &answer),
            },
            ["tags"] => {
                let names = repo.tag_names();
                let all = names.iter().map(|name| self.tag_json(repo, name));
                self.paged(call, who, repo, rest, all.collect())
            }
            _ => not_found(),
        }
    }

    /// The part about actions, which answers more than GET; `None` for all else.
    fn actions(&mut self, call: &Call, who: Who) -> Option<Answer> {
        let parts: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        let ["repos", owner, name, "actions", rest @ ..] = parts.as_slice() else { return None };
        let key = format!("{owner}/{name}").to_lowercase();
        let posts = call.method == Method::POST;
        if posts && who != Who::Known {
            return Some(message(401, "Requires authentication", DOCS));
        }
        if let (["workflows", file, "dispatches"], true) = (rest, posts) {
            return Some(self.dispatched(&key, file, call));
        }
        let (api, web, storage) = (self.api.clone(), self.web.clone(), self.storage.clone());
        let Some(repo) = self.repos.get_mut(&key) else { return Some(not_found()) };
        let root = format!("{api}/repos/{}/actions", repo.full);
        let (id, full) = (repo.id, repo.full.clone());
        let shown = |run: &Run, workflow: &Workflow| {
            let over = run.left == 0;
            let title = format!("image {}", run.inputs["id"].as_str().unwrap_or_default());
            json!({
                "id": run.id, "name": "image", "display_title": title, "event": "workflow_dispatch",
                "head_branch": "main", "run_number": 1, "run_attempt": 1,
                "status": if over { "completed" } else { "in_progress" },
                "conclusion": if over { json!(workflow.conclusion) } else { Value::Null },
                "url": format!("{root}/runs/{}", run.id),
                "html_url": format!("{web}/{full}/actions/runs/{}", run.id),
            })
        };
        Some(match rest {
            ["workflows", file, "runs"] => {
                let Some(workflow) = repo.workflows.get(*file) else { return Some(not_found()) };
                let runs = repo.runs.iter().rev().filter(|run| run.file == **file);
                let runs: Vec<Value> = runs.map(|run| shown(run, workflow)).collect();
                json_answer(200, &json!({"total_count": runs.len(), "workflow_runs": runs}))
            }
            ["runs", number, more @ ..] => {
                let found = repo.runs.iter_mut().find(|run| run.id.to_string() == *number);
                let Some(run) = found else { return Some(not_found()) };
                let workflow = &repo.workflows[&run.file];
                match more {
                    [] => {
                        let answer = json_answer(200, &shown(run, workflow));
                        run.left = run.left.saturating_sub(1);
                        answer
                    }
                    ["cancel"] if posts => {
                        run.cancelled = true;
                        json_answer(202, &json!({}))
                    }
                    ["artifacts"] => {
                        let all = run.artifacts.iter().zip(&workflow.artifacts);
                        let all: Vec<Value> = all
                            .map(|(id, (name, bytes))| {
                                let digest = format!("sha256:{}", sha256(bytes));
                                json!({
                                    "id": id, "name": name, "size_in_bytes": bytes.len(), "expired": false,
                                    "digest": workflow.digest.clone().unwrap_or(digest),
                                    "archive_download_url": format!("{root}/artifacts/{id}/zip"),
                                })
                            })
                            .collect();
                        json_answer(200, &json!({"total_count": all.len(), "artifacts": all}))
                    }
                    _ => not_found(),
                }
            }
            // Not even those of public repositories are everybody's.
            ["artifacts", _, "zip"] if who != Who::Known => {
                message(401, "Requires authentication", DOCS)
            }
            ["artifacts", artifact, "zip"] => {
                let path = storage_path(id, artifact.parse().unwrap_or_default());
                let sig = &sha256(path.as_bytes())[..32];
                Answer::new(302, "").with("location", &format!("{storage}{path}?sig={sig}"))
            }
            _ => not_found(),
        })
    }

    /// A workflow is started.
    fn dispatched(&mut self, key: &str, file: &str, call: &Call) -> Answer {
        let (api, web, next) = (self.api.clone(), self.web.clone(), self.next_id + 1);
        let Some(repo) = self.repos.get_mut(key) else { return not_found() };
        let (id, full) = (repo.id, repo.full.clone());
        let Some(workflow) = repo.workflows.get(file).cloned() else { return not_found() };
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        if body["ref"] != "main" {
            let text = format!("No ref found for: {}", body["ref"].as_str().unwrap_or_default());
            return message(422, &text, DOCS);
        }
        let inputs = body["inputs"].as_object().cloned().unwrap_or_default();
        let unexpected = |key: &&String| !workflow.inputs.contains(&key.as_str());
        if let Some(other) = inputs.keys().find(unexpected) {
            return message(422, &format!("Unexpected inputs provided: [\"{other}\"]"), DOCS);
        }
        let artifacts: Vec<u64> = (1..).map(|n| next + n).take(workflow.artifacts.len()).collect();
        for (artifact, (_, bytes)) in artifacts.iter().zip(&workflow.artifacts) {
            self.files.put(&storage_path(id, *artifact), bytes.clone().into());
        }
        self.next_id += 1 + artifacts.len() as u64;
        repo.runs.push(Run {
            id: next,
            file: file.to_owned(),
            inputs: inputs.into(),
            left: workflow.polls,
            cancelled: false,
            artifacts,
        });
        if !workflow.tells || body["return_run_details"] != true {
            return Answer::new(204, "");
        }
        let run = format!("{api}/repos/{full}/actions/runs/{next}");
        let page = format!("{web}/{full}/actions/runs/{next}");
        json_answer(200, &json!({"workflow_run_id": next, "run_url": run, "html_url": page}))
    }

    fn paged(&self, call: &Call, who: Who, repo: &Repo, rest: &[&str], all: Vec<Value>) -> Answer {
        let number = |name| call.asked(name).and_then(|n| n.parse::<usize>().ok());
        let asked = number("per_page").filter(|n| *n > 0).unwrap_or(30);
        let size = asked.min(100).min(self.page_size);
        let page = number("page").unwrap_or(1).max(1);
        let last = all.len().div_ceil(size).max(1);
        let start = (page - 1).saturating_mul(size);
        let items: Vec<Value> = all.into_iter().skip(start).take(size).collect();
        let link = |page: usize, rel: &str| {
            let per_page = call.asked("per_page");
            let per_page = per_page.map_or_else(String::new, |n| format!("per_page={n}&"));
            let path = rest.join("/");
            let (api, id) = (&self.api, repo.id);
            format!("<{api}/repositories/{id}/{path}?{per_page}page={page}>; rel=\"{rel}\"")
        };
        let mut links = Vec::new();
        if page > 1 {
            links.push(link((page - 1).min(last), "prev"));
        }
        if page < last {
            links.push(link(page + 1, "next"));
            links.push(link(last, "last"));
        }
        if page > 1 {
            links.push(link(1, "first"));
        }
        let answer = tagged(call, who, &Value::Array(items));
        // A 304 has no Link header.
        if links.is_empty() || answer.status != 200 {
            return answer;
        }
        answer.with("link", &links.join(", "))
    }

    fn signed(&self, repo: &Repo, asset: &Asset) -> String {
        let path = storage_path(repo.id, asset.id);
        let sig = &sha256(path.as_bytes())[..32];
        let shown = format!("attachment%3B%20filename%3D{}", escape(&asset.name));
        format!("{}{path}?sp=r&sv=2018-11-09&sr=b&rscd={shown}&sig={sig}", self.storage)
    }

    fn user_json(&self, login: &str) -> Value {
        let user = format!("{}/users/{login}", self.api);
        json!({
            "login": login,
            "id": 1,
            "node_id": "MDQ6VXNlcjE=",
            "avatar_url": "https://avatars.githubusercontent.com/u/1?v=4",
            "gravatar_id": "",
            "url": user,
            "html_url": format!("{}/{login}", self.web),
            "followers_url": format!("{user}/followers"),
            "following_url": format!("{user}/following{{/other_user}}"),
            "gists_url": format!("{user}/gists{{/gist_id}}"),
            "starred_url": format!("{user}/starred{{/owner}}{{/repo}}"),
            "subscriptions_url": format!("{user}/subscriptions"),
            "organizations_url": format!("{user}/orgs"),
            "repos_url": format!("{user}/repos"),
            "events_url": format!("{user}/events{{/privacy}}"),
            "received_events_url": format!("{user}/received_events"),
            "type": "User",
            "user_view_type": "public",
            "site_admin": false,
        })
    }

    fn repo_json(&self, repo: &Repo) -> Value {
        let (owner, name) = repo.full.split_once('/').unwrap_or_default();
        json!({
            "id": repo.id,
            "node_id": format!("R_kgDO{:08x}", repo.id),
            "name": name,
            "full_name": repo.full,
            "private": repo.private,
            "visibility": if repo.private { "private" } else { "public" },
            "owner": self.user_json(owner),
            "html_url": format!("{}/{}", self.web, repo.full),
            "url": format!("{}/repos/{}", self.api, repo.full),
            "releases_url": format!("{}/repos/{}/releases{{/id}}", self.api, repo.full),
            "description": null,
            "fork": false,
            "archived": false,
            "disabled": false,
            "default_branch": "main",
        })
    }

    fn release_json(&self, repo: &Repo, stored: &Stored) -> Value {
        let Stored { id, release, .. } = stored;
        let tag = escape(&release.tag);
        let root = format!("{}/repos/{}", self.api, repo.full);
        // A draft hides behind a made-up tag until it is published.
        let shown = if release.draft { format!("untagged-{id:016x}") } else { tag.clone() };
        let assets = stored.assets.iter();
        let assets: Vec<Value> = assets.map(|a| self.asset_json(repo, stored, a)).collect();
        let owner = repo.full.split('/').next().unwrap_or_default();
        let ball = |kind: &str| {
            let url = format!("{root}/{kind}/{tag}");
            if release.draft { Value::Null } else { url.into() }
        };
        json!({
            "url": format!("{root}/releases/{id}"),
            "assets_url": format!("{root}/releases/{id}/assets"),
            "upload_url": format!(
                "{}/repos/{}/releases/{id}/assets{{?name,label}}",
                self.writing.url, repo.full
            ),
            "html_url": format!("{}/{}/releases/tag/{shown}", self.web, repo.full),
            "id": id,
            "author": self.user_json(owner),
            "node_id": format!("RE_kwDO{id:08x}"),
            "tag_name": release.tag,
            "target_commitish": "main",
            "name": release.name,
            "draft": release.draft,
            "immutable": release.immutable,
            "prerelease": release.prerelease,
            "created_at": stored.created,
            "updated_at": stored.updated,
            "published_at": if release.draft { Value::Null } else { stored.created.as_str().into() },
            "assets": assets,
            "tarball_url": ball("tarball"),
            "zipball_url": ball("zipball"),
            "body": release.body,
        })
    }

    fn asset_json(&self, repo: &Repo, stored: &Stored, asset: &Asset) -> Value {
        let owner = repo.full.split('/').next().unwrap_or_default();
        let tag = if stored.release.draft {
            format!("untagged-{:016x}", stored.id)
        } else {
            escape(&stored.release.tag)
        };
        let name = escape(&asset.name);
        json!({
            "url": format!("{}/repos/{}/releases/assets/{}", self.api, repo.full, asset.id),
            "id": asset.id,
            "node_id": format!("RA_kwDO{:08x}", asset.id),
            "name": asset.name,
            "label": asset.label,
            "uploader": self.user_json(owner),
            "content_type": asset.kind,
            "state": asset.state,
            "size": asset.size,
            "digest": asset.digest,
            "download_count": asset.downloads,
            "created_at": asset.updated,
            "updated_at": asset.updated,
            "browser_download_url": format!("{}/{}/releases/download/{tag}/{name}", self.web, repo.full),
        })
    }

    fn attestations_json(&self, repo: &Repo, digest: &str) -> Option<Value> {
        let bundles = repo.attestations.get(digest)?.iter();
        let all = bundles.map(|bundle| {
            json!({
                "bundle": bundle,
                "repository_id": repo.id,
                "bundle_url": format!("{}/bundles/{digest}", self.storage),
                "initiator": "user",
            })
        });
        Some(json!({ "attestations": all.collect::<Vec<Value>>() }))
    }

    fn tag_json(&self, repo: &Repo, name: &str) -> Value {
        let root = format!("{}/repos/{}", self.api, repo.full);
        let sha = &sha256(format!("{}@{name}", repo.full).as_bytes())[..40];
        let tag = escape(name);
        json!({
            "name": name,
            "zipball_url": format!("{root}/zipball/refs/tags/{tag}"),
            "tarball_url": format!("{root}/tarball/refs/tags/{tag}"),
            "commit": {"sha": sha, "url": format!("{root}/commits/{sha}")},
            "node_id": format!("REF_kwDO{}", &sha[..12]),
        })
    }
}

/// The web site and the storage.
impl State {
    fn serve_web(&mut self, call: &Call) -> Option<Response> {
        let answer = self.web_answer(call);
        let response = self.web_faults.apply(call, answer);
        let status = response.as_ref().map_or(0, |r| r.status().as_u16());
        self.web_requests.push(call.log(status));
        response
    }

    fn web_answer(&mut self, call: &Call) -> Answer {
        let missing =
            || Answer::new(404, "Not Found").with("content-type", "text/plain; charset=utf-8");
        let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
        let [owner, name, "releases", rest @ ..] = parts.as_slice() else {
            return missing();
        };
        let key = format!("{owner}/{name}").to_lowercase();
        if let Some(repo) = self.moved.get(&key).and_then(|new| self.repos.get(new)) {
            let end = call.target.splitn(4, '/').nth(3).unwrap_or_default();
            let to = format!("{}/{}/{end}", self.web, repo.full);
            return Answer::new(301, "").with("location", &to);
        }
        // The site knows sessions, not tokens: what is private it has not.
        let Some(repo) = self.repos.get(&key).filter(|repo| !repo.private) else {
            return missing();
        };
        let (tag, file) = match rest {
            ["latest", "download", file] => {
                let Some(latest) = repo.latest() else {
                    return missing();
                };
                let tag = escape(&latest.release.tag);
                let to =
                    format!("{}/{}/releases/download/{tag}/{}", self.web, repo.full, escape(file));
                return Answer::new(302, "").with("location", &to);
            }
            ["download", tag @ .., file] => (tag.join("/"), *file),
            _ => return missing(),
        };
        let stored = repo.releases.iter().find(|r| r.release.tag == tag);
        let asset = stored
            .filter(|stored| !stored.release.draft)
            .and_then(|stored| stored.assets.iter().find(|asset| asset.name == file))
            .filter(|asset| asset.state == "uploaded");
        let Some(asset) = asset else {
            return missing();
        };
        Answer::new(302, "")
            .with("location", &self.signed(repo, asset))
            .with("content-type", "text/html; charset=utf-8")
            .with("cache-control", "no-cache")
    }

    fn serve_storage(&mut self, call: &Call) -> Option<Response> {
        let answer = self.storage_answer(call);
        let response = self.files.faults.apply(call, answer);
        let status = response.as_ref().map_or(0, |r| r.status().as_u16());
        self.storage_requests.push(call.log(status));
        response
    }

    fn storage_answer(&mut self, call: &Call) -> Answer {
        let refuse = |status: u16, code: &str, text: &str| {
            let body = format!("{XML}<Error><Code>{code}</Code><Message>{text}</Message></Error>");
            Answer::new(status, body).with("content-type", "application/xml")
        };
        if call.headers.contains_key("authorization") {
            let text = TWO_MECHANISMS;
            return refuse(400, "InvalidArgument", text);
        }
        if call.asked("sig") != Some(&sha256(call.path.as_bytes())[..32]) {
            let text = "Server failed to authenticate the request.";
            return refuse(403, "AuthenticationFailed", text);
        }
        if self.count_downloads && call.method == Method::GET {
            let all = self.repos.values_mut().flat_map(|repo| {
                let id = repo.id;
                let releases = repo.releases.iter_mut();
                releases.flat_map(move |r| r.assets.iter_mut().map(move |a| (id, a)))
            });
            for (repo, asset) in all {
                if storage_path(repo, asset.id) == call.path {
                    asset.downloads += 1;
                }
            }
        }
        self.files.answer(call)
    }
}

fn storage_path(repo: u64, asset: u64) -> String {
    format!("/github-production-release-asset/{repo}/{asset}")
}

fn wants_bytes(call: &Call) -> bool {
    call.header("accept").is_some_and(|accept| accept.contains("application/octet-stream"))
}

fn json_answer(status: u16, body: &Value) -> Answer {
    Answer::new(status, body.to_string()).with("content-type", "application/json; charset=utf-8")
}

fn message(status: u16, text: &str, docs: &str) -> Answer {
    let body = json!({
        "message": text, "documentation_url": docs, "status": status.to_string(),
    });
    json_answer(status, &body)
}

fn not_found() -> Answer {
    message(404, "Not Found", DOCS)
}

/// With its weak tag, or 304 where the caller has it. Errors have no tag.
fn tagged(call: &Call, who: Who, body: &Value) -> Answer {
    let body = body.to_string();
    // Vary has Authorization in it: another caller, another tag.
    let salt = if who == Who::Known { "known" } else { "nobody" };
    let etag = format!("W/\"{}\"", sha256(format!("{salt} {body}").as_bytes()));
    let answer = if call.has_tag(&etag) {
        Answer::new(304, "")
    } else {
        let length = Some(body.len()).filter(|_| call.method == Method::HEAD);
        let body = if length.is_some() { String::new() } else { body };
        let answer = Answer::new(200, body);
        Answer { length, ..answer }.with("content-type", "application/json; charset=utf-8")
    };
    let scope = if who == Who::Known { "private" } else { "public" };
    answer
        .with("etag", &etag)
        .with("cache-control", &format!("{scope}, max-age=60, s-maxage=60"))
        .with("vary", "Accept, Authorization, Cookie, X-GitHub-OTP")
}

/// What comes when the API itself is down: no quota headers, JSON at 502 and a
/// page for people otherwise.
fn broken(status: u16) -> Answer {
    match status {
        502 => json_answer(502, &json!({"message": "Server Error"})),
        500.. => {
            let page = UNICORN;
            Answer::new(status, page).with("content-type", "text/html; charset=utf-8")
        }
        status => message(status, &reason(status), DOCS),
    }
}

fn request_id(call: &Call) -> String {
    let sum = sha256(call.target.as_bytes()).to_uppercase();
    format!("{}:{}:{}:{}", &sum[..4], &sum[4..10], &sum[10..16], &sum[16..24])
}
