//! Settings on which the pod has the last word, and for which the ConfigMap only gives a default.

use std::{fmt, str::FromStr};

use super::Sources;
use crate::{
    config::Picked,
    notation::{
        Mode,
        exit_order::{self, ExitOrder},
        on_crash::{self, OnCrash},
    },
    outcome::{Code, Refusal},
    volume::attributes::{self, Origin},
};

/// The names of such a setting.
struct Choice {
    /// In `explain`.
    setting: &'static str,
    /// The pod's, for people.
    annotation: &'static str,
    /// The attribute of the volume and the annotation of the claim.
    attribute: &'static str,
    /// What a value looks like.
    grammar: &'static str,
}

const EXIT_ORDER: Choice = Choice {
    setting: "exitOrder",
    annotation: "annotation sidecar.juicefs.com/exit-order",
    attribute: attributes::EXIT_ORDER,
    grammar: exit_order::GRAMMAR,
};

const ON_CRASH: Choice = Choice {
    setting: "onCrash",
    annotation: "annotation sidecar.juicefs.com/on-crash",
    attribute: attributes::ON_CRASH,
    grammar: on_crash::GRAMMAR,
};

impl<'a> Sources<'a> {
    /// The pod knows best when its own work is done.
    pub(super) fn exit_order(&mut self) -> Result<Option<ExitOrder>, Refusal> {
        let annotations = self.inputs.pod.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|all| all.exit_order.as_deref());
        self.choose(&EXIT_ORDER, annotation, self.patch.exit_order)
    }

    /// The pod knows best what its programs can bear.
    pub(super) fn on_crash(&mut self) -> Result<OnCrash, Refusal> {
        let annotations = self.inputs.pod.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|all| all.on_crash.as_deref());
        let chosen = self.choose(&ON_CRASH, annotation, self.patch.on_crash)?;
        if chosen == Some(OnCrash::Resume) && self.inputs.mode == Mode::Classic {
            self.warnings.push(
                "onCrash: resume has no effect in classic mode, where a mount fails with its client; \
                 sidecar.juicefs.com/mode: resilient is what keeps it"
                    .to_owned(),
            );
        }
        Ok(chosen.unwrap_or_default())
    }

    fn choose<T>(
        &mut self,
        choice: &Choice,
        annotation: Option<&str>,
        picked: Option<Picked<'a, T>>,
    ) -> Result<Option<T>, Refusal>
    where
        T: FromStr<Err: fmt::Display> + fmt::Display + Copy,
    {
        let (value, origin) = if let Some(text) = annotation {
            let value = text.parse().map_err(|error| {
                let text: String = text.chars().take(64).collect();
                let what = format!("{text:?}: {error}");
                Refusal::new(
                    Code::SettingInvalid,
                    format!("pod: {}", choice.annotation),
                    what,
                    choice.grammar,
                )
            })?;
            (value, Origin::Pod(choice.annotation))
        } else if let Some(attribute) = self.attribute(choice.attribute) {
            let value = attribute.value.parse().map_err(|error| {
                self.refuse_attribute(attribute, &format!("cannot be used: {error}"), choice.grammar)
            })?;
            (value, attribute.origin())
        } else if let Some(picked) = picked {
            (*picked.value, Origin::picked(&picked))
        } else {
            return Ok(None);
        };
        self.explain(choice.setting, origin, || value.to_string());
        Ok(Some(value))
    }
}
