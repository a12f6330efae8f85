//! What in a newer schema breaks an older one's records and clients.

use std::collections::BTreeMap;

use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// The package whose field and value names are in clients' JSON.
const CLIENT_PACKAGE: &str = "tidings.client.v1";

/// All messages and enums of a schema by their full names.
#[derive(Default)]
struct Names<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

impl<'a> Names<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let mut names = Self::default();
        for file in set.file.iter().filter(|file| file.package().starts_with("tidings.")) {
            names.add(file.package(), &file.message_type, &file.enum_type);
        }
        names
    }

    fn add(&mut self, scope: &str, messages: &'a [DescriptorProto], enums: &'a [EnumDescriptorProto]) {
        for found in enums {
            self.enums.insert(format!("{scope}.{}", found.name()), found);
        }
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add(&name, &message.nested_type, &message.enum_type);
            self.messages.insert(name, message);
        }
    }
}

/// One line for each change that breaks something.
pub(crate) fn breaking_changes(baseline: &FileDescriptorSet, current: &FileDescriptorSet) -> Vec<String> {
    let (was, is) = (Names::of(baseline), Names::of(current));
    let mut broken = Vec::new();
    for (name, message) in &was.messages {
        match is.messages.get(name) {
            None => broken.push(format!("message {name} is gone")),
            Some(now) => fields(name, message, now, &mut broken),
        }
    }
    for (name, values) in &was.enums {
        match is.enums.get(name) {
            None => broken.push(format!("enum {name} is gone")),
            Some(now) => enum_values(name, values, now, &mut broken),
        }
    }
    broken
}

fn is_clients(name: &str) -> bool {
    name.starts_with(CLIENT_PACKAGE)
}

fn fields(message: &str, was: &DescriptorProto, is: &DescriptorProto, broken: &mut Vec<String>) {
    for field in &was.field {
        let name = format!("field {message}.{} ({})", field.name(), field.number());
        let Some(now) = is.field.iter().find(|now| now.number() == field.number()) else {
            broken.push(format!("{name} is gone: its number can never mean anything else"));
            continue;
        };
        if type_of(field) != type_of(now) {
            broken.push(format!("{name} was of type {}, is of type {}", type_of(field), type_of(now)));
        }
        if field.label() != now.label() {
            broken.push(format!("{name} was {}, is {}", field.label().as_str_name(), now.label().as_str_name()));
        }
        match (oneof_of(was, field), oneof_of(is, now)) {
            (Some(was), None) => broken.push(format!("{name} was in oneof {was}, is in none")),
            (None, Some(is)) => broken.push(format!("{name} was in no oneof, is in oneof {is}")),
            (Some(was), Some(is)) if was != is => broken.push(format!("{name} was in oneof {was}, is in oneof {is}")),
            _ => {}
        }
        match (field.proto3_optional(), now.proto3_optional()) {
            (true, false) => broken.push(format!("{name} no longer tells unset from empty")),
            (false, true) => broken.push(format!("{name} now tells unset from empty")),
            _ => {}
        }
        if is_clients(message) && field.name() != now.name() {
            broken.push(format!("{name} is now named {}, which clients' JSON does not know", now.name()));
        }
        if is_clients(message) && field.json_name() != now.json_name() {
            broken.push(format!("{name} is now named {} in JSON", now.json_name()));
        }
    }
}

/// The name of a message's or an enum's type, else the kind of number or string.
fn type_of(field: &FieldDescriptorProto) -> String {
    match field.type_name() {
        "" => field.r#type().as_str_name().to_owned(),
        name => name.to_owned(),
    }
}

/// The oneof that a field is in, unless it is the one that only makes it optional.
fn oneof_of<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a str> {
    let index = usize::try_from(field.oneof_index?).ok()?;
    (!field.proto3_optional()).then(|| message.oneof_decl.get(index).map(|oneof| oneof.name()))?
}

fn enum_values(name: &str, was: &EnumDescriptorProto, is: &EnumDescriptorProto, broken: &mut Vec<String>) {
    for value in &was.value {
        let label = format!("value {name} {} ({})", value.number(), value.name());
        match is.value.iter().find(|now| now.number() == value.number()) {
            None => broken.push(format!("{label} is gone")),
            Some(now) if is_clients(name) && now.name() != value.name() => {
                broken.push(format!("{label} is now named {}, which clients' JSON does not know", now.name()));
            }
            Some(_) => {}
        }
    }
}
