//! Certificates from cert-manager, whose own controllers run: by plain manifests and by the chart, renewed while pods are
//! created all the time.

use std::{fs, io, net::SocketAddr, sync::Arc};

use juicefs_sidecar::tls::{pem, provider};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::Secret,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    super::{
        chaos::creations::Failure,
        control_plane::{ControlPlane, eventually},
        manifests::{built, piped},
    },
    NAMESPACE, helm,
    life::Cluster,
};

const REGISTRATION: &str = "juicefs-sidecar";
const SERVING: &str = "juicefs-sidecar-tls";
/// The Certificate of it.
const OF_WEBHOOK: &str = "juicefs-sidecar-webhook";
const AUTHORITY: &str = "juicefs-sidecar-cert-manager-ca";
const OF_AUTHORITY: &str = "juicefs-sidecar-ca";

type Certificates = Vec<CertificateDer<'static>>;

impl Cluster {
    fn kubectl_says(&self, words: &[&str]) -> String {
        let output = self.plane.kubectl().args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a Secret of ours has under a key.
    async fn stored(&self, name: &str, key: &str) -> Option<Certificates> {
        let secret =
            Api::<Secret>::namespaced(self.client.clone(), NAMESPACE).get_opt(name).await.unwrap()?;
        pem::certificates(&secret.data?.get(key)?.0).ok()
    }

    async fn registrations(&self) -> (MutatingWebhookConfiguration, ValidatingWebhookConfiguration) {
        let mutating = Api::all(self.client.clone()).get(REGISTRATION).await.unwrap();
        (mutating, Api::all(self.client.clone()).get(REGISTRATION).await.unwrap())
    }

    /// What each of the registered webhooks trusts.
    async fn trusted(&self) -> Vec<Certificates> {
        let (mutating, validating) = self.registrations().await;
        let configs = mutating.webhooks.into_iter().flatten().map(|webhook| webhook.client_config);
        let configs = configs
            .chain(validating.webhooks.into_iter().flatten().map(|webhook| webhook.client_config))
            .map(|config| config.ca_bundle.unwrap_or_default().0);
        configs.map(|bundle| pem::certificates(&bundle).unwrap_or_default()).collect()
    }

    /// Every webhook serves with a certificate that who is asked by the registration trusts; it is the one that they all
    /// serve with, if they do.
    async fn served(&self) -> Option<CertificateDer<'static>> {
        // In this order: whoever was trusted before has to be trusted still.
        let bundle = self.trusted().await.swap_remove(0);
        let mut leaves = Vec::new();
        for address in self.kubelet.serving() {
            leaves.push(handshake(address, &bundle).await.unwrap_or_else(|error| {
                panic!("a webhook serves with what the registration does not trust: {error}")
            }));
        }
        leaves.dedup();
        leaves.pop().filter(|_| leaves.is_empty())
    }

    /// As `cmctl renew` does it.
    fn renew(&self, certificate: &str) {
        let condition = json!({"type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
            "message": "renewed by hand", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let patch = json!([{"op": "add", "path": "/status/conditions/-", "value": condition}]).to_string();
        let words = ["patch", "certificate", certificate, "--namespace", NAMESPACE, "--subresource=status"];
        self.kubectl_says(&[&words[..], &["--type=json", "--patch", &patch]].concat());
    }

    /// How often cert-manager's injector has written.
    fn injections(&self) -> usize {
        let log = fs::read_to_string(self.plane.state().join("log/cert-manager.log")).unwrap();
        log.matches("\"Updated object\"").count()
    }
}

/// The certificate that a server shows to one who trusts these authorities and asks for the webhook's name.
async fn handshake(address: SocketAddr, authorities: &Certificates) -> io::Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(format!("juicefs-sidecar-webhook.{NAMESPACE}.svc")).unwrap();
    let stream =
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await?;
    let (_, session) = stream.get_ref();
    Ok(session.peer_certificates().unwrap()[0].clone().into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_cert_manager_are_served_trusted_and_renewed() {
    if helm().is_none() {
        return;
    }
    let Some(plane) = ControlPlane::start_with_cert_manager() else { return };
    let cluster = Cluster::over(plane).await;
    let manifests = built(&cluster.plane, &["certs"]);
    let applied = piped(cluster.plane.kubectl().args(["apply", "-f", "-"]), &manifests);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    cluster.is_installed().await;
    let leaf = is_issued_and_injected(&cluster).await;
    let leaf = an_authority_is_replaced(&cluster, leaf).await;
    a_certificate_is_renewed(&cluster, leaf).await;
    nobody_fights(&cluster).await;

    // The chart has the same, and takes over what is there.
    cluster
        .install(&["--set=webhook.certManager.enabled=true", "--take-ownership", "--force-conflicts"])
        .await;
    cluster.pods_are("taken over by the chart", true).await;
    let said = cluster.check().await;
    assert!(!said.contains('✘') && said.contains("✔ certificate: trusted by the API server"), "{said}");
}

async fn is_issued_and_injected(cluster: &Cluster) -> CertificateDer<'static> {
    let words =
        ["wait", "certificate", "--all", "--for=condition=Ready", "--timeout=60s", "--namespace", NAMESPACE];
    assert_eq!(cluster.kubectl_says(&words).lines().count(), 2);
    let authority = cluster.stored(AUTHORITY, "tls.crt").await.unwrap();
    assert_eq!(cluster.stored(SERVING, "ca.crt").await.unwrap(), authority);
    let is_registered = async || {
        let webhooks = cluster.registrations().await.0.webhooks?;
        let fails = webhooks.iter().all(|webhook| webhook.failure_policy.as_deref() == Some("Fail"));
        (fails && cluster.trusted().await.iter().all(|bundle| *bundle == authority)).then_some(())
    };
    eventually("the authority in each registration, which fails open no more", is_registered).await;
    let served = eventually("one certificate of all", async || cluster.served().await).await;
    assert_eq!(Some(&served), cluster.stored(SERVING, "tls.crt").await.unwrap().first());
    served
}

/// The controller applies the registrations, and cert-manager's injector writes into them: each leaves alone what is the
/// other's, and mends what is its own.
async fn nobody_fights(cluster: &Cluster) {
    let versions = async || {
        let (mutating, validating) = cluster.registrations().await;
        (mutating.resource_version(), validating.resource_version())
    };
    let before = versions().await;
    let rounds =
        || cluster.kubelet.sum("juicefs_sidecar_reconciles_total{task=\"registration\",outcome=\"ok\"}");
    for turn in 0..3 {
        let (applied, injected) = (rounds(), cluster.injections());
        let mark = format!("turn={turn}");
        cluster.kubectl_says(&["label", "namespace", NAMESPACE, "--overwrite", &mark]);
        cluster.kubectl_says(&["label", "secret", SERVING, "--namespace", NAMESPACE, "--overwrite", &mark]);
        eventually("both to look again", async || {
            (rounds() > applied && cluster.injections() >= injected + 2).then_some(())
        })
        .await;
    }
    assert_eq!(versions().await, before, "somebody wrote though there was nothing to write");

    let mutating = Api::<MutatingWebhookConfiguration>::all(cluster.client.clone());
    let authority = cluster.stored(AUTHORITY, "tls.crt").await.unwrap().swap_remove(0);
    let edit: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/webhooks/1/failurePolicy", "value": "Ignore"},
        {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"},
    ]))
    .unwrap();
    mutating.patch(REGISTRATION, &PatchParams::default(), &Patch::Json::<()>(edit)).await.unwrap();
    let is_mended = async || {
        let (mutating, _) = cluster.registrations().await;
        let fails = mutating.webhooks?[1].failure_policy.as_deref() == Some("Fail");
        let trusted = cluster.trusted().await;
        // One that was replaced does not come back with it.
        (fails && trusted.iter().all(|bundle| bundle.contains(&authority))).then_some(())
    };
    eventually("what was changed to be mended by both", is_mended).await;
    cluster.pods_are("mended", true).await;

    mutating.delete(REGISTRATION, &DeleteParams::default()).await.unwrap();
    let is_back = async || {
        mutating.get_opt(REGISTRATION).await.unwrap()?;
        is_mended().await
    };
    eventually("a registration that was deleted to be back", is_back).await;
    // It comes back at once, and trusts nobody until the injector has been there: rather no pod than one without a client.
    let tally = cluster.creations.ended().await;
    let is_untrusted = |failure: &Failure| failure.text.contains("certificate signed by unknown authority");
    assert!(tally.failed.iter().all(is_untrusted), "{tally}");
}

/// Twice: as it is due, and because somebody deleted what is served with.
async fn a_certificate_is_renewed(cluster: &Cluster, mut leaf: CertificateDer<'static>) {
    let authority = cluster.stored(AUTHORITY, "tls.crt").await;
    for deleted in [false, true] {
        if deleted {
            cluster.kubectl_says(&["delete", "secret", SERVING, "--namespace", NAMESPACE]);
        } else {
            cluster.renew(OF_WEBHOOK);
        }
        leaf = eventually("another certificate", async || cluster.served().await.filter(|one| *one != leaf))
            .await;
        cluster.pods_are("renewed", true).await;
    }
    assert_eq!(cluster.stored(AUTHORITY, "tls.crt").await, authority);
}

/// An authority is new before anything is signed by it.
async fn an_authority_is_replaced(
    cluster: &Cluster,
    leaf: CertificateDer<'static>,
) -> CertificateDer<'static> {
    let before = cluster.stored(AUTHORITY, "tls.crt").await.unwrap();
    cluster.renew(OF_AUTHORITY);
    let another = async || cluster.stored(AUTHORITY, "tls.crt").await.filter(|one| *one != before);
    let after = eventually("another authority", another).await;
    cluster.renew(OF_WEBHOOK);
    let leaf =
        eventually("a certificate of it", async || cluster.served().await.filter(|one| *one != leaf)).await;
    handshake(cluster.kubelet.serving()[0], &after).await.expect("a certificate of the new authority");
    assert_eq!(Some(&leaf), cluster.stored(SERVING, "tls.crt").await.unwrap().first());
    cluster.pods_are("an authority replaced", true).await;
    leaf
}
