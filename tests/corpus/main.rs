//! The fuzz target's corpus on a stable toolchain: as it is, and with simple mutations.
#![cfg(feature = "engine")]

#[cfg(test)]
#[path = "../fuzz/check.rs"]
mod check;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Mutex, thread};

    use serde_json::{Value, json};

    use super::check::check;

    fn seeds() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/review");
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    }

    /// Makes mutations of a seed and hands each to the checker.
    type Mutate = fn(&[u8], &mut dyn FnMut(&[u8]));

    /// Checks every mutation of every seed, on all cores.
    fn all(mutations: Mutate) {
        let queue = Mutex::new(seeds());
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    loop {
                        let Some(seed) = queue.lock().unwrap().pop() else { break };
                        mutations(&seed, &mut |mutated| check(mutated));
                    }
                });
            }
        });
    }

    #[test]
    fn seeds_are_answered() {
        all(|seed, visit| visit(seed));
    }

    #[test]
    fn cut_and_flipped_bytes_are_answered() {
        all(|seed, visit| {
            for at in (0..seed.len()).step_by(11) {
                visit(&seed[..at]);
                let mut flipped = seed.to_vec();
                flipped[at] ^= 1 << (at % 8);
                visit(&flipped);
            }
        });
    }

    #[test]
    fn values_of_another_kind_are_answered() {
        fn places(value: &Value, here: &str, all: &mut Vec<String>) {
            all.push(here.to_owned());
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            match value {
                Value::Object(map) => {
                    map.iter()
                        .for_each(|(key, inner)| places(inner, &format!("{here}/{}", escaped(key)), all));
                }
                Value::Array(list) => {
                    list.iter()
                        .enumerate()
                        .for_each(|(at, inner)| places(inner, &format!("{here}/{at}"), all));
                }
                _ => {}
            }
        }
        all(|seed, visit| {
            let original: Value = serde_json::from_slice(seed).unwrap();
            let mut all = Vec::new();
            places(&original, "", &mut all);
            for place in all {
                for strange in [json!(null), json!("\u{0}'$(x)"), json!([{"name": []}])] {
                    let mut changed = original.clone();
                    *changed.pointer_mut(&place).unwrap() = strange;
                    visit(changed.to_string().as_bytes());
                }
            }
        });
    }
}
