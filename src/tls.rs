//! TLS of the admission server: where its certificate comes from, and what it speaks.

pub mod authority;
pub mod files;
pub mod inspect;
pub mod issue;
pub mod leaf;
pub mod pem;
pub mod rotation;
pub mod succession;

use std::{sync::Arc, time::SystemTime};

use rustls::{
    DEFAULT_VERSIONS, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{
        NoServerSessionStorage, ResolvesServerCertUsingSni, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
};

use inspect::{Validity, seconds, validity};

/// The one choice of a cryptography library; everything that speaks TLS is given this.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate chain, leaf first, and the leaf's key.
#[derive(Debug)]
pub struct Identity {
    /// Leaf, then what leads to the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// The same identity once more; keys are not copied without saying so.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Why a chain and a key cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A certificate cannot be parsed.
    #[error("the certificate cannot be read: {0}")]
    Certificate(rustls::Error),
    /// Most often: the key belongs to another certificate.
    #[error("the key does not go with the certificate: {0}")]
    Key(rustls::Error),
    /// Nobody could have a certificate from these.
    #[error("the client CA cannot be used: {0}")]
    ClientAuthority(String),
    /// Too late.
    #[error("the certificate expired at {0} (seconds since 1970); renew it")]
    Expired(u64),
    /// Too early, or the clock is wrong.
    #[error("the certificate is valid only from {0} (seconds since 1970); check the clock of this machine")]
    NotYetValid(u64),
    /// TLS itself could not be set up.
    #[error("tls cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// What the server speaks with this identity: TLS 1.2 and 1.3, HTTP/1.1.
///
/// With client authorities, only with peers that have a certificate from one of them.
pub fn server_config(
    identity: Identity,
    client_authorities: Option<Vec<CertificateDer<'static>>>,
) -> Result<ServerConfig, Unusable> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(Unusable::Setup)?;
    let config = match client_authorities {
        None => config.with_no_client_auth(),
        Some(authorities) => config.with_client_cert_verifier(client_verifier(authorities)?),
    };
    let mut config = config.with_single_cert(identity.chain, identity.key).map_err(Unusable::Key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // API servers keep connections and resume no sessions: tickets would be made, sent and thrown away.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// What the server speaks before it has an identity: every handshake fails.
pub fn no_identity() -> Result<ServerConfig, Unusable> {
    Ok(ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(Unusable::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new())))
}

fn client_verifier(
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| Unusable::ClientAuthority(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| Unusable::ClientAuthority(error.to_string()))
}

/// Checks an identity as far as a server can: the leaf is a certificate, and of today.
pub fn check(identity: &Identity, now: SystemTime) -> Result<Validity, Unusable> {
    let leaf = identity.chain.first();
    let leaf = leaf.ok_or(Unusable::Certificate(rustls::Error::NoCertificatesPresented))?;
    let validity = validity(leaf).map_err(Unusable::Certificate)?;
    let now = seconds(now);
    if now > validity.not_after {
        return Err(Unusable::Expired(validity.not_after));
    }
    if now < validity.not_before {
        return Err(Unusable::NotYetValid(validity.not_before));
    }
    Ok(validity)
}

#[cfg(test)]
mod tests;
