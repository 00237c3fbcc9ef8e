//! What is asked, and what comes back.

use std::{fmt::Write, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Base, ClientError};

/// How long an answer may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request, which can be sent any number of times.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    patience: Duration,
}

impl Request {
    /// Asks for what is at this path.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), headers: Vec::new(), body: Bytes::new(), patience: PATIENCE }
    }

    /// A request with a body.
    pub fn send(method: &'static str, path: impl Into<String>, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { method, path: path.into(), headers, body: body.to_string().into(), patience: PATIENCE }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, of which the service waits for so long before it answers.
    #[must_use]
    pub fn waits(mut self, wait: Duration) -> Self {
        self.patience += wait;
        self
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn on(&self, base: &Base) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        let mut request = hyper::Request::builder()
            .method(self.method)
            .uri(format!("{}{}", base.prefix, self.path))
            .header("host", &base.authority)
            .header("user-agent", concat!("milepost/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// A text as it stands in a path or a query.
pub fn segment(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._~-".contains(&byte) {
            whole.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _written = write!(whole, "%{byte:02X}");
        }
    }
    whole
}

/// What came back, of a status below 400.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    pub(super) headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

impl Answer {
    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, which is JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_safe_in_a_path() {
        assert_eq!(segment("a/b c~1.x_-"), "a%2Fb%20c~1.x_-");
        assert_eq!(segment("é?&"), "%C3%A9%3F%26");
    }
}
