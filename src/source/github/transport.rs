//! How octocrab's requests reach GitHub: as all other documents do, by the one client with its gate
//! and its cache.
//!
//! Owns that the token goes to the API alone. Of a listing of releases only what a release is made of here
//! is kept: notes, authors and uploaders are nine tenths of it.

use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use url::Url;

use super::listed::ListedRelease;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError};
use crate::source::forge::{Api, bearer};

/// octocrab, talking to this API.
pub(super) fn over(client: &Client, cache: &Cache, api: &Api, token: Option<&str>) -> Octocrab {
    let (client, cache, api) = (client.clone(), cache.clone(), api.clone());
    let token = token.map(bearer);
    let service = tower::service_fn(move |request: Request<OctoBody>| {
        let (client, cache, api, token) =
            (client.clone(), cache.clone(), api.clone(), token.clone());
        async move { answer(&client, &cache, &api, token, request.uri()).await }
    });
    let built = OctocrabBuilder::new_empty().with_service(service).with_auth(AuthState::None);
    match built.build() {
        Ok(octocrab) => octocrab,
        Err(never) => match never {},
    }
}

async fn answer(
    client: &Client,
    cache: &Cache,
    api: &Api,
    token: Option<HeaderValue>,
    uri: &Uri,
) -> Result<Response<OctoBody>, FetchError> {
    // Pages name the next one in full, everything else is asked for by its path.
    let asked =
        if uri.authority().is_some() { uri.to_string() } else { format!("{}{uri}", api.base()) };
    let url = Url::parse(&asked)
        .map_err(|source| FetchError::Unreachable { url: asked, source: source.into() })?;
    let mut headers = HeaderMap::new();
    // An answer must not choose where the token goes.
    if let Some(token) = token.filter(|_| api.is_at(&url)) {
        headers.insert(header::AUTHORIZATION, token);
    }
    let headers = client.for_its_own_server(url.as_str(), headers);
    let document = client.digest(&url, headers, cache, keep).await?;
    let mut response = Response::new(OctoBody::from(document.body));
    if let Some(next) = document.next {
        response.extensions_mut().insert(Next(next));
    }
    Ok(response)
}

/// The page after an answer.
#[derive(Debug, Clone)]
pub(super) struct Next(pub(super) Url);

/// A listing of releases, small; of anything else, `None`.
fn keep(body: &[u8]) -> Option<Vec<u8>> {
    let releases: Vec<ListedRelease<'_>> = serde_json::from_slice(body).ok()?;
    serde_json::to_vec(&releases).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_a_release_still_and_much_less() {
        let user = json!({"login": "octocat", "id": 1, "node_id": "x"});
        let listing = json!([{
            "url": "https://api.github.com/repos/o/n/releases/1",
            "html_url": "https://github.com/o/n/releases/v1",
            "assets_url": "https://api.github.com/repos/o/n/releases/1/assets",
            "upload_url": "https://uploads.github.com/{?name,label}",
            "tarball_url": null, "zipball_url": null, "author": user,
            "id": 7, "node_id": "abc", "tag_name": "v1 \"\u{e9}\"", "target_commitish": "main",
            "name": "one", "body": "notes ".repeat(1000), "draft": false, "prerelease": true,
            "created_at": "2024-01-01T00:00:00Z", "published_at": "2024-01-02T00:00:00Z",
            "assets": [{
                "url": "https://api.github.com/repos/o/n/releases/assets/9",
                "browser_download_url": "https://github.com/o/n/releases/download/v1/x",
                "id": 9, "node_id": "def", "name": "x", "label": "", "state": "uploaded",
                "content_type": "application/gzip", "size": 12, "digest": "sha256:00",
                "download_count": 1234, "uploader": user,
                "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
            }],
        }]);
        let kept = keep(&serde_json::to_vec(&listing).unwrap()).unwrap();
        assert!(kept.len() < 700, "{}", kept.len());
        let releases: Vec<ListedRelease<'_>> = serde_json::from_slice(&kept).unwrap();
        let release = &releases[0];
        assert_eq!((&*release.tag_name, release.prerelease), ("v1 \"\u{e9}\"", true));
        assert_eq!(release.published_at.unwrap().as_second(), 1_704_153_600);
        let asset = &release.assets[0];
        assert_eq!((&*asset.name, asset.size, asset.id), ("x", 12, 9));
        assert_eq!(asset.digest.as_deref(), Some("sha256:00"));
        assert!(asset.browser_download_url.ends_with("/v1/x"));
        // What is small stays as it is.
        assert_eq!(keep(&kept).unwrap(), kept);
    }

    #[test]
    fn anything_else_is_left_alone() {
        for text in ["{\"message\":\"x\"}", "[{\"name\":\"v1\"}]", "[", "", "<html>"] {
            assert_eq!(keep(text.as_bytes()), None, "{text}");
        }
    }
}
