//! One fault: load, break, mend, check.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rand::{Rng as _, rngs::StdRng};
use serde_json::Value;

use crate::{Args, faults::Fault, fleet::Fleet, process::get};

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Messages that clients were told are sent.
    pub(crate) sent: u64,
    /// Connections that clients had to make anew.
    pub(crate) reconnects: u64,
    /// From the moment a message was to be sent to its delivery, at the most.
    pub(crate) longest: Duration,
}

/// Nothing is wrong but the time.
#[derive(Debug, thiserror::Error)]
#[error("messages were delivered again only after {0:.1} s")]
pub(crate) struct TooLate(f64);

/// Load before the fault.
const BEFORE: Duration = Duration::from_secs(3);
/// Load after it.
const AFTER: Duration = Duration::from_secs(6);
/// How long the archive may take to have everything.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(60);
/// Where nothing is sent, it has everything when nothing came for so long.
const ARCHIVE_REST: Duration = Duration::from_secs(2);
/// How often it is looked.
const POLL: Duration = Duration::from_millis(250);

/// Loads the fleet, breaks it in the middle, and checks.
pub(crate) fn fault(fleet: &mut Fleet, fault: &Fault, args: &Args, random: &mut StdRng) -> Result<Outcome> {
    (fault.prepare)(fleet).with_context(|| format!("cannot prepare {}", fault.name))?;
    fleet.ready()?;
    let run: u32 = random.random();
    let archived_before = archived_at_rest(fleet)?;
    let record = fleet.folder.join(format!("{}-{run:08x}.jsonl", fault.name));
    let (users, rate) = if args.long { (200, 400) } else { (60, 150) };
    let jitter = Duration::from_millis(random.random_range(0..1_000));
    let seconds = (BEFORE + jitter + fault.lasts + AFTER).as_secs_f64();
    let errors = fs::File::create(fleet.folder.join("load.log")).context("cannot make a log")?;
    let mut load = Command::new(&fleet.program);
    load.args([
        "load",
        "--json",
        "--warmup-seconds",
        "0",
        "--group-share",
        "0.2",
        "--groups",
        "3",
        "--group-size",
        "20",
    ]);
    load.args(["--silence-seconds", "4", "--drain-seconds", "60", "--receipt-interval-ms", "250"]);
    load.arg("--users").arg(users.to_string()).arg("--rate").arg(rate.to_string());
    load.arg("--seconds").arg(seconds.to_string()).arg("--seed").arg(run.to_string());
    load.arg("--accounts").arg(fleet.folder.join("accounts.json")).arg("--record").arg(&record);
    fleet.urls().for_each(|url| {
        load.arg("--url").arg(url);
    });
    let load =
        load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().context("cannot start the load")?;
    wait_for_load(&record)?;
    thread::sleep(BEFORE + jitter);
    (fault.inject)(fleet, fault.lasts).with_context(|| format!("cannot inject {}", fault.name))?;
    let output = load.wait_with_output().context("the load failed")?;
    if !output.status.success() {
        bail!("the load failed: see {}", fleet.folder.join("load.log").display());
    }
    let summary: Value = serde_json::from_slice(&output.stdout).context("cannot read what the load says")?;
    fs::write(fleet.folder.join(format!("{}-{run:08x}.json", fault.name)), &output.stdout)
        .context("cannot write down what the load says")?;
    check(fleet, &record)?;
    let sent = acknowledged(&record)?;
    mend(fleet)?;
    wait_for_archive(fleet, archived_before + sent)?;
    (fault.after)(fleet).with_context(|| format!("cannot clean up after {}", fault.name))?;
    let number = |path: &str| summary.pointer(path).and_then(Value::as_f64);
    let milliseconds = [number("/direct/max_ms"), number("/group_last/max_ms")];
    let longest = milliseconds.into_iter().flatten().reduce(f64::max).context("the load says nothing of deliveries")?;
    let longest = Duration::from_secs_f64(longest / 1_000.0);
    if longest > fault.resumes_within * args.patience {
        return Err(TooLate(longest.as_secs_f64()).into());
    }
    if !args.long {
        fs::remove_file(&record).context("cannot remove a record")?;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let reconnects = number("/reconnects").unwrap_or_default() as u64;
    if fault.keeps_connections && reconnects > 0 {
        let reasons = summary.get("reconnect_reasons").unwrap_or(&Value::Null);
        bail!("{reconnects} connections did not outlast it: {reasons}");
    }
    Ok(Outcome { sent, reconnects, longest })
}

/// Everything runs again.
fn mend(fleet: &mut Fleet) -> Result<()> {
    fleet.ready().context("the fleet is not whole again")
}

/// The record says first which conversations there are: then the clients are connected, and sending begins.
fn wait_for_load(record: &std::path::Path) -> Result<()> {
    for _ in 0..1_200 {
        if fs::metadata(record).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the load does not begin");
}

fn check(fleet: &Fleet, record: &std::path::Path) -> Result<()> {
    let output = Command::new(&fleet.program).arg("check").arg(record).output().context("cannot check")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("the check failed:\n{}", String::from_utf8_lossy(&output.stdout));
}

/// Messages that clients were told are sent.
fn acknowledged(record: &std::path::Path) -> Result<u64> {
    let mut messages = std::collections::HashSet::new();
    for line in BufReader::new(fs::File::open(record).context("cannot open the record")?).lines() {
        let observation: Value = serde_json::from_str(&line?)?;
        if observation["what"] == "sent"
            && let Some(message) = observation["message"].as_str()
        {
            messages.insert(message.to_owned());
        }
    }
    Ok(messages.len() as u64)
}

fn archived(fleet: &Fleet) -> Result<u64> {
    let query = "/?query=SELECT+count()+FROM+messages+WHERE+kind='text'";
    let (address, headers) = fleet.sql();
    let answer = get(address, query, &headers)?;
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    let digits: String = body.lines().rev().find(|line| !line.is_empty()).unwrap_or_default().trim().to_owned();
    digits.parse().with_context(|| format!("the archive answers {answer:?}"))
}

/// A fleet is ready before its archive has tables; and what clients sent to see the end of the fault before may not be in
/// them yet.
fn archived_at_rest(fleet: &Fleet) -> Result<u64> {
    let (mut waited, mut last, mut at_rest) = (Duration::ZERO, None, Duration::ZERO);
    loop {
        match archived(fleet) {
            Err(error) if waited >= ARCHIVE_PATIENCE => return Err(error),
            Ok(count) if last == Some(count) => at_rest += POLL,
            found => (last, at_rest) = (found.ok(), Duration::ZERO),
        }
        if let Some(count) = last
            && at_rest >= ARCHIVE_REST
        {
            return Ok(count);
        }
        thread::sleep(POLL);
        waited += POLL;
    }
}

/// Every acknowledged message is in the archive, once.
fn wait_for_archive(fleet: &Fleet, expected: u64) -> Result<()> {
    let mut found = 0;
    let mut waited = Duration::ZERO;
    while waited < ARCHIVE_PATIENCE {
        found = archived(fleet)?;
        if found >= expected {
            break;
        }
        thread::sleep(POLL);
        waited += POLL;
    }
    if found != expected {
        bail!("the archive holds {found} messages, and clients were told of {expected}");
    }
    Ok(())
}
