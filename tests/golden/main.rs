//! Every case of `tests/golden/` through the command line and the webhook's code; see the README there.
#![cfg(feature = "engine")]

#[cfg(test)]
mod answer;
#[cfg(test)]
mod case;
#[cfg(test)]
mod expected;
#[cfg(test)]
mod schema;

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, thread};

    use super::{case, expected, schema};

    #[test]
    fn every_golden_case_comes_out_as_written() {
        let wanted = std::env::var("GOLDEN").unwrap_or_default();
        let update = std::env::var_os("UPDATE_GOLDEN").is_some();
        let cases: Vec<_> = case::all().into_iter().filter(|case| case.name.contains(&wanted)).collect();
        assert!(!cases.is_empty(), "no case of tests/golden/ is named like {wanted:?}");

        let failures = Mutex::new(Vec::new());
        let documents = Mutex::new(Vec::new());
        let queue = Mutex::new(cases.iter());
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    loop {
                        let Some(case) = queue.lock().unwrap().next() else { break };
                        let result = case.run().and_then(|outcome| {
                            let results = outcome.documents.into_iter().map(|one| (case.name.clone(), one));
                            documents.lock().unwrap().extend(results);
                            let files = &outcome.files;
                            if update {
                                expected::update(&case.folder, files)
                            } else {
                                expected::compare(&case.folder, files)
                            }
                        });
                        if let Err(failure) = result {
                            failures.lock().unwrap().push(format!("{}: {failure}", case.name));
                        }
                    }
                });
            }
        });
        let mut failures = failures.into_inner().unwrap();
        failures.extend(schema::complaints(&documents.into_inner().unwrap()));
        failures.sort();
        let count = failures.len();
        assert!(count == 0, "{count} failures in {} cases:\n\n{}", cases.len(), failures.join("\n\n"));
    }
}
