//! A web server inside the test process, with the faults real ones have.
//!
//! This module owns the plumbing every stand-in shares (a listener on a free
//! port of the loopback address, its own thread and runtime, the log of what
//! was asked, conditional and range requests, the faults) and [`Web`], a plain
//! static server built on it. Everything is steered by synchronous calls, so a
//! test can run the program as a child process and change the world under it.
#![allow(dead_code, reason = "a stand-in can do more than today's tests ask")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::stream::{self, StreamExt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One request as it arrived, and the status it was answered with.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query, as sent.
    pub path: String,
    pub headers: HeaderMap,
    /// 0 where the connection was cut instead ([`Fault::Reset`]).
    pub status: u16,
}

impl Request {
    /// The value of a header, where there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What goes wrong with an answer.
///
/// The faults of the body (from `Truncate` to `NoLength`, less `Reset` and
/// `Redirect`) leave an answer that has none (304, HEAD) alone and are not used
/// up by it. They apply to a 206 as to a 200.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status and a line of text.
    Status(u16),
    /// Exactly this.
    Answer { status: u16, headers: Vec<(String, String)>, body: String },
    /// The full Content-Length, then this many bytes, then the connection ends.
    Truncate(usize),
    /// One byte in the middle is flipped; length and `ETag` stay.
    Corrupt,
    /// The right bytes, this many at a time with a pause after each.
    Slow { chunk: usize, delay: Duration },
    /// The headers, then nothing for as long as the server lives.
    Stall,
    /// The connection ends (TCP RST) without an answer.
    Reset,
    /// 302 to this address.
    Redirect(String),
    /// The bytes over and over, without a Content-Length and without an end.
    Endless,
    /// The right bytes, chunked: no Content-Length.
    NoLength,
}

impl Fault {
    fn needs_body(&self) -> bool {
        use Fault::{Answer, Corrupt, Endless, NoLength, Redirect, Reset, Slow, Stall};
        use Fault::{Status, Truncate};
        match self {
            Truncate(_) | Corrupt | Slow { .. } | Stall | Endless | NoLength => true,
            Status(_) | Answer { .. } | Reset | Redirect(_) => false,
        }
    }
}

/// The faults waiting for their requests.
#[derive(Default)]
pub(crate) struct Faults(Vec<(String, Fault, usize)>);

impl Faults {
    /// The next `times` answers for `path` get `fault`; a path that ends in `*`
    /// stands for all that begin with it. Faults of one path go in order.
    pub(crate) fn add(&mut self, path: &str, fault: Fault, times: usize) {
        self.0.push((path.to_owned(), fault, times));
    }

    fn take(&mut self, call: &Call, has_body: bool) -> Option<Fault> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => call.path.starts_with(start),
            None => pattern == call.path || pattern == call.target,
        };
        let (_, fault, left) = self.0.iter_mut().find(|(pattern, fault, left)| {
            *left > 0 && fits(pattern) && (has_body || !fault.needs_body())
        })?;
        if *left != usize::MAX {
            *left -= 1;
        }
        Some(fault.clone())
    }

    /// The answer as it goes out: through the next fault, if one waits.
    pub(crate) fn apply(&mut self, call: &Call, answer: Answer) -> Option<Response> {
        let has_body = call.method != Method::HEAD && !answer.body.is_empty();
        let Some(fault) = self.take(call, has_body) else {
            return Some(answer.whole());
        };
        Some(match fault {
            Fault::Status(status) => Answer::text(status, &reason(status)).whole(),
            Fault::Answer { status, headers, body } => headers
                .iter()
                .fold(Answer::new(status, body), |answer, (name, value)| answer.with(name, value))
                .whole(),
            Fault::Redirect(to) => Answer::new(302, "").with("location", &to).whole(),
            Fault::Reset => return None,
            Fault::Truncate(at) => answer.streamed(true, |body| {
                let sent = stream::iter([Ok(body.slice(..at.min(body.len())))]);
                // The pause lets hyper write what it holds: an error that comes
                // with the bytes would throw them away.
                let cut = stream::once(async {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Err(io::Error::from(io::ErrorKind::ConnectionAborted))
                });
                Body::from_stream(sent.chain(cut))
            }),
            Fault::Corrupt => {
                let mut bytes = answer.body.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x01;
                let body = bytes.into();
                Answer { body, ..answer }.whole()
            }
            Fault::Slow { chunk, delay } => answer.streamed(true, move |body| {
                let parts: Vec<Bytes> =
                    body.chunks(chunk.max(1)).map(Bytes::copy_from_slice).collect();
                Body::from_stream(stream::iter(parts).enumerate().then(move |(n, part)| {
                    let wait = if n == 0 { Duration::ZERO } else { delay };
                    async move {
                        tokio::time::sleep(wait).await;
                        Ok::<_, io::Error>(part)
                    }
                }))
            }),
            Fault::Stall => {
                answer.streamed(true, |_| Body::from_stream(stream::pending::<io::Result<Bytes>>()))
            }
            Fault::Endless => answer.streamed(false, |body| {
                Body::from_stream(stream::repeat(body).map(Ok::<_, io::Error>))
            }),
            Fault::NoLength => answer.streamed(false, |body| {
                Body::from_stream(stream::iter([Ok::<_, io::Error>(body)]))
            }),
        })
    }
}

/// A request on its way to an answer.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path with its escapes undone.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Path and query, as sent.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// What was sent along.
    pub(crate) body: Bytes,
}

impl Call {
    fn new(method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Call {
        Call {
            method,
            path: unescape(uri.path()),
            query: uri.query().unwrap_or_default().to_owned(),
            target: uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers,
            body,
        }
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of a name in the query.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Whether If-None-Match names this tag (by weak comparison, as it must).
    pub(crate) fn has_tag(&self, etag: &str) -> bool {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        self.headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim() == "*" || bare(tag) == bare(etag))
    }

    pub(crate) fn log(&self, status: u16) -> Request {
        Request {
            method: self.method.clone(),
            path: self.target.clone(),
            headers: self.headers.clone(),
            status,
        }
    }
}

/// A whole answer, before faults.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The length to announce where the body is left out (HEAD).
    pub(crate) length: Option<usize>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: body.into(), length: None }
    }

    pub(crate) fn text(status: u16, line: &str) -> Answer {
        Answer::new(status, format!("{line}\n")).with("content-type", "text/plain; charset=utf-8")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Answer {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.append(name, value);
        self
    }

    fn whole(self) -> Response {
        self.streamed(true, Body::from)
    }

    fn streamed(self, announce: bool, body: impl FnOnce(Bytes) -> Body) -> Response {
        let length = self.length.unwrap_or(self.body.len());
        let mut response =
            Response::new(if self.body.is_empty() { Body::empty() } else { body(self.body) });
        *response.status_mut() = StatusCode::from_u16(self.status).expect("a status");
        *response.headers_mut() = self.headers;
        if announce && self.status >= 200 && self.status != 204 && self.status != 304 {
            let headers = response.headers_mut();
            headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
        }
        response
    }
}

/// A listener that has its port but no thread yet.
pub(crate) struct Port(std::net::TcpListener);

impl Port {
    pub(crate) fn open() -> Port {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a non-blocking socket");
        Port(listener)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("a bound socket"))
    }

    /// Serves on a thread and a runtime of its own. An `answer` of `None` cuts
    /// the connection.
    pub(crate) fn serve<F>(self, answer: F) -> Server
    where
        F: Fn(Call) -> Option<Response> + Clone + Send + Sync + 'static,
    {
        let handler =
            move |ConnectInfo(cut): ConnectInfo<Cut>, method: Method, uri: Uri, headers, body| {
                let answered = answer(Call::new(method, &uri, headers, body));
                async move { answered.unwrap_or_else(|| cut.now()) }
            };
        // What is uploaded is as large as it is.
        let app = Router::new().fallback(handler).layer(DefaultBodyLimit::disable());
        self.serve_app(app)
    }

    /// The same, for a whole application.
    pub(crate) fn serve_app(self, app: Router) -> Server {
        let url = self.url();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(self.0).expect("a socket");
                let app = app.into_make_service_with_connect_info::<Cut>();
                tokio::select! {
                    served = axum::serve(Cuttable(listener), app) => served.expect("a server"),
                    _ = stopped => {}
                }
            });
            // Dropping the runtime drops the connections that still hang.
        });
        Server { url, stop: Some(stop), thread: Some(thread) }
    }
}

/// A running server; it ends when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed there; one here would hide it.
            let _ = thread.join();
        }
    }
}

/// The switch that ends a connection instead of answering on it.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

impl Cut {
    /// Ends the connection; what is answered on it is never sent.
    pub(crate) fn now(&self) -> Response {
        self.0.store(true, Ordering::SeqCst);
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Connected<IncomingStream<'_, Cuttable>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Cuttable>) -> Cut {
        stream.io().cut.clone()
    }
}

struct Cuttable(tokio::net::TcpListener);

impl axum::serve::Listener for Cuttable {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CuttableStream, SocketAddr) {
        loop {
            // A failed accept (a client gone already) is no reason to stop.
            if let Ok((stream, from)) = self.0.accept().await {
                let cut = Cut::default();
                return (CuttableStream { stream, cut }, from);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that fails as soon as hyper writes to it once the switch is on.
struct CuttableStream {
    stream: TcpStream,
    cut: Cut,
}

impl CuttableStream {
    fn check(&self) -> io::Result<()> {
        if self.cut.0.load(Ordering::SeqCst) {
            // Without lingering the close is a RST, not an orderly end.
            self.stream.set_zero_linger()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Something served: the bytes and what says whether they changed.
#[derive(Clone)]
pub(crate) struct Page {
    body: Bytes,
    /// The same in gzip, for who takes that.
    packed: Option<Bytes>,
    etag: String,
    modified: String,
}

impl Page {
    fn new(body: Bytes, modified: u64) -> Page {
        let etag = format!("\"{}\"", &sha256(&body)[..16]);
        Page { etag, modified: http_date(modified), packed: None, body }
    }

    /// Conditions first, then the range: the order of RFC 9110.
    fn answer(&self, call: &Call) -> Answer {
        let takes = call.header(header::ACCEPT_ENCODING).is_some_and(|all| all.contains("gzip"));
        if let Some(packed) = self.packed.as_ref().filter(|_| takes) {
            // Another form of the same has another tag.
            let etag = format!("{}-gzip\"", self.etag.trim_end_matches('"'));
            let packed = Page { body: packed.clone(), packed: None, etag, ..self.clone() };
            return packed
                .answer(call)
                .with("content-encoding", "gzip")
                .with("vary", "accept-encoding");
        }
        let answer = self.ranged(call);
        let answer = answer
            .with("etag", &self.etag)
            .with("last-modified", &self.modified)
            .with("accept-ranges", "bytes");
        if answer.status == 304 {
            return answer;
        }
        answer.with("content-type", media_type(&call.path, &self.body))
    }

    fn ranged(&self, call: &Call) -> Answer {
        let unchanged = if call.headers.contains_key(header::IF_NONE_MATCH) {
            call.has_tag(&self.etag)
        } else {
            call.header(header::IF_MODIFIED_SINCE) == Some(&self.modified)
        };
        if unchanged {
            return Answer::new(304, "");
        }
        let total = self.body.len();
        if call.method == Method::HEAD {
            return Answer { length: Some(total), ..Answer::new(200, "") };
        }
        // A weak tag or another date in If-Range asks for everything.
        let same = call
            .header(header::IF_RANGE)
            .is_none_or(|known| known == self.etag || known == self.modified);
        let range = call.header(header::RANGE).filter(|_| same);
        match range.map_or(Span::Whole, |range| Span::parse(range, total)) {
            Span::Whole => Answer::new(200, self.body.clone()),
            Span::Beyond => Answer::new(416, "").with("content-range", &format!("bytes */{total}")),
            Span::Part(first, last) => Answer::new(206, self.body.slice(first..=last))
                .with("content-range", &format!("bytes {first}-{last}/{total}")),
        }
    }
}

/// What a Range header asks of so many bytes.
enum Span {
    /// Everything: it is not one range of bytes, and so ignored.
    Whole,
    /// Nothing that is there.
    Beyond,
    /// From the first to the last, both included.
    Part(usize, usize),
}

impl Span {
    fn parse(value: &str, total: usize) -> Span {
        Span::try_parse(value, total).unwrap_or(Span::Whole)
    }

    fn try_parse(value: &str, total: usize) -> Option<Span> {
        let (first, last) = value.strip_prefix("bytes=")?.trim().split_once('-')?;
        let (first, last) = if first.is_empty() {
            let count: usize = last.parse().ok()?;
            (total.saturating_sub(count), usize::MAX)
        } else if last.is_empty() {
            (first.parse().ok()?, usize::MAX)
        } else {
            (first.parse().ok()?, last.parse().ok()?)
        };
        if first > last {
            return None;
        }
        Some(if first < total { Span::Part(first, last.min(total - 1)) } else { Span::Beyond })
    }
}

/// What a static server serves.
#[derive(Default)]
pub(crate) struct Files {
    pages: BTreeMap<String, Page>,
    dirs: BTreeMap<String, PathBuf>,
    pub(crate) faults: Faults,
    puts: u64,
}

impl Files {
    /// Every put is a second younger than the one before, so that no
    /// Last-Modified ever stands for two contents.
    pub(crate) fn put(&mut self, path: &str, body: Bytes) {
        self.puts += 1;
        let page = Page::new(body, EPOCH + self.puts);
        self.pages.insert(path.to_owned(), page);
    }

    /// The bytes at a path, if they were put there.
    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.pages.get(path).map(|page| page.body.to_vec())
    }

    fn pack(&mut self, path: &str, packed: Bytes) {
        let page = self.pages.get_mut(path).expect("a page that was put");
        page.packed = Some(packed);
    }

    pub(crate) fn answer(&self, call: &Call) -> Answer {
        if call.method != Method::GET && call.method != Method::HEAD {
            return Answer::text(405, &reason(405)).with("allow", "GET, HEAD");
        }
        let page = self.pages.get(&call.target);
        if let Some(page) = page.or_else(|| self.pages.get(&call.path)) {
            return page.answer(call);
        }
        for (prefix, dir) in self.dirs.iter().rev() {
            if let Some(rest) = call.path.strip_prefix(prefix.as_str()) {
                return from_disk(dir, rest, call);
            }
        }
        Answer::text(404, &reason(404))
    }
}

fn from_disk(dir: &Path, rest: &str, call: &Call) -> Answer {
    let missing = || Answer::text(404, &reason(404));
    let rest = Path::new(rest.trim_start_matches('/'));
    if !rest.components().all(|c| matches!(c, Component::Normal(_))) {
        return missing();
    }
    // A link may lead about inside the folder, never out of it.
    let (Ok(root), Ok(mut file)) = (dir.canonicalize(), dir.join(rest).canonicalize()) else {
        return missing();
    };
    if !file.starts_with(&root) {
        return missing();
    }
    if file.is_dir() {
        if !call.path.ends_with('/') {
            return Answer::new(301, "").with("location", &format!("{}/", call.path));
        }
        file.push("index.html");
    }
    let Ok(body) = std::fs::read(&file) else {
        return missing();
    };
    let modified = file.metadata().and_then(|meta| meta.modified());
    let modified = modified.map_or(EPOCH, |time| seconds(time).max(0).cast_unsigned());
    Page::new(body.into(), modified).answer(call)
}

/// A web server with pages and folders.
pub struct Web {
    server: Server,
    state: Arc<Mutex<WebState>>,
}

#[derive(Default)]
struct WebState {
    files: Files,
    requests: Vec<Request>,
}

impl Web {
    /// Starts on a free port; answers 404 to everything until told otherwise.
    pub fn start() -> Web {
        let state = Arc::new(Mutex::new(WebState::default()));
        let shared = Arc::clone(&state);
        let server = Port::open().serve(move |call| {
            let mut state = lock(&shared);
            let answer = state.files.answer(&call);
            let response = state.files.faults.apply(&call, answer);
            let status = response.as_ref().map_or(0, |r| r.status().as_u16());
            state.requests.push(call.log(status));
            response
        });
        Web { server, state }
    }

    /// The address without a slash at its end.
    pub fn url(&self) -> String {
        self.server.url.clone()
    }

    /// Serves `body` at `path` (which begins with a slash and has no escapes,
    /// or is a path with its query exactly as sent).
    pub fn put(&self, path: &str, body: impl Into<Vec<u8>>) {
        lock(&self.state).files.put(path, body.into().into());
    }

    /// Gives these bytes out as the gzip form of what is at `path` already.
    pub fn pack(&self, path: &str, packed: impl Into<Vec<u8>>) {
        lock(&self.state).files.pack(path, packed.into().into());
    }

    /// Makes the tag of what is at `path` a weak one, as servers give what they make anew each time.
    pub fn weaken(&self, path: &str) {
        let mut state = lock(&self.state);
        let page = state.files.pages.get_mut(path).expect("a page that was put");
        page.etag.insert_str(0, "W/");
    }

    /// Serves a folder as it is on disk at each request, under `prefix` (`"/"`
    /// or `"/some/where"`). What was [`put`](Web::put) goes first.
    pub fn put_dir(&self, prefix: &str, dir: &Path) {
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        lock(&self.state).files.dirs.insert(prefix, dir.to_owned());
    }

    /// Forgets a page or a folder.
    pub fn remove(&self, path: &str) {
        let mut state = lock(&self.state);
        state.files.pages.remove(path);
        let prefix = format!("{}/", path.trim_end_matches('/'));
        state.files.dirs.remove(&prefix);
    }

    /// Spoils the next `times` answers for `path` (`usize::MAX`: all of them);
    /// `"/some/*"` stands for every path that begins so. Later faults of a path
    /// wait for the earlier ones to be used up.
    pub fn fault(&self, path: &str, fault: Fault, times: usize) {
        lock(&self.state).files.faults.add(path, fault, times);
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        lock(&self.state).files.faults = Faults::default();
    }

    /// What was asked so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    pub fn clear_requests(&self) {
        lock(&self.state).requests.clear();
    }
}

/// 2024-01-01T00:00:00Z, where the stand-ins' clocks begin.
pub(crate) const EPOCH: u64 = 1_704_067_200;

/// The lock, also after a panic elsewhere: that one is the failure to show.
pub(crate) fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs().cast_signed(),
        Err(before) => -before.duration().as_secs().cast_signed(),
    }
}

/// Lower-case hex of the SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    // Unoptimised, the digest of a large file takes half a second, and some tests ask for one often.
    static LARGE: Mutex<Vec<(Vec<u8>, String)>> = Mutex::new(Vec::new());
    if bytes.len() < 1 << 20 {
        return sha256_now(bytes);
    }
    let mut known = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, digest)) = known.iter().find(|(there, _)| there == bytes) {
        return digest.clone();
    }
    let digest = sha256_now(bytes);
    known.push((bytes.to_vec(), digest.clone()));
    digest
}

fn sha256_now(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `2024-01-02T03:04:05Z`
pub(crate) fn iso_date(at: u64) -> String {
    let (year, month, day) = civil(at / 86_400);
    let (hour, minute, second) = (at / 3600 % 24, at / 60 % 60, at % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `Tue, 02 Jan 2024 03:04:05 GMT`
fn http_date(at: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = at / 86_400;
    let (year, month, day) = civil(days);
    let index = |n: u64| usize::try_from(n).expect("a small number");
    let (name, month) = (DAYS[index(days % 7)], MONTHS[index(month - 1)]);
    let (hour, minute, second) = (at / 3600 % 24, at / 60 % 60, at % 60);
    format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Year, month and day of a count of days since 1970 (Hinnant's algorithm).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The words that go with a status.
pub(crate) fn reason(status: u16) -> String {
    let status = StatusCode::from_u16(status).expect("a status");
    status.canonical_reason().unwrap_or("Unknown Status").to_owned()
}

fn media_type(path: &str, body: &[u8]) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("txt" | "sha256" | "sig" | "asc") => "text/plain; charset=utf-8",
        Some("gz") => "application/gzip",
        Some("xz") => "application/x-xz",
        Some("zip") => "application/zip",
        None if path.ends_with('/') || body.starts_with(b"<") => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Undoes percent escapes; what is no escape stays.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Escapes what may not stand in one segment of a path.
pub(crate) fn escape(segment: &str) -> String {
    segment.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~+:@!$'()*,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
