//! Events: what people see in `kubectl describe`. Repeated ones are counted in one, and there is a limit to all.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::time::Instant;

use crate::{cluster::bucket::Bucket, telemetry::ControllerMetrics};

/// How many events: per second in the long run, and at once.
pub type Rate = (f64, u32);
/// Of what is the exception: a namespace that is labelled late may have a thousand pods.
pub const RARE: Rate = (1.0, 50);
/// Of what is the rule: each claim that gets a volume has one.
pub const REGULAR: Rate = (10.0, 1000);
/// Bytes of a note; API servers refuse longer ones.
const NOTE_LENGTH: usize = 1024;

/// What an event is about, for people and machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A pod has a JuiceFS claim and no client.
    ClientMissing,
    /// A secret of a name we need is somebody else's.
    SecretNotOurs,
    /// A secret of the name that a claim's clients read is somebody else's.
    CredentialsNotOurs,
    /// The `ConfigMap` cannot be used.
    ConfigurationInvalid,
    /// The `ConfigMap` can be used again.
    ConfigurationAccepted,
    /// A claim has got its volume.
    ProvisioningSucceeded,
    /// It has not, and why.
    ProvisioningFailed,
    /// A volume is there, or larger, and has no quota.
    QuotaNotSet,
    /// The volume of a claim is being filled from another one, which takes long.
    VolumeDataClone,
    /// A volume is larger.
    VolumeResizeSuccessful,
    /// It is not, and why.
    VolumeResizeFailed,
    /// A volume goes, and its data does not.
    VolumeDataKept,
    /// The data of a volume is being removed, which takes long.
    VolumeDataRemoval,
    /// A volume that is to go does not, and why.
    VolumeFailedDelete,
    /// A snapshot was taken.
    SnapshotTaken,
    /// It was not, or one that is said to be there was not found, and why.
    SnapshotFailed,
    /// A snapshot that is to go does not, and why.
    SnapshotFailedDelete,
    /// A user secret that volumes need could not be kept, and why.
    SecretNotHeld,
    /// The application of a pod has ended for good, and its clients are ended.
    ClientsEnded,
    /// A pod was over and could not go for a mount of ours, which is detached.
    MountDetached,
    /// It is not, and what to do.
    MountNotDetached,
}

impl Reason {
    /// All there are.
    pub const ALL: [Self; 21] = [
        Self::ClientMissing,
        Self::SecretNotOurs,
        Self::CredentialsNotOurs,
        Self::ConfigurationInvalid,
        Self::ConfigurationAccepted,
        Self::ProvisioningSucceeded,
        Self::ProvisioningFailed,
        Self::QuotaNotSet,
        Self::VolumeDataClone,
        Self::VolumeResizeSuccessful,
        Self::VolumeResizeFailed,
        Self::VolumeDataKept,
        Self::VolumeDataRemoval,
        Self::VolumeFailedDelete,
        Self::SnapshotTaken,
        Self::SnapshotFailed,
        Self::SnapshotFailedDelete,
        Self::SecretNotHeld,
        Self::ClientsEnded,
        Self::MountDetached,
        Self::MountNotDetached,
    ];

    /// As the event has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientMissing => "ClientMissing",
            Self::SecretNotOurs => "SecretNotOurs",
            Self::CredentialsNotOurs => "CredentialsNotOurs",
            Self::ConfigurationInvalid => "ConfigurationInvalid",
            Self::ConfigurationAccepted => "ConfigurationAccepted",
            Self::ProvisioningSucceeded => "ProvisioningSucceeded",
            Self::ProvisioningFailed => "ProvisioningFailed",
            Self::QuotaNotSet => "QuotaNotSet",
            Self::VolumeDataClone => "VolumeDataClone",
            Self::VolumeResizeSuccessful => "VolumeResizeSuccessful",
            Self::VolumeResizeFailed => "VolumeResizeFailed",
            Self::VolumeDataKept => "VolumeDataKept",
            Self::VolumeDataRemoval => "VolumeDataRemoval",
            Self::VolumeFailedDelete => "VolumeFailedDelete",
            Self::SnapshotTaken => "SnapshotTaken",
            Self::SnapshotFailed => "SnapshotCreationFailed",
            Self::SnapshotFailedDelete => "SnapshotDeleteError",
            Self::SecretNotHeld => "SecretNotHeld",
            Self::ClientsEnded => "ClientsEnded",
            Self::MountDetached => "MountDetached",
            Self::MountNotDetached => "MountNotDetached",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::ClientMissing => "Watch",
            Self::ClientsEnded => "EndClients",
            Self::MountDetached | Self::MountNotDetached => "DetachMount",
            Self::SecretNotOurs => "IssueCertificate",
            Self::CredentialsNotOurs => "WriteSecret",
            Self::ConfigurationInvalid | Self::ConfigurationAccepted => "ReadConfiguration",
            Self::ProvisioningSucceeded
            | Self::ProvisioningFailed
            | Self::QuotaNotSet
            | Self::VolumeDataClone => "Provision",
            Self::VolumeResizeSuccessful | Self::VolumeResizeFailed => "Expand",
            Self::SnapshotTaken | Self::SnapshotFailed => "Snapshot",
            Self::SecretNotHeld => "HoldSecret",
            Self::VolumeDataKept
            | Self::VolumeDataRemoval
            | Self::VolumeFailedDelete
            | Self::SnapshotFailedDelete => "Delete",
        }
    }
}

/// What sends events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    budget: Arc<Mutex<Bucket>>,
    metrics: ControllerMetrics,
}

impl Events {
    /// Events that name this pod as their source, no more often than this.
    pub fn new(client: Client, pod: &str, rate: Rate, metrics: ControllerMetrics) -> Self {
        let reporter = Reporter { controller: "juicefs-sidecar".to_owned(), instance: Some(pod.to_owned()) };
        let budget = Arc::new(Mutex::new(Bucket::full(rate.0, rate.1)));
        Self { recorder: Recorder::new(client, reporter), budget, metrics }
    }

    /// Sends one; whether it got there. One that does not is in the log.
    pub async fn send(&self, kind: EventType, reason: Reason, note: &str, about: &ObjectReference) -> bool {
        if !self.budget.lock().unwrap_or_else(PoisonError::into_inner).try_take(Instant::now()) {
            self.metrics.event(reason, "dropped");
            return false;
        }
        let event = Event {
            type_: kind,
            reason: reason.name().to_owned(),
            note: Some(shortened(note).to_owned()),
            action: reason.action().to_owned(),
            secondary: None,
        };
        let sent = self.recorder.publish(&event, about).await;
        self.metrics.event(reason, if sent.is_ok() { "sent" } else { "failed" });
        if let Err(error) = &sent {
            let (kind, name) = (about.kind.as_deref(), about.name.as_deref());
            tracing::warn!(reason = reason.name(), kind, name, "an event could not be sent: {error}");
        }
        sent.is_ok()
    }
}

fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_LENGTH)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_ends_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = format!("{}é", "x".repeat(NOTE_LENGTH - 1));
        assert_eq!(shortened(&long).len(), NOTE_LENGTH - 1);
    }
}
