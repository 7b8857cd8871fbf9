//! The real consumers of a repository, against repositories that the real `publish` wrote.
//!
//! Nothing here is a stand-in: systemd-sysupdate and systemd-sysext 257 run in a Debian trixie root
//! that `tests/real/setup` prepares, `unsquashfs` and the kernel read the images, and `publish` is
//! driven through its command line and its configuration alone, as a user drives it.
//!
//! It needs root and that prepared root, so a plain `cargo test` lists these tests as ignored:
//!
//! ```text
//! tests/real/setup
//! cargo test --test real -- --ignored --test-threads=1
//! ```
//!
//! | module | what it owns |
//! | --- | --- |
//! | `upstream` | the release tarballs of a small service |
//! | `workspace` | a folder with a configuration, and `publish` run in it |
//! | `web` | the servers a node fetches from |
//! | `node` | a throw-away machine over the prepared root |
//! | `sysupdate` | systemd-sysupdate on a node |
//! | `standin` | GitHub, as far as a publisher and a node meet it; shared with `tests/it` |
//! | `gpg` | gpg of this machine, for keys that are not ours; shared with `tests/it` |
//! | `client`, `follow`, `github`, `hosting`, `mirror`, `signed`, `merge`, `consumers`, `container`, `erofs`, `packages`, `revisions`, `verity`, `versions` | the tests |
//!
//! `PUBLISH_BIN` names another binary to test, such as a packaged one; `PUBLISH_REAL_ROOT` another
//! prepared root.

mod client;
mod consumers;
mod container;
mod erofs;
mod follow;
mod github;
#[path = "../it/gpg.rs"]
#[expect(dead_code, reason = "here it only makes keys")]
mod gpg;
mod hosting;
mod merge;
mod mirror;
mod node;
mod packages;
mod revisions;
mod signed;
mod standin;
mod sysupdate;
mod upstream;
mod verity;
mod versions;
mod web;
mod workspace;
