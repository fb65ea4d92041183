//! `${MOUNT_POINT}` and its like in the values of a patch.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::identifier::is_plain_word;

/// What the templates stand for.
#[derive(Clone, Copy, Debug)]
pub struct Templates<'a> {
    /// `${MOUNT_POINT}`: where the client mounts, in its own container.
    pub mount_point: &'a str,
    /// `${VOLUME_ID}`: the volume's handle.
    pub volume_id: &'a str,
    /// `${VOLUME_NAME}`: the file system's name.
    pub volume_name: &'a str,
    /// `${SUB_PATH}`: the volume's directory.
    pub sub_path: &'a str,
}

const NAMES: [&str; 4] = ["${MOUNT_POINT}", "${VOLUME_ID}", "${VOLUME_NAME}", "${SUB_PATH}"];

/// Whether there is anything to put in.
pub(super) fn has_template(text: &str) -> bool {
    text.contains("${") && NAMES.iter().any(|name| text.contains(name))
}

impl Templates<'_> {
    /// The text with its templates filled in; what was filled in is not looked at again.
    #[must_use]
    pub fn fill<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !has_template(text) {
            return Cow::Borrowed(text);
        }
        let values = [self.mount_point, self.volume_id, self.volume_name, self.sub_path];
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from_here) = rest.split_at(start);
            filled.push_str(before);
            let found = NAMES
                .iter()
                .zip(values)
                .find_map(|(name, value)| Some((from_here.strip_prefix(name)?, value)));
            if let Some((after, value)) = found {
                filled.push_str(value);
                rest = after;
            } else {
                filled.push_str("${");
                rest = from_here.get(2..).unwrap_or_default();
            }
        }
        filled.push_str(rest);
        Cow::Owned(filled)
    }

    /// The first template in a text whose value a shell would not take as one plain word.
    pub fn meant_for_no_shell(&self, text: &str) -> Option<&'static str> {
        let values = [self.mount_point, self.volume_id, self.volume_name, self.sub_path];
        let mut used = NAMES.into_iter().zip(values).filter(|(name, _)| text.contains(name));
        used.find(|(_, value)| !value.is_empty() && !is_plain_word(value)).map(|(name, _)| name)
    }

    /// A copy with every string value filled in; keys stay.
    ///
    /// The substitution is in decoded strings, so that no value can break the structure around it.
    pub(super) fn fill_all<T: Clone + Serialize + DeserializeOwned>(&self, original: &T) -> T {
        let Ok(mut value) = serde_json::to_value(original) else { return original.clone() };
        self.fill_value(&mut value);
        serde_json::from_value(value).unwrap_or_else(|_| original.clone())
    }

    fn fill_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(filled) = self.fill(text) {
                    *text = filled;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill_value(item)),
            Value::Object(entries) => entries.values_mut().for_each(|entry| self.fill_value(entry)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::EnvVar;

    use super::*;

    const TEMPLATES: Templates<'_> =
        Templates { mount_point: "/jfs/x", volume_id: "pvc-1", volume_name: "${SUB_PATH}", sub_path: "a\"b" };

    #[test]
    fn templates_are_filled_in_once() {
        for (text, filled) in [
            ("plain", "plain"),
            ("${MOUNT_POINT}/${SUB_PATH}", "/jfs/x/a\"b"),
            ("${VOLUME_NAME}", "${SUB_PATH}"),
            ("${OTHER} ${VOLUME_ID}", "${OTHER} pvc-1"),
            ("${${VOLUME_ID}", "${pvc-1"),
            ("$MOUNT_POINT ${mount_point} ${", "$MOUNT_POINT ${mount_point} ${"),
        ] {
            assert_eq!(TEMPLATES.fill(text), filled);
        }
    }

    #[test]
    fn values_that_would_break_json_stay_values() {
        let variable = EnvVar { name: "WHERE".into(), value: Some("${SUB_PATH}".into()), value_from: None };
        let filled = TEMPLATES.fill_all(&variable);
        assert_eq!(filled, EnvVar { value: Some("a\"b".into()), ..variable });
    }
}
