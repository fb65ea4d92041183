//! Serving certificates, signed by an authority of ours.
//!
//! Pure but for the keys: the clock is an argument.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::{
    Identity,
    authority::{Authority, NotIssued, SKEW, called},
    inspect::validity,
};

/// A serving certificate and its key, as they are served with and as they are stored.
#[derive(Debug)]
pub struct Leaf {
    /// To serve with.
    pub identity: Identity,
    /// The certificate as PEM.
    pub certificate_pem: String,
    key: KeyPair,
}

impl Leaf {
    /// The private key as PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

/// Signs a P-256 serving certificate for DNS names and IP addresses; it ends with its authority at the latest.
pub fn sign(
    authority: &Authority,
    names: &[String],
    now: SystemTime,
    lifetime: Duration,
) -> Result<Leaf, NotIssued> {
    if names.is_empty() {
        return Err(NotIssued::NoNames);
    }
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = called("juicefs-sidecar webhook");
    parameters.subject_alt_names = names.iter().map(|name| subject(name)).collect::<Result<_, _>>()?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    parameters.not_before = now.checked_sub(SKEW).unwrap_or(now).into();
    let end = now.checked_add(lifetime).unwrap_or(now);
    let authority_end = validity(authority.certificate())
        .map_or(end, |validity| SystemTime::UNIX_EPOCH + Duration::from_secs(validity.not_after));
    parameters.not_after = end.min(authority_end).into();

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = parameters.signed_by(&key, &authority.issuer)?;
    let identity = Identity {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    };
    Ok(Leaf { identity, certificate_pem: certificate.pem(), key })
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
