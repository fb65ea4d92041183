//! The word after `-o`.

use std::borrow::Cow;

use super::{
    RSA_KEY_DIRECTORY, RSA_KEY_FILE, Request, unusable,
    word::{Nul, Word},
};
use crate::{
    outcome::{Code, Refusal},
    volume::{EPHEMERAL_DIRECTORY, settings::Directory},
};

/// What the user's mount options say about metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserMetrics {
    /// Nothing.
    Unset,
    /// They are served on this port.
    Port(u16),
    /// They are served on a free port.
    NoFixedPort,
    /// There is an address without a port, which the client does not take.
    NoPort,
}

/// Reads the last `metrics=` option, whose port is the number after its last colon.
#[must_use]
pub fn user_metrics(options: &[String]) -> UserMetrics {
    let Some(address) = options.iter().rev().find_map(|option| option.strip_prefix("metrics=")) else {
        return UserMetrics::Unset;
    };
    let port = address.rsplit(':').next().unwrap_or_default();
    match port.trim().parse() {
        Ok(0) => UserMetrics::NoFixedPort,
        Ok(port) => UserMetrics::Port(port),
        Err(_) => UserMetrics::NoPort,
    }
}

/// The mount options of one client.
pub(super) struct Options<'a> {
    /// `None` if there are none.
    pub(super) word: Option<Word<'a>>,
    /// The port to be declared.
    pub(super) metrics_port: Option<u16>,
}

pub(super) fn community<'a>(request: &Request<'a>) -> Result<Options<'a>, Refusal> {
    let mut options = of_user(request)?;
    options.extend(subdir(&request.settings.directory)?);
    let on_host = request.settings.host_network;
    let (address_port, metrics_port) = match (user_metrics(&request.settings.options), request.metrics_port) {
        (UserMetrics::Port(port), _) => (None, Some(port)),
        (UserMetrics::NoFixedPort | UserMetrics::NoPort, _) => (None, None),
        // Ports of the node are scarce: any free one.
        (UserMetrics::Unset, _) if on_host => (Some(0), None),
        (UserMetrics::Unset, port) => (port, port),
    };
    options.extend(address_port.map(|port| Word::literal(format!("metrics=0.0.0.0:{port}"))));
    Ok(Options { word: join(options), metrics_port: metrics_port.filter(|_| !on_host) })
}

pub(super) fn enterprise<'a>(request: &Request<'a>) -> Result<Options<'a>, Refusal> {
    let mut options = vec![Word::literal("foreground"), Word::literal("no-update")];
    if request.secret.rsa_key {
        options.push(Word::literal(format!("rsa-key={RSA_KEY_DIRECTORY}/{RSA_KEY_FILE}")));
    }
    options.extend(of_user(request)?);
    options.extend(subdir(&request.settings.directory)?);
    Ok(Options { word: join(options), metrics_port: None })
}

fn of_user<'a>(request: &Request<'a>) -> Result<Vec<Word<'a>>, Refusal> {
    let settings = request.settings;
    let given = settings.options.iter().map(String::as_str).filter(|option| !option.is_empty());
    let read_only = settings.read_only && !given.clone().any(|option| matches!(option, "ro" | "read-only"));
    let options = read_only.then_some("ro").into_iter().chain(given);
    options
        .map(|option| {
            let name = option.split('=').next().unwrap_or_default();
            checked(option, || format!("mount option {name:?}"))
        })
        .collect()
}

fn subdir(directory: &Directory) -> Result<Option<Word<'_>>, Refusal> {
    let path = directory.path.as_str();
    let place = || "the volume's directory (mount option \"subdir\")".to_owned();
    let Some(volume) = &directory.ephemeral else {
        return match path {
            "" => Ok(None),
            path => Ok(Some(checked(format!("subdir={path}"), place)?)),
        };
    };
    let parent = match path {
        "" => String::new(),
        path => format!("{}/", path.trim_end_matches('/')),
    };
    let word = checked(format!("subdir={parent}{EPHEMERAL_DIRECTORY}"), place)?;
    Ok(Some(word.and_pod_uid().and_word(checked(format!("-{volume}"), place)?)))
}

/// The client splits its options at every comma and knows no escape for one.
fn checked<'a>(option: impl Into<Cow<'a, str>>, place: impl Fn() -> String) -> Result<Word<'a>, Refusal> {
    let option = option.into();
    if option.contains(',') {
        return Err(Refusal::new(
            Code::SettingInvalid,
            place(),
            "contains a comma, where the client would begin another option",
            "give one option per list item, and no value with a comma",
        ));
    }
    if option.contains('\0') {
        return Err(unusable(place(), Nul));
    }
    Ok(Word::literal(option))
}

fn join(options: Vec<Word<'_>>) -> Option<Word<'_>> {
    options.into_iter().reduce(|joined, option| joined.and(",").and_word(option))
}
