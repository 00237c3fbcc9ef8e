//! Pages for people, made from the same description that programs read. No scripts, and nothing from elsewhere.

use std::fmt::Write;

use axum::http::HeaderValue;
use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{code::Code, openapi};

const STYLE: &str = include_str!("docs.css");

/// The pages that never change while the service runs.
#[derive(Debug)]
pub(super) struct Pages {
    /// The description, for programs.
    pub(super) openapi: Bytes,
    /// The description, for people.
    pub(super) docs: Bytes,
    /// Where to begin.
    pub(super) index: Bytes,
    /// What browsers may do with the pages: show them, in this style.
    pub(super) policy: HeaderValue,
}

impl Pages {
    pub(super) fn render() -> Self {
        let openapi = Bytes::from(openapi::openapi());
        let description: Value = serde_json::from_slice(&openapi).unwrap_or_default();
        let style = base64(&Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        Self {
            docs: page("Milepost: the API", &reference(&description)).into(),
            index: page("Milepost", INDEX).into(),
            // Visible ASCII throughout; without its digest the style is refused, and nothing else changes.
            policy: HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
            openapi,
        }
    }
}

/// The page of a kind of problem.
pub(super) fn problem(code: Code) -> String {
    let body = format!(
        "<p><code>{}</code>, status {}</p>\n<p>{}</p>\n<p><a href=\"/docs\">All routes</a></p>",
        code.as_str(),
        code.status().as_u16(),
        prose(&Value::from(code.advice())),
    );
    page(code.title(), &body)
}

const INDEX: &str = "<p>A job store for long jobs: workers report over HTTP, readers follow.</p>\n\
    <ul>\n<li><a href=\"/docs\">The API</a>, also as <a href=\"/openapi.json\">openapi.json</a></li>\n\
    <li><a href=\"/jobs\">Jobs</a>, newest first</li>\n<li><a href=\"/health\">Health</a></li>\n\
    <li><a href=\"/metrics\">Metrics</a></li>\n</ul>";

fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )
}

/// The routes, the members of their bodies, and the problems.
fn reference(description: &Value) -> String {
    let mut html = format!("<p>{}</p>\n", prose(&description["info"]["description"]));
    for (path, item) in members(&description["paths"]) {
        for (method, operation) in members(item) {
            html.push_str(&section(path, method, operation));
        }
    }
    html.push_str("<h2 id=\"schemas\">Bodies</h2>\n");
    for (name, schema) in members(&description["components"]["schemas"]) {
        let _infallible =
            write!(html, "<h3 id=\"schema-{0}\">{0}</h3>\n<p>{1}</p>\n", escaped(name), prose(&schema["description"]));
        html.push_str(&table(
            "Member",
            members(&schema["properties"]).map(|(name, schema)| (name.as_str(), schema, schema)),
        ));
    }
    html.push_str(
        "<h2 id=\"problems\">Problems</h2>\n<table>\n<tr><th>Code</th><th>Status</th><th>Meaning</th></tr>\n",
    );
    for code in Code::ALL {
        let _infallible = writeln!(
            html,
            "<tr><td><a href=\"/problems/{}\"><code>{}</code></a></td><td>{}</td><td>{}</td></tr>",
            code.slug(),
            code.as_str(),
            code.status().as_u16(),
            escaped(code.title()),
        );
    }
    html.push_str("</table>");
    html
}

fn section(path: &str, method: &str, operation: &Value) -> String {
    let mut html = format!(
        "<h2><code>{} {}</code></h2>\n<p><strong>{}</strong> {}</p>\n",
        method.to_uppercase(),
        escaped(path),
        prose(&operation["summary"]),
        prose(&operation["description"]),
    );
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let rows = parameters.map(|parameter| (text(&parameter["name"]), &parameter["schema"], parameter));
    html.push_str(&table("Parameter", rows));
    for (media, content) in members(&operation["requestBody"]["content"]) {
        let _infallible = writeln!(html, "<p>Takes <code>{}</code>: {}</p>", escaped(media), kind(&content["schema"]));
    }
    html.push_str("<table>\n<tr><th>Status</th><th>Meaning</th></tr>\n");
    for (status, response) in members(&operation["responses"]) {
        let meaning = match text(&response["$ref"]).rsplit('/').next() {
            Some(name) if !name.is_empty() => format!("<a href=\"#schema-Job\">{}</a>", escaped(name)),
            Some(_) | None => prose(&response["description"]),
        };
        let _infallible = writeln!(html, "<tr><td>{}</td><td>{meaning}</td></tr>", escaped(status));
    }
    html.push_str("</table>\n");
    html
}

/// Rows of a name, the schema of its values, and what has the description; nothing when there are none.
fn table<'a>(title: &str, rows: impl Iterator<Item = (&'a str, &'a Value, &'a Value)>) -> String {
    let rows: String = rows
        .map(|(name, schema, described)| {
            format!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>\n",
                escaped(name),
                kind(schema),
                prose(&described["description"])
            )
        })
        .collect();
    if rows.is_empty() {
        return rows;
    }
    format!("<table>\n<tr><th>{title}</th><th>Type</th><th>Meaning</th></tr>\n{rows}</table>\n")
}

/// A schema in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", escaped(name));
    }
    let words = schema["enum"].as_array().map(|words| words.iter().map(Value::to_string).collect::<Vec<_>>());
    if let Some(words) = words {
        return escaped(&words.join(", "));
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(schemas) = schema[choice].as_array().filter(|schemas| schemas.iter().any(is_kind)) {
            return schemas.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("array of {}", kind(&schema["items"])),
        Value::String(name) => escaped(name),
        Value::Array(names) => escaped(&names.iter().map(text).collect::<Vec<_>>().join(" or ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
    }
}

/// Whether a schema says of what kind a value is, and not only what goes with what.
fn is_kind(schema: &Value) -> bool {
    ["type", "$ref", "oneOf", "enum"].iter().any(|word| !schema[word].is_null())
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A description, with what stands between backticks as code.
fn prose(value: &Value) -> String {
    let parts = escaped(text(value));
    let parts = parts.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = move |place: usize| match place <= group.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * place) & 0x3f) as usize]),
            false => '=',
        };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn nothing_in_a_description_is_markup() {
        assert_eq!(prose(&Value::from("a `<b>` & \"c\"")), "a <code>&lt;b&gt;</code> &amp; &quot;c&quot;");
    }

    #[test]
    fn pages_load_nothing_and_run_nothing() {
        let pages = Pages::render();
        let docs = std::str::from_utf8(&pages.docs).unwrap();
        assert!(docs.contains("PATCH /jobs/{id}"));
        for forbidden in ["<script", " src=", "http://", "https://", " style=", " onload"] {
            assert!(!docs.contains(forbidden), "{forbidden}");
        }
        assert!(pages.policy.to_str().unwrap().contains("style-src 'sha256-"));
    }
}
