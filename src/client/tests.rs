use std::path::Path;

use serde_json::{Value as Json, json};

use super::machine::Machine;
use super::yaml::{Node, Value};
use super::*;
use crate::config::component;
use crate::manifest::Manifest;

const URL: &str = "https://files.example.com/";

const TAILSCALE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/components/tailscale.toml"));

fn component(name: &str, text: &str) -> Component {
    component::parse(name.parse().unwrap(), Path::new("components/x.toml"), text).unwrap()
}

fn simple(more: &str) -> Component {
    component("x", &format!("[source.github]\nrepo = \"o/r\"\n{more}"))
}

/// A manifest with these names.
fn manifest(names: &[&str]) -> Manifest {
    let mut manifest = Manifest::default();
    for name in names {
        manifest.add(name.parse().unwrap(), Sha256::of(name.as_bytes())).unwrap();
    }
    manifest
}

/// What is offered of a component whose manifest has these names.
fn with<T>(
    component: &Component,
    trust: &Trust,
    names: &[&str],
    see: impl FnOnce(&Offer<'_>) -> T,
) -> T {
    let images = emulate::images(component, &manifest(names));
    let url = Url::parse(URL).unwrap();
    see(&Offer { component, url: &url, trust, images: &images })
}

const TWO: [&str; 3] =
    ["tailscale-1.9.0-x86-64.raw", "tailscale-1.58.1-x86-64.raw", "tailscale-1.58.1-arm64.raw"];

fn signed() -> Trust {
    Trust::Signed(Some(b"a keyring".to_vec()))
}

/// A Butane file as Ignition: what butane itself does with the little that is used here.
fn translate(text: &str) -> Json {
    fn get<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
        node.get(key).map(|value| value.text().unwrap())
    }
    fn list<'n>(root: &'n Node, section: &str, name: &str) -> &'n [Node] {
        root.get(section).unwrap().get(name).unwrap().items()
    }
    let root = yaml::read(text).unwrap();
    assert!(["flatcar", "fcos"].contains(&get(&root, "variant").unwrap()));
    let files = list(&root, "storage", "files").iter().map(|file| {
        let contents = file.get("contents").unwrap();
        let inline = get(contents, "inline").map(|text| ignition::data(text.as_bytes()));
        let source = inline.or_else(|| get(contents, "source").map(str::to_owned)).unwrap();
        let mut resource = json!({ "source": source });
        if let Some(verification) = contents.get("verification") {
            resource["verification"] = json!({ "hash": get(verification, "hash") });
        }
        let mode = u32::from_str_radix(get(file, "mode").unwrap(), 8).unwrap();
        json!({ "path": get(file, "path"), "contents": resource, "mode": mode })
    });
    let links = list(&root, "storage", "links").iter().map(|link| {
        let hard: bool = get(link, "hard").unwrap().parse().unwrap();
        json!({ "path": get(link, "path"), "hard": hard, "target": get(link, "target") })
    });
    let units = list(&root, "systemd", "units").iter().map(|unit| {
        let mut made = json!({ "name": get(unit, "name") });
        if let Some(enabled) = get(unit, "enabled") {
            made["enabled"] = enabled.parse::<bool>().unwrap().into();
        }
        if let Some(contents) = get(unit, "contents") {
            made["contents"] = contents.into();
        }
        if let Some(dropins) = unit.get("dropins") {
            let dropins = dropins
                .items()
                .iter()
                .map(|one| json!({ "name": get(one, "name"), "contents": get(one, "contents") }));
            made["dropins"] = dropins.collect();
        }
        made
    });
    json!({
        "ignition": { "version": "3.3.0" },
        "storage": { "files": files.collect::<Json>(), "links": links.collect::<Json>() },
        "systemd": { "units": units.collect::<Json>() },
    })
}

#[test]
fn the_well_known_node() {
    let tailscale = component("tailscale", TAILSCALE);
    with(&tailscale, &signed(), &TWO, |offer| {
        let node = Machine::new(offer, Arch::X86_64, None).unwrap();
        let title = butane::title(offer, Arch::X86_64, None);
        let flatcar = butane::render(&node, butane::Variant::Flatcar, &title);
        let json = ignition::render(&node);
        assert_eq!(translate(&flatcar), serde_json::from_str::<Json>(&json).unwrap());
        insta::assert_snapshot!(
            "tailscale.transfer",
            transfer::transfer(offer, None).unwrap().text
        );
        insta::assert_snapshot!("tailscale.component", definition::component(offer));
        insta::assert_snapshot!("tailscale.feature", definition::feature(offer));
        insta::assert_snapshot!("tailscale.bu", flatcar);
        insta::assert_snapshot!("tailscale.ign", json);
        insta::assert_snapshot!("tailscale.sh", script::script(offer, None).unwrap());
        let fcos = butane::render(&node, butane::Variant::Fcos, &title);
        assert!(fcos.contains("\nvariant: fcos\nversion: 1.6.0\n"), "{fcos}");
        assert_eq!(translate(&fcos), translate(&flatcar));
    });
}

#[test]
fn every_kind_of_component_is_the_same_in_butane_and_ignition() {
    for more in [
        "",
        "[services]\nenable = [\"a.service\", \"b.socket\", \"c@.service\", 'd\\x2de.service']\n",
        "[extension]\nkind = \"confext\"\n[files]\n\"etc/x\" = { text = \"\" }\n",
        "[image]\nformat = \"none\"\nname = \"{name}-{version}-{arch}.efi\"\n[[asset]]\nname = \"y\"\n",
        "[versions]\nper = \"minor\"\n",
    ] {
        let component = simple(more);
        let name = if more.contains("efi") { "x-1.2.3-arm64.efi" } else { "x-1.2.3-arm64.raw" };
        for trust in [Trust::Unsigned, signed()] {
            with(&component, &trust, &[name], |offer| {
                for stem in [None].into_iter().chain(offer.stems().iter().map(Some)) {
                    let node = Machine::new(offer, Arch::Arm64, stem).unwrap();
                    let butane = butane::render(&node, butane::Variant::Flatcar, "x");
                    let json: Json = serde_json::from_str(&ignition::render(&node)).unwrap();
                    assert_eq!(translate(&butane), json, "{more}");
                }
            });
        }
    }
}

#[test]
fn what_is_asked_of_a_signature_is_what_there_is() {
    let x = simple("");
    for (trust, line) in [(Trust::Unsigned, "Verify=no"), (signed(), "Verify=yes")] {
        let transfer = with(&x, &trust, &[], |offer| transfer::transfer(offer, None).unwrap());
        assert!(transfer.text.contains(&format!("\n{line}\n")), "{}", transfer.text);
    }
    with(&x, &Trust::Signed(None), &["x-1-arm64.raw"], |offer| {
        let error = Machine::new(offer, Arch::Arm64, None).unwrap_err();
        assert!(matches!(error, ClientError::NoKeyring(_)), "{error}");
    });
}

#[test]
fn without_an_image_there_is_a_transfer_but_no_node() {
    with(&simple(""), &Trust::Unsigned, &["x-1-arm64.raw"], |offer| {
        assert!(transfer::transfer(offer, None).is_ok() && script::script(offer, None).is_ok());
        let error = Machine::new(offer, Arch::X86_64, None).unwrap_err();
        assert_eq!(error.to_string(), "nothing is published of x for x86-64");
    });
}

#[test]
fn each_branch_has_a_transfer_that_sees_only_its_own() {
    let names = [
        "x-1.31.2-arm64.raw",
        "x-1.31.10-r1-arm64.raw",
        "x-1.32.0-arm64.raw",
        "x-1.310.0-arm64.raw",
        "x-2.0-arm64.raw",
    ];
    let minor = simple("[versions]\nper = \"minor\"\n");
    with(&minor, &Trust::Unsigned, &names, |offer| {
        let transfers = transfer::transfers(offer).unwrap();
        let files: Vec<&str> = transfers.iter().map(|one| one.file.as_str()).collect();
        let all = [
            "x.transfer",
            "x-v1.31.transfer",
            "x-v1.32.transfer",
            "x-v1.310.transfer",
            "x-v2.0.transfer",
        ];
        assert_eq!(files, all);
        // 2.0 is the only one of its branch, and no pattern sees that and 2.0.1, but not 2.00.
        assert!(transfers[4].text.contains("\nMatchPattern=x-2.0.@v-%a.raw\n"));
        assert!(offer.newest(Arch::Arm64, transfers[4].stem.as_ref()).is_none());
        assert!(transfers[1].text.contains("\nMatchPattern=x-1.31.@v-%a.raw\n"));
        let newest = offer.newest(Arch::Arm64, transfers[1].stem.as_ref()).unwrap();
        assert_eq!(newest.name.as_str(), "x-1.31.10-r1-arm64.raw");
        assert_eq!(emulate::check(offer, &manifest(&names)).unwrap(), []);
        assert_eq!(offer.stem("v1.32").unwrap().text, "1.32.");
        let hint = offer.stem("1.3").unwrap_err().hint();
        assert_eq!(hint, "there are: 1.31, 1.32, 1.310, 2.0");
    });
    let major = simple("[versions]\nper = \"major\"\n");
    with(&major, &Trust::Unsigned, &names, |offer| {
        let stems: Vec<String> = offer.stems().into_iter().map(|stem| stem.text).collect();
        assert_eq!(stems, ["1.", "2."]);
    });
    for (names, stems) in [
        // A revision is of the same version; what is no patch level, and what is none of ours, are not.
        (["x-1.31-r2-arm64.raw"], &["1.31."][..]),
        (["x-1.31-rc1-arm64.raw"], &[]),
        (["x-1.31+k3s1-arm64.raw"], &[]),
    ] {
        with(&minor, &Trust::Unsigned, &names, |offer| {
            let found: Vec<String> = offer.stems().into_iter().map(|stem| stem.text).collect();
            assert_eq!(found, stems, "{names:?}");
        });
    }
    with(&minor, &Trust::Unsigned, &["x-v1.31.2-arm64.raw"], |offer| {
        assert_eq!(offer.stems(), [Stem { name: "1.31".to_owned(), text: "v1.31.".to_owned() }]);
    });
}

#[test]
fn what_would_win_instead_is_named() {
    let x = simple("");
    let ours = ["x-1.0-arm64.raw", "x-1.1-arm64.raw", "x-1.0-x86-64.raw"];
    with(&x, &Trust::Unsigned, &ours, |offer| {
        assert_eq!(emulate::check(offer, &manifest(&ours)).unwrap(), []);
        let more = [&ours[..], &["x-9.9-custom-arm64.raw", "y-10-arm64.raw"]].concat();
        let misled = emulate::check(offer, &manifest(&more)).unwrap();
        let told: Vec<String> = misled.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "systemd 257 on arm64 with x.transfer would take x-9.9-custom-arm64.raw instead of x-1.1-arm64.raw",
                "systemd 262 on arm64 with x.transfer would take x-9.9-custom-arm64.raw instead of x-1.1-arm64.raw",
            ]
        );
        // Of two that clients hold equal, either may win.
        let equal = [&ours[..], &["x-01.1-arm64.raw"]].concat();
        let misled = emulate::check(offer, &manifest(&equal)).unwrap();
        assert_eq!(misled[0].takes.as_deref(), Some("x-01.1-arm64.raw"));
        let gone = emulate::check(offer, &manifest(&["x-1.1-arm64.raw"])).unwrap();
        assert!(gone[0].to_string().contains("would take nothing instead of x-1.0-x86-64.raw"));
    });
}

#[test]
fn a_name_that_no_pattern_fits_is_refused() {
    let x = simple("[image]\nname = \"{version}-{version}-{arch}.raw\"\n");
    with(&x, &Trust::Unsigned, &[], |offer| {
        let error = transfer::transfer(offer, None).unwrap_err();
        assert!(error.hint().contains("stands once"), "{error}");
    });
}

#[test]
fn percent_signs_and_ats_of_an_address_stay_what_they_are() {
    let x = component(
        "x",
        "homepage = \"https://e.org/@v/%41\"\n[source.git]\nurl = \"https://e.org/r\"\n",
    );
    let url = Url::parse("https://e.org/a%20b").unwrap();
    let offer = Offer { component: &x, url: &url, trust: &Trust::Unsigned, images: &[] };
    let text = transfer::transfer(&offer, None).unwrap().text;
    assert!(text.contains("\nPath=https://e.org/a%%20b/x/\n"), "{text}");
    assert!(text.contains("\nChangeLog=https://e.org/%%40v/%%41\n"), "{text}");
}

#[test]
fn several_components_share_what_is_the_same() {
    let (a, b) = (component("a", TAILSCALE), component("b", TAILSCALE));
    let mut node = with(&a, &signed(), &["a-1-arm64.raw"], |offer| {
        Machine::new(offer, Arch::Arm64, None).unwrap()
    });
    let other = with(&b, &signed(), &["b-1-arm64.raw"], |offer| {
        Machine::new(offer, Arch::Arm64, None).unwrap()
    });
    node.add(other.clone()).unwrap();
    node.add(other).unwrap();
    let keyrings = node.files.iter().filter(|file| file.path.ends_with("pubring.gpg")).count();
    assert_eq!((node.files.len(), keyrings, node.links.len()), (5, 1, 2));
    let update = node.units.iter().find(|unit| unit.name == "systemd-sysupdate.service").unwrap();
    let names: Vec<&str> = update.dropins.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["10-a.conf", "20-sysext.conf", "30-no-transfers-of-its-own.conf", "10-b.conf"]
    );
    let foreign = with(&b, &Trust::Signed(Some(vec![1])), &["b-2-arm64.raw"], |offer| {
        Machine::new(offer, Arch::Arm64, None).unwrap()
    });
    assert!(matches!(node.add(foreign), Err(ClientError::Clash { .. })));
}

/// Descriptions that mean something somewhere.
fn hostile() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let piece = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "\n",
            "\r\n",
            "\\",
            "\\\n",
            "%",
            "%n",
            "'",
            "\"",
            "$(id)",
            "`id`",
            "END_OF_FILE",
            "\nEND_OF_FILE\n",
            "[Service]",
            "\nExecStart=/bin/sh",
            "<script>",
            "\u{202e}",
            "\u{2028}",
            "\u{feff}",
            "\u{85}",
            "---",
            "...",
            "- a: b",
            "#",
            "{{",
            "&x",
            "*x",
            "!!t",
            "\t",
            "\0",
            ";",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest::proptest! {
    #[test]
    fn a_description_is_inert_everywhere(description in hostile()) {
        let plain = Component { description: Some("plain".to_owned()), ..component("tailscale", TAILSCALE) };
        let odd = Component { description: Some(description), ..plain.clone() };
        let texts = |component: &Component| {
            with(component, &signed(), &TWO, |offer| {
                let node = Machine::new(offer, Arch::X86_64, None).unwrap();
                let title = butane::title(offer, Arch::X86_64, None);
                let butane = butane::render(&node, butane::Variant::Flatcar, &title);
                let json: Json = serde_json::from_str(&ignition::render(&node)).unwrap();
                assert_eq!(translate(&butane), json);
                [
                    transfer::transfer(offer, None).unwrap().text,
                    definition::component(offer),
                    definition::feature(offer),
                    butane,
                    script::script(offer, None).unwrap(),
                ]
            })
        };
        for (plain, odd) in texts(&plain).iter().zip(&texts(&odd)) {
            // Line by line the same, but for lines that are a comment or a description.
            proptest::prop_assert_eq!(plain.lines().count(), odd.lines().count());
            for (plain, odd) in plain.lines().zip(odd.lines()) {
                if plain != odd {
                    let inert = odd.trim_start().starts_with("# ") || odd.starts_with("Description=");
                    proptest::prop_assert!(inert, "{}", odd);
                    proptest::prop_assert!(!odd.ends_with('\\') && !odd.contains(char::is_control), "{}", odd);
                }
            }
        }
    }

    /// What we take for the newest is what both clients take, whatever versions and names there are.
    #[test]
    fn clients_take_what_is_the_newest(
        versions in proptest::collection::btree_set("[0-9]{1,2}(\\.[0-9]{1,2}){0,2}(-r[1-9]|\\+k3s[0-9]|-rc[0-9])?", 1..12),
        template in proptest::sample::select(vec!["{name}-{version}-{arch}.raw", "{name}_{version}_{arch}.raw", "{version}{arch}.raw", "{arch}-{version}.raw"]),
        per in proptest::sample::select(vec!["", "[versions]\nper = \"minor\"\n", "[versions]\nper = \"major\"\n"]),
    ) {
        let x = simple(&format!("[image]\nname = \"{template}\"\n{per}"));
        // Of versions that clients hold equal, only one is ever published.
        let mut names: Vec<String> = Vec::new();
        let mut taken: Vec<&String> = Vec::new();
        for version in &versions {
            if taken.iter().any(|other| crate::version::compare(version, other).is_eq()) {
                continue;
            }
            taken.push(version);
            for arch in ["arm64", "x86-64"] {
                let named = template.replace("{name}", "x").replace("{version}", version);
                names.push(named.replace("{arch}", arch));
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        with(&x, &Trust::Unsigned, &names, |offer| {
            let misled = emulate::check(offer, &manifest(&names)).unwrap();
            assert!(misled.is_empty(), "{}", misled[0]);
        });
    }
}

#[test]
fn a_literal_is_read_back_as_it_was() {
    // What the translation above takes for granted.
    let Value::Scalar(text, plain) = yaml::read("|\n  a\n  # b\n").unwrap().value else { panic!() };
    assert_eq!((text.as_str(), plain), ("a\n# b\n", false));
}
