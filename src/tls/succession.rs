//! When to serve with another certificate than before: not before API servers trust whoever signed it.
//!
//! Who makes certificates and who tells API servers whom to trust may be two programs, of which neither waits for the other
//! (cert-manager's are), and a file may be seen later than a Secret. What is served with meanwhile is still good.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{
    inspect::{is_trusted, validity},
    pem::Bundle,
};

/// How long API servers may take to notice a new bundle, at the longest.
pub const PROPAGATION: Duration = Duration::from_secs(10);

/// What there is when another certificate comes.
#[derive(Clone, Copy, Debug)]
pub struct Succession<'a> {
    /// What is served with, leaf first; empty for nothing.
    pub served: &'a [CertificateDer<'static>],
    /// What is to be served with.
    pub next: &'a [CertificateDer<'static>],
    /// What every registered webhook trusts; empty where nobody knows.
    pub published: &'a Bundle,
    /// For how long that has been so.
    pub published_for: Duration,
}

impl Succession<'_> {
    /// How long to go on with what is served, if nothing changes, at a time in seconds since 1970; zero is no longer.
    pub fn wait(&self, now: u64) -> Duration {
        // Who is not trusted, or has expired, loses nothing.
        if !is_trusted(self.served, self.published, now) {
            return Duration::ZERO;
        }
        let end = self.served.first().and_then(|leaf| validity(leaf).ok()).map_or(0, |dates| dates.not_after);
        let left = Duration::from_secs(end.saturating_sub(now).saturating_add(1));
        if is_trusted(self.next, self.published, now) {
            return PROPAGATION.saturating_sub(self.published_for).min(left);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::tls::{authority::Authority, inspect::seconds, leaf, pem::certificates};

    const HOUR: Duration = Duration::from_hours(1);

    fn leaf(authority: &Authority, now: SystemTime) -> Vec<CertificateDer<'static>> {
        let leaf = leaf::sign(authority, &["localhost".to_owned()], now, HOUR).unwrap();
        certificates(leaf.certificate_pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_certificate_waits_until_api_servers_trust_its_authority() {
        let now = SystemTime::UNIX_EPOCH + HOUR * 500_000;
        let [old, new] = [(); 2].map(|()| Authority::make(now, HOUR * 9).unwrap());
        let (served, next) = (leaf(&old, now), leaf(&new, now));
        let bundle = |authorities: &[&Authority]| -> Bundle {
            authorities.iter().map(|authority| authority.certificate().clone()).collect()
        };
        let after = |served: &[CertificateDer<'static>],
                     next: &[CertificateDer<'static>],
                     published: &Bundle,
                     seconds_ago,
                     late: Duration| {
            let published_for = Duration::from_secs(seconds_ago);
            Succession { served, next, published, published_for }.wait(seconds(now + late))
        };
        let [none, first, both, second] =
            [bundle(&[]), bundle(&[&old]), bundle(&[&old, &new]), bundle(&[&new])];
        let wait = |published, seconds_ago| after(&served, &next, published, seconds_ago, Duration::ZERO);
        // As long as it can be served with what is trusted.
        assert!(wait(&first, 1000) > HOUR / 2 && wait(&first, 1000) <= HOUR + Duration::from_secs(1));
        assert_eq!(after(&served, &next, &first, 1000, HOUR * 2), Duration::ZERO, "expired");
        // Some API server has not noticed yet.
        assert_eq!(wait(&both, 3), Duration::from_secs(7));
        assert_eq!(wait(&both, 10), Duration::ZERO);
        assert_eq!(wait(&second, 0), Duration::ZERO, "what is served is not trusted any more");
        assert_eq!(wait(&none, 0), Duration::ZERO, "nobody knows");
        assert_eq!(after(&[], &next, &first, 0, Duration::ZERO), Duration::ZERO, "nothing is served");
        // Another of the same authority.
        assert_eq!(after(&served, &leaf(&old, now), &first, 11, Duration::ZERO), Duration::ZERO);
    }
}
