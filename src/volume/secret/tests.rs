use super::*;

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
}

fn parse(pairs: &[(&str, &str)]) -> UserSecret {
    UserSecret::parse(&data(pairs)).unwrap()
}

fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    check(&data(pairs)).iter().map(ToString::to_string).collect()
}

fn names(secret: &UserSecret) -> Vec<String> {
    secret.environment().into_iter().map(|variable| variable.name).collect()
}

const COMMUNITY: [(&str, &str); 2] = [("name", "jfs"), ("metaurl", "redis://:hunter2@r:6379/1")];

#[test]
fn metaurl_makes_the_community_edition() {
    let secret = parse(&COMMUNITY);
    assert_eq!((secret.edition, secret.name.as_str()), (Edition::Community, "jfs"));
    assert_eq!(parse(&[("name", "jfs"), ("token", "t")]).edition, Edition::Enterprise);
    assert_eq!(problems(&[("name", "jfs"), ("metaurl", "")]).len(), 1);
}

#[test]
fn no_confidential_value_is_kept() {
    let secret = parse(&[
        ("name", "jfs"),
        ("metaurl", "redis://:hunter2@r/1"),
        ("bucket", "sftp://user:hunter2@host/dir"),
        ("access-key", "AK"),
        ("secret-key", "hunter2"),
        ("secret-key2", "hunter2"),
        ("token", "hunter2"),
        ("passphrase", "hunter2"),
        ("encrypt_rsa_key", "hunter2"),
        ("initconfig", r#"{"secretkey": "hunter2"}"#),
        ("format-options", "session-token=hunter2,passphrase=hunter2,shards=2"),
        ("envs", "A: hunter2"),
    ]);
    assert!(!format!("{secret:?}").contains("hunter2"), "{secret:?}");
    assert_eq!(secret.arguments["access-key"], Value::Plain("AK".into()));
    assert_eq!(
        names(&secret),
        [
            "metaurl",
            "secretkey",
            "secretkey2",
            "token",
            "passphrase",
            "session_token",
            "option_passphrase",
            "bucket",
            "A"
        ]
    );
    assert!(secret.rsa_key);
    assert_eq!(secret.initconfig, Some(InitConfig { encrypted: false }));
}

#[test]
fn a_user_without_password_in_a_bucket_hides_nothing() {
    for bucket in ["http://m:9000/b", "sftp://user@host:22/dir", "user@host:/dir", "b"] {
        let secret = parse(&[&COMMUNITY[..], &[("bucket", bucket)]].concat());
        assert_eq!(secret.arguments["bucket"], Value::Plain(bucket.into()));
    }
}

#[test]
fn keys_are_matched_exactly_and_near_misses_are_named() {
    let secret = parse(&[&COMMUNITY[..], &[("Bucket", "b"), ("SUBPATH", "x"), ("secretkey", "s")]].concat());
    assert!(secret.arguments.is_empty());
    assert_eq!(names(&secret), ["metaurl"]);
    assert_eq!(
        secret.warnings,
        [
            "user secret key Bucket has no effect: use bucket",
            "user secret key secretkey has no effect: use secret-key",
        ]
    );
}

#[test]
fn enterprise_aliases_stand_in_for_missing_keys() {
    let secret = parse(&[
        ("name", "jfs"),
        ("token", "t"),
        ("accesskey", "old"),
        ("secretkey", "s"),
        ("access-key2", "new"),
        ("accesskey2", "old"),
    ]);
    assert_eq!(secret.arguments["access-key"], Value::Plain("old".into()));
    assert_eq!(secret.arguments["access-key2"], Value::Plain("old".into()));
    assert_eq!(names(&secret), ["secretkey", "token"]);
    assert_eq!(secret.warnings, ["user secret key access-key2 has no effect beside accesskey2"]);
}

#[test]
fn an_enterprise_secret_without_a_login_is_warned_of() {
    let secret = parse(&[("name", "jfs"), ("storage", "s3")]);
    assert_eq!(secret.warnings.len(), 2, "{:?}", secret.warnings);
    assert!(parse(&[("name", "jfs"), ("initconfig", "{}")]).warnings.is_empty());
}

#[test]
fn an_encrypted_initconfig_is_told_apart() {
    for (text, encrypted) in [
        (r#"{"encryptkeys": true}"#, true),
        (r#"{"encryptkeys": false}"#, false),
        (r#"{"encryptkeys": null}"#, false),
        ("{}", false),
    ] {
        let secret = parse(&[("name", "jfs"), ("initconfig", text)]);
        assert_eq!(secret.initconfig, Some(InitConfig { encrypted }), "{text}");
    }
}

#[test]
fn all_problems_are_found_at_once_and_each_names_its_key() {
    let found = problems(&[
        ("metaurl", ""),
        ("format-options", "a=,b"),
        ("envs", "- x"),
        ("configs", "no-slash: etc\nempty: ''\nBad_Name: /x\n"),
        ("initconfig", "not json"),
    ]);
    assert_eq!(
        found,
        [
            "name: is missing or empty; it is the name of the file system",
            "metaurl: is empty; it is the address of the metadata engine",
            "format-options: option \"a\" has a `=` but no value",
            "initconfig: is not the JSON of a client configuration",
            "configs: config \"Bad_Name\" is not the name of a secret",
            "configs: config \"empty\" has no path",
            "configs: config \"no-slash\" does not have an absolute path",
            "envs: is not a map of strings in YAML or JSON (line 1)",
        ]
    );
    assert_eq!(UserSecret::parse(&data(&[("metaurl", "")])).unwrap_err().key, "name");
}

#[test]
fn a_config_may_not_hide_another_mount() {
    let configs = "a: /root/.rsa\nb: /etc/juicefs/\nc: /x\nd: /x/\ne: /\nf: /a:b\ng: /a/../b\n";
    let found =
        problems(&[("name", "jfs"), ("configs", configs), ("encrypt_rsa_key", "k"), ("initconfig", "{}")]);
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found.iter().all(|problem| !problem.contains("\"c\"")), "{found:?}");
    assert!(problems(&[("name", "jfs"), ("configs", "a: /root/.rsa")]).is_empty());
}

#[test]
fn variables_that_clash_are_refused_and_those_of_the_sidecar_ignored() {
    let with = |envs| [&COMMUNITY[..], &[("secret-key", "s"), ("envs", envs)]].concat();
    for envs in ["metaurl: x", "secretkey: x", "initconfig: x", "1A: x", "'A B': x", "A=B: x", "'': x"] {
        assert_eq!(problems(&with(envs)).len(), 1, "{envs}");
    }
    // Nothing else of this secret is called so.
    assert_eq!(names(&parse(&with("token: x\nname: x"))), ["metaurl", "secretkey", "name", "token"]);
    let secret = parse(&with("JFS_FOREGROUND: 0\nTZ: UTC\na.b: x\n"));
    assert_eq!(names(&secret), ["metaurl", "secretkey", "TZ", "a.b"]);
    assert_eq!(secret.warnings.len(), 2);
}

#[test]
fn what_no_process_can_be_given_is_refused() {
    for (key, value) in
        [("name", "a\0b"), ("bucket", "a\0b"), ("secret-key", "a\0b"), ("name", "-x"), ("name", "a/b")]
    {
        let mut secret = data(&COMMUNITY);
        secret.insert(key.into(), value.into());
        assert_eq!(check(&secret).iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), [key]);
    }
    let mut secret = data(&COMMUNITY);
    secret.insert("token".into(), vec![0xff, 0xfe]);
    assert_eq!(UserSecret::parse(&secret).unwrap_err().to_string(), "token: is not valid UTF-8");
}

#[test]
fn white_space_at_the_ends_is_kept_and_warned_of() {
    let secret = parse(&[
        ("name", "jfs\n"),
        ("metaurl", " redis://r/1"),
        ("bucket", "b "),
        ("storage", "s3\r\n"),
        ("secret-key", "s\n"),
    ]);
    assert_eq!(secret.arguments["bucket"], Value::Plain("b ".into()));
    // Line ends behind a value do not reach the client.
    assert_eq!((secret.name.as_str(), &secret.arguments["storage"]), ("jfs", &Value::Plain("s3".into())));
    let warned: Vec<_> = secret.warnings.iter().filter_map(|warning| warning.split(' ').nth(3)).collect();
    assert_eq!(warned, ["metaurl", "bucket"], "{:?}", secret.warnings);
}

proptest::proptest! {
    #[test]
    fn no_data_whatever_panics(
        name in ".*",
        metaurl in proptest::option::of(".*"),
        options in "([a-c=, ]|token=|session-token=)*",
        envs in "[-A-Z:{}\\[\\], \"\n&*!|>]*",
        configs in ".*",
        initconfig in "[{}\":a-z]*",
    ) {
        let mut pairs = vec![
            ("name", name.as_str()),
            ("format-options", options.as_str()),
            ("envs", envs.as_str()),
            ("configs", configs.as_str()),
            ("initconfig", initconfig.as_str()),
        ];
        pairs.extend(metaurl.as_deref().map(|value| ("metaurl", value)));
        let problems = check(&data(&pairs));
        let facts = UserSecret::parse(&data(&pairs));
        proptest::prop_assert_eq!(facts.is_err(), !problems.is_empty());
        let injected = injected::data(&data(&pairs));
        let keys = injected.ok().map(|data| data.into_keys().collect::<Vec<_>>());
        proptest::prop_assert_eq!(keys, facts.ok().map(|facts| injected::keys(&facts).into_iter().collect()));
    }
}

#[test]
fn names_of_injected_secrets_follow_the_claim_or_the_class() {
    assert_eq!(injected_secret_name("data"), "data-jfs-secret");
    assert_eq!(class_secret_name("juicefs-sc"), "juicefs-sc-jfs-class-secret");
}
