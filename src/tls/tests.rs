use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore,
    client::danger::ServerCertVerifier as _,
    pki_types::{ServerName, UnixTime},
};

use super::{
    authority::{Authority, Damaged, NotIssued},
    files::publish,
    inspect::is_signed_by,
    issue::{Issued, issue},
    *,
};

const YEAR: Duration = Duration::from_hours(365 * 24);

/// 2026-11-22, in seconds since 1970.
const TODAY: u64 = 1_795_305_600;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn names() -> Vec<String> {
    ["localhost", "juicefs-admission-webhook.kube-system.svc", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
}

fn directory(test: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("juicefs-sidecar-tls-{test}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Whether a client that trusts the CA accepts the leaf under this name at this time.
fn accepted(issued: &Issued, name: &str, now: u64) -> bool {
    let mut roots = RootCertStore::empty();
    let bundle = pem::Bundle::parse(issued.ca_pem.as_bytes()).unwrap();
    roots.add(bundle.iter().next().unwrap().clone()).unwrap();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verifier.build().unwrap().verify_server_cert(&issued.identity.chain[0], &[], &name, &[], time).is_ok()
}

#[test]
fn a_self_made_certificate_is_accepted_under_its_names_within_its_year() {
    let issued = issue(&names(), at(TODAY)).unwrap();
    for name in ["localhost", "juicefs-admission-webhook.kube-system.svc", "127.0.0.1", "::1"] {
        assert!(accepted(&issued, name, TODAY), "{name}");
    }
    assert!(!accepted(&issued, "elsewhere", TODAY));
    assert!(accepted(&issued, "localhost", TODAY - 3_500), "clock skew");
    assert!(!accepted(&issued, "localhost", TODAY - 3_700));
    assert!(accepted(&issued, "localhost", TODAY + 364 * 86_400));
    assert!(!accepted(&issued, "localhost", TODAY + 366 * 86_400));
}

#[test]
fn dates_are_read_from_the_certificate() {
    let issued = issue(&names(), at(TODAY)).unwrap();
    let expected = Validity { not_before: TODAY - 3_600, not_after: TODAY + 365 * 86_400 };
    assert_eq!(check(&issued.identity, at(TODAY)).unwrap(), expected);
    assert!(matches!(
        check(&issued.identity, at(TODAY + 366 * 86_400)),
        Err(Unusable::Expired(at)) if at == expected.not_after
    ));
    assert!(matches!(
        check(&issued.identity, at(TODAY - 86_400)),
        Err(Unusable::NotYetValid(at)) if at == expected.not_before
    ));
}

#[test]
fn names_that_are_none_are_refused() {
    for name in ["", "not a name", "a..b", "-"] {
        assert!(matches!(issue(&[name.to_owned()], at(TODAY)), Err(NotIssued::Name(_))), "{name}");
    }
    assert!(issue(&["*.team-a.svc".to_owned()], at(TODAY)).is_ok());
    assert!(matches!(issue(&[], at(TODAY)), Err(NotIssued::NoNames)));
}

#[test]
fn an_authority_reads_back_and_signs_as_before() {
    let made = Authority::make(at(TODAY), YEAR).unwrap();
    let (certificate, key) = (made.certificate_pem(), made.key_pem());
    let read = Authority::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(read.certificate(), made.certificate());
    let leaf = leaf::sign(&read, &names(), at(TODAY), YEAR).unwrap();
    assert!(is_signed_by(&leaf.identity.chain[0], made.certificate(), TODAY));
    assert!(!format!("{read:?}").contains("PRIVATE"));

    let other = Authority::make(at(TODAY), YEAR).unwrap();
    assert!(!is_signed_by(&leaf.identity.chain[0], other.certificate(), TODAY), "same subject, another key");
    let read = |certificate: &str, key: &str| Authority::from_pem(certificate.as_bytes(), key.as_bytes());
    assert!(matches!(read(&certificate, &other.key_pem()), Err(Damaged::Mismatch)));
    assert!(matches!(read(&certificate, "nothing"), Err(Damaged::Key)));
    assert!(matches!(read("nothing", &key), Err(Damaged::Certificate(_))));
    assert!(matches!(read("", &key), Err(Damaged::Certificate(_))));
    // A serving certificate with its own key is no authority.
    assert!(matches!(read(&leaf.certificate_pem, &leaf.key_pem()), Err(Damaged::Mismatch)));
}

#[test]
fn a_leaf_ends_with_its_authority() {
    let authority = Authority::make(at(TODAY), Duration::from_mins(1)).unwrap();
    let leaf = leaf::sign(&authority, &names(), at(TODAY), YEAR).unwrap();
    assert_eq!(validity(&leaf.identity.chain[0]).unwrap().not_after, TODAY + 60);
    assert_eq!(
        validity(authority.certificate()).unwrap(),
        Validity { not_before: TODAY - 3_600, not_after: TODAY + 60 }
    );
}

#[test]
fn bundles_are_sets_with_one_text() {
    let made = || Authority::make(at(TODAY), YEAR).unwrap();
    let (one, two) = (made(), made());
    let parse = |text: &str| pem::Bundle::parse(text.as_bytes());
    let both = parse(&(one.certificate_pem() + &two.certificate_pem())).unwrap();
    let turned =
        parse(&(two.certificate_pem() + "\n" + &one.certificate_pem() + &two.certificate_pem())).unwrap();
    assert_eq!(both, turned);
    assert_eq!(both.to_pem(), turned.to_pem());
    assert_eq!(parse(&both.to_pem()).unwrap(), both);
    let first: pem::Bundle = [one.certificate().clone()].into_iter().collect();
    assert!(both.contains(two.certificate()) && !first.contains(two.certificate()));
    assert!(parse(" \n").unwrap().is_empty());
    assert_eq!(parse("x"), Err(pem::Malformed::NoCertificate));
    assert_eq!(parse(&one.certificate_pem().repeat(17)), Err(pem::Malformed::TooMany));
}

#[test]
fn files_are_read_as_they_were_written_and_a_foreign_key_is_refused() {
    let directory = directory("files");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| directory.join(name);
    fs::write(path("tls.crt"), own.cert.pem() + &other.cert.pem()).unwrap();
    fs::write(path("tls.key"), own.signing_key.serialize_pem()).unwrap();
    fs::write(path("other.key"), other.signing_key.serialize_pem()).unwrap();
    fs::write(path("empty"), "nothing\n").unwrap();

    let identity = files::read(&path("tls.crt"), &path("tls.key")).unwrap();
    assert_eq!(identity.chain.len(), 2);
    check(&identity, at(TODAY)).unwrap();
    let config = server_config(identity, None).unwrap();
    assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);

    let foreign = files::read(&path("tls.crt"), &path("other.key")).unwrap();
    let error = server_config(foreign, None).unwrap_err().to_string();
    assert!(error.starts_with("the key does not go with the certificate"), "{error}");

    for (certificate, key, expected) in [
        ("missing", "tls.key", "missing: cannot be read: "),
        ("empty", "tls.key", "empty: has no CERTIFICATE section"),
        ("tls.crt", "empty", "empty: has no PRIVATE KEY section"),
    ] {
        let error = files::read(&path(certificate), &path(key)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_is_published_is_readable_by_all_and_leaves_nothing_behind() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = directory("publish");
    let path = directory.join("ca.crt");
    publish(&path, "one").unwrap();
    publish(&path, "two").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);

    let error = publish(&directory.join("none/ca.crt"), "x").unwrap_err().to_string();
    assert!(error.contains("none/ca.crt: cannot be written: "), "{error}");
    fs::remove_dir_all(directory).unwrap();
}
