//! What goes wrong in a storm, and when: drawn from the seed.

use std::{collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tidings_dataflow::shard::ShardId;
use tidings_schemas::{limits::STAMP_SKEW_MAX, topics::Topic};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{gate::Gate, random::Random, world::World};

/// Kinds of faults, to choose some of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// Connections between clients and edges are cut, before or after a reply.
    Connections,
    /// Edges are killed and start again with a new run.
    EdgeCrashes,
    /// Edges are stopped and go on later, while their clients have gone elsewhere.
    EdgePauses,
    /// The wall clock of an edge steps.
    Clocks,
    /// Hosts of the stages are killed and start again, from a checkpoint or from the one before.
    HostCrashes,
    /// Hosts are stopped and go on later; others own their shards meanwhile.
    HostPauses,
    /// Shards move, in order or not, and have two owners for a while.
    Moves,
    /// The projection of the views is killed and starts again.
    ProjectionCrashes,
    /// The projection is stopped and goes on later, while another one follows the same partitions.
    ProjectionPauses,
    /// The views are dropped and made anew from the log.
    ViewsDropped,
    /// A partition's records reach a node late.
    Stalls,
    /// Calls of the log and of the stores are slow, are refused, or fail although they are done.
    Calls,
}

/// What may go wrong, and for how long.
pub(super) struct Storm {
    pub(super) faults: Vec<Fault>,
    pub(super) lasts: Duration,
    pub(super) shards: BTreeSet<ShardId>,
}

impl Storm {
    /// Lets it happen, until it is over. What is broken by then is left broken.
    pub(super) async fn rage(&self, world: &Rc<World>, mut random: Random) {
        world.weather.set_stormy(true);
        let ends = Instant::now() + self.lasts;
        let kinds: Vec<Fault> = self.faults.iter().copied().filter(|fault| *fault != Fault::Calls).collect();
        let mut under_way = JoinSet::new();
        while Instant::now() < ends {
            sleep(Duration::from_millis(random.between(20, 900))).await;
            if let Some(fault) = random.pick(&kinds) {
                let strike = strike(Rc::clone(world), *fault, self.shards.clone(), random.fork());
                under_way.spawn_local(strike);
            }
        }
        under_way.shutdown().await;
    }
}

fn millis(random: &mut Random, first: u64, last: u64) -> Duration {
    Duration::from_millis(random.between(first, last))
}

async fn strike(world: Rc<World>, fault: Fault, shards: BTreeSet<ShardId>, mut random: Random) {
    let edge = random.place(world.edge_count());
    let host_count = world.hosts.borrow().len();
    let host = random.place(host_count);
    match fault {
        Fault::Connections => world.cut_connection(&mut random),
        Fault::EdgeCrashes => {
            world.crash_edge(edge);
            sleep(millis(&mut random, 1, 3_000)).await;
            world.start_edge(edge).await;
        }
        Fault::EdgePauses => {
            if world.is_edge_up(edge) {
                world.pause_edge(edge, true);
                sleep(millis(&mut random, 200, 12_000)).await;
                world.pause_edge(edge, false);
            }
        }
        Fault::Clocks => {
            let bound = i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
            let skew = i64::try_from(random.below(2 * bound.unsigned_abs())).unwrap_or(0) - bound;
            world.trace.say(|| format!("edge {edge}: its clock is off by {skew} ms"));
            world.edges.borrow()[edge].clock.set_skew_ms(skew);
        }
        Fault::HostCrashes => {
            world.crash_host(host);
            if random.chance(300) {
                spoil_checkpoint(&world, &shards, &mut random).await;
            }
            sleep(millis(&mut random, 1, 3_000)).await;
            world.start_host(host);
        }
        Fault::HostPauses => {
            world.pause_host(host, true);
            if random.chance(700) {
                // The others take over; the stopped one does not know.
                let owned: BTreeSet<ShardId> = world.hosts.borrow()[host].owned.clone();
                world.own((host + 1) % host_count, |others| others.extend(owned));
            }
            sleep(millis(&mut random, 100, 6_000)).await;
            world.pause_host(host, false);
        }
        Fault::Moves => move_shard(&world, &shards, host, &mut random).await,
        Fault::ProjectionCrashes => {
            world.crash_projections(0);
            sleep(millis(&mut random, 1, 2_000)).await;
            world.start_projection();
        }
        Fault::ProjectionPauses => {
            let Some(gate) = world.projection_gate() else { return };
            world.trace.say(|| "projection: stopped".to_owned());
            gate.set_paused(true);
            world.add_projection();
            sleep(millis(&mut random, 20, 3_000)).await;
            world.trace.say(|| "projection: goes on".to_owned());
            gate.set_paused(false);
            // Both for a while.
            sleep(millis(&mut random, 0, 1_000)).await;
            world.crash_projections(1);
        }
        Fault::ViewsDropped => {
            world.crash_projections(0);
            world.trace.say(|| "the views are dropped".to_owned());
            world.views.clear();
            sleep(millis(&mut random, 0, 1_000)).await;
            world.start_projection();
        }
        Fault::Stalls => stall(&world, &mut random).await,
        Fault::Calls => {}
    }
}

/// Gives a shard another owner; the one before gives it up in order, at once, later, or does not get to know.
async fn move_shard(world: &Rc<World>, shards: &BTreeSet<ShardId>, to: usize, random: &mut Random) {
    let shards: Vec<ShardId> = shards.iter().copied().collect();
    let Some(shard) = random.pick(&shards).copied() else { return };
    world.trace.say(|| format!("{shard} moves to host {to}"));
    let before: Vec<usize> = {
        let hosts = world.hosts.borrow();
        (0..hosts.len()).filter(|host| *host != to && hosts[*host].owned.contains(&shard)).collect()
    };
    let is_in_order = random.chance(500);
    if is_in_order {
        for host in &before {
            let ownership = world.hosts.borrow()[*host].ownership.clone();
            if let Some(ownership) = ownership {
                let released = ownership.release(BTreeSet::from([shard]));
                // A host that is killed meanwhile never says so.
                let _ = tokio::time::timeout(Duration::from_secs(3), released).await;
            }
            world.own(*host, |owned| {
                owned.remove(&shard);
            });
        }
    }
    world.own(to, |owned| {
        owned.insert(shard);
    });
    if !is_in_order {
        sleep(millis(random, 0, 4_000)).await;
        for host in before {
            world.own(host, |owned| {
                owned.remove(&shard);
            });
        }
    }
}

/// A shard's newest manifest is damaged: the one before must do.
async fn spoil_checkpoint(world: &World, shards: &BTreeSet<ShardId>, random: &mut Random) {
    let shards: Vec<ShardId> = shards.iter().copied().collect();
    let Some(shard) = random.pick(&shards) else { return };
    let folder = Path::from(shard.to_string());
    let listed: Vec<_> = world.objects.list(Some(&folder)).try_collect().await.unwrap_or_default();
    let names = listed.into_iter().map(|object| object.location);
    let Some(newest) = names.filter(|name| name.as_ref().ends_with(".manifest")).max() else { return };
    world.trace.say(|| format!("{newest} is damaged"));
    world.set_spoiled(*shard);
    // In memory it does not fail.
    let _ = world.objects.put(&newest, "spoiled".into()).await;
}

async fn stall(world: &Rc<World>, random: &mut Random) {
    let topics = [Topic::Events, Topic::Fanout, Topic::Signals, Topic::Timeline, Topic::Inbox, Topic::Deliveries];
    let Some(topic) = random.pick(&topics).copied() else { return };
    let partition =
        u32::try_from(random.below(u64::from(tidings_ingest::Log::partitions(&*world.log, topic)))).unwrap_or(0);
    let gate: Option<Arc<Gate>> = match topic {
        Topic::Events | Topic::Fanout | Topic::Signals => {
            let hosts = world.hosts.borrow();
            random.pick(&hosts).map(|host| Arc::clone(&host.gate))
        }
        Topic::Deliveries => {
            let edges = world.edges.borrow();
            edges.get(partition as usize).map(|edge| Arc::clone(&edge.gate))
        }
        _ => world.projection_gate(),
    };
    let Some(gate) = gate else { return };
    world.trace.say(|| format!("{}/{partition} stalls", topic.name()));
    gate.set_stalled(topic, partition, true);
    sleep(millis(random, 50, 5_000)).await;
    gate.set_stalled(topic, partition, false);
}
