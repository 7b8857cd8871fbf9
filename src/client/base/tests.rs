use super::*;
use crate::client::machine::Contents;

fn machine() -> Machine {
    let update = ("10-x.conf".to_owned(), "[Service]\nExecStartPre=-a\n".to_owned());
    Machine {
        files: vec![File {
            path: "/opt/x".to_owned(),
            contents: Contents::Text("a\nb\n".to_owned()),
        }],
        links: vec![Link { path: "/etc/x.raw".to_owned(), target: "/opt/x".to_owned() }],
        units: vec![
            Unit {
                name: "systemd-sysupdate.timer".to_owned(),
                enabled: true,
                contents: None,
                dropins: Vec::new(),
            },
            Unit {
                name: "systemd-sysupdate.service".to_owned(),
                enabled: false,
                contents: None,
                dropins: vec![update],
            },
            Unit {
                name: "x-restart.path".to_owned(),
                enabled: true,
                contents: Some("[Path]\nPathChanged=/etc/x.raw\n".to_owned()),
                dropins: Vec::new(),
            },
        ],
    }
}

fn merged(base: &str) -> Result<String, BaseError> {
    merge(base, &machine(), Variant::Flatcar)
}

const FULL: &str = r#"# my node
variant: flatcar
version: 1.1.0   # newer than needed

passwd:
  users:
    - name: core
      ssh_authorized_keys: [ssh-ed25519 AAAA]

storage:
  # what I have
  links:
    - path: /etc/localtime
      target: /usr/share/zoneinfo/UTC
  files:
  - path: /etc/hostname
    mode: 0644
    contents:
      inline: |
        node

        # not a comment
    # a comment between
  - {path: /etc/motd, contents: {inline: hello}}
  # the last words on files

systemd:
  units:
    - name: systemd-sysupdate.service
      # mine
      dropins:
        - name: mine.conf
          contents: "[Service]\n"
    - name: systemd-sysupdate.timer
      enabled: true
# the end
"#;

#[test]
fn a_base_keeps_every_line() {
    insta::assert_snapshot!("full", merged(FULL).unwrap());
    // What is there already is not put there again.
    let once = merged(FULL).unwrap();
    assert_eq!(merged(&once).unwrap(), once);
}

#[test]
fn sections_that_are_not_there_are_made() {
    let base = "variant: flatcar\nversion: 1.0.0";
    let all = merged(base).unwrap();
    assert_eq!(merged(&all).unwrap(), all);
    let rendered = butane::render(&machine(), Variant::Flatcar, "x");
    let without_title = rendered.split_once('\n').unwrap().1;
    assert_eq!(all, without_title);
    for base in [
        "variant: flatcar\nversion: 1.0.0\nstorage:\nsystemd:\n",
        "variant: flatcar\nversion: 1.0.0\nstorage:\n  files:\n  links:\nsystemd:\n  units:\n",
        "variant: flatcar\nversion: 1.0.0\nsystemd:\n    units:\n    - name: systemd-sysupdate.timer\nstorage:\n    directories:\n    - path: /a\n",
        "---\nvariant: flatcar\nversion: 1.0.0\nstorage:\n  files:\n  - path: /a\n    contents:\n      inline: |+\n        a\n",
    ] {
        let out = merged(base).unwrap();
        assert_eq!(merged(&out).unwrap(), out, "{base}");
    }
}

#[test]
fn what_is_in_the_way_is_named() {
    let base = |rest: &str| format!("variant: flatcar\nversion: 1.0.0\n{rest}");
    for (rest, named) in [
        ("storage:\n  files:\n    - path: /opt/x\n", "`storage.files /opt/x`"),
        ("storage:\n  directories:\n    - path: /etc/x.raw\n", "`storage.directories /etc/x.raw`"),
        ("storage: {}\n", "`storage`"),
        ("storage:\n  files: []\n", "`storage.files`"),
        ("storage:\n  files: &a\n    - path: /a\nx: *a\n", ""),
        (
            "systemd:\n  units:\n    - name: systemd-sysupdate.timer\n      enabled: false\n",
            "`systemd.units systemd-sysupdate.timer enabled`",
        ),
        ("systemd:\n  units:\n    - name: systemd-sysupdate.service\n      mask: true\n", "mask`"),
        (
            "systemd:\n  units:\n    - {name: systemd-sysupdate.service}\n",
            "`systemd.units systemd-sysupdate.service`",
        ),
        (
            "systemd:\n  units:\n    - name: x-restart.path\n",
            "`systemd.units x-restart.path contents`",
        ),
        (
            "systemd:\n  units:\n    - name: systemd-sysupdate.service\n      dropins:\n        - name: 10-x.conf\n          contents: y\n",
            "dropins 10-x.conf`",
        ),
    ] {
        match merged(&base(rest)) {
            Err(error) => assert!(error.to_string().contains(named), "{rest}: {error}"),
            Ok(_) => assert_eq!(named, "", "{rest}"),
        }
    }
    assert!(matches!(merged("variant: fcos\nversion: 1.5.0\n"), Err(BaseError::Variant { .. })));
    assert!(matches!(merged("a: 1\n"), Err(BaseError::Variant { .. })));
    assert!(matches!(merged("a: [\n"), Err(BaseError::Yaml(_))));
    assert!(matches!(merged("variant: flatcar\r\nversion: 1.0.0\r\n"), Err(BaseError::Crlf)));
}

proptest::proptest! {
    /// Whatever the base is, it is refused, or all of it is there and what was added, too.
    #[test]
    fn nothing_of_a_base_is_lost(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "storage:\n", "  files:\n", "  links:\n", "  - path: /a\n", "    - path: /b\n      contents:\n        inline: |\n          x\n",
            "systemd:\n", "  units:\n", "    - name: a.service\n      enabled: true\n", "  - name: systemd-sysupdate.service\n",
            "# c\n", "\n", "  # d\n", "passwd: {users: [a]}\n", "    dropins:\n", "    - name: y\n", "  directories: []\n",
        ]), 0..10),
    ) {
        let base = format!("variant: flatcar\nversion: 1.0.0\n{}", pieces.concat());
        if let Ok(out) = merged(&base) {
            proptest::prop_assert!(keeps_lines(&base, &out));
            proptest::prop_assert_eq!(merged(&out).unwrap(), out);
        }
    }
}
