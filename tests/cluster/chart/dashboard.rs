//! What is scraped, and the dashboard over it: a real Prometheus with the shipped configuration finds a webhook, a
//! controller and every client of a pod, and each query of the dashboard returns data.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    super::{
        control_plane::{ControlPlane, eventually},
        file_system::{self, Mounted},
        installation::{Replica, injected, service},
        manifests::{self, NAMESPACE},
        objects::{create, storage},
        program::Program,
    },
    folder, objects, rendered,
};

const TEAM: &str = "measured";
/// Names of volumes, which are the cluster's.
const VOLUMES: [&str; 2] = ["measured-one", "measured-two"];

/// It ends with this value.
struct Prometheus {
    child: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// With these jobs, and these pods to scrape. Debian's knows no Kubernetes: it is told in a file what it would have
    /// found.
    fn start(plane: &ControlPlane, mut jobs: Vec<Value>, pods: &[Pod]) -> Self {
        let directory = plane.state().join("prometheus");
        fs::create_dir_all(&directory).unwrap();
        let targets = directory.join("targets.json");
        let found: Vec<Value> = pods.iter().flat_map(discovered).collect();
        fs::write(&targets, Value::from(found).to_string()).unwrap();
        for job in &mut jobs {
            let removed = job.as_object_mut().unwrap().remove("kubernetes_sd_configs");
            assert_eq!(removed, Some(json!([{"role": "pod"}])));
            job["file_sd_configs"] = json!([{"files": [targets]}]);
        }
        let configuration = json!({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs});
        let file = directory.join("prometheus.yml");
        fs::write(&file, configuration.to_string()).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus, which `make setup` installs");
        Self { child, address }
    }

    /// The series that a query returns now, with numbers that are some; nothing is one of them.
    fn ask(&self, query: &str) -> Vec<String> {
        let output = Command::new("promtool")
            .args(["query", "instant", &format!("http://{}", self.address), query])
            .output()
            .expect("promtool, which `make setup` installs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || !error.contains("bad_data"), "{query}: {error}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains("=>") && !line.contains("NaN")).map(str::to_owned).collect()
    }
}

/// What Prometheus finds of a pod: a target for each port of each container, init containers too, with labels that say
/// of which.
fn discovered(pod: &Pod) -> Vec<Value> {
    let (Some(spec), Some(address)) =
        (&pod.spec, pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()))
    else {
        return Vec::new();
    };
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let mut common = json!({"__meta_kubernetes_namespace": pod.namespace(), "__meta_kubernetes_pod_name": pod.name_any(),
        "__meta_kubernetes_pod_ip": address, "__meta_kubernetes_pod_phase": phase});
    for (label, value) in pod.labels() {
        let label = label.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
        common[format!("__meta_kubernetes_pod_label_{label}")] = value.as_str().into();
        common[format!("__meta_kubernetes_pod_labelpresent_{label}")] = "true".into();
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports =
        containers.flat_map(|container| container.ports.iter().flatten().map(move |port| (container, port)));
    let target = |(container, port): (&Container, &ContainerPort)| {
        let mut labels = common.clone();
        labels["__meta_kubernetes_pod_container_name"] = container.name.as_str().into();
        labels["__meta_kubernetes_pod_container_port_name"] = port.name.clone().unwrap_or_default().into();
        labels["__meta_kubernetes_pod_container_port_number"] = port.container_port.to_string().into();
        json!({"targets": [format!("{address}:{}", port.container_port)], "labels": labels})
    };
    ports.map(target).collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The jobs of `files/scrape.yaml`.
fn jobs() -> Vec<Value> {
    let text = fs::read_to_string(folder().join("files/scrape.yaml")).unwrap();
    objects(&text)[0]["scrape_configs"].as_array().unwrap().clone()
}

/// The jobs that the Prometheus Operator makes of a `PodMonitor`: one for each endpoint, of pods with its labels, at ports
/// with its name, with namespace, pod and container as labels.
fn jobs_of(monitor: &Value) -> Vec<Value> {
    let name = monitor["metadata"]["name"].as_str().unwrap();
    let labels = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let endpoints = monitor["spec"]["podMetricsEndpoints"].as_array().unwrap().iter().enumerate();
    endpoints
        .map(|(number, endpoint)| {
            let mut rules: Vec<Value> = labels
                .iter()
                .map(|(label, value)| {
                    let label = label.replace(['.', '/', '-'], "_");
                    json!({"action": "keep", "source_labels": [format!("__meta_kubernetes_pod_label_{label}")],
                        "regex": value})
                })
                .collect();
            rules.push(json!({"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                "regex": endpoint["port"]}));
            for (label, target) in
                [("namespace", "namespace"), ("pod_name", "pod"), ("pod_container_name", "container")]
            {
                let label = format!("__meta_kubernetes_{label}");
                rules.push(json!({"source_labels": [label], "target_label": target}));
            }
            for rule in endpoint["relabelings"].as_array().into_iter().flatten() {
                let mut rule = rule.clone();
                if let Some(labels) = rule.as_object_mut().unwrap().remove("sourceLabels") {
                    rule["source_labels"] = labels;
                }
                rules.push(rule);
            }
            json!({"job_name": format!("{name}/{number}"), "kubernetes_sd_configs": [{"role": "pod"}],
                "relabel_configs": rules})
        })
        .collect()
}

/// Every query of the dashboard, with its panel.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join("files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned()))
    });
    queries.collect()
}

/// Has a pod in which something listens at a port, as far as the API server knows.
async fn at_loopback(client: &Client, namespace: &str, name: &str) {
    let status =
        json!({"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// A pod that stands for a program of ours, which runs outside of any.
async fn stands_for(client: &Client, component: &str, health: SocketAddr) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": component, "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/name": "juicefs-sidecar", "app.kubernetes.io/component": component}},
        "spec": {"containers": [{"name": component, "image": "i", "ports": [
            {"name": "metrics", "containerPort": health.port()}]}]}});
    create(client, pod, false).await.unwrap();
    at_loopback(client, NAMESPACE, component).await;
}

/// A pod with two volumes, whose clients are real and run outside of it.
async fn application(client: &Client) -> Vec<Mounted> {
    let mut mounted = Vec::new();
    for volume in VOLUMES {
        let file_system = file_system::shared().one();
        file_system.format();
        let port = free_port();
        let [_, mut persistent, claim] = storage(TEAM, volume);
        persistent["spec"]["mountOptions"] = json!([format!("metrics=0.0.0.0:{port}")]);
        for object in [file_system.secret(TEAM, volume), persistent, claim] {
            create(client, object, false).await.unwrap();
        }
        mounted.push(file_system.mount("mnt", port));
    }
    let mounts: Vec<_> =
        VOLUMES.iter().map(|name| json!({"name": name, "mountPath": format!("/{name}")})).collect();
    let volumes: Vec<_> = VOLUMES
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": TEAM}, "spec": {
        // It must not be taken for a client.
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": mounts,
            "ports": [{"name": "metrics", "containerPort": 1}]}],
        "volumes": volumes}});
    eventually("pods to be injected", async || create(client, pod.clone(), true).await.ok().filter(injected))
        .await;
    create(client, pod, false).await.unwrap();
    at_loopback(client, TEAM, "app").await;
    mounted
}

/// Something to measure: files that are written and read, and a review.
async fn work(client: &Client, points: &[&Path], round: usize) {
    for point in points {
        let file = point.join(format!("file-{}", round % 4));
        fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(fs::read(&file).unwrap().len(), 1 << 20);
        fs::remove_file(&file).unwrap();
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other", "namespace": TEAM}, "spec": {
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": VOLUMES[0]}}]}});
    create(client, pod, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_query_of_the_dashboard_returns_data_of_real_programs_and_clients() {
    let Some(plane) = ControlPlane::start() else { return };
    let Some(chart) = rendered(&["--set=podMonitor.enabled=true", "--api-versions=monitoring.coreos.com/v1"])
    else {
        return;
    };
    manifests::install(&plane);
    let client = plane.client().await;
    // Their pods would never have an address.
    let mut kubectl = plane.kubectl();
    assert!(
        kubectl.args(["delete", "deployments", "--all", "-n", NAMESPACE]).output().unwrap().status.success()
    );
    plane.namespace(TEAM, &[("juicefs.com/enable-injection", "true")]).await;
    plane.has_endpoint(true);
    let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-controller").await;
    let controller = Program::start(|command| {
        command.args([
            "controller",
            "--metrics-listen=127.0.0.1:0",
            "--certificate-lifetime=60s",
            "--kubeconfig",
        ]);
        command.arg(kubeconfig).env("POD_NAMESPACE", NAMESPACE);
    });
    let health = controller.wait_for("listening")["metrics_address"].as_str().unwrap().parse().unwrap();
    let webhook = Replica::start(&plane, &[]).await;
    service(&plane).await.add(webhook.backend);
    stands_for(&client, "controller", health).await;
    stands_for(&client, "webhook", webhook.backend.health).await;
    let mounted = application(&client).await;
    for one in &mounted {
        eventually("a client to mount", async || one.point().map(drop)).await;
    }
    let points: Vec<&Path> = mounted.iter().filter_map(Mounted::point).collect();

    let monitor =
        chart.iter().find(|object| object["metadata"]["name"] == "juicefs-sidecar-clients").unwrap();
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await.unwrap().items;
    let prometheus = Prometheus::start(&plane, [jobs(), jobs_of(monitor)].concat(), &pods);
    let mut round = 0;
    for job in ["juicefs-clients", "juicefs-sidecar-clients/.*"] {
        let query =
            format!("sum by (container) (juicefs_uptime{{job=~\"{job}\",namespace=\"{TEAM}\",pod=\"app\"}})");
        eventually(&format!("every client to be scraped by {job}"), async || {
            (prometheus.ask(&query).len() == VOLUMES.len()).then_some(())
        })
        .await;
        // And nothing that is none: the application's own port.
        assert!(prometheus.ask(&format!("up{{job=~\"{job}\"}} == 0")).is_empty());
    }
    for (panel, query) in queries() {
        let filled = query.replace("$namespace", TEAM).replace("$__rate_interval", "10s");
        eventually(&format!("data of {panel:?}: {query}"), async || {
            round += 1;
            work(&client, &points, round).await;
            (!prometheus.ask(&filled).is_empty()).then_some(())
        })
        .await;
    }
    assert!(!prometheus.ask("count by (namespace) (juicefs_uptime)").is_empty(), "what the variable lists");
}
