//! A stand-in for GitLab and for Gitea, as far as a reader of releases meets them.
//!
//! One server is a whole site: its API, its pages and its files. It keeps to what the real ones do
//! where a client could stumble: GitLab's numbers in its own links, weak tags, releases of the
//! future, a page to log in at instead of "not found" for private downloads; Gitea's pages of 50 at
//! most, no validators at all, drafts for who may see them.
#![allow(dead_code, reason = "a stand-in can do more than today's tests ask")]

use std::sync::{Arc, Mutex};

use axum::response::Response;
use http::Method;
use serde_json::{Value, json};

use crate::pack::Tar;
use crate::web::{
    Answer, Call, EPOCH, Fault, Faults, Port, Request, Server, escape, iso_date, lock, sha256,
};

/// The number of the only project.
const ID: u32 = 278_964;

const SIGN_IN: &str = "<!DOCTYPE html>\n<html><body>You need to sign in or sign up before continuing.</body></html>\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gitlab,
    Gitea,
}

/// A release to publish; see [`Forge::release`].
#[derive(Clone, Default)]
pub struct Release {
    tag: String,
    /// A draft for Gitea, one of the future for GitLab.
    unpublished: bool,
    prerelease: bool,
    published: Option<String>,
    assets: Vec<(String, Vec<u8>)>,
    links: Vec<(String, String)>,
}

impl Release {
    pub fn new(tag: &str) -> Self {
        Self { tag: tag.to_owned(), ..Self::default() }
    }

    #[must_use]
    pub fn asset(mut self, name: &str, bytes: &str) -> Self {
        self.assets.push((name.to_owned(), bytes.as_bytes().to_vec()));
        self
    }

    /// A link to somewhere else.
    #[must_use]
    pub fn link(mut self, name: &str, url: &str) -> Self {
        self.links.push((name.to_owned(), url.to_owned()));
        self
    }

    #[must_use]
    pub fn unpublished(mut self) -> Self {
        self.unpublished = true;
        self
    }

    #[must_use]
    pub fn prerelease(mut self) -> Self {
        self.prerelease = true;
        self
    }

    #[must_use]
    pub fn published(mut self, at: &str) -> Self {
        self.published = Some(at.to_owned());
        self
    }
}

struct State {
    kind: Kind,
    url: String,
    project: String,
    old: Option<String>,
    private: bool,
    token: Option<String>,
    most: usize,
    releases: Vec<(Release, String)>,
    tags: Vec<String>,
    /// The address that the site believes to have, where that is wrong.
    believes: Option<String>,
    looping: bool,
    guests: bool,
    faults: Faults,
    requests: Vec<Request>,
}

/// A site with one project.
pub struct Forge {
    state: Arc<Mutex<State>>,
    server: Server,
}

impl Forge {
    /// A GitLab with this project (`group/sub/name`).
    pub fn gitlab(project: &str) -> Self {
        Self::start(Kind::Gitlab, project, 100)
    }

    /// A Gitea with this repository (`owner/name`).
    pub fn gitea(project: &str) -> Self {
        Self::start(Kind::Gitea, project, 50)
    }

    fn start(kind: Kind, project: &str, most: usize) -> Self {
        let port = Port::open();
        let state = Arc::new(Mutex::new(State {
            kind,
            url: port.url(),
            project: project.to_owned(),
            old: None,
            private: false,
            token: None,
            most,
            releases: Vec::new(),
            tags: Vec::new(),
            believes: None,
            looping: false,
            guests: false,
            faults: Faults::default(),
            requests: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let server = port.serve(move |call| lock(&shared).serve(&call));
        Self { state, server }
    }

    /// The site, without a slash at its end.
    pub fn url(&self) -> String {
        self.server.url.clone()
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.server.url.trim_start_matches("http://").to_owned()
    }

    /// Publishes a release; each is a day younger than the one before.
    pub fn release(&self, release: Release) {
        let mut state = lock(&self.state);
        let count = state.releases.len() as u64 + 1;
        let at = release.published.clone().unwrap_or_else(|| iso_date(EPOCH + count * 86_400));
        state.tags.push(release.tag.clone());
        state.releases.push((release, at));
    }

    /// A tag without a release.
    pub fn tag(&self, tag: &str) {
        lock(&self.state).tags.push(tag.to_owned());
    }

    /// Hides the project from whoever has not this token.
    pub fn private(&self, token: &str) {
        let mut state = lock(&self.state);
        state.private = true;
        state.token = Some(token.to_owned());
    }

    /// The project had this name before.
    pub fn moved_from(&self, old: &str) {
        lock(&self.state).old = Some(old.to_owned());
    }

    /// The most that one page holds, whatever is asked for.
    pub fn page_size(&self, most: usize) {
        lock(&self.state).most = most;
    }

    /// The address in its own links, as behind a proxy that it was not told of.
    pub fn believes(&self, url: &str) {
        lock(&self.state).believes = Some(url.to_owned());
    }

    /// Every page says that the first one comes next.
    pub fn loops(&self) {
        lock(&self.state).looping = true;
    }

    /// GitLab tells whoever may not read the code no tags.
    pub fn hides_tags(&self) {
        lock(&self.state).guests = true;
    }

    pub fn fault(&self, path: &str, fault: Fault, times: usize) {
        lock(&self.state).faults.add(path, fault, times);
    }

    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    pub fn clear_requests(&self) {
        lock(&self.state).requests.clear();
    }
}

impl State {
    fn serve(&mut self, call: &Call) -> Option<Response> {
        let answer = self.answer(call);
        let response = self.faults.apply(call, answer);
        let status = response.as_ref().map_or(0, |response| response.status().as_u16());
        self.requests.push(call.log(status));
        response
    }

    fn answer(&self, call: &Call) -> Answer {
        if call.method != Method::GET && call.method != Method::HEAD {
            return self.refuse(405, "Method Not Allowed");
        }
        let known = match (call.header("authorization"), &self.token) {
            (None, _) => false,
            (Some(sent), Some(token)) => {
                if sent != format!("Bearer {token}") {
                    return self.refuse(401, "401 Unauthorized");
                }
                true
            }
            (Some(_), None) => true,
        };
        let hidden = self.private && !known;
        match self.kind {
            Kind::Gitlab => self.gitlab(call, hidden),
            Kind::Gitea => self.gitea(call, hidden, known),
        }
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        let body = match self.kind {
            Kind::Gitlab => json!({ "message": message }),
            Kind::Gitea => json!({
                "message": message, "url": format!("{}/api/swagger", self.url), "errors": null,
            }),
        };
        Answer::new(status, body.to_string()).with("content-type", "application/json")
    }

    /// The newest first.
    fn sorted(&self) -> Vec<&(Release, String)> {
        let mut all: Vec<_> = self.releases.iter().collect();
        all.sort_by(|a, b| b.1.cmp(&a.1));
        all
    }

    /// One page of a list, the number of the next one, and of the last.
    fn page(&self, call: &Call, size: &str, all: Vec<Value>) -> (Vec<Value>, Option<usize>, usize) {
        let number = |name| call.asked(name).and_then(|n| n.parse::<usize>().ok());
        let size = number(size).unwrap_or(20).clamp(1, self.most);
        let page = number("page").unwrap_or(1).max(1);
        let last = all.len().div_ceil(size).max(1);
        let items = all.into_iter().skip((page - 1) * size).take(size).collect();
        let next = if self.looping { Some(1) } else { (page < last).then_some(page + 1) };
        (items, next, last)
    }

    fn file(&self, tag: &str, name: &str) -> Option<Answer> {
        let (release, _) = self.releases.iter().find(|(release, _)| release.tag == tag)?;
        let (_, bytes) = release.assets.iter().find(|(known, _)| known == name)?;
        Some(Answer::new(200, bytes.clone()).with("content-type", "application/octet-stream"))
    }
}

/// GitLab.
impl State {
    fn gitlab(&self, call: &Call, hidden: bool) -> Answer {
        let path = call.path.trim_start_matches('/');
        if let Some(rest) = path.strip_prefix("api/v4/projects/") {
            return self.gitlab_api(call, rest, hidden);
        }
        if path == "users/sign_in" {
            return Answer::new(200, SIGN_IN).with("content-type", "text/html; charset=utf-8");
        }
        let Some(rest) = path.strip_prefix(&format!("{}/-/", self.project)) else {
            return Answer::text(404, "Not Found");
        };
        if hidden {
            let to = format!("{}/users/sign_in", self.url);
            return Answer::new(302, "").with("location", &to);
        }
        let steps: Vec<&str> = rest.split('/').collect();
        match steps.as_slice() {
            ["releases", tag, "downloads", name] => {
                let to = format!("{}{}", self.url, package(tag, name));
                Answer::new(302, "").with("location", &to)
            }
            ["archive", tag, _] => self.archive(tag),
            _ => Answer::text(404, "Not Found"),
        }
    }

    fn archive(&self, tag: &str) -> Answer {
        if !self.tags.iter().any(|known| known == tag) {
            return self.refuse(404, "404 File Not Found");
        }
        let content = format!("source of {tag}");
        Answer::new(200, Tar::new().file("source", 0o644, content).plain())
            .with("content-type", "application/x-tar")
    }

    fn gitlab_api(&self, call: &Call, rest: &str, hidden: bool) -> Answer {
        // The path comes with its `%2F` undone, as the real one's router has it.
        let old = self.old.as_ref().filter(|old| rest.starts_with(&format!("{old}/")));
        if let Some(old) = old {
            let to = format!("{}/api/v4/projects/{ID}{}", self.url, &rest[old.len()..]);
            let query =
                if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
            return self.refuse(301, "Moved").with("location", &format!("{to}{query}"));
        }
        let own = [self.project.clone(), ID.to_string()];
        let rest = own.iter().find_map(|own| rest.strip_prefix(&format!("{own}/")));
        let Some(rest) = rest.filter(|_| !hidden) else {
            return self.refuse(404, "404 Project Not Found");
        };
        let steps: Vec<&str> = rest.split('/').collect();
        match steps.as_slice() {
            ["releases"] => {
                let all = self.sorted();
                let all = all.iter().map(|(release, at)| self.gitlab_release(release, at));
                self.gitlab_page(call, rest, all.collect())
            }
            ["repository", "tags"] => {
                let all = self.tags.iter().enumerate().map(|(index, tag)| {
                    let at = iso_date(EPOCH + index as u64 * 3600);
                    json!({
                        "name": tag, "message": "", "target": sha256(tag.as_bytes())[..40],
                        "commit": {
                            "id": sha256(tag.as_bytes())[..40], "title": "x",
                            "created_at": at, "committed_date": at,
                        },
                        "release": null, "protected": false, "created_at": null,
                    })
                });
                self.gitlab_page(call, rest, all.rev().collect())
            }
            ["repository", archive] if archive.starts_with("archive.") => {
                self.archive(call.asked("sha").unwrap_or_default())
            }
            ["packages", "generic", "tool", tag, name] => {
                let missing = || self.refuse(404, "404 Not Found");
                self.file(tag, name).unwrap_or_else(missing)
            }
            _ => self.refuse(404, "404 Not Found"),
        }
    }

    fn gitlab_page(&self, call: &Call, rest: &str, all: Vec<Value>) -> Answer {
        let total = all.len();
        let (items, next, last) = self.page(call, "per_page", all);
        let body = Value::Array(items).to_string();
        let tag = format!("W/\"{}\"", &sha256(body.as_bytes())[..32]);
        let answer = if call.has_tag(&tag) {
            Answer::new(304, "")
        } else {
            Answer::new(200, body).with("content-type", "application/json")
        };
        let site = self.believes.as_ref().unwrap_or(&self.url);
        let most = call.asked("per_page").unwrap_or("20");
        let link = |page: usize, rel: &str| {
            format!(
                "<{site}/api/v4/projects/{ID}/{rest}?id={ID}&page={page}&per_page={most}>; rel=\"{rel}\""
            )
        };
        let mut links: Vec<String> = next.map(|page| link(page, "next")).into_iter().collect();
        links.push(link(1, "first"));
        links.push(link(last, "last"));
        answer
            .with("etag", &tag)
            .with("link", &links.join(", "))
            .with("cache-control", "max-age=0, private, must-revalidate")
            .with("x-next-page", &next.map(|page| page.to_string()).unwrap_or_default())
            .with("x-total", &total.to_string())
            .with("x-total-pages", &last.to_string())
            .with("ratelimit-limit", "500")
            .with("ratelimit-remaining", "499")
    }

    fn gitlab_release(&self, release: &Release, at: &str) -> Value {
        let tag = &release.tag;
        let web = format!("{}/{}", self.url, self.project);
        let own = release.assets.iter().map(|(name, _)| {
            json!({
                "id": 1, "name": name, "link_type": "package",
                "url": format!("{}{}", self.url, package(tag, name)),
                "direct_asset_url": format!("{web}/-/releases/{}/downloads/{}", escape(tag), escape(name)),
            })
        });
        let elsewhere = release.links.iter().map(|(name, url)| {
            json!({ "id": 2, "name": name, "link_type": "other", "url": url, "direct_asset_url": url })
        });
        let links: Vec<Value> = own.chain(elsewhere).collect();
        let name = self.project.rsplit('/').next().unwrap_or_default();
        let sources: Vec<Value> = ["zip", "tar.gz", "tar.bz2", "tar"].iter().map(|format| {
            json!({ "format": format, "url": format!("{web}/-/archive/{tag}/{name}-{}.{format}", tag.replace('/', "-")) })
        }).collect();
        let mut value = json!({
            "tag_name": tag, "name": format!("Release {tag}"), "description": "notes",
            "created_at": at, "released_at": at, "upcoming_release": release.unpublished,
            "author": { "id": 1, "username": "root", "name": "Administrator", "state": "active" },
            "commit": { "id": sha256(tag.as_bytes())[..40] },
            "commit_path": format!("/{}/-/commit/x", self.project),
            "tag_path": format!("/{}/-/tags/{tag}", self.project),
            "assets": { "count": links.len() + sources.len(), "sources": sources, "links": links },
            "evidences": [],
            "_links": { "self": format!("{web}/-/releases/{}", escape(tag)) },
        });
        if self.guests {
            let fields = value.as_object_mut().expect("an object");
            fields.remove("tag_name");
            fields.remove("commit");
        }
        value
    }
}

fn package(tag: &str, name: &str) -> String {
    format!("/api/v4/projects/{ID}/packages/generic/tool/{}/{}", escape(tag), escape(name))
}

/// Gitea.
impl State {
    fn gitea(&self, call: &Call, hidden: bool, known: bool) -> Answer {
        let path = call.path.trim_start_matches('/');
        let api = path.strip_prefix("api/v1/repos/");
        let rest = api.unwrap_or(path);
        let old = self.old.as_ref().and_then(|old| rest.strip_prefix(&format!("{old}/")));
        if let Some(rest) = old {
            let root = if api.is_some() { "api/v1/repos/" } else { "" };
            let query =
                if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
            let to = format!("/{root}{}/{rest}{query}", self.project);
            return Answer::new(301, "").with("location", &to);
        }
        let missing = || {
            let message = "The target couldn't be found.";
            if api.is_some() { self.refuse(404, message) } else { Answer::text(404, "Not Found.") }
        };
        let Some(rest) = rest.strip_prefix(&format!("{}/", self.project)).filter(|_| !hidden)
        else {
            return missing();
        };
        let steps: Vec<&str> = rest.split('/').collect();
        match (api, steps.as_slice()) {
            (Some(_), ["releases"]) => {
                let all = self.sorted().into_iter();
                let all = all.filter(|(release, _)| known || !release.unpublished);
                let all = all.map(|(release, at)| self.gitea_release(release, at));
                self.gitea_page(call, rest, all.collect())
            }
            (Some(_), ["tags"]) => {
                let all = self.tags.iter().enumerate().map(|(index, tag)| {
                    let sha = &sha256(tag.as_bytes())[..40];
                    let at = iso_date(EPOCH + index as u64 * 3600);
                    json!({
                        "name": tag, "message": "", "id": sha,
                        "commit": { "url": format!("{}/api/v1/x", self.url), "sha": sha, "created": at },
                        "zipball_url": "x", "tarball_url": "x",
                    })
                });
                self.gitea_page(call, rest, all.rev().collect())
            }
            (None, ["releases", "download", tag, name]) => {
                self.file(tag, name).unwrap_or_else(missing)
            }
            _ => missing(),
        }
    }

    fn gitea_page(&self, call: &Call, rest: &str, all: Vec<Value>) -> Answer {
        let total = all.len();
        let (items, next, last) = self.page(call, "limit", all);
        let answer = Answer::new(200, Value::Array(items).to_string())
            .with("content-type", "application/json;charset=utf-8")
            .with("cache-control", "max-age=0, private, must-revalidate, no-transform")
            .with("x-total-count", &total.to_string());
        let site = self.believes.as_ref().unwrap_or(&self.url);
        let most = call.asked("limit").unwrap_or("30");
        let link = |page: usize, rel: &str| {
            let root = format!("{site}/api/v1/repos/{}/{rest}", self.project);
            format!("<{root}?limit={most}&page={page}>; rel=\"{rel}\"")
        };
        match next {
            Some(next) => {
                answer.with("link", &format!("{},{}", link(next, "next"), link(last, "last")))
            }
            None => answer,
        }
    }

    fn gitea_release(&self, release: &Release, at: &str) -> Value {
        let tag = escape(&release.tag);
        let web = format!("{}/{}", self.url, self.project);
        let own = release.assets.iter().map(|(name, bytes)| {
            json!({
                "id": 1, "name": name, "size": bytes.len(), "download_count": 0,
                "created_at": at, "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "browser_download_url": format!("{web}/releases/download/{tag}/{}", escape(name)),
                "type": "attachment",
            })
        });
        let elsewhere = release.links.iter().map(|(name, url)| {
            json!({
                "id": 2, "name": name, "size": 0, "download_count": 0, "created_at": at,
                "uuid": "b0eebc99", "browser_download_url": url, "type": "external",
            })
        });
        json!({
            "id": 1, "tag_name": release.tag, "target_commitish": "main", "name": release.tag,
            "body": "notes", "url": format!("{}/api/v1/repos/{}/releases/1", self.url, self.project),
            "html_url": format!("{web}/releases/tag/{tag}"),
            "tarball_url": format!("{web}/archive/{tag}.tar.gz"),
            "zipball_url": format!("{web}/archive/{tag}.zip"),
            "hide_archive_links": false, "upload_url": "x",
            "draft": release.unpublished, "prerelease": release.prerelease,
            "created_at": at, "published_at": at,
            "author": { "id": 1, "login": "o" },
            "assets": own.chain(elsewhere).collect::<Vec<Value>>(),
        })
    }
}
