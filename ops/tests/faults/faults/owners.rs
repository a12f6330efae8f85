//! Shards with more than one owner.

use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::{BASE, Fault, seconds};
use crate::{fleet::SHARDS, process::Process, process::get};

/// All shards run twice: a process with a fixed share has all of them, whatever the group's members have. Then one of
/// those goes, later the one with the fixed share.
pub(super) const TWO: Fault = Fault {
    name: "owners-two",
    what: "every shard runs in two processes; then one of each pair is killed, and later the other",
    resumes_within: seconds(5),
    lasts: seconds(9),
    inject: |fleet, lasts| {
        let every = format!("dataflow.partitions={:?}", (0..SHARDS).collect::<Vec<_>>());
        let mut second = fleet.spare("dataflow", 0, &[&every])?;
        second.ready()?;
        thread::sleep(lasts / 3);
        let twice = shards(&second)? + fleet.dataflow.iter().map(shards).sum::<Result<u32>>()?;
        // Of both stages.
        ensure!(twice == 2 * 2 * SHARDS, "{twice} shards run, and twice {} were to", 2 * SHARDS);
        fleet.dataflow[0].kill()?;
        thread::sleep(lasts / 3);
        second.kill()?;
        thread::sleep(lasts / 3);
        fleet.dataflow[0].start()
    },
    ..BASE
};

/// How many shards run in a process.
fn shards(process: &Process) -> Result<u32> {
    let metrics = get(process.address(), "/metrics", &[])?;
    let shards = metrics.lines().filter(|line| line.contains("dataflow_shards{"));
    let count = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<u32>().ok());
    shards.map(|line| count(line).with_context(|| format!("cannot read {line:?}"))).sum()
}
