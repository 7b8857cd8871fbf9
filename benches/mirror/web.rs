//! A web server over a folder, in this process, that remembers what it was asked.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_http::services::ServeDir;

type Asked = Arc<Mutex<Vec<String>>>;

/// Serves until it is dropped.
pub struct Web {
    url: String,
    asked: Asked,
    _runtime: Runtime,
}

impl Web {
    pub fn start(folder: &Path) -> Result<Self> {
        let asked = Asked::default();
        // Pieces as large as a server in earnest sends.
        let files = ServeDir::new(folder).with_buf_chunk_size(256 << 10);
        let app = Router::new()
            .fallback_service(files)
            .layer(middleware::from_fn_with_state(asked.clone(), note));
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}/", listener.local_addr()?);
        runtime.spawn(async { axum::serve(listener, app).await });
        Ok(Self { url, asked, _runtime: runtime })
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What was asked since the last time: method, path and status.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn note(State(asked): State<Asked>, request: Request, next: Next) -> Response {
    let line = format!("{} {}", request.method(), request.uri().path());
    let answer = next.run(request).await;
    let line = format!("{line} {}", answer.status().as_u16());
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    answer
}
