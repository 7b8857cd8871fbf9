//! Downloads that break off, and what becomes of the rest.

use crate::scene::{PROGRAM, Scene};
use crate::web::{Fault, Request};

/// Bytes that are the same nowhere, so that a wrong place would show.
fn content(length: usize) -> Vec<u8> {
    let mut x = 7_u32;
    let next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn asset(scene: &Scene) -> Vec<Request> {
    scene.web.requests().into_iter().filter(|request| request.path == "/bad-1.1").collect()
}

/// Version 1.1 with these bytes, and what goes wrong on the way, in order.
fn scene(bytes: &[u8], faults: Vec<Fault>) -> Scene {
    let scene = Scene::program();
    scene.serve(&PROGRAM, "1.1", bytes);
    for fault in faults {
        scene.web.fault("/bad-1.1", fault, 1);
    }
    scene
}

#[track_caller]
fn arrives(scene: &Scene, bytes: &[u8]) -> Vec<Request> {
    scene.heals();
    let image = scene.repo.image("bad", "bad-1.1-x86-64.raw");
    let node = &image.files["usr/bin/bad"];
    let crate::repo::Node::File { bytes: there, .. } = node else { panic!("{node:?}") };
    assert!(there == bytes, "{} bytes, not {}", there.len(), bytes.len());
    let asked = asset(scene);
    assert!(asked.iter().all(|request| request.header("accept-encoding").is_none()), "{asked:?}");
    asked
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Fault::Answer { status, headers: headers.collect(), body: body.to_owned() }
}

#[test]
fn the_rest_is_asked_for_wherever_it_broke_off() {
    let bytes = content(700_000);
    std::thread::scope(|scope| {
        for cut in [1, 4095, 262_144, 262_145, 699_999] {
            let bytes = &bytes;
            scope.spawn(move || {
                let scene = scene(bytes, vec![Fault::Truncate(cut)]);
                let asked = arrives(&scene, bytes);
                assert_eq!(asked.len(), 2, "cut at {cut}: {asked:?}");
                // A piece that was on its way when the connection ended may be lost.
                let range = asked[1].header("range").expect("a range");
                let from: usize =
                    range["bytes=".len()..].trim_end_matches('-').parse().expect("a number");
                assert!((1..=cut).contains(&from), "cut at {cut}: {range}");
                assert_eq!(asked[1].status, 206);
                assert!(asked[1].header("if-range").is_some_and(|tag| tag.starts_with('"')));
            });
        }
    });
}

#[test]
fn it_may_break_off_more_often_than_it_is_tried_if_it_comes_forward() {
    let bytes = content(7 << 20);
    let scene = scene(&bytes, vec![Fault::Truncate(3 << 19); 4]);
    let asked = arrives(&scene, &bytes);
    assert_eq!(asked.len(), 5, "{asked:?}");
}

#[test]
fn a_server_that_knows_no_ranges_sends_it_again() {
    let text = "a file without a place in it ".repeat(100);
    let scene = scene(text.as_bytes(), vec![Fault::Truncate(100), answer(200, &[], &text)]);
    let asked = arrives(&scene, text.as_bytes());
    assert_eq!((asked.len(), asked[1].status), (2, 200));
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_anew() {
    let (old, new) = ("old ".repeat(1000), "new ".repeat(900));
    let changed = answer(200, &[("etag", "\"new\"")], &new);
    let scene = scene(old.as_bytes(), vec![Fault::Truncate(1000), changed]);
    arrives(&scene, new.as_bytes());
}

#[test]
fn another_part_than_was_asked_for_is_not_taken() {
    let text = "0123456789".repeat(50);
    let rest = &text[100..];
    for wrong in [
        answer(206, &[("content-range", "bytes 99-499/500")], rest),
        answer(206, &[("content-range", "bytes 100-498/500")], rest),
        answer(206, &[("content-range", "bytes 100-499/501")], rest),
        answer(206, &[("content-range", "bytes 100-499/*")], rest),
        answer(206, &[("content-range", "bytes 100-18446744073709551615/0")], rest),
        answer(206, &[("content-range", "elephants 100-499/500")], rest),
        answer(206, &[], rest),
        answer(206, &[("content-range", "bytes 100-499/500"), ("etag", "\"other\"")], rest),
        answer(206, &[("content-range", "bytes 100-499/500"), ("content-encoding", "gzip")], rest),
        answer(416, &[("content-range", "bytes */50")], ""),
    ] {
        let shown = format!("{wrong:?}");
        let scene = scene(text.as_bytes(), vec![Fault::Truncate(100), wrong]);
        let asked = arrives(&scene, text.as_bytes());
        assert_eq!(asked.len(), 3, "{shown}: {asked:?}");
        assert_eq!(asked[2].header("range"), None, "{shown}");
    }
}

#[test]
fn a_file_with_a_weak_tag_is_not_gone_on_with() {
    let bytes = content(2000);
    let scene = scene(&bytes, vec![Fault::Truncate(1000)]);
    scene.web.weaken("/bad-1.1");
    let asked = arrives(&scene, &bytes);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[1].header("range"), None);
}

#[test]
fn a_part_that_nobody_asked_for_is_refused() {
    let scene = Scene::program();
    let part = answer(206, &[("content-range", "bytes 0-3/9000")], "part");
    scene.web.fault("/bad-1.1", part, usize::MAX);
    scene.fails("bad 1.1 x86-64", &["206", "a part where the whole was asked for"]);
}
