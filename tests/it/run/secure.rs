//! The service behind TLS, as behind a proxy: certificates are trusted, or they are not.

use std::{fs, path::Path, process::Command, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::Place;

/// Ends TLS in front of a service, for as long as it is there.
struct Proxy {
    url: String,
    _runtime: Runtime,
}

impl Proxy {
    /// With the certificate of the authority of [`authority`].
    fn start(place: &Place) -> Self {
        let chain = CertificateDer::pem_file_iter(place.path("service.crt")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(place.path("service.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), place.address.clone()));
        Self { url, _runtime: runtime }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, service: String) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, service) = (acceptor.clone(), service.clone());
        connections.spawn(async move {
            // One that does not trust us goes away.
            let mut client = acceptor.accept(stream).await?;
            copy_bidirectional(&mut client, &mut TcpStream::connect(service).await?).await
        });
    }
}

/// Makes an authority, and a certificate of its own for 127.0.0.1.
fn authority(directory: &Path) {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -keyout root.key -out root.crt");
    openssl("req -newkey rsa:2048 -nodes -subj /CN=service -keyout service.key -out service.csr");
    openssl("x509 -req -in service.csr -CA root.crt -CAkey root.key -CAcreateserial -extfile names -out service.crt");
}

#[test]
fn a_service_behind_tls_is_spoken_to_if_its_certificate_is_trusted() {
    let place = Place::new();
    authority(place.directory.path());
    let proxy = Proxy::start(&place);
    let said = |arguments: &[&str], is_trusted: bool| {
        let mut command = place.milepost(arguments);
        let roots = if is_trusted { place.path("root.crt") } else { "/etc/ssl/certs/none.crt".into() };
        let output = command.env("MILEPOST_URL", &proxy.url).env("SSL_CERT_FILE", roots).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code())
    };
    let run = |id, is_trusted| {
        said(
            &["run", "--kind", "k", "--id", id, "--flush-seconds", "1", "--", "sh", "-c", "echo out; exit 3"],
            is_trusted,
        )
    };
    assert_eq!(run("j", true), ("out\n".to_owned(), String::new(), Some(3)));
    assert_eq!(place.job("j")["logs"][0], "out");
    assert_eq!(said(&["logs", "-f", "j"], true).0, "out\n");
    assert_eq!(said(&["watch", "j"], true).2, Some(1));

    // Whoever looks on is told what to see to; a command is run all the same, and is told of later.
    for command in [["logs", "-f", "j"].as_slice(), &["watch", "j"], &["ls"]] {
        let (_, complaint, code) = said(command, false);
        assert!(complaint.contains("is not trusted: invalid peer certificate") && code == Some(1), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    let (output, complaint, code) = run("untold", false);
    assert_eq!((output.as_str(), code), ("out\n", Some(3)));
    assert!(complaint.contains("is in "), "{complaint}");
    assert_eq!((place.call("GET", "/jobs/untold", &serde_json::Value::Null).0, place.spooled()), (404, 1));
}
