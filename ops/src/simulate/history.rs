//! One history: users and conversations, a storm, and what is left when it is over.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tidings_dataflow::host;
use tidings_edge::auth::{keys::SigningKeys, tokens};
use tidings_ingest::{Log, NewRecord};
use tidings_schemas::{
    client::{self, ClientFrame, client_frame::Command, server_frame::Body},
    clock::{Clock, Entropy},
    ids::UserId,
    topics::{Partitions, Topic, username_partition},
    wire,
};
use tokio::{
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, timeout},
};

use super::{
    device::{Device, DeviceState, Room},
    faults::{Fault, Storm},
    pipe::Incoming,
    properties::{self, are_views_current, is_inbox_whole, is_timeline_whole},
    random::{Random, SeededEntropy},
    world::World,
};
use crate::{
    check::{Finding, Judge, Verdict},
    load::record::Observation,
};

/// How long after a storm everything must be settled, in virtual time. A connection whose client is silently gone is
/// noticed after 75 s, a verdict that does not come is given up after 5 s, back-offs end at 5 s.
const SETTLE_PATIENCE: Duration = Duration::from_secs(150);

/// What a history is made of.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) seed: u64,
    /// Messages that are sent, all together.
    pub(super) steps: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) keep_trace: bool,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// The same for every run of the seed.
    pub(super) hash: u64,
    pub(super) trace: Vec<String>,
    /// Records on the log.
    pub(super) records: u64,
    /// Virtual time.
    pub(super) lasted: Duration,
}

thread_local! {
    static PANICS: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics of a history's tasks are findings: from now on the hook keeps them for it.
pub(super) fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| PANICS.set(Some(panic.to_string()))));
}

/// Runs a history from its beginning to its verdict.
pub(super) fn run(settings: &Settings, keys_folder: &Path) -> std::io::Result<Outcome> {
    PANICS.set(None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let local = LocalSet::new();
    let outcome = local.block_on(&runtime, history(settings, keys_folder));
    Ok(outcome)
}

struct Cast {
    partitions: Partitions,
    users: Vec<UserId>,
    rooms: Rc<RefCell<Vec<Room>>>,
    devices: Vec<Rc<RefCell<DeviceState>>>,
}

async fn history(settings: &Settings, keys_folder: &Path) -> Outcome {
    let mut random = Random::new(settings.seed);
    let edges = random.between(2, 3);
    let partitions = Partitions {
        conversations: u32::try_from(random.between(1, 3)).unwrap_or(1),
        recipients: u32::try_from(random.between(1, 2)).unwrap_or(1),
        edges: u32::try_from(edges).unwrap_or(2),
        directory: 1,
    };
    let world = World::new(random.fork(), partitions, keys_folder.to_owned(), settings.keep_trace);
    let shards = host::all_shards(&*world.log);
    for _ in 0..edges {
        world.add_edge();
    }
    for _ in 0..random.between(1, 3) {
        world.add_host();
    }
    let mut cast = Cast { partitions, users: Vec::new(), rooms: Rc::default(), devices: Vec::new() };
    register_users(&world, &mut cast, &mut random);
    world.heal(&shards).await;
    if let Err(what) = set_the_stage(&world, &mut cast, settings, &mut random, keys_folder).await {
        world.find("liveness", what);
    } else {
        let lasts = Duration::from_millis(random.between(3_000, 12_000));
        Storm { faults: settings.faults.clone(), lasts, shards: shards.clone() }.rage(&world, random.fork()).await;
        world.heal(&shards).await;
        settle(&world, &cast).await;
    }
    judge(&world, &cast).await
}

/// Puts the users on the log, as registrations would.
fn register_users(world: &World, cast: &mut Cast, random: &mut Random) {
    for number in 0..random.between(2, 5) {
        let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
        let user = UserId::random(bits);
        let username = format!("user{number}");
        let register = wire::RegisterUser {
            user_id: Some(user.into()),
            username: username.clone(),
            display_name: username.clone(),
            password_hash: String::new(),
        };
        let record = wire::DirectoryRecord {
            stamped_at_ms: world.clock.now_ms(),
            body: Some(wire::directory_record::Body::RegisterUser(register)),
        };
        let record = NewRecord {
            topic: Topic::Directory,
            partition: username_partition(&username, cast.partitions.directory),
            key: Bytes::from(username),
            value: record.encode_to_vec().into(),
        };
        world.log.append_with(vec![record], Box::new(drop));
        cast.users.push(user);
    }
    while world.log.commit_next() {}
    world.set_users(cast.users.iter().map(UserId::to_string).collect());
}

/// Devices that are connected, and conversations, in calm weather.
async fn set_the_stage(
    world: &Rc<World>,
    cast: &mut Cast,
    settings: &Settings,
    random: &mut Random,
    keys_folder: &Path,
) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let entropy = SeededEntropy::new(Random::new(0));
    let keys = SigningKeys::open(&keys_folder.join("keys/tokens.json"), &world.clock, &entropy);
    let keys = keys.map_err(|error| failed(&error))?;
    let now_ms = world.clock.now_ms();
    let expires_at_ms = now_ms + 7 * 24 * 3_600_000;
    let mut user_tokens = Vec::new();
    for user in &cast.users {
        user_tokens.push(
            tokens::issue(&keys, *user, entropy.next_u128(), now_ms, expires_at_ms).map_err(|error| failed(&error))?,
        );
    }
    let device_count: u64 = (0..cast.users.len()).map(|_| random.between(1, 2)).sum();
    for number in 0..device_count {
        let user = usize::try_from(number).unwrap_or(0) % cast.users.len();
        let state = Rc::new(RefCell::new(DeviceState {
            name: format!("d{number}"),
            user_id: cast.users[user].to_string(),
            sends_left: (settings.steps / device_count).max(1),
            ..DeviceState::default()
        }));
        let device = Device::new(world, &state, user_tokens[user].clone(), &cast.rooms, random.fork());
        spawn_local(device.run());
        cast.devices.push(state);
    }
    until(Duration::from_secs(60), async || cast.devices.iter().all(|device| device.borrow().is_welcomed))
        .await
        .map_err(|()| "the devices are not welcomed in calm weather".to_owned())?;
    for number in 0..random.between(1, 4) {
        let creator = random.place(cast.users.len());
        let (kind, members) = if random.chance(400) {
            let other = (creator + 1 + random.place(cast.users.len() - 1)) % cast.users.len();
            (client::conversation_kind::Value::Direct, vec![cast.users[other].to_string()])
        } else {
            let others = cast.users.iter().enumerate().filter(|(place, _)| *place != creator);
            (client::conversation_kind::Value::Group, others.map(|(_, user)| user.to_string()).collect())
        };
        let is_open = kind == client::conversation_kind::Value::Group && random.chance(400);
        let title =
            if kind == client::conversation_kind::Value::Group { format!("group {number}") } else { String::new() };
        let request = client::CreateConversation { kind: kind.into(), title, member_ids: members.clone() };
        let created = timeout(Duration::from_secs(30), create(world, &user_tokens[creator], request)).await;
        let Ok(Some(id)) = created else { return Err("a conversation is not made in calm weather".to_owned()) };
        if cast.rooms.borrow().iter().any(|room| room.id == id) {
            continue;
        }
        let mut members = members;
        members.push(cast.users[creator].to_string());
        if !is_open {
            world.observe(Observation::Conversation { conversation: id.clone(), members: members.clone() });
        }
        cast.rooms.borrow_mut().push(Room { id, members, is_open });
    }
    Ok(())
}

/// Makes a conversation through an edge; its id.
async fn create(world: &World, token: &str, request: client::CreateConversation) -> Option<String> {
    let mut connection = world.connect(0)?;
    let hello = client::Hello { token: token.to_owned(), device_id: "setup".to_owned(), resume: None };
    connection.send(&ClientFrame { id: 1, command: Some(Command::Hello(hello)) });
    loop {
        let Incoming::Frame(frame) = connection.next().await else { return None };
        match (frame.id, frame.body) {
            (_, Some(Body::Welcome(_))) => {
                let command = Some(Command::CreateConversation(request.clone()));
                connection.send(&ClientFrame { id: 2, command });
            }
            (Some(2), Some(Body::Conversation(conversation))) => {
                connection.close();
                return Some(conversation.conversation_id);
            }
            (Some(_), Some(Body::Error(error))) => {
                world.trace.say(|| format!("setup: {}: {}", error.code, error.message));
                return None;
            }
            _ => {}
        }
    }
}

/// Waits until something is so, but not longer than this.
async fn until(patience: Duration, is_so: impl AsyncFn() -> bool) -> Result<(), ()> {
    let ends = Instant::now() + patience;
    while !is_so().await {
        if Instant::now() >= ends {
            return Err(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until every send has its verdict, and every device the end of its stream.
async fn settle(world: &Rc<World>, cast: &Cast) {
    let answered = until(SETTLE_PATIENCE, async || {
        cast.devices.iter().all(|device| device.borrow().is_welcomed && device.borrow().unanswered.is_empty())
    });
    if answered.await.is_err() {
        for device in &cast.devices {
            let device = device.borrow();
            if !device.is_welcomed {
                world.find("liveness", format!("{} does not get in again", device.name));
            }
            if let Some(first) = device.unanswered.front() {
                world.find("liveness", format!("{}: no verdict for {}", device.name, first.client_message));
            }
        }
    }
    let whole = until(SETTLE_PATIENCE, async || is_timeline_whole(&world.log, cast.partitions));
    if whole.await.is_err() {
        return world.find("liveness", "some events have no timeline record".to_owned());
    }
    // Receipts and the like may still have been on their way: the model is asked when all is quiet.
    let modelled = RefCell::new((0, BTreeMap::new()));
    let end = until(SETTLE_PATIENCE, async || {
        let is_whole = is_timeline_whole(&world.log, cast.partitions) && is_inbox_whole(&world.log, cast.partitions);
        if !is_whole || !are_views_current(&world.log, &world.views).await {
            return false;
        }
        let events = properties::events(&world.log, cast.partitions);
        if modelled.borrow().0 != events {
            *modelled.borrow_mut() = (events, properties::model(&world.log, cast.partitions).streams);
        }
        let (_, streams) = &*modelled.borrow();
        cast.devices.iter().all(|device| {
            let device = device.borrow();
            let user = device.user_id.parse::<UserId>().ok();
            let length = user.and_then(|user| streams.get(&user)).copied().unwrap_or(0);
            device.is_welcomed && device.offset >= length
        })
    });
    if end.await.is_err() {
        if !are_views_current(&world.log, &world.views).await {
            world.find("liveness", "the views do not reach the end of the log".to_owned());
        }
        let streams = properties::model(&world.log, cast.partitions).streams;
        for device in &cast.devices {
            let device = device.borrow();
            let length = device.user_id.parse::<UserId>().ok().and_then(|user| streams.get(&user).copied());
            if length.is_some_and(|length| device.offset < length) {
                let (name, offset) = (&device.name, device.offset);
                world.find("liveness", format!("{name} stays at offset {offset} of {length:?}"));
            }
        }
    }
}

async fn judge(world: &Rc<World>, cast: &Cast) -> Outcome {
    // A receipt, say, that was still on its way would otherwise be answered while the views are looked at.
    world.stop();
    let modelled = properties::model(&world.log, cast.partitions);
    properties::check_log(world, cast.partitions, &modelled);
    properties::check_views(world).await;
    let closed: BTreeSet<String> =
        cast.rooms.borrow().iter().filter(|room| !room.is_open).map(|room| room.id.clone()).collect();
    for device in &cast.devices {
        let (user, receipted) = (device.borrow().user_id.clone(), device.borrow().receipted.clone());
        properties::check_receipts(world, &user, &receipted, &closed).await;
    }
    properties::check_checkpoints(world, &host::all_shards(&*world.log)).await;
    if let Some(panic) = PANICS.take() {
        world.find("panic", panic);
    }
    let mut judge = Judge::default();
    for observation in world.take_observations() {
        judge.observe(&observation);
    }
    judge.observe(&Observation::End);
    let mut verdict = judge.verdict();
    verdict.findings.extend(world.take_findings());
    // In an order of its own: the checker's is that of hash tables.
    verdict.findings.sort_by(|one, other| (one.kind, &one.detail).cmp(&(other.kind, &other.detail)));
    let mut records = 0;
    for topic in Topic::ALL {
        for partition in 0..world.log.partitions(topic) {
            records += world.log.range(topic, partition).map_or(0, |range| range.end);
        }
    }
    let lasted = world.clock.monotonic();
    for Finding { kind, detail } in &verdict.findings {
        world.trace.say(|| format!("FOUND {kind}: {detail}"));
    }
    Outcome { verdict, hash: world.trace.hash(), trace: world.trace.take_lines(), records, lasted }
}
