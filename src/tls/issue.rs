//! A serving certificate for a server that is on its own: its authority signs once.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, SystemTime};

use super::{
    Identity,
    authority::{Authority, NotIssued},
    leaf,
};

/// How long a self-made certificate lasts; a restart makes another.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// A serving certificate and the authority that signed it.
#[derive(Debug)]
pub struct Issued {
    /// To serve with.
    pub identity: Identity,
    /// The authority's certificate: what goes into `caBundle`. Its key is gone.
    pub ca_pem: String,
}

/// Makes an authority and with it a serving certificate for DNS names and IP addresses.
pub fn issue(names: &[String], now: SystemTime) -> Result<Issued, NotIssued> {
    let authority = Authority::make(now, LIFETIME)?;
    let leaf = leaf::sign(&authority, names, now, LIFETIME)?;
    Ok(Issued { identity: leaf.identity, ca_pem: authority.certificate_pem() })
}
