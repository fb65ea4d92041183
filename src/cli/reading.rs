//! How subcommands that only look read a cluster.

use kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;

use crate::{check::Seen, cluster::pages::pages};

/// So many calls are made for a kind.
const MOST_PAGES: usize = 200;

/// What an API server says, in one line.
pub(super) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}

/// All objects of a kind, page by page.
pub(super) async fn list<K>(api: &Api<K>, parameters: &ListParams) -> Seen<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut found = Vec::new();
    match pages(api, parameters, MOST_PAGES, |page| found.extend(page)).await {
        Ok(true) => Ok(found),
        Ok(false) => Err(format!("there are more than {}", found.len())),
        Err(error) => Err(said(&error)),
    }
}

/// One object, if there is one.
pub(super) async fn get<K>(api: &Api<K>, name: &str) -> Seen<Option<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    api.get_opt(name).await.map_err(|error| said(&error))
}
