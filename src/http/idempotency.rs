//! What makes two requests the same: their route, their key and what their bodies mean.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{error::ApiError, members::no_json};
use crate::store::IdempotencyKey;

/// The key of a request of this route with this JSON body.
pub(super) fn key(route: &str, key: &str, body: &[u8]) -> Result<IdempotencyKey, ApiError> {
    let body: Value = serde_json::from_slice(body).map_err(no_json)?;
    let mut digest = Sha256::new();
    feed(&mut digest, &body);
    // A space is in no key, so keys of different routes never meet.
    Ok(IdempotencyKey { key: format!("{route} {key}"), fingerprint: digest.finalize().into() })
}

/// Feeds a value in a form that does not depend on spaces or on the order of members.
fn feed(digest: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            digest.update(b"{");
            for (name, member) in members {
                text(digest, name);
                feed(digest, member);
            }
            digest.update(b"}");
        }
        Value::Array(elements) => {
            digest.update(b"[");
            elements.iter().for_each(|element| feed(digest, element));
            digest.update(b"]");
        }
        Value::String(string) => text(digest, string),
        Value::Number(_) | Value::Bool(_) | Value::Null => {
            digest.update(value.to_string());
            digest.update(b",");
        }
    }
}

/// With its length first, so that no text can look like what surrounds it.
fn text(digest: &mut Sha256, text: &str) {
    digest.update(b"\"");
    digest.update((text.len() as u64).to_be_bytes());
    digest.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(body: &str) -> [u8; 32] {
        key("jobs", "k", body.as_bytes()).unwrap().fingerprint
    }

    #[test]
    fn the_same_meaning_has_the_same_fingerprint() {
        assert_eq!(fingerprint(r#"{"a":1,"b":[true,null]}"#), fingerprint(r#" { "b" : [ true, null ], "a" : 1 } "#));
        assert_eq!(fingerprint(r#"{"a":"\u00e4"}"#), fingerprint(r#"{"a":"ä"}"#));
    }

    #[test]
    fn another_meaning_has_another_fingerprint() {
        let bodies = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":11}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,1]}"#,
            r#"{"a":{"1":1}}"#,
            r#"{"b":1}"#,
            r#"{"a":[[1],1]}"#,
            r#"{"a":null}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{}"#,
            r#"[{}]"#,
            r#"{"a":["1"]}"#,
        ];
        for (index, body) in bodies.iter().enumerate() {
            assert!(bodies[..index].iter().all(|other| fingerprint(other) != fingerprint(body)), "{body}");
        }
    }
}
