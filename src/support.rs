//! What a maintainer asks for, as one archive: bounded, and without credentials.
//!
//! Pure: who reads the cluster is the subcommand; here is decided what of it is kept, and how.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tar::{Builder, Header};

use crate::redact::{REDACTED, Redaction};

/// The directory that everything is in.
const FOLDER: &str = "juicefs-sidecar-support";
/// The longest file; of one that is longer the end is kept.
pub const LONGEST_FILE: usize = 2 << 20;
/// All files together.
pub const MOST_BYTES: usize = 32 << 20;
/// So many objects of a kind are kept.
pub const MOST_OBJECTS: usize = 1000;
/// Annotations of objects that are not ours are kept if their keys have one of these in them.
const ANNOTATIONS: [&str; 3] = ["juicefs.com", "kubernetes.io/", "k8s.io/"];

/// Files of an archive to be.
pub struct Archive {
    redaction: Redaction,
    files: Vec<(String, Vec<u8>)>,
    bytes: usize,
    /// What is not in it, as sentences.
    left_out: Vec<String>,
}

impl Archive {
    /// With nothing in it.
    #[must_use]
    pub fn new(redaction: Redaction) -> Self {
        Self { redaction, files: Vec::new(), bytes: 0, left_out: Vec::new() }
    }

    /// Adds objects, or what was in the way of reading them.
    pub fn objects(&mut self, name: &str, objects: Result<Vec<Value>, String>, keep: fn(&mut Value)) {
        match objects {
            Ok(mut objects) => {
                if objects.len() > MOST_OBJECTS {
                    self.leaves_out(&format!(
                        "{name}: {} objects beyond the first {MOST_OBJECTS}",
                        objects.len() - MOST_OBJECTS
                    ));
                    objects.truncate(MOST_OBJECTS);
                }
                objects.iter_mut().for_each(keep);
                self.value(name, Value::Array(objects));
            }
            Err(error) => self.leaves_out(&format!("{name}: {error}")),
        }
    }

    /// Adds a value, as JSON.
    pub fn value(&mut self, name: &str, mut value: Value) {
        self.redaction.value(&mut value);
        self.file(&format!("{name}.json"), &format!("{value:#}\n"));
    }

    /// Adds a text, such as a log.
    pub fn text(&mut self, name: &str, text: &str) {
        let text = self.redaction.text(text);
        self.file(name, &text);
    }

    /// Something is missing; the archive says so.
    pub fn leaves_out(&mut self, sentence: &str) {
        let sentence = self.redaction.text(sentence);
        self.left_out.push(sentence.replace('\n', " "));
    }

    fn file(&mut self, name: &str, text: &str) {
        let start =
            (text.len().saturating_sub(LONGEST_FILE)..=text.len()).find(|at| text.is_char_boundary(*at));
        let text = start.and_then(|start| text.get(start..)).unwrap_or_default();
        if self.bytes + text.len() > MOST_BYTES {
            return self.leaves_out(&format!("{name}: the archive has its {} MiB", MOST_BYTES >> 20));
        }
        self.bytes += text.len();
        // Names of namespaces, pods and containers: DNS labels. What is none shall not lead out of the folder.
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        let name: String = name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
        self.files.push((name.replace("..", "_"), text.as_bytes().to_vec()));
    }

    /// The names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// What is missing, as sentences.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The archive, `tar` and `gzip`; at a time in seconds since 1970.
    ///
    /// # Errors
    /// None is known: it is written to memory.
    pub fn finish(mut self, now: u64) -> io::Result<Vec<u8>> {
        let left_out = self.left_out.join("\n");
        self.files.push(("left-out.txt".to_owned(), left_out.into_bytes()));
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, content) in &self.files {
            let mut header = Header::new_gnu();
            header.set_size(u64::try_from(content.len()).map_err(io::Error::other)?);
            header.set_mode(0o600);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("{FOLDER}/{name}"), content.as_slice())?;
        }
        let mut encoder = archive.into_inner()?;
        encoder.flush()?;
        encoder.finish()
    }
}

/// Keeps an object as it is.
pub fn whole(_: &mut Value) {}

/// Of annotations and labels, keeps those that concern us.
pub fn described(object: &mut Value) {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| ANNOTATIONS.iter().any(|part| key.contains(part)));
    }
}

/// Of a pod with clients, keeps how they are and what of the application concerns them; of the application's own
/// programs, words and variables, nothing.
pub fn injected_pod(pod: &mut Value) {
    let ours = crate::running::decided::containers(pod);
    described(pod);
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let is_ours = container["name"].as_str().is_some_and(|name| ours.iter().any(|our| our == name));
            let Some(fields) = container.as_object_mut() else { continue };
            if is_ours {
                continue;
            }
            for field in [
                "command",
                "args",
                "env",
                "envFrom",
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
            ] {
                if fields.contains_key(field) {
                    fields.insert(field.to_owned(), REDACTED.into());
                }
            }
        }
    }
}

/// Of a webhook configuration, keeps all but authorities.
pub fn registration(object: &mut Value) {
    described(object);
    for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
        if let Some(bundle) = webhook.pointer_mut("/clientConfig/caBundle") {
            *bundle = json!(format!("{} bytes", bundle.as_str().map_or(0, str::len)));
        }
    }
}

/// Of a secret, keeps the names of its keys.
pub fn secret(object: &mut Value) {
    let keys: Vec<Value> =
        object["data"].as_object().into_iter().flatten().map(|(key, _)| key.as_str().into()).collect();
    let metadata = &object["metadata"];
    *object = json!({
        "namespace": metadata["namespace"], "name": metadata["name"], "type": object["type"],
        "labels": metadata["labels"], "created": metadata["creationTimestamp"], "keys": keys,
    });
}

/// Of a node, keeps what decides about pods.
pub fn node(object: &mut Value) {
    *object = json!({
        "name": object["metadata"]["name"], "nodeInfo": object["status"]["nodeInfo"],
        "conditions": object["status"]["conditions"], "taints": object["spec"]["taints"],
    });
}

/// Of a `ConfigMap`, keeps the configuration as a value, whose fields have names.
pub fn configuration(object: &mut Value) {
    described(object);
    for text in object["data"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
        // What is not YAML might be anything.
        let read = text.as_str().and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
        *text = read.unwrap_or_else(|| json!("cannot be read as YAML"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn unpacked(archive: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(GzDecoder::new(archive));
        let read = |entry: io::Result<tar::Entry<'_, GzDecoder<&[u8]>>>| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn files_have_an_end_and_stay_in_their_folder() {
        let mut archive = Archive::new(Redaction::default());
        archive.text("../../etc/passwd", "x");
        archive.text("long", &("ä".repeat(LONGEST_FILE) + "end"));
        for number in 0..20 {
            archive.text(&format!("{number}"), &"y".repeat(LONGEST_FILE));
        }
        archive.objects("pods", Ok(vec![json!({}); MOST_OBJECTS + 7]), whole);
        archive.objects("nodes", Err("password=hunter2 is wrong".to_owned()), whole);
        let files = unpacked(&archive.finish(0).unwrap());
        assert!(
            files
                .iter()
                .all(|(name, _)| name.starts_with("juicefs-sidecar-support/") && !name.contains(".."))
        );
        let size: usize = files.iter().map(|(_, text)| text.len()).sum();
        assert!(size <= MOST_BYTES + LONGEST_FILE && files[1].1.len() <= LONGEST_FILE);
        assert!(files[1].1.ends_with("ääend"));
        let left_out = &files.last().unwrap().1;
        for part in ["the archive has its 32 MiB", "7 objects beyond", "nodes: password=[redacted] is wrong"]
        {
            assert!(left_out.contains(part), "{left_out}");
        }
    }

    #[test]
    fn of_an_application_nothing_is_kept_that_is_its_own() {
        let status = json!({"version": 1, "mode": "classic", "profile": "node", "native": true, "undo": {},
            "volumes": [{"container": "jfs-mount", "volume": "v", "source": "ephemeral", "shared": "emptyDir"}]});
        let mut pod = json!({
            "metadata": {"annotations": {"sidecar.juicefs.com/status": status.to_string(), "team/note": "hunter2"}},
            "spec": {
                "containers": [{"name": "app", "image": "i", "command": ["hunter2"], "env": [{"name": "X", "value": "hunter2"}]}],
                "initContainers": [{"name": "jfs-mount", "command": ["juicefs"]}, {"name": "jfs-app", "args": ["hunter2"]}],
            },
        });
        injected_pod(&mut pod);
        assert!(!pod.to_string().contains("hunter2"), "{pod}");
        assert_eq!(pod["spec"]["initContainers"][0]["command"][0], "juicefs");
        let mut map = json!({"data": {"config.yaml": "mountPodPatch: [{env: [{name: TOKEN, value: hunter2}]}]", "b": "{"}});
        configuration(&mut map);
        assert_eq!(map["data"]["config.yaml"]["mountPodPatch"][0]["env"][0]["name"], "TOKEN");
        assert_eq!(map["data"]["b"], "cannot be read as YAML");
        let mut secret = json!({"metadata": {"name": "s"}, "data": {"token": "aHVudGVyMg=="}});
        super::secret(&mut secret);
        assert_eq!((&secret["keys"], secret.to_string().contains("aHV")), (&json!(["token"]), false));
    }
}
