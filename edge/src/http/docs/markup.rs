//! From texts and schemas to HTML.

use std::fmt;

use serde_json::{Map, Value, json};

/// How deep an example follows references: a conversation has a last message, which has attachments.
const EXAMPLE_DEPTH_MAX: usize = 4;

/// A text as HTML.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '&' => formatter.write_str("&amp;")?,
                '"' => formatter.write_str("&quot;")?,
                other => fmt::Write::write_char(formatter, other)?,
            }
        }
        Ok(())
    }
}

/// The little Markdown that the document uses: paragraphs and `code`.
pub(super) fn prose(text: &str) -> String {
    let mut html = String::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        html.push_str("<p>");
        for (place, part) in paragraph.split('`').enumerate() {
            let part = Escaped(part).to_string();
            html.push_str(&match place % 2 {
                1 if is_schema_name(&part) => format!("<a href=\"#schema-{part}\"><code>{part}</code></a>"),
                1 => format!("<code>{part}</code>"),
                _ => part,
            });
        }
        html.push_str("</p>");
    }
    html
}

/// Schemas, and nothing else here, are named like `ThisOne`.
fn is_schema_name(code: &str) -> bool {
    code.starts_with(|first: char| first.is_ascii_uppercase())
        && code.chars().any(|character| character.is_ascii_lowercase())
        && code.chars().all(|character| character.is_ascii_alphanumeric())
}

/// The name that a reference leads to.
fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// A link to a schema.
pub(super) fn schema_link(schema: &Value) -> String {
    referred(schema).map(|name| format!("<a href=\"#schema-{0}\">{0}</a>", Escaped(name))).unwrap_or_default()
}

/// What a field holds.
pub(super) fn kind(field: &Value) -> String {
    if field["type"] == "array" {
        return format!("list of {}", kind(&field["items"]));
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> =
            values.iter().filter_map(Value::as_str).map(|value| format!("<code>{}</code>", Escaped(value))).collect();
        return values.join(" · ");
    }
    let link = schema_link(field);
    if !link.is_empty() {
        return link;
    }
    let kind = match (field["type"].as_str().unwrap_or_default(), field["format"].as_str().unwrap_or_default()) {
        ("string", "uint64") => "64-bit integer, as a string",
        ("string", "date-time") => "time, RFC 3339",
        ("string", _) if field["contentEncoding"] == "base64" => "bytes, base64",
        ("string", _) => "string",
        ("integer", _) => "integer",
        ("boolean", _) => "boolean",
        _ => "object",
    };
    format!("<span class=\"kind\">{kind}</span>")
}

/// A JSON text that fits the schema.
pub(super) fn example(document: &Value, schema: &Value) -> String {
    format!("{:#}", example_of(document, schema, 0).unwrap_or_else(|| json!({})))
}

fn example_of(document: &Value, schema: &Value, depth: usize) -> Option<Value> {
    if depth > EXAMPLE_DEPTH_MAX {
        return None;
    }
    if let Some(name) = referred(schema) {
        return example_of(document, document.pointer(&format!("/components/schemas/{name}"))?, depth + 1);
    }
    if let Some(first) = schema["examples"].get(0).or_else(|| schema["enum"].get(0)) {
        return Some(first.clone());
    }
    match schema["type"].as_str()? {
        "object" => {
            let is_one_of = schema["description"].as_str().is_some_and(|text| text.contains("Exactly one of"));
            let mut fields = Map::new();
            for (name, field) in schema["properties"].as_object()? {
                // Of the alternatives, the first that leads to a message.
                let is_chosen_already = is_one_of && fields.values().any(Value::is_object);
                if is_chosen_already && referred(field).is_some() {
                    continue;
                }
                // What most messages don't have would only hide what they have.
                let is_rare = ["encrypted", "membership", "deleted_at", "edited_at", "reply_to", "retry_after_ms"];
                if is_rare.contains(&name.as_str()) && depth > 0 {
                    continue;
                }
                if let Some(value) = example_of(document, field, depth) {
                    fields.insert(name.clone(), value);
                }
            }
            Some(Value::Object(fields))
        }
        "array" => {
            let item = example_of(document, &schema["items"], depth + 1);
            Some(Value::Array(item.into_iter().collect()))
        }
        "integer" => Some(1.into()),
        "boolean" => Some(false.into()),
        _ => Some("…".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_texts() {
        assert_eq!(prose("a <b> & `c<d>`\n\ne"), "<p>a &lt;b&gt; &amp; <code>c&lt;d&gt;</code></p><p>e</p>");
        assert_eq!(prose(""), "");
        assert_eq!(prose("`Send`"), "<p><a href=\"#schema-Send\"><code>Send</code></a></p>");
    }

    #[test]
    fn examples_follow_references_and_end() {
        let document = json!({"components": {"schemas": {"Node": {"type": "object", "properties": {
            "name": {"type": "string", "examples": ["ann"]},
            "next": {"$ref": "#/components/schemas/Node"},
        }}}}});
        let text = example(&document, &json!({"$ref": "#/components/schemas/Node"}));
        assert_eq!(text.matches("ann").count(), EXAMPLE_DEPTH_MAX);
    }
}
