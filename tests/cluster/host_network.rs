//! Pods on the network of their node.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};

use super::{control_plane, golden};

#[tokio::test]
async fn two_injected_pods_on_the_host_network_fit_on_one_node() {
    let Some(plane) = control_plane::shared() else { return };
    let namespace = plane.namespace("host-network", &[]).await;
    let api: Api<Pod> = Api::namespaced(plane.client().await, &namespace);
    let mut injected = golden::result("host-network");
    injected["metadata"]["namespace"] = namespace.as_str().into();
    let pod: Pod = serde_json::from_value(injected).unwrap();
    let stored = api.create(&PostParams::default(), &pod).await.unwrap().spec.unwrap();
    assert_eq!(stored.host_network, Some(true));
    // Each port that such a pod declares becomes a `hostPort`, which the scheduler gives out once for each node.
    let containers = stored.init_containers.iter().flatten().chain(&stored.containers);
    let taken: Vec<_> = containers
        .filter(|container| container.name.starts_with("jfs-"))
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| port.host_port)
        .collect();
    assert!(taken.is_empty(), "{taken:?}");
}
