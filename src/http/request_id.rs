//! Names of requests, by which a client's report, an answer and a line of the service's log are brought together.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, both ways.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives names to requests that come without one: a random number of the process and a count.
#[derive(Debug)]
pub(super) struct RequestIds {
    process: u32,
    count: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        // The standard library's hasher is keyed at random in each process.
        let process = RandomState::new().hash_one(std::process::id()) as u32;
        Self { process, count: AtomicU64::new(0) }
    }

    /// The name the client chose, if it is 1-128 visible ASCII characters, or a fresh one.
    pub(super) fn name(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(&X_REQUEST_ID) {
            Some(chosen) if is_acceptable(chosen.as_bytes()) => chosen.clone(),
            Some(_) | None => self.fresh(),
        }
    }

    fn fresh(&self) -> HeaderValue {
        const LENGTH: usize = 8 + 1 + 12;
        let mut text = [b'-'; LENGTH];
        hex(u64::from(self.process), &mut text[..8]);
        hex(self.count.fetch_add(1, Ordering::Relaxed), &mut text[9..]);
        // Hexadecimal digits and a dash are always a header's value.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

fn is_acceptable(name: &[u8]) -> bool {
    (1..=128).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
}

/// The lowest digits of a number, as many as there is room for.
fn hex(mut number: u64, text: &mut [u8]) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_name_is_unlike_the_one_before() {
        let ids = RequestIds::new();
        let (first, second) = (ids.fresh(), ids.fresh());
        assert_ne!(first, second);
        assert!(first.to_str().unwrap().ends_with("-000000000000"));
        assert!(second.to_str().unwrap().ends_with("-000000000001"));
    }

    #[test]
    fn a_chosen_name_is_kept_when_it_is_visible_ascii() {
        let ids = RequestIds::new();
        let named = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(name).unwrap());
            ids.name(&headers)
        };
        assert_eq!(named("job-7/try:2"), "job-7/try:2");
        assert_ne!(named("two words"), "two words");
        assert_ne!(named(&"x".repeat(129)), "x".repeat(129));
    }
}
