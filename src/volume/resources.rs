//! Requests and limits of the client.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::api::resource::Quantity as ApiQuantity};

use super::{
    attributes::{self, Holder, Origin},
    settings::Sources,
};
use crate::{
    config::{Floors, Picked, ResourcePercentages},
    notation::{Percentage, Quantity},
    outcome::Refusal,
    pod,
};

/// Built in: what a client that serves one application needs, and what it may take.
const DEFAULT_REQUESTS: (Quantity, Quantity) = (Quantity::from_milli(1000), Quantity::from_mebi(1024));
const DEFAULT_LIMITS: (Quantity, Quantity) = (Quantity::from_milli(2000), Quantity::from_mebi(5 * 1024));

/// CPU or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Cpu,
    Memory,
}

#[derive(Clone, Copy)]
struct Amount<'a> {
    quantity: Quantity,
    origin: Origin<'a>,
}

/// Request and limit of one resource.
struct Pair<'a> {
    resource: Resource,
    request: Option<Amount<'a>>,
    limit: Option<Amount<'a>>,
}

/// Requests and limits from all sources, and the memory limit among them.
pub(super) fn settle(
    sources: &mut Sources<'_>,
) -> Result<(api::ResourceRequirements, Option<Quantity>), Refusal> {
    let mut cpu = Pair::default_of(Resource::Cpu);
    let mut memory = Pair::default_of(Resource::Memory);
    for pair in [&mut cpu, &mut memory] {
        pair.apply_attributes(sources)?;
    }
    // Everything beside CPU and memory is from there, as it is.
    let mut resources = api::ResourceRequirements::default();
    if let Some(patch) = sources.patch.resources {
        resources = patch.value.clone();
        for pair in [&mut cpu, &mut memory] {
            pair.replace(&patch);
        }
    }
    if let Some(percentages) = sources.patch.resource_percentages {
        for pair in [&mut cpu, &mut memory] {
            pair.apply_percentages(&percentages, sources);
        }
    }
    for pair in [&mut cpu, &mut memory] {
        pair.reconcile(sources);
        pair.explain(sources);
        store(&mut resources.requests, pair.resource, pair.request);
        store(&mut resources.limits, pair.resource, pair.limit);
    }
    Ok((resources, memory.limit.map(|limit| limit.quantity)))
}

fn store(map: &mut Option<BTreeMap<String, ApiQuantity>>, resource: Resource, amount: Option<Amount<'_>>) {
    if let Some(amount) = amount {
        let quantity = ApiQuantity(amount.quantity.to_string());
        map.get_or_insert_default().insert(resource.name().to_owned(), quantity);
    }
}

impl Resource {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// The value for this resource of a pair for both.
    fn of<T>(self, (cpu, memory): (T, T)) -> T {
        match self {
            Self::Cpu => cpu,
            Self::Memory => memory,
        }
    }

    fn round_up(self, quantity: Quantity) -> Quantity {
        match self {
            Self::Cpu => quantity.rounded_to_milli(),
            Self::Memory => quantity.rounded_to_mebi(),
        }
    }
}

impl<'a> Pair<'a> {
    fn default_of(resource: Resource) -> Self {
        let amount = |pair| Some(Amount { quantity: resource.of(pair), origin: Origin::Default });
        Self { resource, request: amount(DEFAULT_REQUESTS), limit: amount(DEFAULT_LIMITS) }
    }

    /// A limit of zero or less takes the limit away, a request below zero the request; zero requests nothing.
    fn apply_attributes(&mut self, sources: &mut Sources<'a>) -> Result<(), Refusal> {
        let limit_key = self.resource.of((attributes::CPU_LIMIT, attributes::MEMORY_LIMIT));
        if let Some(limit) = self.attribute(sources, limit_key)? {
            self.limit = Some(limit).filter(|limit| limit.quantity.is_positive());
        }
        let request_key = self.resource.of((attributes::CPU_REQUEST, attributes::MEMORY_REQUEST));
        if let Some(request) = self.attribute(sources, request_key)? {
            self.request = Some(request).filter(|request| !request.quantity.is_negative());
        }
        Ok(())
    }

    fn attribute(&self, sources: &mut Sources<'a>, key: &'static str) -> Result<Option<Amount<'a>>, Refusal> {
        let Some(attribute) = sources.attribute(key) else { return Ok(None) };
        let Ok(mut quantity) = attribute.value.trim().parse::<Quantity>() else {
            let remedy = "write an amount such as 500m, 2 or 5Gi";
            return Err(sources.refuse_attribute(attribute, "is not a quantity", remedy));
        };
        let limits = &sources.inputs.config.claim_annotation_limits;
        if attribute.holder == Holder::Claim
            && let Some(most) = self.resource.of((limits.cpu, limits.memory))
        {
            // To have no limit is more than any limit.
            let unlimited = self.resource.of((attributes::CPU_LIMIT, attributes::MEMORY_LIMIT)) == key
                && !quantity.is_positive();
            if unlimited || quantity > most {
                let place = attributes::place(sources.inputs.resolved, attribute);
                let asked = attribute.value;
                sources
                    .warnings
                    .push(format!("{place}: {asked} is more than claims may ask for, {most} is used"));
                quantity = most;
            }
        }
        Ok(Some(Amount { quantity, origin: attribute.origin() }))
    }

    /// Resources of the ConfigMap replace all that was there before.
    fn replace(&mut self, patch: &Picked<'_, api::ResourceRequirements>) {
        let amount = |map: &Option<BTreeMap<String, ApiQuantity>>, field| {
            let quantity = map.as_ref()?.get(self.resource.name())?.0.parse().ok()?;
            Some(Amount { quantity, origin: Origin::Config(patch.item, field) })
        };
        self.request = amount(&patch.value.requests, "resources.requests");
        self.limit = amount(&patch.value.limits, "resources.limits");
    }

    /// Shares of what the application's containers ask for; nothing asked for, nothing shared.
    fn apply_percentages(&mut self, picked: &Picked<'_, ResourcePercentages>, sources: &Sources<'_>) {
        let ResourcePercentages { requests, limits, min_limits, .. } = picked.value;
        let Floors { cpu, memory } = *min_limits;
        let request = self.resource.of((requests.cpu, requests.memory));
        let limit = self.resource.of((limits.cpu, limits.memory));
        let share = |percentage: Option<Percentage>, base: Option<Quantity>| {
            Some(self.resource.round_up(base?.share(percentage?)))
        };
        let (requested, limited) = application_totals(self.resource, sources);
        if let Some(quantity) = share(request, requested) {
            let origin = Origin::Config(picked.item, "resourcePercentages.requests");
            self.request = Some(Amount { quantity, origin });
        }
        if let Some(quantity) = share(limit, limited) {
            let origin = Origin::Config(picked.item, "resourcePercentages.limits");
            self.limit = Some(Amount { quantity: quantity.max(self.resource.of((cpu, memory))), origin });
        }
    }

    /// Kubernetes refuses a request above its limit. The one nobody asked for gives way, else the limit.
    fn reconcile(&mut self, sources: &mut Sources<'a>) {
        let (Some(request), Some(limit)) = (self.request.as_mut(), self.limit.as_mut()) else { return };
        if request.quantity <= limit.quantity {
            return;
        }
        let name = self.resource.name();
        let what = if matches!(request.origin, Origin::Default) {
            request.quantity = limit.quantity;
            format!("the default {name} request is lowered to the limit {}", limit.quantity)
        } else {
            let what =
                format!("the {name} limit {} is raised to the request {}", limit.quantity, request.quantity);
            limit.quantity = request.quantity;
            what
        };
        sources.warnings.push(format!("{}: {what}", sources.subject()));
    }

    fn explain(&self, sources: &mut Sources<'a>) {
        let requests = self.resource.of(("requests.cpu", "requests.memory"));
        let limits = self.resource.of(("limits.cpu", "limits.memory"));
        for (setting, amount) in [(requests, self.request), (limits, self.limit)] {
            if let Some(amount) = amount {
                sources.explain(setting, amount.origin, || amount.quantity.to_string());
            }
        }
    }
}

/// What the containers that mount the volume request together, and what they are limited to together. Where none of
/// them says anything the pod as a whole may; `None` if it does not.
fn application_totals(resource: Resource, sources: &Sources<'_>) -> (Option<Quantity>, Option<Quantity>) {
    let volumes = &sources.inputs.resolved.pod_volumes;
    let mounts_it = |container: &&pod::Container<'_>| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| volumes.iter().any(|volume| *volume.name == *mount.name))
    };
    let key = pod::Text::from(resource.name());
    let add = |total: &mut Option<Quantity>, amounts: Option<&BTreeMap<pod::Text<'_>, pod::Amount<'_>>>| {
        // An invalid amount is for the API server to refuse.
        let amount = amounts.and_then(|amounts| amounts.get(&key)?.parse::<Quantity>().ok());
        if let Some(amount) = amount {
            *total = Some(total.map_or(amount, |total| total.plus(amount)));
        }
    };
    let (mut requests, mut limits) = (None, None);
    let spec = &sources.inputs.pod.spec;
    for container in spec.all_containers().filter(mounts_it) {
        if let Some(resources) = &container.resources {
            add(&mut requests, resources.requests.as_ref());
            add(&mut limits, resources.limits.as_ref());
        }
    }
    if let Some(whole) = &spec.resources {
        if requests.is_none() {
            add(&mut requests, whole.requests.as_ref());
        }
        if limits.is_none() {
            add(&mut limits, whole.limits.as_ref());
        }
    }
    (requests, limits)
}
