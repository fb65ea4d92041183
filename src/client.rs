//! JuiceFS command lines, community and enterprise, as words.
//!
//! Words and their order are those of the Go driver. How they are run is decided elsewhere: by a shell's line, with
//! quotes where a value needs them, or by a vector of arguments.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod access;
mod community;
mod enterprise;
mod image;
mod options;
pub mod word;

use crate::{
    config::Process,
    outcome::{Code, Refusal},
    volume::{
        Edition, Settings, UserSecret,
        secret::{FormatOption, Value, injected},
    },
};

pub use options::{UserMetrics, user_metrics};
use word::{Nul, Word};

/// The variable that holds the pod's UID, by `fieldRef: metadata.uid`; see [`Needs::pod_uid`].
pub const POD_UID: &str = "JFS_POD_UID";

/// What runs in the client's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// Commands to be run before the mount, one after the other; each has to succeed.
    pub preparation: Vec<Vec<Word<'a>>>,
    /// The command that becomes the client: `<client> <file system> <mount point> -o <options>`.
    pub mount: Vec<Word<'a>>,
    /// What the container has to have for these commands.
    pub needs: Needs,
    /// Worth telling the user.
    pub warnings: Vec<String>,
}

/// The container a client runs in, as far as its commands depend on that.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    /// Where the client is to mount.
    pub mount_point: Word<'a>,
    /// Where the community client serves metrics unless the user said otherwise; with `None` it is left to the client.
    pub metrics_port: Option<u16>,
    /// Whether commands run as root, who alone may change files of the image.
    pub as_root: bool,
}

impl<'a> Container<'a> {
    /// A container whose user is root and that says nothing about metrics.
    pub fn of_root(mount_point: &'a str) -> Self {
        Self { mount_point: Word::literal(mount_point), metrics_port: None, as_root: true }
    }
}

/// What a container has to have for a client's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The port that serves metrics, to be declared; `None` if there is none to declare.
    pub metrics_port: Option<u16>,
    /// Whether a command names [`POD_UID`].
    pub pod_uid: bool,
    /// Secret volumes the client reads.
    pub files: Vec<SecretFiles>,
}

/// A secret volume of the client's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFiles {
    /// The volume's name: `rsa-key`, `init-config`, `config-1`, …
    pub volume: String,
    /// Where its files come from.
    pub source: SecretSource,
    /// Where it is mounted.
    pub mount_path: String,
    /// Files that are mounted once more, by name, over files of the image.
    pub over: &'static [(&'static str, &'static str)],
}

/// Where the files of a secret volume come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// One key of the injected secret, under a file name.
    Injected {
        /// The key.
        key: &'static str,
        /// The file.
        file: String,
    },
    /// Everything in a secret of the pod's namespace.
    Named(String),
}

/// What one client's command line is made from.
#[derive(Clone, Copy)]
struct Request<'a> {
    secret: &'a UserSecret,
    settings: &'a Settings,
    metrics_port: Option<u16>,
    as_root: bool,
    process: &'a Process,
}

impl Request<'_> {
    /// Whether the user secret has an `initconfig` that this client can read.
    fn uses_initconfig(&self) -> bool {
        let Some(config) = self.secret.initconfig else { return false };
        let unreadable = self.secret.edition == Edition::Enterprise
            && config.encrypted
            && image::is_before(&self.settings.image, image::READS_ENCRYPTED_INITCONFIG);
        !unreadable
    }
}

/// What runs in the container of a client.
pub fn script<'a>(
    secret: &'a UserSecret,
    settings: &'a Settings,
    container: Container<'a>,
    process: &'a Process,
) -> Result<Script<'a>, Refusal> {
    let Container { mount_point, metrics_port, as_root } = container;
    let request = Request { secret, settings, metrics_port, as_root, process };
    let (preparation, options) = match secret.edition {
        Edition::Community => (community::preparation(&request), options::community(&request)?),
        Edition::Enterprise => (enterprise::preparation(&request)?, options::enterprise(&request)?),
    };
    let mut mount = match secret.edition {
        Edition::Community => vec![Word::literal("/bin/mount.juicefs"), Word::variable("metaurl")],
        Edition::Enterprise => {
            vec![Word::literal("/sbin/mount.juicefs"), Word::literal(secret.name.as_str())]
        }
    };
    mount.push(mount_point);
    mount.extend(options.word.into_iter().flat_map(|word| [Word::literal("-o"), word]));
    let needs = Needs {
        metrics_port: options.metrics_port,
        pod_uid: settings.directory.ephemeral.is_some(),
        files: files(&request),
    };
    Ok(Script { preparation, mount, needs, warnings: warnings(&request) })
}

/// What the client of a file system, with this image, has to run before it can do anything else: `format` or `auth`,
/// the program first; `None` where a ready-made configuration takes its place, or there is no way in.
fn setup<'a>(
    secret: &'a UserSecret,
    settings: &'a Settings,
    process: &'a Process,
) -> Result<Option<Vec<Word<'a>>>, Refusal> {
    let request = Request { secret, settings, metrics_port: None, as_root: true, process };
    match secret.edition {
        Edition::Community => Ok(community::format(&request)),
        Edition::Enterprise if request.uses_initconfig() || !secret.has_credential("token") => Ok(None),
        Edition::Enterprise => enterprise::auth(&request).map(Some),
    }
}

/// `--name=value`, the value in the environment if it is confidential.
fn argument<'a>(name: &'a str, value: &'a Value) -> Word<'a> {
    let word = Word::literal("--").and(name).and("=");
    match value {
        Value::Plain(text) => word.and(text.as_str()),
        Value::Hidden(variable) => word.and_variable(variable.name.as_str()),
    }
}

/// The arguments among `names` that the user secret has, in the order of `names`.
fn arguments<'a>(secret: &'a UserSecret, names: &'a [&str]) -> impl Iterator<Item = Word<'a>> + 'a {
    names.iter().filter_map(|name| secret.arguments.get(name).map(|value| argument(name, value)))
}

/// `--name="${variable}"` for those credentials that exist.
fn credentials<'a>(secret: &'a UserSecret, names: &'a [(&str, &str)]) -> impl Iterator<Item = Word<'a>> + 'a {
    let exists = |(_, variable): &&(&str, &str)| secret.has_credential(variable);
    names
        .iter()
        .filter(exists)
        .map(|(name, variable)| Word::literal("--").and(*name).and("=").and_variable(*variable))
}

fn format_options(secret: &UserSecret) -> impl Iterator<Item = Word<'_>> + '_ {
    secret.format_options.iter().map(|FormatOption { name, value }| match value {
        Some(value) => argument(name, value),
        None => Word::literal("--").and(name.as_str()),
    })
}

/// Puts the ready-made configuration where the client looks for it.
fn copy_initconfig(secret: &UserSecret) -> Vec<Word<'_>> {
    vec![
        Word::literal("cp"),
        Word::literal(format!("{INITCONFIG_DIRECTORY}/")).and(secret.name.as_str()).and(".conf"),
        Word::literal(CONFIG_DIRECTORY),
    ]
}

const RSA_KEY_DIRECTORY: &str = "/root/.rsa";
const RSA_KEY_FILE: &str = "rsa-key.pem";
const INITCONFIG_DIRECTORY: &str = "/etc/juicefs";
/// Where the enterprise client keeps what `auth` fetched.
const CONFIG_DIRECTORY: &str = "/root/.juicefs";

fn files(request: &Request<'_>) -> Vec<SecretFiles> {
    let secret = request.secret;
    let rsa_key = secret.rsa_key.then(|| SecretFiles {
        volume: "rsa-key".into(),
        source: SecretSource::Injected { key: injected::RSA_KEY, file: RSA_KEY_FILE.into() },
        mount_path: RSA_KEY_DIRECTORY.into(),
        over: &[],
    });
    let initconfig = request.uses_initconfig().then(|| SecretFiles {
        volume: "init-config".into(),
        source: SecretSource::Injected { key: injected::INITCONFIG, file: format!("{}.conf", secret.name) },
        mount_path: INITCONFIG_DIRECTORY.into(),
        over: &[],
    });
    let configs = secret.configs.iter().zip(1..).map(|((name, path), number)| SecretFiles {
        volume: format!("config-{number}"),
        source: SecretSource::Named(name.clone()),
        mount_path: path.clone(),
        over: enterprise::mounted_over(request, path),
    });
    rsa_key.into_iter().chain(initconfig).chain(configs).collect()
}

fn warnings(request: &Request<'_>) -> Vec<String> {
    let mut warnings = request.secret.warnings.clone();
    if request.secret.initconfig.is_some() && !request.uses_initconfig() {
        warnings.push(format!(
            "user secret key initconfig is ignored: it is encrypted, and image {:?} is older than 5.1.0",
            request.settings.image
        ));
    }
    warnings
}

/// A refusal of text that no command line can carry.
pub(crate) fn unusable(place: impl Into<String>, nul: Nul) -> Refusal {
    Refusal::new(Code::SettingInvalid, place, nul.to_string(), "take the NUL byte out")
}

#[cfg(test)]
mod tests;
