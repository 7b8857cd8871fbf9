//! x
#![allow(missing_docs)]
pub mod build;
pub mod cli;
pub mod config;
pub mod fetch;
pub mod image;
pub mod manifest;
pub mod name;
pub mod plan;
pub mod recipe;
pub mod report;
pub mod repository;
pub mod sign;
pub mod source;
pub mod store;
pub mod sync;
pub mod template;
pub mod version;
