//! What changes something on GitHub: releases are made, assets come, get other
//! names, and go; and a publisher dies in the middle of it.

use std::collections::BTreeMap;

use axum::response::Response;
use http::Method;
use serde_json::{Value, json};

use super::super::web::{Answer, Call, Fault, Faults, iso_date, lock, seconds, sha256};
use super::{
    Asset, DOCS, GitHub, Release, Repo, Request, State, Stored, Who, broken, json_answer, message,
    not_found, storage_path,
};

const UPLOAD_DOCS: &str = "https://docs.github.com/rest/releases/assets#upload-a-release-asset";

/// The most assets of one release.
const MOST: usize = 1000;

/// All repositories, at some moment.
#[derive(Clone)]
pub struct World(BTreeMap<String, Repo>);

/// When a publisher dies: at which of its requests that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Before the one of this number is done.
    Before(usize),
    /// When it was done, and nobody knows.
    After(usize),
}

/// What a writer meets.
pub(super) struct Writing {
    /// The address of the host for uploads.
    pub(super) url: String,
    requests: Vec<Request>,
    faults: Faults,
    /// Uploads that fail half way: how many, after how many that don't.
    failing: (usize, usize),
    /// The token may only read.
    read_only: bool,
    death: Option<Death>,
    /// How many requests were to change something.
    changes: usize,
    dead: bool,
}

impl Writing {
    pub(super) fn new(url: String) -> Writing {
        Writing {
            url,
            requests: Vec::new(),
            faults: Faults::default(),
            failing: (0, 0),
            read_only: false,
            death: None,
            changes: 0,
            dead: false,
        }
    }
}

/// Steering.
impl GitHub {
    /// What the host for uploads was asked.
    pub fn upload_requests(&self) -> Vec<Request> {
        lock(&self.state).writing.requests.clone()
    }

    /// Everything that changed something, at the API and the host for uploads.
    pub fn changes(&self) -> Vec<String> {
        let state = lock(&self.state);
        let all = state.requests.iter().chain(&state.writing.requests);
        all.filter(|request| ![Method::GET, Method::HEAD].contains(&request.method))
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// Forgets them, and all others.
    pub fn clear_all_requests(&self) {
        self.clear_requests();
        lock(&self.state).writing.requests.clear();
    }

    /// After `good` uploads more, the next `times` end with 502 and leave half of something.
    pub fn fail_uploads(&self, good: usize, times: usize) {
        lock(&self.state).writing.failing = (times, good);
    }

    /// A fault of the host for uploads, by path.
    pub fn upload_fault(&self, path: &str, fault: Fault, times: usize) {
        lock(&self.state).writing.faults.add(path, fault, times);
    }

    /// From now on tokens may only read.
    pub fn read_only(&self) {
        lock(&self.state).writing.read_only = true;
    }

    /// Nobody answers any more from then on, until [`GitHub::revive`].
    pub fn die(&self, death: Death) {
        let writing = &mut lock(&self.state).writing;
        (writing.death, writing.changes, writing.dead) = (Some(death), 0, false);
    }

    /// Whether it is so far.
    pub fn is_dead(&self) -> bool {
        lock(&self.state).writing.dead
    }

    /// How many requests since [`GitHub::die`] were to change something.
    pub fn revive(&self) -> usize {
        let writing = &mut lock(&self.state).writing;
        (writing.death, writing.dead) = (None, false);
        writing.changes
    }

    /// All that is there.
    pub fn world(&self) -> World {
        World(lock(&self.state).repos.clone())
    }

    /// As it was.
    pub fn restore(&self, world: &World) {
        lock(&self.state).repos = world.0.clone();
    }

    /// The names of the assets of a release, whole ones and others.
    pub fn assets(&self, repo: &str, tag: &str) -> Vec<String> {
        let mut state = lock(&self.state);
        let Some(stored) = state.repo(repo).find(tag) else { return Vec::new() };
        let mut names: Vec<String> = stored.assets.iter().map(|a| a.name.clone()).collect();
        names.sort();
        names
    }

    /// How many releases have a tag: of drafts, more than one may.
    pub fn tagged(&self, repo: &str, tag: &str) -> usize {
        let mut state = lock(&self.state);
        let releases = state.repo(repo).releases.iter();
        releases.filter(|stored| stored.release.tag == tag).count()
    }

    /// Whether a release is a draft; `None` if there is none.
    pub fn is_draft(&self, repo: &str, tag: &str) -> Option<bool> {
        lock(&self.state).repo(repo).find(tag).map(|stored| stored.release.draft)
    }

    /// The bytes of an asset, whoever may see them.
    pub fn asset_bytes(&self, repo: &str, tag: &str, name: &str) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        let repo_id = state.repo(repo).id;
        let assets = &state.repo(repo).find(tag)?.assets;
        let id = assets.iter().find(|a| a.name == name && a.state == "uploaded")?.id;
        state.files.bytes(&storage_path(repo_id, id))
    }

    /// Puts an asset there, or another in its place, as if somebody had; half of one, if so said.
    pub fn put_asset(&self, repo: &str, tag: &str, name: &str, bytes: &[u8], whole: bool) {
        let mut state = lock(&self.state);
        state.repo(repo).find(tag).expect("a release").assets.retain(|a| a.name != name);
        state.store(repo, tag, name, bytes, whole);
    }

    pub fn remove_asset(&self, repo: &str, tag: &str, name: &str) {
        let mut state = lock(&self.state);
        state.repo(repo).find(tag).expect("a release").assets.retain(|a| a.name != name);
    }

    /// An hour passes for what is there: nobody renewed a lock or ended an upload meanwhile.
    pub fn an_hour_passes(&self, repo: &str, tag: &str) {
        let long_ago = iso_date(seconds(std::time::SystemTime::now()).cast_unsigned() - 3600);
        for name in ["lock", "lock.next"] {
            let Some(bytes) = self.asset_bytes(repo, tag, name) else { continue };
            let mut holder: Value = serde_json::from_slice(&bytes).expect("a holder");
            holder["expires"] = long_ago.as_str().into();
            self.put_asset(repo, tag, name, holder.to_string().as_bytes(), true);
        }
        let mut state = lock(&self.state);
        let Some(stored) = state.repo(repo).find(tag) else { return };
        for asset in &mut stored.assets {
            asset.updated.clone_from(&long_ago);
        }
    }
}

/// Dying.
impl State {
    /// Answers, unless nobody is there to hear it.
    pub(super) fn unless_dead(
        &mut self,
        call: &Call,
        answer: fn(&mut State, &Call) -> Option<Response>,
    ) -> Option<Response> {
        if self.writing.dead {
            return None;
        }
        if [Method::GET, Method::HEAD].contains(&call.method) {
            return answer(self, call);
        }
        let number = self.writing.changes;
        self.writing.changes += 1;
        match self.writing.death {
            Some(Death::Before(at)) if number == at => {}
            Some(Death::After(at)) if number == at => drop(answer(self, call)),
            _ => return answer(self, call),
        }
        self.writing.dead = true;
        None
    }
}

/// The host for uploads.
impl State {
    pub(super) fn serve_uploads(&mut self, call: &Call) -> Option<Response> {
        self.unless_dead(call, State::serve_uploads_alive)
    }

    fn serve_uploads_alive(&mut self, call: &Call) -> Option<Response> {
        let answer = self.upload_answer(call);
        let response = self.writing.faults.apply(call, answer);
        let status = response.as_ref().map_or(0, |r| r.status().as_u16());
        self.writing.requests.push(call.log(status));
        response
    }

    fn upload_answer(&mut self, call: &Call) -> Answer {
        let who = self.who(call);
        if let Some(refused) = self.may_not_write(who) {
            return refused;
        }
        if self.secondary.1 > 0 {
            return self.api_answer(call);
        }
        let parts: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        let ["repos", owner, name, "releases", id, "assets"] = parts.as_slice() else {
            return not_found();
        };
        let repo = format!("{owner}/{name}").to_lowercase();
        let asked = call.asked("name").map(unquoted).unwrap_or_default();
        let label = call.asked("label").map(unquoted).unwrap_or_default();
        let size = call.body.len();
        let Some(stored) = self
            .repos
            .get_mut(&repo)
            .and_then(|repo| repo.releases.iter_mut().find(|r| r.id.to_string() == *id))
        else {
            return not_found();
        };
        if call.method != Method::POST {
            return not_found();
        }
        let custom = |field: &str, text: &str| {
            invalid(&json!({
                "resource": "ReleaseAsset", "code": "custom", "field": field, "message": text,
            }))
        };
        if call.header("content-type").is_none() || size == 0 {
            return message(400, "Bad Content-Length: 0", UPLOAD_DOCS);
        }
        let named = sanitised(&asked);
        if stored.release.immutable {
            return message(422, "Cannot upload assets to an immutable release.", UPLOAD_DOCS);
        }
        if stored.assets.iter().any(|asset| asset.name == named) {
            return taken("ReleaseAsset", "name");
        }
        if stored.assets.len() >= MOST {
            return custom("file_count", "file_count limited to 1000 assets per release");
        }
        if size >= 2 << 30 {
            return custom("size", "size must be less than 2147483648");
        }
        let tag = stored.release.tag.clone();
        let fails = match &mut self.writing.failing {
            (0, _) => false,
            (_, good @ 1..) => {
                *good -= 1;
                false
            }
            (times, _) => {
                *times -= 1;
                true
            }
        };
        self.store(&repo, &tag, &named, &call.body, !fails);
        let stored = self.repo(&repo).find(&tag).expect("it is there");
        stored.assets.last_mut().expect("it was put there").label = label;
        if fails {
            return broken(502);
        }
        let repo = &self.repos[&repo];
        let stored = repo.releases.iter().find(|r| r.id.to_string() == *id).expect("as before");
        let asset = stored.assets.last().expect("it was put there");
        json_answer(201, &self.asset_json(repo, stored, asset))
    }

    fn store(&mut self, repo: &str, tag: &str, name: &str, bytes: &[u8], whole: bool) {
        let (id, repo_id) = (self.id(), self.repo(repo).id);
        let now = iso_date(seconds(std::time::SystemTime::now()).cast_unsigned());
        if whole {
            self.files.put(&storage_path(repo_id, id), bytes.to_vec().into());
        }
        let sum = sha256(bytes);
        let asset = Asset {
            id,
            label: String::new(),
            state: if whole { "uploaded" } else { "starter" },
            name: name.to_owned(),
            kind: "application/octet-stream".to_owned(),
            size: if whole { bytes.len() } else { 0 },
            digest: whole.then(|| format!("sha256:{sum}")),
            sha256: sum,
            updated: now,
            downloads: 0,
        };
        self.repo(repo).find(tag).expect("a release").assets.push(asset);
    }

    fn may_not_write(&self, who: Who) -> Option<Answer> {
        match who {
            Who::Nobody => Some(message(401, "Requires authentication", DOCS)),
            Who::Wrong => Some(message(401, "Bad credentials", DOCS)),
            Who::Known if self.writing.read_only => {
                Some(message(403, "Resource not accessible by integration", DOCS))
            }
            Who::Known => None,
        }
    }
}

/// The API, as far as it changes something; `None` for all else.
impl State {
    pub(super) fn changed(&mut self, call: &Call, who: Who) -> Option<Answer> {
        let parts: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        let ["repos", owner, name, "releases", rest @ ..] = parts.as_slice() else { return None };
        if [Method::GET, Method::HEAD].contains(&call.method) {
            return None;
        }
        let key = format!("{owner}/{name}").to_lowercase();
        if !self.repos.contains_key(&key) {
            return Some(not_found());
        }
        if let Some(refused) = self.may_not_write(who) {
            return Some(refused);
        }
        Some(match rest {
            [] if call.method == Method::POST => self.made(&key, call),
            ["assets", id] if call.method == Method::PATCH => self.renamed(&key, id, call),
            ["assets", id] if call.method == Method::DELETE => {
                let repo = self.repos.get_mut(&key).expect("it is there");
                let mut gone = false;
                for stored in &mut repo.releases {
                    let before = stored.assets.len();
                    stored.assets.retain(|asset| asset.id.to_string() != *id);
                    gone |= stored.assets.len() != before;
                }
                if gone { Answer::new(204, "") } else { not_found() }
            }
            [id] if call.method == Method::DELETE => {
                let repo = self.repos.get_mut(&key).expect("it is there");
                let before = repo.releases.len();
                repo.releases.retain(|stored| stored.id.to_string() != *id);
                if repo.releases.len() == before { not_found() } else { Answer::new(204, "") }
            }
            _ => not_found(),
        })
    }

    /// A release is made. Of drafts there may be several with one tag.
    fn made(&mut self, key: &str, call: &Call) -> Answer {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let Some(tag) = body["tag_name"].as_str().filter(|tag| !tag.is_empty()) else {
            return invalid(
                &json!({"resource": "Release", "code": "missing_field", "field": "tag_name"}),
            );
        };
        let draft = body["draft"] == true;
        let id = self.id();
        let now = iso_date(seconds(std::time::SystemTime::now()).cast_unsigned());
        let repo = self.repos.get_mut(key).expect("it is there");
        let is_there = |stored: &Stored| stored.release.tag == tag && !stored.release.draft;
        if !draft && repo.releases.iter().any(is_there) {
            return taken("Release", "tag_name");
        }
        let release = Release::new(tag).name(body["name"].as_str()).body(body["body"].as_str());
        repo.releases.push(Stored {
            id,
            created: now.clone(),
            updated: now,
            release: release.draft(draft).prerelease(body["prerelease"] == true),
            assets: Vec::new(),
        });
        let repo = &self.repos[key];
        let stored = repo.releases.last().expect("it was put there");
        json_answer(201, &self.release_json(repo, stored))
    }

    /// An asset gets another name.
    fn renamed(&mut self, key: &str, id: &str, call: &Call) -> Answer {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let name = body["name"].as_str().map(sanitised);
        let repo = self.repos.get_mut(key).expect("it is there");
        let Some(stored) = repo
            .releases
            .iter_mut()
            .find(|stored| stored.assets.iter().any(|asset| asset.id.to_string() == id))
        else {
            return not_found();
        };
        let others = |asset: &&Asset| asset.id.to_string() != id;
        if stored.assets.iter().filter(others).any(|asset| Some(&asset.name) == name.as_ref()) {
            return taken("ReleaseAsset", "name");
        }
        let asset = stored.assets.iter_mut().find(|asset| asset.id.to_string() == id);
        let asset = asset.expect("it is one of these");
        if let Some(name) = name {
            asset.name = name;
        }
        let asset = asset.clone();
        let repo = &self.repos[key];
        let stored = repo.releases.iter().find(|r| r.assets.iter().any(|a| a.id == asset.id));
        json_answer(200, &self.asset_json(repo, stored.expect("it has it"), &asset))
    }
}

fn invalid(problem: &Value) -> Answer {
    json_answer(
        422,
        &json!({
            "message": "Validation Failed", "errors": [problem],
            "documentation_url": UPLOAD_DOCS, "status": "422",
        }),
    )
}

fn taken(resource: &str, field: &str) -> Answer {
    invalid(&json!({"resource": resource, "code": "already_exists", "field": field}))
}

/// As GitHub calls what is uploaded under a name: other characters become
/// periods, several of these one, and none begins or ends a name.
fn sanitised(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() || "-_+@".contains(c) { c } else { '.' };
        if c != '.' || !out.ends_with('.') {
            out.push(c);
        }
    }
    let trimmed = out.trim_end_matches('.');
    match trimmed.strip_prefix('.') {
        Some(rest) => format!("default.{rest}"),
        None => trimmed.to_owned(),
    }
}

/// A value of a query, as forms send it.
fn unquoted(text: &str) -> String {
    let pairs = url::form_urlencoded::parse(text.as_bytes());
    pairs.map(|(key, _)| key.into_owned()).next().unwrap_or_default()
}
