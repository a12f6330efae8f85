//! `tidings erase --drop-prefix PREFIX`: the topics of a log that another has taken the place of, and which still hold what was
//! erased from that, are deleted.

use tidings_ingest::{KafkaConfig, KafkaLog};

use super::{EraseArgs, ask};
use crate::{
    config::Settings,
    replay::exit::{Code, Failure, Outcome, WithCode},
};

/// Deletes them.
pub(super) fn run(settings: &Settings, prefix: &str, args: &EraseArgs) -> Outcome {
    let config = KafkaConfig { topic_prefix: prefix.to_owned(), ..settings.kafka.clone() };
    let refused = |what: String| Err(Failure::new(Code::Usage, what));
    if prefix == settings.kafka.topic_prefix {
        let what = format!("{prefix:?} is the prefix that the settings name as the log's");
        return refused(
            what + " (set kafka.topic_prefix to the one that is used now, in the same settings as the fleet's)",
        );
    }
    let topics = KafkaLog::topics(&config).code(Code::Source)?;
    if topics.is_empty() {
        return refused(format!("there are no topics of a log with the prefix {prefix:?} on {}", config.brokers));
    }
    if let Some((group, members)) = KafkaLog::members(&config).code(Code::Source)?.first() {
        let what = format!("{members} processes are in the group {group} of {prefix:?}: it is in use");
        return Err(Failure::new(Code::Target, what + " (stop them)"));
    }
    if !args.yes && !args.dry_run {
        ask(
            &format!("This deletes {} topics with the prefix {prefix:?} on {}.", topics.len(), config.brokers),
            prefix,
        )?;
    }
    let deleted = if args.dry_run { topics } else { KafkaLog::delete(&config).code(Code::Target)? };
    if args.json {
        let report = serde_json::json!({ "is_dry_run": args.dry_run, "topics": deleted });
        outln!("{}", serde_json::to_string_pretty(&report).code(Code::Target)?);
        return Ok(());
    }
    for topic in &deleted {
        outln!("{} {topic}", if args.dry_run { "would be deleted:" } else { "deleted:" });
    }
    if !args.dry_run {
        outln!("brokers remove the files of deleted topics a minute later (file.delete.delay.ms)");
    }
    Ok(())
}
