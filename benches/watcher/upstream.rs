//! Upstreams that never change: GitHub's API and hosts with pages, each on an address of its own.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(20);

/// Hosts with pages.
const HOSTS: usize = 6;

/// Releases of a listing, and assets of a release: a project of middling size.
const RELEASES: usize = 30;
const ASSETS: usize = 8;

/// What was asked since the last time.
pub struct Asked {
    pub requests: usize,
    /// Answers without a body.
    pub unchanged: usize,
}

#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    unchanged: AtomicUsize,
    /// Bodies by path: they are made once.
    bodies: Mutex<std::collections::HashMap<String, Bytes>>,
}

/// All of them, until this is dropped.
pub struct Upstreams {
    api: String,
    hosts: Vec<String>,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

impl Upstreams {
    pub fn start() -> Result<Self> {
        let runtime = Runtime::new()?;
        let counts = Arc::<Counts>::default();
        let mut urls = Vec::new();
        for number in 0..=HOSTS {
            let app = Router::new().fallback(answer).with_state(counts.clone());
            let address = format!("127.0.0.{}:0", number + 1);
            let listener = runtime.block_on(TcpListener::bind(address))?;
            urls.push(format!("http://{}", listener.local_addr()?));
            runtime.spawn(async { axum::serve(listener, app).await });
        }
        Ok(Self { api: urls.remove(0), hosts: urls, counts, _runtime: runtime })
    }

    /// The address of the API.
    pub fn api(&self) -> String {
        self.api.clone()
    }

    /// The address of a page.
    pub fn page(&self, number: usize) -> String {
        format!("{}/pub/tool{number}/", self.hosts[number % HOSTS])
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Asked {
        Asked {
            requests: self.counts.requests.swap(0, Ordering::SeqCst),
            unchanged: self.counts.unchanged.swap(0, Ordering::SeqCst),
        }
    }
}

async fn answer(State(counts): State<Arc<Counts>>, uri: Uri, headers: HeaderMap) -> Response {
    counts.requests.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(LATENCY).await;
    let path = uri.path();
    let etag =
        format!("\"{:x}\"", path.len() * 7919 + path.bytes().map(usize::from).sum::<usize>());
    let mut response = if headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == etag) {
        counts.unchanged.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut bodies = counts.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let body = bodies.entry(path.to_owned()).or_insert_with(|| body(path).into()).clone();
        Response::new(Body::from(body))
    };
    response.headers_mut().insert(header::ETAG, etag.parse().expect("a header"));
    response
}

fn body(path: &str) -> String {
    match path.strip_prefix("/repos/").and_then(|path| path.strip_suffix("/releases")) {
        Some(repo) => listing(repo),
        None => page(path),
    }
}

/// An index as web servers make it.
fn page(path: &str) -> String {
    let mut page = format!("<html><head><title>Index of {path}</title></head><body><pre>\n");
    for version in 0..60 {
        let name = format!("tool-1.{version}.0.tgz");
        let _ = writeln!(page, "<a href=\"{name}\">{name}</a>      2025-01-02 03:04   12345678");
    }
    page + "</pre></body></html>\n"
}

/// A listing as the API gives it, with its notes, authors and uploaders.
fn listing(repo: &str) -> String {
    let user = |id: usize| {
        let at = format!("https://api.github.com/users/u{id}");
        serde_json::json!({
            "login": format!("u{id}"), "id": id, "node_id": "MDQ6VXNlcjE=", "gravatar_id": "",
            "avatar_url": format!("https://avatars.githubusercontent.com/u/{id}?v=4"), "url": at,
            "html_url": format!("https://github.com/u{id}"),
            "followers_url": format!("{at}/followers"), "following_url": format!("{at}/following{{/other_user}}"),
            "gists_url": format!("{at}/gists{{/gist_id}}"), "starred_url": format!("{at}/starred{{/owner}}{{/repo}}"),
            "subscriptions_url": format!("{at}/subscriptions"), "organizations_url": format!("{at}/orgs"),
            "repos_url": format!("{at}/repos"), "events_url": format!("{at}/events{{/privacy}}"),
            "received_events_url": format!("{at}/received_events"), "type": "Bot", "site_admin": false,
        })
    };
    let api = format!("https://api.github.com/repos/{repo}/releases");
    let web = format!("https://github.com/{repo}/releases");
    let releases = (0..RELEASES).rev().map(|number| {
        let tag = format!("v1.{number}.0");
        let assets = (0..ASSETS).map(|asset| {
            let id = number * 1000 + asset;
            let name = format!("tool_1.{number}.0_linux_{asset}.tar.gz");
            // As hard to compress as real ones.
            let digest = publish::name::Sha256::of(format!("{repo}{id}").as_bytes());
            serde_json::json!({
                "url": format!("{api}/assets/{id}"), "id": id, "node_id": "RA_kwDOABCD", "name": name,
                "label": "", "uploader": user(7), "content_type": "application/gzip",
                "state": "uploaded", "size": 12_345_678 + id, "digest": format!("sha256:{digest}"),
                "download_count": 1234, "created_at": "2025-01-02T03:04:05Z",
                "updated_at": "2025-01-02T03:04:05Z",
                "browser_download_url": format!("{web}/download/{tag}/{name}"),
            })
        });
        serde_json::json!({
            "url": format!("{api}/{number}"), "assets_url": format!("{api}/{number}/assets"),
            "upload_url": format!("{api}/{number}/assets{{?name,label}}"),
            "html_url": format!("{web}/tag/{tag}"), "id": number, "author": user(7),
            "node_id": "RE_kwDOABCD", "tag_name": tag, "target_commitish": "main", "name": tag,
            "draft": false, "immutable": false, "prerelease": false,
            "created_at": "2025-01-02T03:04:05Z", "updated_at": "2025-01-02T03:04:05Z",
            "published_at": "2025-01-02T03:04:05Z", "assets": assets.collect::<Vec<_>>(),
            "tarball_url": null, "zipball_url": null,
            "body": format!("* fix: the thing that {number} broke by @somebody in #{number}\r\n").repeat(40),
        })
    });
    serde_json::Value::Array(releases.collect()).to_string()
}
