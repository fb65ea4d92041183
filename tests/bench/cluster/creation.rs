//! What somebody who creates a pod waits longer for, because of us.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use juicefs_sidecar::{
    admission::{Answer, Endpoint},
    inject::Engine,
};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Pod, Service as ApiService},
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::{
    control_plane::{ControlPlane, eventually},
    figures::{Table, milliseconds, quantile},
    objects::{CREATED_IN, MANY, OWN, create as create_object, pod},
    program::Program,
    reviews,
    service::{Backend, Service, get},
};

/// Pods in each namespace, in turn.
const PODS: usize = 400;
/// The first ones are slower: connections are made, and code is read from disk.
const WARM_UP: usize = 50;
/// What an injected pod says.
const DONE: &str = "done.sidecar.juicefs.com/inject";

pub(crate) async fn measure(plane: &ControlPlane, table: &mut Table) {
    let client = plane.client().await;
    let _programs = register(plane, &client).await;
    register_constant(&client).await;
    let mut taken = CREATED_IN.map(|_| Vec::new());
    for number in 0..WARM_UP + PODS {
        for (namespace, taken) in CREATED_IN.into_iter().zip(&mut taken) {
            let (duration, created) = create(&client, namespace, number).await;
            let injected = created.metadata.labels.is_some_and(|labels| labels.contains_key(DONE));
            assert_eq!(injected, namespace != CREATED_IN[2], "{namespace}");
            if number >= WARM_UP {
                taken.push(duration);
            }
        }
    }
    for share in [0.5, 0.99] {
        let [with, constant, without] = taken.each_mut().map(|taken| milliseconds(quantile(taken, share)));
        let what = format!(
            "creating a pod, p{:.0}, with the webhook, with a constant patch and without",
            share * 100.0
        );
        table.note(&what, format!("{with:.2}, {constant:.2} and {without:.2} ms"));
        if share < 0.9 {
            table.at_most("what that is more", with - without, 1.0, "ms");
            table.note("of that with a constant patch as well", format!("{:.2} ms", constant - without));
        }
    }
}

/// Without a token, whose volume the API server would name differently each time: one patch has to fit all.
fn wanted(name: &str, namespace: &str) -> Pod {
    let mut pod = pod(name, MANY, namespace);
    pod["spec"]["automountServiceAccountToken"] = false.into();
    serde_json::from_value(pod).expect("a pod")
}

async fn create(client: &Client, namespace: &str, number: usize) -> (Duration, Pod) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let wanted = wanted(&format!("pod-{number}"), namespace);
    let begun = Instant::now();
    let created = pods.create(&PostParams::default(), &wanted).await.expect("a pod");
    (begun.elapsed(), created)
}

/// Both programs as they are installed, once the API server asks them.
async fn register(plane: &ControlPlane, client: &Client) -> [Program; 2] {
    plane.has_endpoint(true);
    let kubeconfig = plane.kubeconfig(OWN, "juicefs-sidecar-controller").await;
    let controller = Program::start(|command| {
        command.args(["controller", "--metrics-listen=127.0.0.1:0", "--kubeconfig"]).arg(kubeconfig);
        command.env("POD_NAMESPACE", OWN);
    });
    let kubeconfig = plane.kubeconfig(OWN, "juicefs-sidecar-webhook").await;
    let webhook = Program::start(|command| {
        command.args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]);
        command.args(["--namespace", OWN]).arg("--kubeconfig").arg(kubeconfig);
    });
    let [address, metrics] = webhook.listening();
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    eventually("the registration", async || configurations.get_opt("juicefs-sidecar").await.ok().flatten())
        .await;
    eventually("the webhook to be ready", async || {
        get(metrics, "/readyz").ok().filter(|answer| answer == "ok\n")
    })
    .await;
    let services: Api<ApiService> = Api::namespaced(client.clone(), OWN);
    let service = services.get("juicefs-sidecar-webhook").await.expect("the Service");
    let cluster_ip = service.spec.and_then(|spec| spec.cluster_ip).expect("an address");
    Service::listen(&cluster_ip).add(Backend { address, health: metrics });
    until_asked(client, CREATED_IN[0]).await;
    [controller, webhook]
}

/// Waits until the webhook of a namespace is asked: an API server takes a moment to hear of it.
async fn until_asked(client: &Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let probe = wanted("probe", namespace);
    eventually("the webhook to be asked", async || {
        let labels = pods.create(&dry_run, &probe).await.ok()?.metadata.labels?;
        labels.contains_key(DONE).then_some(())
    })
    .await;
}

/// A webhook that gives every pod the patch that ours gives one of these, without a look at it: what anybody's costs at
/// least, and what a pod that is that much larger costs the API server.
async fn register_constant(client: &Client) {
    let (server, health) = reviews::start(constant_patch);
    Service::listen(reviews::CONSTANT_IP).add(Backend { address: server.address, health });
    let registration = json!({
        "metadata": {"name": "constant"},
        "webhooks": [{
            "name": "constant.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {
                "url": format!("https://{}/juicefs/inject-v1-pod", reviews::CONSTANT_IP),
                "caBundle": STANDARD.encode(&server.ca),
            },
            "namespaceSelector": {"matchLabels": {"constant": "true"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    create_object(&Api::<MutatingWebhookConfiguration>::all(client.clone()), registration).await;
    until_asked(client, CREATED_IN[1]).await;
}

fn constant_patch(body: &[u8], _: Endpoint, _: &Engine<'_>) -> Answer {
    let uid = |text: &[u8]| {
        const KEY: &[u8] = b"\"uid\":\"";
        let start = text.windows(KEY.len()).position(|found| found == KEY).expect("a UID") + KEY.len();
        start..start + "2b3016b3-52d9-41b3-8e12-000000000000".len()
    };
    let mut answer = reviews::CONSTANT.clone();
    let place = uid(&answer.body);
    answer.body[place].copy_from_slice(&body[uid(body)]);
    answer
}
