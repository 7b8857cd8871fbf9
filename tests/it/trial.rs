//! `[test]` and `publish build --test`: a program of a finished image runs over a base.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::repo::{Ran, Repo, until};

/// A repository whose component `x` is this script, tried as these lines of `[test]` say.
fn scripted(script: &str, lines: &str) -> Repo {
    let mut repo = Repo::new();
    repo.env("PATH", &std::env::var("PATH").unwrap());
    repo.simple("x");
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component(
        "x",
        &format!("{text}\n[files]\n\"usr/share/x/data\" = {{ text = \"of the image\" }}\n[test]\n{lines}\n"),
    );
    repo.release("x", "1.0", format!("#!/bin/sh\n{script}\n"));
    repo
}

fn tried(script: &str, test: &str) -> Ran {
    scripted(script, test).publish(&["build", "x", "--test", "--output", "out"])
}

const RUN: &str = "run = [\"usr/bin/x\", \"--version\"]";

/// Where nobody may have a namespace, there is no trial, and no test of it either.
fn is_possible() -> bool {
    let ran = tried("echo x", RUN).ok();
    let possible = ran.stdout.contains("  tested: x\n");
    if !possible {
        eprintln!("!!! TRIALS ARE NOT TESTED: {}", ran.stdout);
    }
    possible
}

#[test]
fn a_program_runs_over_a_base_and_sees_nothing_else() {
    if !is_possible() {
        return;
    }
    let script = "echo \"x $PUBLISH_VERSION $1\"; cat /usr/share/x/data; ls / | tr '\\n' ' '; grep -c : /proc/net/dev; touch /usr/bin/y 2>&1; touch /tmp/y; id -u; test -z \"$GITHUB_TOKEN\"";
    let mut repo = scripted(script, &format!("{RUN}\nexpect = '(?s)x 1\\.0.*of the image.*\\n0$'"));
    repo.env("GITHUB_TOKEN", "secret");
    let out = &["build", "x", "--test", "--output", "out"];
    repo.publish(out).ok().prints(&["x-1.0-x86-64.raw", "  tested: x 1.0 --version\n"]);
    let json = repo.publish(&[&["--json"], &out[..]].concat()).ok().json();
    let said = json["images"][0]["test"]["passed"].as_array().unwrap();
    let said: Vec<&str> = said.iter().map(|line| line.as_str().unwrap()).collect();
    assert!(said[1].starts_with("of the imagebin dev etc "), "{said:?}");
    assert!(!said[1].contains("home") && !said[1].contains("work"), "{said:?}");
    assert!(said[1].ends_with(" 1"), "the loopback alone: {said:?}");
    assert!(said[2].contains("Read-only file system"), "{said:?}");
}

#[test]
fn what_does_not_go_well_is_told_and_the_exit_code_is_3() {
    if !is_possible() {
        return;
    }
    let ran = tried("echo 'cannot find libfoo.so.1' >&2; exit 127", RUN).code(3);
    ran.prints(&["x-1.0-x86-64.raw", "  the test failed\n"]).says(&[
        "error: x 1.0 x86-64: the test: `usr/bin/x` ended with exit code 127; the end of what it said:\n    | cannot find libfoo.so.1",
        "hint: ",
    ]);
    tried("echo 1.1", &format!("{RUN}\nexpect = '^1\\.0$'"))
        .code(3)
        .says(&["`usr/bin/x` said nothing that matches `^1\\\\.0$`", "    | 1.1"]);
    tried("sleep 1000", &format!("{RUN}\ntimeout = \"1s\""))
        .code(3)
        .says(&["took longer than 1 s"]);
    tried("echo so far; kill -9 $$; echo further", RUN)
        .code(3)
        .says(&["`usr/bin/x` was ended by signal 9 (exit code 137); the end of what it said:\n    | so far\n"]);
    tried("kill $$", RUN).code(3).says(&["`usr/bin/x` was ended by signal 15"]);
    // Where the base has no shell, a script does not run.
    let repo = scripted("echo x", RUN);
    fs::create_dir_all(repo.path("base/usr/bin")).unwrap();
    repo.publish(&["build", "x", "--test", "--base", "base", "--output", "out"])
        .code(3)
        .says(&["`usr/bin/x` ended with exit code"]);
}

/// What the base has, or a way out of the image leads to, is no program of the image's.
#[test]
fn only_a_program_of_the_image_is_tried() {
    if !is_possible() {
        return;
    }
    for path in ["usr/bin/id", "/bin/sh", "id", "usr/bin", "usr/bin/x/y", "bin/out", "usr/bin/loop"]
    {
        let repo = scripted("echo x", &format!("run = [\"{path}\"]"));
        let links = "\"usr/bin/out\" = { symlink = \"id\" }\n\"usr/bin/loop\" = { symlink = \"loop\" }\n[test]";
        let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
        repo.component("x", &text.replace("[test]", links));
        repo.publish(&["build", "x", "--test", "--output", "out"])
            .code(3)
            .prints(&["  the test failed\n"])
            .says(&[
                &format!("the test: the image has no program `{path}`"),
                "hint: `run` in [test]",
            ]);
    }
    for path in ["/usr/bin/x", "x", "bin/x"] {
        tried("echo x", &format!("run = [\"{path}\"]")).ok().prints(&["  tested: x\n"]);
    }
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    for path in
        ["../../bin/sh", "usr/bin/../../../bin/true", "./usr/bin/x", "usr//bin/x", "..", "/"]
    {
        tried("echo x", &format!("run = [\"{path}\"]")).code(4).says(&[
            "components/x.toml:",
            &format!("`{path}` is not the plain path of a program in the image\n"),
            "| run = [",
            "|         ^",
            "hint: without",
        ]);
    }
}

#[test]
fn a_base_that_is_none_is_told_before_anything_is_built() {
    let repo = scripted("echo x", RUN);
    fs::create_dir_all(repo.path("hollow")).unwrap();
    repo.write("file", "");
    for (base, why) in [("typo", "No such file"), ("file", "not a folder"), ("hollow", "no usr/")] {
        repo.publish(&["build", "x", "--test", "--base", base, "--output", "out"]).code(2).says(&[
            &format!("error: {base}: nothing to try an image over: "),
            why,
            "hint: --base",
        ]);
        assert!(!repo.path("out").exists());
    }
}

#[test]
fn nothing_of_it_stays_behind() {
    if !is_possible() {
        return;
    }
    let repo = scripted("echo x; setsid sleep 1234.5 & setsid sleep 1234.5 >/dev/null 2>&1 &", RUN);
    // That it leaves no folder is what every run is asked.
    repo.publish(&["build", "x", "--test", "--output", "out"]).ok();
    let lives = || {
        fs::read_dir("/proc").unwrap().flatten().any(|process| {
            fs::read(process.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x001234.5\0")
        })
    };
    until("the end of the children", || !lives());
}

#[test]
fn what_cannot_be_tried_here_is_skipped_with_a_word() {
    let mut repo = scripted("exit 1", RUN);
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("\"x86-64\"", "\"s390x\""));
    repo.publish(&["build", "x", "--test", "--output", "out"])
        .ok()
        .prints(&["  not tested: it is for s390x, and this machine is "]);
    repo.write("publish.toml", text);
    repo.write(
        "bin/unshare",
        "#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2; exit 1\n",
    );
    fs::set_permissions(repo.path("bin/unshare"), fs::Permissions::from_mode(0o755)).unwrap();
    repo.env("PATH", &format!("{}:/usr/bin:/bin", repo.path("bin").display()));
    let ran = repo.publish(&["build", "x", "--test", "--output", "out"]).ok();
    ran.prints(&["  not tested: this machine makes no room for it: unshare failed"]);
}

#[test]
fn a_component_without_a_test_is_not_tested() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "x");
    repo.publish(&["build", "x", "--test"]).code(2).says(&["x has no [test]", "hint: add one"]);
    assert!(!repo.path("x-1.0-x86-64.raw").exists());
}
