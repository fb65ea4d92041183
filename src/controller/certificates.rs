//! The two secrets: the authority's, which only the controller reads, and the serving certificate's, which the
//! webhook watches.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use rustls::pki_types::CertificateDer;

use super::{MANAGED_BY, MANAGER, problem::Problem, registration::labels};
use crate::tls::{
    authority::Authority,
    leaf::Leaf,
    pem::{self, Bundle},
    server_config,
};

/// The secret of the authority and its key.
pub const AUTHORITY: &str = "juicefs-sidecar-ca";
/// The secret of the serving certificate.
pub const SERVING: &str = "juicefs-sidecar-tls";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const BUNDLE: &str = "ca.crt";

/// Both secrets of a namespace.
pub struct Secrets {
    api: Api<Secret>,
    namespace: String,
}

/// What is in them.
#[derive(Debug, Default)]
pub struct Stored {
    /// The newest authority, if it can be signed with.
    pub authority: Option<Authority>,
    /// The serving certificate, if it can be served with.
    pub leaf: Option<CertificateDer<'static>>,
    /// Every authority that either secret names.
    pub trusted: Bundle,
    /// What was found to be unusable, as sentences.
    pub damage: Vec<String>,
    authority_version: Option<String>,
    leaf_version: Option<String>,
}

impl Secrets {
    /// Those of a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.to_owned() }
    }

    /// Reads both.
    pub async fn read(&self) -> Result<Stored, Problem> {
        let (authority, leaf) = tokio::try_join!(self.get(AUTHORITY), self.get(SERVING))?;
        Ok(decode(authority.as_ref(), leaf.as_ref()))
    }

    async fn get(&self, name: &str) -> Result<Option<Secret>, Problem> {
        let secret = self.api.get_opt(name).await.map_err(Problem::api(format!("secret \"{name}\"")))?;
        match secret {
            Some(secret) if !is_ours(&secret) => {
                Err(Problem::Foreign { namespace: self.namespace.clone(), name: name.to_owned() })
            }
            secret => Ok(secret),
        }
    }

    /// Stores a new authority beside what else is to be trusted.
    pub async fn store_authority(
        &self,
        stored: &Stored,
        authority: &Authority,
        trusted: &Bundle,
    ) -> Result<(), Problem> {
        let data = [
            (CERTIFICATE, authority.certificate_pem()),
            (KEY, authority.key_pem()),
            (BUNDLE, trusted.to_pem()),
        ];
        self.write(AUTHORITY, "Opaque", data, stored.authority_version.clone()).await
    }

    /// Stores a new serving certificate beside what verifies it.
    pub async fn store_leaf(&self, stored: &Stored, leaf: &Leaf, trusted: &Bundle) -> Result<(), Problem> {
        let data =
            [(CERTIFICATE, leaf.certificate_pem.clone()), (KEY, leaf.key_pem()), (BUNDLE, trusted.to_pem())];
        self.write(SERVING, "kubernetes.io/tls", data, stored.leaf_version.clone()).await
    }

    /// Replaces the version that was read, or creates what was not there: never what somebody else wrote since.
    async fn write(
        &self,
        name: &str,
        kind: &str,
        data: [(&str, String); 3],
        version: Option<String>,
    ) -> Result<(), Problem> {
        let data: BTreeMap<_, _> =
            data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect();
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels()),
            resource_version: version.clone(),
            ..ObjectMeta::default()
        };
        let secret = Secret { metadata, data: Some(data), type_: Some(kind.to_owned()), ..Secret::default() };
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let written = match version {
            Some(_) => self.api.replace(name, &parameters, &secret).await,
            None => self.api.create(&parameters, &secret).await,
        };
        written.map(drop).map_err(Problem::api(format!("secret \"{name}\"")))
    }
}

fn is_ours(secret: &Secret) -> bool {
    secret.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

/// What two secrets of ours hold. What is damaged counts as missing, and is made anew.
fn decode(authority: Option<&Secret>, leaf: Option<&Secret>) -> Stored {
    let mut stored = Stored::default();
    if let Some(secret) = authority {
        stored.authority_version.clone_from(&secret.metadata.resource_version);
        match Authority::from_pem(value(secret, CERTIFICATE), value(secret, KEY)) {
            Ok(authority) => stored.authority = Some(authority),
            Err(error) => stored.damage.push(format!("secret \"{AUTHORITY}\": {error}")),
        }
    }
    if let Some(secret) = leaf {
        stored.leaf_version.clone_from(&secret.metadata.resource_version);
        match serving(secret) {
            Ok(leaf) => stored.leaf = Some(leaf),
            Err(error) => stored.damage.push(format!("secret \"{SERVING}\": {error}")),
        }
    }
    for (name, secret) in [(AUTHORITY, authority), (SERVING, leaf)] {
        match Bundle::parse(secret.map_or(&[][..], |secret| value(secret, BUNDLE))) {
            Ok(bundle) => stored.trusted = stored.trusted.union(&bundle),
            Err(error) => stored.damage.push(format!("secret \"{name}\": {BUNDLE} {error}")),
        }
    }
    stored
}

/// The certificate of a secret, if it can be served with.
fn serving(secret: &Secret) -> Result<CertificateDer<'static>, String> {
    let identity =
        pem::identity(value(secret, CERTIFICATE), value(secret, KEY)).map_err(|error| error.to_string())?;
    let leaf = identity.chain[0].clone();
    server_config(identity, None).map_err(|error| error.to_string())?;
    Ok(leaf)
}

fn value<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[], |value| &value.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::tls::leaf;

    fn secret(certificate: String, key: String, bundle: String) -> Secret {
        let data = [(CERTIFICATE, certificate), (KEY, key), (BUNDLE, bundle)];
        let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).into();
        let metadata = ObjectMeta { resource_version: Some("7".to_owned()), ..ObjectMeta::default() };
        Secret { data: Some(data), metadata, ..Secret::default() }
    }

    #[test]
    fn what_is_damaged_counts_as_missing_and_is_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let day = Duration::from_hours(24);
        let (one, two) = (Authority::make(now, day).unwrap(), Authority::make(now, day).unwrap());
        let leaf = leaf::sign(&one, &["a".to_owned()], now, day).unwrap();
        let pem = Authority::certificate_pem;

        let authority = secret(pem(&one), one.key_pem(), pem(&two));
        let serving = secret(leaf.certificate_pem.clone(), leaf.key_pem(), pem(&one));
        let stored = decode(Some(&authority), Some(&serving));
        assert_eq!(stored.authority.unwrap().certificate(), one.certificate());
        assert_eq!(stored.leaf.as_ref(), Some(&leaf.identity.chain[0]));
        assert!(stored.trusted.contains(one.certificate()) && stored.trusted.contains(two.certificate()));
        assert!(stored.damage.is_empty());

        let authority = secret(pem(&one), two.key_pem(), "x".to_owned());
        let serving = secret(leaf.certificate_pem.clone(), one.key_pem(), pem(&one));
        let stored = decode(Some(&authority), Some(&serving));
        assert!(stored.authority.is_none() && stored.leaf.is_none());
        assert!(stored.trusted.contains(one.certificate()), "what served may still be served");
        assert_eq!(stored.authority_version.as_deref(), Some("7"), "it is ours and is replaced");
        assert_eq!(stored.damage.len(), 3, "{:?}", stored.damage);
        assert!(!stored.damage.iter().any(|sentence| sentence.contains("BEGIN")));

        let stored = decode(None, Some(&Secret::default()));
        assert!(stored.authority.is_none() && stored.leaf.is_none());
    }

    #[test]
    fn only_what_carries_our_label_is_ours() {
        let with = |labels: Option<BTreeMap<String, String>>| Secret {
            metadata: ObjectMeta { labels, ..ObjectMeta::default() },
            ..Secret::default()
        };
        assert!(is_ours(&with(Some(labels()))));
        assert!(!is_ours(&with(None)));
        let helm = [(MANAGED_BY.to_owned(), "Helm".to_owned())].into();
        assert!(!is_ours(&with(Some(helm))));
    }
}
