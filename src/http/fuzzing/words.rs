//! Cursors, tags, queries and other words of paths and headers.

use std::fmt;

use axum::http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{bounds, taken};
use crate::{
    engine::{Cursor, Order},
    http::{
        accept,
        body::{self, Media},
        cursor, events, extract, feed, jobs, list, logs, query,
        query::{FromParams, decode},
        tags::{Tags, tag},
    },
    publish,
};

/// Reads a word of the sort that a letter stands for.
pub(crate) fn word(sort: u8, bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    match sort {
        b'c' => list_cursor(text),
        b'e' => event_id(text),
        b't' => entity_tags(text),
        b'h' => headers(bytes, text),
        b'1' => query::<list::ListParams>(text),
        b'2' => query::<jobs::ReadParams>(text),
        b'3' => query::<events::StreamParams>(text),
        b'4' => query::<feed::FeedParams>(text),
        b'5' => query::<logs::PageParams>(text),
        b'6' => query::<logs::AppendParams>(text),
        b'7' => query::<query::Nothing>(text),
        _ => {}
    }
}

/// Only what was given out for a query is taken, and it is what it was.
fn list_cursor(text: &str) {
    for order in [Order::Newest, Order::Oldest] {
        for filters in ["", "status=failed"] {
            if let Some(place) = cursor::decode(text, order, filters) {
                assert_eq!(cursor::encode(place, order, filters), text);
            }
            let place = Cursor(text.bytes().fold(7, |number, byte| number << 7 ^ u64::from(byte)));
            let given = cursor::encode(place, order, filters);
            assert_eq!(cursor::decode(&given, order, filters), Some(place));
            assert_eq!(cursor::decode(&given, order, &format!("{filters}{text}x")), None);
        }
    }
}

fn event_id(text: &str) {
    if let Some(cursor) = publish::Cursor::parse(text) {
        assert_eq!(publish::Cursor::parse(&cursor.to_string()), Some(cursor));
    }
}

fn entity_tags(text: &str) {
    let Some(tags) = Tags::parse(text) else { return };
    let Some(versions) = tags.strong_versions() else { return assert_eq!(text.trim(), "*") };
    let told = versions.iter().map(|version| tag(*version));
    let told: Vec<_> = told.map(|tag| tag.to_str().map(str::to_owned).unwrap_or_default()).collect();
    let again = Tags::parse(&told.join(", ")).and_then(Tags::strong_versions).unwrap_or_default();
    assert_eq!(again, versions);
}

fn headers(bytes: &[u8], text: &str) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers: HeaderMap = [(ACCEPT, value.clone()), (CONTENT_TYPE, value)].into_iter().collect();
    let is_preferred = accept::prefers(&headers, "application/x-ndjson", "text/plain");
    assert!(!(is_preferred && accept::prefers(&headers, "text/plain", "application/x-ndjson")), "{text:?}");
    if let Some(media) = taken(body::media(&headers, &[Media::Json, Media::Text], false)) {
        assert!(matches!(media, Media::Json | Media::Text));
    }
    if let Some((name, value)) = text.split(',').find_map(extract::wish) {
        assert!(text.contains(name) && text.contains(value));
    }
}

/// What a query says does not depend on which of its characters are encoded.
fn query<T: FromParams + fmt::Debug>(text: &str) {
    let parse = |text: &str| taken(query::parse::<T>(text, &bounds())).map(|params| format!("{params:?}"));
    let Some(params) = parse(text) else { return };
    let encoded = |part: &str| {
        let part = decode(part).unwrap_or_default();
        utf8_percent_encode(&part, NON_ALPHANUMERIC).to_string()
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => format!("{}={}", encoded(name), encoded(value)),
        None => encoded(pair),
    };
    let again: Vec<_> = text.split('&').map(pair).collect();
    assert_eq!(parse(&again.join("&")), Some(params), "{text:?}");
}
