//! What can be learnt from a certificate, by asking rustls' own verifier.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, SystemTime};

use rustls::{
    CertificateError, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{pem::Bundle, provider};

/// When a certificate can be used, in seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: u64,
    /// Until.
    pub not_after: u64,
}

impl Validity {
    /// Whether a time is within.
    pub fn includes(self, now: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Seconds since 1970; what is before counts as 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The dates of a certificate, as the verifier tells them when asked about the wrong time.
///
/// rustls verifies dates before anything else and trusts nobody here, so no other answer can come first.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, rustls::Error> {
    use CertificateError::{ExpiredContext, NotValidYetContext};
    let parsed = ParsedCertificate::try_from(certificate)?;
    let nobody = RootCertStore::empty();
    let not_before = match verify(&parsed, &nobody, &[], 0) {
        Err(rustls::Error::InvalidCertificate(NotValidYetContext { not_before, .. })) => not_before.as_secs(),
        // Valid since 1970 or before.
        _ => 0,
    };
    match verify(&parsed, &nobody, &[], u64::MAX) {
        Err(rustls::Error::InvalidCertificate(ExpiredContext { not_after, .. })) => {
            Ok(Validity { not_before, not_after: not_after.as_secs() })
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Validity { not_before, not_after: u64::MAX }),
    }
}

/// Whether a server certificate is one that this authority signed, at a time in seconds since 1970.
pub fn is_signed_by(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>, now: u64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).is_ok()
        && ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify(&leaf, &roots, &[], now).is_ok())
}

/// Whether a server's chain, leaf first, leads to one of these authorities, at a time in seconds since 1970.
pub fn is_trusted(chain: &[CertificateDer<'_>], authorities: &Bundle, now: u64) -> bool {
    let Some((leaf, intermediates)) = chain.split_first() else { return false };
    let mut roots = RootCertStore::empty();
    // One that cannot be read is trusted by nobody.
    roots.add_parsable_certificates(authorities.iter().cloned());
    ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify(&leaf, &roots, intermediates, now).is_ok())
}

/// Whether a server certificate is good for all of these names and addresses.
pub fn is_named(leaf: &CertificateDer<'_>, names: &[String]) -> bool {
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    names.iter().all(|name| {
        ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&leaf, &name).is_ok())
    })
}

fn verify(
    leaf: &ParsedCertificate<'_>,
    roots: &RootCertStore,
    intermediates: &[CertificateDer<'_>],
    now: u64,
) -> Result<(), rustls::Error> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verify_server_cert_signed_by_trust_anchor(
        leaf,
        roots,
        intermediates,
        now,
        provider().signature_verification_algorithms.all,
    )
}
