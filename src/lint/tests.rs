//! Images as lists of what is in them, judged.

use super::*;
use crate::image::inspect::Listed;

/// An image in the making.
#[derive(Default)]
struct Sketch {
    id: &'static str,
    entries: Vec<Listed>,
    programs: BTreeMap<String, Program>,
    scripts: BTreeMap<String, String>,
    units: BTreeMap<String, String>,
}

impl Sketch {
    fn new(id: &'static str) -> Self {
        Self { id, ..Self::default() }
    }

    fn entry(mut self, kind: char, path: &str, mode: u16, target: Option<&str>) -> Self {
        for (at, _) in path.match_indices('/') {
            if !self.entries.iter().any(|entry| entry.path == path[..at]) {
                self = self.entry('d', &path[..at], 0o755, None);
            }
        }
        let target = target.map(str::to_owned);
        let owner = (0, 0);
        self.entries.push(Listed { path: path.to_owned(), kind, mode, owner, size: 1, target });
        self
    }

    fn file(self, path: &str) -> Self {
        self.entry('-', path, 0o755, None)
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry('l', path, 0o777, Some(target))
    }

    fn program(mut self, path: &str, interpreter: Option<&str>, needed: &[&str]) -> Self {
        let needed = needed.iter().map(|name| (*name).to_owned()).collect();
        let interpreter = interpreter.map(str::to_owned);
        let program = Program { interpreter, needed, search: vec!["$ORIGIN/../deep".to_owned()] };
        self.programs.insert(path.to_owned(), program);
        self.file(path)
    }

    fn script(mut self, path: &str, line: &str) -> Self {
        self.scripts.insert(path.to_owned(), line.to_owned());
        self.file(path)
    }

    fn unit(mut self, name: &str, text: &str) -> Self {
        let path = format!("usr/lib/systemd/system/{name}");
        self.units.insert(path.clone(), text.to_owned());
        self.entry('-', &path, 0o644, None)
    }

    fn judged(&self) -> Vec<Finding> {
        judge(&Evidence {
            kind: Kind::Sysext,
            id: self.id,
            arch: Some(Arch::X86_64),
            entries: &self.entries,
            programs: &self.programs,
            scripts: &self.scripts,
            units: &self.units,
        })
    }

    #[track_caller]
    fn is_fine(&self) {
        assert_eq!(self.judged(), []);
    }

    /// The one thing that is found: its name and the sentence about it.
    #[track_caller]
    fn has(&self, lint: Lint, part: &str) {
        let told = told(&self.judged());
        assert_eq!(told.len(), 1, "{told:?}");
        let (_, found, text) = &told[0];
        assert!(*found == lint && text.contains(part), "{found}: {text}");
    }
}

const GLIBC: Option<&str> = Some("/lib64/ld-linux-x86-64.so.2");

#[test]
fn programs_that_every_system_can_start_are_fine() {
    Sketch::new("_any")
        .program("usr/bin/a", GLIBC, &["libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"])
        .program("usr/bin/static-pie", None, &[])
        .program("usr/lib/a/plugin.so", None, &["libm.so.6"])
        .script("usr/bin/s", "#!/bin/sh -e")
        .script("usr/bin/e", "#!/usr/bin/env -S LANG=C bash")
        .is_fine();
}

#[test]
fn a_library_is_found_where_the_image_or_the_system_has_it() {
    let needs = |id| Sketch::new(id).program("usr/bin/a", GLIBC, &["libnftnl.so.11"]);
    needs("_any").has(
        Lint::MissingLibrary,
        "`usr/bin/a` needs `libnftnl.so.11`, neither in the image nor on every system",
    );
    needs("debian").has(Lint::MissingLibrary, "nor on a minimal Debian");
    needs("flatcar").is_fine();
    // Nobody knows what this one has.
    needs("somelinux").is_fine();
    needs("_any").file("usr/lib/a/libnftnl.so.11").is_fine();
    needs("_any")
        .link("usr/lib64/libnftnl.so.11", "libnftnl.so.11.2")
        .file("usr/lib64/libnftnl.so.11.2")
        .is_fine();
    let two = needs("_any").program("usr/bin/b", GLIBC, &["libnftnl.so.11"]);
    two.has(Lint::MissingLibrary, "`usr/bin/a` (and 1 more) needs");
}

#[test]
fn a_program_needs_what_starts_it() {
    let musl = Some("/lib/ld-musl-x86_64.so.1");
    let program = || Sketch::new("_any").program("usr/bin/a", musl, &["libc.so"]);
    program().has(Lint::MissingInterpreter, "a static program needs none");
    program().file("usr/lib/ld-musl-x86_64.so.1").file("usr/lib/libc.so").is_fine();
    Sketch::new("flatcar")
        .script("usr/bin/s", "#!/usr/bin/python3")
        .has(Lint::MissingInterpreter, "is started by `/usr/bin/python3`");
    Sketch::new("debian").script("usr/bin/s", "#!/usr/bin/perl -w").is_fine();
    Sketch::new("_any")
        .script("usr/bin/s", "#!/usr/bin/env python3")
        .has(Lint::MissingInterpreter, "`python3`");
    Sketch::new("_any")
        .script("usr/bin/s", "#!/usr/bin/env python3")
        .file("usr/bin/python3")
        .is_fine();
}

#[test]
fn units_start_what_is_there() {
    let unit = |command: &str| {
        Sketch::new("_any").file("usr/bin/d").unit("d.service", &format!("[Service]\n{command}\n"))
    };
    for command in [
        "ExecStart=/usr/bin/d --flag",
        "ExecStart=d",
        "ExecStart=@/usr/bin/d d",
        "ExecStart=-/usr/bin/absent",
        "ExecStartPre=+/bin/mkdir -p /run/d",
        "ExecStart=/usr/bin/d \\\n  ExecStart=/usr/bin/absent",
        "ExecStart=/usr/lib/systemd/systemd-something",
        "ExecStart=/etc/d/run",
        "ExecStart=/usr/bin/%p",
        "ExecStart=\"/usr/bin/d\" x",
        "ExecStart=",
        "#ExecStart=/usr/bin/absent",
        "ExecStopPost=/usr/bin/absent",
        "ConditionFileIsExecutable=/usr/bin/absent\nExecStart=/usr/bin/absent",
    ] {
        let judged = unit(command).judged();
        assert!(judged.is_empty(), "{command}: {judged:?}");
    }
    for command in [
        "ExecStart=/usr/bin/absent x",
        "ExecStart=absent",
        "ExecStart=!!/usr/sbin/d",
        "ExecStartPre=/opt/d/setup",
        "ExecReload = /usr/bin/absent",
    ] {
        unit(command)
            .has(Lint::MissingProgram, "which is neither in the image nor on every system");
    }
    // Where sbin is bin, a program in one is in the other.
    let mut fedora = unit("ExecStart=/usr/sbin/d");
    fedora.id = "fedora";
    fedora.is_fine();
}

#[test]
fn links_lead_somewhere() {
    let with = |target: &str| {
        Sketch::new("_any").file("usr/lib/x/a").file("opt/x/b").link("usr/lib/x/l", target)
    };
    for target in [
        "a",
        "../x/a",
        "/usr/lib/x/a",
        "/lib/x/a",
        "/opt/x/b",
        "/usr/bin/sh",
        "/bin/sh",
        "/usr/share/zoneinfo/UTC",
        "/etc/x.conf",
        "/run/x.sock",
        "/dev/null",
        "../systemd/libsystemd-shared.so",
        "../x",
        "/opt",
    ] {
        let judged = with(target).judged();
        assert!(judged.is_empty(), "{target}: {judged:?}");
    }
    for target in ["b", "/usr/lib/x/b", "a.so.1", "l", "/opt/x/c"] {
        with(target).has(Lint::DanglingSymlink, "`usr/lib/x/l` leads to");
    }
    for target in ["/etc/alternatives/x", "/home/me/a", "../../../build/a", "/nix/store/a"] {
        with(target).has(Lint::LeavingSymlink, "`usr/lib/x/l` leads to");
    }
    // Only a folder with links in between.
    Sketch::new("_any")
        .link("usr/lib/y", "x")
        .file("usr/lib/x/a")
        .link("usr/bin/z", "../lib/y/a")
        .is_fine();
    let around = Sketch::new("_any").link("usr/a", "b").link("usr/b", "a");
    assert_eq!(around.judged().len(), 2);
}

#[test]
fn modes_and_owners_of_files() {
    let file = |mode| Sketch::new("_any").entry('-', "usr/bin/a", mode, None);
    file(0o755).is_fine();
    file(0o4755).has(Lint::Setuid, "has mode 4755");
    file(0o2755).has(Lint::Setuid, "has mode 2755");
    file(0o666).has(Lint::WorldWritable, "has mode 0666");
    let folder = |path, mode| Sketch::new("_any").entry('d', path, mode, None);
    folder("usr/bin", 0o700).has(Lint::FolderMode, "has mode 0700");
    folder("usr/share/x", 0o700).is_fine();
    folder("usr/share/polkit-1/rules.d", 0o700).is_fine();
    folder("opt/x", 0o777).has(Lint::WorldWritable, "has mode 0777");
    folder("opt/x", 0o1777).is_fine();
    let mut owned = folder("usr/bin", 0o755);
    owned.entries.last_mut().unwrap().owner = (1000, 100);
    owned.has(Lint::FolderMode, "belongs to 1000:100");
}

#[test]
fn usr_sbin_is_no_folder_everywhere() {
    for (id, fine) in [("_any", false), ("fedora", false), ("debian", true), ("flatcar", true)] {
        let sketch = Sketch::new(id).file("usr/sbin/a");
        if fine { sketch.is_fine() } else { sketch.has(Lint::UsrSbin, "hides all programs") }
    }
}

#[test]
fn a_size_is_judged_by_the_one_before() {
    let mib = 1 << 20;
    for (size, before, odd) in [
        (10 * mib, 10 * mib, false),
        (14 * mib, 10 * mib, false),
        (16 * mib, 10 * mib, true),
        (10 * mib, 19 * mib, false),
        (10 * mib, 20 * mib, false),
        (9 * mib, 20 * mib, true),
        (21 * mib, 10 * mib, true),
        (1 << 12, 1 << 14, false),
        (0, 10 * mib, true),
    ] {
        assert_eq!(judge_size(size, before).is_some(), odd, "{size} {before}");
    }
    let told = judge_size(10 * mib, 40 * mib).unwrap().message;
    assert_eq!(told, "the image shrank from 40.0 MiB to 10.0 MiB since the version before");
}

#[test]
fn a_component_has_its_say() {
    let image = Sketch::new("_any").entry('-', "usr/bin/a", 0o4755, None).file("usr/sbin/b");
    let rules = |text: &str| -> LintRules { toml::from_str(text).unwrap() };
    let settled = |text, required: &[&str]| {
        let required: Vec<_> = required.iter().map(|path| (*path).to_owned()).collect();
        settle(image.judged(), &rules(text), &required)
    };
    assert_eq!(settled("", &[]).len(), 2);
    assert_eq!(refusal(&settled("", &[])), None);
    assert_eq!(settled("allow = [\"setuid\", \"usr-sbin\"]", &[]), []);
    assert_eq!(settled("allow.setuid = [\"usr/bin/b\"]", &[]).len(), 2);
    assert_eq!(settled("allow.setuid = [\"usr/bin/*\"]", &[]).len(), 1);
    let refused = refusal(&settled("deny = [\"setuid\"]", &["usr/bin/c"])).unwrap();
    assert!(refused.contains("[missing-path]; `usr/bin/a` has mode 4755"), "{refused}");
    let shown: Vec<_> = warnings("x 1 arm64", &settled("", &[])).collect();
    assert!(shown[0].starts_with("warning: x 1 arm64: `usr/sbin` is"), "{shown:?}");
}

#[test]
fn every_name_is_one_word_and_its_own() {
    let names: std::collections::BTreeSet<_> = Lint::ALL.iter().map(|lint| lint.name()).collect();
    assert_eq!(names.len(), Lint::ALL.len());
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
}

#[test]
fn the_lists_of_systems_are_read() {
    for id in ["_any", "debian", "ubuntu", "fedora", "flatcar", "else"] {
        let base = Base::of(id);
        assert!(base.has_library("libc.so.6") && base.has_program("sh"), "{id}");
    }
    assert!(!Base::of("flatcar").has_program("perl") && Base::of("debian").has_program("perl"));
}

/// A file in memory, as an image would give it out.
fn reopened<'f>(bytes: &'f [u8], left: &'f std::cell::Cell<u64>) -> program::Reopened<'f> {
    let open =
        Box::new(move || -> std::io::Result<Box<dyn std::io::Read + 'f>> { Ok(Box::new(bytes)) });
    program::Reopened { open, length: bytes.len() as u64, left }
}

#[test]
fn this_very_program_needs_the_c_library() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let left = std::cell::Cell::new(1 << 40);
    let program = program::read(reopened(&bytes, &left)).unwrap();
    assert!(program.interpreter.is_some_and(|linker| linker.contains("ld-")));
    assert!(program.needed.iter().any(|name| name.starts_with("libc.")), "{:?}", program.needed);
    // Far from all of it twice, and nothing once the allowance is used up.
    assert!((1 << 40) - left.get() < 2 * bytes.len() as u64);
    let left = std::cell::Cell::new(1000);
    assert!(program::read(reopened(&bytes, &left)).is_none_or(|program| program.needed.is_empty()));
}

#[test]
fn what_is_damaged_is_no_program_and_no_panic() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let head = &bytes[..bytes.len().min(64 << 10)];
    for at in (0..0x400).chain([head.len() - 1]) {
        for value in [0, 0x7f, 0xff] {
            let mut wrong = head.to_vec();
            wrong[at] = value;
            let left = std::cell::Cell::new(1 << 30);
            let _ = program::read(reopened(&wrong, &left));
        }
    }
    let left = std::cell::Cell::new(1 << 30);
    assert!(program::read(reopened(b"#!/bin/sh", &left)).is_none());
    assert!(program::read(reopened(b"\x7fELF\x02\x01", &left)).is_none());
}
