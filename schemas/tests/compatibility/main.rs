//! Refuses a change of `proto/` that breaks what is already written in logs, or what clients already rely on. The
//! schema as it was last agreed is `schemas/baseline.binpb`; after a change that only adds, it is written anew with
//! `TIDINGS_BLESS=1 cargo test -p tidings-schemas --test compatibility`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod breaking;

use std::{env, fs, path::PathBuf};

use breaking::breaking_changes;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const BLESS: &str = "TIDINGS_BLESS";
const HOW: &str = "TIDINGS_BLESS=1 cargo test -p tidings-schemas --test compatibility";

fn baseline_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.binpb")
}

/// Without comments and positions, which are no part of the contract.
fn bare(bytes: &[u8]) -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(bytes).unwrap();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}

fn current() -> FileDescriptorSet {
    bare(tidings_schemas::DESCRIPTORS)
}

#[test]
fn the_schema_only_grows() {
    let current = current();
    let path = baseline_path();
    let bless = env::var(BLESS).unwrap_or_default();
    let baseline = fs::read(&path).map(|bytes| bare(&bytes));
    let broken = baseline.as_ref().map(|baseline| breaking_changes(baseline, &current)).unwrap_or_default();
    assert!(
        broken.is_empty() || bless == "breaking",
        "this change of proto/ breaks records and clients that exist:\n  {}\n\
         Keep what is there and add beside it. (What was never in a log or a release, and the rows of views.proto with a \
         new version of the views, may change all the same: {})",
        broken.join("\n  "),
        HOW.replace("=1", "=breaking"),
    );
    if !bless.is_empty() {
        fs::write(&path, current.encode_to_vec()).unwrap();
        return;
    }
    let baseline =
        baseline.unwrap_or_else(|error| panic!("{} cannot be read ({error}): make it with {HOW}", path.display()));
    assert!(
        baseline == current,
        "proto/ has grown since {} was written, which breaks nothing. Commit the new baseline, so that what was added is \
         kept from now on: {HOW}",
        path.display()
    );
}

/// A change of the schema, made on purpose.
type Change = fn(&mut FileDescriptorSet);

fn file<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut FileDescriptorProto {
    set.file.iter_mut().find(|file| file.name().ends_with(name)).unwrap()
}

fn message<'a>(set: &'a mut FileDescriptorSet, file_name: &str, name: &str) -> &'a mut DescriptorProto {
    file(set, file_name).message_type.iter_mut().find(|message| message.name() == name).unwrap()
}

fn field<'a>(set: &'a mut FileDescriptorSet, file: &str, of: &str, name: &str) -> &'a mut FieldDescriptorProto {
    message(set, file, of).field.iter_mut().find(|field| field.name() == name).unwrap()
}

fn error_codes(set: &mut FileDescriptorSet) -> &mut EnumDescriptorProto {
    file(set, "common.proto").enum_type.iter_mut().find(|codes| codes.name() == "ErrorCode").unwrap()
}

#[test]
fn every_kind_of_breaking_change_is_named() {
    let cases: [(Change, &str); 15] = [
        (
            |set| message(set, "events.proto", "Send").field.retain(|field| field.name() != "text"),
            "field tidings.v1.Send.text (2) is gone",
        ),
        (|set| field(set, "events.proto", "Send", "text").number = Some(99), "field tidings.v1.Send.text (2) is gone"),
        (
            |set| field(set, "events.proto", "Send", "text").set_type(Type::Bytes),
            "field tidings.v1.Send.text (2) was of type TYPE_STRING, is of type TYPE_BYTES",
        ),
        (
            |set| field(set, "events.proto", "Send", "reply_to").type_name = Some(".tidings.v1.Origin".to_owned()),
            "field tidings.v1.Send.reply_to (5) was of type .tidings.v1.Id, is of type .tidings.v1.Origin",
        ),
        (
            |set| field(set, "events.proto", "Send", "text").set_label(Label::Repeated),
            "field tidings.v1.Send.text (2) was LABEL_OPTIONAL, is LABEL_REPEATED",
        ),
        (
            |set| field(set, "events.proto", "Event", "send").oneof_index = None,
            "field tidings.v1.Event.send (10) was in oneof body, is in none",
        ),
        (
            |set| field(set, "events.proto", "Event", "origin").oneof_index = Some(0),
            "field tidings.v1.Event.origin (4) was in no oneof, is in oneof body",
        ),
        (
            |set| field(set, "client.proto", "Send", "reply_to").proto3_optional = None,
            "field tidings.client.v1.Send.reply_to (6) no longer tells unset from empty",
        ),
        (
            |set| field(set, "client.proto", "Send", "text").name = Some("body".to_owned()),
            "field tidings.client.v1.Send.text (3) is now named body, which clients' JSON does not know",
        ),
        (
            |set| {
                let hello = field(set, "client.proto", "Hello", "token");
                hello.json_name = Some("jwt".to_owned());
            },
            "field tidings.client.v1.Hello.token (1) is now named jwt in JSON",
        ),
        (
            |set| file(set, "events.proto").message_type.retain(|message| message.name() != "Attachment"),
            "message tidings.v1.Attachment is gone",
        ),
        (
            |set| file(set, "common.proto").enum_type.retain(|codes| codes.name() != "Role"),
            "enum tidings.v1.Role is gone",
        ),
        (
            |set| error_codes(set).value.retain(|value| value.number() != 7),
            "value tidings.v1.ErrorCode 7 (ERROR_CODE_CONVERSATION_FULL) is gone",
        ),
        (
            |set| {
                let kinds = message(set, "client.proto", "MessageKind");
                kinds.enum_type[0].value[1].name = Some("words".to_owned());
            },
            "value tidings.client.v1.MessageKind.Value 1 (text) is now named words",
        ),
        (|set| file(set, "events.proto").package = Some("tidings.v2".to_owned()), "message tidings.v1.Event is gone"),
    ];
    for (change, expected) in cases {
        let mut changed = current();
        change(&mut changed);
        let found = breaking_changes(&current(), &changed);
        assert!(found.iter().any(|text| text.starts_with(expected)), "{expected}\nis not among {found:#?}");
    }
}

#[test]
fn what_only_adds_breaks_nothing() {
    let mut grown = current();
    message(&mut grown, "events.proto", "Send").field.push(FieldDescriptorProto {
        name: Some("added".to_owned()),
        number: Some(100),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::String.into()),
        ..Default::default()
    });
    let mut value = error_codes(&mut grown).value[0].clone();
    (value.name, value.number) = (Some("ERROR_CODE_ADDED".to_owned()), Some(100));
    error_codes(&mut grown).value.push(value);
    let added = DescriptorProto { name: Some("Added".to_owned()), ..Default::default() };
    file(&mut grown, "events.proto").message_type.push(added);
    // On the wire and in logs a name is nothing.
    field(&mut grown, "events.proto", "Send", "text").name = Some("words".to_owned());
    assert_eq!(breaking_changes(&current(), &grown), Vec::<String>::new());
}
