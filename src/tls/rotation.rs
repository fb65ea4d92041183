//! When to make an authority, to publish it, and to sign with it: decided from what there is, by a passed-in clock.
//!
//! An authority is trusted by API servers before anything is served that it signed, and until it expires. Its key
//! signs until its successor is made and is then gone; that is soon enough, because a serving certificate is renewed
//! with a third of its life left, and publishing takes seconds.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{
    authority::SKEW,
    inspect::{is_named, is_signed_by, validity},
    pem::Bundle,
};

/// The longest wait before looking again: clocks are set, and timers stand still while a machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Authorities that are trusted beside the newest one. Rotation needs one; each loss of the secret adds another.
const OTHERS: usize = 7;

/// How certificates are to be.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Of authorities; at least three times that of leaves, so that none outlives its authority.
    pub authority_lifetime: Duration,
    /// Of serving certificates.
    pub leaf_lifetime: Duration,
    /// How long API servers may take to notice a new bundle.
    pub propagation: Duration,
    /// What the serving certificate is for.
    pub names: Vec<String>,
}

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The newest authority, if its key is there too.
    pub authority: Option<&'a CertificateDer<'static>>,
    /// Authorities that may have signed what is being served.
    pub trusted: &'a Bundle,
    /// The stored serving certificate, if its key goes with it.
    pub leaf: Option<&'a CertificateDer<'static>>,
    /// What every registration trusts.
    pub published: &'a Bundle,
    /// For how long the newest authority has been seen in `published`.
    pub published_for: Duration,
}

/// What to do next; one at a time, each from what is there then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make an authority and store it.
    MakeAuthority,
    /// Have API servers trust these, and no others.
    Publish(Bundle),
    /// Sign a serving certificate with the newest authority and store it.
    Sign,
    /// Nothing, for so long.
    Wait(Duration),
}

/// The next step at a time in seconds since 1970.
pub fn next(policy: &Policy, seen: &Seen<'_>, now: u64) -> Step {
    let Some(authority) =
        seen.authority.filter(|authority| renewal(authority, policy.authority_lifetime, now).is_some())
    else {
        return Step::MakeAuthority;
    };
    let bundle = to_trust(seen.trusted, authority, now);
    if *seen.published != bundle {
        return Step::Publish(bundle);
    }
    let renewals =
        seen.leaf.filter(|leaf| is_signed_by(leaf, authority, now) && is_named(leaf, &policy.names));
    if let Some(leaf_renewal) = renewals.and_then(|leaf| renewal(leaf, policy.leaf_lifetime, now)) {
        let next = renewal(authority, policy.authority_lifetime, now).unwrap_or(now).min(leaf_renewal);
        let expiry = bundle
            .iter()
            .filter_map(|certificate| validity(certificate).ok())
            .map(|dates| dates.not_after + 1);
        let next = expiry.fold(next, u64::min);
        return Step::Wait(Duration::from_secs(next.saturating_sub(now)).min(LOOK_AGAIN));
    }
    // What is served may be an older authority's, whatever is stored: nobody has to meet an API server that has not
    // noticed the newest yet.
    let older = bundle.iter().any(|trusted| trusted != authority);
    match policy.propagation.checked_sub(seen.published_for) {
        Some(left) if older && !left.is_zero() => Step::Wait(left),
        _ => Step::Sign,
    }
}

/// Of what may have signed what is served, those that have not expired, beside the newest authority. A bundle has an end:
/// past it, those that expire first are left out.
pub fn to_trust(trusted: &Bundle, authority: &CertificateDer<'static>, now: u64) -> Bundle {
    let end =
        |certificate: &CertificateDer<'static>| validity(certificate).map_or(0, |dates| dates.not_after);
    let mut others: Vec<_> = trusted.iter().filter(|one| *one != authority && end(one) >= now).collect();
    others.sort_by_key(|one| std::cmp::Reverse(end(one)));
    others.into_iter().take(OTHERS).chain([authority]).cloned().collect()
}

/// When to renew a certificate, in seconds since 1970: with a third of its life left. `None` is at once, also for one
/// that lives longer than it is allowed to now.
fn renewal(certificate: &CertificateDer<'_>, lifetime: Duration, now: u64) -> Option<u64> {
    let dates = validity(certificate).ok()?;
    let renewal = dates.not_after.saturating_sub(lifetime.as_secs() / 3);
    let longest = now.saturating_add(lifetime.as_secs()).saturating_add(SKEW.as_secs());
    (now < renewal && dates.not_before <= now && dates.not_after <= longest).then_some(renewal)
}

#[cfg(test)]
mod tests;
