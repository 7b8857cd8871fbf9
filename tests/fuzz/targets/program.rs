//! Programs in images: what they need, however damaged they are.
#![no_main]

use std::cell::Cell;
use std::io::Read;

use libfuzzer_sys::fuzz_target;
use publish::lint::program::{Reopened, read};

fuzz_target!(|bytes: &[u8]| {
    let left = Cell::new(1 << 20);
    let open = Box::new(move || -> std::io::Result<Box<dyn Read + '_>> { Ok(Box::new(bytes)) });
    let Some(program) = read(Reopened { open, length: bytes.len() as u64, left: &left }) else {
        return;
    };
    assert!(program.needed.len() <= 256 && program.search.len() <= 16);
    assert!(program.interpreter.is_none_or(|path| path.len() <= 4096));
});
