//! Source `http` beyond one page and one expression: JSON, texts, several documents, dates.

use std::time::SystemTime;

use crate::repo::Repo;
use crate::web::{Fault, Web, iso_date, seconds};

/// A component `x` with this source, and files for whatever version it finds.
fn follow(repo: &Repo, web: &Web, source: &str, versions: &str) {
    for version in ["1.0.0", "1.1.0", "1.2.0", "2.0.0"] {
        web.put(&format!("/files/{version}"), version);
    }
    let source = source.replace("{web}", &web.url());
    repo.component(
        "x",
        &format!(
            "[source.http]\n{source}\n[versions]\n{versions}\n[[asset]]\nurl = \"{}/files/{{version}}\"\n[asset.files]\n\"usr/bin/x\" = \"{{version}}\"\n",
            web.url()
        ),
    );
}

/// The versions of `x` that come out.
fn versions(source: &str, more: &str, documents: &[(&str, &str)]) -> Vec<String> {
    let (repo, web) = (Repo::new(), Web::start());
    for (path, body) in documents {
        web.put(path, body.replace("{web}", &web.url()));
    }
    follow(&repo, &web, source, more);
    repo.sync().ok();
    let before = repo.snapshot();
    web.clear_requests();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
    let asked = web.requests();
    assert!(asked.iter().all(|asked| asked.status == 304), "{asked:?}");
    let names = repo.listed("x");
    names.iter().map(|name| name[2..].trim_end_matches("-x86-64.raw").to_owned()).collect()
}

/// What these source lines make the sync say.
fn refused(source: &str, documents: &[(&str, &str)], texts: &[&str]) {
    let (repo, web) = (Repo::new(), Web::start());
    for (path, body) in documents {
        web.put(path, body.replace("{web}", &web.url()));
    }
    follow(&repo, &web, source, "");
    repo.sync().code(3).says(&["error: x", "hint: "]).says(texts);
}

#[test]
fn json_by_pointer() {
    let list =
        r#"[{"version":"1.0.0","timestamp_created":"2024-01-02T03:04:05Z"},{"version":"1.1.0"}]"#;
    let source = "url = \"{web}/v1/releases\"\npointer = \"/*/version\"";
    assert_eq!(versions(source, "", &[("/v1/releases", list)]), ["1.0.0", "1.1.0"]);
    let object =
        r#"{"name":"x","versions":{"1.0.0":{"v":"a"},"1.1.0":{"v":"b"}},"latest":"1.1.0"}"#;
    let source = "url = \"{web}/index.json\"\nkeys = \"/versions\"";
    assert_eq!(versions(source, "", &[("/index.json", object)]), ["1.0.0", "1.1.0"]);
    let source = "url = \"{web}/index.json\"\npointer = \"/latest\"";
    assert_eq!(versions(source, "", &[("/index.json", object)]), ["1.1.0"]);
}

#[test]
fn a_text_is_the_version_or_has_one_a_line() {
    let source = "url = \"{web}/stable.txt\"\ntext = true";
    let tag = "tag = \"v{version}\"";
    assert_eq!(versions(source, tag, &[("/stable.txt", "v1.1.0\n")]), ["1.1.0"]);
    assert_eq!(
        versions(source, tag, &[("/stable.txt", "\u{feff}v1.0.0\r\nv1.1.0")]),
        ["1.0.0", "1.1.0"]
    );
    for body in ["<html>down</html>", "we are down", &"9".repeat(10_000)] {
        refused(source, &[("/stable.txt", body)], &["cannot read the answer of", "is no version"]);
    }
    refused(source, &[("/stable.txt", "\n\n")], &["stable.txt is empty"]);
}

#[test]
fn several_documents_are_one_list() {
    let source = "url = [\"{web}/a\", \"{web}/b\"]\nmatch = 'x-(?<version>[0-9.]+)\\.tgz'";
    let pages = [("/a", "x-1.0.0.tgz x-1.1.0.tgz"), ("/b", "x-1.1.0.tgz x-2.0.0.tgz")];
    assert_eq!(versions(source, "", &pages), ["1.0.0", "1.1.0", "2.0.0"]);
    // Half of it would look as if the rest were gone.
    refused(source, &pages[..1], &["/b answered 404"]);
}

#[test]
fn folders_of_a_listing_are_followed() {
    let source = "url = \"{web}/pub/\"\nfollow = 'href=\"(?<page>[0-9.]+/)\"'\nmatch = 'x-(?<version>[0-9.]+)\\.tgz'";
    let pages = [
        (
            "/pub/",
            "<a href=\"../\">up</a> <a href=\"1.0/\">1.0</a> <a href=\"2.0/\">2.0</a> <a href=\"1.0/\">again</a>",
        ),
        ("/pub/1.0/", "x-1.0.0.tgz x-1.1.0.tgz"),
        ("/pub/2.0/", "x-2.0.0.tgz"),
    ];
    assert_eq!(versions(source, "", &pages), ["1.0.0", "1.1.0", "2.0.0"]);
    refused(source, &[("/pub/", "nothing")], &["no link in", "check `follow`"]);
    refused(source, &pages[..2], &["/pub/2.0/ answered 404"]);
}

/// A page decides what is read next, but never of whom: else it could ask our own network.
#[test]
fn a_page_leads_to_no_other_server() {
    let other = Web::start();
    let source =
        "url = \"{web}/\"\nfollow = 'href=\"(?<page>[^\"]+)\"'\nmatch = '(?<version>[0-9.]+)'";
    for link in
        [format!("{}/x", other.url()), format!("//{}/x", other.url().trim_start_matches("http://"))]
    {
        let page = format!("<a href=\"{link}\">x</a>");
        refused(
            source,
            &[("/", &page)],
            &["it leads to another server", "name the other document in `url`"],
        );
    }
    // What no HTTP client reads.
    refused(source, &[("/", "<a href=\"file:///etc/passwd\">")], &["it leads to another server"]);
    let (repo, web) = (Repo::new(), Web::start());
    let link = ("link".to_owned(), format!("<{}/next>; rel=\"next\"", other.url()));
    let page = Fault::Answer { status: 200, headers: vec![link], body: "1.0.0".to_owned() };
    web.fault("/list", page, 1);
    follow(&repo, &web, "url = \"{web}/list\"\nmatch = '(?<version>[0-9.]+)'", "");
    repo.sync().code(3).says(&["it leads to another server"]);
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn pages_name_the_next_one_and_an_end_is_found() {
    let page = |next: &str, body: &str| Fault::Answer {
        status: 200,
        headers: vec![("link".to_owned(), format!("<{next}>; rel=\"next\""))],
        body: body.to_owned(),
    };
    let source = "url = \"{web}/list\"\nmatch = 'x(?<version>[0-9.]+);'";
    let (repo, web) = (Repo::new(), Web::start());
    web.fault("/list", page("/list?page=2", "x1.0.0;"), 1);
    web.fault("/list?page=2", page("?page=3", "x1.1.0;"), 1);
    // In a circle: each is read once.
    web.fault("/list?page=3", page("/list", "x2.0.0;"), 1);
    follow(&repo, &web, source, "");
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 3);

    let (repo, web) = (Repo::new(), Web::start());
    web.fault("/list", page("/list", "x1.0.0;"), 1);
    follow(&repo, &web, source, "");
    repo.sync().code(3).says(&["/list: it says that it comes after itself", "hint: "]);

    let (repo, web) = (Repo::new(), Web::start());
    for number in 0..201 {
        web.fault(&format!("/list?{number}"), page(&format!("?{}", number + 1), "x1.0.0;"), 1);
    }
    follow(&repo, &web, "url = \"{web}/list?0\"\nmatch = 'x(?<version>[0-9.]+);'", "");
    repo.sync().code(3).says(&["it leads to more than 200 documents"]);
}

#[test]
fn dates_of_a_page_and_of_json_count_for_the_cooldown() {
    let now = seconds(SystemTime::now()).cast_unsigned();
    let (old, young) = (iso_date(now - 86_400 * 10), iso_date(now - 3600));
    let minutes = |date: &str| date[..16].replace('T', " ");
    let age = "min-age = \"2d\"";
    let page =
        format!("x-1.0.0.tgz {}\nx-1.1.0.tgz {}\nx-1.2.0.tgz -\n", minutes(&old), minutes(&young));
    let source = "url = \"{web}/\"\nmatch = 'x-(?<version>[0-9.]+)\\.tgz (?<date>\\S+( \\S+)?)'";
    assert_eq!(versions(source, age, &[("/", &page)]), ["1.0.0"]);

    let list =
        format!(r#"[{{"v":"1.0.0","at":"{old}"}},{{"v":"1.1.0","at":"{young}"}},{{"v":"1.2.0"}}]"#);
    let source = "url = \"{web}/\"\npointer = \"/*/v\"\ndate = \"/*/at\"";
    assert_eq!(versions(source, age, &[("/", &list)]), ["1.0.0"]);
    let npm = format!(
        r#"{{"versions":{{"1.0.0":{{}},"1.1.0":{{}}}},"time":{{"1.0.0":"{old}","1.1.0":"{young}"}}}}"#
    );
    let source = "url = \"{web}/\"\nkeys = \"/versions\"\ndate = \"/time/*\"";
    assert_eq!(versions(source, age, &[("/", &npm)]), ["1.0.0"]);
}

#[test]
fn hostile_json_spoils_nothing() {
    let source = "url = \"{web}/j\"\npointer = \"/*/v\"";
    let deep = format!("[{}", "{\"v\":".repeat(50_000));
    let many = format!("[{}{{\"v\":\"1\"}}]", "{\"v\":\"1\"},".repeat(100_001));
    for body in ["", "<html>", "[{\"v\":\"1.0.0\"}", "[] []", &deep, &many] {
        refused(source, &[("/j", body)], &["cannot read the answer of", "/j: "]);
    }
    for body in ["{}", "[]", "[{\"v\":1.5}]", "[{\"v\":null}]", "\"1.0.0\""] {
        refused(source, &[("/j", body)], &["/j has no text or whole number at `/*/v`"]);
    }
    let long = "9".repeat(10_000);
    let strange = format!(
        r#"[{{"v":"1.0.0"}},{{"v":"1\n2"}},{{"v":"\u001b[2J"}},{{"v":"{long}"}},{{"v":"1/2"}},{{"v":"1%n"}}]"#
    );
    refused(
        source,
        &[("/j", &strange)],
        &["3 releases have no name that can be shown", "error: x 1/2"],
    );
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/j", b"[{\"v\":\"\xff\"}]".to_vec());
    follow(&repo, &web, source, "");
    repo.sync().code(3).says(&["cannot read the answer of"]);
}

#[test]
fn what_an_http_source_cannot_mean_is_refused() {
    for (source, text) in [
        ("url = \"{web}/\"", "it takes one of `match`, `pointer`, `keys` or `text`"),
        ("url = \"{web}/\"\ntext = true\npointer = \"/x\"", "it takes one of"),
        ("url = []\ntext = true", "`url` lists nothing"),
        ("url = 7\ntext = true", "a URL, or a list of them"),
        ("url = \"{web}/\"\npointer = \"x\"", "`x` is no JSON pointer"),
        ("url = \"{web}/\"\npointer = \"/x~\"", "stands for nothing"),
        ("url = \"{web}/\"\npointer = \"/x\"\ndate = \"/*/y\"", "`date` has more stars"),
        ("url = \"{web}/\"\nmatch = '(?<version>.)'\ndate = \"/y\"", "`date` is a place in JSON"),
        ("url = \"{web}/\"\nfollow = 'x'\ntext = true", "no group `page`"),
        ("url = \"{web}/\"\nkeys = \"/x\"\nfollow = '('", "not a regular expression"),
    ] {
        let (repo, web) = (Repo::new(), Web::start());
        follow(&repo, &web, source, "");
        repo.publish(&["plan"]).code(4).says(&["components/x.toml:", text]);
    }
    // A source that tells no dates, and a cooldown.
    let (repo, web) = (Repo::new(), Web::start());
    follow(&repo, &web, "url = \"{web}/\"\ntext = true", "min-age = \"2d\"");
    repo.publish(&["plan"]).code(4).says(&["does not tell when a version was released"]);
}
