//! What the parser knows of bodies beyond their members, in the words of JSON Schema.

use serde_json::{Value, json};
use utoipa::openapi::{
    RefOr, Schema,
    schema::{AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, SchemaType, Type},
};

use super::{PCT, PROGRESS, STAGE};
use crate::http::openapi::{NO_CONTROLS, keywords};

/// The names of the schemas of bodies.
pub(in crate::http) const SCHEMAS: [&str; 8] =
    ["NewJob", "Patch", "MergePatch", "Append", "Heartbeat", "Cancel", "Retry", "Claim"];

/// A string, or an array of strings.
pub(super) fn one_or_more_lines() -> RefOr<Schema> {
    let line = || ObjectBuilder::new().schema_type(Type::String);
    OneOfBuilder::new()
        .item(line())
        .item(ArrayBuilder::new().items(line()))
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .into()
}

/// Completes the schema of a body: other names of its members, what goes with what, and that there is nothing else.
pub(in crate::http) fn describe(body: &mut Object) {
    body.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    let is_creation = body.properties.contains_key("kind");
    let mut rules: Vec<Value> = Vec::new();
    let names: &[&[&str]] = if is_creation { &[] } else { &[PCT, PROGRESS, STAGE] };
    for names in names {
        rules.extend(alias(body, names));
    }
    if body.properties.contains_key("lines") {
        let line = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("A single line, instead of `lines`."));
        body.properties.insert("line".into(), line.into());
        let only = |one: &str, kind: &str, other: &str| {
            json!({
                "required": [one], "properties": {one: {"type": kind}, other: {"type": "null"}}
            })
        };
        rules.push(json!({"oneOf": [only("line", "string", "lines"), only("lines", "array", "line")]}));
    }
    for name in ["stage", "message", "step", "current_step", "writer", "reason", "worker"] {
        if let Some(RefOr::T(Schema::Object(text))) = body.properties.get_mut(name) {
            text.pattern = Some(NO_CONTROLS.to_owned());
        }
    }
    if let Some(RefOr::T(Schema::Array(kinds))) = body.properties.get_mut("kinds") {
        kinds.max_items = Some(100);
        let kind = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[a-z0-9._-]{1,64}$"));
        kinds.items = RefOr::from(Schema::from(kind.build())).into();
    }
    if let Some(RefOr::T(Schema::Object(labels))) = body.properties.get_mut("labels") {
        labels.max_properties = Some(16);
        keywords(
            labels,
            [
                ("propertyNames", json!({"pattern": "^[a-z0-9._-]{1,64}$"})),
                ("additionalProperties", json!({"type": ["string", "null"], "maxLength": 256, "pattern": NO_CONTROLS})),
            ],
        );
        labels.additional_properties = None;
    }
    if let Some(RefOr::T(Schema::Object(error))) = body.properties.get_mut("error") {
        let text = json!({"type": ["string", "null"]});
        keywords(error, [("properties", json!({"reason": text, "message": text}))]);
    }
    if body.properties.contains_key("writer") {
        // Null says the same as nothing.
        let of = |kind: &str| json!({"type": kind});
        rules.push(json!({"anyOf": [
            {"required": ["writer", "seq"], "properties": {"writer": of("string"), "seq": of("integer")}},
            {"properties": {"writer": of("null"), "seq": of("null")}},
        ]}));
    }
    if !rules.is_empty() {
        keywords(body, [("allOf", Value::Array(rules))]);
    }
}

/// Adds the other names of a member that the body has, and the rule that only one of them is sent.
fn alias(body: &mut Object, names: &[&str]) -> Option<Value> {
    let (name, aliases) = names.split_first()?;
    let schema = body.properties.get(*name)?.clone();
    for alias in aliases {
        let mut schema = schema.clone();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.description = Some(format!("Another name of `{name}`."));
        }
        body.properties.insert((*alias).to_owned(), schema);
    }
    let pairs = names
        .iter()
        .enumerate()
        .flat_map(|(index, one)| names[index + 1..].iter().map(move |other| json!({"required": [one, other]})));
    Some(json!({"not": {"anyOf": pairs.collect::<Vec<_>>()}}))
}
