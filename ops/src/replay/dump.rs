//! `tidings replay dump`: records of the log, written out.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

use serde::Serialize;
use tidings_ingest::{Log, StoredRecord};
use tidings_replay::{
    Concern, Scan, Selection, Span,
    raw::{Header, RawWriter},
    tail::Tail,
};
use tidings_schemas::{
    clock::{Clock, SystemClock},
    ids::{ConversationId, UserId},
    topics::Topic,
};

use super::{
    exit::{Code, Failure, Outcome, WithCode},
    output::{Form, Lines, Sink, Table},
    parquet::Parquet,
    progress,
    ranges::{RangeArgs, topics},
    source::SourceArgs,
};

/// What to dump, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct DumpArgs {
    /// Topics, with or without their version (events, timeline, inbox …), or all.
    #[arg(value_name = "TOPIC", required = true)]
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
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// At most this many records.
    #[arg(short = 'n', long, value_name = "N")]
    pub max: Option<u64>,
    /// Go on with what is appended from now on, until interrupted (or --max).
    #[arg(long)]
    pub follow: bool,
    /// The form.
    #[arg(long, value_enum, default_value_t)]
    pub output: Form,
    /// Write to this file, which must not exist, instead of standard output.
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
    let concern = Concern { key: args.key.clone(), conversation: args.conversation, user: args.user };
    let source = args.source.open()?;
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
    let to_file = args.file.is_some();
    let has_all = concern.is_any() && args.max.is_none() && args.range.from.is_none() && args.range.to.is_none();
    let header = Header::new(&*source.log, &spans, SystemClock::new().now_ms(), has_all);
    let mut dumping =
        Dumping { args, selection: &selection, concern: &concern, sink: sink(args, header)?, report: &mut report };
    let dumped = dumping.all(&*source.log, &spans);
    let sink = dumping.sink;
    match dumped.and_then(|()| sink.finish().code(Code::Target)) {
        Err(Failure { error, .. }) if is_closed_pipe(&error) => Ok(()),
        Err(failure) => Err(failure),
        Ok(()) if to_file => show(&report, args.json),
        Ok(()) => Ok(()),
    }
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

fn sink(args: &DumpArgs, header: Header) -> Result<Box<dyn Sink>, Failure> {
    let out: Box<dyn Write + Send> = match &args.file {
        Some(path) => {
            let file = File::create_new(path).map_err(anyhow::Error::from);
            let file = file.map_err(|error| error.context(format!("cannot create {}", path.display())));
            Box::new(BufWriter::new(file.code(Code::Target)?))
        }
        None => Box::new(BufWriter::new(io::stdout())),
    };
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
            self.sink.flush().code(Code::Target)?;
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
        self.sink.write(topic, partition, record).code(Code::Target)?;
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

#[allow(clippy::print_stdout, reason = "the program's output")]
fn show(report: &Report, json: bool) -> Outcome {
    if json {
        println!("{}", serde_json::to_string_pretty(report).code(Code::Target)?);
        return Ok(());
    }
    println!("log {} in {}", report.log_id, report.source);
    println!("{:16} {:>3} {:>12} {:>12} {:>12}   kept", "topic", "p", "from", "to", "records");
    // Those that hold nothing say nothing.
    for range in report.ranges.iter().filter(|range| range.kept_end > 0) {
        let RangeReport { topic, partition, start, end, kept_start, kept_end } = range;
        println!("{topic:16} {partition:>3} {start:>12} {end:>12} {:>12}   {kept_start}..{kept_end}", end - start);
    }
    let about = if report.bytes_are_estimated { "about " } else { "" };
    println!("{} records, {about}{} bytes of keys and values", report.records, report.bytes);
    Ok(())
}
