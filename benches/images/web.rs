//! A web server for one archive and its checksum file.

use std::path::Path;

use anyhow::{Context as _, Result};
use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_http::services::ServeDir;

/// Serves until it is dropped.
pub struct Web {
    url: String,
    _runtime: Runtime,
}

impl Web {
    pub fn start(archive: &Path) -> Result<Self> {
        let name = archive.file_name().context("a file")?.to_string_lossy().into_owned();
        let app =
            Router::new().fallback_service(ServeDir::new(archive.parent().context("a folder")?));
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}/{name}", listener.local_addr()?);
        runtime.spawn(async { axum::serve(listener, app).await });
        Ok(Self { url, _runtime: runtime })
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}
