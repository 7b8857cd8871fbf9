//! The token that a registry gives to everybody who asks (CNCF distribution, "Token Authentication").
//!
//! Knows of no other login. A token stays in the headers of those who ask for an image.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use url::Url;

use super::Reference;
use crate::fetch::{Client, DOCUMENT, FetchError};

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Client {
    /// Asks whether the registry wants a token, and for one that everybody gets.
    pub(super) async fn token(&self, reference: &Reference) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::new();
        let url = reference.url("");
        let mut tries = 0;
        let answer = loop {
            match self.ask(Method::GET, &url, HeaderMap::new()).await {
                Err(error) => self.try_again(&url, error, &mut tries).await?,
                Ok(answer) => break answer,
            }
        };
        if answer.status() == StatusCode::OK {
            return Ok(headers);
        }
        let wanted = answer.headers().get(header::WWW_AUTHENTICATE);
        let wanted = wanted.and_then(|wanted| Challenge::parse(wanted.to_str().ok()?));
        let wanted = wanted.filter(|_| answer.status() == StatusCode::UNAUTHORIZED);
        let Some(Challenge { realm, service }) = wanted else {
            return Err(self.refused(&url, answer).await);
        };
        // The one who gives out tokens may be the same host, which counts as busy till then.
        drop(answer);
        let refuse = |problem: &str| FetchError::Image {
            image: reference.to_string(),
            problem: problem.to_owned(),
        };
        let mut realm =
            Url::parse(&realm).map_err(|_| refuse("its registry names no server for tokens"))?;
        // Plain http only where the registry itself is asked over it.
        let plain = self.rewritten(&url).starts_with("http:");
        if realm.scheme() != "https" && !(plain && realm.scheme() == "http") {
            return Err(refuse("its registry gives out tokens over an insecure connection"));
        }
        let path = reference.of_repository("");
        let repository = path.split_once("/v2/").map_or("", |(_, path)| path.trim_end_matches('/'));
        realm.query_pairs_mut().append_pair("scope", &format!("repository:{repository}:pull"));
        if let Some(service) = service {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        let (_, body) = self.small(realm.as_str(), &HeaderMap::new(), DOCUMENT).await?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        let value = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let mut value = value.ok_or_else(|| refuse("its registry gave out no token"))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        Ok(headers)
    }
}

/// Where a registry wants its tokens to come from (RFC 6750, section 3).
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        loop {
            let (key, value) = rest.split_once('=')?;
            let (value, left) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            match left.trim_start().strip_prefix(',') {
                Some(left) => rest = left,
                None => return Some(Self { realm: realm?, service }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let challenge = |text| Challenge::parse(text).map(|it| (it.realm, it.service));
        let both = Some(("https://e.org/token".to_owned(), Some("e.org".to_owned())));
        for text in [
            "Bearer realm=\"https://e.org/token\",service=\"e.org\",scope=\"repository:o/r:pull,push\"",
            "bearer service=e.org, realm=\"https://e.org/token\"",
        ] {
            assert_eq!(challenge(text), both, "{text}");
        }
        for text in ["Basic realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(challenge(text), None, "{text}");
        }
    }
}
