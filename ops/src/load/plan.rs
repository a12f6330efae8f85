//! Who is in which conversation, and who sends what when: a pure function of the arguments and the seed.

use std::time::Duration;

/// A conversation of the plan; users are indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedConversation {
    /// Members; the first one makes it.
    pub members: Vec<usize>,
    /// Whether it is a group.
    pub group: bool,
}

/// One message of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedMessage {
    /// The conversation's index.
    pub conversation: usize,
    /// The sending user's index.
    pub sender: usize,
}

/// The whole plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Direct chats first, then groups.
    pub conversations: Vec<PlannedConversation>,
    direct_count: usize,
    group_share: f64,
    rate: f64,
    seed: u64,
}

impl Plan {
    /// Users 2k and 2k+1 share a direct chat; groups take the users in turn.
    pub fn new(users: usize, groups: usize, group_size: usize, group_share: f64, rate: f64, seed: u64) -> Self {
        let mut conversations = Vec::new();
        if group_share < 1.0 {
            conversations.extend(
                (0..users / 2).map(|pair| PlannedConversation { members: vec![2 * pair, 2 * pair + 1], group: false }),
            );
        }
        let direct_count = conversations.len();
        if group_share > 0.0 {
            conversations.extend((0..groups).map(|group| PlannedConversation {
                members: (0..group_size).map(|member| (group * group_size + member) % users).collect(),
                group: true,
            }));
        }
        Self { conversations, direct_count, group_share, rate, seed }
    }

    /// The message at a place in the order.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share of 2^53")]
    pub fn message(&self, index: u64) -> PlannedMessage {
        let mut random = SplitMix(self.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let share = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let group_count = self.conversations.len() - self.direct_count;
        let conversation = if share < self.group_share || self.direct_count == 0 {
            self.direct_count + random.below(group_count)
        } else {
            random.below(self.direct_count)
        };
        let members = &self.conversations[conversation].members;
        PlannedMessage { conversation, sender: members[random.below(members.len())] }
    }

    /// When it is due, after the start.
    #[allow(clippy::cast_precision_loss, reason = "exact below 2^53 messages")]
    pub fn due(&self, index: u64) -> Duration {
        Duration::from_secs_f64(index as f64 / self.rate)
    }

    /// How many messages are due in a time.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the arguments")]
    pub fn count(&self, seconds: f64) -> u64 {
        (self.rate * seconds).ceil() as u64
    }
}

/// Steele, Lea and Flood's SplitMix64: enough randomness for a plan.
#[derive(Debug, Clone)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "not an iterator: it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    #[allow(clippy::cast_possible_truncation, reason = "below a usize")]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_members_and_the_mix_is_kept() {
        let plan = Plan::new(200, 3, 50, 0.25, 1000.0, 7);
        assert_eq!(plan.conversations.len(), 103);
        let messages: Vec<_> = (0..10_000).map(|index| plan.message(index)).collect();
        assert!(messages.iter().all(|m| plan.conversations[m.conversation].members.contains(&m.sender)));
        let to_groups = messages.iter().filter(|m| plan.conversations[m.conversation].group).count();
        assert!((2_200..2_800).contains(&to_groups), "{to_groups}");
        assert_eq!(plan.message(5), Plan::new(200, 3, 50, 0.25, 1000.0, 7).message(5));
        assert_eq!(plan.due(500), Duration::from_millis(500));
        assert_eq!(plan.count(2.5), 2_500);
    }

    #[test]
    fn groups_only() {
        let plan = Plan::new(100, 2, 50, 1.0, 10.0, 1);
        assert!(plan.conversations.iter().all(|conversation| conversation.group));
        assert!((0..100).all(|index| plan.message(index).conversation < 2));
    }
}
