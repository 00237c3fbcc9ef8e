//! Which of two types a client would rather have (RFC 9110, section 12.5.1).

use axum::http::{HeaderMap, header::ACCEPT};

/// Whether the client would rather have `this` type than the `usual` one, which it gets when it does not care.
pub(super) fn prefers(headers: &HeaderMap, this: &str, usual: &str) -> bool {
    let ranges = || {
        let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).map(parse)
    };
    quality(ranges(), this) > quality(ranges(), usual)
}

/// Whether the client names this very type.
pub(super) fn names(headers: &HeaderMap, this: &str) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(parse).any(|(range, q)| range.eq_ignore_ascii_case(this) && q > 0.0)
}

/// A media range and its weight.
fn parse(element: &str) -> (&str, f32) {
    let mut parts = element.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let weight = parts.find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")));
    (range, weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0)))
}

/// The weight of the range that fits a type most closely; 0 when none fits.
fn quality<'a>(ranges: impl Iterator<Item = (&'a str, f32)>, media_type: &str) -> f32 {
    let family = media_type.split_once('/').map_or("", |(family, _)| family);
    let closeness = |range: &str| match range.split_once('/') {
        _ if range.eq_ignore_ascii_case(media_type) => 3,
        Some((range, "*")) if range.eq_ignore_ascii_case(family) => 2,
        Some(("*", "*")) => 1,
        Some(_) | None => 0,
    };
    let fitting = ranges.map(|(range, weight)| (closeness(range), weight)).filter(|(closeness, _)| *closeness > 0);
    fitting.max_by_key(|(closeness, _)| *closeness).map_or(0.0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn prefers_text(accept: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        prefers(&headers, "text/plain", "application/json")
    }

    #[test]
    fn the_closest_range_decides() {
        assert!(prefers_text("text/plain"));
        assert!(prefers_text("text/*, */*;q=0.1"));
        assert!(prefers_text("application/json;q=0.5, text/plain"));
        assert!(!prefers_text("*/*"));
        assert!(!prefers_text("text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(!prefers_text("text/plain, application/json"));
        assert!(!prefers_text("text/plain;q=0"));
        assert!(!prefers(&HeaderMap::new(), "text/plain", "application/json"));
    }
}
