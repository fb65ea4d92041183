//! The plan: which clients a pod gets, with every name, path and number decided.

use std::sync::Arc;

use crate::{
    client::{self, Needs, UserMetrics, word::Word},
    config::ClaimReference,
    inject::{
        Engine, Family, Subject, VolumeReport, advice,
        attachments::SHARED_DIRECTORY,
        check, classic, mode,
        names::Names,
        neighbours::{self, PodResource},
        node::{self, Native},
        order, outline,
        profile::{MOUNT, Profile, Shared},
        resilient::{self, Agent, OWN_CACHE},
    },
    map::Map,
    notation::{ExitOrder, Mode},
    outcome::Refusal,
    volume::{
        CLAIM_VOLUME, Edition, Resolved, SHARED_VOLUME, Settings, UserSecret,
        resolve::by_name,
        secret::{class_secret_name, injected_secret_name},
        settings::{Inputs, Provenance, Source, settle},
    },
};

/// Kubernetes' own default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: i64 = 30;
/// What orders the exit of a client that is not a native sidecar when nobody says otherwise.
const DEFAULT_EXIT_ORDER: ExitOrder = ExitOrder::Idle(3);

/// Everything that is decided about a pod before the first operation is written.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Kind of sidecars.
    pub(crate) mode: Mode,
    /// Whose word that is.
    mode_source: Source,
    /// What holds the mounts, in resilient mode.
    pub(crate) agent: Option<Agent>,
    /// Kind of node.
    pub(crate) profile: Profile,
    /// Whether the clients are native sidecars.
    pub(crate) native: bool,
    /// Whether the clients end when they are told that the application has.
    pub(crate) ends_by_word: bool,
    /// Whether named claims leave the pod. Ephemeral volumes have to stay, or nobody would make their claims.
    pub(crate) drops_claims: bool,
    /// The clients, in the order of the pod's volumes.
    pub(crate) clients: Vec<Client>,
    /// What the clients' metrics ports are called.
    pub(crate) metrics_port_name: &'static str,
    /// Where in their list the clients go.
    pub(crate) first: usize,
    /// The grace period the pod needs, if it has less.
    pub(crate) grace: Option<i64>,
    /// Seconds a `preStop` may wait for the application: the pod's own grace period.
    pub(crate) patience: i64,
    /// What the resources of the pod as a whole become.
    pub(crate) resources: Vec<PodResource>,
    /// Worth telling the user.
    pub(crate) warnings: Vec<String>,
}

/// One client of the pod.
#[derive(Debug)]
pub(crate) struct Client {
    /// The claim and its volume.
    pub(crate) resolved: Resolved,
    /// What the user secret says.
    pub(crate) secret: Arc<UserSecret>,
    /// The settings, finally merged.
    pub(crate) settings: Settings,
    /// Name of the container.
    pub(crate) container: String,
    /// The pod's volume that client and application share. It is the user's own, which further volumes of the same claim
    /// are redirected to, save that an ephemeral volume stays what it is and has this one beside it.
    pub(crate) shared: String,
    /// Name of the volume that keeps the claim; `None` where virtual nodes do not bear it, and for ephemeral volumes.
    pub(crate) reference: Option<String>,
    /// Directory of the node for this volume, with the node profile only.
    pub(crate) host_directory: Option<String>,
    /// Where the client mounts, in its container.
    pub(crate) mount_point: String,
    /// Name of the Secret in the pod's namespace.
    pub(crate) credentials: String,
    /// The container's `command`; in resilient mode its end.
    pub(crate) command: Vec<String>,
    /// What the container has to have for it.
    pub(crate) needs: Needs,
}

impl Plan {
    /// Plans for a pod whose JuiceFS volumes are `resolved`.
    pub(crate) fn make(
        engine: &Engine<'_>,
        subject: &Subject<'_>,
        resolved: Vec<(Resolved, Arc<UserSecret>)>,
        names: &mut Names,
    ) -> Result<Self, Refusal> {
        let pod = subject.pod;
        let (resolved, secrets): (Vec<_>, Vec<_>) = resolved.into_iter().unzip();
        let profile = Profile::of(pod, subject.family, subject.identity.is_some());
        let known = node::native(engine, pod);
        let native = known == Native::Yes;
        let volumes = by_name(&resolved);
        check::identifiers(subject, &resolved, &volumes)?;
        let chosen = mode::choose(engine, subject, &resolved, &profile, &known)?;
        let resilient = chosen.mode == Mode::Resilient;
        let profile = if resilient { profile.resilient() } else { profile };
        let sidecars = resolved.len() + usize::from(resilient);
        check::pod(engine, subject, &profile, &known, sidecars, &volumes)?;
        let mut plan = Self {
            mode: chosen.mode,
            mode_source: chosen.source,
            agent: resilient.then(|| Agent::new(names, &engine.config.agent, engine.process)),
            profile,
            native,
            ends_by_word: classic::outlives_application(pod, native),
            drops_claims: subject.family == Family::Serverless
                && engine.config.claim_reference == ClaimReference::Drop,
            clients: Vec::with_capacity(resolved.len()),
            metrics_port_name: names.metrics_port_name(),
            first: if native { order::first(pod, &volumes, &engine.config.after) } else { 0 },
            grace: None,
            patience: pod.spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE),
            resources: Vec::new(),
            warnings: chosen.warnings,
        };
        plan.warnings.extend(neighbours::warnings(engine, subject, &plan.profile, &known));
        plan.warnings.extend(neighbours::without_propagation(pod, &volumes, &plan.profile));
        if subject.identity.is_none() && subject.family == Family::Node && !resilient {
            plan.warnings.push(
                "a template has no directory of its own on the node: the volume is shared through an emptyDir, where a \
                 crashed client recovers less reliably than on the directory that the webhook gives each pod"
                    .to_owned(),
            );
        }
        let node_labels = node::labels(engine, pod);
        let mut planner = Planner { engine, subject, names, node_labels: node_labels.as_ref(), plan };
        for (resolved, secret) in resolved.into_iter().zip(secrets) {
            planner.add(resolved, secret)?;
        }
        let mut plan = planner.plan;
        plan.raise_grace();
        let agent = plan.agent.iter().map(|agent| &agent.resources);
        let demands: Vec<_> =
            plan.clients.iter().map(|client| &client.settings.resources).chain(agent).collect();
        plan.resources = neighbours::pod_resources(pod, &demands);
        plan.warnings.extend(neighbours::raised(&plan.resources));
        plan.advise(pod);
        Ok(plan)
    }

    fn raise_grace(&mut self) {
        let needed = self.clients.iter().map(|client| {
            let flush = i64::from(client.settings.flush_seconds);
            match self.exit_order(client) {
                Some(order) => order::longest(order, self.patience).saturating_add(flush),
                // The API server takes no hook that sleeps longer than the pod has.
                None => flush.max(hook_sleep(client)),
            }
        });
        let needed = needed.max().unwrap_or(0);
        if needed > self.patience {
            self.warnings.push(format!(
                "terminationGracePeriodSeconds raised from {} to {needed}, so that the JuiceFS client can flush after \
                 the application has ended",
                self.patience
            ));
            self.grace = Some(needed);
        }
    }

    /// How a client's `preStop` is made; `None` where Kubernetes orders the exit or the user wrote it.
    pub(crate) fn exit_order(&self, client: &Client) -> Option<ExitOrder> {
        let own = client.settings.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.pre_stop.is_some());
        if self.native || own {
            return None;
        }
        Some(client.settings.exit_order.unwrap_or(DEFAULT_EXIT_ORDER))
    }

    /// Leaves out annotations of patches that the pod sets itself: the pod's own word counts.
    pub(crate) fn drop_annotations_of(&mut self, subject: &Subject<'_>) -> Result<(), Refusal> {
        if self.clients.iter().any(|client| !client.settings.annotations.is_empty()) {
            let pod = outline(subject, None)?;
            let own = &pod["metadata"]["annotations"];
            for client in &mut self.clients {
                client.settings.annotations.retain(|key, _| own.get(key).is_none());
            }
        }
        Ok(())
    }

    /// The part of a cache that is the client's own, where it does not run as root.
    pub(crate) fn own_cache(&self) -> Option<&'static str> {
        (self.mode == Mode::Resilient).then_some(OWN_CACHE)
    }

    /// One sentence for people.
    pub(crate) fn describe(&self) -> String {
        let clients = self
            .clients
            .iter()
            .map(|client| format!("{} ({})", client.container, client.resolved.describe()));
        let agent = self.agent.iter().map(|agent| agent.container.clone());
        format!("injected {}", agent.chain(clients).collect::<Vec<_>>().join(", "))
    }

    /// What `explain` shows of each client.
    pub(crate) fn report(&mut self) -> Vec<VolumeReport> {
        let (mode, profile, native) = (self.mode, self.profile.name, self.native);
        let source = &self.mode_source;
        let provenance =
            Provenance { setting: "mode", value: mode.as_str().to_owned(), source: source.clone() };
        let report = |client: &mut Client| VolumeReport {
            pod_volumes: client.resolved.pod_volumes.iter().map(|volume| volume.name.clone()).collect(),
            claim: client.resolved.claim.expected_name().unwrap_or_default().to_owned(),
            volume: client.resolved.volume.name.to_string(),
            container: client.container.clone(),
            mode: mode.as_str(),
            profile,
            native,
            settings: std::iter::once(provenance.clone())
                .chain(std::mem::take(&mut client.settings.provenance))
                .collect(),
        };
        self.clients.iter_mut().map(report).collect()
    }
}

/// Adds one client after the other to a plan.
struct Planner<'a, 's> {
    engine: &'a Engine<'a>,
    subject: &'a Subject<'s>,
    names: &'a mut Names,
    node_labels: Option<&'a Map>,
    plan: Plan,
}

impl Planner<'_, '_> {
    fn add(&mut self, resolved: Resolved, secret: Arc<UserSecret>) -> Result<(), Refusal> {
        let engine = self.engine;
        let volume = &resolved.pod_volumes.first().name;
        let container = self.container(&resolved);
        let host_directory = self.host_directory(volume);
        let resilient = self.plan.mode == Mode::Resilient;
        let mount_point = mount_point(&resolved, volume, host_directory.is_some() || resilient);
        let mut settings = settle(&Inputs {
            resolved: &resolved,
            secret: &secret,
            config: engine.config,
            process: engine.process,
            pod: self.subject.pod,
            node_labels: self.node_labels,
            mount_point: &mount_point,
            host_directories: self.plan.profile.host_directories,
            mode: self.plan.mode,
            annotates_pod: self.plan.profile.annotates_pod(),
            explain: engine.explain,
        })?;
        if engine.explain {
            self.plan.warnings.extend(advice::class_changes(engine, &resolved));
        }
        settings.host_network |= self.subject.pod.spec.host_network;
        self.plan.warnings.extend(settings.warnings.iter().cloned());
        let metrics_port = self.metrics_port(&secret, &settings);
        if resilient {
            self.plan.warnings.extend(resilient::drop_unmounting_hook(&mut settings.lifecycle));
            self.warn_about_host_paths(&settings);
        }
        let told = if resilient { resilient::mount_point() } else { Word::literal(mount_point.as_str()) };
        let runs_in = client::Container { mount_point: told, metrics_port, as_root: !resilient };
        let script = client::script(&secret, &settings, runs_in, engine.process)?;
        let command = if resilient {
            resilient::command(&script)
        } else {
            classic::command(&script, self.plan.ends_by_word)
        };
        let command = command.map_err(|nul| client::unusable("the client's command", nul))?;
        let needs = script.needs;
        self.plan.warnings.extend(script.warnings);
        let credentials = match resolved.claim.name() {
            Some(name) => injected_secret_name(name),
            None => class_secret_name(&resolved.claim.class),
        };
        let is_named = resolved.claim.name().is_some();
        let (shared, reference) = if is_named {
            let name = || self.names.volume(&format!("{CLAIM_VOLUME}{volume}"), &container);
            (volume.clone(), (!self.plan.drops_claims).then(name))
        } else {
            (self.names.volume(&format!("{SHARED_VOLUME}{volume}"), &container), None)
        };
        self.plan.clients.push(Client {
            resolved,
            secret,
            settings,
            container,
            shared,
            reference,
            host_directory,
            mount_point,
            credentials,
            command,
            needs,
        });
        Ok(())
    }

    /// They are as the node has them: what is there may be for root alone.
    fn warn_about_host_paths(&mut self, settings: &Settings) {
        if !settings.host_paths.is_empty() {
            self.plan.warnings.push(format!(
                "juicefs/host-path: in resilient mode the client runs as user {}, who must be allowed to use {}",
                resilient::CLIENT_USER,
                settings.host_paths.join(", ")
            ));
        }
    }

    fn container(&mut self, resolved: &Resolved) -> String {
        match resolved.claim.name() {
            Some(claim) if self.plan.profile.named_after_claim => {
                self.names.container(&format!("jfs-mount-{}", claim.replace('.', "-")), 0)
            }
            _ => self.names.container("jfs-mount", self.plan.clients.len()),
        }
    }

    /// A directory of the node for each volume of each pod.
    fn host_directory(&self, volume: &str) -> Option<String> {
        let identity = self.subject.identity.filter(|_| self.plan.profile.shared == Shared::HostPath)?;
        let base = self.engine.process.mount_directory.trim_end_matches('/');
        Some(format!("{base}/{identity}-{volume}"))
    }

    /// One port for each client of the community edition; a port the user chose is kept, clash or not.
    ///
    /// On the node's network no port is declared: the API server would make it a `hostPort`, which the scheduler
    /// gives out once per node.
    fn metrics_port(&mut self, secret: &UserSecret, settings: &Settings) -> Option<u16> {
        if secret.edition == Edition::Enterprise {
            return None;
        }
        match client::user_metrics(&settings.options) {
            UserMetrics::Unset if !settings.host_network => return Some(self.names.metrics_port()),
            UserMetrics::Unset if self.subject.pod.spec.host_network => self.plan.warnings.push(
                "spec.hostNetwork: the JuiceFS client serves its metrics on any free port of the node and declares \
                 none, so that two such pods can share a node; mount option metrics= chooses one"
                    .to_owned(),
            ),
            UserMetrics::Port(port) if !settings.host_network && !self.names.take_port(port) => {
                self.plan.warnings.push(format!(
                    "mount option metrics: port {port} is declared by another container of the pod; the client will \
                     run without metrics"
                ));
            }
            UserMetrics::NoPort => self.plan.warnings.push(
                "mount option metrics: it names no port, which the client does not take; write metrics=HOST:PORT"
                    .to_owned(),
            ),
            UserMetrics::Unset | UserMetrics::Port(_) | UserMetrics::NoFixedPort => {}
        }
        None
    }
}

/// Seconds that a hook of the ConfigMap sleeps, by its own word.
fn hook_sleep(client: &Client) -> i64 {
    let hook = client.settings.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    hook.and_then(|hook| hook.sleep.as_ref()).map_or(0, |sleep| sleep.seconds)
}

/// Where the client's mount is, in its container: in a child of what it shares where that can be, else in the shared
/// directory itself.
///
/// Tools find it in the command of classic clients by its first element, `/jfs`.
fn mount_point(resolved: &Resolved, volume: &str, in_child: bool) -> String {
    if in_child {
        return format!("{SHARED_DIRECTORY}/{MOUNT}");
    }
    let claim = &resolved.claim;
    format!("/jfs/{}", claim.uid().or(claim.name()).unwrap_or(volume))
}
