//! The fields of an item of `mountPodPatch` that become settings.

use std::fmt;

macro_rules! fields {
    ($($name:ident = $text:literal,)+) => {
        /// A field of an item of `mountPodPatch`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the fields of PatchItem, which say what they are")]
        pub enum Field { $($name,)+ }

        impl Field {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The field as the ConfigMap writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

fields! {
    CommunityImage = "ceMountImage",
    EnterpriseImage = "eeMountImage",
    ImagePullPolicy = "imagePullPolicy",
    Resources = "resources",
    ResourcePercentages = "resourcePercentages",
    MountOptions = "mountOptions",
    Env = "env",
    CacheDirs = "cacheDirs",
    Volumes = "volumes",
    VolumeMounts = "volumeMounts",
    VolumeDevices = "volumeDevices",
    LivenessProbe = "livenessProbe",
    ReadinessProbe = "readinessProbe",
    StartupProbe = "startupProbe",
    Lifecycle = "lifecycle",
    HostNetwork = "hostNetwork",
    TerminationGracePeriodSeconds = "terminationGracePeriodSeconds",
    ExitOrder = "exitOrder",
    OnCrash = "onCrash",
    Annotations = "annotations",
}

impl Field {
    /// Whether templates such as `${MOUNT_POINT}` are filled in.
    pub(super) const fn takes_templates(self) -> bool {
        !matches!(
            self,
            Self::ImagePullPolicy
                | Self::Resources
                | Self::ResourcePercentages
                | Self::HostNetwork
                | Self::TerminationGracePeriodSeconds
                | Self::ExitOrder
                | Self::OnCrash
        )
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
