//! The recorded reviews and the cluster they were recorded in.

use std::{fs, path::PathBuf};

use juicefs_sidecar::{
    admission::{Answer, Endpoint, answer, state::State},
    config::{Config, Process},
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
    State { lookup: Box::new(manifests), config: Config::default(), process: Process::default() }
}

/// What the library answers.
pub(crate) fn expected(body: &[u8], endpoint: Endpoint) -> Answer {
    answer(body, endpoint, &state().engine())
}

/// Every value of the cluster's secrets, decoded, that is confidential and long enough to be told from chance.
pub(crate) fn confidential() -> Vec<String> {
    let confidential = [
        "redis://:p%40ss@redis.data.svc:6379/1",
        "p%40ss",
        "s3cr3t$k&y;(with)|shell>chars",
        "0123456789abcdef",
    ];
    confidential.map(str::to_owned).to_vec()
}
