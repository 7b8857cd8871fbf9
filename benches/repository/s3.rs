//! An S3 server over a folder, in this process, and when it was busy with images.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow};
use axum::Router;
use axum::error_handling::HandleError;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{Method, StatusCode};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub const BUCKET: &str = "bucket";
const KEY: &str = "AKIAPUBLISHBENCH";
const SECRET: &str = "known-to-everybody";

/// When the first image began to come, and when the last one was there.
type Busy = Arc<Mutex<Option<(Instant, Instant)>>>;

/// Serves until it is dropped.
pub struct Server {
    url: String,
    busy: Busy,
    _runtime: Runtime,
}

impl Server {
    /// Serves a folder whose folders are buckets.
    pub fn start(folder: &Path) -> Result<Self> {
        let files = s3s_fs::FileSystem::new(folder).map_err(|error| anyhow!("{error:?}"))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let broken = async |error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"));
        let busy = Busy::default();
        let app = Router::new()
            .fallback_service(HandleError::new(service.build(), broken))
            .layer(middleware::from_fn_with_state(busy.clone(), watch));
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}", listener.local_addr()?);
        runtime.spawn(async { axum::serve(listener, app).await });
        Ok(Self { url, busy, _runtime: runtime })
    }

    /// What publish must know of it.
    pub fn environment(&self) -> Vec<String> {
        let url = &self.url;
        vec![
            format!("AWS_ENDPOINT_URL={url}"),
            format!("AWS_ACCESS_KEY_ID={KEY}"),
            format!("AWS_SECRET_ACCESS_KEY={SECRET}"),
            "AWS_REGION=us-east-1".to_owned(),
        ]
    }

    /// What rclone must know of it: it is called `there:`.
    pub fn environment_of_rclone(&self) -> Vec<String> {
        let url = &self.url;
        vec![
            "RCLONE_CONFIG=/dev/null".to_owned(),
            "RCLONE_CONFIG_THERE_TYPE=s3".to_owned(),
            "RCLONE_CONFIG_THERE_PROVIDER=Other".to_owned(),
            format!("RCLONE_CONFIG_THERE_ENDPOINT={url}"),
            format!("RCLONE_CONFIG_THERE_ACCESS_KEY_ID={KEY}"),
            format!("RCLONE_CONFIG_THERE_SECRET_ACCESS_KEY={SECRET}"),
            "RCLONE_CONFIG_THERE_REGION=us-east-1".to_owned(),
        ]
    }

    /// Seconds from the first byte of an image to the end of the last one, since the last call.
    pub fn busy(&self) -> f64 {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner).take();
        busy.map_or(0.0, |(first, last)| (last - first).as_secs_f64())
    }
}

async fn watch(State(busy): State<Busy>, request: Request, next: Next) -> Response {
    let writes = [Method::PUT, Method::POST].contains(request.method());
    let is_image = writes && request.uri().path().rsplit('.').next() == Some("raw");
    let begun = Instant::now();
    let answer = next.run(request).await;
    if is_image {
        let mut busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        let first = busy.map_or(begun, |(first, _)| first.min(begun));
        *busy = Some((first, Instant::now()));
    }
    answer
}
