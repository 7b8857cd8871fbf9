//! Names and versions: two and three of them, each on a line.
#![no_main]

use std::cmp::Ordering;

use libfuzzer_sys::fuzz_target;
use publish::name::{Arch, ComponentName, FileName, Folder, Sha256};
use publish::template::{Template, Vars};
use publish::version::{Version, compare, final_of, numbered, precedence, semver_of};

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let [a, b, c] = [(); 3].map(|()| lines.next().unwrap_or_default());
    for name in [a, b] {
        let _ = (name.parse::<Arch>(), name.parse::<Sha256>(), semver_of(name));
        let _ = (numbered(name), precedence(name), final_of(name));
        if let Ok(name) = name.parse::<ComponentName>() {
            assert_eq!(name.as_str().parse(), Ok(name));
        }
        if let Ok(name) = name.parse::<FileName>() {
            assert!(!name.as_str().contains('/') && name.as_str().starts_with(name.stem()));
        }
        if let Ok(folder) = name.parse::<Folder>() {
            assert!(!folder.as_str().split('/').any(|part| matches!(part, "." | "..")));
        }
    }
    // The order of versions is total, whatever they are.
    assert_eq!(compare(a, b), compare(b, a).reverse());
    assert_eq!(compare(a, a), Ordering::Equal);
    if compare(a, b).is_le() && compare(b, c).is_le() {
        assert!(compare(a, c).is_le(), "{a:?} {b:?} {c:?}");
    }
    if let (Ok(version), Ok(template)) = (a.parse::<Version>(), Template::parse(b)) {
        let vars = Vars {
            name: "x",
            version: version.as_str(),
            arch: "amd64",
            tag: c,
            url: "https://e.org/",
            ..Vars::default()
        };
        let _ = template.expand(&vars);
        let _ = template.matcher(&vars, &["amd64", "arm64"]).captures(c);
    }
});
