//! What lets an upstream's bytes in: each kind with right data made by the real tools, and each with
//! everything that somebody on the way might put in its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::github::{GitHub, Release};
use crate::gpg::Gpg;
use crate::repo::{Ran, Repo};
use crate::web::{Fault, Web, sha256};

const ALWAYS: usize = usize::MAX;

/// A component `tool` whose assets are one file each, on a web server.
struct Bench {
    web: Web,
    repo: Repo,
}

impl Bench {
    fn new(trust: &str) -> Self {
        Self::with("", trust)
    }

    /// `sections` go into `publish.toml`, `trust` into the asset.
    fn with(sections: &str, trust: &str) -> Self {
        let bench = Self { web: Web::start(), repo: Repo::with(sections) };
        bench.asks(trust);
        bench
    }

    /// Writes the component anew.
    fn asks(&self, trust: &str) {
        let (web, trust) = (self.web.url(), trust.replace("WEB", &self.web.url()));
        self.repo.component(
            "tool",
            &format!(
                "[source.http]\nurl = \"{web}/list\"\nmatch = '(?<version>[0-9.]+);'\n\n[[asset]]\nurl = \"{web}/tool-{{version}}\"\n{trust}\n[asset.files]\n\"usr/bin/tool\" = \"tool-{{version}}\"\n"
            ),
        );
    }

    /// Puts versions up, each with the bytes of its name.
    fn versions(&self, versions: &[&str]) {
        let list: Vec<_> = versions.iter().map(|version| format!("{version};\n")).collect();
        self.web.put("/list", list.concat());
        for version in versions {
            self.web.put(&format!("/tool-{version}"), content(version));
        }
    }

    /// The sync publishes all of these, and the next one does nothing.
    #[track_caller]
    fn publishes(&self, versions: &[&str]) {
        let ran = self.repo.sync().ok();
        let mut names: Vec<_> =
            versions.iter().map(|version| format!("tool-{version}-x86-64.raw")).collect();
        names.sort();
        assert_eq!(self.repo.listed("tool"), names, "{ran}");
        let before = self.repo.snapshot();
        self.repo.sync().ok().prints(&["nothing to do"]);
        assert_eq!(self.repo.snapshot(), before);
    }

    /// Nothing is published, for this reason, and with a way out.
    #[track_caller]
    fn refuses(&self, texts: &[&str]) -> Ran {
        let ran = self.repo.sync().code(3).says(texts).says(&["hint: "]);
        let there = self.repo.path("public/tool/SHA256SUMS").exists();
        assert!(!there, "something was published\n{ran}");
        ran
    }

    /// Who vouched for the asset of a published image.
    fn record(&self, version: &str) -> Vec<String> {
        let path = format!("public/.publish/images/tool/tool-{version}-x86-64.raw.json");
        let record = fs::read_to_string(self.repo.path(&path)).expect("a record");
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let by = record["inputs"][0]["promised_by"].as_array().expect("a list").clone();
        by.iter().map(|by| by.as_str().unwrap().to_owned()).collect()
    }

    fn asked(&self, path: &str) -> usize {
        self.web.requests().iter().filter(|request| request.path == path).count()
    }
}

fn content(version: &str) -> String {
    format!("tool {version}\n")
}

fn data(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a program of the machine prints, if it has it.
fn print(program: &str, args: &[&str], path: &Path) -> Option<Vec<u8>> {
    let output = Command::new(program).args(args).arg(path).stderr(Stdio::null()).output().ok()?;
    output.status.success().then_some(output.stdout)
}

#[test]
fn sha512_and_lists_of_every_kind() {
    let bench = Bench::new("sha512 = \"WEB/sums-{version}\"");
    bench.versions(&["1.0"]);
    let file = bench.repo.path("tool-1.0");
    fs::write(&file, content("1.0")).unwrap();
    let sum = print("sha512sum", &[], &file).expect("coreutils");
    let digest = String::from_utf8(sum).unwrap()[..128].to_owned();
    for (wrong, why) in [
        (format!("{}  tool-1.0\n", digest.replace(['0', '1', '2'], "3")), "has SHA-512 "),
        (format!("{digest}  tool-1.1\n"), "no line for `tool-1.0`"),
        (format!("{}  tool-1.0\n", sha256(b"")), "it has SHA-256 digests, not SHA-512"),
        (format!("{}  tool-1.0\n", &digest[..32]), "MD5 is broken"),
        (format!("{}\n", &digest[..40]), "SHA-1 is broken"),
        (String::new(), "no SHA-512 digest in it"),
        ("<html>".to_owned(), "no SHA-512 digest in it"),
    ] {
        bench.web.put("/sums-1.0", wrong.clone());
        bench.refuses(&["error: tool 1.0 x86-64: cannot trust tool-1.0", why]);
    }
    bench.web.put("/sums-1.0", format!("SHA512 (tool-1.0) = {}\n", digest.to_uppercase()));
    bench.publishes(&["1.0"]);
    assert_eq!(bench.record("1.0"), [format!("{}/sums-1.0", bench.web.url())]);
}

#[test]
fn one_checksum_file_is_asked_for_once() {
    let bench = Bench::new("sha256 = \"WEB/SHA256SUMS\"");
    bench.versions(&["1.0", "1.1", "1.2"]);
    let sums = ["1.0", "1.1", "1.2"]
        .map(|version| format!("{} *tool-{version}\n", sha256(content(version).as_bytes())));
    bench.web.put("/SHA256SUMS", sums.concat());
    bench.publishes(&["1.0", "1.1", "1.2"]);
    assert_eq!(bench.asked("/SHA256SUMS"), 1);
}

#[test]
fn a_huge_checksum_file_is_not_read() {
    let bench = Bench::new("sha256 = \"{url}.sha256\"");
    bench.versions(&["1.0"]);
    bench.web.put("/tool-1.0.sha256", "x\n".repeat(1 << 19));
    bench.web.fault("/tool-1.0.sha256", Fault::Endless, ALWAYS);
    bench.refuses(&["cannot trust tool-1.0", "/tool-1.0.sha256 is larger than 16777216 bytes"]);
    assert_eq!(bench.asked("/tool-1.0"), 0, "nothing is fetched that nobody vouches for");
}

#[test]
fn a_place_in_json_tells_a_digest() {
    let bench =
        Bench::new("sha256 = { url = \"WEB/{version}.json\", json = \"/files/{arch}/sha256\" }");
    bench.versions(&["1.0"]);
    bench.web.put("/1.0.json", r#"{"files":{"x86-64":{"sha256":"nothing"}}}"#);
    bench.refuses(&["/1.0.json: no SHA-256 digest at `/files/x86-64/sha256`"]);
    let digest = sha256(content("1.0").as_bytes());
    bench.web.put("/1.0.json", format!(r#"{{"files":{{"x86-64":{{"sha256":"{digest}"}}}}}}"#));
    bench.publishes(&["1.0"]);
}

#[test]
fn a_pinned_digest_lets_in_nothing_else() {
    let digest = |version: &str| sha256(content(version).as_bytes());
    let pinned = format!("pinned = {{ \"tool-1.0\" = \"{}\" }}", digest("1.0"));
    let bench = Bench::with("[trust]\nrequire = \"signature\"\n", &pinned);
    bench.versions(&["1.0"]);
    bench.web.put("/tool-1.0", "tool 1.0?");
    bench.refuses(&["tool-1.0 has SHA-256 ", "but the component's file says ", &digest("1.0")]);
    bench.versions(&["1.0"]);
    bench.publishes(&["1.0"]);
    bench.versions(&["1.0", "1.1"]);
    bench.repo.sync().code(3).says(&["`pinned` has no digest of `tool-1.1`", "add its digest"]);
    assert_eq!(bench.asked("/tool-1.1"), 0);
}

#[test]
fn who_contradict_each_other_are_both_named() {
    let zero = "0".repeat(64);
    let bench = Bench::new(&format!(
        "sha256 = \"{{url}}.sha256\"\npinned = {{ \"tool-1.0\" = \"{zero}\" }}"
    ));
    bench.versions(&["1.0"]);
    bench.web.put("/tool-1.0.sha256", sha256(content("1.0").as_bytes()));
    bench.refuses(&["the component's file says SHA-256 0000", "/tool-1.0.sha256 says "]);
    assert_eq!(bench.asked("/tool-1.0"), 0);
}

/// A bench whose assets must be signed, a key that signs, and the path of a file that is signed.
fn signed(gpg: &Gpg, trust: &str) -> (Bench, PathBuf) {
    let bench = Bench::new(trust);
    bench.versions(&["1.0"]);
    let file = bench.repo.path("signed");
    fs::write(&file, content("1.0")).unwrap();
    gpg.key("Upstream <up@e.org>", "ed25519", "sign");
    bench.repo.write("components/up.gpg", gpg.run(&["--export", "up@e.org"]));
    (bench, file)
}

const OPENPGP: &str = "signature = { openpgp = \"{url}.sig\", keyring = \"up.gpg\" }";

#[test]
fn openpgp_signatures_of_assets() {
    let Some(gpg) = Gpg::new() else { return };
    let (bench, file) = signed(&gpg, OPENPGP);
    let signature = bench.repo.path("signature");
    let sign = |by: &str, more: &[&str]| {
        gpg.sign(&file, &signature, &[&["--local-user", by], more].concat());
        fs::read(&signature).unwrap()
    };
    let good = sign("up@e.org", &[]);
    let mut spoilt = good.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    gpg.key("Other <other@e.org>", "ed25519", "sign");
    let stranger = sign("other@e.org", &[]);
    let weak = sign("up@e.org", &["--digest-algo", "SHA1"]);
    let early = sign("up@e.org", &["--faked-system-time", "20400102T000000"]);
    let inline =
        gpg.run(&["--local-user", "up@e.org", "--clearsign", "-o", "-", file.to_str().unwrap()]);
    fs::write(&file, content("0.9")).unwrap();
    let of_another = sign("up@e.org", &[]);
    fs::write(&file, content("1.0")).unwrap();
    let url = format!("the signature {}/tool-1.0.sig ", bench.web.url());
    for (wrong, why) in [
        (spoilt, "does not fit"),
        (
            of_another,
            "does not fit: the file or the signature was changed, or it is another file's",
        ),
        (stranger, "is by key"),
        (weak, "uses SHA1, which is too weak"),
        (early, "was made in the future, on 2040-01-"),
        (inline, "is a signed message"),
        (Vec::new(), "is no detached OpenPGP signature"),
        (b"<html>".to_vec(), "is no detached OpenPGP signature"),
        (b"\x89".repeat(60_000), "is no detached OpenPGP signature"),
        (vec![0x88; 200_000], "is no detached OpenPGP signature"),
    ] {
        bench.web.put("/tool-1.0.sig", wrong);
        bench.refuses(&["error: tool 1.0 x86-64: cannot trust tool-1.0", &format!("{url}{why}")]);
    }
    bench.web.remove("/tool-1.0.sig");
    bench.refuses(&["cannot fetch what vouches for it", "tool-1.0.sig answered 404"]);
    bench.web.put("/tool-1.0.sig", good.clone());
    bench.web.put("/tool-1.0", "tool 1.0!");
    bench.refuses(&["does not fit"]);
    bench.versions(&["1.0"]);
    bench.publishes(&["1.0"]);
    let by = bench.record("1.0");
    assert!(by[0].contains("by OpenPGP key ") && by[0].contains("Upstream <up@e.org>"), "{by:?}");
    bench.repo.publish(&["plan", "-v"]).ok().prints(&["tool-1.0: signature ", "OpenPGP keys of "]);
}

#[test]
fn one_of_several_signatures_is_enough_and_armor_is_read() {
    let Some(gpg) = Gpg::new() else { return };
    let (bench, file) = signed(&gpg, OPENPGP);
    gpg.key("Next <next@e.org>", "rsa2048", "sign");
    let signature = bench.repo.path("signature");
    let both = ["--armor", "--local-user", "next@e.org", "--local-user", "up@e.org"];
    gpg.sign(&file, &signature, &both);
    bench.web.put("/tool-1.0.sig", fs::read(&signature).unwrap());
    bench.publishes(&["1.0"]);
}

#[test]
fn a_subkey_signs_and_pinned_fingerprints_count() {
    let Some(gpg) = Gpg::new() else { return };
    let (bench, file) = signed(&gpg, OPENPGP);
    let main = gpg.key("Main <main@e.org>", "ed25519", "cert");
    gpg.run(&["--quick-add-key", &main, "ed25519", "sign", "never"]);
    let signature = bench.repo.path("signature");
    gpg.sign(&file, &signature, &["--local-user", "main@e.org"]);
    bench.web.put("/tool-1.0.sig", fs::read(&signature).unwrap());
    bench.repo.write("components/up.gpg", gpg.run(&["--export", "--armor"]));
    let with_keys = |keys: &str| OPENPGP.replace(" }", &format!(", keys = [\"{keys}\"] }}"));
    bench.asks(&with_keys(&gpg.fingerprint("up@e.org")));
    bench.refuses(&["is by key ", &main, "which is not among `keys`"]);
    bench.asks(&with_keys(&"A".repeat(40)));
    bench.repo.sync().code(4).says(&[
        "error: components/tool.toml: cannot use the key components/up.gpg: it has no key AAAA",
        "hint: ",
    ]);
    bench.asks(&with_keys(&main));
    bench.publishes(&["1.0"]);
}

#[test]
fn a_key_that_expired_may_have_signed_before_not_after() {
    let Some(gpg) = Gpg::new() else { return };
    let (bench, file) = signed(&gpg, OPENPGP);
    let clock = |at: &str| ["--faked-system-time", at].map(str::to_owned);
    let run = |at: &str, args: &[&str]| {
        let clock = clock(at);
        let all: Vec<&str> = clock.iter().map(String::as_str).chain(args.iter().copied()).collect();
        gpg.run(&all)
    };
    run("20200101T000000", &["--quick-generate-key", "Old <old@e.org>", "ed25519", "sign", "1y"]);
    bench.repo.write("components/up.gpg", run("20200101T000000", &["--export", "old@e.org"]));
    let signature = bench.repo.path("signature");
    let (from, to) = (file.to_str().unwrap(), signature.to_str().unwrap());
    let sign = |at: &str, more: &[&str]| {
        let args = ["--yes", "--local-user", "old@e.org", "--output", to, "--detach-sign", from];
        run(at, &[more, &args].concat());
        bench.web.put("/tool-1.0.sig", fs::read(&signature).unwrap());
    };
    // The key is renewed in its owner's keyring, but not in ours.
    let fingerprint = gpg.fingerprint("old@e.org");
    run("20200601T000000", &["--quick-set-expire", &fingerprint, "10y"]);
    sign("20220101T000000", &[]);
    bench.refuses(&["which had expired on 2020-12-31 when it signed", "renewed its key"]);
    sign("20200701T000000", &["--default-sig-expire", "10d"]);
    bench.refuses(&["expired on 2020-07-11"]);
    sign("20200701T000000", &[]);
    bench.publishes(&["1.0"]);
}

#[test]
fn a_signed_list_vouches_for_all_its_files() {
    let Some(gpg) = Gpg::new() else { return };
    let (bench, file) = signed(
        &gpg,
        "sha256 = \"WEB/SHA256SUMS\"\nsignature = { openpgp = \"{url}.sig\", of = \"sha256\", keyring = \"up.gpg\" }",
    );
    bench.versions(&["1.0", "1.1"]);
    let list = ["1.0", "1.1"]
        .map(|version| format!("{}  tool-{version}\n", sha256(content(version).as_bytes())))
        .concat();
    fs::write(&file, &list).unwrap();
    let signature = bench.repo.path("signature");
    gpg.sign(&file, &signature, &["--local-user", "up@e.org"]);
    bench.web.put("/SHA256SUMS.sig", fs::read(&signature).unwrap());
    // The right list for the wrong files.
    bench.web.put("/SHA256SUMS", list.clone() + &format!("{}  tool-1.2\n", sha256(b"")));
    bench.refuses(&["/SHA256SUMS.sig does not fit"]);
    assert_eq!(bench.asked("/tool-1.0"), 0);
    bench.web.put("/SHA256SUMS", list);
    bench.web.clear_requests();
    bench.publishes(&["1.0", "1.1"]);
    assert_eq!((bench.asked("/SHA256SUMS"), bench.asked("/SHA256SUMS.sig")), (1, 1));
    let by = bench.record("1.1");
    assert!(by[0].contains("/SHA256SUMS, signed by OpenPGP key "), "{by:?}");
}

#[test]
fn minisign_signatures() {
    let key = String::from_utf8(data("minisign/minisign.pub")).unwrap();
    let key = key.lines().nth(1).unwrap();
    let bench =
        Bench::new(&format!("signature = {{ minisign = \"{{url}}.minisig\", key = \"{key}\" }}"));
    bench.versions(&["1.1"]);
    let good = data("minisign/tool-1.1.minisig");
    let mut spoilt = good.clone();
    spoilt[80] ^= 1;
    let renamed =
        String::from_utf8(good.clone()).unwrap().replace("file:tool-1.1", "file:tool-1.2");
    for (wrong, why) in [
        (data("minisign/tool-1.0.minisig"), "does not fit"),
        (data("minisign/tool-1.1.other.minisig"), "is by another key than RW"),
        (data("minisign/tool-1.1.legacy.minisig"), "is of minisign's old form"),
        (spoilt, " "),
        (renamed.into_bytes(), "does not fit"),
        (Vec::new(), "is no signature of minisign"),
        (
            b"untrusted comment: x\nRWQ=\ntrusted comment: \n\n".to_vec(),
            "is no signature of minisign",
        ),
        (b"A".repeat(100_000), "is no signature of minisign"),
    ] {
        bench.web.put("/tool-1.1.minisig", wrong);
        bench
            .refuses(&["cannot trust tool-1.1", &format!("tool-1.1.minisig {}", why.trim_start())]);
    }
    bench.web.put("/tool-1.1.minisig", good);
    bench.web.put("/tool-1.1", content("1.0"));
    bench.refuses(&["does not fit"]);
    // The whole of an older version under a newer one's name: everything fits but the name.
    bench.versions(&["1.2"]);
    bench.web.put("/tool-1.2", content("1.1"));
    bench.web.put("/tool-1.2.minisig", data("minisign/tool-1.1.minisig"));
    bench.refuses(&[
        "is of the file `tool-1.1`, not of `tool-1.2`",
        "an older file under a newer name",
    ]);
    bench.versions(&["1.1"]);
    bench.publishes(&["1.1"]);
    assert!(bench.record("1.1")[0].ends_with(&format!("by minisign key {key}")));
}

#[test]
fn cosign_signatures_with_a_key() {
    let bench = Bench::new("signature = { cosign = \"{url}.sig\", key = \"cosign.pub\" }");
    bench.versions(&["1.0"]);
    let (key, file) = (bench.repo.path("key.pem"), bench.repo.path("signed"));
    let made = print(
        "openssl",
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"],
        &key,
    );
    if made.is_none() {
        eprintln!("skipped: this machine has no openssl");
        return;
    }
    let key = key.to_str().unwrap();
    let public = print("openssl", &["pkey", "-pubout", "-in"], Path::new(key)).unwrap();
    // What `cosign sign-blob --key` writes: ECDSA over the SHA-256, in base64.
    let sign = |text: &str| {
        fs::write(&file, text).unwrap();
        let signature = print("openssl", &["dgst", "-sha256", "-sign", key], &file).unwrap();
        let der = bench.repo.path("der");
        fs::write(&der, signature).unwrap();
        print("base64", &["-w0"], &der).expect("coreutils")
    };
    bench.web.clear_requests();
    bench.repo.sync().code(4).says(&[
        "error: components/tool.toml:7:",
        "[[asset]] signature: `cosign.pub` cannot be read: No such file",
        "^^^^^^^^^^",
        "hint: ",
    ]);
    bench.repo.write(
        "components/cosign.pub",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    );
    bench
        .repo
        .sync()
        .code(4)
        .says(&["components/tool.toml: cannot use the key components/cosign.pub", "hint: "]);
    assert_eq!(bench.web.requests().len(), 0);
    bench.repo.write("components/cosign.pub", public);
    for (wrong, why) in [
        (sign(&content("0.9")), "does not fit"),
        (b"AAAA".to_vec(), "does not fit"),
        (b"%%%".to_vec(), "is neither a bundle nor a signature in base64"),
        (b"{}".to_vec(), "is no bundle of sigstore"),
        (data("sigstore/keyed.txt.sigstore.json"), "does"),
    ] {
        bench.web.put("/tool-1.0.sig", wrong);
        bench.refuses(&[&format!("/tool-1.0.sig {why}")]);
    }
    bench.web.put("/tool-1.0.sig", sign(&content("1.0")));
    bench.publishes(&["1.0"]);
}

#[test]
fn a_bundle_with_a_key_that_was_made_elsewhere() {
    let bench = Bench::new("signature = { cosign = \"{url}.sigstore.json\", key = \"keyed.pub\" }");
    bench.versions(&["1.0"]);
    bench.repo.write("components/keyed.pub", data("sigstore/keyed.pub"));
    bench.web.put("/tool-1.0.sigstore.json", data("sigstore/keyed.txt.sigstore.json"));
    bench.refuses(&["/tool-1.0.sigstore.json does not fit"]);
    bench.web.put("/tool-1.0", data("sigstore/keyed.txt"));
    bench.publishes(&["1.0"]);
}

const PACKAGE: &str = "signed-package-2.1.0-hb0f4dca_0.conda";
const WORKFLOW: &str =
    "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml";
const CONDA: &str = "https://schemas.conda.org/attestations-publish-1.schema.json";

/// The real package behind a real attestation, on a stand-in for where it really is.
fn attested(trust: &str) -> (GitHub, Repo) {
    let (github, mut repo) = (GitHub::start(), Repo::new());
    repo.env("GITHUB_API_URL", &github.api());
    repo.component("conda", &format!(
        "[source.github]\nrepo = \"prefix-dev/sigstore-example\"\n[[asset]]\nname = \"signed-package-{{version}}-hb0f4dca_0.conda\"\n{trust}\n[asset.files]\n\"usr/share/package.json\" = \"metadata.json\"\n"
    ));
    let bundle = data("sigstore/attestation.json");
    let release = Release::new("v2.1.0")
        .asset(PACKAGE, data(&format!("sigstore/{PACKAGE}")))
        .asset("bundle.sigstore.json", bundle.clone());
    github.release("prefix-dev/sigstore-example", release);
    github.attest(
        "prefix-dev/sigstore-example",
        &sha256(&data(&format!("sigstore/{PACKAGE}"))),
        serde_json::from_slice(&bundle).unwrap(),
    );
    (github, repo)
}

#[test]
fn github_attestations() {
    let by = |more: &str| {
        format!("attestation = {{ workflow = \".github/workflows/action.yaml\"{more} }}")
    };
    for (trust, why) in [
        (by(""), "not by https://github.com/prefix-dev"),
        (by(", ref = \"refs/heads/main\""), "says `https://schemas.conda.org/"),
        (
            by(&format!(", ref = \"refs/heads/main\", predicate = \"{CONDA}\", repo = \"o/r\"")),
            "no attestation of o/r holds: there is none of this file",
        ),
        (
            format!(
                "attestation = {{ identity = \"{WORKFLOW}@refs/heads/evil\", predicate = \"{CONDA}\" }}"
            ),
            "refs/heads/main, not by ",
        ),
    ] {
        let (_github, repo) = attested(&trust);
        repo.sync().code(3).says(&[
            "error: conda 2.1.0 x86-64: cannot trust signed-package",
            why,
            "hint: ",
        ]);
    }
    let (github, repo) =
        attested(&by(&format!(", ref = \"refs/heads/main\", predicate = \"{CONDA}\"")));
    repo.sync().ok();
    assert_eq!(repo.listed("conda"), ["conda-2.1.0-x86-64.raw"]);
    let asked = github.requests().into_iter().filter(|r| r.path.contains("/attestations/")).count();
    assert_eq!(asked, 1);
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn an_attestation_of_another_file_counts_for_nothing() {
    let trust = format!(
        "attestation = {{ workflow = \".github/workflows/action.yaml\", ref = \"refs/heads/main\", predicate = \"{CONDA}\" }}"
    );
    let (github, repo) = attested(&trust);
    let other = b"another file".to_vec();
    let digest = sha256(&other);
    github.release(
        "prefix-dev/sigstore-example",
        Release::new("v2.2.0").asset("signed-package-2.2.0-hb0f4dca_0.conda", other),
    );
    let bundle = serde_json::from_slice(&data("sigstore/attestation.json")).unwrap();
    github.attest("prefix-dev/sigstore-example", &digest, bundle);
    repo.sync().code(3).says(&["one is of another file"]);
    assert_eq!(repo.listed("conda"), ["conda-2.1.0-x86-64.raw"]);
}

#[test]
fn sigstore_bundles_by_an_identity() {
    let by = |identity: &str, more: &str| {
        format!(
            "signature = {{ sigstore = {{ name = \"bundle.sigstore.json\" }}, identity = \"{identity}\", issuer = \"https://token.actions.githubusercontent.com\"{more} }}"
        )
    };
    let predicate = format!(", predicate = \"{CONDA}\"");
    let main = format!("{WORKFLOW}@refs/heads/main");
    for (trust, why) in [
        (
            by(&format!("{WORKFLOW}@refs/tags/{{tag}}"), &predicate),
            "action.yaml@refs/heads/main, not by",
        ),
        (by(&main, ""), "not `https://slsa.dev/provenance/v1`"),
        (
            by(&main, &format!("{predicate}, repository = \"https://github.com/o/r\"")),
            "was built from https://github.com/prefix-dev/sigstore-example, not from",
        ),
        (
            by(&main, &predicate).replace("token.actions", "accounts"),
            "vouches for, not https://accounts",
        ),
    ] {
        let (_github, repo) = attested(&trust);
        repo.sync().code(3).says(&["the signature ", why, "hint: "]);
    }
    let (github, repo) = attested(&by(&main, &predicate));
    repo.sync().ok();
    assert_eq!(repo.listed("conda"), ["conda-2.1.0-x86-64.raw"]);
    // Every part of it counts.
    let bundle = String::from_utf8(data("sigstore/attestation.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&bundle).unwrap();
    for pointer in [
        "/dsseEnvelope/payload",
        "/dsseEnvelope/signatures/0/sig",
        "/verificationMaterial/certificate/rawBytes",
        "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
    ] {
        let mut spoilt = value.clone();
        let text = spoilt.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        let middle = text.len() / 2;
        let flipped = if &text[middle..=middle] == "A" { "B" } else { "A" };
        let text = format!("{}{flipped}{}", &text[..middle], &text[middle + 1..]);
        *spoilt.pointer_mut(pointer).unwrap() = text.into();
        github.release(
            "prefix-dev/sigstore-example",
            Release::new("v2.2.0")
                .asset(
                    "signed-package-2.2.0-hb0f4dca_0.conda",
                    data(&format!("sigstore/{PACKAGE}")),
                )
                .asset("bundle.sigstore.json", spoilt.to_string()),
        );
        repo.sync().code(3).says(&["error: conda 2.2.0 x86-64: cannot trust", "the signature "]);
        github.remove_release("prefix-dev/sigstore-example", "v2.2.0");
    }
}

#[test]
fn checksums_and_signatures_may_be_files_of_the_release() {
    let (github, mut repo) = (GitHub::start(), Repo::new());
    repo.env("GITHUB_API_URL", &github.api());
    repo.component("tool", "[source.github]\nrepo = \"o/tool\"\n[[asset]]\nname = \"tool-{version}\"\nsha256 = { name = \"sums-{version}\" }\n[asset.files]\n\"usr/bin/tool\" = \"tool-{version}\"\n");
    github.release("o/tool", Release::new("v1.0").asset("tool-1.0", content("1.0")));
    repo.sync().code(3).says(&["the release has no asset `sums-1.0`", "it has tool-1.0"]);
    github.remove_release("o/tool", "v1.0");
    let sums = |digest: &str| {
        Release::new("v1.0")
            .asset("tool-1.0", content("1.0"))
            .asset("sums-1.0", format!("{digest}  tool-1.0\n"))
    };
    github.release("o/tool", sums(&"0".repeat(64)));
    repo.sync().code(3).says(&["the release says SHA-256 ", "/sums-1.0 says 0000"]);
    github.remove_release("o/tool", "v1.0");
    github.release("o/tool", sums(&sha256(content("1.0").as_bytes())));
    repo.sync().ok();
    assert_eq!(repo.listed("tool"), ["tool-1.0-x86-64.raw"]);
}

const FIRST_USE: &str = "trust = \"first-use\"";

#[test]
fn the_first_use_is_noted_and_another_digest_is_an_alarm() {
    let bench = Bench::new(FIRST_USE);
    bench.versions(&["1.0", "1.1"]);
    bench.repo.publish(&["sync", "--dry-run"]).ok();
    assert!(!bench.repo.path("publish.lock").exists());
    bench.repo.sync().ok().says(&["noted 2 digests in publish.lock: commit it"]);
    let lock = || fs::read_to_string(bench.repo.path("publish.lock")).unwrap();
    let before = lock();
    let line = format!(
        "\"{}/tool-1.0\" = \"sha256:{}\"",
        bench.web.url(),
        sha256(content("1.0").as_bytes())
    );
    assert!(before.contains(&format!("[component.tool]\n{line}\n")), "{before}");
    assert_eq!(bench.record("1.0"), ["publish.lock"]);
    bench.publishes(&["1.0", "1.1"]);
    assert_eq!(lock(), before);

    // The repository is gone, so nothing but the lock file knows.
    fs::remove_dir_all(bench.repo.path("public")).unwrap();
    bench.web.put("/tool-1.1", "tool 1.1!");
    let number = before.lines().position(|line| line.contains("tool-1.1")).unwrap() + 1;
    let told = format!("publish.lock:{number}: {}/tool-1.1 had SHA-256", bench.web.url());
    bench.repo.sync().code(3).says(&[
        "error: tool 1.1 x86-64: cannot trust tool-1.1",
        &told,
        "hint: ",
    ]);
    assert_eq!(bench.repo.listed("tool"), ["tool-1.0-x86-64.raw"]);
    assert_eq!(lock(), before);

    // Somebody found it right.
    let component = fs::read_to_string(bench.repo.path("components/tool.toml")).unwrap();
    let accept = format!("[versions]\naccept = {{ \"1.1\" = [\"{}\"] }}\n", sha256(b"tool 1.1!"));
    bench.repo.component("tool", &format!("{component}{accept}"));
    bench.repo.sync().ok();
    assert_eq!(bench.repo.listed("tool").len(), 2);
    assert!(lock().contains(&sha256(b"tool 1.1!")));
}

#[test]
fn a_locked_lock_file_lets_in_nothing_new() {
    let bench = Bench::new(FIRST_USE);
    bench.versions(&["1.0"]);
    let unknown = ["publish.lock does not know ", "tool-1.0, and is locked", "publish build NAME"];
    bench.repo.publish(&["sync", "--locked"]).code(3).says(&unknown);
    assert_eq!(bench.asked("/tool-1.0"), 0);
    // Somebody looks at it elsewhere, and commits the line.
    bench.repo.publish(&["build", "tool", "--output", "out"]).ok();
    let lock = fs::read(bench.repo.path("publish.lock")).unwrap();
    bench.repo.publish(&["sync", "--locked"]).ok();
    assert_eq!(bench.repo.listed("tool"), ["tool-1.0-x86-64.raw"]);
    assert_eq!(fs::read(bench.repo.path("publish.lock")).unwrap(), lock);
}

#[test]
fn what_is_published_no_more_is_forgotten() {
    let bench = Bench::new(FIRST_USE);
    bench.versions(&["1.0", "1.1", "1.2"]);
    bench.publishes(&["1.0", "1.1", "1.2"]);
    bench.versions(&["1.0", "1.1", "1.2", "1.3"]);
    bench.publishes(&["1.1", "1.2", "1.3"]);
    let lock = fs::read_to_string(bench.repo.path("publish.lock")).unwrap();
    let known: Vec<bool> =
        ["1.0", "1.1", "1.2", "1.3"].map(|v| lock.contains(&format!("tool-{v}\""))).to_vec();
    assert_eq!(known, [false, true, true, true], "{lock}");
}

#[test]
fn a_lock_file_that_cannot_be_used_stops_what_it_protects() {
    let bench = Bench::new(FIRST_USE);
    bench.versions(&["1.0"]);
    let commands: [&[&str]; 5] =
        [&["sync"], &["sync", "--locked"], &["plan"], &["status"], &["build", "tool"]];
    bench.repo.write("publish.lock", "version = 1\n<<<<<<< ours\n");
    for command in commands {
        let told = ["publish.lock:2: ", "keep the lines of both sides"];
        bench.repo.publish(command).code(4).says(&told);
    }
    fs::remove_file(bench.repo.path("publish.lock")).unwrap();
    fs::create_dir(bench.repo.path("publish.lock")).unwrap();
    bench.repo.sync().code(4).says(&["cannot read publish.lock"]);
    assert_eq!(bench.web.requests().len(), 0);
    fs::remove_dir(bench.repo.path("publish.lock")).unwrap();
    bench.publishes(&["1.0"]);
}

/// With nothing to build, nothing is compared with upstream: the lock file and the records are
/// compared all the same.
#[test]
fn a_lock_file_that_contradicts_what_is_published_is_an_alarm() {
    let bench = Bench::new(FIRST_USE);
    bench.versions(&["1.0", "1.1"]);
    bench.publishes(&["1.0", "1.1"]);
    let right = fs::read_to_string(bench.repo.path("publish.lock")).unwrap();
    let wrong = right.replace(&sha256(content("1.1").as_bytes()), &sha256(b"another"));
    assert_ne!(right, wrong);
    bench.repo.write("publish.lock", &wrong);
    let before = bench.repo.snapshot();
    let line = right.lines().position(|line| line.contains("tool-1.1")).unwrap() + 1;
    let told = [
        &format!("publish.lock:{line}: {}/tool-1.1 should have SHA-256", bench.web.url()),
        "but tool-1.1-x86-64.raw was made from ",
        "hint: one of the two was changed",
    ];
    let commands: [&[&str]; 4] = [&["sync"], &["sync", "--locked"], &["plan"], &["status"]];
    for command in commands {
        bench.repo.publish(command).code(3).says(&told);
    }
    assert_eq!(bench.repo.snapshot(), before);
    bench.repo.write("publish.lock", &right);
    bench.repo.publish(&["sync", "--locked"]).ok().prints(&["nothing to do"]);
}

#[test]
fn what_nothing_vouches_for_is_named_and_may_be_refused() {
    let bench = Bench::new("");
    bench.versions(&["1.0"]);
    let plan = bench.repo.publish(&["--json", "plan"]).ok().json();
    assert_eq!(plan["components"][0]["unverified"][0], "tool-1.0");
    assert_eq!(plan["components"][0]["assets"][0]["strength"], "nothing");
    bench.repo.publish(&["plan"]).ok().prints(&["  unverified: nothing vouches for tool-1.0\n"]);
    bench.repo.publish(&["plan", "-v"]).ok().prints(&["    tool-1.0: nothing\n"]);
    bench.repo.sync().ok();
    bench.repo.publish(&["status"]).ok().prints(&["unverified nothing vouches for tool-1.0"]);
    let status = bench.repo.publish(&["--json", "status"]).ok().json();
    assert_eq!(status["components"][0]["unverified"][0], "tool-1.0");
    assert_eq!(bench.record("1.0"), Vec::<String>::new());

    let strict = Bench::with("[trust]\nrequire = \"first-use\"\n", "");
    strict.versions(&["1.0"]);
    let why = "error: tool 1.0: cannot trust tool-1.0: nothing vouches for it, and [trust] require is \"first-use\"";
    strict.refuses(&[why]);
    strict.repo.publish(&["plan"]).code(3).prints(&["refused 1.0: cannot trust tool-1.0"]);
    strict
        .repo
        .publish(&["build", "tool", "--output", "out"])
        .code(3)
        .says(&["nothing vouches for it"]);
    assert_eq!(strict.asked("/tool-1.0"), 0);
    strict.asks(FIRST_USE);
    strict.publishes(&["1.0"]);

    let stricter = Bench::with("[trust]\nrequire = \"signature\"\n", "sha256 = \"{url}.sha256\"");
    stricter.versions(&["1.0"]);
    stricter.refuses(&["only a digest vouches for it, and [trust] require is \"signature\""]);
}

/// A file that somebody puts into a folder of this machine is no download.
#[test]
fn a_file_of_this_machine_needs_nobody() {
    let repo = Repo::with("[trust]\nrequire = \"digest\"\n");
    repo.simple("x");
    repo.release("x", "1.0", "one");
    let plan = repo.publish(&["plan", "-v"]).ok().prints(&["x-1.0: a file of this machine"]);
    assert!(!plan.stdout.contains("unverified"), "{plan}");
    repo.sync().ok();
}

/// A checksum file that tells of another file than the published one is enough for the alarm.
#[test]
fn a_changed_promise_is_an_alarm_before_anything_is_fetched() {
    let bench = Bench::new("sha256 = \"{url}.sha256\"");
    bench.versions(&["1.0"]);
    bench.web.put("/tool-1.0.sha256", sha256(content("1.0").as_bytes()));
    bench.publishes(&["1.0"]);
    fs::remove_file(bench.repo.path("public/tool/tool-1.0-x86-64.raw")).unwrap();
    bench.web.put("/tool-1.0", "tool 1.0!");
    bench.web.put("/tool-1.0.sha256", sha256(b"tool 1.0!"));
    bench.web.clear_requests();
    bench.repo.sync().code(3).says(&["upstream replaced ", "what is published stays as it is"]);
    assert_eq!(bench.asked("/tool-1.0"), 0);
}

/// A token that somebody wrote into a URL is asked with, and is told nowhere else.
#[test]
fn a_token_in_a_url_stays_there() {
    const TOKEN: &str = "hunter2-and-more";
    let bench = Bench::new("");
    bench.versions(&["1.0"]);
    let text = fs::read_to_string(bench.repo.path("components/tool.toml")).unwrap();
    let web = bench.web.url();
    let with = format!(
        "/tool-{{version}}?v={{version}}&token={TOKEN}\"\nsha256 = \"{web}/sums?{TOKEN}\"\n{FIRST_USE}"
    );
    bench.repo.component("tool", &text.replace("/tool-{version}\"", &with));
    let sums = |digest: String| bench.web.put(&format!("/sums?{TOKEN}"), digest);
    let asset = |text: &str| bench.web.put(&format!("/tool-1.0?v=1.0&token={TOKEN}"), text);
    asset(&content("1.0"));
    sums(sha256(b"another"));
    let shown = "/tool-1.0?v=1.0&token=\u{2026} has SHA-256";
    let ran = bench.refuses(&[shown, "/sums?\u{2026} says"]);
    let verbose = bench.repo.publish(&["sync", "-vv"]).code(3);
    let plan = bench.repo.publish(&["plan", "-v"]).ok();
    sums(sha256(content("1.0").as_bytes()));
    let sync = bench.repo.sync().ok();
    assert!(bench.web.requests().iter().any(|request| request.path.ends_with(TOKEN)));
    for ran in [ran, verbose, plan, sync] {
        assert!(!ran.to_string().contains(TOKEN), "{ran}");
    }
    let read = |path: &str| fs::read_to_string(bench.repo.path(path)).unwrap();
    let record = "public/.publish/images/tool/tool-1.0-x86-64.raw.json";
    let (before, lock) = (read(record), read("publish.lock"));
    assert!(!before.contains(TOKEN) && !lock.contains(TOKEN), "{before}{lock}");
    assert!(before.contains("/tool-1.0?v=1.0&token=*"), "{before}");
    bench.repo.sync().ok().prints(&["nothing to do"]);

    // What was written down before still tells of the same file: another one is an alarm.
    let digest = &sha256(TOKEN.as_bytes())[..8];
    let old = |text: &str| text.replace(&format!("token=*{digest}"), &format!("token={TOKEN}"));
    assert_ne!(old(&lock), lock);
    bench.repo.write("publish.lock", old(&lock));
    bench.repo.publish(&["sync", "--locked"]).ok().prints(&["nothing to do"]);
    bench.repo.write(record, old(&before));
    fs::remove_file(bench.repo.path("public/tool/tool-1.0-x86-64.raw")).unwrap();
    asset("tool 1.0!");
    sums(sha256(b"tool 1.0!"));
    bench.repo.sync().code(3).says(&["publish.lock:", "had SHA-256"]);
    fs::remove_file(bench.repo.path("publish.lock")).unwrap();
    bench.repo.sync().code(3).says(&["upstream replaced ", "what is published stays as it is"]);
}
