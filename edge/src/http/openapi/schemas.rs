//! The schemas of the OpenAPI document, made from `client.proto` by protobuf's JSON mapping, so that they say what the
//! edge reads and writes.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};

const PACKAGE: &str = ".tidings.client.v1.";
const TIMESTAMP: &str = ".google.protobuf.Timestamp";

/// The messages of the client contract.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    messages: BTreeMap<String, Documented>,
    /// Their names as they come in the contract.
    order: Vec<String>,
    /// The values of each enum, by the name of the message that it stands in.
    enums: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Documented {
    descriptor: DescriptorProto,
    comment: String,
    field_comments: Vec<String>,
}

impl Schemas {
    /// Reads them from the compiled descriptors.
    pub(crate) fn of_contract() -> Self {
        // The descriptors are part of the program; were they damaged, the document would be empty and a test would say so.
        let files = FileDescriptorSet::decode(tidings_schemas::DESCRIPTORS).unwrap_or_default();
        let mut schemas = Self::default();
        let is_contract = |file: &&FileDescriptorProto| format!(".{}.", file.package()) == PACKAGE;
        for file in files.file.iter().filter(is_contract) {
            for (index, message) in (0..).zip(&file.message_type) {
                if let [only] = message.enum_type.as_slice() {
                    let values = only.value.iter().map(|value| value.name().to_owned());
                    let values = values.filter(|value| value != "unspecified").collect();
                    schemas.enums.insert(message.name().to_owned(), values);
                    continue;
                }
                let field_comments =
                    (0..).zip(&message.field).map(|(field, _)| comment(file, &[4, index, 2, field])).collect();
                let documented =
                    Documented { descriptor: message.clone(), comment: comment(file, &[4, index]), field_comments };
                schemas.order.push(message.name().to_owned());
                schemas.messages.insert(message.name().to_owned(), documented);
            }
        }
        schemas
    }

    /// The schema of a request: these fields left out, these needed.
    pub(crate) fn request(&self, message: &str, without: &[&str], needs: &[&str]) -> Value {
        let mut schema = self.message(message, |_| false);
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.retain(|name, _| !without.contains(&name.as_str()));
        }
        if !needs.is_empty() {
            schema["required"] = json!(needs);
        }
        schema
    }

    /// The schemas that these messages need, in the order of the contract. `bodies` stand at their endpoints, so they are
    /// here only where something else needs them. A field that is always there is said to be, in messages that only ever
    /// come from the server.
    pub(crate) fn components(&self, bodies: &[&str], from_clients: &[&str], from_server: &[&str]) -> Value {
        let in_bodies: Vec<String> = self.reachable(bodies).into_iter().collect();
        let in_bodies: Vec<&str> = in_bodies.iter().map(String::as_str).filter(|name| !bodies.contains(name)).collect();
        let taken = self.reachable(&[from_clients, in_bodies.as_slice()].concat());
        let given = self.reachable(from_server);
        let mut components = Map::new();
        for name in self.order.iter().filter(|name| taken.contains(*name) || given.contains(*name)) {
            let is_only_given = !taken.contains(name);
            let schema = self.message(name, |field| is_only_given && is_always_there(field));
            components.insert(name.clone(), schema);
        }
        Value::Object(components)
    }

    /// The names of the messages, and of those in their fields.
    fn reachable(&self, from: &[&str]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut next: Vec<String> = from.iter().map(|name| (*name).to_owned()).collect();
        while let Some(name) = next.pop() {
            let Some(documented) = self.messages.get(&name).filter(|_| found.insert(name.clone())) else { continue };
            let fields = documented.descriptor.field.iter();
            next.extend(fields.filter_map(|field| field.type_name().strip_prefix(PACKAGE)).map(str::to_owned));
        }
        found
    }

    fn message(&self, name: &str, is_required: impl Fn(&FieldDescriptorProto) -> bool) -> Value {
        let Some(documented) = self.messages.get(name) else {
            return json!({"type": "object"});
        };
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, comment) in documented.descriptor.field.iter().zip(&documented.field_comments) {
            let mut schema = self.field(field);
            if !comment.is_empty() {
                schema["description"] = comment.as_str().into();
            }
            properties.insert(field.name().to_owned(), schema);
            if is_required(field) {
                required.push(Value::from(field.name()));
            }
        }
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        let one_of = one_of(&documented.descriptor);
        let description = [documented.comment.as_str(), one_of.as_str()];
        let description: Vec<&str> = description.into_iter().filter(|text| !text.is_empty()).collect();
        if !description.is_empty() {
            schema.insert("description".to_owned(), description.join(" ").into());
        }
        schema.insert("properties".to_owned(), properties.into());
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        Value::Object(schema)
    }

    /// The schema of a field, by protobuf's JSON mapping.
    fn field(&self, field: &FieldDescriptorProto) -> Value {
        let item = match field.r#type() {
            Type::Message if field.type_name() == TIMESTAMP => {
                json!({"type": "string", "format": "date-time", "examples": ["2026-01-31T09:26:53.589Z"]})
            }
            Type::Message => super::reference(field.type_name().trim_start_matches(PACKAGE)),
            Type::Enum => {
                let holder = field.type_name().trim_start_matches(PACKAGE).split('.').next().unwrap_or_default();
                json!({"type": "string", "enum": self.enums.get(holder).cloned().unwrap_or_default()})
            }
            Type::Bool => json!({"type": "boolean"}),
            Type::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Type::Uint32 | Type::Int32 | Type::Fixed32 => json!({"type": "integer", "minimum": 0}),
            Type::Uint64 | Type::Int64 | Type::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": "^[0-9]+$", "examples": ["42"]})
            }
            _ => string(field.name()),
        };
        if field.label() == Label::Repeated { json!({"type": "array", "items": item}) } else { item }
    }
}

/// A text, with an example where its name says what it holds.
fn string(name: &str) -> Value {
    let example = match name {
        "user_id" | "sender_id" | "by" | "user_ids" | "member_ids" => "0b5e7a44-9c3d-4f0e-8a51-2f6d1c9be7a3",
        "conversation_id" => "7d1f2c90-53ab-4e86-b1d7-08e4a6c35f12",
        "message_id" | "reply_to" => "019bfc1d-a2e5-8000-8000-00000000002a",
        "client_message_id" => "f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
        "username" => "ann",
        "display_name" => "Ann Lee",
        "text" => "Good morning!",
        "title" => "Friends",
        "role" => return json!({"type": "string", "examples": ["member"]}),
        "content_type" => "image/jpeg",
        "password" => "correct horse battery staple",
        "device_id" => "phone",
        "epoch" => "4fd0e2b1a97c6835",
        "code" => "not_a_member",
        "media_id" => "9b2f6c1e",
        "name" => "beach.jpg",
        _ => return json!({"type": "string"}),
    };
    json!({"type": "string", "examples": [example]})
}

/// Whether the field stands in the JSON even with its default value: all but those that can be absent.
fn is_always_there(field: &FieldDescriptorProto) -> bool {
    let is_absent_by_default = field.r#type() == Type::Message && field.label() != Label::Repeated;
    !is_absent_by_default && field.oneof_index.is_none()
}

/// Says of which fields there is only one.
fn one_of(message: &DescriptorProto) -> String {
    let mut groups: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for field in message.field.iter().filter(|field| !field.proto3_optional()) {
        if let Some(group) = field.oneof_index {
            groups.entry(group).or_default().push(format!("`{}`", field.name()));
        }
    }
    groups.into_values().map(|names| format!("Exactly one of {}.", names.join(", "))).collect::<Vec<_>>().join(" ")
}

/// The comment before a message or a field, on one line.
fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.as_ref().map(|info| info.location.as_slice()).unwrap_or_default();
    let location = locations.iter().find(|location| location.path == path);
    let lines = location.map(|location| location.leading_comments()).unwrap_or_default();
    lines.split_whitespace().collect::<Vec<_>>().join(" ")
}
