//! Log lines and operations on their way in: where one ends and the next begins.

use std::convert::Infallible;

use axum::body::Body as RawBody;
use bytes::Bytes;
use futures_util::stream;

use super::{bounds, limits, taken};
use crate::{
    http::{
        batch::Lines,
        bodies::AppendBody,
        body::{FromBody, Media},
    },
    job::{Change, Lines as LogLines},
};

/// Lines that are sent as text, as lines of JSON and as JSON are the same lines, and each is fit for a log.
pub(crate) fn appended(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let plain = append(Media::Text, bytes);
    let line = |line: &'_ str| line.strip_suffix("\r\n").or(line.strip_suffix('\n')).unwrap_or(line).to_owned();
    let expected: Vec<String> = text.split_inclusive('\n').map(line).collect();
    let json = |line: &String| serde_json::to_string(line).unwrap_or_default();
    let ndjson: Vec<String> = expected.iter().map(json).collect();
    let framed = append(Media::Ndjson, ndjson.join("\n").as_bytes());
    let array = append(Media::Json, format!("{{\"lines\":[{}]}}", ndjson.join(",")).as_bytes());
    assert_eq!(texts(&plain), texts(&array), "text and JSON of {text:?}");
    assert_eq!(texts(&framed), texts(&array), "lines of JSON and JSON of {text:?}");
    if let Some(plain) = &plain {
        assert_eq!(plain.texts.len(), expected.len(), "{text:?}");
        plain.texts.iter().zip(&expected).for_each(|(line, sent)| is_fit(line, sent));
    }
    // As a worker may send it that frames its own lines.
    for line in append(Media::Ndjson, bytes).iter().flat_map(|lines| &lines.texts) {
        assert!(!line.contains(['\n', '\r']) && line.len() <= limits().line_bytes_max, "{line:?}");
    }
}

fn append(media: Media, bytes: &[u8]) -> Option<LogLines> {
    let change = AppendBody::from_body(media, bytes, &bounds()).and_then(AppendBody::into_change);
    let Change::Append(append) = taken(change)? else { panic!("no append") };
    Some(append.lines)
}

fn texts(lines: &Option<LogLines>) -> Option<Vec<&str>> {
    lines.as_ref().map(|lines| lines.texts.iter().map(|text| &**text).collect())
}

/// A line of a log says what was sent, on one line; what is cut says so.
fn is_fit(line: &str, sent: &str) {
    let shown = sent.replace('\n', "␊").replace('\r', "␍");
    match line.strip_suffix("…[cut]") {
        Some(kept) if shown != line => {
            assert!(shown.starts_with(kept) && shown.len() > limits().line_bytes_max, "{line:?} of {sent:?}");
        }
        _ => assert_eq!(line, shown),
    }
    assert!(line.len() <= limits().line_bytes_max, "{line:?}");
}

/// Operations are the same lines however their bytes come.
pub(crate) fn batched(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let most = bounds().settings().batch.line_bytes_max;
    let expected = bytes.split(|byte| *byte == b'\n').filter_map(|line| match line {
        long if long.len() > most => Some(Err(413)),
        blank if blank.trim_ascii().is_empty() => None,
        line => Some(Ok(line.to_vec())),
    });
    let found = read(bytes, usize::from(*piece).max(1));
    assert_eq!(found, expected.collect::<Vec<_>>(), "in pieces of {piece}: {:?}", String::from_utf8_lossy(bytes));
}

/// The lines of a body that comes in pieces of this size, or what is said instead.
fn read(bytes: &[u8], piece: usize) -> Vec<Result<Vec<u8>, u16>> {
    let pieces: Vec<_> = bytes.chunks(piece).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    let mut lines = Lines::new(RawBody::from_stream(stream::iter(pieces)), bounds().settings());
    let mut read = Vec::new();
    let reading = async {
        while let Some(line) = lines.next().await {
            read.push(match line {
                Ok(line) => Ok(line.strip_suffix(b"\n").unwrap_or(&line).to_vec()),
                Err(error) => Err(error.problem().status),
            });
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime.block_on(reading),
        Err(error) => panic!("no runtime: {error}"),
    }
    read
}
