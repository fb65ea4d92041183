//! Objects sorted by some of their fields.

use std::{cmp::Ordering, fmt, marker::PhantomData, ops::Bound, sync::Arc};

use equivalent::{Comparable, Equivalent};
use imbl::OrdSet;

use crate::volume::objects::{Claim, Namespace, Node, PersistentVolume, Secret, StorageClass};

/// What objects are sorted by: three texts, of which no two objects have the same.
pub(super) type Key<'a> = [&'a str; 3];

/// An order of objects.
pub(super) trait Order<T> {
    /// What an object is sorted by.
    fn key(object: &T) -> Key<'_>;
}

/// Objects in an order; copies share what they have in common.
pub(super) struct Index<O: Order<T>, T>(OrdSet<Entry<O, T>>);

/// An object in its place.
struct Entry<O, T>(Arc<T>, PhantomData<O>);

/// A key that is looked for.
struct Wanted<'a>(Key<'a>);

impl<O: Order<T>, T> Index<O, T> {
    pub(super) fn get(&self, key: Key<'_>) -> Option<&Arc<T>> {
        self.0.get(&Wanted(key)).map(|entry| &entry.0)
    }

    pub(super) fn insert(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        self.0.insert(Entry(object, PhantomData)).map(|entry| entry.0)
    }

    pub(super) fn remove(&mut self, key: Key<'_>) -> Option<Arc<T>> {
        self.0.remove(&Wanted(key)).map(|entry| entry.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.iter().map(|entry| &entry.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The objects whose keys begin with this text.
    pub(super) fn beginning_with_first<'a, 'k>(
        &'a self,
        first: &'k str,
    ) -> impl Iterator<Item = &'a Arc<T>> + use<'a, 'k, O, T> {
        let from: (Bound<Wanted<'_>>, Bound<Wanted<'_>>) =
            (Bound::Included(Wanted([first, "", ""])), Bound::Unbounded);
        self.0.range(from).map(|entry| &entry.0).take_while(move |object| O::key(object)[0] == first)
    }

    /// The objects whose keys begin with these two texts.
    pub(super) fn beginning_with<'a, 'k>(
        &'a self,
        beginning: [&'k str; 2],
    ) -> impl Iterator<Item = &'a Arc<T>> + use<'a, 'k, O, T> {
        let [first, second] = beginning;
        let from: (Bound<Wanted<'_>>, Bound<Wanted<'_>>) =
            (Bound::Included(Wanted([first, second, ""])), Bound::Unbounded);
        self.0.range(from).map(|entry| &entry.0).take_while(move |object| {
            let [one, other, _] = O::key(object);
            [one, other] == beginning
        })
    }
}

impl<O: Order<T>, T> Clone for Index<O, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: Order<T>, T> Default for Index<O, T> {
    fn default() -> Self {
        Self(OrdSet::new())
    }
}

impl<O: Order<T>, T> fmt::Debug for Index<O, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(|object| O::key(object))).finish()
    }
}

impl<O, T> Clone for Entry<O, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<O: Order<T>, T> Ord for Entry<O, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        O::key(&self.0).cmp(&O::key(&other.0))
    }
}

impl<O: Order<T>, T> PartialOrd for Entry<O, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<O: Order<T>, T> PartialEq for Entry<O, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<O: Order<T>, T> Eq for Entry<O, T> {}

impl<O: Order<T>, T> Equivalent<Entry<O, T>> for Wanted<'_> {
    fn equivalent(&self, entry: &Entry<O, T>) -> bool {
        self.0 == O::key(&entry.0)
    }
}

impl<O: Order<T>, T> Comparable<Entry<O, T>> for Wanted<'_> {
    fn compare(&self, entry: &Entry<O, T>) -> Ordering {
        self.0.cmp(&O::key(&entry.0))
    }
}

/// By namespace and name.
#[derive(Debug)]
pub(super) struct ByName;

impl Order<Claim> for ByName {
    fn key(claim: &Claim) -> Key<'_> {
        [&claim.metadata.namespace, &claim.metadata.name, ""]
    }
}

impl Order<PersistentVolume> for ByName {
    fn key(volume: &PersistentVolume) -> Key<'_> {
        ["", &volume.metadata.name, ""]
    }
}

impl Order<StorageClass> for ByName {
    fn key(class: &StorageClass) -> Key<'_> {
        ["", &class.metadata.name, ""]
    }
}

impl Order<Node> for ByName {
    fn key(node: &Node) -> Key<'_> {
        ["", &node.metadata.name, ""]
    }
}

impl Order<Namespace> for ByName {
    fn key(namespace: &Namespace) -> Key<'_> {
        ["", &namespace.metadata.name, ""]
    }
}

impl Order<Secret> for ByName {
    fn key(secret: &Secret) -> Key<'_> {
        [&secret.namespace, &secret.name, ""]
    }
}
