//! An installer for any machine with systemd: one POSIX shell script.
//!
//! Owns its text. It refuses what it cannot do before it changes anything, writes only what differs, and
//! can be run again at any time. Every text in it is in single quotes or in a here-document that expands
//! nothing.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::inert::shell;
use super::machine::{self, SYSUPDATE, TIMER_OF_262, Unit};
use super::{ClientError, Layout, Offer, Stem, Trust, transfer};
use crate::name::Arch;
use crate::sign::KEYRING;

/// Ends a here-document. No file that is written has such a line.
const END: &str = "END_OF_FILE";

/// The first systemd whose systemd-sysupdate reads `.transfer` files.
const OLDEST: u32 = 257;

/// What `uname -m` says, and what systemd calls that.
const MACHINES: &[(&str, Arch)] = &[
    ("x86_64", Arch::X86_64),
    ("i[3-6]86", Arch::X86),
    ("aarch64", Arch::Arm64),
    ("armv[678]l", Arch::Arm),
    ("riscv64", Arch::Riscv64),
    ("riscv32", Arch::Riscv32),
    ("loongarch64", Arch::Loongarch64),
    ("ppc64le", Arch::Ppc64Le),
    ("ppc64", Arch::Ppc64),
    ("s390x", Arch::S390x),
];

/// What the script does by itself, whatever is installed.
const TOOLS: &str = r#"
fail() {
    printf 'error: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}

# Writes its input to a file, unless that is what is there already.
changed=no
put() {
    mkdir -p "${1%/*}"
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then
        rm -f "$1.new"
    else
        chmod 0644 "$1.new"
        mv -f "$1.new" "$1"
        changed=yes
        echo "wrote $1"
    fi
}

hex() {
    od -An -v -tx1 | tr -d ' \n'
}
"#;

/// The script for a component, or for one branch of it.
///
/// # Errors
/// The keyring is not here, or no pattern fits the images.
pub fn script(offer: &Offer<'_>, stem: Option<&Stem>) -> Result<String, ClientError> {
    let component = offer.component.name.as_str();
    let layout = Layout::of(offer.component);
    let keyring = match offer.trust {
        Trust::Unsigned => None,
        Trust::Signed(None) => return Err(ClientError::NoKeyring(component.to_owned())),
        Trust::Signed(Some(keyring)) => Some(keyring),
    };
    let mut out = format!(
        "#!/bin/sh\n# {}\n#\n# Installs {component} from {}\n# and keeps it up to date. Run it as root; again, at any time, it changes only what differs.\nset -eu\numask 022\n\nname={}\nfolder={}\nlink={}\n{TOOLS}\n",
        offer.description(),
        offer.folder(),
        shell(component),
        shell(&layout.folder),
        shell(&layout.link),
    );
    out.push_str(&checks(offer, keyring.is_some()));
    out.push_str("\nmkdir -p \"$folder\" \"${link%/*}\"\n");
    if let Some(keyring) = keyring {
        out.push_str(&install_keyring(keyring));
    }
    put(&mut out, &transfer::path(offer), &transfer::transfer(offer, stem)?.text);
    let units = machine::units(offer);
    let mut enable = Vec::new();
    for unit in &units {
        let Unit { name, enabled, contents, dropins } = unit;
        // Its other name is enabled, which systemctl follows; on older machines there is none of this one.
        if *enabled && name != TIMER_OF_262 {
            enable.push(name.as_str());
        }
        if let Some(contents) = contents {
            put(&mut out, &format!("/etc/systemd/system/{name}"), contents);
        }
        for (dropin, contents) in dropins {
            put(&mut out, &format!("/etc/systemd/system/{name}.d/{dropin}"), contents);
        }
    }
    out.push_str(&start(&layout, &enable));
    Ok(out)
}

/// What must be there. Nothing was changed before.
fn checks(offer: &Offer<'_>, signed: bool) -> String {
    let mut out = String::new();
    let mut arches = offer.arches();
    if arches.is_empty() {
        // Nothing is published yet: it may be by the time this is run.
        arches = offer.component.arch.keys().copied().collect();
    }
    if !arches.is_empty() {
        out.push_str("case $(uname -m) in\n");
        for (machine, arch) in MACHINES {
            let _ = writeln!(out, "{machine}) arch={arch} ;;");
        }
        let all: Vec<&str> = arches.iter().map(|arch| arch.as_str()).collect();
        let _ = writeln!(
            out,
            "*) arch=$(uname -m) ;;\nesac\ncase $arch in\n{}) ;;\n*) fail \"$name is not published for $arch\" 'there are images for {}' ;;\nesac",
            all.join(" | "),
            all.join(", "),
        );
    }
    let _ = writeln!(
        out,
        "[ \"$(id -u)\" = 0 ] || fail 'only root can install it' 'run it with sudo'
command -v systemctl >/dev/null || fail 'there is no systemd on this machine' 'updates need systemd {OLDEST} or newer'
systemd=$(systemctl --version | sed -n 's/^systemd \\([0-9]*\\).*/\\1/p')
[ \"${{systemd:-0}}\" -ge {OLDEST} ] || fail \"systemd ${{systemd:-of no known version}} is too old\" 'updates need systemd {OLDEST} or newer'
sysupdate={SYSUPDATE}
[ -x \"$sysupdate\" ] || fail 'there is no systemd-sysupdate on this machine' 'Debian has it in systemd-container'"
    );
    if let Some(merges) = Layout::of(offer.component).merges {
        let program = merges.trim_end_matches(".service");
        let _ = writeln!(
            out,
            "command -v {program} >/dev/null || fail 'there is no {program} on this machine' 'images are of no use without it'"
        );
    }
    if signed {
        out.push_str("command -v gpg >/dev/null || fail 'there is no gpg on this machine' 'systemd-sysupdate checks signatures with it'\n");
        out.push_str("command -v base64 >/dev/null || fail 'there is no base64 on this machine' 'it is part of coreutils'\n");
    }
    out
}

/// Adds the keys to those that the machine knows, which may be of other repositories.
fn install_keyring(keyring: &[u8]) -> String {
    let encoded = STANDARD.encode(keyring);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!(
        r#"
keyring=/etc/systemd/{KEYRING}
mkdir -p /etc/systemd
[ -e "$keyring" ] || : >"$keyring"
base64 -d >"$keyring.ours" <<'{END}'
{}
{END}
case $(hex <"$keyring") in
*"$(hex <"$keyring.ours")"*) ;;
*) cat "$keyring" "$keyring.ours" | put "$keyring" ;;
esac
rm -f "$keyring.ours"
"#,
        lines.join("\n")
    )
}

fn put(out: &mut String, path: &str, contents: &str) {
    let _ = write!(out, "\nput {} <<'{END}'\n{contents}{END}\n", shell(path));
}

/// The first update, and all that comes by itself from then on.
fn start(layout: &Layout, enable: &[&str]) -> String {
    let mut out = String::from(
        "\nbooted=no\n[ ! -d /run/systemd/system ] || booted=yes\nif [ $booted = yes ] && [ $changed = yes ]; then\n    systemctl daemon-reload\nfi\n\nbefore=$(readlink \"$link\" || :)\n# What is left of an update that was cut off keeps systemd 262 from all others.\n\"$sysupdate\" -C \"$name\" vacuum >/dev/null 2>&1 || :\n\"$sysupdate\" -C \"$name\" update || fail \"$name could not be updated\" 'the lines above say why'\nafter=$(readlink \"$link\" || :)\n[ -n \"$after\" ] || fail \"there is no image of $name\" 'the repository has none for this machine'\n",
    );
    let units: Vec<String> = enable.iter().map(|unit| shell(unit)).collect();
    let units = units.join(" ");
    let _ = write!(
        out,
        "\nif [ $booted = yes ]; then\n    systemctl enable --quiet --now {units}\nelse\n    systemctl enable --quiet {units}\nfi\n"
    );
    if let Some(merges) = layout.merges {
        let _ = write!(
            out,
            "if [ $booted = yes ]; then\n    systemctl reload-or-restart {merges}\nfi\n"
        );
    }
    out.push_str(
        "if [ \"$before\" = \"$after\" ]; then\n    echo \"$name is up to date: ${after##*/}\"\nelse\n    echo \"installed ${after##*/}\"\nfi\n",
    );
    out
}
