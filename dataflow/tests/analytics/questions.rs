//! The twenty questions of docs/ANALYTICS.md, answered by plain code over the generated history.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{DAY_MS, History, Message, START_MS, conversation, user};

/// The values for the questions' parameters, and what they stand for.
pub(crate) struct Asked {
    pub(crate) conversation: usize,
    pub(crate) user: usize,
    pub(crate) day: i64,
    pub(crate) moment: i64,
    pub(crate) seq: u64,
    pub(crate) word: &'static str,
}

impl Asked {
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("conversation", conversation(self.conversation).to_string()),
            ("user", user(self.user).to_string()),
            ("day", date(self.day)),
            ("since", date(self.day)),
            ("until", date(self.day + 7)),
            ("moment", time(self.moment)),
            ("seq", self.seq.to_string()),
            ("word", self.word.to_owned()),
        ]
    }
}

/// The day, as SQL prints it: the history begins on the first of January and ends in February.
pub(crate) fn date(day: i64) -> String {
    if day < 31 { format!("2090-01-{:02}", day + 1) } else { format!("2090-02-{:02}", day - 30) }
}

/// The time, as SQL prints it.
pub(crate) fn time(at: i64) -> String {
    let ms = (at - START_MS) % DAY_MS;
    let (seconds, ms) = (ms / 1000, ms % 1000);
    format!("{} {:02}:{:02}:{:02}.{ms:03}", date(day_of(at)), seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn day_of(at: i64) -> i64 {
    (at - START_MS) / DAY_MS
}

/// `quantileExact`: the element at that share of the sorted values.
fn quantile(values: &mut [i64], percent: usize) -> i64 {
    values.sort_unstable();
    values[values.len() * percent / 100]
}

fn or_null(at: Option<i64>) -> String {
    at.map_or_else(|| "\\N".to_owned(), time)
}

fn id(conversation_: usize) -> String {
    conversation(conversation_).to_string()
}

/// UUIDs sort in ClickHouse by their halves as numbers, which is how their text sorts.
fn by_count(counts: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(name, count), (other, than)| than.cmp(count).then(name.cmp(other)));
    counts
}

fn lines<T, const N: usize>(rows: impl IntoIterator<Item = T>, line: impl Fn(T) -> [String; N]) -> Vec<String> {
    rows.into_iter().map(|row| line(row).join("\t")).collect()
}

/// The answer to the question of this number, a line for each row.
pub(crate) fn answer(number: usize, history: &History, asked: &Asked) -> Vec<String> {
    let messages = &history.messages;
    let statuses = || messages.iter().flat_map(|message| message.recipients.iter().map(move |to| (message, to)));
    let count = |mut keys: Vec<String>| {
        let mut counts = BTreeMap::<String, u64>::new();
        keys.drain(..).for_each(|key| *counts.entry(key).or_default() += 1);
        counts
    };
    let of_messages = |key: &dyn Fn(&Message) -> String| count(messages.iter().map(key).collect());
    let pair = |(key, count): (String, u64)| [key, count.to_string()];
    match number {
        1 => lines(of_messages(&|message| date(day_of(message.at))), pair),
        2 => lines(["media", "text"], |kind| {
            let of_kind: Vec<_> = messages.iter().filter(|message| message.kind == kind).collect();
            let edited = of_kind.iter().filter(|message| message.edited_at.is_some()).count();
            let deleted = of_kind.iter().filter(|message| message.deleted_at.is_some()).count();
            [kind.to_owned(), of_kind.len().to_string(), edited.to_string(), deleted.to_string()]
        }),
        3 => {
            let of = |number: usize| {
                let said = messages.iter().filter(|message| message.conversation == number).count() as u64;
                let members = current(history, number).len();
                (id(number), (said, history.conversations[number].title.clone(), members))
            };
            let mut all: Vec<_> = (0..history.conversations.len()).map(of).collect();
            all.sort_by(|(name, (said, ..)), (other, (than, ..))| than.cmp(said).then(name.cmp(other)));
            lines(all.into_iter().take(5), |(name, (said, title, members))| {
                [name, title, members.to_string(), said.to_string()]
            })
        }
        4 => {
            let mut days = BTreeMap::<i64, [BTreeSet<usize>; 4]>::new();
            for (at, who, what) in &history.acts {
                let sets = days.entry(day_of(*at)).or_default();
                sets[0].insert(*who);
                let kind = ["", "sent", "read", "opened"].iter().position(|kind| kind == what).unwrap();
                sets[kind].insert(*who);
            }
            let line = |(day, sets): (i64, [BTreeSet<usize>; 4])| {
                let [all, sent, read, opened] = sets.map(|set| set.len().to_string());
                [date(day), all, sent, read, opened]
            };
            lines(days, line)
        }
        5 => {
            let in_week = messages.iter().filter(|message| (asked.day..asked.day + 7).contains(&day_of(message.at)));
            let counts = by_count(count(in_week.map(|message| user(message.sender).to_string()).collect()));
            lines(counts.into_iter().take(3), pair)
        }
        6 => {
            let members = current(history, asked.conversation).into_iter();
            sorted(members.map(|(who, role)| [user(who).to_string(), role.to_owned()].join("\t")))
        }
        7 => {
            let held = history.roles.iter().filter(|held| {
                held.conversation == asked.conversation
                    && held.since <= asked.moment
                    && held.until.is_none_or(|until| until > asked.moment)
            });
            sorted(held.map(|held| [user(held.user).to_string(), held.role.to_owned()].join("\t")))
        }
        8 => {
            let groups = (0..history.conversations.len()).filter(|number| history.conversations[*number].is_group);
            let mut sizes = BTreeMap::<usize, u64>::new();
            groups.for_each(|number| *sizes.entry(current(history, number).len()).or_default() += 1);
            lines(sizes, |(size, groups)| [size.to_string(), groups.to_string()])
        }
        9 => {
            let of = |day: i64| -> BTreeSet<usize> {
                messages.iter().filter(|message| day_of(message.at) == day).map(|message| message.sender).collect()
            };
            vec![of(asked.day).intersection(&of(asked.day + 1)).count().to_string()]
        }
        10 => {
            let said = messages.iter().rev().filter(|message| message.conversation == asked.conversation).take(10);
            lines(said, |message| {
                [message.seq.to_string(), user(message.sender).to_string(), time(message.at), message.text.clone()]
            })
        }
        11 => {
            let word = asked.word.to_lowercase();
            let with = messages.iter().filter(|message| message.text.to_lowercase().contains(&word));
            lines(by_count(count(with.map(|message| id(message.conversation)).collect())), pair)
        }
        12 => {
            let of = statuses()
                .filter(|(message, _)| (message.conversation, message.seq) == (asked.conversation, asked.seq));
            sorted(
                of.map(|(_, to)| [user(to.user).to_string(), or_null(to.delivered_at), or_null(to.seen_at)].join("\t")),
            )
        }
        13 => {
            let unseen = statuses().filter(|(_, to)| to.user == asked.user && to.seen_at.is_none());
            lines(count(unseen.map(|(message, _)| id(message.conversation)).collect()), pair)
        }
        14 => {
            let mut days = BTreeMap::<i64, Vec<i64>>::new();
            for (message, to) in statuses() {
                if let Some(at) = to.delivered_at {
                    days.entry(day_of(message.at)).or_default().push(at - message.at);
                }
            }
            lines(days, |(day, mut took)| {
                let [half, most] = [50, 95].map(|percent| quantile(&mut took, percent).to_string());
                [date(day), took.len().to_string(), half, most]
            })
        }
        15 => {
            let within = statuses().filter(|(message, to)| to.seen_at.is_some_and(|at| at <= message.at + 3_600_000));
            vec![format!("{}\t{}", statuses().count(), within.count())]
        }
        16 => {
            let mut hours = BTreeMap::<i64, u64>::new();
            messages.iter().for_each(|message| *hours.entry((message.at % DAY_MS) / 3_600_000).or_default() += 1);
            lines(hours, |(hour, said)| [hour.to_string(), said.to_string()])
        }
        17 => {
            let mut ends = BTreeMap::<&str, Vec<i64>>::new();
            for session in &history.sessions {
                if let Some(closed) = session.closed {
                    // dateDiff counts the seconds' boundaries.
                    let took = closed.div_euclid(1000) - session.opened.div_euclid(1000);
                    ends.entry(session.by).or_default().push(took);
                }
            }
            lines(ends, |(by, mut took)| [by.to_owned(), took.len().to_string(), quantile(&mut took, 50).to_string()])
        }
        18 => {
            let open = history.sessions.iter().filter(|session| {
                session.opened <= asked.moment && session.closed.is_none_or(|closed| closed > asked.moment)
            });
            vec![open.map(|session| session.user).collect::<BTreeSet<_>>().len().to_string()]
        }
        19 => {
            let answers = messages.iter().filter_map(|message| Some(message.at - messages[message.reply_to?].at));
            let mut took: Vec<i64> = answers.collect();
            vec![format!("{}\t{}", took.len(), quantile(&mut took, 50))]
        }
        20 => {
            let said = messages.iter().filter(|message| day_of(message.at) == asked.day);
            let said = count(said.map(|message| id(message.conversation)).collect());
            let told = history.updates.iter().filter(|(at, _)| day_of(*at) == asked.day);
            let told = count(told.map(|(_, who)| user(*who).to_string()).collect());
            let mut rows = lines(said, |(who, count)| ["said".to_owned(), who, count.to_string()]);
            rows.extend(lines(told, |(who, count)| ["told".to_owned(), who, count.to_string()]));
            rows
        }
        _ => panic!("question {number} has no answer by plain code"),
    }
}

fn current(history: &History, number: usize) -> Vec<(usize, &'static str)> {
    let held = history.roles.iter().filter(|held| held.conversation == number && held.until.is_none());
    held.map(|held| (held.user, held.role)).collect()
}

fn sorted(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}
