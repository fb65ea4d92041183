//! A certificate authority and a serving certificate of our own making.
//!
//! Pure but for the keys: the clock is an argument.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::Identity;

/// How long a self-made certificate lasts; a restart makes another.
const LIFETIME: Duration = Duration::from_hours(365 * 24);
/// Dated back, for API servers whose clocks are behind ours.
const SKEW: Duration = Duration::from_hours(1);

/// A serving certificate and the authority that signed it.
#[derive(Debug)]
pub struct Issued {
    /// To serve with.
    pub identity: Identity,
    /// The authority's certificate: what goes into `caBundle`. Its key is gone.
    pub ca_pem: String,
}

/// Why no certificate could be made.
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

/// Makes a P-256 authority and with it a serving certificate for DNS names and IP addresses.
pub fn issue(names: &[String], now: SystemTime) -> Result<Issued, NotIssued> {
    if names.is_empty() {
        return Err(NotIssued::NoNames);
    }
    let subject_alt_names = names.iter().map(|name| subject(name)).collect::<Result<_, _>>()?;

    let mut authority = dated(now);
    authority.distinguished_name = called("juicefs-sidecar webhook CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;

    let mut leaf = dated(now);
    leaf.distinguished_name = called("juicefs-sidecar webhook");
    leaf.subject_alt_names = subject_alt_names;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = leaf.signed_by(&key, &authority)?;

    let identity = Identity {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    };
    Ok(Issued { identity, ca_pem: authority.pem() })
}

fn dated(now: SystemTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.not_before = now.checked_sub(SKEW).unwrap_or(now).into();
    parameters.not_after = now.checked_add(LIFETIME).unwrap_or(now).into();
    parameters
}

fn called(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn subject(name: &str) -> Result<SanType, NotIssued> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || NotIssued::Name(name.to_owned());
    // A wildcard is a name here, though not one that can be connected to.
    let plain = name.strip_prefix("*.").unwrap_or(name);
    rustls::pki_types::DnsName::try_from(plain).map_err(|_| refused())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| refused())?))
}
