//! tar: a tree of small files is unpacked, and what was unpacked is packed again.

use super::work::{Place, Program, run_command};
use std::{fs, path::PathBuf, process::Command};

/// Files of the tree.
const FILES: usize = 60;

pub(crate) struct Tar {
    directory: PathBuf,
    archive: PathBuf,
    tree: PathBuf,
}

impl Tar {
    pub(crate) fn new(place: &Place) -> Self {
        let outside = &place.outside;
        Self {
            directory: place.mount.join("tar"),
            archive: outside.join("tree.tar"),
            tree: outside.join("tree"),
        }
    }
}

impl Program for Tar {
    fn prepare(&mut self) -> Result<(), String> {
        if !self.archive.exists() {
            for number in 0..FILES {
                let path = self.tree.join(format!("{}/{number}", number % 7));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{number} ").repeat(number * 40)).unwrap();
            }
            run_command(
                Command::new("tar").arg("-cf").arg(&self.archive).arg("-C").arg(&self.tree).arg("."),
            )?;
        }
        fs::create_dir_all(&self.directory).map_err(|error| error.to_string())
    }

    fn work(&mut self, name: &str) -> Result<(), String> {
        let place = self.directory.join(name);
        fs::create_dir(&place).map_err(|error| format!("making a directory: {error}"))?;
        run_command(Command::new("tar").arg("-xf").arg(&self.archive).arg("-C").arg(&place))?;
        let packed = self.directory.join(format!("{name}.tar"));
        run_command(Command::new("tar").arg("-cf").arg(packed).arg("-C").arg(&place).arg("."))?;
        Ok(())
    }

    fn verify(&mut self, acknowledged: &[String]) -> Vec<String> {
        let mut lost = Vec::new();
        for name in acknowledged {
            let place = self.directory.join(name);
            let unpacked = run_command(Command::new("diff").arg("-r").arg(&self.tree).arg(&place));
            lost.extend(unpacked.err().map(|error| format!("{name} unpacked: {error}")));
            let packed = self.directory.join(format!("{name}.tar"));
            let compared =
                run_command(Command::new("tar").arg("--compare").arg("-f").arg(packed).arg("-C").arg(&place));
            lost.extend(compared.err().map(|error| format!("{name} packed: {error}")));
        }
        lost
    }
}
