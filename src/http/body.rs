//! Request bodies: of a type the route takes, within their size and their time, and only then parsed.
//!
//! Promises: memory for a body never exceeds its limit, whatever the client announces or sends.
//! Knows nothing of jobs.

use std::time::Duration;

use axum::{
    body::{Body as RawBody, HttpBody},
    extract::{FromRequest, Request},
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT},
    },
};
use bytes::Bytes;
use http_body_util::BodyExt;

use super::{bounds::Bounds, context::Context, error::ApiError};

/// How much of a body that is refused for its size is still read, so that its sender, who may not listen before all is
/// sent, gets the answer and not a broken connection.
const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Types of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// JSON (RFC 8259).
    Json,
    /// A JSON merge patch (RFC 7396).
    MergePatch,
    /// JSON values, each on a line of its own.
    Ndjson,
    /// Plain text.
    Text,
}

impl Media {
    const ALL: [Self; 4] = [Self::Json, Self::MergePatch, Self::Ndjson, Self::Text];

    /// The name in a Content-Type.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MergePatch => "application/merge-patch+json",
            Self::Ndjson => "application/x-ndjson",
            Self::Text => "text/plain",
        }
    }

    fn named(essence: &str) -> Option<Self> {
        // The name without "x-" is not registered, but in use.
        let alias = essence.eq_ignore_ascii_case("application/ndjson").then_some(Self::Ndjson);
        alias.or_else(|| Self::ALL.into_iter().find(|media| essence.eq_ignore_ascii_case(media.as_str())))
    }
}

/// What can be made of a body.
pub(super) trait FromBody: Sized {
    /// The types it is made of, the usual one first.
    const MEDIA: &'static [Media];

    /// Parses the body.
    fn from_body(media: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError>;
}

/// A parsed body, and the bytes it came as.
#[derive(Debug)]
pub(super) struct Body<T> {
    pub(super) value: T,
    pub(super) bytes: Bytes,
}

impl<T: FromBody> FromRequest<Context> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // Read before it is refused for its type: see the limit above.
        let bytes = read(&parts.headers, body, context).await?;
        let media = media(&parts.headers, T::MEDIA, bytes.is_empty())?;
        Ok(Self { value: T::from_body(media, &bytes, context.bounds())?, bytes })
    }
}

/// The type of a body, which must be one of those the route takes.
pub(super) fn media(headers: &HeaderMap, taken: &[Media], is_empty: bool) -> Result<Media, ApiError> {
    let refused = |found: &str| {
        let names: Vec<_> = taken.iter().map(|media| format!("`Content-Type: {}`", media.as_str())).collect();
        ApiError::MediaType(format!("Send {}, in UTF-8; this body {found}.", names.join(" or ")))
    };
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(refused("is compressed"));
    }
    let Some(name) = headers.get(CONTENT_TYPE) else {
        return match taken {
            // Whoever sends nothing forgot the body, not its type.
            [usual, ..] if is_empty => Ok(*usual),
            _ => Err(refused("has no Content-Type")),
        };
    };
    let name = name.to_str().unwrap_or_default();
    let (essence, parameters) = name.split_once(';').unwrap_or((name, ""));
    let media = Media::named(essence.trim()).filter(|media| taken.contains(media));
    let media = media.ok_or_else(|| refused(&format!("is `{}`", essence.trim())))?;
    if is_utf8(parameters) { Ok(media) } else { Err(refused("is in another encoding")) }
}

fn is_utf8(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        let fits = value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8");
        !name.trim().eq_ignore_ascii_case("charset") || fits || value.eq_ignore_ascii_case("us-ascii")
    })
}

/// The whole body.
///
/// # Errors
/// [`ApiError::TooLarge`], [`ApiError::Slow`], or that the client broke off.
pub(super) async fn read(headers: &HeaderMap, mut body: RawBody, context: &Context) -> Result<Bytes, ApiError> {
    let settings = context.settings();
    let (bytes_max, seconds) = (settings.body_bytes_max, settings.body_read_seconds);
    let reading = async {
        let announced = body.size_hint().lower();
        if announced > bytes_max as u64 {
            // A client that asked first has sent nothing yet.
            if !headers.contains_key(EXPECT) && announced <= LINGER_BYTES_MAX {
                discard(&mut body, announced).await;
            }
            return Err(ApiError::TooLarge { bytes_max });
        }
        collect(&mut body, bytes_max).await
    };
    let deadline = Duration::from_secs(seconds.into());
    tokio::time::timeout(deadline, reading).await.unwrap_or(Err(ApiError::Slow { seconds }))
}

async fn collect(body: &mut RawBody, bytes_max: usize) -> Result<Bytes, ApiError> {
    // Most bodies come in one piece, which is then not copied.
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    let Some(mut piece) = next(body).await? else {
        return if first.len() <= bytes_max { Ok(first) } else { Err(ApiError::TooLarge { bytes_max }) };
    };
    let mut whole = Vec::from(first);
    while whole.len() + piece.len() <= bytes_max {
        make_room(&mut whole, piece.len(), bytes_max);
        whole.extend_from_slice(&piece);
        match next(body).await? {
            Some(next) => piece = next,
            None => return Ok(whole.into()),
        }
    }
    drop((whole, piece));
    discard(body, LINGER_BYTES_MAX).await;
    Err(ApiError::TooLarge { bytes_max })
}

/// Room for so many bytes more: twice as much as there was, so that a body is not copied with each of its pieces, but never
/// more than it may have, nor as much as is only announced.
fn make_room(whole: &mut Vec<u8>, more: usize, bytes_max: usize) {
    let needed = whole.len() + more;
    if needed > whole.capacity() {
        let capacity = needed.max(2 * whole.capacity()).min(bytes_max);
        whole.reserve_exact(capacity - whole.len());
    }
}

/// The next piece of a body; `None` at its end.
pub(super) async fn next(body: &mut RawBody) -> Result<Option<Bytes>, ApiError> {
    loop {
        match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
            Some(Err(_)) => return Err(ApiError::Json("The body broke off before its end; send it again.".into())),
            None => return Ok(None),
        }
    }
}

async fn discard(body: &mut RawBody, bytes_max: u64) {
    let mut read = 0;
    while read < bytes_max {
        match next(body).await {
            Ok(Some(piece)) => read += piece.len() as u64,
            Ok(None) | Err(_) => return,
        }
    }
}

/// The body as text, nested no deeper than the service allows.
///
/// # Errors
/// [`ApiError::Json`].
pub(super) fn json_text(body: &[u8], depth_max: usize) -> Result<&str, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::Json("The body must be UTF-8.".into()))?;
    if text.trim_ascii().is_empty() {
        return Err(ApiError::Json("The body is empty; send JSON.".into()));
    }
    if is_deeper(text, depth_max) {
        return Err(ApiError::Json(format!("The body must be nested at most {depth_max} deep.").into()));
    }
    Ok(text)
}

fn is_deeper(text: &str, depth_max: usize) -> bool {
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    // Nothing is deeper than it has brackets, and counting them is much faster than following them.
    if text.as_bytes().iter().filter(|byte| opens(byte)).count() <= depth_max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(!is_deeper(r#"{"a":[1,2]}"#, 2));
        assert!(is_deeper(r#"{"a":[[1]]}"#, 2));
        assert!(!is_deeper(r#"{"a":"[[[[[[\"[[[["}"#, 1));
        assert!(!is_deeper("[],[],[],[],[]", 1));
        assert!(is_deeper(&"[".repeat(10_000), 100));
    }

    #[test]
    fn a_body_has_room_for_itself_and_no_more() {
        let mut whole = vec![0; 10];
        for (more, capacity) in [(1, 20), (9, 20), (30, 50), (50, 100), (1, 120), (19, 120)] {
            make_room(&mut whole, more, 120);
            assert_eq!(whole.capacity(), capacity);
            whole.resize(whole.len() + more, 0);
        }
    }

    #[test]
    fn a_media_type_is_known_by_its_essence_and_must_be_utf8() {
        let named = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(name));
            media(&headers, &[Media::Json, Media::Text], false).ok()
        };
        assert_eq!(named("Application/JSON; charset=\"UTF-8\""), Some(Media::Json));
        assert_eq!(named("text/plain"), Some(Media::Text));
        assert_eq!(named("text/plain;charset=latin1"), None);
        assert_eq!(named("application/x-ndjson"), None);
        assert_eq!(named("application/x-www-form-urlencoded"), None);
    }
}
