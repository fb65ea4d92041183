//! Caches of every kind.

use super::*;

#[test]
fn cache_directories_come_from_every_source_in_order() {
    let case = case()
        .options(&["cache-dir=/ssd/${VOLUME_ID}:/var/jfsCache-emptyDir:memory", "debug"])
        .attributes(&[
            ("juicefs/mount-cache-pvc", "one,,two"),
            ("juicefs/mount-cache-emptydir", "Memory:1Gi"),
            ("juicefs/mount-cache-inline-volume", r#"[{"driver": "d", "volumeAttributes": {"a": "b"}}]"#),
        ])
        .config(
            "mountPodPatch: [{cacheDirs: [{type: HostPath, path: '/disk/${VOLUME_NAME}'}, {type: EmptyDir}, {type: \
             EmptyDir, medium: Memory}, {type: Ephemeral, storage: 10Gi, storageClassName: c}, {type: PVC, name: three}]}]",
        );
    let settings = case.settings();
    let paths = [
        "/var/jfsCache-0",
        "/var/jfsCache-2",
        "/var/jfsCache-3",
        "/var/jfsCache-emptyDir",
        "/var/jfsCache-ephemeral-0",
        "/var/jfsCache-inlineVolume-0",
        "/ssd/handle-1",
        "/disk/myjfs",
    ];
    let mut volumes = paths;
    volumes.swap(6, 7);
    assert_eq!(cache_paths(&settings), volumes, "host paths of the ConfigMap are numbered first");
    assert_eq!(
        settings.options,
        [
            "debug".to_owned(),
            format!("cache-dir={}", [&paths[..7], &["memory"], &paths[7..]].concat().join(":"))
        ]
    );
    assert_eq!(settings.cache[2].source, CacheSource::Claim("three".into()));
    assert_eq!(settings.cache[3].source, CacheSource::EmptyDir(api::EmptyDirVolumeSource::default()));
    let CacheSource::Ephemeral(ephemeral) = &settings.cache[4].source else {
        panic!("{:?}", settings.cache[4])
    };
    let spec = &ephemeral.volume_claim_template.as_ref().unwrap().spec;
    assert_eq!(spec.access_modes.as_deref(), Some(&["ReadWriteOnce".to_owned()][..]));
    assert_eq!(spec.storage_class_name.as_deref(), Some("c"));
    assert!(matches!(&settings.cache[5].source, CacheSource::Inline(volume) if volume.driver == "d"));
    assert_eq!(settings.cache[6].source, CacheSource::HostPath);
}

#[test]
fn a_cache_option_of_the_configmap_does_not_hide_other_caches() {
    let settings = case()
        .options(&["cache-dir=/old"])
        .attributes(&[("juicefs/mount-cache-pvc", "one")])
        .config("mountPodPatch: [{mountOptions: [cache-dir=/new, no-bgjob]}]")
        .settings();
    assert_eq!(settings.options, ["no-bgjob", "cache-dir=/var/jfsCache-0:/new"]);
    let doubled = case()
        .options(&["cache-dir=/a:/b:/a"])
        .config("mountPodPatch: [{cacheDirs: [{type: HostPath, path: /b}, {type: HostPath, path: /c}]}]")
        .settings();
    assert_eq!(doubled.options, ["cache-dir=/a:/b:/c"]);
    assert_eq!(cache_paths(&doubled), ["/c", "/a", "/b"]);
}

#[test]
fn host_caches_have_no_volume_on_serverless_nodes() {
    let case = case()
        .options(&["cache-dir=/ssd:memory"])
        .config("mountPodPatch: [{cacheDirs: [{type: HostPath, path: /disk}]}]")
        .serverless();
    let settings = case.settle().unwrap();
    assert_eq!((settings.options, settings.cache), (vec!["cache-dir=/ssd:memory:/disk".to_owned()], vec![]));
    assert!(case.warning().contains("cache directories /ssd, /disk cannot have a volume"));
}

#[test]
fn caches_in_memory_need_no_volume() {
    let settings = case().options(&["cache-dir=memory"]).settings();
    assert_eq!((settings.options, settings.cache), (vec!["cache-dir=memory".to_owned()], vec![]));
}

#[test]
fn caches_that_cannot_be_made_are_refused() {
    for (key, value, expected) in [
        ("juicefs/mount-cache-emptydir", "memory:1Gi", "does not begin with a medium of an emptyDir"),
        ("juicefs/mount-cache-emptydir", "Memory:lots", "has no size"),
        ("juicefs/mount-cache-emptydir", "Memory:-1", "has no size"),
        ("juicefs/mount-cache-inline-volume", "{}", "is not valid"),
        ("juicefs/mount-cache-inline-volume", "[{}]", "without a driver"),
        ("mountOptions", "cache-dir=jfs", "\"jfs\" is not an absolute path"),
        ("juicefs/host-path", "/a,/b/../c", "\"/b/../c\" is not an absolute path"),
    ] {
        let refusal = case().attributes(&[(key, value)]).refusal();
        assert!(refusal.contains(expected), "{key} {value}: {refusal}");
    }
}

#[test]
fn a_client_that_is_not_root_is_told_of_its_cache_and_gets_a_volume_for_it() {
    let unprivileged = |case: Case| Case { mode: Mode::Resilient, ..case };
    let settings = unprivileged(case()).settings();
    assert_eq!(settings.options, ["cache-dir=/var/jfsCache"]);
    assert_eq!(settings.cache[0].source, CacheSource::HostPath);

    let serverless = || case().serverless();
    let settings = unprivileged(serverless()).settings();
    assert_eq!((settings.options.len(), settings.cache.len()), (0, 0));
    let settings = unprivileged(serverless().options(&["cache-dir=/x:memory"])).settings();
    assert_eq!(settings.options, ["cache-dir=/x:memory"]);
    assert_eq!(cache_paths(&settings), ["/x"]);
    assert_eq!(settings.cache[0].source, CacheSource::EmptyDir(api::EmptyDirVolumeSource::default()));
}

#[test]
fn a_volume_of_the_configmap_is_the_cache_where_it_is_mounted() {
    let patch =
        "mountPodPatch: [{volumes: [{name: c, emptyDir: {}}], volumeMounts: [{name: c, mountPath: /data/}]}]";
    for options in [&["cache-dir=/data"][..], &["cache-dir=/data/cache"]] {
        let settings = case().options(options).config(patch).settle().unwrap();
        assert!(settings.cache.is_empty(), "{:?}", settings.cache);
        assert_eq!(settings.options, options);
    }
    let settings = case().options(&["cache-dir=/database:/database/"]).config(patch).settle().unwrap();
    assert_eq!(settings.cache.len(), 1, "{:?}", settings.cache);
    for path in ["/jfs", "/jfs/x", "/etc/updatedb.conf"] {
        let refusal = case().options(&[&format!("cache-dir={path}")]).settle().unwrap_err();
        assert!(refusal.what.contains("the client itself"), "{}", refusal.what);
    }
}

#[test]
fn templates_are_filled_in_directories_of_the_node() {
    let settings = case().attributes(&[("juicefs/host-path", "/x/${VOLUME_ID},/y")]).settle().unwrap();
    assert_eq!(settings.host_paths, ["/x/handle-1", "/y"]);
}

#[test]
fn an_empty_directory_may_have_no_limit() {
    for (value, medium, warnings) in [
        ("Memory:", Some("Memory"), 0),
        (":", None, 0),
        ("Memory:0", Some("Memory"), 0),
        ("Memory:1Gi:x", None, 1),
    ] {
        let settings = case().attributes(&[("juicefs/mount-cache-emptydir", value)]).settle().unwrap();
        let CacheSource::EmptyDir(source) = &settings.cache[0].source else { panic!("{:?}", settings.cache) };
        assert_eq!(
            (source.medium.as_deref(), &source.size_limit, settings.warnings.len()),
            (medium, &None, warnings),
            "{value}"
        );
    }
}
