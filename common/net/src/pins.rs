//! TLS 1.3 in which both sides accept only certificates that they know by fingerprint.
//!
//! A certificate is not a secret, so knowing one proves nothing. The handshake's signature does: it is made with the certificate's key
//! over the handshake itself, and rustls verifies it here as in any other TLS connection. Only the question "is this certificate
//! trusted" is answered by the pinned set instead of by an authority; names and dates in the certificate are not looked at.

use crate::error::NetError;
use crate::identity::Identity;
use crate::transport::ALPN;
use galen_core::Digest;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// Accepts exactly the certificates whose SHA-256 is in the set.
#[derive(Debug)]
struct Pins {
    fingerprints: BTreeSet<Digest>,
    provider: CryptoProvider,
}

impl Pins {
    fn new(fingerprints: BTreeSet<Digest>) -> Arc<Self> {
        Arc::new(Self {
            fingerprints,
            provider: provider(),
        })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let fingerprint = Digest::of(certificate);
        if self.fingerprints.contains(&fingerprint) {
            return Ok(());
        }
        tracing::warn!(%fingerprint, "refusing a certificate that is not pinned");
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// QUIC is TLS 1.3 only, and no configuration here offers less.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Pins {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(certificate).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

fn refused(error: impl std::fmt::Display) -> NetError {
    NetError::Identity(error.to_string())
}

/// TLS for the listening side, which admits the pinned clients.
pub(crate) fn server(identity: &Identity, pins: BTreeSet<Digest>) -> Result<QuicServerConfig, NetError> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(Pins::new(pins))
        .with_single_cert(identity.chain(), identity.private_key())
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the certificates. Handshakes are rare, so nothing is lost.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(refused)
}

/// TLS for the dialling side, which accepts the one pinned server.
pub(crate) fn client(identity: &Identity, pin: Digest) -> Result<QuicClientConfig, NetError> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Pins::new(BTreeSet::from([pin])))
        .with_client_auth_cert(identity.chain(), identity.private_key())
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(refused)
}

/// The fingerprint of the certificate that the peer proved to hold.
pub(crate) fn fingerprint(connection: &quinn::Connection) -> Result<Digest, NetError> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| chain.first().map(|certificate| Digest::of(certificate)))
        .ok_or(NetError::UnknownCertificate { here: true })
}
