//! The network between roles: slow, lossy, cut.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{BASE, Fault, Need, seconds};
use crate::{
    fleet::{Fleet, Place},
    network::Conditions,
};

/// How long an edge that lost its number may take to notice once it reaches the log again.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// To Kafka and back, one edge and one dataflow process.
pub(super) const DELAYED: Fault = Fault {
    name: "network-delayed",
    what: "each packet between an edge, or a dataflow process, and Kafka comes 30 to 70 ms late",
    needs: Some(Need::Network),
    resumes_within: seconds(4),
    lasts: seconds(8),
    inject: |fleet, lasts| {
        let delay = Duration::from_millis(50);
        harm(fleet, lasts, Conditions { delay, jitter: Duration::from_millis(20), ..Conditions::default() })
    },
    ..BASE
};

/// The same two.
pub(super) const LOSSY: Fault = Fault {
    name: "network-lossy",
    what: "of the packets between an edge, or a dataflow process, and Kafka 5 % are lost",
    is_short: true,
    needs: Some(Need::Network),
    resumes_within: seconds(4),
    lasts: seconds(6),
    inject: |fleet, lasts| harm(fleet, lasts, Conditions { loss: 0.05, ..Conditions::default() }),
    ..BASE
};

fn harm(fleet: &Fleet, lasts: Duration, conditions: Conditions) -> Result<()> {
    for place in [Place::Edge, Place::Dataflow] {
        fleet.host(place)?.change(fleet.kafka_ports(), conditions);
    }
    thread::sleep(lasts);
    fleet.host(Place::Edge)?.heal()?;
    fleet.host(Place::Dataflow)?.heal()
}

/// While it is cut off its lease runs out, and its number becomes another edge's: the only other free number goes to one
/// spare edge, so the second gets this one.
pub(super) const EDGE_CUT_OFF: Fault = Fault {
    name: "network-edge-cut-off",
    what: "an edge does not reach Kafka until another edge has its number",
    is_short: true,
    needs: Some(Need::Network),
    resumes_within: seconds(20),
    lasts: seconds(2),
    inject: |fleet, lasts| {
        fleet.host(Place::Edge)?.change(fleet.kafka_ports(), Conditions::cut());
        let mut spares = [fleet.spare("edge", 0, &[])?, fleet.spare("edge", 1, &[])?];
        spares.iter_mut().try_for_each(|spare| spare.ready())?;
        thread::sleep(lasts);
        fleet.host(Place::Edge)?.heal()?;
        let ended = fleet.edges[0].ended_within(NOTICED_WITHIN);
        ensure!(ended, "an edge goes on though its number is another's");
        // Its supervisor. There must be a number for it.
        spares.iter_mut().try_for_each(|spare| spare.stop())?;
        fleet.edges[0].start()?;
        fleet.edges[0].ready()
    },
    ..BASE
};

/// Its shards move, and it comes back as one who does not know.
pub(super) const DATAFLOW_CUT_OFF: Fault = Fault {
    name: "network-dataflow-cut-off",
    what: "a dataflow process does not reach Kafka, and comes back when the other has its shards",
    needs: Some(Need::Network),
    resumes_within: seconds(6),
    lasts: seconds(10),
    inject: |fleet, lasts| {
        fleet.host(Place::Dataflow)?.change(fleet.kafka_ports(), Conditions::cut());
        thread::sleep(lasts);
        fleet.host(Place::Dataflow)?.heal()
    },
    ..BASE
};

/// It stays its group's member, so nobody else writes its partitions' views.
pub(super) const PROJECTION_CUT_OFF: Fault = Fault {
    name: "network-projection-cut-off",
    what: "a projection does not reach Redis: the views of its partitions stand still",
    needs: Some(Need::Network),
    resumes_within: seconds(5),
    lasts: seconds(8),
    inject: |fleet, lasts| {
        let host = fleet.host(Place::Projection)?;
        host.change(fleet.redis_port(), Conditions::cut());
        thread::sleep(lasts);
        host.heal().context("the projection said nothing to Redis")
    },
    ..BASE
};
