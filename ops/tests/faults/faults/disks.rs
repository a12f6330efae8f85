//! Disks that are full: small ones of the run's own, filled to the last page.

use std::thread;

use anyhow::ensure;

use super::{BASE, Fault, Need, seconds};
use crate::fleet::Setup;

/// The folder of a fleet's checkpoints.
pub(super) const CHECKPOINTS_FULL: Fault = Fault {
    name: "disk-full-checkpoints",
    what: "the checkpoints' disk is full, and a dataflow process is killed meanwhile",
    needs: Some(Need::Mounts),
    resumes_within: seconds(6),
    lasts: seconds(8),
    inject: |fleet, lasts| {
        fleet.disk()?.fill()?;
        thread::sleep(lasts / 4);
        fleet.dataflow[0].kill()?;
        thread::sleep(3 * lasts / 4);
        fleet.disk()?.free()?;
        fleet.dataflow[0].start()
    },
    ..BASE
};

/// All that `tidings up` has: log, views, archive and checkpoints.
pub(super) const FULL: Fault = Fault {
    name: "disk-full",
    what: "the disk of tidings up is full: log, views, archive, checkpoints",
    is_short: true,
    setup: Setup::Alone,
    needs: Some(Need::Mounts),
    resumes_within: seconds(14),
    lasts: seconds(8),
    inject: |fleet, lasts| {
        fleet.disk()?.fill()?;
        thread::sleep(lasts);
        ensure!(!fleet.edges[0].has_ended(), "it ended for want of space");
        fleet.disk()?.free()
    },
    // Who was not connected reads what it missed from the views: they must have come back, too.
    after: |fleet| fleet.catch_up(),
    ..BASE
};
