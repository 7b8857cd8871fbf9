//! Whole runs of the real program, as a user starts it, against servers in this process.
//!
//! Every test has a folder of its own with a configuration, an empty environment and a folder for
//! temporary files that must be empty again when the program ends. Nothing leaves the machine.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `repo` | a folder with a configuration, the program run in it, and reading what came out |
//! | `pack` | archives: honest and hostile ones |
//! | `scene` | a component whose upstream goes bad beside one whose upstream stays well |
//! | `web`, `github`, `forge`, `git`, `registry`, `s3`, `tls` | the servers |
//! | `objects` | a store whose operations wait, fail or never answer |
//! | `gpg` | gpg and gpgv, where the machine has them |
//! | the others | the tests, by topic |
#![allow(
    unreachable_pub,
    reason = "`pub` says what a module gives to the others; nobody is outside"
)]

mod actions;
mod book;
mod bucket;
mod build_command;
mod catalog;
mod client;
mod command_source;
mod commands;
mod companions;
mod config_errors;
mod crash;
mod dispatch;
mod erofs;
mod fears;
mod forge;
mod forge_source;
mod git;
mod git_source;
mod github;
mod github_source;
mod gpg;
mod help;
mod hostile;
mod http_source;
mod image;
mod index_source;
mod left;
mod lint;
mod matrix;
mod memory;
mod mirror;
mod moto;
mod network;
mod news;
mod objects;
mod oci;
mod offline;
mod pack;
mod page;
mod races;
mod recipe;
mod records;
mod registry;
mod release;
mod release_store;
mod repo;
mod resume;
mod retention;
mod revisions;
mod s3;
mod scene;
mod schema;
mod signing;
mod source_docs;
mod status;
mod store;
mod tailscale;
mod tls;
mod trial;
mod trust;
mod upstream;
mod verify;
mod verity;
mod versions;
mod waiting;
mod watch;
mod web;
mod yank;
