//! The driver's configuration, from its ConfigMap or bare.

use std::sync::Arc;

use serde_json::Value;

use super::{InputError, Notice, Object, documents, objects::objects};
use crate::config::Config;

/// Name of the ConfigMap that is taken for the driver's when it is among the manifests.
pub const CONFIG_MAP: &str = "juicefs-csi-driver-config";

/// The text of a configuration and where it was found.
#[derive(Clone, Debug)]
pub struct Configuration {
    place: String,
    error: InputError,
    text: String,
}

impl Configuration {
    /// What a file holds: a ConfigMap of any name, or the bare `config.yaml`.
    pub fn of_file(file: &str, text: &str) -> Result<Self, InputError> {
        // What is not a manifest may yet be a configuration; its own parser says better what is wrong.
        let documents = documents::parse(file, text).unwrap_or_default();
        if let Some(object) = documents.iter().flat_map(objects).find(is_config_map) {
            return Self::of_object(&object);
        }
        let file: Arc<str> = file.into();
        let place = file.to_string();
        let (object, field, what) = (String::new(), String::new(), String::new());
        let error = InputError { file, line: None, document: 0, object, field, what };
        Ok(Self { place, error, text: text.to_owned() })
    }

    /// What a ConfigMap holds.
    pub fn of_object(object: &Object<'_>) -> Result<Self, InputError> {
        let data = object.value.get("data").and_then(Value::as_object);
        match data.and_then(|data| data.get(Config::KEY)).map(Value::as_str) {
            Some(Some(text)) => {
                let error = object.error("/data", "");
                Ok(Self { place: format!("{object}"), error, text: text.to_owned() })
            }
            Some(None) => {
                Err(object.error(&format!("/data/{}", Config::KEY), "not a text; begin it with `|`"))
            }
            None => Err(object.error("/data", &format!("has no key {}", Config::KEY))),
        }
    }

    /// The `config.yaml` itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads the configuration, and what there is to say about it.
    pub fn read(&self) -> Result<(Config, Vec<Notice>), InputError> {
        match Config::parse(&self.text) {
            Ok((config, warnings)) => {
                let notice = |what| Notice { place: self.place.clone(), what };
                Ok((config, warnings.into_iter().map(notice).collect()))
            }
            Err(error) => Err(InputError { what: error.to_string(), ..self.error.clone() }),
        }
    }
}

/// Whether an object is a ConfigMap.
pub(super) fn is_config_map(object: &Object<'_>) -> bool {
    object.kind == "ConfigMap" && object.group().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<bool>, String> {
        let read = Configuration::of_file("c.yaml", text).and_then(|configuration| configuration.read());
        read.map(|(config, _)| config.enable_native_sidecar).map_err(|error| error.to_string())
    }

    const HEAD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: any}\n";

    #[test]
    fn a_configuration_may_be_bare_or_in_its_config_map() {
        assert_eq!(read("enableNativeSidecar: true\n"), Ok(Some(true)));
        assert_eq!(
            read(&format!("{HEAD}data:\n  config.yaml: |\n    enableNativeSidecar: true\n")),
            Ok(Some(true))
        );
        assert_eq!(read(""), Ok(None));
    }

    #[test]
    fn complaints_say_where_the_configuration_is() {
        for (text, complaint) in [
            (
                format!("{HEAD}data: {{other: x}}\n"),
                "c.yaml:4: document 1: ConfigMap/any: data: has no key config.yaml",
            ),
            (
                format!("{HEAD}data:\n  config.yaml: {{enableNativeSidecar: true}}\n"),
                "c.yaml:5: document 1: ConfigMap/any: data[config.yaml]: not a text; begin it with `|`",
            ),
            (
                format!("{HEAD}data:\n  config.yaml: |\n    enableNativeSidecar: perhaps\n"),
                "c.yaml:5: document 1: ConfigMap/any: data: config.yaml line 1: enableNativeSidecar: ",
            ),
            (
                "enableNativeSidecar: perhaps\n".to_owned(),
                "c.yaml: config.yaml line 1: enableNativeSidecar: ",
            ),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.starts_with(complaint), "{error}");
        }
    }
}
