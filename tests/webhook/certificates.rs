//! Certificates that change under the running program.

use std::{fs, sync::Arc};

use hyper::{StatusCode, body::Bytes};
use juicefs_sidecar::tls::{Identity, files};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use rustix::process::Signal;

use super::{
    client::{Connection, Server},
    program::{Program, fresh, wait_for},
    recorded::{ENDPOINTS, directory, reviews},
    within,
};

fn made() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// Whether this connection gets a review.
async fn asked(connection: &mut Connection) -> bool {
    let body = Bytes::from(reviews().swap_remove(0).1);
    let response = within(10, connection.post(ENDPOINTS[0].path(), body)).await;
    response.is_ok_and(|response| response.status() == StatusCode::OK)
}

/// Whether somebody who comes new gets one.
async fn answered(server: &Server) -> bool {
    match server.http1().await {
        Ok((mut connection, _)) => asked(&mut connection).await,
        Err(_) => false,
    }
}

#[tokio::test]
async fn certificate_and_client_ca_are_taken_when_they_change_and_nobody_is_cut_off() {
    let own = fresh("certificates");
    let path = |name: &str| own.join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    let (first, second, client, stranger) = (made(), made(), made(), made());
    let identity = |of: &CertifiedKey<KeyPair>| -> Option<Arc<Identity>> {
        write("client.crt", &of.cert.pem());
        write("client.key", &of.signing_key.serialize_pem());
        let read = files::read(path("client.crt").as_ref(), path("client.key").as_ref());
        Some(Arc::new(read.unwrap()))
    };
    write("tls.crt", &first.cert.pem());
    write("tls.key", &first.signing_key.serialize_pem());
    write("ca.crt", &client.cert.pem());
    let flags =
        ["--tls-cert", &path("tls.crt"), "--tls-key", &path("tls.key"), "--client-ca", &path("ca.crt")];
    let program = Program::start_in(own.clone(), &directory().join("cluster"), &flags);
    let server = |ca: &CertifiedKey<KeyPair>, who: Option<Arc<Identity>>| Server {
        ca: ca.cert.pem(),
        identity: who,
        ..program.server.clone()
    };
    let (known, unknown) = (identity(&client), identity(&stranger));
    assert!(!answered(&server(&first, None)).await, "nobody in particular");
    assert!(!answered(&server(&first, unknown.clone())).await, "somebody else");
    let (mut kept, _) = server(&first, known.clone()).http1().await.unwrap();
    assert!(asked(&mut kept).await);

    // In two steps, as nobody replaces two files at once: the first leaves a key that does not fit.
    write("tls.crt", &second.cert.pem());
    let refusal = wait_for(&program.lines, "the old ones stay in use");
    assert!(refusal["error"].as_str().unwrap().contains("the key does not go with"), "{refusal}");
    assert!(answered(&server(&first, known.clone())).await, "the old one stays");
    write("tls.key", &second.signing_key.serialize_pem());
    wait_for(&program.lines, "is in use");
    assert!(answered(&server(&second, known.clone())).await);
    assert!(!answered(&server(&first, known.clone())).await);
    assert!(asked(&mut kept).await, "open connections go on");

    let mut brief = CertificateParams::new(["localhost".to_owned()]).unwrap();
    brief.not_after = rcgen::date_time_ymd(2040, 1, 1);
    write("tls.crt", &brief.self_signed(&second.signing_key).unwrap().pem());
    wait_for(&program.lines, "is in use");
    write("ca.crt", &stranger.cert.pem());
    wait_for(&program.lines, "is in use");
    let metrics = program.plain("/metrics");
    for line in [
        "certificate_reloads_total{result=\"ok\"} 3\n",
        "certificate_reloads_total{result=\"failed\"} 1\n",
        "certificate_not_after_timestamp_seconds 2208988800\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let brief = Server { ca: fs::read_to_string(path("tls.crt")).unwrap(), ..program.server.clone() };
    assert!(answered(&Server { identity: unknown, ..brief.clone() }).await, "a new client CA");
    assert!(!answered(&Server { identity: known, ..brief }).await, "no longer");
    assert!(asked(&mut kept).await);
    program.signal(Signal::TERM);
    assert_eq!(program.end().0.code(), Some(0));
}
