//! An edge whose wall clock is wrong: a small library is loaded into it (`clock.c`) that adds to the time what a file says.

use std::{process::Command, thread};

use anyhow::{Context as _, Result, ensure};

use super::{BASE, Fault, Need, seconds};
use crate::{fleet::Fleet, process::get};

/// Within and beyond what stamps are bounded to, both ways.
const STEPS_SECONDS: [i32; 4] = [10, -10, 3_600, -3_600];

const SOURCE: &str = "ops/tests/faults/faults/clock.c";

/// Steps of an edge's clock.
pub(super) const STEPPED: Fault = Fault {
    name: "clock-stepped",
    what: "an edge's clock steps 10 s ahead, 10 s behind, 1 h ahead, 1 h behind, and back",
    is_short: true,
    needs: Some(Need::Compiler),
    resumes_within: seconds(4),
    lasts: seconds(10),
    prepare: |fleet| {
        let library = fleet.folder.join("clock.so").display().to_string();
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o", &library, SOURCE]).status();
        ensure!(compiled.context("cannot run cc")?.success(), "{SOURCE} does not compile");
        let file = clock_file(fleet);
        step(fleet, 0)?;
        fleet.edges[1].stop()?;
        let environment =
            [("LD_PRELOAD", library), ("WALL_CLOCK_STEP", file)].map(|(name, value)| (name.to_owned(), value));
        fleet.edges[1].environment.extend(environment);
        fleet.edges[1].start()?;
        fleet.edges[1].ready()
    },
    inject: |fleet, lasts| {
        let each = lasts / u32::try_from(STEPS_SECONDS.len())?;
        for seconds in STEPS_SECONDS {
            step(fleet, seconds)?;
            thread::sleep(each);
            // The date of its answers never goes back: hyper keeps it until a later one.
            let seen = ahead_seconds(fleet)?;
            ensure!(
                seconds < 0 || (seen - seconds).abs() <= 2,
                "the edge's clock is {seen} s ahead, and was to be {seconds} s"
            );
        }
        step(fleet, 0)
    },
    after: |fleet| {
        fleet.edges[1].stop()?;
        fleet.edges[1].environment.retain(|(name, _)| name.starts_with("TIDINGS_"));
        fleet.edges[1].start()?;
        fleet.edges[1].ready()
    },
    ..BASE
};

fn clock_file(fleet: &Fleet) -> String {
    fleet.folder.join("clock").display().to_string()
}

/// The file is never seen half written.
fn step(fleet: &Fleet, seconds: i32) -> Result<()> {
    let file = clock_file(fleet);
    let new = format!("{file}.new");
    std::fs::write(&new, format!("{seconds:+}\n")).context("cannot write the clock's file")?;
    std::fs::rename(&new, &file).context("cannot set the clock")
}

/// By how much the stepped edge's clock is ahead of the other's, by the times that they write on their answers.
fn ahead_seconds(fleet: &Fleet) -> Result<i32> {
    const DAY: i32 = 86_400;
    let time_of_day = |edge: usize| -> Result<i32> {
        let answer = get(fleet.edges[edge].address(), "/livez", &[])?;
        let date = answer.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("date: ").map(str::to_owned));
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = date.with_context(|| format!("the edge says no date: {answer}"))?;
        let time = date.split(' ').nth(4).context("a date without a time")?;
        time.split(':').try_fold(0, |sum, part| Ok(sum * 60 + part.parse::<i32>()?))
    };
    let difference = (time_of_day(1)? - time_of_day(0)?).rem_euclid(DAY);
    Ok(if difference > DAY / 2 { difference - DAY } else { difference })
}
