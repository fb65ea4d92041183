//! PEM: certificates and keys as files and secrets hold them.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject as _},
};

use super::Identity;

/// Certificates a bundle may hold; API servers look at every one in each handshake.
pub const BUNDLE_LENGTH: usize = 16;
/// Base64 characters in a line of PEM.
const LINE: usize = 64;

/// What is missing or wrong; never the contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not PEM.
    #[error("is not a PEM file: {0}")]
    NoPem(String),
    /// No certificate in it.
    #[error("has no CERTIFICATE section; is it PEM?")]
    NoCertificate,
    /// No key in it.
    #[error("has no PRIVATE KEY section; encrypted keys cannot be used")]
    NoKey,
    /// More certificates than anybody needs.
    #[error("has more than {BUNDLE_LENGTH} certificates; leave out those that are no longer needed")]
    TooMany,
}

/// Which of the two texts of an identity is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// The certificate chain.
    #[error("the certificate {0}")]
    Certificate(Malformed),
    /// The key.
    #[error("the key {0}")]
    Key(Malformed),
}

/// Reads a certificate chain, leaf first, and a private key.
pub fn identity(certificate: &[u8], key: &[u8]) -> Result<Identity, BadIdentity> {
    let chain = certificates(certificate).map_err(BadIdentity::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        BadIdentity::Key(match error {
            PemError::NoItemsFound => Malformed::NoKey,
            error => Malformed::NoPem(error.to_string()),
        })
    })?;
    Ok(Identity { chain, key })
}

/// Reads one certificate or more, in their order.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Malformed> {
    let certificates = CertificateDer::pem_slice_iter(text)
        .take(BUNDLE_LENGTH + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Malformed::NoPem(error.to_string()))?;
    match certificates.len() {
        0 => Err(Malformed::NoCertificate),
        1..=BUNDLE_LENGTH => Ok(certificates),
        _ => Err(Malformed::TooMany),
    }
}

/// A certificate as PEM.
pub fn encode(certificate: &CertificateDer<'_>) -> String {
    let base64 = STANDARD.encode(certificate);
    let mut text = String::with_capacity(base64.len() + base64.len() / LINE + 64);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Authorities that are trusted: a set, in a fixed order, so that equal bundles are equal texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// Reads a bundle; an empty text is an empty bundle.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        Ok(certificates(text)?.into_iter().collect())
    }

    /// The bundle as PEM.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(encode).collect()
    }

    /// Whether a certificate is one of them.
    pub fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.binary_search_by(|own| own.as_ref().cmp(certificate.as_ref())).is_ok()
    }

    /// The certificates.
    pub fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }

    /// Those of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).cloned().collect()
    }

    /// Whether it trusts nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<CertificateDer<'static>> for Bundle {
    fn from_iter<I: IntoIterator<Item = CertificateDer<'static>>>(certificates: I) -> Self {
        let mut certificates: Vec<_> = certificates.into_iter().collect();
        certificates.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        certificates.dedup();
        Self(certificates)
    }
}
