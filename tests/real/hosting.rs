//! The units for a file host, under a real service manager: an account of their own, hardened, with a
//! credential, the watchdog, a reload, and an end that leaves nothing.

use std::path::Path;

use crate::node::Node;
use crate::workspace::binary;

/// A repository of one component that follows a folder, with a key that the service manager hands over.
const SET_UP: &str = r#"
install -D -m 644 /srv/config/systemd/publish.sysusers /etc/sysusers.d/publish.conf
systemd-sysusers
for unit in publish.service publish.timer publish-watch.service; do
    sed 's#/usr/bin/publish#/srv/bin/publish#' "/srv/config/systemd/$unit" >"/etc/systemd/system/$unit"
    # No journal runs on this machine, and the kernel makes no user namespaces in a changed root.
    [[ $unit == *.service ]] || continue
    mkdir "/etc/systemd/system/$unit.d"
    cat >"/etc/systemd/system/$unit.d/here.conf" <<'end'
[Service]
StandardOutput=append:/var/log/publish.log
StandardError=inherit
PrivateUsers=no
end
done
mkdir -p /etc/publish/components /etc/credstore
cd /etc/publish
cat >publish.toml <<'end'
[repository]
url = "https://files.example.com/"
store = "/var/lib/publish/public"
architectures = ["x86-64"]

[signing]
key = { file = "signing.key" }

[watch]
interval = "1s"

[report]
metrics = "/var/lib/publish/publish.prom"
end
cat >components/tool.toml <<'end'
[source.directory]
path = "../releases"
match = "tool-{version}"

[[asset]]
name = "tool-{version}"
[asset.files]
"usr/bin/tool" = "tool-{version}"
end
/srv/bin/publish key generate
chmod 700 /etc/credstore
mv signing.key /etc/credstore/publish.signing-key
sed -i 's#{ file = "signing.key" }#{ credential = "signing-key" }#' publish.toml
mkdir releases
echo one >releases/tool-1.0
systemctl daemon-reload
"#;

#[test]
#[ignore = "needs root and tests/real/setup"]
fn the_units_of_a_file_host_run_hardened() {
    let mut node = Node::new();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    node.show(&config, "config");
    let program = binary();
    node.show(program.parent().expect("a folder"), "bin");
    node.boot();
    node.ok(SET_UP);
    node.ok("systemd-analyze verify /etc/systemd/system/publish{.service,.timer,-watch.service}");

    // As the timer would start it.
    node.ok("systemctl start publish.service || { cat /var/log/publish.log >&2; false; }");
    node.ok("grep tool-1.0-x86-64.raw /var/lib/publish/public/tool/SHA256SUMS");
    node.ok("test -s /var/lib/publish/public/tool/SHA256SUMS.gpg");
    let owner = node.ok("stat -c %U:%a /var/lib/publish/public/tool/SHA256SUMS");
    assert_eq!(owner, "publish:644\n");
    // The web server's user sees what nodes fetch, and nothing else.
    let read = |file: &str| {
        let script =
            format!("setpriv --reuid nobody --clear-groups cat /var/lib/publish/public/{file}");
        node.run(&script).status.success()
    };
    assert!(read("tool/tool-1.0-x86-64.raw") && !read(".publish/folders/tool.json"));

    node.ok("systemctl start publish-watch.service");
    node.ok("echo two >/etc/publish/releases/tool-1.1");
    let listed = "grep -c -E 'tool-.*raw' /var/lib/publish/public/tool/SHA256SUMS";
    node.until("the next sync", listed, "2");
    node.until(
        "its status",
        "systemctl show -P StatusText publish-watch.service | grep -o '1 component up to date'",
        "1 component up to date",
    );
    node.ok("cp /etc/publish/publish.toml /etc/publish/right.toml");
    node.ok(
        "echo '[nonsense]' >>/etc/publish/publish.toml; systemctl reload publish-watch.service",
    );
    node.until(
        "the broken configuration",
        "grep -c -m1 'the configuration stays as it was' /var/log/publish.log",
        "1",
    );
    node.ok("mv /etc/publish/right.toml /etc/publish/publish.toml; systemctl reload publish-watch.service");
    node.ok("echo three >/etc/publish/releases/tool-1.2");
    node.until("a sync after both", listed, "3");
    node.ok("systemctl stop publish-watch.service");
    let ended = node.ok("systemctl show -P Result -P ExecMainStatus publish-watch.service");
    assert_eq!(ended.split_whitespace().collect::<Vec<_>>(), ["success", "0"], "{ended}");
    let left = node.ok("find /var/cache/publish -mindepth 1; ls /var/lib/publish/public/.publish");
    assert!(!left.contains("lock") && !left.contains("/var/cache"), "{left}");
    node.ok(
        "grep -q '^publish_component_success{component=\"tool\"} 1$' /var/lib/publish/publish.prom",
    );
}
