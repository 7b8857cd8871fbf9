//! The `publish` program: parse, start, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use publish::cli::{self, Args};

fn main() -> ExitCode {
    cli::main(Args::parse())
}
