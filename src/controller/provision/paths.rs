//! Directories that are being made or removed: nobody makes one in, at or around another that is being removed.
//!
//! What the API server knows is known here a moment later. In between, a directory counts as in use from before it is
//! made until its volume has been seen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::volume::{Catalog, directory::overlap};

/// A volume that was made and has not been seen after this time is gone again.
const SEEN_WITHIN: Duration = Duration::from_mins(5);

/// All such directories, by volume.
#[derive(Clone, Debug, Default)]
pub struct Paths(Arc<Mutex<BTreeMap<Arc<str>, Held>>>);

#[derive(Clone, Debug)]
struct Held {
    path: String,
    purpose: Purpose,
}

/// What becomes of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is being made.
    Make,
    /// It was made at this time, and its volume has not been seen yet.
    Made(Instant),
    /// It is being removed.
    Remove,
}

/// Keeps a directory for its purpose until it is dropped.
#[derive(Debug)]
pub struct Guard {
    paths: Paths,
    volume: Arc<str>,
    purpose: Purpose,
}

impl Paths {
    /// Takes a directory for a volume, unless another volume's purpose stands against it: then that volume is returned.
    pub fn take(&self, volume: &Arc<str>, path: &str, purpose: Purpose) -> Result<Guard, Arc<str>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let removes = |purpose| purpose == Purpose::Remove;
        let other = held.iter().find(|(other, held)| {
            *other != volume && (removes(held.purpose) != removes(purpose)) && overlap(&held.path, path)
        });
        if let Some((other, _)) = other {
            return Err(Arc::clone(other));
        }
        held.insert(Arc::clone(volume), Held { path: path.to_owned(), purpose });
        Ok(Guard { paths: self.clone(), volume: Arc::clone(volume), purpose })
    }

    /// Lets go of directories whose volumes are known now.
    pub fn saw(&self, catalog: &Catalog, now: Instant) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|volume, held| match held.purpose {
            Purpose::Made(at) => catalog.volume(volume).is_none() && now.duration_since(at) < SEEN_WITHIN,
            Purpose::Make | Purpose::Remove => true,
        });
    }
}

impl Guard {
    /// The directory is in use from now on, and is kept until its volume has been seen.
    pub fn made(mut self, now: Instant) {
        self.purpose = Purpose::Made(now);
        let mut held = self.paths.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get_mut(&self.volume) {
            held.purpose = self.purpose;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !matches!(self.purpose, Purpose::Made(_)) {
            self.paths.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.volume);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{PersistentVolume, catalog::Writer};

    #[tokio::test(start_paused = true)]
    async fn nobody_makes_what_another_removes() {
        let paths = Paths::default();
        let [one, two, three] = ["pv-1", "pv-2", "pv-3"].map(Arc::<str>::from);
        let removal = paths.take(&one, "a/b", Purpose::Remove).unwrap();
        for path in ["a/b", "a", "a/b/c", ""] {
            assert_eq!(paths.take(&two, path, Purpose::Make).unwrap_err(), one, "{path:?}");
        }
        drop(paths.take(&two, "a/bc", Purpose::Make).unwrap());
        drop(removal);
        // Two may share one that is being made.
        let making = paths.take(&two, "a/b", Purpose::Make).unwrap();
        let shared = paths.take(&three, "a/b", Purpose::Make).unwrap();
        drop(shared);
        assert_eq!(paths.take(&one, "a", Purpose::Remove).unwrap_err(), two);
        making.made(Instant::now());
        assert_eq!(paths.take(&one, "a", Purpose::Remove).unwrap_err(), two, "until it is seen");
        let mut writer = Writer::default();
        paths.saw(writer.catalog(), Instant::now());
        assert!(paths.take(&one, "a", Purpose::Remove).is_err());
        writer.apply::<PersistentVolume>(serde_json::from_str(r#"{"metadata": {"name": "pv-2"}}"#).unwrap());
        paths.saw(writer.catalog(), Instant::now());
        assert!(paths.take(&one, "a", Purpose::Remove).is_ok());
    }
}
