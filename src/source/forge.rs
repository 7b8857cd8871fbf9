//! Forges: sites where projects live, and their APIs.
//!
//! Owns the address of an API, whose token goes there, and reading a listing page by page. Knows
//! nothing of what a listing says.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use url::Url;

use super::SourceError;
use crate::config::source::{GiteaRule, GithubRule, GitlabRule};
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError, without_password};

/// More pages than any project has; a listing that goes on longer goes in a circle.
pub(super) const MOST_PAGES: usize = 100;

/// What kind of site it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forge {
    /// GitHub, GitHub Enterprise.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea, Forgejo.
    Gitea,
}

/// A site's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    forge: Forge,
    /// Its address, without a slash at its end.
    base: Url,
    /// The site it belongs to.
    site: Url,
}

/// Tokens, and the only site that each is for: the environment says so, never a component.
struct Key {
    /// Variables that hold a token; the first that is set counts.
    tokens: &'static [&'static str],
    /// Variables that name its site; the first that is set counts.
    sites: &'static [&'static str],
    /// The site, if none is set.
    else_site: Option<&'static str>,
}

impl Forge {
    fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
        }
    }

    /// The first of a kind is what somebody without any is told of.
    fn keys(self) -> &'static [Key] {
        match self {
            Self::Github => &[
                Key {
                    tokens: &["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"],
                    sites: &["GH_HOST"],
                    else_site: None,
                },
                Key {
                    tokens: &["GITHUB_TOKEN", "GH_TOKEN"],
                    sites: &["GITHUB_API_URL"],
                    else_site: Some("https://api.github.com"),
                },
            ],
            Self::Gitlab => &[
                Key {
                    tokens: &["GITLAB_TOKEN"],
                    sites: &["GITLAB_HOST", "CI_SERVER_URL"],
                    else_site: Some("https://gitlab.com"),
                },
                Key { tokens: &["CI_JOB_TOKEN"], sites: &["CI_SERVER_URL"], else_site: None },
            ],
            Self::Gitea => &[
                Key { tokens: &["GITEA_TOKEN"], sites: &["GITEA_SERVER_URL"], else_site: None },
                Key { tokens: &["FORGEJO_TOKEN"], sites: &["FORGEJO_SERVER_URL"], else_site: None },
            ],
        }
    }
}

impl Key {
    /// The variable that holds the token, and the token without the newline that a pasted one comes
    /// with.
    fn token(&self) -> Option<(&'static str, String)> {
        self.tokens.iter().find_map(|name| {
            let token = variable(name)?.trim().to_owned();
            (!token.is_empty()).then_some((*name, token))
        })
    }

    fn is_for(&self, api: &Api) -> bool {
        let named = self.sites.iter().find_map(|name| variable(name));
        let Some(named) = named.or_else(|| self.else_site.map(str::to_owned)) else { return false };
        // A bare host, as the sites' own programs take it, is reached by https.
        let url = if named.contains("://") { named } else { format!("https://{named}") };
        // With the scheme: else a component could have the token sent where anybody reads along.
        Url::parse(&url).is_ok_and(|url| api.has(&url))
    }
}

impl Api {
    /// That of a GitHub: `url` is its site.
    pub(super) fn github(rule: &GithubRule) -> Result<Self, SourceError> {
        let Some(site) = &rule.url else {
            return Self::github_of_environment(&rule.repo.to_string());
        };
        let site = site.0.clone();
        let mut base = site.clone();
        match site.domain() {
            Some("github.com" | "www.github.com" | "api.github.com") => {
                base = Url::parse("https://api.github.com").expect("a URL");
            }
            // Enterprise Cloud with a domain of one's own.
            Some(domain) if domain.ends_with(".ghe.com") && !domain.starts_with("api.") => {
                // Fails for addresses without a host alone.
                let _ = base.set_host(Some(&format!("api.{domain}")));
            }
            Some(domain) if domain.ends_with(".ghe.com") => {}
            _ => base = below(base, "api/v3"),
        }
        Ok(Self { forge: Forge::Github, base: bare(base), site })
    }

    /// That of the GitHub that the environment names, else of github.com.
    pub(super) fn github_of_environment(repo: &str) -> Result<Self, SourceError> {
        let url = variable("GITHUB_API_URL");
        let url = url.unwrap_or_else(|| "https://api.github.com".to_owned());
        let base = Url::parse(&url).ok().filter(Url::has_host).ok_or_else(|| {
            let problem = "GITHUB_API_URL is not the address of an API".to_owned();
            SourceError::GithubAnswer { repo: repo.to_owned(), problem }
        })?;
        Ok(Self { forge: Forge::Github, site: base.clone(), base: bare(base) })
    }

    /// That of a GitLab.
    pub(super) fn gitlab(rule: &GitlabRule) -> Self {
        let site = rule.url.0.clone();
        Self { forge: Forge::Gitlab, base: bare(below(site.clone(), "api/v4")), site }
    }

    /// That of a Gitea.
    pub(super) fn gitea(rule: &GiteaRule) -> Self {
        let site = rule.url.0.clone();
        Self { forge: Forge::Gitea, base: bare(below(site.clone(), "api/v1")), site }
    }

    /// What kind of site it belongs to.
    #[must_use]
    pub fn forge(&self) -> Forge {
        self.forge
    }

    /// Its address, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The address of something in it.
    pub(super) fn at(&self, path: &str) -> Url {
        Url::parse(&format!("{}/{path}", self.base())).expect("an address and a path")
    }

    /// Whether something is on the very server that the API is on.
    pub(super) fn is_at(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// Whether something is on the very server that the API, or its site, is on.
    pub(super) fn has(&self, url: &Url) -> bool {
        [&self.base, &self.site].iter().any(|own| own.origin() == url.origin())
    }

    /// The token for it.
    pub(super) fn token(&self) -> Result<Option<String>, SourceError> {
        let mut keys = self.forge.keys().iter().filter(|key| key.is_for(self));
        let Some((name, token)) = keys.find_map(Key::token) else { return Ok(None) };
        if token.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Some(token))
        } else {
            Err(SourceError::Token(name.to_owned()))
        }
    }

    /// What it is asked with for something in it.
    pub(super) fn headers(&self, client: &Client, url: &Url) -> Result<HeaderMap, SourceError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = self.token()? {
            headers.insert(header::AUTHORIZATION, bearer(&token));
        }
        Ok(client.for_its_own_server(url.as_str(), headers))
    }

    /// What it is asked with for a file; `None` without a token.
    ///
    /// That is for the API alone: the HTTP client drops the token at a redirect to another host.
    pub(super) fn download_headers(&self) -> Option<HeaderMap> {
        let token = self.token().ok()??;
        let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer(&token))]);
        if self.forge == Forge::Github {
            // Else it describes the file.
            let bytes = HeaderValue::from_static("application/octet-stream");
            headers.insert(header::ACCEPT, bytes);
        }
        Some(headers)
    }

    /// What to do about a refusal; `field` is where the component names the project.
    pub(super) fn hint(&self, error: &FetchError, field: &str) -> Option<String> {
        let FetchError::Status { status, .. } = error else { return None };
        let refused = [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED];
        if !refused.contains(status) {
            return None;
        }
        let (own, others): (Vec<&Key>, Vec<&Key>) =
            self.forge.keys().iter().partition(|key| key.is_for(self));
        let has_token = |key: &&Key| Some((key.token()?.0, key.sites[0]));
        if let Some((name, _)) = own.iter().find_map(has_token) {
            return Some(match *status {
                StatusCode::UNAUTHORIZED => format!("{name} holds a token that is not accepted"),
                _ => format!("check {field}; a private one needs {name} to have access to it"),
            });
        }
        let host = self.site.host_str().unwrap_or_default();
        if let Some((name, site)) = others.iter().find_map(has_token) {
            return Some(format!(
                "check {field}; {name} was not sent, because {site} does not name {host}"
            ));
        }
        if let Some(key) = own.first() {
            return Some(format!("check {field}; a private one needs {}", key.tokens[0]));
        }
        let key = others.first()?;
        let (token, site) = (key.tokens[0], key.sites[0]);
        Some(format!("check {field}; a private one needs {token}, and {site} to name {host}"))
    }

    /// Every item of a listing, page by page, and whether that is all.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        project: &Project<'_>,
        first: Url,
        client: &Client,
        cache: &Cache,
    ) -> Result<(Vec<T>, bool), SourceError> {
        let from = format!("{} about {}", self.forge.name(), project.name);
        let hint = "check `url` in the component";
        let answer = |problem: String| SourceError::Answer { from: from.clone(), problem, hint };
        let (mut items, mut asked) = (Vec::new(), BTreeSet::new());
        let mut at = first;
        for number in 1.. {
            let headers = self.headers(client, &at)?;
            let page = client.document(&at, headers, cache).await.map_err(|source| {
                let hint = self.hint(&source, project.field);
                let (forge, project) = (self.forge.name(), project.name.to_owned());
                SourceError::Forge { forge, project, source, hint }
            })?;
            let read: Vec<T> = serde_json::from_slice(&page.body)
                .map_err(|error| answer(format!("{}: {error}", without_password(at.as_str()))))?;
            items.extend(read);
            asked.insert(at.clone());
            // Only the query is taken from the answer: a token goes along, and a server behind a
            // proxy does not always know its own name.
            let Some(next) = page.next else { return Ok((items, true)) };
            at.set_query(next.query());
            if asked.contains(&at) {
                return Err(answer("its pages go in a circle".to_owned()));
            }
            if project.pages.is_some_and(|most| number >= most) {
                return Ok((items, false));
            }
            if number == MOST_PAGES && project.pages.is_none() {
                return Err(answer(format!("it has more than {MOST_PAGES} pages")));
            }
        }
        unreachable!("the pages are counted without end")
    }
}

/// What is asked about.
pub(super) struct Project<'p> {
    /// What it is called on its site.
    pub(super) name: &'p str,
    /// Where the component says that.
    pub(super) field: &'p str,
    /// How many pages are read at most.
    pub(super) pages: Option<usize>,
}

/// A note that a project has another name now, where an answer shows it.
pub(super) fn moved(field: &str, was: &str, is: &str) -> Option<String> {
    let same = was.eq_ignore_ascii_case(is);
    (!same && super::is_name(is))
        .then(|| format!("{was} moved to {is}; write that in {field}, the old name may go away"))
}

/// `owner/repo` in `https://example.org/owner/repo/releases/tag/v1.0`.
pub(super) fn repo_of(page: &Url) -> Option<String> {
    let steps: Vec<&str> = page.path_segments()?.collect();
    let at = steps.windows(2).position(|pair| pair == ["releases", "tag"])?;
    Some(steps.get(at.checked_sub(2)?..at)?.join("/"))
}

/// An environment variable; CI systems set those they have nothing for to the empty string.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn bearer(token: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a plain token");
    value.set_sensitive(true);
    value
}

/// An address below a site's, unless it is that already.
fn below(mut site: Url, path: &str) -> Url {
    let at = site.path().trim_end_matches('/');
    if !at.ends_with(path) {
        site.set_path(&format!("{at}/{path}"));
    }
    site
}

fn bare(mut url: Url) -> Url {
    url.set_query(None);
    url.set_fragment(None);
    url
}
