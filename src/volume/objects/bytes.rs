//! Amounts of storage, in bytes. Nothing is none, so that what ten thousand claims have of it stays small.
//!
//! What is no amount is none: whether it is one is the API server's affair, and no claim is worse off for it here.

use std::num::NonZero;

use serde::{Deserialize, Deserializer};

use crate::{notation::Quantity, pod::lenient::Amount};

/// Reads the bytes of `storage`.
pub(super) fn storage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZero<u64>>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Amounts<'a> {
        #[serde(borrow)]
        storage: Option<Amount<'a>>,
    }
    let amounts = Option::<Amounts<'de>>::deserialize(deserializer)?;
    let amount = amounts.and_then(|amounts| amounts.storage);
    let bytes = amount.and_then(|amount| amount.parse().ok()).map(Quantity::whole);
    Ok(bytes.and_then(NonZero::new))
}

/// Reads the bytes of `requests.storage`.
pub(super) fn requested<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NonZero<u64>>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Resources {
        #[serde(deserialize_with = "storage", rename = "requests")]
        bytes: Option<NonZero<u64>>,
    }
    Ok(Option::<Resources>::deserialize(deserializer)?.and_then(|resources| resources.bytes))
}

#[cfg(test)]
mod tests {
    use super::NonZero;
    use crate::volume::objects::Claim;

    #[test]
    fn amounts_are_read_however_they_are_written() {
        for (amount, bytes) in [
            ("\"1Gi\"", Some(1 << 30)),
            ("1024", Some(1024)),
            ("1.5", Some(2)),
            ("\"much\"", None),
            ("-1", None),
            ("0", None),
            ("null", None),
        ] {
            let claim = format!(
                "{{\"spec\": {{\"resources\": {{\"requests\": {{\"storage\": {amount}}}}}}}, \
                 \"status\": {{\"capacity\": {{\"storage\": {amount}}}}}}}"
            );
            let claim: Claim = serde_json::from_str(&claim).unwrap();
            let bytes = bytes.and_then(NonZero::new);
            assert_eq!((claim.spec.bytes, claim.status.bytes), (bytes, bytes), "{amount}");
        }
        for claim in
            ["{\"spec\": {\"resources\": null}, \"status\": null}", "{\"status\": {\"capacity\": {}}}"]
        {
            let claim: Claim = serde_json::from_str(claim).unwrap();
            assert_eq!((claim.spec.bytes, claim.status.bytes), (None, None));
        }
    }
}
