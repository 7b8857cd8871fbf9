//! Memory: an image is streamed, however large.

use std::fs::{self, File};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use crate::pack::noise;
use crate::repo::{Repo, Running};

const MIB: usize = 1 << 20;

/// Builds an image of `size` MiB from an archive of a few files, and gives the most memory it took.
fn peak(size: usize) -> usize {
    let repo = Repo::new();
    repo.write("components/big-releases/big-1.0.tar", "");
    let file = File::create(repo.path("components/big-releases/big-1.0.tar")).unwrap();
    let mut archive = tar::Builder::new(file);
    let block = noise(MIB);
    for number in 0..3 {
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("big{number}")).unwrap();
        header.set_mode(0o755);
        header.set_size((size / 3 * MIB) as u64);
        header.set_cksum();
        let blocks = (0..size / 3).map(|index| {
            // Equal blocks would be stored once.
            let mut block = block.clone();
            block
                .chunks_exact_mut(4096)
                .for_each(|page| page[0] ^= u8::try_from(index % 251).unwrap() + number);
            block
        });
        archive.append(&header, Blocks { next: blocks, left: Vec::new(), at: 0 }).unwrap();
    }
    archive.into_inner().unwrap().flush().unwrap();
    repo.component(
        "big",
        "[source.directory]\npath = \"big-releases\"\nmatch = \"big-{version}.tar\"\n[[asset]]\nname = \"big-{version}.tar\"\n[asset.files]\n\"usr/bin/\" = \"big*\"\n[image]\ncompression = \"lz4\"\n",
    );
    let running =
        Running::start(repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    let status = format!("/proc/{}/status", running.id());
    let waiting = std::thread::spawn(move || running.wait());
    let mut most = 0;
    while !waiting.is_finished() {
        // The high-water mark only grows, so the last look before the end is the right one.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib =
            line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
        most = most.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let (ended, said) = waiting.join().unwrap();
    assert!(ended.success(), "{said}");
    let image = fs::metadata(repo.path("public/big/big-1.0-x86-64.raw")).unwrap().len();
    assert!(
        image > (size * MIB / 10 * 9) as u64,
        "noise does not compress, but the image has {image} bytes"
    );
    most / 1024
}

/// A reader over blocks that are made as they are read.
struct Blocks<I> {
    next: I,
    left: Vec<u8>,
    at: usize,
}

impl<I: Iterator<Item = Vec<u8>>> std::io::Read for Blocks<I> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.left.len() {
            let Some(next) = self.next.next() else { return Ok(0) };
            (self.left, self.at) = (next, 0);
        }
        let taken = buffer.len().min(self.left.len() - self.at);
        buffer[..taken].copy_from_slice(&self.left[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[test]
fn a_larger_image_takes_no_more_memory() {
    let peak = peak(24);
    assert!(peak < 60, "24 MiB took {peak} MiB at the most");
}

#[test]
#[ignore = "takes a minute or more unoptimised: cargo test --release --test it -- --ignored"]
fn an_image_of_300_mib_takes_less_than_200_mib_of_memory() {
    let peak = peak(300);
    eprintln!("300 MiB took {peak} MiB at the most");
    assert!(peak < 200, "300 MiB took {peak} MiB at the most");
}
