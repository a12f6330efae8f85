//! The manifest's form: four bytes of magic, the CRC-32C of the rest in four bytes (little-endian), then the
//! `CheckpointManifest` of `checkpoints.proto`.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tidings_schemas::wire::CheckpointManifest;

use super::{CheckpointError, SCHEMA_VERSION};

const MAGIC: &[u8; 4] = b"TDCM";

pub(super) fn encode(manifest: &CheckpointManifest) -> Bytes {
    let body = manifest.encode_to_vec();
    let mut bytes = Vec::with_capacity(body.len() + 8);
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(crc32c::crc32c(&body));
    bytes.put_slice(&body);
    bytes.into()
}

pub(super) fn decode(name: &str, mut bytes: Bytes) -> Result<CheckpointManifest, CheckpointError> {
    let damaged = |what| CheckpointError::Damaged { name: name.to_owned(), what };
    if bytes.len() < 8 || &bytes[..4] != MAGIC {
        return Err(damaged("it does not begin as a manifest does"));
    }
    bytes.advance(4);
    let checksum = bytes.get_u32_le();
    if crc32c::crc32c(&bytes) != checksum {
        return Err(damaged("the checksum does not match"));
    }
    let manifest = CheckpointManifest::decode(bytes).map_err(|_| damaged("it is not a manifest"))?;
    if manifest.schema_version > SCHEMA_VERSION {
        return Err(CheckpointError::NewerSchema { name: name.to_owned(), found: manifest.schema_version });
    }
    Ok(manifest)
}
