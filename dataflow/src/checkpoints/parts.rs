//! A part's form: rows one after the other, each the length of its key (varint), the length of its value plus one
//! (varint; zero: the row is deleted), the key, the value. Its checksum is in the manifest.

use bytes::{BufMut, Bytes};
use hashbrown::HashMap;
use prost::encoding::{decode_varint, encode_varint};
use tidings_schemas::limits;

use crate::shard::StateSink;

/// Writes rows into parts of bounded size.
#[derive(Debug, Default)]
pub struct PartWriter {
    full: Vec<Bytes>,
    current: Vec<u8>,
}

impl PartWriter {
    /// The parts, in order.
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.current.is_empty() {
            self.full.push(self.current.into());
        }
        self.full
    }

    fn row(&mut self, key: &[u8], value: Option<&[u8]>) {
        if self.current.len() > limits::CHECKPOINT_PART_BYTES_MAX {
            self.full.push(std::mem::take(&mut self.current).into());
        }
        encode_varint(key.len() as u64, &mut self.current);
        encode_varint(value.map_or(0, |value| value.len() as u64 + 1), &mut self.current);
        self.current.put_slice(key);
        self.current.put_slice(value.unwrap_or_default());
    }
}

impl StateSink for PartWriter {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.row(key, Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.row(key, None);
    }
}

/// Lays a part's rows over those before it; `None` when it cannot be read.
pub(super) fn lay_over(rows: &mut HashMap<Bytes, Bytes>, part: &Bytes) -> Option<()> {
    let mut rest = &part[..];
    while !rest.is_empty() {
        let key_length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let value_length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?.checked_sub(1);
        let key = part.slice_ref(rest.split_off(..key_length)?);
        match value_length {
            Some(length) => {
                rows.insert(key, part.slice_ref(rest.split_off(..length)?));
            }
            None => {
                rows.remove(&key);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_rows_take_the_place_of_earlier_ones() {
        let mut writer = PartWriter::default();
        writer.put(b"a", b"1");
        writer.put(b"b", b"");
        writer.put(b"c", b"3");
        writer.delete(b"a");
        writer.put(b"c", b"4");
        let mut rows = HashMap::new();
        for part in writer.finish() {
            lay_over(&mut rows, &part).unwrap();
        }
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[&b"b"[..]][..], &rows[&b"c"[..]][..]), (&b""[..], &b"4"[..]));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut writer = PartWriter::default();
        writer.put(b"key", b"value");
        let part = writer.finish().remove(0);
        for length in 1..part.len() {
            assert_eq!(lay_over(&mut HashMap::new(), &part.slice(..length)), None, "cut at {length}");
        }
        assert_eq!(lay_over(&mut HashMap::new(), &Bytes::from_static(&[0xff; 30])), None);
    }
}
