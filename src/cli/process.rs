//! The flags every subcommand with an engine shares, each with the environment variable the Go driver reads.
//!
//! Flatten [`ProcessArguments`] into a subcommand's arguments and turn it into a [`Process`] with
//! [`ProcessArguments::process`].

use clap::Args;

use super::installation::Installation;
use crate::{config::Process, controller::start::NoStart, notation::Version};

/// Whose volumes are ours.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Driver")]
pub struct DriverArguments {
    /// CSI driver name that makes a volume ours [default: csi.juicefs.com]
    #[arg(long, env = "DRIVER_NAME", value_name = "NAME", value_parser = driver_name)]
    driver_name: Option<String>,
}

impl DriverArguments {
    /// The driver's name; an empty value counts as none.
    pub fn name(&self) -> String {
        given(self.driver_name.as_deref()).unwrap_or_else(|| Process::default().driver)
    }
}

/// What pods have from us, of which the controller has to know as well.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Driver")]
pub struct PodArguments {
    /// Image of jfs-agent, which holds the mounts in resilient mode, where the ConfigMap names none [default: in a
    /// cluster the image this program runs from, else juicefs-sidecar:VERSION]
    #[arg(long, env = "JUICEFS_AGENT_IMAGE", value_name = "IMAGE")]
    agent_image: Option<String>,

    /// Host directory below which pods on ordinary nodes mount [default: /var/lib/juicefs/volume]
    #[arg(long, env = "JUICEFS_MOUNT_PATH", value_name = "DIRECTORY", value_parser = absolute_path)]
    mount_path: Option<String>,
}

impl PodArguments {
    /// The image of `jfs-agent`; an empty value counts as none.
    pub fn agent_image(&self) -> String {
        given(self.agent_image.as_deref()).unwrap_or_else(|| Process::default().agent_image)
    }

    /// The same for an installation: unless an image was named, it is the one `program` itself runs from.
    pub(super) async fn of(&self, installation: &Installation, program: &str) -> Result<Self, NoStart> {
        let is_named = given(self.agent_image.as_deref()).is_some();
        let own = if is_named { None } else { installation.image(program).await? };
        Ok(self.clone().or_image(own))
    }

    fn or_image(mut self, own: Option<String>) -> Self {
        self.agent_image = given(self.agent_image.as_deref()).or(own);
        self
    }

    /// The host directory; an empty value counts as none.
    pub fn mount_directory(&self) -> String {
        given(self.mount_path.as_deref()).unwrap_or_else(|| Process::default().mount_directory)
    }
}

/// What the process is told about the driver it stands in for; the same for every request.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Driver")]
pub struct ProcessArguments {
    #[command(flatten)]
    driver: DriverArguments,

    /// Image of the community client, where neither volume nor ConfigMap names one
    #[arg(long, env = "JUICEFS_CE_MOUNT_IMAGE", value_name = "IMAGE")]
    ce_mount_image: Option<String>,

    /// Image of the enterprise client, where neither volume nor ConfigMap names one
    #[arg(long, env = "JUICEFS_EE_MOUNT_IMAGE", value_name = "IMAGE")]
    ee_mount_image: Option<String>,

    /// Image of the client its tag names: `ce-*`, `latest` or none the community one, `ee-*` the enterprise
    /// one, any other both; wins over the two above
    #[arg(long, env = "JUICEFS_MOUNT_IMAGE", value_name = "IMAGE")]
    mount_image: Option<String>,

    #[command(flatten)]
    pods: PodArguments,

    /// The nodes' /etc cannot be written: leave out the mount of /etc/updatedb.conf
    #[arg(long, env = "JUICEFS_IMMUTABLE", num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true", value_parser = lenient_bool)]
    immutable: bool,

    /// `enabled` keeps the client configuration of the console as it is at every mount (enterprise)
    #[arg(long, env = "JFS_NO_UPDATE_CONFIG", value_name = "enabled|disabled")]
    no_update_config: Option<String>,

    /// Version of the cluster, for example 1.29; decides whether native sidecars exist [default: the cluster's, where
    /// one is asked]
    #[arg(long, value_name = "VERSION", value_parser = str::parse::<Version>)]
    kube_version: Option<Version>,
}

impl ProcessArguments {
    /// The part of which the controller has to know.
    pub(super) fn pods(&self) -> &PodArguments {
        &self.pods
    }

    /// The same for an installation, see [`PodArguments::of`].
    pub(super) async fn of(&self, installation: &Installation, program: &str) -> Result<Self, NoStart> {
        Ok(Self { pods: self.pods.of(installation, program).await?, ..self.clone() })
    }

    /// The same where the program runs from this image.
    pub(super) fn run_from(self, image: Option<String>) -> Self {
        Self { pods: self.pods.or_image(image), ..self }
    }

    /// The settings these arguments stand for; an empty value counts as none.
    pub fn process(&self) -> Process {
        let default = Process::default();
        let mut process = Process {
            driver: self.driver.name(),
            community_image: given(self.ce_mount_image.as_deref()).unwrap_or(default.community_image),
            enterprise_image: given(self.ee_mount_image.as_deref()).unwrap_or(default.enterprise_image),
            agent_image: self.pods.agent_image(),
            mount_directory: self.pods.mount_directory(),
            immutable: self.immutable,
            no_update_config: self.no_update_config.as_deref() == Some("enabled"),
            kubernetes: self.kube_version,
        };
        if let Some(image) = given(self.mount_image.as_deref()) {
            let (community, enterprise) = editions(&image);
            if community {
                process.community_image.clone_from(&image);
            }
            if enterprise {
                process.enterprise_image = image;
            }
        }
        process
    }
}

/// An empty value counts as none.
fn given(value: Option<&str>) -> Option<String> {
    value.filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Which clients (community, enterprise) an image is for, by its tag; a registry's port is not a tag.
fn editions(image: &str) -> (bool, bool) {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':').map(|(_, tag)| tag) {
        // A digest alone does not tell.
        None if digest => (true, true),
        None | Some("latest") => (true, false),
        Some(tag) if tag.starts_with("ce-") => (true, false),
        Some(tag) if tag.starts_with("ee-") => (false, true),
        Some(_) => (true, true),
    }
}

/// It becomes part of expressions.
fn driver_name(text: &str) -> Result<String, String> {
    let is_name = rustls::pki_types::DnsName::try_from(text).is_ok() && text == text.to_ascii_lowercase();
    if is_name || text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err("give the name of a CSI driver, like csi.juicefs.com".to_owned())
    }
}

pub(super) fn absolute_path(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("give an absolute path".to_owned())
    }
}

/// What shells and the Go driver take for a boolean; empty is false.
pub(super) fn lenient_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "0" | "f" | "false" | "n" | "no" | "off" => Ok(false),
        "1" | "t" | "true" | "y" | "yes" | "on" => Ok(true),
        _ => Err("give true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        process: ProcessArguments,
    }

    fn process(arguments: &[&str]) -> Process {
        Command::parse_from([&["test"], arguments].concat()).process.process()
    }

    #[test]
    fn the_tag_of_the_one_image_decides_the_edition() {
        let cases = [
            ("juicedata/mount", (true, false)),
            ("juicedata/mount:latest", (true, false)),
            ("juicedata/mount:ce-v1.3.0", (true, false)),
            ("juicedata/mount:ee-5.2.1", (false, true)),
            ("juicedata/mount:v1.0", (true, true)),
            ("registry.example.com:5000/juicedata/mount", (true, false)),
            ("registry.example.com:5000/juicedata/mount:ee-5.2.1", (false, true)),
            ("registry.example.com:5000/mount:ce-1@sha256:00ff", (true, false)),
            ("juicedata/mount@sha256:00ff", (true, true)),
        ];
        for (image, expected) in cases {
            assert_eq!(editions(image), expected, "{image}");
        }
    }

    #[test]
    fn the_one_image_wins_over_the_image_of_its_edition() {
        let process = process(&[
            "--ce-mount-image=a:ce-1",
            "--ee-mount-image=b:ee-1",
            "--mount-image=host:5000/c:ee-2",
        ]);
        assert_eq!(process.community_image, "a:ce-1");
        assert_eq!(process.enterprise_image, "host:5000/c:ee-2");
    }

    #[test]
    fn empty_values_count_as_none() {
        let process = process(&["--driver-name=", "--mount-path=", "--mount-image="]);
        assert_eq!(process.driver, "csi.juicefs.com");
        assert_eq!(process.mount_directory, "/var/lib/juicefs/volume");
        assert_eq!(process.community_image, Process::default().community_image);
    }

    #[test]
    fn a_flag_without_a_value_is_true() {
        assert!(process(&["--immutable"]).immutable);
        assert!(process(&["--immutable=T"]).immutable);
        assert!(!process(&["--immutable=no"]).immutable);
        assert!(!process(&[]).immutable);
        assert!(process(&["--no-update-config=enabled"]).no_update_config);
        assert!(!process(&["--no-update-config=true"]).no_update_config);
    }

    #[test]
    fn what_cannot_be_a_drivers_name_is_refused() {
        for name in ["Csi.JuiceFS.com", "csi'juicefs", "a b"] {
            let error = Command::try_parse_from(["test", "--driver-name", name]).err().unwrap().to_string();
            assert!(error.contains("give the name of a CSI driver"), "{error}");
        }
    }

    #[test]
    fn a_relative_mount_path_is_refused() {
        let error = Command::try_parse_from(["test", "--mount-path=volumes"]).err().unwrap().to_string();
        assert!(error.contains("give an absolute path"), "{error}");
    }
}
