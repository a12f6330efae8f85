//! HTTP's own compression: gzip, which every client has, and LZ4 frames, which ClickHouse's clients ask for first.

use std::io::{self, Read, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use hyper::{
    HeaderMap,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING},
};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use tidings_schemas::limits;

use super::reply::Refusal;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Lz4,
    Gzip,
}

/// Below this a body is not worth it.
const BYTES_MIN: usize = 1024;

impl Encoding {
    /// Its name in headers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Lz4, Self::Gzip].into_iter().find(|encoding| encoding.name().eq_ignore_ascii_case(name))
    }

    /// What the client takes; of several what costs least.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let mut accepted: Vec<Self> = values
            .flat_map(|value| value.split(','))
            .filter_map(|item| {
                let (name, weight) = item.split_once(';').unwrap_or((item, ""));
                let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
                Self::named(name.trim()).filter(|_| weight.is_ok_and(|weight| weight > 0.0))
            })
            .collect();
        accepted.sort_by_key(|encoding| *encoding as u8);
        accepted.first().copied()
    }

    /// How a request's body is compressed.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
        match value.to_str().unwrap_or_default().trim() {
            "" | "identity" => Ok(None),
            name => Self::named(name).map(Some).ok_or_else(|| {
                Refusal::not_implemented("a body compressed in this way: use gzip or lz4, or no compression")
            }),
        }
    }

    /// A body without its compression, as large as any other may be.
    pub(super) fn decoded(self, body: &[u8]) -> Result<Bytes, Refusal> {
        let mut plain = Vec::new();
        let limit = limits::ARCHIVE_SQL_BODY_BYTES_MAX as u64 + 1;
        let read = match self {
            Self::Lz4 => FrameDecoder::new(body).take(limit).read_to_end(&mut plain),
            Self::Gzip => GzDecoder::new(body).take(limit).read_to_end(&mut plain),
        };
        match read {
            Ok(_) if plain.len() > limits::ARCHIVE_SQL_BODY_BYTES_MAX => Err(Refusal::too_large()),
            Ok(_) => Ok(plain.into()),
            Err(_) => Err(Refusal::bad_request("The body is not what its Content-Encoding says")),
        }
    }

    /// A body with this compression; `None` where that is not worth it.
    pub(super) fn encoded(self, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() < BYTES_MIN {
            return None;
        }
        let encode = || -> io::Result<Vec<u8>> {
            match self {
                Self::Lz4 => {
                    let mut encoder = FrameEncoder::new(Vec::new());
                    encoder.write_all(body)?;
                    encoder.finish().map_err(io::Error::from)
                }
                Self::Gzip => {
                    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                    encoder.write_all(body)?;
                    encoder.finish()
                }
            }
        };
        encode().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Option<Encoding> {
        Encoding::accepted(&[(ACCEPT_ENCODING, value.parse().unwrap())].into_iter().collect())
    }

    #[test]
    fn the_cheapest_that_is_taken_is_used() {
        assert_eq!(accepted("lz4, zstd, br, gzip"), Some(Encoding::Lz4));
        assert_eq!(accepted("gzip, deflate, br;q=0.5"), Some(Encoding::Gzip));
        assert_eq!(accepted("gzip;q=0, lz4;q=0.1"), Some(Encoding::Lz4));
        for none in ["", "br", "gzip;q=0", "identity", "gzip;q=x"] {
            assert_eq!(accepted(none), None, "{none}");
        }
    }

    #[test]
    fn bodies_come_back_and_grow_to_the_limit_only() {
        let body = "hello ".repeat(1000);
        for encoding in [Encoding::Lz4, Encoding::Gzip] {
            let packed = encoding.encoded(body.as_bytes()).unwrap();
            assert!(packed.len() < body.len() / 2);
            assert_eq!(encoding.decoded(&packed), Ok(Bytes::from(body.clone())));
            assert!(encoding.decoded(&packed[..packed.len() / 2]).is_err(), "{encoding:?}: cut");
            assert!(encoding.decoded(b"something else").is_err());
            let bomb = vec![0; limits::ARCHIVE_SQL_BODY_BYTES_MAX + 1];
            assert_eq!(encoding.decoded(&encoding.encoded(&bomb).unwrap()), Err(Refusal::too_large()));
            assert_eq!(encoding.encoded(b"short"), None);
        }
    }
}
