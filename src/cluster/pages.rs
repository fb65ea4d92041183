//! Lists that are read once, page by page.

use kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;

/// So many objects are read with one call.
pub(crate) const PAGE: u32 = 500;

/// Gives away all objects of a kind, but no more pages than so many; whether these were all.
pub(crate) async fn pages<K>(
    api: &Api<K>,
    parameters: &ListParams,
    most: usize,
    mut take: impl FnMut(Vec<K>),
) -> Result<bool, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut page = parameters.clone().limit(PAGE);
    for _ in 0..most {
        let list = api.list(&page).await?;
        take(list.items);
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(true),
        }
    }
    Ok(false)
}
