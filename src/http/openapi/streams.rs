//! What a stream of events says, one event at a time: OpenAPI 3.1 has no other words for it.

use serde_json::{Value, json};
use utoipa::{
    IntoResponses,
    openapi::{
        ContentBuilder, ObjectBuilder, RefOr, ResponseBuilder,
        schema::{Object, OneOfBuilder, Type},
    },
};

use super::{Responses, keywords, one_of};

/// The events of a job.
pub(in crate::http) struct JobEvents;

impl IntoResponses for JobEvents {
    fn responses() -> Responses {
        let line = json!({"type": "integer", "minimum": 1});
        let end = json!({"attempt": {"type": "integer", "minimum": 1}, "reason": {"enum": ["done", "deleted"]}});
        stream(
            "The events, until the job is done. The schema is that of one event.",
            [
                ("job", json!({"$ref": "#/components/schemas/Job"})),
                ("log", json!({"$ref": "#/components/schemas/LogLine"})),
                ("dropped", object(json!({"from": line, "to": line}))),
                ("reset", object(json!({}))),
                ("end", object(end)),
            ],
        )
    }
}

/// The events of many jobs.
pub(in crate::http) struct FeedEvents;

impl IntoResponses for FeedEvents {
    fn responses() -> Responses {
        let text = json!({"type": "string"});
        stream(
            "The events; there is no end. The schema is that of one event.",
            [
                ("ready", object(json!({"cursor": text}))),
                ("job", json!({"$ref": "#/components/schemas/Job"})),
                ("left", object(json!({"id": text}))),
                ("deleted", object(json!({"id": text}))),
                ("reset", object(json!({}))),
            ],
        )
    }
}

fn stream<const N: usize>(description: &str, events: [(&str, Value); N]) -> Responses {
    let events = events.into_iter().map(|(name, data)| event(name, data));
    let schema = events.fold(OneOfBuilder::new(), OneOfBuilder::item);
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let answer = ResponseBuilder::new().description(description).content("text/event-stream", content).build();
    [("200".to_owned(), RefOr::T(answer))].into()
}

/// An event of this name, whose data is JSON of this schema.
fn event(name: &str, data: Value) -> Object {
    let mut text = ObjectBuilder::new().schema_type(Type::String).content_media_type("application/json").build();
    keywords(&mut text, [("contentSchema", data)]);
    ObjectBuilder::new()
        .property("event", one_of(&[name], false))
        .property("id", ObjectBuilder::new().schema_type(Type::String))
        .property("data", text)
        .required("event")
        .required("id")
        .required("data")
        .build()
}

/// An object with all of these members and no others.
fn object(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(|members| members.keys()).collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}
