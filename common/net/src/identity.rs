//! A daemon's TLS certificate and key.

use crate::error::NetError;
use galen_core::Digest;
use ring::hkdf;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The name in every certificate. It identifies nobody: the certificate's fingerprint does.
pub(crate) const NAME: &str = "galen";

/// The certificate in a directory of keys.
pub const CERTIFICATE_FILE: &str = "tls-certificate.pem";
/// Its private key, in the same directory.
pub const KEY_FILE: &str = "tls-key.pem";

/// A self-signed certificate with its Ed25519 key. The study names the certificate by its fingerprint; there is no authority, and no
/// expiry is looked at. Debug prints the fingerprint only.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Arc<Zeroizing<Vec<u8>>>,
}

impl Identity {
    /// Draws a key and signs a certificate.
    pub fn generate() -> Result<Self, NetError> {
        let refused = |error: rcgen::Error| NetError::Identity(error.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(refused)?;
        let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])
            .and_then(|parameters| parameters.self_signed(&key))
            .map_err(refused)?;
        Self::new(certificate.der().clone(), Zeroizing::new(key.serialize_der()))
    }

    fn new(certificate: CertificateDer<'static>, key: Zeroizing<Vec<u8>>) -> Result<Self, NetError> {
        let identity = Self {
            certificate,
            key: Arc::new(key),
        };
        // Fails if certificate and key do not belong together.
        CertifiedKey::from_der(identity.chain(), identity.private_key(), &crate::pins::provider())
            .map_err(|error| NetError::Identity(error.to_string()))?;
        Ok(identity)
    }

    /// Reads the files that [`Identity::save`] wrote.
    pub fn load(dir: &Path) -> Result<Self, NetError> {
        let key = Zeroizing::new(read(&dir.join(KEY_FILE))?);
        let certificate = read(&dir.join(CERTIFICATE_FILE))?;
        Self::from_pem(&certificate, &key)
    }

    /// Reads the contents of those files.
    ///
    /// # Errors
    /// [`NetError::Identity`] if they are no certificate and key, or do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, NetError> {
        let unparsed = |error: rustls::pki_types::pem::Error| NetError::Identity(error.to_string());
        let key = PrivatePkcs8KeyDer::from_pem_slice(key).map_err(unparsed)?;
        Self::new(
            CertificateDer::from_pem_slice(certificate).map_err(unparsed)?,
            Zeroizing::new(key.secret_pkcs8_der().to_vec()),
        )
    }

    /// Writes `tls-key.pem` (readable by this user only) and `tls-certificate.pem` into a directory. Refuses if there is a certificate:
    /// whoever was told the fingerprint would be cut off.
    pub fn save(&self, dir: &Path) -> Result<(), NetError> {
        let certificate = dir.join(CERTIFICATE_FILE);
        if certificate.exists() {
            return Err(NetError::IdentityFile {
                path: certificate,
                source: io::ErrorKind::AlreadyExists.into(),
            });
        }
        // The certificate is written last, so that a key without one is what a crash left over and may be replaced.
        write(&dir.join(KEY_FILE), "PRIVATE KEY", &self.key, 0o600)?;
        write(&certificate, "CERTIFICATE", &self.certificate, 0o644)
    }

    /// SHA-256 of the certificate (DER): what the study pins.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }

    /// A secret for another purpose, derived from the private key.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Result<Zeroizing<[u8; 32]>, NetError> {
        let mut secret = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"galen identity")
            .extract(&self.key)
            .expand(&[purpose], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *secret))
            .map_err(|_| NetError::Identity("no key can be derived from it".to_owned()))?;
        Ok(secret)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.fingerprint().short())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, NetError> {
    fs::read(path).map_err(|source| NetError::IdentityFile {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, label: &str, der: &[u8], mode: u32) -> Result<(), NetError> {
    let text = Zeroizing::new(pem::encode(&pem::Pem::new(label, der)));
    write_durably(path, text.as_bytes(), mode).map_err(|source| NetError::IdentityFile {
        path: path.to_owned(),
        source,
    })
}

fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The entry is durable once its directory is synced; Windows has no such call.
    #[cfg(unix)]
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_storage_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        identity.save(dir.path()).unwrap();
        let again = Identity::load(dir.path()).unwrap();
        assert_eq!(again.fingerprint(), identity.fingerprint());
        assert_eq!(*again.key, *identity.key);
        assert!(Identity::generate().unwrap().save(dir.path()).is_err());
        assert_eq!(
            Identity::load(dir.path()).unwrap().fingerprint(),
            identity.fingerprint()
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.path().join(KEY_FILE))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(a.fingerprint(), b.fingerprint());
        let mixed = Identity::new(a.certificate.clone(), Zeroizing::new(b.key.to_vec()));
        assert!(matches!(mixed, Err(NetError::Identity(_))));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Identity::load(dir.path()),
            Err(NetError::IdentityFile { .. })
        ));
        fs::write(dir.path().join(KEY_FILE), "no key").unwrap();
        fs::write(dir.path().join(CERTIFICATE_FILE), "no certificate").unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(NetError::Identity(_))));
    }
}
