//! Files that are looked at again and again, and taken when they change.

use std::{sync::Arc, time::Duration};

/// Files that make a value.
pub trait Source: Send + Sync + 'static {
    /// What they make.
    type Value: Send + 'static;
    /// Changes whenever the files' contents do.
    fn fingerprint(&self) -> anyhow::Result<u64>;
    /// Reads and checks the files.
    fn load(&self) -> anyhow::Result<Self::Value>;
}

/// Looks after the files for ever and hands on what they make when they change; what cannot be read or used is handed
/// on too, once.
///
/// Polled: files of a mounted ConfigMap or Secret are replaced by a symbolic link, which inotify does not report.
pub async fn follow<S: Source>(
    source: S,
    seen: u64,
    every: Duration,
    mut changed: impl FnMut(anyhow::Result<S::Value>),
) {
    let (source, mut seen) = (Arc::new(source), Some(seen));
    loop {
        tokio::time::sleep(every).await;
        let files = Arc::clone(&source);
        // Reading and parsing many manifests takes longer than a request may wait.
        let looked = tokio::task::spawn_blocking(move || {
            let now = files.fingerprint()?;
            Ok((now, (Some(now) != seen).then(|| files.load())))
        });
        match looked.await.unwrap_or_else(|panic| Err(anyhow::anyhow!("reading them panicked: {panic}"))) {
            Ok((_, None)) => {}
            Ok((now, Some(loaded))) => {
                seen = Some(now);
                changed(loaded);
            }
            Err(error) => {
                if seen.take().is_some() {
                    changed(Err(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// Makes its version; 2 is broken, 4 cannot be read.
    struct Versions(Arc<AtomicU64>);

    impl Source for Versions {
        type Value = u64;
        fn fingerprint(&self) -> anyhow::Result<u64> {
            match self.0.load(Ordering::SeqCst) {
                4 => anyhow::bail!("unreadable"),
                version => Ok(version),
            }
        }
        fn load(&self) -> anyhow::Result<u64> {
            match self.fingerprint()? {
                2 => anyhow::bail!("broken"),
                version => Ok(version),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_is_told_once() {
        let version = Arc::new(AtomicU64::new(1));
        let told = Arc::new(Mutex::new(Vec::new()));
        let (source, telling) = (Versions(Arc::clone(&version)), Arc::clone(&told));
        let changed = move |loaded: anyhow::Result<u64>| {
            telling.lock().unwrap().push(loaded.map_err(|error| error.to_string()));
        };
        let follower = tokio::spawn(follow(source, 1, Duration::from_secs(5), changed));
        for now in [1, 2, 3, 4, 3] {
            version.store(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(11)).await;
        }
        let expected = [Err("broken".to_owned()), Ok(3), Err("unreadable".to_owned()), Ok(3)];
        assert_eq!(*told.lock().unwrap(), expected);
        follower.abort();
    }
}
