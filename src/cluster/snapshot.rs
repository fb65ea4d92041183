//! What decisions about the pods of one namespace need of a cluster, read once.

use kube::{Api, Client, api::ListParams};

use super::{
    caches::reason,
    live::Live,
    pages::{PAGE, pages},
    slim::{Slim, Watched},
};
use crate::{
    admission::state::Completion as _,
    outcome::Miss,
    volume::{
        Catalog,
        catalog::Writer,
        objects::{Claim, Namespace, Node, PersistentVolume, StorageClass},
    },
};

/// Pages of one kind; what is beyond is told.
const MOST_PAGES: usize = 40;

/// The storage objects as they are now.
pub struct Snapshot {
    /// What was read.
    pub catalog: Catalog,
    /// What could not be read, as sentences.
    pub unread: Vec<String>,
    live: Live,
}

impl Snapshot {
    /// Reads everything but secrets, which are read when a decision asks for them.
    pub async fn read(client: &Client, namespace: &str) -> Self {
        let mut reading = Reading { writer: Writer::default(), unread: Vec::new() };
        let name = format!("metadata.name={namespace}");
        reading.all::<Namespace>(&Api::all(client.clone()), &ListParams::default().fields(&name)).await;
        let everything = ListParams::default();
        reading.all::<Node>(&Api::all(client.clone()), &everything).await;
        reading.all::<StorageClass>(&Api::all(client.clone()), &everything).await;
        reading.all::<PersistentVolume>(&Api::all(client.clone()), &everything).await;
        reading.all::<Claim>(&Api::namespaced(client.clone(), namespace), &everything).await;
        let Reading { writer, unread } = reading;
        Self { catalog: writer.snapshot(), unread, live: Live::new(client.clone()) }
    }

    /// Reads what a decision lacked; whether anything of it was there.
    pub async fn complete(&mut self, misses: &[Miss]) -> bool {
        match self.live.complete(&self.catalog, misses).await {
            Some(catalog) => {
                self.catalog = catalog;
                true
            }
            None => false,
        }
    }
}

struct Reading {
    writer: Writer,
    unread: Vec<String>,
}

impl Reading {
    async fn all<K: Watched>(&mut self, api: &Api<Slim<K>>, parameters: &ListParams) {
        let Self { writer, unread } = self;
        let read = pages(api, parameters, MOST_PAGES, |page: Vec<Slim<K>>| {
            for slim in page {
                match slim.object {
                    Ok(object) => writer.apply(object),
                    Err(ref error) => unread.push(format!("{} {:?}: {error}", K::KIND, slim.name())),
                }
            }
        });
        match read.await {
            Ok(true) => {}
            Ok(false) => {
                unread.push(format!("{}: there are more than {}", K::PLURAL, MOST_PAGES * PAGE as usize));
            }
            Err(error) => unread.push(format!("{}: {}", K::PLURAL, reason(&error))),
        }
    }
}
