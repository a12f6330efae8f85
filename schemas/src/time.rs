//! The contract's timestamps: `google.protobuf.Timestamp`, in JSON as RFC 3339 in UTC with milliseconds.

use std::fmt;

/// A moment, as protobuf's well-known type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Timestamp {
    /// Whole seconds since the Unix epoch, rounded down.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[allow(clippy::cast_possible_truncation, reason = "below 1,000,000,000")]
    pub fn from_millis(millis: i64) -> Self {
        Self { seconds: millis.div_euclid(1000), nanos: (millis.rem_euclid(1000) * 1_000_000) as i32 }
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(&self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from(self.nanos / 1_000_000))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.millis()) {
            Ok(moment) => write!(formatter, "{moment:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_rfc_3339_in_utc_with_milliseconds() {
        let moment = Timestamp::from_millis(1_767_225_600_007);
        assert_eq!(serde_json::to_string(&moment).unwrap(), "\"2026-01-01T00:00:00.007Z\"");
        let back: Timestamp = serde_json::from_str("\"2026-01-01T01:00:00.007+01:00\"").unwrap();
        assert_eq!(back, moment);
        assert_eq!(back.millis(), 1_767_225_600_007);
        assert_eq!(Timestamp::from_millis(-1).millis(), -1);
    }
}
