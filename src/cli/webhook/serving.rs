//! What TLS is served with, as files.

use std::{
    hash::{DefaultHasher, Hasher as _},
    path::PathBuf,
    time::SystemTime,
};

use anyhow::Context as _;
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
}

/// Everything TLS is served with.
pub(super) struct Serving {
    pub(super) certificate: Certificate,
    pub(super) client_ca: Option<PathBuf>,
}

impl Source for Serving {
    type Value = (ServerConfig, Validity);

    fn fingerprint(&self) -> anyhow::Result<u64> {
        let mut hasher = DefaultHasher::new();
        let own = match &self.certificate {
            Certificate::Files { certificate, key } => vec![certificate, key],
            Certificate::Made(_) => Vec::new(),
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
        };
        let authorities = self.client_ca.as_deref().map(files::certificates).transpose()?;
        let validity = tls::check(&identity, SystemTime::now())?;
        Ok((tls::server_config(identity, authorities)?, validity))
    }
}
