//! What the generator of the description says of parameters, of bodies that may be left out and of numbers that is not so.

use serde_json::{Value, json};

/// Puts it right, wherever it is said.
pub(super) fn amend(description: &mut Value) {
    let operations = members(description, "paths").flat_map(each);
    for operation in operations {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        parameters.into_iter().flatten().filter_map(|parameter| parameter.get_mut("schema")).for_each(never_null);
        if let Some(body) = operation.get_mut("requestBody") {
            members(body, "content").filter_map(|content| content.get_mut("schema")).for_each(never_null);
        }
    }
    unsigned(description);
}

/// The members of a member.
fn members<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).into_iter().flat_map(each)
}

fn each(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(|members| members.values_mut())
}

/// What is left out is not null: neither a query nor a header can say so, and a body that is null is one.
fn never_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|name| name != "null");
        if let [name] = types.as_slice() {
            schema["type"] = name.clone();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| *choice != json!({"type": "null"}));
        if let [choice] = choices.as_slice() {
            *schema = choice.clone();
        }
    }
}

/// Numbers of 32 bits without a sign are told as if they had one, which ends half way.
fn unsigned(value: &mut Value) {
    let has_no_sign = value.get("minimum").and_then(Value::as_f64).is_some_and(|least| least >= 0.0);
    if let Some(members) = value.as_object_mut() {
        if has_no_sign && members.get("format").is_some_and(|format| format == "int32") {
            members.shift_remove("format");
            members.entry("maximum").or_insert(json!(u32::MAX));
        }
        members.values_mut().for_each(unsigned);
    }
    value.as_array_mut().into_iter().flatten().for_each(unsigned);
}
