use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, pem::PemObject as _};

use super::{files::publish, issue::issue, *};

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
fn accepted(issued: &issue::Issued, name: &str, now: u64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(issued.ca_pem.as_bytes()).unwrap()).unwrap();
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
        assert!(matches!(issue(&[name.to_owned()], at(TODAY)), Err(issue::NotIssued::Name(_))), "{name}");
    }
    assert!(issue(&["*.team-a.svc".to_owned()], at(TODAY)).is_ok());
    assert!(matches!(issue(&[], at(TODAY)), Err(issue::NotIssued::NoNames)));
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
    let config = server_config(identity).unwrap();
    assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);

    let foreign = files::read(&path("tls.crt"), &path("other.key")).unwrap();
    let error = server_config(foreign).unwrap_err().to_string();
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
