//! `tidings replay derive`: what this program's stages make of a history, for another program to compare (`diff --with`).

use std::io::{self, BufWriter};

use tidings_replay::diff::{
    Derivation, DiffError,
    stream::{Header, VERSION, Writer},
};
use tidings_schemas::topics::Topic;

use super::{
    exit::{Code, Failure, Outcome, WithCode},
    source::SourceArgs,
};

/// What to derive, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct DeriveArgs {
    /// Which log, and the settings of the stages (dataflow.*).
    #[command(flatten)]
    pub source: SourceArgs,
    /// One past the last event of each partition of events, with commas. Left out: all that there is.
    #[arg(long, value_name = "OFFSET,…", value_delimiter = ',')]
    pub ends: Vec<u64>,
}

impl From<DiffError> for Failure {
    fn from(error: DiffError) -> Self {
        match error {
            DiffError::Select(error) => error.into(),
            DiffError::Stage(_) | DiffError::OutOfStep(_) => Self { code: Code::Found, error: error.into() },
            DiffError::NotKept { .. } | DiffError::Stream(_) => Self { code: Code::Usage, error: error.into() },
            DiffError::Gone => Self { code: Code::Source, error: error.into() },
        }
    }
}

/// Derives, onto standard output.
pub fn run(args: &DeriveArgs) -> Outcome {
    let source = args.source.open()?;
    let log = &*source.log;
    let count = log.partitions(Topic::Events);
    let mut ends = Vec::new();
    for partition in 0..count {
        ends.push(log.range(Topic::Events, partition)?.end);
    }
    if !args.ends.is_empty() {
        let is_there = args.ends.len() == ends.len() && args.ends.iter().zip(&ends).all(|(asked, end)| asked <= end);
        if !is_there {
            let message = format!("--ends must name an offset for each of {count} partitions, at most {ends:?}");
            return Err(Failure::new(Code::Usage, message));
        }
        ends.clone_from(&args.ends);
    }
    let mut derivation = Derivation::new(log, &source.settings.dataflow, &ends)?;
    let header = Header {
        tidings_derive: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        log_id: format!("{:032x}", log.log_id()),
        ends,
    };
    let written = |outcome: io::Result<()>| match outcome {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).code(Code::Target),
    };
    let mut writer = match Writer::new(BufWriter::new(io::stdout().lock()), &header) {
        Ok(writer) => writer,
        Err(error) => return written(Err(error)).map(drop),
    };
    loop {
        let turn = derivation.turn()?;
        if turn.is_empty() {
            return written(writer.finish()).map(drop);
        }
        for derived in &turn {
            if !written(writer.write(derived))? {
                return Ok(());
            }
        }
    }
}
