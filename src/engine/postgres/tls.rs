//! TLS to the database, and whom it has to be.
//!
//! The words are libpq's, see <https://www.postgresql.org/docs/current/libpq-ssl.html>.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engine::EngineError;

/// Whom the service takes for its database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Whoever answers: what is sent is encrypted, and that is all (`prefer`, `require`).
    #[default]
    Anyone,
    /// Whoever has a certificate of these authorities (`verify-ca`, or `require` with authorities).
    Authorities(Authorities),
    /// The same, if it is for the host that was named (`verify-full`).
    Host(Authorities),
}

/// Who vouches for a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorities {
    /// Those that the system trusts.
    #[default]
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// What makes connections secure.
///
/// # Errors
/// [`EngineError::Unavailable`] when there are no authorities.
pub(super) fn connector(trust: &Trust) -> Result<MakeRustlsConnect, EngineError> {
    let provider = Arc::new(ring::default_provider());
    let (authorities, checks_host) = match trust {
        Trust::Anyone => (None, false),
        Trust::Authorities(authorities) => (Some(authorities), false),
        Trust::Host(authorities) => (Some(authorities), true),
    };
    let chain = authorities.map(|authorities| chain(authorities, provider.clone())).transpose()?;
    let verifier = Arc::new(Verifier { chain, checks_host, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EngineError::Unavailable(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn chain(authorities: &Authorities, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, EngineError> {
    let mut roots = RootCertStore::empty();
    let (found, from) = match authorities {
        Authorities::System => (rustls_native_certs::load_native_certs().certs, "the system".to_owned()),
        Authorities::File(path) => {
            let refused = |error| EngineError::Unavailable(format!("sslrootcert {}: {error}", path.display()));
            let certificates = CertificateDer::pem_file_iter(path).map_err(refused)?.collect::<Result<_, _>>();
            (certificates.map_err(refused)?, path.display().to_string())
        }
    };
    roots.add_parsable_certificates(found);
    WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().map_err(|error| {
        EngineError::Unavailable(format!("{from} names no authority that vouches for a database: {error}"))
    })
}

/// Checks as much as is wanted.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    checks_host: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is what is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_host => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
