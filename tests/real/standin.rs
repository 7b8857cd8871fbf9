//! The stand-in for GitHub of `tests/it`, for a real node to follow.

#[expect(unused_imports, reason = "here nobody dies")]
#[path = "../it/github.rs"]
pub mod github;
#[path = "../it/web.rs"]
pub mod web;
