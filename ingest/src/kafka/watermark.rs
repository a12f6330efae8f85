//! The one thing that `rdkafka` has no safe call for: the end of a partition as the last fetch told it.

use rdkafka::bindings;
use rdkafka::consumer::Consumer as _;
use std::ffi::CString;

use super::fetcher::Consumer;

/// What the broker said of the partition's end in its last answer to a fetch. Asks nobody. `None`: no answer yet.
#[allow(unsafe_code, reason = "one call into librdkafka, which `rdkafka` does not wrap")]
pub(crate) fn cached_end(consumer: &Consumer, topic: &str, partition: i32) -> Option<u64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as `consumer`, the name is terminated, and both places are written or left alone.
    let result = unsafe {
        bindings::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    if result != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    u64::try_from(high).ok()
}
