//! What TLS is served with.

use std::{
    hash::{DefaultHasher, Hasher as _},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use rustls::ServerConfig;

use super::manifests::hash;
use crate::{
    admission::reload::Source,
    tls::{self, Identity, files, inspect::Validity},
};

/// Where the serving certificate comes from.
pub(super) enum Certificate {
    /// Somebody else made it, and replaces it in time.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The leaf's key.
        key: PathBuf,
    },
    /// Made at the start.
    Made(Identity),
    /// The controller keeps it in a Secret; none until that was read.
    Secret(ArcSwapOption<Identity>),
}

/// Everything TLS is served with.
pub(super) struct Serving {
    pub(super) certificate: Certificate,
    pub(super) client_ca: Option<PathBuf>,
}

impl Source for Arc<Serving> {
    /// Without a certificate there are no dates.
    type Value = (ServerConfig, Option<Validity>);

    fn fingerprint(&self) -> anyhow::Result<u64> {
        let mut hasher = DefaultHasher::new();
        let own = match &self.certificate {
            Certificate::Files { certificate, key } => vec![certificate, key],
            Certificate::Made(_) | Certificate::Secret(_) => Vec::new(),
        };
        for path in own.into_iter().chain(&self.client_ca) {
            hash(path, &mut hasher).with_context(|| format!("{}: cannot be read", path.display()))?;
        }
        Ok(hasher.finish())
    }

    fn load(&self) -> anyhow::Result<Self::Value> {
        let identity = match &self.certificate {
            Certificate::Files { certificate, key } => files::read(certificate, key)?,
            Certificate::Made(identity) => identity.duplicate(),
            Certificate::Secret(slot) => match &*slot.load() {
                Some(identity) => identity.duplicate(),
                None => return Ok((tls::no_identity()?, None)),
            },
        };
        let authorities = self.client_ca.as_deref().map(files::certificates).transpose()?;
        let validity = tls::check(&identity, SystemTime::now())?;
        Ok((tls::server_config(identity, authorities)?, Some(validity)))
    }
}

impl Serving {
    /// What is served with after the Secret was read.
    ///
    /// # Errors
    /// The new certificate cannot be served with; the one before stays.
    pub(super) fn renewed(
        self: &Arc<Self>,
        identity: anyhow::Result<Identity>,
    ) -> anyhow::Result<(ServerConfig, Option<Validity>)> {
        let Certificate::Secret(slot) = &self.certificate else { return self.load() };
        let before = slot.swap(Some(Arc::new(identity?)));
        let loaded = self.load();
        if loaded.is_err() {
            slot.store(before);
        }
        loaded
    }
}
