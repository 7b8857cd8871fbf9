//! Configuration files, and components.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use publish::config::{self, component};

fuzz_target!(|text: &str| {
    if let Err(error) = config::parse(Path::new("publish.toml"), text) {
        let _ = (error.to_string(), error.hint());
    }
    match component::parse("x".parse().unwrap(), Path::new("components/x.toml"), text) {
        Ok(component) => assert!(component.file.ends_with("x.toml")),
        Err(error) => {
            let _ = (error.to_string(), error.hint());
        }
    }
});
