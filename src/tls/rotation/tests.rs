use std::time::SystemTime;

use super::*;
use crate::tls::{authority::Authority, leaf};

/// 2026-11-22, in seconds since 1970.
const TODAY: u64 = 1_795_305_600;

fn policy() -> Policy {
    Policy {
        authority_lifetime: Duration::from_mins(3),
        leaf_lifetime: Duration::from_mins(1),
        propagation: Duration::from_secs(5),
        names: vec!["webhook.ns.svc".to_owned(), "localhost".to_owned()],
    }
}

fn at(now: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now)
}

/// A cluster: the controller's store, the registration, and those who notice both late.
struct World {
    policy: Policy,
    now: u64,
    authority: Option<Authority>,
    trusted: Bundle,
    leaf: Option<CertificateDer<'static>>,
    published: Bundle,
    /// Since when the newest authority is in `published`.
    since: Option<u64>,
    /// What API servers trust: `published` as it was `propagation` ago.
    noticed: Vec<(u64, Bundle)>,
    /// What webhooks serve with: they keep the last one when its secret is gone.
    serving: Option<CertificateDer<'static>>,
    made: Vec<&'static str>,
}

impl World {
    fn new() -> Self {
        Self {
            policy: policy(),
            now: TODAY,
            authority: None,
            trusted: Bundle::default(),
            leaf: None,
            published: Bundle::default(),
            since: None,
            noticed: Vec::new(),
            serving: None,
            made: Vec::new(),
        }
    }

    /// A world that has been running for so long.
    fn after(seconds: u64) -> Self {
        let mut world = Self::new();
        world.run(seconds);
        world
    }

    fn next(&self) -> Step {
        let seen = Seen {
            authority: self.authority.as_ref().map(Authority::certificate),
            trusted: &self.trusted,
            leaf: self.leaf.as_ref(),
            published: &self.published,
            published_for: self.since.map_or(Duration::ZERO, |since| Duration::from_secs(self.now - since)),
        };
        next(&self.policy, &seen, self.now)
    }

    /// Does what is to be done at this moment.
    fn settle(&mut self) -> Duration {
        for _ in 0..8 {
            match self.next() {
                Step::Wait(wait) => return wait,
                Step::MakeAuthority => {
                    let authority = Authority::make(at(self.now), self.policy.authority_lifetime).unwrap();
                    let own: Bundle = [authority.certificate().clone()].into_iter().collect();
                    self.trusted = self.trusted.union(&own);
                    self.authority = Some(authority);
                    self.since = None;
                    self.made.push("authority");
                }
                Step::Publish(bundle) => {
                    self.noticed.push((self.now, bundle.clone()));
                    self.published = bundle;
                    let authority = self.authority.as_ref().unwrap().certificate();
                    if self.published.contains(authority) {
                        self.since.get_or_insert(self.now);
                    }
                    self.made.push("publish");
                }
                Step::Sign => {
                    let authority = self.authority.as_ref().unwrap();
                    assert!(
                        self.published.contains(authority.certificate()),
                        "signed before it was published"
                    );
                    let (names, lifetime) = (&self.policy.names, self.policy.leaf_lifetime);
                    let leaf = leaf::sign(authority, names, at(self.now), lifetime).unwrap();
                    self.leaf = Some(leaf.identity.chain[0].clone());
                    self.serving = self.leaf.clone();
                    self.made.push("sign");
                }
            }
        }
        panic!("no end of steps: {:?}", self.made);
    }

    /// What an API server trusts that notices as late as it may.
    fn trusted_by_the_slowest(&self) -> Bundle {
        let before = self.now - self.policy.propagation.as_secs();
        let noticed = self.noticed.iter().rev().find(|(when, _)| *when <= before);
        noticed.map(|(_, bundle)| bundle.clone()).unwrap_or_default()
    }

    /// Lets time pass, second by second; what is served is trusted at every one of them.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.settle();
            if self.now > TODAY + self.policy.propagation.as_secs() {
                let serving = self.serving.as_ref().unwrap();
                let trusts =
                    |bundle: &Bundle| bundle.iter().any(|trusted| is_signed_by(serving, trusted, self.now));
                assert!(trusts(&self.trusted_by_the_slowest()), "{} s: {:?}", self.now - TODAY, self.made);
                assert!(trusts(&self.published), "{} s: {:?}", self.now - TODAY, self.made);
            }
            self.now += 1;
        }
    }
}

#[test]
fn a_start_makes_publishes_and_signs_at_once() {
    let mut world = World::new();
    assert_eq!(world.settle(), Duration::from_secs(40));
    assert_eq!(world.made, ["authority", "publish", "sign"]);
}

#[test]
fn certificates_are_renewed_at_two_thirds_and_trusted_without_a_gap() {
    let mut world = World::new();
    world.run(1_300);
    // Every 120 s an authority, every 40 s or so a leaf.
    let count = |what| world.made.iter().filter(|made| **made == what).count();
    assert_eq!(count("authority"), 11);
    assert!((30..=45).contains(&count("sign")), "{:?}", world.made);
    assert!(world.published.iter().count() <= 2, "those that expired are gone");
}

#[test]
fn a_year_long_authority_waits_no_longer_than_a_minute() {
    let mut world = World::new();
    world.policy.authority_lifetime = Duration::from_hours(365 * 24);
    world.policy.leaf_lifetime = Duration::from_hours(30 * 24);
    assert_eq!(world.settle(), Duration::from_mins(1));
    world.now += 20 * 86_400 - 10;
    assert_eq!(world.settle(), Duration::from_secs(10));
    world.now += 10;
    world.settle();
    assert_eq!(world.made, ["authority", "publish", "sign", "sign"]);
    world.now = TODAY + 365 * 86_400 * 2 / 3;
    // Nobody was there to renew for months; who could still serve with what the old one signed is waited for.
    world.settle();
    world.now += policy().propagation.as_secs();
    world.settle();
    assert_eq!(world.made[4..], ["authority", "publish", "sign"]);
}

#[test]
fn a_new_authority_signs_only_after_it_could_be_noticed() {
    let mut world = World::after(120);
    assert_eq!(world.made.iter().filter(|made| **made == "authority").count(), 1);
    world.made.clear();
    assert_eq!(world.settle(), Duration::from_secs(5));
    assert_eq!(world.made, ["authority", "publish"]);
    world.now += 4;
    assert_eq!(world.settle(), Duration::from_secs(1));
    world.now += 1;
    world.settle();
    assert_eq!(world.made, ["authority", "publish", "sign"]);
}

type Damage = fn(&mut World);

/// What can happen to what is stored.
const DAMAGES: [(&str, Damage); 6] = [
    ("the authority is deleted", |world| {
        world.authority = None;
        // The serving certificate's secret holds its authority too.
        let leaf = world.leaf.clone().unwrap();
        world.trusted =
            world.trusted.iter().filter(|trusted| is_signed_by(&leaf, trusted, world.now)).cloned().collect();
    }),
    ("the authority's key is lost", |world| world.authority = None),
    ("the serving certificate is deleted", |world| world.leaf = None),
    ("both are deleted and the controller remembers", |world| {
        world.authority = None;
        world.leaf = None;
        world.trusted = world.published.clone();
    }),
    ("the registration is wiped", |world| world.published = Bundle::default()),
    ("the controller restarts", |world| world.since = world.since.map(|_| world.now)),
];

#[test]
fn no_damage_at_any_time_interrupts_the_service() {
    for (name, damage) in DAMAGES {
        println!("{name}");
        // An authority's life, its successor's beginning included.
        for when in (6..140).step_by(13) {
            let mut world = World::after(when);
            damage(&mut world);
            world.settle();
            world.run(70);
        }
    }
}

#[test]
fn a_certificate_for_other_names_is_replaced() {
    let mut world = World::after(10);
    world.policy.names.push("more.ns.svc".to_owned());
    assert_eq!(world.next(), Step::Sign);
    world.settle();
    assert!(is_named(world.leaf.as_ref().unwrap(), &world.policy.names));
    world.policy.names.truncate(1);
    assert!(matches!(world.next(), Step::Wait(_)), "fewer names are no reason");
}

#[test]
fn shorter_lifetimes_apply_to_what_was_made_before() {
    let mut world = World::new();
    world.policy.authority_lifetime = Duration::from_hours(365 * 24);
    world.policy.leaf_lifetime = Duration::from_hours(30 * 24);
    world.run(20);
    world.policy = policy();
    assert_eq!(world.next(), Step::MakeAuthority);
    world.run(20);
    assert!(matches!(world.next(), Step::Wait(_)));
}

#[test]
fn what_nobody_of_ours_signed_is_not_trusted() {
    let mut world = World::after(10);
    let stranger = Authority::make(at(world.now), Duration::from_mins(3)).unwrap();
    let own: Bundle = [stranger.certificate().clone()].into_iter().collect();
    world.published = world.published.union(&own);
    let Step::Publish(bundle) = world.next() else { panic!() };
    assert!(!bundle.contains(stranger.certificate()));
}

#[test]
fn a_bundle_has_an_end() {
    let make =
        |lifetime| Authority::make(at(TODAY), Duration::from_secs(lifetime)).unwrap().certificate().clone();
    let many: Bundle = (100..110).map(make).collect();
    let (newest, last) = (make(50), make(200));
    let trusted = many.union(&[last.clone()].into_iter().collect());
    let bundle = to_trust(&trusted, &newest, TODAY);
    assert_eq!(bundle.iter().count(), OTHERS + 1);
    assert!(bundle.contains(&newest) && bundle.contains(&last));
    assert_eq!(to_trust(&trusted, &newest, TODAY + 150).iter().count(), 2, "those that expired are no use");
}
