use std::collections::BTreeMap;

use super::*;
use crate::{inject::shell, volume::settings::Directory};

fn secret(pairs: &[(&str, &str)]) -> UserSecret {
    let data: BTreeMap<_, _> =
        pairs.iter().map(|(key, value)| ((*key).into(), value.as_bytes().to_vec())).collect();
    UserSecret::parse(&data).unwrap()
}

fn settings(options: &[&str], directory: &str) -> Settings {
    Settings {
        image: "juicedata/mount:ee-5.0.1".into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        directory: Directory { path: directory.into(), ephemeral: None },
        ..Settings::default()
    }
}

/// A script as classic mode renders it.
struct Rendered {
    text: String,
    needs: Needs,
    warnings: Vec<String>,
}

fn container(metrics_port: Option<u16>) -> Container<'static> {
    Container { metrics_port, ..Container::of_root("/jfs/test-volume") }
}

fn run(pairs: &[(&str, &str)], settings: &Settings, port: Option<u16>) -> Rendered {
    let (secret, process) = (secret(pairs), Process::default());
    let script = script(&secret, settings, container(port), &process).unwrap();
    let command = shell::command(&script, None).unwrap();
    let [sh, c, text] = command.try_into().unwrap();
    assert_eq!((sh.as_str(), c.as_str()), ("sh", "-c"));
    Rendered { text, needs: script.needs, warnings: script.warnings }
}

/// What no command can be made from.
fn refused(pairs: &[(&str, &str)], settings: &Settings, process: &Process) -> Refusal {
    script(&secret(pairs), settings, container(None), process).unwrap_err()
}

const COMMUNITY: [(&str, &str); 2] = [("name", "test"), ("metaurl", "redis://r/1")];
const ENTERPRISE: [(&str, &str); 1] = [("name", "test")];

#[test]
fn community_lines_have_the_words_of_the_go_driver() {
    let mount = "exec /bin/mount.juicefs \"${metaurl}\" /jfs/test-volume -o debug,metrics=0.0.0.0:9567";
    for (extra, init) in [
        (&[][..], r#"format --no-update "${metaurl}" test"#),
        (
            &[
                ("storage", "s3"),
                ("bucket", "http://test.127.0.0.1:9000"),
                ("access-key", "minioadmin"),
                ("secret-key", "minioadmin"),
            ],
            r#"format --storage=s3 --bucket=http://test.127.0.0.1:9000 --access-key=minioadmin --secret-key="${secretkey}" "${metaurl}" test"#,
        ),
        (
            &[("format-options", "block-size=100,trash-days=0,shards=0,hash-prefix")],
            r#"format --no-update "${metaurl}" test --block-size=100 --trash-days=0 --shards=0 --hash-prefix"#,
        ),
        (
            &[
                ("shards", "1"),
                ("inodes", "2"),
                ("capacity", "3"),
                ("trash-days", "4"),
                ("compress", "lz4"),
                ("block-size", "5"),
                ("storage", "file"),
                ("encrypt_rsa_key", "k"),
                ("format-options", "session-token=t,x"),
            ],
            r#"format --no-update --storage=file --block-size=5 --compress=lz4 --trash-days=4 --capacity=3 --inodes=2 --shards=1 "${metaurl}" test --session-token="${session_token}" --x --encrypt-rsa-key=/root/.rsa/rsa-key.pem"#,
        ),
    ] {
        let script = run(&[&COMMUNITY[..], extra].concat(), &settings(&["debug"], ""), Some(9567));
        assert_eq!(script.text, format!("/usr/local/bin/juicefs {init} || exit 1\n{mount}"));
    }
}

#[test]
fn a_ready_made_configuration_takes_the_place_of_format_and_auth() {
    for pairs in [&COMMUNITY[..], &[("name", "test"), ("token", "t")]] {
        let script = run(&[pairs, &[("initconfig", "{}")]].concat(), &settings(&[], ""), None);
        assert!(script.text.starts_with("cp /etc/juicefs/test.conf /root/.juicefs || exit 1\nexec "));
    }
}

#[test]
fn enterprise_lines_have_the_words_of_the_go_driver() {
    let mount = "exec /sbin/mount.juicefs test /jfs/test-volume -o foreground,no-update,debug";
    assert_eq!(run(&ENTERPRISE, &settings(&["debug"], ""), Some(9567)).text, mount);
    for (extra, init) in [
        (
            &[
                ("token", "t"),
                ("secret-key", "s"),
                ("secret-key2", "s"),
                ("passphrase", "p"),
                ("format-options", "xxx"),
            ][..],
            r#"/usr/bin/juicefs auth test --token="${token}" --secret-key="${secretkey}" --secret-key2="${secretkey2}" --passphrase="${passphrase}" --xxx --conf-dir=/root/.juicefs"#,
        ),
        (
            &[
                ("token", "t"),
                ("accesskey", "a"),
                ("access-key2", "b"),
                ("bucket", "c"),
                ("bucket2", "d"),
                ("subdir", "e"),
            ],
            r#"/usr/bin/juicefs auth test --access-key=a --access-key2=b --bucket=c --bucket2=d --subdir=e --token="${token}" --conf-dir=/root/.juicefs"#,
        ),
        (&[("token", "t"), ("initconfig", "{}")], "cp /etc/juicefs/test.conf /root/.juicefs"),
        (
            &[("configs", "acl: /root/.acl/\nother: /x")],
            "ln -sf /root/.acl/group /etc/group && ln -sf /root/.acl/passwd /etc/passwd",
        ),
        (
            &[("initconfig", "{}"), ("configs", "acl: /root/.acl")],
            "cp /etc/juicefs/test.conf /root/.juicefs && ln -sf /root/.acl/group /etc/group && ln -sf /root/.acl/passwd /etc/passwd",
        ),
    ] {
        let script = run(&[&ENTERPRISE[..], extra].concat(), &settings(&["debug"], ""), Some(9567));
        assert_eq!(script.text, format!("{init} || exit 1\n{mount}"));
        assert_eq!(script.needs.metrics_port, None);
    }
}

#[test]
fn the_directory_comes_after_the_options_and_before_metrics() {
    let mut settings = settings(&["a=1", "metricsx"], "test/jfs/test-volume/subpath");
    let community = run(&COMMUNITY, &settings, Some(9568));
    assert!(
        community.text.ends_with(" -o a=1,metricsx,subdir=test/jfs/test-volume/subpath,metrics=0.0.0.0:9568")
    );
    assert_eq!(community.needs.metrics_port, Some(9568));
    let enterprise = run(&[("name", "test"), ("encrypt_rsa_key", "k")], &settings, None);
    assert_eq!(
        enterprise.text,
        "exec /sbin/mount.juicefs test /jfs/test-volume \
         -o foreground,no-update,rsa-key=/root/.rsa/rsa-key.pem,a=1,metricsx,subdir=test/jfs/test-volume/subpath"
    );

    settings.directory.ephemeral = Some("scratch".into());
    let script = run(&COMMUNITY, &settings, None);
    let directory = "subdir=test/jfs/test-volume/subpath/ephemeral-'$(JFS_POD_UID)'-scratch";
    assert!(script.text.ends_with(&format!(",{directory}")), "{}", script.text);
    assert!(script.needs.pod_uid);
    settings.directory.path = String::new();
    assert!(run(&COMMUNITY, &settings, None).text.ends_with(",subdir=ephemeral-'$(JFS_POD_UID)'-scratch"));
}

#[test]
fn metrics_follow_the_user_then_the_host_then_the_caller() {
    let metrics = |options: &[&str], host_network: bool, port: Option<u16>| {
        let settings = Settings { host_network, ..settings(options, "") };
        let script = run(&COMMUNITY, &settings, port);
        let last = script.text.rsplit([' ', ',']).next().unwrap().to_owned();
        (last, script.needs.metrics_port)
    };
    assert_eq!(metrics(&["debug"], false, Some(9570)), ("metrics=0.0.0.0:9570".into(), Some(9570)));
    assert_eq!(metrics(&["debug"], false, None), ("debug".into(), None));
    assert_eq!(metrics(&["debug"], true, Some(9570)), ("metrics=0.0.0.0:0".into(), None));
    assert_eq!(metrics(&["metrics=1.2.3.4:99"], false, Some(9570)), ("metrics=1.2.3.4:99".into(), Some(99)));
    assert_eq!(metrics(&["metrics=1.2.3.4:99"], true, Some(9570)), ("metrics=1.2.3.4:99".into(), None));
    assert_eq!(metrics(&["metrics=x:0"], false, Some(9570)), ("metrics=x:0".into(), None));
    assert!(run(&COMMUNITY, &settings(&[], ""), None).text.ends_with("\" /jfs/test-volume"));

    let user = |options: &[&str]| user_metrics(&settings(options, "").options);
    assert_eq!(user(&["metrics=a:1", "metrics=[::]:2"]), UserMetrics::Port(2));
    assert_eq!(user(&["metrics=a:99999"]), UserMetrics::NoPort);
    assert_eq!(user(&["metrics=localhost"]), UserMetrics::NoPort);
    assert_eq!(user(&["metrics"]), UserMetrics::Unset);
}

#[test]
fn a_read_only_volume_is_mounted_so_once() {
    for (options, wanted) in [(&["a"][..], "ro,a"), (&["a", "ro"], "a,ro"), (&["", "read-only"], "read-only")]
    {
        let settings = Settings { read_only: true, ..settings(options, "") };
        assert!(run(&COMMUNITY, &settings, None).text.ends_with(&format!(" -o {wanted}")));
    }
}

#[test]
fn what_no_option_can_carry_is_refused_by_name() {
    let refused = |settings: &Settings| refused(&COMMUNITY, settings, &Process::default());
    let refusal = refused(&settings(&["debug", "cache-group=a,b"], ""));
    assert_eq!(refusal.code, Code::SettingInvalid);
    assert_eq!(refusal.place, "mount option \"cache-group\"");
    assert!(refused(&settings(&["a\0b"], "")).what.contains("NUL"));
    for directory in ["a,b", "a\0b"] {
        assert!(refused(&settings(&[], directory)).place.contains("subdir"), "{directory:?}");
    }
    let (secret, settings, process) = (secret(&COMMUNITY), settings(&[], ""), Process::default());
    let script = script(&secret, &settings, Container::of_root("/jfs/\0"), &process).unwrap();
    assert_eq!(shell::command(&script, None), Err(Nul));
}

#[test]
fn an_encrypted_initconfig_needs_a_new_enough_client() {
    let pairs = [("name", "test"), ("token", "t"), ("initconfig", r#"{"encryptkeys": true}"#)];
    let old = run(&pairs, &settings(&[], ""), None);
    assert!(old.text.starts_with("/usr/bin/juicefs auth test "));
    assert_eq!(old.needs.files, []);
    assert_eq!(old.warnings.len(), 1);
    for image in ["juicedata/mount:ee-5.1.0", "registry.example:5000/mount", "juicedata/mount:ee-nightly"] {
        let settings = Settings { image: image.into(), ..settings(&[], "") };
        let new = run(&pairs, &settings, None);
        assert!(new.text.starts_with("cp /etc/juicefs/test.conf /root/.juicefs || exit 1\n"), "{image}");
        assert_eq!((new.needs.files.len(), new.warnings.len()), (1, 0));
    }
}

#[test]
fn keeping_the_configuration_needs_a_bucket() {
    let process = Process { no_update_config: true, ..Process::default() };
    let pairs = [("name", "test"), ("token", "t")];
    let refusal = refused(&pairs, &settings(&[], ""), &process);
    assert_eq!((refusal.code, refusal.place.as_str()), (Code::SecretInvalid, "user secret: bucket"));
    let pairs = [&pairs[..], &[("bucket", "b"), ("format-options", "x")]].concat();
    let (secret, settings) = (secret(&pairs), settings(&[], ""));
    let script = script(&secret, &settings, container(None), &process).unwrap();
    let auth = shell::line(&script.preparation[0]).unwrap();
    assert!(auth.contains(r#"--bucket=b --token="${token}" --no-update --x --conf-dir"#));
}

#[test]
fn files_are_mounted_in_a_fixed_order() {
    let script = run(
        &[
            ("name", "test"),
            ("encrypt_rsa_key", "k"),
            ("initconfig", "{}"),
            ("configs", "zeta: /z\nalpha: /a"),
        ],
        &settings(&[], ""),
        None,
    );
    let files: Vec<_> =
        script.needs.files.iter().map(|file| (file.volume.as_str(), file.mount_path.as_str())).collect();
    assert_eq!(
        files,
        [("rsa-key", "/root/.rsa"), ("init-config", "/etc/juicefs"), ("config-1", "/a"), ("config-2", "/z")]
    );
    assert_eq!(
        script.needs.files[1].source,
        SecretSource::Injected { key: "initconfig", file: "test.conf".into() }
    );
    assert_eq!(script.needs.files[2].source, SecretSource::Named("alpha".into()));
}
