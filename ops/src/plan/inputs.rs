//! What a plan is asked for: the service's size and its users' habits, within bounds that are told.

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use tidings_schemas::limits;

/// A service of which a plan is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// 50 million daily users.
    #[value(name = "50m")]
    Users50M,
    /// 100 million daily users.
    #[value(name = "100m")]
    Users100M,
    /// 500 million daily users.
    #[value(name = "500m")]
    Users500M,
}

impl Preset {
    /// The three, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Users50M, Self::Users100M, Self::Users500M];

    /// Users of a day.
    pub fn dau(self) -> f64 {
        match self {
            Self::Users50M => 50e6,
            Self::Users100M => 100e6,
            Self::Users500M => 500e6,
        }
    }

    /// The heading of its column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users50M => "50 M",
            Self::Users100M => "100 M",
            Self::Users500M => "500 M",
        }
    }
}

/// The service and its users' habits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, clap::Args)]
pub struct Inputs {
    /// Users of a day (without it: of the preset, or of all three).
    #[arg(long, value_name = "USERS", default_value_t = 50e6, hide_default_value = true)]
    pub dau: f64,
    /// Messages that one of them sends in a day.
    #[arg(long, value_name = "N", default_value_t = 40.0)]
    pub messages_per_user_day: f64,
    /// The share of messages that go to groups, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    pub group_share: f64,
    /// Members of the group that a message goes to, its sender included.
    #[arg(long, value_name = "MEMBERS", default_value_t = 20.0)]
    pub group_size: f64,
    /// The busiest second of a day, by the mean.
    #[arg(long, value_name = "FACTOR", default_value_t = 3.0)]
    pub peak_factor: f64,
    /// The share of a day's users who are connected at the busiest time, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub online_share: f64,
    /// Text of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 100.0)]
    pub message_bytes: f64,
    /// Receipts that a recipient sends for a message: delivered and seen make two, unless one covers several messages.
    #[arg(long, value_name = "N", default_value_t = 1.5)]
    pub receipts_per_delivery: f64,
    /// Sessions that a user opens in a day.
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    pub sessions_per_user_day: f64,
    /// Conversations that a user is in.
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    pub conversations_per_user: f64,
    /// Days that events, timeline and inbox stay on the log.
    #[arg(long, value_name = "DAYS", default_value_t = 7.0)]
    pub retention_days: f64,
    /// Copies of the log.
    #[arg(long, value_name = "COPIES", default_value_t = 3.0)]
    pub replication: f64,
    /// The share of each machine's capacity that is left free, for failures and growth, 0 to 0.9.
    #[arg(long, value_name = "SHARE", default_value_t = 0.4)]
    pub headroom: f64,
}

impl Default for Inputs {
    fn default() -> Self {
        Self {
            dau: 50e6,
            messages_per_user_day: 40.0,
            group_share: 0.25,
            group_size: 20.0,
            peak_factor: 3.0,
            online_share: 0.2,
            message_bytes: 100.0,
            receipts_per_delivery: 1.5,
            sessions_per_user_day: 20.0,
            conversations_per_user: 20.0,
            retention_days: 7.0,
            replication: 3.0,
            headroom: 0.4,
        }
    }
}

impl Inputs {
    /// Refuses what makes no service.
    ///
    /// # Errors
    /// Names the option, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        let text_max = limits::MESSAGE_TEXT_BYTES_MAX as f64;
        let members_max = f64::from(limits::GROUP_MEMBERS_SETTING_MAX);
        let bounds = [
            ("--dau", self.dau, 1.0, 1e10, "users of a day"),
            ("--messages-per-user-day", self.messages_per_user_day, 0.0, 1e5, "messages"),
            ("--group-share", self.group_share, 0.0, 1.0, "a share such as 0.25"),
            ("--group-size", self.group_size, 2.0, members_max, "members, the sender included"),
            ("--peak-factor", self.peak_factor, 1.0, 1_000.0, "the peak is at least the mean"),
            ("--online-share", self.online_share, 0.0, 1.0, "a share such as 0.2"),
            ("--message-bytes", self.message_bytes, 0.0, text_max, "bytes of text"),
            ("--receipts-per-delivery", self.receipts_per_delivery, 0.0, 2.0, "delivered and seen make 2"),
            ("--sessions-per-user-day", self.sessions_per_user_day, 0.0, 1e5, "sessions"),
            ("--conversations-per-user", self.conversations_per_user, 0.0, 1e5, "conversations"),
            ("--retention-days", self.retention_days, 1.0, 36_500.0, "days"),
            ("--replication", self.replication, 1.0, 9.0, "copies, 3 in production"),
            ("--headroom", self.headroom, 0.0, 0.9, "a share such as 0.4"),
        ];
        for (option, value, least, most, hint) in bounds {
            if !(least..=most).contains(&value) {
                bail!("{option} is {value}, and must be from {least} to {most} ({hint})");
            }
        }
        if self.replication.fract() != 0.0 {
            bail!("--replication is {}, and must be a whole number (3 in production)", self.replication);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_service_is_refused_by_name_and_with_a_hint() {
        assert!(Inputs::default().check().is_ok());
        for (option, change) in [
            ("--dau", (|inputs| inputs.dau = 0.0) as fn(&mut Inputs)),
            ("--dau", |inputs| inputs.dau = f64::NAN),
            ("--group-share", |inputs| inputs.group_share = 1.1),
            ("--group-size", |inputs| inputs.group_size = 1.0),
            ("--group-size", |inputs| inputs.group_size = 1_001.0),
            ("--peak-factor", |inputs| inputs.peak_factor = 0.5),
            ("--online-share", |inputs| inputs.online_share = -0.1),
            ("--message-bytes", |inputs| inputs.message_bytes = 16_385.0),
            ("--receipts-per-delivery", |inputs| inputs.receipts_per_delivery = 3.0),
            ("--retention-days", |inputs| inputs.retention_days = f64::INFINITY),
            ("--replication", |inputs| inputs.replication = 2.5),
            ("--headroom", |inputs| inputs.headroom = 1.0),
        ] {
            let mut inputs = Inputs::default();
            change(&mut inputs);
            let refused = inputs.check().expect_err(option).to_string();
            assert!(refused.starts_with(option) && refused.contains('('), "{refused}");
        }
    }
}
