//! Where the service is: the URL that people give.

use std::{str::FromStr, sync::Arc};

use hyper::Uri;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use thiserror::Error;

/// What is wrong with a URL.
#[derive(Debug, Error)]
#[error("`{url}` {fault}")]
pub struct BadServer {
    url: String,
    fault: &'static str,
}

/// Where a service is, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Base {
    /// As it was given, without a slash at its end.
    url: String,
    /// For the `host` header.
    pub(super) authority: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands before each path, for a service behind a proxy.
    pub(super) prefix: String,
    pub(super) secure: Option<Secure>,
}

/// How its certificate is looked at.
#[derive(Clone, Debug)]
pub(super) struct Secure {
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
}

impl FromStr for Base {
    type Err = BadServer;

    fn from_str(url: &str) -> Result<Self, BadServer> {
        let bad = |fault| BadServer { url: url.to_owned(), fault };
        let uri: Uri = url.parse().map_err(|_no_uri| bad("is no URL, such as http://127.0.0.1:8080"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(bad("must begin with http:// or https://"));
        };
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(bad("must have neither a user nor a query"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (port, secure) = match scheme {
            "http" => (80, None),
            "https" => {
                let name = ServerName::try_from(host.clone()).map_err(|_no_name| bad("names no host"))?;
                let config =
                    trusting_the_system().map_err(|_no_config| bad("needs TLS, which cannot be set up here"))?;
                (443, Some(Secure { name, config: Arc::new(config) }))
            }
            _ => return Err(bad("must begin with http:// or https://")),
        };
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            authority: authority.as_str().to_owned(),
            host,
            port: authority.port_u16().unwrap_or(port),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            secure,
        })
    }
}

impl Base {
    /// The URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// TLS with the certificates that the system trusts. One that cannot be read is left out, as everywhere.
fn trusting_the_system() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_service_is() {
        let base: Base = "http://127.0.0.1:8080/".parse().unwrap();
        assert_eq!((base.host.as_str(), base.port, base.prefix.as_str()), ("127.0.0.1", 8080, ""));
        assert_eq!((base.url(), base.secure.is_none()), ("http://127.0.0.1:8080", true));
        let base: Base = "https://jobs.example/milepost/".parse().unwrap();
        assert_eq!((base.host.as_str(), base.port, base.prefix.as_str()), ("jobs.example", 443, "/milepost"));
        assert!(base.secure.is_some());
        let base: Base = "http://[::1]:81".parse().unwrap();
        assert_eq!((base.host.as_str(), base.port, base.authority.as_str()), ("::1", 81, "[::1]:81"));
    }

    #[test]
    fn what_is_no_url_of_a_service_is_refused_in_words() {
        for (url, fault) in [
            ("127.0.0.1:8080", "must begin with http"),
            ("ftp://x", "must begin with http"),
            ("http://a:b@x", "neither a user nor a query"),
            ("http://x/?a=b", "neither a user nor a query"),
            ("h ttp://x", "is no URL"),
        ] {
            let said = url.parse::<Base>().unwrap_err().to_string();
            assert!(said.contains(fault), "{said}");
        }
    }
}
