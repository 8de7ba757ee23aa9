//! Who may connect to whom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Coordinator, study};
use galen_core::{Code, Digest};
use galen_net::{Client, Identity, NetError, Request, Response, Tuning};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn members_know_each_other_by_fingerprint() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    assert_eq!(peer.fingerprint(), coordinator.identity.fingerprint());
    assert_eq!(peer.remote(), coordinator.address);
    let response = peer.call(&Request::Poll { seen: 4, from: 0 }).await.unwrap();
    assert!(matches!(response, Response::View(view) if view.version == 5));
    assert!(peer.traffic().sent() > 40 && peer.traffic().received() > 40);
    let (udp_sent, udp_received) = peer.udp_bytes();
    assert!(udp_sent > peer.traffic().sent() && udp_received > peer.traffic().received());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_certificate_is_refused_and_the_stranger_is_told() {
    let coordinator = Coordinator::start();
    let stranger = Identity::generate().unwrap();
    let error = coordinator.client(&stranger).connect().await.unwrap_err();
    assert!(
        matches!(error, NetError::UnknownCertificate { here: false }),
        "{error:?}"
    );
    assert_eq!(error.code(), Some(Code::UnknownCertificate));
    assert!(!error.is_transient());
    // Members are not disturbed, and patience does not repeat what cannot succeed.
    coordinator.party().await;
    let error = coordinator
        .client(&stranger)
        .connect_patiently(|error, _| panic!("retried after {error}"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::UnknownCertificate));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_party_refuses_another_coordinator() {
    let coordinator = Coordinator::start();
    let client = Client::new(
        coordinator.address.to_string(),
        &coordinator.parties[0],
        Digest::of(b"another certificate"),
        study(),
        Tuning::default(),
    )
    .unwrap();
    let error = client.connect().await.unwrap_err();
    assert!(
        matches!(error, NetError::UnknownCertificate { here: true }),
        "{error:?}"
    );
}

/// A thief has a member's certificate, which is public, but not its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_members_certificate_without_its_key_does_not_connect() {
    let coordinator = Coordinator::start();
    let (member, thief) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    coordinator.parties[0].save(member.path()).unwrap();
    let certificate = rustls_certificate(member.path());
    Identity::generate().unwrap().save(thief.path()).unwrap();
    let key = rustls_key(thief.path());

    // The library refuses to pair them, so TLS is set up by hand, with a resolver that does not check.
    let provider = rustls::crypto::ring::default_provider();
    let signer = provider.key_provider.load_private_key(key).unwrap();
    let mismatched = Arc::new(rustls::sign::CertifiedKey::new(vec![certificate], signer));
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_cert_resolver(Arc::new(Always(mismatched)));
    tls.alpn_protocols = vec![b"galen/1".to_vec()];
    let connection = dial(&coordinator, tls).await;
    let error = match connection {
        Ok(connection) => NetError::from(connection.closed().await),
        Err(error) => NetError::from(error),
    };
    assert!(
        matches!(error, NetError::UnknownCertificate { here: false }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_and_another_protocol_are_refused() {
    let coordinator = Coordinator::start();
    let tls = |alpn: &[u8]| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls
    };
    let error = match dial(&coordinator, tls(b"galen/1")).await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    assert!(matches!(
        NetError::from(error),
        NetError::UnknownCertificate { here: false }
    ));
    let error = dial(&coordinator, tls(b"galen/9")).await.unwrap_err();
    let error = NetError::from(error);
    assert!(matches!(error, NetError::WrongVersion), "{error:?}");
    assert_eq!(error.code(), Some(Code::WrongVersion));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_study_is_noticed_when_dialling() {
    let coordinator = Coordinator::start();
    let client = Client::new(
        coordinator.address.to_string(),
        &coordinator.parties[0],
        coordinator.identity.fingerprint(),
        Digest::of(b"another study"),
        Tuning::default(),
    )
    .unwrap();
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::WrongStudy));
    assert!(!error.is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_dials_first_waits_for_the_coordinator() {
    let identity = Identity::generate().unwrap();
    let party = Identity::generate().unwrap();
    // A socket that nobody reads: dialling it is what dialling a coordinator that is down looks like.
    let reserved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    let tuning = Tuning {
        dial: Duration::from_millis(300),
        ..Tuning::default()
    };
    let client = Client::new(
        address.to_string(),
        &party,
        identity.fingerprint(),
        study(),
        tuning,
    )
    .unwrap();
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let dialling = tokio::spawn(async move {
        client
            .connect_patiently(move |error, _| drop(failed.send(error.to_string())))
            .await
    });
    assert!(failures.recv().await.unwrap().contains("no answer"));
    drop(reserved);
    let coordinator = Coordinator::with(identity, vec![party], address);
    let peer = dialling.await.unwrap().unwrap();
    peer.call(&Request::Poll { seen: 0, from: 0 }).await.unwrap();
    drop(coordinator);
}

/// `localhost` may mean two addresses, of which the coordinator listens on one.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up() {
    let coordinator = Coordinator::start();
    let dial = |address: String| {
        Client::new(
            address,
            &coordinator.parties[0],
            coordinator.identity.fingerprint(),
            study(),
            Tuning::default(),
        )
        .unwrap()
    };
    let client = dial(format!("localhost:{}", coordinator.address.port()));
    client.connect().await.unwrap();
    let error = dial("no port".to_owned()).connect().await.unwrap_err();
    assert!(matches!(error, NetError::Address { .. }), "{error:?}");
}

async fn dial(
    coordinator: &Coordinator,
    tls: rustls::ClientConfig,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    endpoint
        .connect_with(
            quinn::ClientConfig::new(Arc::new(tls)),
            coordinator.address,
            "galen",
        )
        .unwrap()
        .await
}

fn rustls_certificate(dir: &std::path::Path) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_file(dir.join("tls-certificate.pem")).unwrap()
}

fn rustls_key(dir: &std::path::Path) -> rustls::pki_types::PrivateKeyDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::PrivateKeyDer::from_pem_file(dir.join("tls-key.pem")).unwrap()
}

#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A dialling side that does not care whom it reaches.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _certificate: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _name: &rustls::pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &rustls::pki_types::CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &rustls::pki_types::CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
