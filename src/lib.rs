//! `publish` turns upstream releases into a static repository of systemd-sysext images that machines
//! follow with systemd-sysupdate. There is no database: **the repository is the state.**
//!
//! # The way through
//!
//! Each arrow is one type, and nothing points back. `sync` reads like this picture.
//!
//! ```text
//! config ──▶ Component ──source──▶ Vec<Release> ─┐
//! store  ──▶ Published (what is there) ──────────┼─ plan ─▶ Plan { Vec<Action> }     no I/O, no clock
//!                                                │
//! Action::Build ─ fetch ─▶ arriving files ─ recipe ─▶ Tree ─ image ─▶ Image { name, sha256, size }
//!                                                │
//! Published + images − what went ─▶ Manifest ─ sign ─▶ SignedManifest ─ commit ─▶ store
//! Action::Sign ─────────────────────────────┘                              └─▶ files for nodes, pages
//! ```
//!
//! A dry run is the same way, left after the plan.
//!
//! From the first byte of a download to the image it is one pass: what comes in is hashed, written
//! down, decompressed, unpacked and compressed again while the rest is still on its way, and what the
//! recipe does not want goes nowhere. Nothing of it counts before every digest was checked.
//!
//! A mirror goes the same way: its source reads somebody's `SHA256SUMS`, and what arrives is the image. One
//! that is verbatim publishes their manifest and signatures, too, so that there is nothing to select, and
//! nothing of ours to sign; the order of writing is the same.
//!
//! # The rooms
//!
//! | room | owns | refuses to know |
//! |---|---|---|
//! | [`cli`] | arguments, stdout, exit codes | how anything is done |
//! | [`config`] | what may be written in a file, and where it is wrong | what it is for |
//! | [`name`], [`version`], [`template`] | what names look like, how clients order versions | who uses them |
//! | [`source`] | asking upstreams what they released | which releases are wanted |
//! | [`plan`] | choosing releases, comparing with what is published | I/O, time |
//! | [`fetch`] | URL → file: one gate and one cache for all, retries, limits | what the bytes are |
//! | [`trust`] | checksums, signatures, first use: what lets bytes in | how they come, what they are for |
//! | [`recipe`] | assets → tree of files; every hostile archive ends here | where images go |
//! | [`image`] | contents and a tree → `.raw`, and what is in one | where trees come from |
//! | [`lint`] | what images had better not be, and what that is called | how they are stored |
//! | [`stage`] | images that other machines made: orders for them, and what of them counts | stores, how images are made |
//! | [`build`] | one action: fetch, a command's own world, recipe, image, record | stores |
//! | [`trial`] | a finished image's program, run over a base | how images are made |
//! | [`child`] | programs that run for us, and their end | what they are run for |
//! | [`manifest`], [`sign`] | `SHA256SUMS`, who vouches for it and until when | files |
//! | [`repository`] | the layout, the order of writing, what goes and when, verification | upstreams |
//! | [`client`] | what a node needs to follow a component, and what clients make of a manifest | stores, upstreams |
//! | [`page`] | what people read: a page of all, of each component, a feed | stores, time |
//! | [`store`] | directories, buckets and releases: conditional writes, locks, uploads | manifests |
//! | [`sync`](mod@sync) | the order of the steps, and which failure stops what | the steps themselves |
//! | [`news`] | who is told what of a run, and that only once | how a run goes |
//! | [`systemd`] | what the service manager is told | what is done meanwhile |
//! | [`scratch`] | folders for a while, and what killed runs left of them | what is in them |
//! | [`report`] | progress on stderr, errors with causes and hints | what is done |
//!
//! # The rules
//!
//! - **At every instant, every line of the served `SHA256SUMS` names a file that is there with that
//!   hash.** [`repository::commit`] has the order that makes it so. A client takes the newest line
//!   and nothing else, so a wrong one stops every node.
//! - Whoever writes says what was there when the plan was made. If it is something else by now,
//!   nothing is written, and it is planned again: never merged.
//! - A published name never gets other bytes: what changed is a revision, `1.0-r1`.
//! - A line of the manifest never just vanishes: retention or a yank names it, the catalogue remembers
//!   it, and only then, after a grace, its file goes.
//! - The manifest vouches for what is there: a run without anything to do looks at the files of the
//!   versions that are wanted, and neither lists, opens nor hashes the others.
//! - Only a true "not found" means absent. Any other error is an error, and stops what it concerns.
//! - One component's failure never stops another, and its last good images stay listed.
//! - What runs for us ends with us, with all that it started, and has no network unless somebody said so.
//! - Everything from outside is hostile. Archives are unpacked into values: none of their paths
//!   becomes a path on this machine.
//! - The same inputs give the same bytes on every machine, at any time.
//! - Nothing changed means nothing written, but for a signature that is stale or soon out of date.
//! - A secret is in a file or in the environment, and after that only in the module that shows it:
//!   [`sign::key`], or the credentials of [`fetch`].
//! - An upstream URL is asked once a run, whoever wants it, and what one request learned of a host
//!   holds for all.
//! - Closed sets are enums, and an exhaustive `match` is the checklist for the next member. Values
//!   move forward. Each room has a small error type; `anyhow` is only in [`cli`] and [`sync`](mod@sync).

pub mod build;
pub mod child;
pub mod cli;
pub mod client;
pub mod config;
pub mod fetch;
pub mod image;
pub mod lint;
pub mod manifest;
pub mod name;
pub mod news;
pub mod page;
pub mod plan;
pub mod recipe;
pub mod report;
pub mod repository;
pub mod scratch;
pub mod sign;
pub mod source;
pub mod stage;
pub mod store;
pub mod sync;
pub mod systemd;
pub mod template;
pub mod trial;
pub mod trust;
pub mod version;
