//! Two components: `bad`, whose upstream is a web server that goes wrong, and `good`, which follows a
//! folder and must never notice.

use std::cell::Cell;

use crate::repo::{Ran, Repo, Snapshot};
use crate::web::Web;

/// Both have published 1.0, and `bad` has a 1.1 waiting.
pub struct Scene {
    pub web: Web,
    pub repo: Repo,
    goods: Cell<usize>,
}

/// What `bad` fetches: its name on the server, and more lines of the asset.
pub struct Rule<'a> {
    /// Where the asset is below the server's root.
    pub path: &'a str,
    /// More keys of `[[asset]]`.
    pub asset: &'a str,
    /// The lines of `[asset.files]`.
    pub files: &'a str,
}

/// A bare program.
pub const PROGRAM: Rule<'static> =
    Rule { path: "bad-{version}", asset: "", files: "\"usr/bin/bad\" = \"bad-{version}\"" };

/// A program in an archive.
pub const ARCHIVE: Rule<'static> =
    Rule { path: "bad-{version}.tgz", asset: "", files: "\"usr/bin/bad\" = \"bad\"" };

impl Scene {
    /// With more sections in `publish.toml`, and `first` as the 1.0 of `bad`.
    pub fn new(sections: &str, rule: &Rule<'_>, first: impl Into<Vec<u8>>) -> Self {
        let web = Web::start();
        let repo = Repo::with(sections);
        let Rule { path, asset, files } = rule;
        repo.component(
            "bad",
            &format!(
                "[source.http]\nurl = \"{0}/versions\"\nmatch = 'bad (?<version>\\S+);'\n\n[[asset]]\nurl = \"{0}/{path}\"\n{asset}\n[asset.files]\n{files}\n",
                web.url()
            ),
        );
        repo.simple("good");
        let scene = Self { web, repo, goods: Cell::new(1) };
        scene.versions(&["1.0"]);
        scene.serve(rule, "1.0", first);
        scene.repo.release("good", "1.0", "good 1.0");
        scene.repo.sync().ok();
        assert_eq!(scene.repo.listed("bad"), ["bad-1.0-x86-64.raw"]);
        scene.versions(&["1.0", "1.1"]);
        scene
    }

    /// A bare program.
    pub fn program() -> Self {
        Self::patient("10s")
    }

    /// The same; a server that is silent for longer than this counts as down.
    pub fn patient(timeout: &str) -> Self {
        let scene =
            Self::new(&format!("[network]\ntimeout = \"{timeout}\"\n"), &PROGRAM, "bad 1.0");
        scene.serve(&PROGRAM, "1.1", "bad 1.1 ".repeat(1000));
        scene
    }

    /// The same, and what is not there is not waited for.
    pub fn impatient(self) -> Self {
        let file = self.repo.path("components/bad.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{text}\n[versions]\nwait = \"0s\"\n")).unwrap();
        self
    }

    /// Lists these versions of `bad`.
    pub fn versions(&self, versions: &[&str]) {
        let lines: Vec<_> = versions.iter().map(|version| format!("bad {version};\n")).collect();
        self.web.put("/versions", lines.concat());
    }

    /// Puts an asset of `bad` up.
    pub fn serve(&self, rule: &Rule<'_>, version: &str, content: impl Into<Vec<u8>>) {
        self.web.put(&format!("/{}", rule.path.replace("{version}", version)), content);
    }

    /// A sync that publishes a new version of `good` and fails for `bad`, naming `subject` and saying
    /// each of `texts`: what was published of `bad` stays as it is, to the byte.
    #[track_caller]
    pub fn fails(&self, subject: &str, texts: &[&str]) -> Ran {
        let goods = self.goods.get();
        self.goods.set(goods + 1);
        self.repo.release("good", &format!("1.{goods}"), "good");
        let before = self.of_bad();
        let ran =
            self.repo.sync().code(3).says(&[&format!("error: {subject}"), "hint: "]).says(texts);
        assert_eq!(self.of_bad(), before, "what is published changed\n{ran}");
        assert_eq!(self.repo.listed("bad"), ["bad-1.0-x86-64.raw"], "{ran}");
        // Retention keeps three.
        assert_eq!(self.repo.listed("good").len(), (goods + 1).min(3), "{ran}");
        assert!(ran.stdout.contains("published 1 image "), "{ran}");
        assert!(ran.stdout.contains("1 component failed"), "{ran}");
        ran
    }

    /// The upstream is well again, and so is the next sync.
    #[track_caller]
    pub fn heals(&self) {
        self.repo.sync().ok();
        assert_eq!(self.repo.listed("bad"), ["bad-1.0-x86-64.raw", "bad-1.1-x86-64.raw"]);
        self.repo.publish(&["verify"]).ok();
    }

    fn of_bad(&self) -> Snapshot {
        let mut all = self.repo.snapshot();
        all.retain(|path, _| path.split('/').any(|part| part == "bad"));
        all
    }
}
