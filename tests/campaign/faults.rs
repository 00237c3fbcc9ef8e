//! Disks that fail, disks that are full, and stores that are not as they were left.

mod damage;
pub(crate) mod full;
mod rot;
mod sync;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::process::{PATIENCE, Server};

/// Plain requests to one server.
struct Api {
    http: Client,
    url: String,
}

/// The status and the body of an answer.
type Heard = (u16, Value);

impl Api {
    fn of(server: &Server) -> Self {
        let http = Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        Self { http, url: server.url.clone() }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Heard {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("the server answers");
        let status = response.status().as_u16();
        let bytes = response.bytes().await.expect("the whole answer");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Heard {
        self.ask(Method::GET, path, None).await
    }

    async fn put(&self, job: &str) -> Heard {
        self.ask(Method::PUT, &format!("/jobs/{job}"), Some(json!({"kind": "restyle", "input": {"of": job}}))).await
    }

    /// A change of everything that a change writes: a result and a line of this many bytes.
    async fn patch(&self, job: &str, number: u64, bytes: usize) -> Heard {
        let text = format!("{number} {}", "x".repeat(bytes));
        let body = json!({"stage": format!("step {number}"), "result": {"text": text}, "log": [text]});
        self.ask(Method::PATCH, &format!("/jobs/{job}"), Some(body)).await
    }
}
