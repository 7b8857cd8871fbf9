//! A real S3 server in this process, over a folder, with things going wrong in front of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleError;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use http::{Method, StatusCode, header};
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{CompleteMultipartUploadInput, PutObjectInput};
use s3s::service::S3ServiceBuilder;
use s3s::{S3Request, S3Result};
use tempfile::TempDir;

use crate::repo::Repo;
use crate::web::{self, Cut, Port, Server};

pub const KEY: &str = "AKIAPUBLISHTEST";
pub const SECRET: &str = "a-secret-that-nobody-may-read";

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Wrong {
    /// This status, with this code in the XML of S3.
    Answer(u16, &'static str),
    /// The connection ends before the request is looked at.
    Cut,
    /// It is done, and then the connection ends.
    Lost,
    /// The connection ends when this much of the body has come, and what has come is handed on.
    Half(usize),
    /// The first byte of the body comes as another one.
    Damaged,
}

struct Waiting {
    method: Method,
    part_of_path: String,
    wrong: Wrong,
    times: usize,
}

#[derive(Default)]
struct Shared {
    log: Vec<web::Request>,
    wrongs: Vec<Waiting>,
    hides: bool,
}

/// The server. Its bucket is `the-bucket`.
pub struct S3 {
    folder: TempDir,
    shared: Arc<Mutex<Shared>>,
    deaf: Arc<AtomicBool>,
    server: Server,
}

/// Takes the conditions out of what is asked, once the signature is checked.
struct Deaf(Arc<AtomicBool>);

type Allowed<'z> = Pin<Box<dyn Future<Output = S3Result<()>> + Send + 'z>>;

// By hand what `async_trait` makes of `async fn`.
impl S3Access for Deaf {
    fn put_object<'a, 'b, 'z>(&'a self, request: &'b mut S3Request<PutObjectInput>) -> Allowed<'z>
    where
        'a: 'z,
        'b: 'z,
        Self: 'z,
    {
        if self.0.load(Ordering::SeqCst) {
            request.input.if_match = None;
            request.input.if_none_match = None;
        }
        Box::pin(async { Ok(()) })
    }

    fn complete_multipart_upload<'a, 'b, 'z>(
        &'a self,
        request: &'b mut S3Request<CompleteMultipartUploadInput>,
    ) -> Allowed<'z>
    where
        'a: 'z,
        'b: 'z,
        Self: 'z,
    {
        if self.0.load(Ordering::SeqCst) {
            request.input.if_none_match = None;
        }
        Box::pin(async { Ok(()) })
    }
}

impl S3 {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("publish-s3-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("the-bucket")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let deaf = Arc::new(AtomicBool::new(false));
        service.set_access(Deaf(deaf.clone()));
        let broken = async |error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"));
        let service = HandleError::new(service.build(), broken);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let app = Router::new()
            .fallback_service(service)
            .layer(middleware::from_fn_with_state(shared.clone(), front));
        Self { folder, shared, deaf, server: Port::open().serve_app(app) }
    }

    /// The next `times` requests of this method whose path has this in it go wrong.
    pub fn fault(&self, method: Method, part_of_path: &str, wrong: Wrong, times: usize) {
        let part_of_path = part_of_path.to_owned();
        let waiting = Waiting { method, part_of_path, wrong, times };
        self.shared.lock().unwrap().wrongs.push(waiting);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.shared.lock().unwrap().wrongs.clear();
    }

    /// From now on, conditions of writing are ignored, silently.
    pub fn ignore_conditions(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// From now on, what is not there is forbidden, as for a key that may not list.
    pub fn hide_what_is_missing(&self) {
        self.shared.lock().unwrap().hides = true;
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<web::Request> {
        std::mem::take(&mut self.shared.lock().unwrap().log)
    }

    /// The repository's folder.
    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join("the-bucket/repo").join(path)
    }

    /// A repository whose store is here.
    pub fn repo(&self) -> Repo {
        let repo = Repo::new();
        self.adopt(repo)
    }

    /// Lets a repository's store be here.
    pub fn adopt(&self, mut repo: Repo) -> Repo {
        let text = std::fs::read_to_string(repo.path("publish.toml")).unwrap();
        repo.write("publish.toml", text.replace("\"public\"", "\"s3://the-bucket/repo\""));
        repo.env("AWS_ENDPOINT_URL", &self.server.url);
        repo.env("AWS_ACCESS_KEY_ID", KEY);
        repo.env("AWS_SECRET_ACCESS_KEY", SECRET);
        repo
    }
}

async fn front(
    State(shared): State<Arc<Mutex<Shared>>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
    next: Next,
) -> Response {
    let mut logged = web::Request {
        method: request.method().clone(),
        path: request.uri().to_string(),
        headers: request.headers().clone(),
        status: 0,
    };
    let (wrong, hides) = {
        let mut shared = shared.lock().unwrap();
        let fits = |w: &&mut Waiting| {
            w.times > 0 && w.method == logged.method && logged.path.contains(&w.part_of_path)
        };
        let wrong = shared.wrongs.iter_mut().find(fits).map(|waiting| {
            waiting.times -= usize::from(waiting.times != usize::MAX);
            waiting.wrong.clone()
        });
        (wrong, shared.hides)
    };
    let mut response = match wrong {
        None => next.run(request).await,
        Some(Wrong::Answer(status, code)) => answer(status, code),
        Some(Wrong::Cut) => cut.now(),
        Some(Wrong::Lost) => {
            next.run(request).await;
            cut.now()
        }
        Some(Wrong::Half(bytes)) => {
            next.run(request.map(|body| half(body, bytes))).await;
            cut.now()
        }
        Some(Wrong::Damaged) => next.run(request.map(damaged)).await,
    };
    if hides && response.status() == StatusCode::NOT_FOUND {
        response = answer(403, "AccessDenied");
    }
    logged.status = response.status().as_u16();
    shared.lock().unwrap().log.push(logged);
    response
}

/// The begin of a body, and then an error, as from a connection that broke.
fn half(body: Body, bytes: usize) -> Body {
    let pieces = body.into_data_stream().scan(bytes, |left, piece| {
        let broken = || Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let piece = match piece {
            Ok(piece) if piece.len() <= *left => {
                *left -= piece.len();
                Ok(piece)
            }
            _ => broken(),
        };
        futures::future::ready(Some(piece))
    });
    Body::from_stream(pieces)
}

fn damaged(body: Body) -> Body {
    let mut first = true;
    Body::from_stream(body.into_data_stream().map_ok(move |piece| {
        let mut piece = piece.to_vec();
        if let Some(byte) = piece.first_mut().filter(|_| std::mem::take(&mut first)) {
            *byte ^= 1;
        }
        piece
    }))
}

fn answer(status: u16, code: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code><Message>said the test</Message></Error>");
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/xml")], Body::from(body)).into_response()
}
