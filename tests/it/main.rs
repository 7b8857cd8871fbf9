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
//! | `web`, `github` | the servers |
//! | the others | the tests, by topic |
#![allow(
    unreachable_pub,
    reason = "`pub` says what a module gives to the others; nobody is outside"
)]

mod commands;
mod config_errors;
mod fears;
mod github;
mod github_source;
mod help;
mod hostile;
mod http_source;
mod image;
mod memory;
mod offline;
mod pack;
mod recipe;
mod repo;
mod scene;
mod store;
mod tailscale;
mod upstream;
mod web;
