//! Compiles `proto/` with protox (no protoc to install) to prost types, and the client contract also to protobuf's
//! JSON mapping.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 11] = [
    "tidings/v1/common.proto",
    "tidings/v1/events.proto",
    "tidings/v1/timeline.proto",
    "tidings/v1/fanout.proto",
    "tidings/v1/signals.proto",
    "tidings/v1/deliveries.proto",
    "tidings/v1/directory.proto",
    "tidings/v1/leases.proto",
    "tidings/v1/views.proto",
    "tidings/v1/checkpoints.proto",
    "tidings/v1/client.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, ["proto"])?;
    let encoded = descriptors.encode_to_vec();
    fs::write(out_dir.join("descriptors.binpb"), &encoded)?;

    let mut config = prost_build::Config::new();
    config.bytes(["."]).extern_path(".google.protobuf.Timestamp", "crate::time::Timestamp").compile_fds(descriptors)?;

    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .extern_path(".google.protobuf.Timestamp", "crate::time::Timestamp")
        .preserve_proto_field_names()
        .emit_fields()
        .ignore_unknown_fields()
        .build(&[".tidings.client.v1"])?;
    Ok(())
}
