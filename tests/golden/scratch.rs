//! Files that a case needs for a moment.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

/// A folder that goes away with the value.
pub(crate) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("golden-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
