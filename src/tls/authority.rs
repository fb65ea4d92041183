//! A certificate authority of our own making.
//!
//! Pure but for the keys: the clock is an argument.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;

use super::{
    inspect::{is_signed_by, seconds, validity},
    leaf, pem,
};

/// Certificates are dated back by this, for API servers whose clocks are behind ours.
pub const SKEW: Duration = Duration::from_hours(1);
/// The subject of every authority of ours; what tells them apart is their key.
const NAME: &str = "juicefs-sidecar webhook CA";

/// An authority and its key, to sign with.
pub struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("certificate", &self.certificate_pem())
            .finish_non_exhaustive()
    }
}

/// Why there is no authority, or no certificate of it.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    /// Neither a DNS name nor an IP address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// A certificate for nobody.
    #[error("no name to issue a certificate for")]
    NoNames,
    /// Key generation or signing failed.
    #[error("certificate cannot be made")]
    Signing(#[from] rcgen::Error),
}

/// Why a stored authority cannot be signed with.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// The certificate is none.
    #[error("its certificate: {0}")]
    Certificate(String),
    /// The key is none.
    #[error("its key cannot be read")]
    Key,
    /// What it signs is not accepted: the key is another's, or the certificate no authority's.
    #[error("its key and certificate do not go together")]
    Mismatch,
}

impl Authority {
    /// Makes a P-256 authority.
    pub fn make(now: SystemTime, lifetime: Duration) -> Result<Self, NotIssued> {
        let mut parameters = parameters();
        parameters.not_before = now.checked_sub(SKEW).unwrap_or(now).into();
        parameters.not_after = now.checked_add(lifetime).unwrap_or(now).into();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = parameters.self_signed(&key)?.der().clone();
        Ok(Self { issuer: Issuer::new(parameters, key), certificate })
    }

    /// Reads an authority that [`Authority::make`] once made.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Damaged> {
        let bundle =
            pem::Bundle::parse(certificate).map_err(|error| Damaged::Certificate(error.to_string()))?;
        let certificate = bundle.iter().next().cloned();
        let certificate = certificate.ok_or_else(|| Damaged::Certificate("there is none".to_owned()))?;
        let validity = validity(&certificate).map_err(|error| Damaged::Certificate(error.to_string()))?;
        let key =
            std::str::from_utf8(key).ok().and_then(|key| KeyPair::from_pem(key).ok()).ok_or(Damaged::Key)?;
        let authority = Self { issuer: Issuer::new(parameters(), key), certificate };
        // All of ours have the same subject, so only the key can be wrong; what it signs tells.
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(validity.not_after);
        let probe = leaf::sign(&authority, &["probe.invalid".to_owned()], end, Duration::ZERO)
            .map_err(|_| Damaged::Mismatch)?;
        if is_signed_by(&probe.identity.chain[0], authority.certificate(), seconds(end)) {
            Ok(authority)
        } else {
            Err(Damaged::Mismatch)
        }
    }

    /// The certificate: what goes into `caBundle`.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> String {
        pem::encode(&self.certificate)
    }

    /// The private key as PEM; whoever has it can be the webhook.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

/// What all authorities have in common.
fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = called(NAME);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

pub(super) fn called(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
