//! Sections as JSON Schema.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::key::{Absence, Section};

/// The JSON Schema of a table.
pub(in crate::config) fn section_schema(section: &dyn Section) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for entry in section.entries() {
        let mut schema = entry.kind().schema();
        let mut description = entry.doc();
        let mut put = |key: &str, value: Value| schema.as_object_mut().map(|fields| fields.insert(key.into(), value));
        match entry.absence() {
            Absence::Error => required.push(entry.name()),
            Absence::Default(text) => drop(default_as_json(text).map(|value| put("default", value))),
            Absence::Means(text) => description = format!("{description} Default: {text}."),
        }
        let range = entry.kind().range();
        if !range.is_empty() {
            description = format!("{description} Range: {range}.");
        }
        put("description", description.into());
        properties.insert(entry.name().into(), schema);
    }
    json!({
        "type": "object",
        "description": section.about(),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// A default's TOML text as JSON; both are values of the same few types.
fn default_as_json(text: &str) -> Option<Value> {
    let default = DeValue::parse(text).ok()?;
    as_json(default.get_ref())
}

fn as_json(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(json!(text)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::from),
        DeValue::Boolean(value) => Some(json!(value)),
        DeValue::Array(array) => array.iter().map(|each| as_json(each.get_ref())).collect(),
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(key, value)| Some((key.get_ref().to_string(), as_json(value.get_ref())?)));
            pairs.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        DeValue::Float(_) | DeValue::Datetime(_) => None,
    }
}
