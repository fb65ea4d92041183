//! What applications do on a volume, and how much of it in a second.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::fs::{Advice, fadvise};

/// Size of the large file.
pub(crate) const MEBIBYTES: u32 = 256;
/// Small files.
pub(crate) const SMALL: u32 = 1000;
const MEBIBYTE: usize = 1 << 20;

/// A kind of work. Each leaves what the next one needs, and the last ones nothing.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    WriteLarge,
    ReadLarge,
    CreateSmall,
    ListSmall,
    ReadSmall,
    RemoveSmall,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::WriteLarge,
        Self::ReadLarge,
        Self::CreateSmall,
        Self::ListSmall,
        Self::ReadSmall,
        Self::RemoveSmall,
    ];

    /// Its name, and the unit of its rate.
    pub(crate) fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::WriteLarge => ("writing a large file, with fsync", "MiB/s"),
            Self::ReadLarge => ("reading it, from the client's cache", "MiB/s"),
            Self::CreateSmall => ("making files of 4 KiB", "/s"),
            Self::ListSmall => ("listing them with their attributes", "/s"),
            Self::ReadSmall => ("reading them", "/s"),
            Self::RemoveSmall => ("removing them", "/s"),
        }
    }

    /// Does it in a directory; how much a second.
    pub(crate) fn rate(self, directory: &Path) -> f64 {
        let begun = Instant::now();
        let amount = match self {
            Self::WriteLarge => write_large(directory),
            Self::ReadLarge => read_large(directory),
            Self::CreateSmall => small(directory, |path| fs::write(path, [b'x'; 4096]).unwrap()),
            Self::ListSmall => {
                let listed = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
                assert_eq!(listed.filter(fs::Metadata::is_file).count(), SMALL as usize);
                SMALL
            }
            Self::ReadSmall => small(directory, |path| assert_eq!(fs::read(path).unwrap().len(), 4096)),
            Self::RemoveSmall => small(directory, |path| fs::remove_file(path).unwrap()),
        };
        f64::from(amount) / begun.elapsed().as_secs_f64()
    }
}

fn write_large(directory: &Path) -> u32 {
    let mut file = File::create(large(directory)).unwrap();
    // Not all alike, for the client may compress.
    let mut block = vec![0_u8; MEBIBYTE];
    for number in 0..MEBIBYTES {
        for (index, chunk) in block.chunks_mut(64).enumerate() {
            let value = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index as u64);
            chunk[..8].copy_from_slice(&value.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    MEBIBYTES
}

/// Reads the large file and removes it.
fn read_large(directory: &Path) -> u32 {
    let path = large(directory);
    let mut file = File::open(&path).unwrap();
    // What the kernel still has would say nothing about the client.
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let mut block = vec![0_u8; MEBIBYTE];
    let mut read = 0;
    loop {
        match file.read(&mut block).unwrap() {
            0 => break,
            bytes => read += bytes,
        }
    }
    assert_eq!(read, MEBIBYTES as usize * MEBIBYTE);
    fs::remove_file(path).unwrap();
    MEBIBYTES
}

fn large(directory: &Path) -> PathBuf {
    directory.join("large")
}

fn small(directory: &Path, work: impl Fn(&Path)) -> u32 {
    for number in 0..SMALL {
        work(&directory.join(format!("small-{number}")));
    }
    SMALL
}
