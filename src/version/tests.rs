//! Tests of versions.

use super::*;

#[test]
fn the_order_is_the_clients() {
    // Each seen with `systemd-analyze compare-versions`.
    let ascending = [
        ("1.9", "1.10"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0^post1"),
        ("1.0", "1.0.0"),
        ("1.0-1", "1.0.1"),
        ("1.0", "1.0-rc1"),
        ("1.0", "1.0rc1"),
        ("1.0.1", "1.0+build"),
        ("v1.11", "1.2"),
        ("1.0", "1.0-r1"),
        ("1.0-r1", "1.0-r2"),
        ("1.0-r2", "1.0.1"),
        ("", "0"),
        ("a", "b"),
        ("A", "a"),
        ("1.9", "1.99999999999999999999999999"),
    ];
    for (old, new) in ascending {
        assert_eq!(compare(old, new), Ordering::Less, "{old} < {new}");
        assert_eq!(compare(new, old), Ordering::Greater, "{new} > {old}");
    }
    for (a, b) in [("01.0", "1.0"), ("1_5", "1,5"), ("1+5", "1_5"), ("", "")] {
        assert_eq!(compare(a, b), Ordering::Equal, "{a} == {b}");
    }
}

#[test]
fn revisions_are_told_from_versions() {
    let version = |text: &str| text.parse::<Version>().unwrap();
    assert_eq!(version("1.0").revised(2).unwrap(), version("1.0-r2"));
    assert_eq!(version("1.0").revised(0).unwrap(), version("1.0"));
    assert_eq!(version("1.0-r12").unrevised(), Some((version("1.0"), 12)));
    for none in
        ["1.0", "1.0-rc1", "1.0-r", "1.0-r0", "1.0-r01", "1.0-r-1", "r1", "1.0-r99999999999"]
    {
        assert_eq!(version(none).unrevised(), None, "{none}");
    }
    assert!(version(&"1".repeat(127)).revised(1).is_err());
}

#[test]
fn a_version_no_client_reads_is_refused() {
    for bad in ["", "1.0 beta", "1/2", "1%2", "1\n2", "1.0~rc1", "-1", "é", &"1".repeat(129)] {
        assert!(bad.parse::<Version>().is_err(), "{bad:?} was taken");
    }
}

#[test]
fn upstream_versions_read_as_semver() {
    assert_eq!(semver_of("1.58").unwrap().to_string(), "1.58.0");
    assert_eq!(semver_of("2024.01.05").unwrap().to_string(), "2024.1.5");
    assert_eq!(semver_of("1.31.2+k3s1").unwrap().build.as_str(), "k3s1");
    assert_eq!(semver_of("1-rc1").unwrap().pre.as_str(), "rc1");
    for none in ["", "latest", "1.2.3.4", "1..2"] {
        assert_eq!(semver_of(none), None, "{none}");
    }
}

#[test]
fn the_numbers_of_any_version_are_read() {
    for (version, numbers) in [
        ("1", "1.0.0"),
        ("v1.31.2+k3s1", "1.31.2"),
        ("1.31.2-rc1", "1.31.2"),
        ("1.2.3.4", "1.2.3"),
        ("1.2-3", "1.2.0"),
        ("2024-05-01", "2024.5.1"),
        ("2024_05", "2024.5.0"),
        ("20240501", "20240501.0.0"),
        ("2024.1-rc.2", "2024.1.0"),
        ("r123", "123.0.0"),
        ("release-1.2", "1.2.0"),
        ("3.5a", "3.5.0"),
        ("1..2", "1.0.0"),
    ] {
        assert_eq!(numbered(version).unwrap().to_string(), numbers, "{version}");
    }
    for none in ["", "nightly", "v", "99999999999999999999999"] {
        assert_eq!(numbered(none), None, "{none}");
    }
}

/// Kinds of versions that upstreams use, each in the order they were released in.
#[test]
fn every_kind_of_version_orders_sensibly() {
    for kind in [
        &["2023-12-31", "2024-05-01", "2024-05-10", "2024-11-02"][..],
        &["20231231", "20240501", "20241102"],
        &["2024.1", "2024.2", "2024.10", "2025.1"],
        &["1.2.3.4", "1.2.3.10", "1.2.4.0", "1.10.0.0"],
        &["1.31.2+k3s1", "1.31.2+k3s2", "1.31.3+k3s1", "1.31.10+k3s1", "1.32.0+k3s1"],
        &["9", "10", "111"],
        &["1.2.3-1", "1.2.3-2", "1.2.3-10", "1.2.4-1"],
        &["r99", "r123", "r1000"],
        &["release-1.2", "release-1.10", "release-2.0"],
        &["v1.2", "v1.10"],
        &["1.0.2", "1.0.2a", "1.0.2w", "1.0.3"],
    ] {
        for pair in kind.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert!(numbered(pair[0]) <= numbered(pair[1]), "{pair:?}");
            assert_eq!(final_of(pair[0]), None, "{pair:?}");
        }
    }
}

#[test]
fn a_pre_release_above_its_final_is_seen() {
    let outlives = |v: &str| final_of(v).is_some_and(|last| compare(v, last).is_gt());
    for bad in [
        "1.0.0-rc1",
        "1.0-beta.2",
        "1.1.0rc1",
        "1.1.0b2",
        "1.6.0RC2",
        "1.2.0_beta1",
        "1.3.0.alpha1",
        "1.4.0dev",
        "1.7.0.pre",
        "1.0.0c1",
    ] {
        assert!(outlives(bad), "{bad}");
    }
    for good in [
        "1.0.0",
        "1.0.0+build-5",
        "3.5a",
        "1.0.2w",
        "2024-01-05",
        "20240105",
        "1.2.3.4",
        "1.0-5",
        "1.0.0-1",
        "8.0.36-28",
        "1.31.2+k3s1",
        "r23",
    ] {
        assert!(!outlives(good), "{good}");
        assert_eq!(final_of(good), None, "{good}");
    }
    assert_eq!(final_of("1.1.0rc1"), Some("1.1.0"));
    assert_eq!(final_of("1.3.0.alpha1"), Some("1.3.0"));
}
