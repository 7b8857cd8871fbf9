//! Tags of a git repository, over git's smart HTTP protocol.
//!
//! Owns that conversation (gitprotocol-http(5), gitprotocol-v2(5)): protocol 2, in which a server
//! lists tags alone, and versions 1 and 0, in which it lists everything. Nothing is cloned. Knows
//! nothing of objects: a tag is its name.

use std::collections::BTreeSet;

use bytes::Bytes;
use gix_packetline::PacketLineRef;
use gix_packetline::decode::{Stream, streaming};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

use super::{Listing, MOST, Release, SourceError, forge};
use crate::config::source::GitRule;
use crate::fetch::{Client, without_password};

/// What names a tag among the references.
const TAGS: &[u8] = b"refs/tags/";

/// `ls-refs` for tags, as protocol 2 asks for it. Without `peel`: which commit a tag is for is not
/// asked, so the server need not open it.
const LS_REFS: [&str; 2] = ["command=ls-refs\n", "agent=publish\n"];
const ARGUMENTS: [&str; 1] = ["ref-prefix refs/tags/\n"];

/// Every tag.
pub(super) async fn poll(rule: &GitRule, client: &Client) -> Result<Listing, SourceError> {
    let shown = without_password(rule.url.0.as_str());
    let answer = |problem: String| SourceError::Answer {
        from: shown.clone(),
        problem,
        hint: "it must be what `git clone` takes, over http or https",
    };
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("git-protocol"), HeaderValue::from_static("version=2"));
    let mut url = below(&rule.url.0, "info/refs");
    url.set_query(Some("service=git-upload-pack"));
    let advertised = client.exchange(&url, headers.clone(), None).await?;
    // A server that leads elsewhere must not be asked for the rest: it would redirect that to a GET.
    let mut repository = advertised.at;
    repository.set_query(None);
    let path = repository.path().strip_suffix("/info/refs").map(str::to_owned);
    let path = path.ok_or_else(|| answer(format!("it leads to {repository}")))?;
    repository.set_path(&path);
    let tags = match advertisement(&advertised.body).map_err(answer)? {
        Advertised::Tags(tags) => tags,
        Advertised::Capabilities { object_format } => {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-git-upload-pack-request"),
            );
            headers.insert(
                header::ACCEPT,
                HeaderValue::from_static("application/x-git-upload-pack-result"),
            );
            let asked = ls_refs(object_format.as_deref());
            let url = below(&repository, "git-upload-pack");
            let listed = client.exchange(&url, headers, Some(asked)).await?;
            references(&mut Lines(&listed.body)).map_err(answer)?
        }
    };
    if tags.len() > MOST {
        return Err(answer(format!("it has more than {MOST} tags")));
    }
    if tags.is_empty() {
        let problem = format!("{shown} has no tag");
        let hint = "a release needs a tag; nothing is taken away meanwhile";
        return Err(SourceError::Nothing { problem, hint });
    }
    let releases = tags.into_iter().map(|tag| Release::bare(tag, None)).collect();
    let now = without_password(repository.as_str());
    let notes = forge::moved("[source.git] url", shown.trim_end_matches('/'), &now);
    Ok(Listing { releases, complete: true, notes: notes.into_iter().collect() })
}

/// What is below a repository's address.
fn below(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    let at = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{at}/{path}"));
    url
}

/// What a server says first.
#[derive(Debug, PartialEq, Eq)]
enum Advertised {
    /// Protocol 2: what it can do.
    Capabilities {
        /// The hash it uses, where it says so.
        object_format: Option<String>,
    },
    /// Older protocols: all that it has, of which these are tags.
    Tags(BTreeSet<String>),
}

fn advertisement(answer: &[u8]) -> Result<Advertised, String> {
    if is_dumb(answer) {
        return Err("it is a copy of a repository that no git answers for".to_owned());
    }
    let mut lines = Lines(answer);
    let mut first = lines.next()?;
    // Over HTTP, servers name the service first; protocol 2 allows them not to.
    if let Some(Line::Data(line)) = first
        && line.starts_with(b"# service=")
    {
        if lines.next()? != Some(Line::Flush) {
            return Err("it says which service it is, and then nothing".to_owned());
        }
        first = lines.next()?;
    }
    match first {
        Some(Line::Data(b"version 2")) => {
            let (mut object_format, mut lists) = (None, false);
            while let Some(Line::Data(line)) = lines.next()? {
                let text = String::from_utf8_lossy(line);
                lists |= text == "ls-refs" || text.starts_with("ls-refs=");
                if let Some(format) = text.strip_prefix("object-format=") {
                    object_format = Some(format.to_owned()).filter(|format| is_word(format));
                }
            }
            if lists {
                Ok(Advertised::Capabilities { object_format })
            } else {
                Err("it cannot list references".to_owned())
            }
        }
        Some(Line::Data(b"version 1")) => Ok(Advertised::Tags(references(&mut lines)?)),
        // An empty repository may answer with nothing but the end.
        Some(Line::Flush) => Ok(Advertised::Tags(BTreeSet::new())),
        Some(Line::Data(line)) => {
            let mut tags = references(&mut lines)?;
            tags.extend(tag(line)?);
            Ok(Advertised::Tags(tags))
        }
        None => Err("it is empty".to_owned()),
    }
}

/// Whether it is `HASH<tab>NAME`, the file that a web server without git has there.
fn is_dumb(answer: &[u8]) -> bool {
    let hash = answer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    (hash == 40 || hash == 64) && answer.get(hash) == Some(&b'\t')
}

fn ls_refs(object_format: Option<&str>) -> Bytes {
    let mut asked = Vec::new();
    let line = |asked: &mut Vec<u8>, text: &str| {
        asked.extend_from_slice(format!("{:04x}{text}", text.len() + 4).as_bytes());
    };
    for text in LS_REFS {
        line(&mut asked, text);
    }
    if let Some(format) = object_format {
        line(&mut asked, &format!("object-format={format}\n"));
    }
    asked.extend_from_slice(b"0001");
    for text in ARGUMENTS {
        line(&mut asked, text);
    }
    asked.extend_from_slice(b"0000");
    asked.into()
}

/// The tags among references, up to the end of their list.
fn references(lines: &mut Lines<'_>) -> Result<BTreeSet<String>, String> {
    let mut tags = BTreeSet::new();
    loop {
        match lines.next()? {
            Some(Line::Data(line)) => tags.extend(tag(line)?),
            Some(Line::Flush) => return Ok(tags),
            None => return Err("it ends in the middle".to_owned()),
        }
    }
}

/// The tag in `HASH refs/tags/NAME`, if it is one. After the name there may be attributes, and after
/// the first one of old protocols, past a NUL, what the server can do.
fn tag(line: &[u8]) -> Result<Option<String>, String> {
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let Some(at) = line.iter().position(|byte| *byte == b' ') else {
        // `shallow HASH` and the like have a blank too.
        return Err("a line names no reference".to_owned());
    };
    let name = line[at + 1..].split(|byte| *byte == b' ').next().unwrap_or_default();
    let Some(name) = name.strip_prefix(TAGS) else { return Ok(None) };
    // What an annotated tag is for, listed beside it.
    if name.ends_with(b"^{}") {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(name).into_owned()))
}

fn is_word(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Data(&'a [u8]),
    Flush,
}

/// An answer, line by line.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The next line without its newline; `None` at the end.
    fn next(&mut self) -> Result<Option<Line<'a>>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let no_line = "it is not what a git server says".to_owned();
        match streaming(self.0) {
            Ok(Stream::Complete { line, bytes_consumed }) => {
                self.0 = &self.0[bytes_consumed..];
                match line {
                    PacketLineRef::Data(data) => match data.strip_prefix(b"ERR ") {
                        Some(refusal) => Err(format!("it says: {}", told(refusal))),
                        None => Ok(Some(Line::Data(data.strip_suffix(b"\n").unwrap_or(data)))),
                    },
                    PacketLineRef::Flush => Ok(Some(Line::Flush)),
                    PacketLineRef::Delimiter | PacketLineRef::ResponseEnd => Err(no_line),
                }
            }
            Ok(Stream::Incomplete { .. }) => Err("it ends in the middle".to_owned()),
            Err(_) => Err(no_line),
        }
    }
}

/// What a server says, fit to be shown.
fn told(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim().chars().take(200).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(lines: &[&str]) -> Vec<u8> {
        let line = |text: &&str| match *text {
            "0000" | "0001" => (*text).to_owned(),
            text => format!("{:04x}{text}", text.len() + 4),
        };
        lines.iter().map(line).collect::<String>().into_bytes()
    }

    fn tags(lines: &[&str]) -> Result<Advertised, String> {
        advertisement(&answer(lines))
    }

    const HASH: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn old_servers_list_everything_and_tags_are_picked() {
        let head = format!("{HASH} HEAD\0multi_ack symref=HEAD:refs/heads/main\n");
        let [branch, tag, peeled] = ["refs/heads/v9", "refs/tags/v1.0", "refs/tags/v1.0^{}"]
            .map(|name| format!("{HASH} {name}\n"));
        let list = ["# service=git-upload-pack\n", "0000", &head, &branch, &tag, &peeled, "0000"];
        let expected = Ok(Advertised::Tags(["v1.0".to_owned()].into()));
        assert_eq!(tags(&list), expected);
        let list = ["version 1\n", &head, &tag, "0000"];
        assert_eq!(tags(&list), expected);
    }

    proptest! {
        /// Whatever a server lists, its tags come out, and nothing else.
        #[test]
        fn tags_come_out_as_they_went_in(
            names in prop::collection::btree_set("[a-z0-9.+é-]{1,40}", 0..20),
            branches in prop::collection::vec("[a-z]{1,9}", 0..5),
        ) {
            let head = format!("{HASH} HEAD\0agent=x refs/tags/no\n");
            let tags = names.iter().map(|name| format!("{HASH} refs/tags/{name}\n"));
            let branches = branches.iter().map(|name| format!("{HASH} refs/heads/{name}\n"));
            let lines: Vec<String> = std::iter::once(head).chain(branches).chain(tags).collect();
            let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            lines.push("0000");
            prop_assert_eq!(super::advertisement(&answer(&lines)), Ok(Advertised::Tags(names)));
        }

        /// Bytes that look a little like an answer are one or an error.
        #[test]
        fn no_answer_is_too_strange(
            parts in prop::collection::vec(prop_oneof![
                Just(b"0000".to_vec()), Just(b"0001".to_vec()), Just(b"0008".to_vec()),
                Just(b"000eversion 2\n".to_vec()), Just(b"ERR ".to_vec()), Just(vec![0]),
                Just(b"003d".to_vec()), Just(b" refs/tags/".to_vec()),
                prop::collection::vec(any::<u8>(), 0..60),
            ], 0..8),
        ) {
            let bytes = parts.concat();
            let _ = advertisement(&bytes);
            let _ = references(&mut Lines(&bytes));
        }
    }

    #[test]
    fn new_servers_say_what_they_can_do() {
        let list =
            ["version 2\n", "agent=git/2\n", "ls-refs=unborn\n", "object-format=sha256\n", "0000"];
        let object_format = Some("sha256".to_owned());
        assert_eq!(tags(&list), Ok(Advertised::Capabilities { object_format }));
        assert!(tags(&["version 2\n", "fetch\n", "0000"]).is_err());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bad in
            [&b""[..], b"<html>", b"00", b"000", b"fffff", b"0003", b"0004", b"0008abc", b"0005a"]
        {
            assert!(advertisement(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let cut = answer(&[&format!("{HASH} refs/tags/v1\n")]);
        assert_eq!(advertisement(&cut), Err("it ends in the middle".to_owned()));
        let refused = tags(&["ERR access\x1b denied\n"]).unwrap_err();
        assert_eq!(refused, "it says: access\\u{1b} denied");
    }
}
