//! The largest pods: docs/limits.md has these figures.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use super::installation::{injected, pod, shared};

/// What the API server says of a pod with so many variables of so many bytes; whether it was injected.
async fn tried(pods: &Api<Pod>, name: &str, count: usize, length: usize) -> Result<bool, String> {
    let mut pod = pod(name, "logs");
    let value = "x".repeat(length);
    let variables: Vec<_> =
        (0..count).map(|number| json!({"name": format!("V{number}"), "value": value})).collect();
    pod["spec"]["containers"][0]["env"] = variables.into();
    let made = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await;
    match made {
        Ok(made) => {
            let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            pods.delete(name, &at_once).await.unwrap();
            Ok(injected(&serde_json::to_value(made).unwrap()))
        }
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn the_largest_pods_are_injected() {
    let Some(installation) = shared().await else { return };
    let pods: Api<Pod> = Api::namespaced(installation.plane.client().await, "team-a");
    // As large as etcd stores them, by the bytes of one value.
    let (mut stored, mut refused) = (1 << 20, 4 << 20);
    while refused - stored > stored / 100 {
        let middle = usize::midpoint(stored, refused);
        match tried(&pods, "largest-value", 1, middle).await {
            Ok(injected) => {
                assert!(injected, "{middle}");
                stored = middle;
            }
            Err(error) => {
                let by_storage =
                    error.contains("etcdserver: request is too large") || error.contains("larger than max");
                assert!(by_storage, "{middle}: {error}");
                refused = middle;
            }
        }
    }
    assert!(stored > 1_500_000, "{stored} of 1.5 MiB");
    // In JSON, and with a list of their names beside them, short variables are much longer than as they are stored.
    assert_eq!(tried(&pods, "largest-list", 40_000, 8).await, Ok(true));
    let error = tried(&pods, "largest-list", 50_000, 8).await.unwrap_err();
    assert!(error.contains("status code 413"), "{error}");
}
