//! `tidings replay dump`: records of the log, written out.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::Context;
use serde::Serialize;
use tidings_ingest::{Log, StoredRecord};
use tidings_replay::{
    Concern, Scan, Selection, Span,
    raw::{Header, RawWriter},
    tail::Tail,
};
use tidings_schemas::{
    clock::{Clock, SystemClock},
    ids::ConversationId,
    topics::Topic,
};

use super::{
    draft::Draft,
    exit::{Code, Failure, Outcome, WithCode},
    output::{Form, Lines, Sink, Table},
    parquet::Parquet,
    people, progress,
    ranges::{RangeArgs, topics},
    source::SourceArgs,
    table::{self, Columns},
};

/// What to dump, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct DumpArgs {
    /// Topics, with or without their version (events, timeline, inbox …), or all.
    #[arg(value_name = "TOPIC", required = true, value_delimiter = ',')]
    pub topics: Vec<String>,
    /// Which log.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which records of it.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Only records with this key: a UUID, a user name, or 0x and hexadecimal digits.
    #[arg(long)]
    pub key: Option<String>,
    /// Only records that name this conversation.
    #[arg(long, value_name = "ID")]
    pub conversation: Option<ConversationId>,
    /// Only records that name this user: as an actor, a member, a recipient or otherwise.
    #[arg(long, value_name = "ID|NAME")]
    pub user: Option<String>,
    /// At most this many records.
    #[arg(short = 'n', long, value_name = "N")]
    pub max: Option<u64>,
    /// Go on with what is appended from now on, until interrupted (or --max).
    #[arg(long)]
    pub follow: bool,
    /// The form.
    #[arg(long, value_enum, default_value_t)]
    pub output: Form,
    /// Write to this file, which must not exist, instead of standard output. It is named FILE.part until it is whole.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only say what would be read: ranges, counts and about how many bytes.
    #[arg(long)]
    pub dry_run: bool,
    /// The report (of --dry-run, or of what was written to --file) as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was, or would be, dumped.
#[derive(Debug, Clone, Default, Serialize)]
struct Report {
    source: String,
    log_id: String,
    records: u64,
    bytes: u64,
    /// The bytes are reckoned from a part of the records.
    bytes_are_estimated: bool,
    ranges: Vec<RangeReport>,
}

#[derive(Debug, Clone, Serialize)]
struct RangeReport {
    topic: &'static str,
    partition: u32,
    start: u64,
    end: u64,
    kept_start: u64,
    kept_end: u64,
}

/// Dumps.
pub fn run(args: &DumpArgs) -> Outcome {
    let named = topics(&args.topics).code(Code::Usage)?;
    let selection = args.range.selection(named).code(Code::Usage)?;
    let source = args.source.open()?;
    let user = args.user.as_ref().map(|user| people::user(&*source.log, user, &|_| {})).transpose()?;
    let concern = Concern { key: args.key.clone(), conversation: args.conversation, user };
    let spans = selection.resolve(&*source.log)?;
    let mut report = Report {
        source: source.place.clone(),
        log_id: format!("{:032x}", source.log.log_id()),
        ranges: spans.iter().map(range_report).collect(),
        ..Report::default()
    };
    if args.dry_run {
        estimate(&*source.log, &spans, &mut report)?;
        return show(&report, args.json);
    }
    if matches!(args.output, Form::Raw | Form::Parquet) {
        refuse_binary(args)?;
    }
    let has_all = concern.is_any() && args.max.is_none() && args.range.from.is_none() && args.range.to.is_none();
    let header = Header::new(&*source.log, &spans, SystemClock::new().now_ms(), has_all);
    let (out, draft) = output(args)?;
    let sink = sink(args, out, header)?;
    let mut dumping = Dumping { args, selection: &selection, concern: &concern, sink, report: &mut report };
    let dumped = dumping.all(&*source.log, &spans);
    let sink = dumping.sink;
    match dumped.and_then(|()| written(sink.finish(), args)) {
        Err(Failure { error, .. }) if is_closed_pipe(&error) => Ok(()),
        Err(failure) => Err(failure),
        Ok(()) if args.file.is_some() => {
            draft.map_or(Ok(()), Draft::finish)?;
            show(&report, args.json)
        }
        Ok(()) if report.records == 0 && args.output == Form::Table => {
            let read: u64 = spans.iter().map(Span::records).sum();
            progress::say(&format!("note: none of the {read} records there is one of these"));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Says where a record could not be written to.
fn written(outcome: io::Result<()>, args: &DumpArgs) -> Outcome {
    let to = || args.file.as_ref().map_or_else(|| "standard output".to_owned(), |file| file.display().to_string());
    outcome.with_context(|| format!("cannot write to {}", to())).code(Code::Target)
}

/// Whoever read our output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A file of bytes has an end, and is nothing for a terminal.
fn refuse_binary(args: &DumpArgs) -> Outcome {
    let what = if args.output == Form::Raw { "a raw dump" } else { "a Parquet file" };
    if args.follow && args.max.is_none() {
        return Err(Failure::new(Code::Usage, format!("{what} needs an end (hint: --max with --follow)")));
    }
    if args.file.is_none() && io::stdout().is_terminal() {
        return Err(Failure::new(Code::Usage, format!("{what} is nothing for a terminal (hint: --file FILE)")));
    }
    Ok(())
}

/// Where records go.
fn output(args: &DumpArgs) -> Result<(Box<dyn Write + Send>, Option<Draft>), Failure> {
    let Some(path) = &args.file else { return Ok((Box::new(BufWriter::new(io::stdout())), None)) };
    if args.follow {
        // What is never whole is looked at meanwhile.
        let file = File::create_new(path).with_context(|| format!("cannot create {}", path.display()));
        return Ok((Box::new(BufWriter::new(file.code(Code::Target)?)), None));
    }
    let (draft, file) = Draft::create(path)?;
    Ok((Box::new(BufWriter::new(file)), Some(draft)))
}

fn sink(args: &DumpArgs, out: Box<dyn Write + Send>, header: Header) -> Result<Box<dyn Sink>, Failure> {
    Ok(match args.output {
        Form::Table => Box::new(Table::new(out)),
        Form::Jsonl => Box::new(Lines(out)),
        Form::Parquet => Box::new(Parquet::new(out).code(Code::Target)?),
        Form::Raw => Box::new(RawWriter::new(out, header).code(Code::Target)?),
    })
}

struct Dumping<'a> {
    args: &'a DumpArgs,
    selection: &'a Selection,
    concern: &'a Concern,
    sink: Box<dyn Sink>,
    report: &'a mut Report,
}

impl Dumping<'_> {
    fn all(&mut self, log: &dyn Log, spans: &[Span]) -> Outcome {
        let bar = progress::Shown(progress::bar("records", spans.iter().map(Span::records).sum()));
        for span in spans {
            for record in Scan::new(log, span.topic, span.partition, span.offsets.clone())? {
                if self.is_done() {
                    return Ok(());
                }
                self.take(span.topic, span.partition, &record?)?;
                bar.0.inc(1);
            }
        }
        drop(bar);
        if self.args.follow { self.follow(log, spans) } else { Ok(()) }
    }

    fn follow(&mut self, log: &dyn Log, spans: &[Span]) -> Outcome {
        let mut tail = Tail::new(log, spans)?;
        while !self.is_done() {
            written(self.sink.flush(), self.args)?;
            for (topic, partition, record) in tail.wait()? {
                if self.is_done() {
                    break;
                }
                self.take(topic, partition, &record)?;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.args.max.is_some_and(|max| self.report.records >= max)
    }

    fn take(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> Outcome {
        if !self.selection.has_time(record.timestamp_ms) || !self.concern.holds(topic, record) {
            return Ok(());
        }
        written(self.sink.write(topic, partition, record), self.args)?;
        self.report.records += 1;
        self.report.bytes += (record.key.len() + record.value.len()) as u64;
        Ok(())
    }
}

fn range_report(span: &Span) -> RangeReport {
    RangeReport {
        topic: span.topic.name(),
        partition: span.partition,
        start: span.offsets.start,
        end: span.offsets.end,
        kept_start: span.kept.start,
        kept_end: span.kept.end,
    }
}

/// Records of a range that are read to reckon with.
const SAMPLE_RECORDS: u64 = 1_000;

fn estimate(log: &dyn Log, spans: &[Span], report: &mut Report) -> Outcome {
    for span in spans {
        report.records += span.records();
        let sampled = span.records().min(SAMPLE_RECORDS);
        let mut bytes = 0;
        for record in Scan::new(log, span.topic, span.partition, span.offsets.start..span.offsets.start + sampled)? {
            let record = record?;
            bytes += (record.key.len() + record.value.len()) as u64;
        }
        report.bytes_are_estimated |= sampled < span.records();
        report.bytes += bytes.saturating_mul(span.records()).checked_div(sampled).unwrap_or(0);
    }
    Ok(())
}

fn show(report: &Report, json: bool) -> Outcome {
    if json {
        return table::print(&table::pretty(report)?);
    }
    let mut columns = Columns::new(["TOPIC", "P", "FROM", "TO", "RECORDS", "KEPT"]);
    // Those that hold nothing say nothing.
    for range in report.ranges.iter().filter(|range| range.kept_end > 0) {
        let RangeReport { topic, partition, start, end, kept_start, kept_end } = range;
        let [partition, start, end, records] =
            [u64::from(*partition), *start, *end, end - start].map(|n| n.to_string());
        columns.row([(*topic).to_owned(), partition, start, end, records, format!("{kept_start}..{kept_end}")]);
    }
    let about = if report.bytes_are_estimated { "about " } else { "" };
    let Report { source, log_id, records, bytes, .. } = report;
    table::print(&format!(
        "log {log_id} in {source}\n{columns}\n{records} records, {about}{bytes} bytes of keys and values"
    ))
}
