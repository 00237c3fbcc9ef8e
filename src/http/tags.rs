//! Entity tags: `"v12"` is version 12 of a job.
//!
//! The grammar is that of RFC 9110, section 8.8.3.

use axum::http::HeaderValue;

use crate::job::{Version, digits};

/// The tags of an If-Match or If-None-Match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`
    Any,
    /// Those of the listed tags that can be ours.
    Listed(Vec<Tag>),
}

/// A tag that can be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    version: Version,
    is_weak: bool,
}

impl Tags {
    /// Reads the list; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = text.trim_start_matches(is_gap);
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
            let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
            if !opaque.bytes().all(|byte| byte == 0x21 || byte >= 0x23 && byte != 0x7f) {
                return None;
            }
            // Another service's tag is well-formed and never the one of a job.
            tags.extend(version(opaque).map(|version| Tag { version, is_weak }));
            rest = after.trim_start_matches([' ', '\t']);
            if !rest.is_empty() {
                rest = rest.strip_prefix(',')?.trim_start_matches(is_gap);
            }
        }
        Some(Self::Listed(tags))
    }

    /// The versions a change may be made to; `None`: any. A weak tag matches none.
    pub(super) fn strong_versions(self) -> Option<Vec<Version>> {
        match self {
            Self::Any => None,
            Self::Listed(tags) => Some(tags.iter().filter(|tag| !tag.is_weak).map(|tag| tag.version).collect()),
        }
    }

    /// Whether one of them names this version, weak or not.
    pub(super) fn name(&self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag.version == version),
        }
    }
}

/// White space and empty elements of a list mean nothing.
fn is_gap(c: char) -> bool {
    matches!(c, ' ' | '\t' | ',')
}

/// The version that `v12` stands for.
fn version(opaque: &str) -> Option<Version> {
    let number = opaque.strip_prefix('v')?;
    if number.starts_with('0') { None } else { digits(number) }
}

/// The tag of a version.
pub(super) fn tag(version: Version) -> HeaderValue {
    // A quote, the letter, at most 20 digits, a quote; filled from the end.
    let mut text = [b'"'; 24];
    let mut start = text.len() - 1;
    let mut rest = version;
    loop {
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text[start - 1] = b'v';
    // Quotes, a letter and digits are always a header's value.
    HeaderValue::from_bytes(&text[start - 2..]).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_and_its_tag_are_told_from_each_other() {
        for version in [1, 12, u64::MAX] {
            let tags = Tags::parse(tag(version).to_str().unwrap()).unwrap();
            assert_eq!(tags.strong_versions(), Some(vec![version]));
        }
        assert_eq!(tag(12), "\"v12\"");
    }

    #[test]
    fn lists_may_have_weak_foreign_and_empty_elements() {
        let tags = Tags::parse(r#" "v1", W/"v2" ,, "other","v03" "#).unwrap();
        assert!(tags.name(1) && tags.name(2) && !tags.name(3));
        assert_eq!(tags.strong_versions(), Some(vec![1]));
        assert_eq!(Tags::parse(r#""a,b""#), Some(Tags::Listed(vec![])));
        assert_eq!(Tags::parse(" * "), Some(Tags::Any));
        assert_eq!(Tags::Any.strong_versions(), None);
    }

    #[test]
    fn what_is_no_list_of_tags_is_nothing() {
        for text in ["", " , ", "v12", "\"v12", "\"v1\" \"v2\"", "*, \"v1\"", "\"v1\", *", "w/\"v1\"", "\"a b\""] {
            assert_eq!(Tags::parse(text), None, "{text}");
        }
    }
}
