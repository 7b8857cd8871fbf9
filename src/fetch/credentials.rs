//! What is shown to which server: from the configuration, or from a netrc file.
//!
//! Owns finding it and holding it in memory. It is asked with the URL that a request really goes to,
//! so that nothing follows a rewritten address unless it is for that server; at a redirect to another
//! server the HTTP client drops it. Nothing goes over an open line, except to this machine itself or
//! where the configuration says `http://`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use reqwest::RequestBuilder;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::FetchError;
use crate::config::network::{Credential, Server};
use crate::sign::secret;

/// The longest netrc file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// All that there is to show.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    configured: BTreeMap<Server, Credential>,
    /// Read when a server is asked that the configuration says nothing of.
    netrc: OnceLock<Netrc>,
}

/// What one server gets to see. Never printed.
pub(super) enum Shown {
    Bearer(Zeroizing<String>),
    Basic(String, Zeroizing<String>),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl Shown {
    /// Puts it on a request; the header counts as sensitive there.
    pub(super) fn put_on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Bearer(token) => request.bearer_auth(token.as_str()),
            Self::Basic(user, password) => request.basic_auth(user, Some(password.as_str())),
        }
    }
}

impl Credentials {
    pub(super) fn new(configured: BTreeMap<Server, Credential>) -> Self {
        Self { configured, netrc: OnceLock::new() }
    }

    /// What the server of this URL gets to see, if anything.
    ///
    /// # Errors
    /// The configuration names a place where nothing is.
    pub(super) fn of(&self, url: &Url) -> Result<Option<Shown>, FetchError> {
        let server = Server::of(url);
        let Some(credential) = self.configured.get(&server) else {
            return Ok(self.netrc.get_or_init(Netrc::find).of(url));
        };
        let read = |at| {
            // Its own files were made absolute when they were read.
            secret::read_line(at, Path::new(""))
                .map_err(|source| FetchError::Credentials { server: server.to_string(), source })
        };
        Ok(Some(match credential {
            Credential::Bearer(at) => Shown::Bearer(read(at)?),
            Credential::Basic(user, at) => Shown::Basic(user.clone(), read(at)?),
        }))
    }
}

/// The machines of a netrc file, as curl and git read it.
#[derive(Default)]
struct Netrc(BTreeMap<String, (String, Zeroizing<String>)>);

impl fmt::Debug for Netrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Netrc {
    /// Reads `$NETRC`, or `.netrc` in the home folder. One that cannot be read is as good as none, but
    /// is told.
    fn find() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(path) = set("NETRC")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(set("HOME")?).join(".netrc")))
        else {
            return Self::default();
        };
        let read = || {
            // A pipe would wait for somebody to write.
            if !std::fs::metadata(&path)?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            let mut text = Zeroizing::new(String::new());
            std::fs::File::open(&path)?.take(LONGEST).read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Self::parse(&text),
            Err(error) => {
                if set("NETRC").is_some() || error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {error}", path.display());
                }
                Self::default()
            }
        }
    }

    /// `default` is left out: it would show a password to every server there is.
    fn parse(text: &str) -> Self {
        let mut machines = BTreeMap::new();
        let mut words = Words(text);
        let (mut machine, mut login) = (None, None);
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => (machine, login) = (words.next(), None),
                "default" => (machine, login) = (None, None),
                "login" => login = words.next(),
                "password" => {
                    let password = words.next();
                    if let (Some(machine), Some(password)) = (&machine, password) {
                        let login = login.as_ref().map(|login| login.to_string());
                        machines
                            .entry(machine.to_ascii_lowercase())
                            .or_insert((login.unwrap_or_default(), password));
                    }
                }
                "account" => drop(words.next()),
                "macdef" => words.skip_macro(),
                _ => {}
            }
        }
        Self(machines)
    }

    fn of(&self, url: &Url) -> Option<Shown> {
        let is_here = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        if url.scheme() != "https" && !is_here {
            return None;
        }
        let (login, password) = self.0.get(url.host_str()?)?;
        Some(Shown::Basic(login.clone(), password.clone()))
    }
}

/// The words of a netrc file: between white space, or in quotes.
struct Words<'t>(&'t str);

impl Words<'_> {
    /// A macro ends with an empty line.
    fn skip_macro(&mut self) {
        self.0 = self.0.split_once("\n\n").map_or("", |(_, rest)| rest);
    }
}

impl Iterator for Words<'_> {
    type Item = Zeroizing<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.0 = self.0.trim_start();
            // From a `#` where a word would begin to the end of its line.
            let Some(comment) = self.0.strip_prefix('#') else { break };
            self.0 = comment.split_once('\n').map_or("", |(_, rest)| rest);
        }
        let mut word = Zeroizing::new(String::new());
        if let Some(quoted) = self.0.strip_prefix('"') {
            let mut escaped = false;
            for (at, c) in quoted.char_indices() {
                match c {
                    _ if escaped => {
                        word.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        self.0 = &quoted[at + 1..];
                        return Some(word);
                    }
                    c => word.push(c),
                }
            }
            self.0 = "";
            return None;
        }
        let end = self.0.find(char::is_whitespace).unwrap_or(self.0.len());
        let (first, rest) = self.0.split_at(end);
        self.0 = rest;
        word.push_str(first);
        Some(word).filter(|word| !word.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, url: &str) -> Option<(String, String)> {
        match Netrc::parse(text).of(&Url::parse(url).unwrap())? {
            Shown::Basic(user, password) => Some((user, password.to_string())),
            Shown::Bearer(_) => None,
        }
    }

    #[test]
    fn a_netrc_file_reads_as_curl_reads_it() {
        let both = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        let text = "# machine c.test login x password y\nmachine a.test login one password p1\nmachine b.test\n  login two\n  account z\n  password \"p \\\"2\"\n\nmacdef init\nmachine d.test login x password y\n\nmachine e.test password alone\n";
        assert_eq!(shown(text, "https://a.test/x"), both("one", "p1"));
        assert_eq!(shown(text, "https://b.test:8443/"), both("two", "p \"2"));
        assert_eq!(shown(text, "https://e.test/"), both("", "alone"));
        for none in ["https://c.test/", "https://d.test/", "https://sub.a.test/", "http://a.test/"]
        {
            assert_eq!(shown(text, none), None, "{none}");
        }
        let local = "machine 127.0.0.1 login one password p1";
        assert_eq!(shown(local, "http://127.0.0.1:8080/"), both("one", "p1"));
    }

    #[test]
    fn nobody_gets_what_is_for_everybody() {
        let text = "machine a.test login a password b\ndefault login anonymous password secret";
        assert_eq!(shown(text, "https://x.test/"), None);
    }

    #[test]
    fn rubbish_is_no_netrc_file() {
        for text in
            ["machine", "machine a", "password x", "machine a password", "\"", "machine \"a"]
        {
            assert_eq!(shown(text, "https://a/"), None, "{text}");
        }
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let netrc = Netrc::parse("machine a.test login user password hunter2");
        assert_eq!(format!("{netrc:?}"), "{\"a.test\"}");
        let shown = netrc.of(&Url::parse("https://a.test/").unwrap());
        assert_eq!(format!("{shown:?}"), "Some(Shown)");
    }
}
