//! `publish serve`: the repository on a local port, as any static web server would serve it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeDir;

use super::{Context, Ended, print, print_json};

pub(super) async fn run(context: &Context, listen: SocketAddr) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let store = config.store();
    let Some(root) = store.directory() else {
        bail!(
            "{store} is no directory: its own service gives it out\nhint: `serve` is for a store in a directory"
        )
    };
    if !root.is_dir() {
        bail!("there is no repository in {} yet\nhint: `publish sync` makes one", root.display());
    }
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    if context.json {
        print_json("serve", &serde_json::json!({ "store": root, "url": url }))?;
    } else {
        let mut text = format!("serving {} at {url} until interrupted\n", root.display());
        for component in &config.components {
            let _ = writeln!(text, "  {url}{}/", component.folder);
        }
        print(&text)?;
    }
    let app = Router::new()
        .fallback_service(ServeDir::new(root))
        .layer(middleware::from_fn(hide_private));
    axum::serve(listener, app).await?;
    Ok(Ended::Well)
}

/// What starts with a dot is publish's own, and no client's business.
async fn hide_private(request: Request, next: Next) -> Response {
    // An escaped dot is a dot, too.
    let path = request.uri().path().to_ascii_lowercase().replace("%2e", ".");
    if path.split('/').any(|part| part.starts_with('.')) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let started = std::time::Instant::now();
    let shown = path.escape_debug().to_string();
    let response = next.run(request).await;
    tracing::debug!(status = response.status().as_u16(), path = shown, took = ?started.elapsed(), "served");
    response
}
