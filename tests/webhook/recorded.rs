//! The recorded reviews and the cluster they were recorded in.

use std::{fs, path::PathBuf, sync::Arc};

use juicefs_sidecar::{
    admission::{Endpoint, state::State},
    inject::Family,
    offline::{Manifests, files},
};

/// The two paths a review of a pod may be sent to.
pub(crate) const ENDPOINTS: [Endpoint; 2] =
    [Endpoint::Inject(Family::Node), Endpoint::Inject(Family::Serverless)];

/// Where they are.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reviews")
}

/// Every recorded body with the name of its file.
pub(crate) fn reviews() -> Vec<(String, Vec<u8>)> {
    let mut reviews = Vec::new();
    for entry in fs::read_dir(directory()).expect("tests/reviews") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            reviews.push((name, fs::read(&path).expect("a review")));
        }
    }
    reviews.sort();
    assert_eq!(reviews.len(), 18);
    reviews
}

/// The state a server over the recorded cluster has.
pub(crate) fn state() -> State {
    let documents = files::read(&[files::Source::Path(directory().join("cluster"))]).expect("manifests");
    let (manifests, _) = Manifests::gather(&documents, "default").expect("objects");
    State { catalog: manifests.catalog, config: Arc::default(), process: Arc::default() }
}
