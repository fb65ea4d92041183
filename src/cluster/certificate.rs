//! The serving certificate, as it is kept in a Secret, and when to serve with it.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret};
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::follow::follow;
use crate::{
    controller::registration::{NAME, published},
    tls::{
        Identity,
        inspect::seconds,
        pem::{self, Bundle},
        succession::Succession,
    },
};

/// The keys of a `kubernetes.io/tls` Secret.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The longest time without a look: clocks are set, and timers stand still while a machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// What is told by what is followed.
enum News {
    /// The Secret has this now.
    Certificate(anyhow::Result<Identity>),
    /// API servers trust these now.
    Trusted(Bundle),
}

/// Follows the Secret for ever and hands on its certificate when it is to be served with, or what is wrong with it;
/// `take` says whether it is served with then.
///
/// One that API servers do not trust yet is held back while there is one that they do.
pub async fn serving_certificate(
    client: Client,
    namespace: &str,
    name: &str,
    mut take: impl FnMut(anyhow::Result<Identity>) -> bool,
) {
    let (tell, mut news) = mpsc::channel(1);
    let followed = follow_secret(client.clone(), namespace, name, tell.clone());
    let trusted = follow_trusted(client, tell);
    let served = async {
        let mut successor = Successor::default();
        loop {
            tokio::select! {
                told = news.recv() => match told {
                    Some(News::Certificate(Ok(identity))) => successor.comes(identity),
                    Some(News::Certificate(Err(error))) => drop(take(Err(error))),
                    Some(News::Trusted(bundle)) => successor.published = (bundle, Instant::now()),
                    None => return,
                },
                () = sleep(successor.wait().min(LOOK_AGAIN)), if successor.waiting.is_some() => {}
            }
            if successor.wait().is_zero()
                && let Some(identity) = successor.waiting.take()
            {
                let chain = identity.chain.clone();
                if take(Ok(identity)) {
                    successor.served = chain;
                }
            }
        }
    };
    tokio::join!(followed, trusted, served);
}

/// What is served with, and what comes next.
struct Successor {
    served: Vec<CertificateDer<'static>>,
    waiting: Option<Identity>,
    /// What API servers trust, and since when.
    published: (Bundle, Instant),
}

impl Default for Successor {
    fn default() -> Self {
        Self { served: Vec::new(), waiting: None, published: (Bundle::default(), Instant::now()) }
    }
}

impl Successor {
    fn comes(&mut self, identity: Identity) {
        self.waiting = Some(identity);
        if !self.wait().is_zero() {
            tracing::info!(
                "a new certificate is not served with before API servers trust its authority; the one before is good still"
            );
        }
    }

    /// How long what comes next has to wait; zero if there is nothing.
    fn wait(&self) -> Duration {
        let Some(next) = &self.waiting else { return Duration::ZERO };
        let (published, since) = &self.published;
        Succession { served: &self.served, next: &next.chain, published, published_for: since.elapsed() }
            .wait(seconds(SystemTime::now()))
    }
}

/// Tells of the certificate whenever the Secret changes.
async fn follow_secret(client: Client, namespace: &str, name: &str, tell: mpsc::Sender<News>) {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    // A watch begins again every few minutes, with what is known already.
    let mut seen = None;
    follow(api, "the serving certificate", name, |secret| {
        let version = secret.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
        let is_news = seen.as_ref() != Some(&version);
        seen = Some(version);
        let news = is_news.then(|| News::Certificate(identity(secret.as_ref(), namespace, name)));
        send(&tell, news)
    })
    .await;
}

/// Tells of what API servers trust whenever that changes.
async fn follow_trusted(client: Client, tell: mpsc::Sender<News>) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut seen = Bundle::default();
    follow(api, "the registration", NAME, |registration| {
        let bundle = published(registration.as_ref(), None);
        let is_news = seen != bundle;
        seen.clone_from(&bundle);
        send(&tell, is_news.then_some(News::Trusted(bundle)))
    })
    .await;
}

async fn send(tell: &mpsc::Sender<News>, news: Option<News>) {
    if let Some(news) = news {
        // Who hears it lives as long as who tells it.
        let _ = tell.send(news).await;
    }
}

fn identity(secret: Option<&Secret>, namespace: &str, name: &str) -> anyhow::Result<Identity> {
    let Some(secret) = secret else {
        anyhow::bail!("secret \"{namespace}/{name}\" does not exist; the controller makes it");
    };
    let value = |key| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    pem::identity(value(CERTIFICATE), value(KEY))
        .map_err(|error| anyhow::anyhow!("secret \"{namespace}/{name}\": {error}"))
}
