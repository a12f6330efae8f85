//! ClickHouse's RowBinary format: rows one after another, values in column order, no names, no separators.
//!
//! Reference: <https://clickhouse.com/docs/interfaces/formats/RowBinary>. Integers are little-endian; a String is its
//! length as LEB128 and its bytes, whatever they are; a UUID is two 64-bit halves, high one first; `DateTime64(3)` is
//! milliseconds; a Nullable is a byte that is 1 for NULL; an Array is its length as LEB128 and its elements;
//! `LowCardinality(String)` is a String.

/// Rows in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowBinaryWriter {
    bytes: Vec<u8>,
}

impl RowBinaryWriter {
    /// `UInt32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// `UInt64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// `Bool`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(&[u8::from(value)])
    }

    /// `DateTime64(3)`: milliseconds since the Unix epoch.
    pub fn time_ms(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// `UUID`.
    pub fn uuid(&mut self, value: u128) -> &mut Self {
        let [high, low] = halves(value);
        self.u64(high).u64(low)
    }

    /// `Nullable(UUID)`.
    pub fn uuid_or_null(&mut self, value: Option<u128>) -> &mut Self {
        match value {
            None => self.raw(&[1]),
            Some(value) => self.raw(&[0]).uuid(value),
        }
    }

    /// `String`: any bytes.
    pub fn string(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.length(value.len()).raw(value)
    }

    /// The length that an Array's elements follow.
    pub fn length(&mut self, length: usize) -> &mut Self {
        let mut rest = length as u64;
        while rest >= 0x80 {
            self.bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
        self
    }

    /// The rows of another writer, after these.
    pub fn append(&mut self, other: &Self) {
        self.raw(&other.bytes);
    }

    /// The bytes of the rows so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the rows.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}

/// Bytes that end where a value was due, or hold one that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the archive returned rows that cannot be read: {0}")]
pub struct RowBinaryError(&'static str);

/// Rows that were read.
#[derive(Debug, Clone)]
pub struct RowBinaryReader<'bytes> {
    rest: &'bytes [u8],
}

impl<'bytes> RowBinaryReader<'bytes> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'bytes [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'bytes [u8] {
        self.rest
    }

    /// `Bool`.
    pub fn bool(&mut self) -> Result<bool, RowBinaryError> {
        self.fixed::<1>().map(|[byte]| byte != 0)
    }

    /// `UInt32`.
    pub fn u32(&mut self) -> Result<u32, RowBinaryError> {
        self.fixed().map(u32::from_le_bytes)
    }

    /// `UInt64`.
    pub fn u64(&mut self) -> Result<u64, RowBinaryError> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// `DateTime64(3)`: milliseconds since the Unix epoch.
    pub fn time_ms(&mut self) -> Result<i64, RowBinaryError> {
        self.fixed().map(i64::from_le_bytes)
    }

    /// `UUID`.
    pub fn uuid(&mut self) -> Result<u128, RowBinaryError> {
        let (high, low) = (self.u64()?, self.u64()?);
        Ok((u128::from(high) << 64) | u128::from(low))
    }

    /// `Nullable(UUID)`.
    pub fn uuid_or_null(&mut self) -> Result<Option<u128>, RowBinaryError> {
        match self.fixed::<1>()? {
            [0] => self.uuid().map(Some),
            [_] => Ok(None),
        }
    }

    /// `String`: any bytes.
    pub fn bytes(&mut self) -> Result<&'bytes [u8], RowBinaryError> {
        let length = self.length()?;
        let (value, rest) = self.rest.split_at_checked(length).ok_or(RowBinaryError("a string is cut"))?;
        self.rest = rest;
        Ok(value)
    }

    /// `String` that is text.
    pub fn text(&mut self) -> Result<&'bytes str, RowBinaryError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| RowBinaryError("a text is not UTF-8"))
    }

    /// The length that an Array's elements follow. Not more than the bytes that are left, so it is safe to reserve.
    pub fn length(&mut self) -> Result<usize, RowBinaryError> {
        let mut length = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= self.rest.len())
                    .ok_or(RowBinaryError("a length is beyond the end"));
            }
        }
        Err(RowBinaryError("a length has too many bytes"))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], RowBinaryError> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(RowBinaryError("they are cut"))?;
        self.rest = rest;
        Ok(*value)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
fn halves(value: u128) -> [u64; 2] {
    [(value >> 64) as u64, value as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back() -> Result<(), RowBinaryError> {
        let all_bytes: Vec<u8> = (0..=255).collect();
        let long = vec![b'x'; 20_000];
        let mut writer = RowBinaryWriter::default();
        writer.u32(u32::MAX).u64(1 << 63).time_ms(-1).uuid(u128::MAX - 5).uuid_or_null(None).uuid_or_null(Some(7));
        writer.string("").string(&all_bytes).string(&long).length(3).u32(1).u32(2).u32(3);
        let bytes = writer.into_bytes();

        let mut reader = RowBinaryReader::new(&bytes);
        assert_eq!((reader.u32()?, reader.u64()?, reader.time_ms()?), (u32::MAX, 1 << 63, -1));
        assert_eq!((reader.uuid()?, reader.uuid_or_null()?, reader.uuid_or_null()?), (u128::MAX - 5, None, Some(7)));
        assert_eq!((reader.bytes()?, reader.bytes()?, reader.bytes()?), (&b""[..], &all_bytes[..], &long[..]));
        assert_eq!((reader.length()?, reader.u32()?, reader.u32()?, reader.u32()?), (3, 1, 2, 3));
        assert!(reader.is_empty());
        Ok(())
    }

    #[test]
    fn cut_or_wild_bytes_are_an_error() {
        let mut writer = RowBinaryWriter::default();
        writer.string("some text").uuid(1);
        let bytes = writer.into_bytes();
        for cut in 0..bytes.len() {
            let mut reader = RowBinaryReader::new(&bytes[..cut]);
            assert!(reader.bytes().and_then(|_| reader.uuid()).is_err(), "cut at {cut}");
        }
        assert!(RowBinaryReader::new(&[0xff; 16]).length().is_err());
        assert!(RowBinaryReader::new(&[0xff, 0xff, 0x03]).bytes().is_err());
        assert!(RowBinaryReader::new(&[1, 0xff]).text().is_err());
    }
}
