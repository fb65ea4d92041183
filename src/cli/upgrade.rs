//! `juicefs-sidecar upgrade`: changes the image of running clients, under open files.

use std::{cell::Cell, pin::pin, time::Duration};

use clap::Args;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1 as api;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::wait::await_condition,
};
use tokio::time::{Instant, timeout};

use super::{output::Output, pods::PodArguments, program};
use crate::running::upgrade::{Progress, Selection, Target, repository, select};

/// How long a client has to go on as it is to be believed: for a moment a kubelet says of a container that was started
/// again that it has started, before its startup probe was tried.
const LASTING: Duration = Duration::from_secs(3);

/// `upgrade`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    pods: PodArguments,

    /// The image that clients are to have
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    image: String,

    /// Only clients whose image has this name, whatever its tag [default: that of --image]
    #[arg(long, value_name = "NAME")]
    from: Option<String>,

    /// So many clients at once
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,

    /// Seconds that one client may take, the pull of its image included
    #[arg(long, value_name = "SECONDS", default_value = "180", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,

    /// Have the API server check the changes, and make none
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
A client in resilient mode is replaced in place: it saves its open files and ends,
and the next one, of the new image, goes on with them. The first failure stops the
rest. Clients in classic mode are replaced with their pods only: they are listed.

Examples:
  juicefs-sidecar upgrade --image juicedata/mount:ce-v1.4.2 -n app --dry-run
  juicefs-sidecar upgrade --image juicedata/mount:ce-v1.4.2 -n app web-0
  juicefs-sidecar upgrade --image juicedata/mount:ce-v1.4.2 -A --parallel 4

Exit code:
  0  every client that was meant has the image and serves
  1  one does not, or did not hand over its open files
  2  arguments, kubeconfig or API server cannot be used";

/// What API servers would refuse at each pod is refused here, once.
fn image(text: &str) -> Result<String, String> {
    let sound =
        !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    if sound { Ok(text.to_owned()) } else { Err("is not the name of an image".to_owned()) }
}

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        program::wait_for(async {
            let client = self.pods.client("upgrade").await?;
            let pods = self.pods.read(&client, output).await?;
            let from = self.from.as_deref().unwrap_or_else(|| repository(&self.image));
            let selection = select(&pods, &self.image, from);
            let all_well = self.change(&client, &selection.targets, output).await?;
            self.tell_rest(&selection, from, output);
            Ok(u8::from(!all_well || !selection.impaired.is_empty()))
        })
    }

    /// Changes one client after the other, or some at once; after a failure those that were begun are waited for, and no
    /// other is begun. Whether all went well.
    async fn change(&self, client: &Client, targets: &[Target], output: &mut Output) -> anyhow::Result<bool> {
        let all_well = &Cell::new(true);
        let changes = stream::iter(targets).map(|target| async move {
            let begin = Instant::now();
            let outcome = if all_well.get() { Some(self.change_one(client, target).await) } else { None };
            (target, outcome, begin.elapsed())
        });
        let mut outcomes = pin!(changes.buffered(self.parallel.into()).enumerate());
        while let Some((number, (target, outcome, took))) = outcomes.next().await {
            let Some(outcome) = outcome else { continue };
            let Target { namespace, pod, container, from, .. } = target;
            let said = match outcome {
                Ok(Progress::Upgraded) => {
                    Ok(format!("serves after {:.1} s, with all open files", took.as_secs_f64()))
                }
                Ok(Progress::Waiting) => Ok("would be changed".to_owned()),
                Ok(Progress::NotHandedOver(end)) => Err(format!(
                    "serves, but the last client did not hand over ({end}): files that were open for writing are lost to \
                     their programs"
                )),
                Ok(Progress::Failed(why)) | Err(why) => Err(format!("failed: {why}")),
            };
            let title = format!("{}/{} {namespace}/{pod} {container}", number + 1, targets.len());
            match said {
                Ok(said) => output.write(format!("{title}: {said}\n").as_bytes())?,
                Err(said) => {
                    all_well.set(false);
                    output.tell(&format!("{title}: {said}"));
                    output.tell(&format!(
                        "stopped; to go back: juicefs-sidecar upgrade --image {from} --from {} -n {namespace} {pod}",
                        repository(&self.image)
                    ));
                }
            }
        }
        Ok(all_well.get())
    }

    async fn change_one(&self, client: &Client, target: &Target) -> Result<Progress, String> {
        let pods: Api<api::Pod> = Api::namespaced(client.clone(), &target.namespace);
        let pod = pods.get(&target.pod).await.map_err(|error| error.to_string())?;
        let patch = Patch::Json::<()>(target.patch(&pod, &self.image)?);
        let parameters = PatchParams { dry_run: self.dry_run, ..PatchParams::default() };
        pods.patch(&target.pod, &parameters, &patch).await.map_err(|error| error.to_string())?;
        if self.dry_run {
            return Ok(Progress::Waiting);
        }
        match timeout(Duration::from_secs(self.timeout), settled(&pods, target)).await {
            Ok(settled) => settled,
            Err(_) => Err(format!("the next client does not serve after {} s", self.timeout)),
        }
    }

    /// Says what nothing was done about, and why.
    fn tell_rest(&self, selection: &Selection, from: &str, output: &mut Output) {
        let Selection { targets, done, classic, others, impaired } = selection;
        if targets.is_empty() {
            output.tell(&format!("no client of image {from} was to be changed"));
        }
        if *done > 0 {
            output.tell(&format!("{done} had {} already", self.image));
        }
        for (title, image) in others {
            output.tell(&format!("{title}: left alone, its image is {image} (--from names another)"));
        }
        for (title, state) in impaired {
            output.tell(&format!("{title}: left alone, for it has nothing to hand over: {state}"));
        }
        for title in classic {
            output.tell(&format!("{title}: classic, its client is replaced when the pod is"));
        }
    }
}

/// Waits until a client has settled, one way or the other.
async fn settled(pods: &Api<api::Pod>, target: &Target) -> Result<Progress, String> {
    loop {
        let is_settled = |pod: Option<&api::Pod>| target.progress(pod) != Progress::Waiting;
        let pod = await_condition(pods.clone(), &target.pod, is_settled).await;
        let progress = target.progress(pod.map_err(|error| error.to_string())?.as_ref());
        let changed = |pod: Option<&api::Pod>| target.progress(pod) != progress;
        match timeout(LASTING, await_condition(pods.clone(), &target.pod, changed)).await {
            Err(_) => return Ok(progress),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
        }
    }
}
