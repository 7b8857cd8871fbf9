//! The seed case: the project's own tailscale components, against look-alikes of its two servers.

use std::fs;
use std::path::Path;

use crate::github::{GitHub, Release};
use crate::pack::Tar;
use crate::repo::Repo;
use crate::web::{Web, sha256};

/// The unit as upstream ships it (cmd/tailscaled/tailscaled.service), as far as it matters here.
const UNIT: &str = "[Unit]
Description=Tailscale node agent
After=network-pre.target NetworkManager.service systemd-resolved.service

[Service]
EnvironmentFile=/etc/default/tailscaled
ExecStart=/usr/sbin/tailscaled --state=/var/lib/tailscale/tailscaled.state --socket=/run/tailscale/tailscaled.sock --port=${PORT} $FLAGS
ExecStopPost=/usr/sbin/tailscaled --cleanup
Restart=on-failure
RuntimeDirectory=tailscale
StateDirectory=tailscale
Type=notify

[Install]
WantedBy=multi-user.target
";

fn tarball(version: &str, arch: &str) -> Vec<u8> {
    let root = format!("tailscale_{version}_{arch}");
    Tar::new()
        .folder(&format!("{root}/"))
        .file(&format!("{root}/tailscale"), 0o755, format!("\x7fELF tailscale {version} {arch}"))
        .file(&format!("{root}/tailscaled"), 0o755, format!("\x7fELF tailscaled {version} {arch}"))
        .folder(&format!("{root}/systemd/"))
        .file(&format!("{root}/systemd/tailscaled.service"), 0o644, UNIT)
        .file(&format!("{root}/systemd/tailscaled.defaults"), 0o644, "PORT=\"41641\"\nFLAGS=\"\"\n")
        .gz()
}

struct Bench {
    packages: Web,
    github: GitHub,
    repo: Repo,
}

impl Bench {
    fn new() -> Self {
        let (packages, github, mut repo) = (Web::start(), GitHub::start(), Repo::empty());
        repo.env("GITHUB_API_URL", &github.api());
        // The project's own configuration, but for where its upstreams are.
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let catalog = fs::read_to_string(config.join("catalog.toml")).unwrap();
        let rewrite = format!(
            "[network]\nrewrite = {{ \"https://pkgs.tailscale.com/\" = \"{}/\" }}\n",
            packages.url()
        );
        repo.write("config/catalog.toml", format!("{catalog}\n{rewrite}"));
        for name in ["tailscale", "tailscale-flatcar"] {
            let file = format!("components/{name}.toml");
            repo.write(&format!("config/{file}"), fs::read(config.join(file)).unwrap());
        }
        Self { packages, github, repo }
    }

    fn release(&self, version: &str) {
        self.github.release("tailscale/tailscale", Release::new(&format!("v{version}")));
        for arch in ["amd64", "arm64"] {
            let bytes = tarball(version, arch);
            let path = format!("/stable/tailscale_{version}_{arch}.tgz");
            // Theirs is the digest alone, without a name or a newline.
            self.packages.put(&format!("{path}.sha256"), sha256(&bytes));
            self.packages.put(&path, bytes);
        }
    }

    fn sync(&self) -> crate::repo::Ran {
        self.repo.publish(&["--config", "config/catalog.toml", "sync"])
    }
}

#[test]
fn it_reproduces_the_well_known_recipe() {
    let bench = Bench::new();
    bench.release("1.58.1");
    bench.sync().ok();
    assert_eq!(
        bench.repo.listed("ts"),
        ["tailscale-1.58.1-arm64.raw", "tailscale-1.58.1-x86-64.raw"]
    );
    for (arch, theirs) in [("x86-64", "amd64"), ("arm64", "arm64")] {
        let image = bench.repo.image("ts", &format!("tailscale-1.58.1-{arch}.raw"));
        assert_eq!(
            image.paths(),
            [
                "usr/bin/tailscale",
                "usr/bin/tailscaled",
                "usr/lib/systemd/system/multi-user.target.d/10-tailscale-tailscaled.service.conf",
                "usr/lib/systemd/system/tailscaled.service",
                "usr/share/tailscale/tailscaled.defaults",
            ]
        );
        assert_eq!(image.text("usr/bin/tailscaled"), format!("\x7fELF tailscaled 1.58.1 {theirs}"));
        assert_eq!(image.mode("usr/bin/tailscale"), 0o755);
        let upholds = image.text(
            "usr/lib/systemd/system/multi-user.target.d/10-tailscale-tailscaled.service.conf",
        );
        assert_eq!(upholds, "[Unit]\nUpholds=tailscaled.service\n");

        let unit = image.text("usr/lib/systemd/system/tailscaled.service");
        assert!(!unit.contains("/usr/sbin/"), "{unit}");
        assert!(
            unit.contains("ExecStart=/usr/bin/tailscaled --state")
                && unit.contains("ExecStopPost=/usr/bin/tailscaled"),
            "{unit}"
        );
        // An extension cannot bring /etc, so the defaults come from /usr, and the node's own win.
        let files: Vec<&str> =
            unit.lines().filter(|line| line.starts_with("EnvironmentFile=")).collect();
        assert_eq!(
            files,
            [
                "EnvironmentFile=/usr/share/tailscale/tailscaled.defaults",
                "EnvironmentFile=-/etc/default/tailscaled"
            ]
        );

        for name in ["tailscale".to_owned(), format!("tailscale-1.58.1-{arch}")] {
            let release =
                image.text(&format!("usr/lib/extension-release.d/extension-release.{name}"));
            assert_eq!(
                release,
                format!("ID=_any\nARCHITECTURE={arch}\nEXTENSION_RELOAD_MANAGER=1\n")
            );
        }
    }
}

#[test]
fn the_variant_for_flatcar_says_so() {
    let bench = Bench::new();
    bench.release("1.58.1");
    bench.sync().ok();
    let listed = bench.repo.listed("ts-flatcar");
    assert_eq!(
        listed,
        ["tailscale-flatcar-1.58.1-arm64.raw", "tailscale-flatcar-1.58.1-x86-64.raw"]
    );
    let image = bench.repo.image("ts-flatcar", &listed[1]);
    assert_eq!(
        image.text("usr/lib/extension-release.d/extension-release.tailscale-flatcar"),
        "ID=flatcar\nARCHITECTURE=x86-64\nEXTENSION_RELOAD_MANAGER=1\nSYSEXT_LEVEL=1.0\n"
    );
    bench.repo.publish(&["--config", "config/catalog.toml", "verify"]).ok();
}

#[test]
fn it_follows_new_releases_and_keeps_the_old_ones() {
    let bench = Bench::new();
    bench.release("1.58.0");
    bench.sync().ok();
    bench.release("1.58.1");
    bench.sync().ok().prints(&["published 4 images", "newest 1.58.1"]);
    assert_eq!(bench.repo.listed("ts").len(), 4);
    let before = bench.repo.snapshot();
    bench.packages.clear_requests();
    bench.sync().ok().prints(&["nothing to do"]);
    assert!(bench.packages.requests().is_empty());
    assert_eq!(bench.repo.snapshot(), before);
}

#[test]
fn a_tarball_that_is_not_the_one_is_refused_for_both() {
    let bench = Bench::new();
    bench.release("1.58.1");
    bench.packages.put("/stable/tailscale_1.58.1_arm64.tgz", tarball("6.6.6", "arm64"));
    bench.sync().code(3).says(&[
        "error: tailscale 1.58.1 arm64: cannot trust tailscale_1.58.1_arm64.tgz",
        "error: tailscale-flatcar 1.58.1 arm64",
        "has SHA-256",
        "https://pkgs.tailscale.com/stable/tailscale_1.58.1_arm64.tgz.sha256 says",
    ]);
    assert!(!bench.repo.path("public/ts/SHA256SUMS").exists());
}
