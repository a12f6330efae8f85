//! A client's device: it sends, acknowledges, comes and goes, tries again what was not answered, and writes down what it
//! sees, as `tidings load` does.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use tidings_schemas::client::{
    self, ClientFrame, ServerFrame, client_frame::Command, server_frame::Body, update::Kind,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    pipe::{ClientEnd, Cut, Incoming},
    random::Random,
    world::World,
};
use crate::load::record::Observation;

const WELCOME_PATIENCE: Duration = Duration::from_secs(8);
/// A message without an answer is sent again after this, with the same id.
const ANSWER_PATIENCE: Duration = Duration::from_secs(7);
const HEARTBEAT: Duration = Duration::from_secs(25);

/// A conversation of the history.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) id: String,
    /// User ids of those who were there from the start.
    pub(super) members: Vec<String>,
    /// Members come and go.
    pub(super) is_open: bool,
}

/// What a device knows. Looked at from outside to see whether it is done.
#[derive(Debug, Default)]
pub(super) struct DeviceState {
    pub(super) name: String,
    pub(super) user_id: String,
    pub(super) epoch: String,
    pub(super) offset: u64,
    pub(super) is_welcomed: bool,
    /// Sends without a verdict, in their order.
    pub(super) unanswered: VecDeque<Unanswered>,
    pub(super) sends_left: u64,
    /// Conversation → the cursors of receipts that were answered with `ok`.
    pub(super) receipted: BTreeMap<String, (u64, u64)>,
}

/// A send without a verdict.
#[derive(Debug, Clone)]
pub(super) struct Unanswered {
    pub(super) client_message: String,
    conversation: String,
    request: u32,
    retry_at: Instant,
}

/// See the module.
pub(super) struct Device {
    world: Rc<World>,
    state: Rc<RefCell<DeviceState>>,
    token: String,
    rooms: Rc<RefCell<Vec<Room>>>,
    random: Random,
    request: u32,
    sends: u64,
    /// Conversation → the newest seq that it has from others.
    newest: BTreeMap<String, u64>,
    receipts: BTreeMap<u32, (String, u64, u64)>,
    /// Messages of its own: conversation and message id.
    own: Vec<(String, String)>,
    heartbeat_at: Instant,
}

/// Why a connection is given up.
enum Left {
    Broken,
    ForAWhile,
}

impl Device {
    pub(super) fn new(
        world: &Rc<World>,
        state: &Rc<RefCell<DeviceState>>,
        token: String,
        rooms: &Rc<RefCell<Vec<Room>>>,
        random: Random,
    ) -> Self {
        Self {
            world: Rc::clone(world),
            state: Rc::clone(state),
            token,
            rooms: Rc::clone(rooms),
            random,
            request: 0,
            sends: 0,
            newest: BTreeMap::new(),
            receipts: BTreeMap::new(),
            own: Vec::new(),
            heartbeat_at: Instant::now() + HEARTBEAT,
        }
    }

    /// Connects again and again, for ever.
    pub(super) async fn run(mut self) {
        loop {
            let pause = match self.session().await {
                Left::Broken => self.random.between(5, 400),
                Left::ForAWhile => self.random.between(5, 4_000),
            };
            let stormy = self.world.weather.is_stormy();
            self.state.borrow_mut().is_welcomed = false;
            sleep(Duration::from_millis(if stormy { pause } else { pause.min(50) })).await;
        }
    }

    fn name(&self) -> String {
        self.state.borrow().name.clone()
    }

    /// One connection, from hello to its end.
    async fn session(&mut self) -> Left {
        let edge = self.random.place(self.world.edge_count());
        let Some(mut connection) = self.world.connect(edge) else { return Left::Broken };
        let (epoch, offset) = (self.state.borrow().epoch.clone(), self.state.borrow().offset);
        let hello = client::Hello {
            token: self.token.clone(),
            device_id: self.name(),
            resume: (!epoch.is_empty()).then_some(client::Resume { epoch, offset }),
        };
        self.world.trace.say(|| format!("{}: connects to edge {edge}, after {offset}", self.name()));
        self.send(&connection, Command::Hello(hello));
        let welcomed = timeout(WELCOME_PATIENCE, self.welcome(&mut connection)).await;
        if welcomed != Ok(true) {
            self.world.trace.say(|| format!("{}: is not welcomed by edge {edge}", self.name()));
            return Left::Broken;
        }
        self.receipts.clear();
        self.send_again(&connection, |_| true);
        let mut act_at = Instant::now() + self.pause();
        loop {
            let incoming = tokio::select! {
                biased;
                incoming = connection.next() => Some(incoming),
                () = sleep_until(act_at) => None,
            };
            match incoming {
                Some(Incoming::Frame(frame)) => self.take(*frame),
                Some(Incoming::End(code)) => {
                    self.world.trace.say(|| format!("{}: the connection ended ({code:?})", self.name()));
                    return Left::Broken;
                }
                Some(Incoming::Garbage(what)) => {
                    self.world.find("protocol", format!("{}: {what}", self.name()));
                    return Left::Broken;
                }
                None => {
                    act_at = Instant::now() + self.pause();
                    if let Some(left) = self.act(&connection) {
                        return left;
                    }
                }
            }
        }
    }

    fn pause(&mut self) -> Duration {
        let millis = if self.world.weather.is_stormy() { self.random.between(5, 600) } else { 100 };
        Duration::from_millis(millis)
    }

    fn send(&mut self, connection: &ClientEnd, command: Command) -> u32 {
        self.request += 1;
        connection.send(&ClientFrame { id: self.request, command: Some(command) });
        self.request
    }

    /// Waits for the welcome; false: it does not come.
    async fn welcome(&mut self, connection: &mut ClientEnd) -> bool {
        let Incoming::Frame(frame) = connection.next().await else { return false };
        let Some(Body::Welcome(welcome)) = frame.body else { return false };
        let mut state = self.state.borrow_mut();
        if state.epoch.is_empty() || welcome.resync_required {
            if welcome.resync_required {
                self.world.find("lost", format!("{}: was told to resync after {}", state.name, state.offset));
            }
            (state.epoch, state.offset) = (welcome.epoch.clone(), welcome.offset);
        }
        state.is_welcomed = true;
        self.world.observe(Observation::Connected {
            device: state.name.clone(),
            user: state.user_id.clone(),
            epoch: welcome.epoch,
            after: state.offset,
        });
        true
    }

    // ---- what it does ----

    /// Does something of its own accord; or leaves.
    fn act(&mut self, connection: &ClientEnd) -> Option<Left> {
        let now = Instant::now();
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + HEARTBEAT;
            self.send(connection, Command::Heartbeat(client::Heartbeat::default()));
        }
        self.send_again(connection, |unanswered| unanswered.retry_at <= now);
        if !self.world.weather.is_stormy() {
            return None;
        }
        match self.random.below(100) {
            0..50 => self.send_message(connection),
            50..72 => self.send_receipt(connection),
            // Impatient: the same once more, although the answer may be on its way.
            72..78 => self.send_again(connection, |_| true),
            78..84 => self.change_message(connection),
            84..89 => self.change_members(connection),
            89..92 => self.be_social(connection),
            92..95 => {
                self.world.trace.say(|| format!("{}: says goodbye", self.name()));
                connection.close();
                return Some(Left::ForAWhile);
            }
            95..97 => {
                self.world.trace.say(|| format!("{}: is gone without a goodbye", self.name()));
                connection.pipe.cut(Cut::Silent);
                return Some(Left::ForAWhile);
            }
            _ => {}
        }
        None
    }

    fn room(&mut self) -> Option<Room> {
        let user = self.state.borrow().user_id.clone();
        let rooms = self.rooms.borrow();
        let own: Vec<&Room> = rooms.iter().filter(|room| room.is_open || room.members.contains(&user)).collect();
        self.random.pick(&own).map(|room| (*room).clone())
    }

    fn send_message(&mut self, connection: &ClientEnd) {
        if self.state.borrow().sends_left == 0 {
            return;
        }
        let Some(room) = self.room() else { return };
        self.state.borrow_mut().sends_left -= 1;
        self.sends += 1;
        let (name, user) = (self.name(), self.state.borrow().user_id.clone());
        let client_message = format!("{name}-m{}", self.sends);
        self.world.observe(Observation::Send {
            client_message: client_message.clone(),
            conversation: room.id.clone(),
            user,
        });
        let unanswered = Unanswered { client_message, conversation: room.id, request: 0, retry_at: Instant::now() };
        self.put(connection, unanswered);
    }

    /// Sends a message, for the first time or again.
    fn put(&mut self, connection: &ClientEnd, mut unanswered: Unanswered) {
        let send = client::Send {
            conversation_id: unanswered.conversation.clone(),
            client_message_id: unanswered.client_message.clone(),
            text: unanswered.client_message.clone(),
            ..Default::default()
        };
        unanswered.request = self.send(connection, Command::Send(send));
        unanswered.retry_at = Instant::now() + ANSWER_PATIENCE;
        self.world.trace.say(|| format!("{}: sends {}", self.name(), unanswered.client_message));
        self.state.borrow_mut().unanswered.push_back(unanswered);
    }

    fn send_again(&mut self, connection: &ClientEnd, which: impl Fn(&Unanswered) -> bool) {
        let waiting = std::mem::take(&mut self.state.borrow_mut().unanswered);
        for unanswered in waiting {
            if which(&unanswered) {
                self.put(connection, unanswered);
            } else {
                self.state.borrow_mut().unanswered.push_back(unanswered);
            }
        }
    }

    fn send_receipt(&mut self, connection: &ClientEnd) {
        let newest: Vec<(String, u64)> = self.newest.iter().map(|(room, seq)| (room.clone(), *seq)).collect();
        let Some((conversation, seq)) = self.random.pick(&newest).cloned() else { return };
        let delivered = seq - self.random.below(seq.min(3));
        let seen = if self.random.chance(600) { self.random.below(delivered + 1) } else { 0 };
        let receipt =
            client::SendReceipt { conversation_id: conversation.clone(), delivered_seq: delivered, seen_seq: seen };
        let request = self.send(connection, Command::Receipt(receipt));
        self.receipts.insert(request, (conversation, delivered, seen));
    }

    fn change_message(&mut self, connection: &ClientEnd) {
        let Some((conversation_id, message_id)) = self.random.pick(&self.own).cloned() else { return };
        let command = if self.random.chance(700) {
            let text = format!("edited {}", self.request);
            Command::EditMessage(client::EditMessage { conversation_id, message_id, text })
        } else {
            Command::DeleteMessage(client::DeleteMessage { conversation_id, message_id })
        };
        self.send(connection, command);
    }

    fn change_members(&mut self, connection: &ClientEnd) {
        let users = self.world.user_ids();
        let open: Vec<Room> = self.rooms.borrow().iter().filter(|room| room.is_open).cloned().collect();
        let Some(room) = self.random.pick(&open).cloned() else { return };
        let Some(user_id) = self.random.pick(&users).cloned() else { return };
        let conversation_id = room.id;
        let command = match self.random.below(3) {
            0 => Command::AddMember(client::AddMember { conversation_id, user_id, role: String::new() }),
            1 => Command::RemoveMember(client::RemoveMember { conversation_id, user_id }),
            _ => Command::RenameConversation(client::RenameConversation {
                conversation_id,
                title: format!("title {}", self.request),
            }),
        };
        self.send(connection, command);
    }

    fn be_social(&mut self, connection: &ClientEnd) {
        let command = if self.random.chance(500) {
            let Some(room) = self.room() else { return };
            Command::Typing(client::SendTyping { conversation_id: room.id })
        } else {
            Command::WatchPresence(client::WatchPresence { user_ids: self.world.user_ids() })
        };
        self.send(connection, command);
    }

    fn is_open(&self, conversation: &str) -> bool {
        self.rooms.borrow().iter().any(|room| room.is_open && room.id == conversation)
    }

    // ---- what it sees ----

    fn take(&mut self, frame: ServerFrame) {
        match frame.body {
            Some(Body::Update(update)) => self.updated(update),
            Some(Body::Sent(sent)) => self.sent(frame.id, sent.message.unwrap_or_default()),
            Some(Body::Rejected(rejected)) => {
                let code = rejected.error.unwrap_or_default().code;
                self.rejected(&rejected.client_message_id, code);
            }
            Some(Body::Error(error)) => self.refused(frame.id, &error),
            Some(Body::Ok(_)) => {
                let Some((conversation, delivered, seen)) = frame.id.and_then(|id| self.receipts.remove(&id)) else {
                    return;
                };
                let mut state = self.state.borrow_mut();
                let cursors = state.receipted.entry(conversation).or_default();
                *cursors = (cursors.0.max(delivered).max(seen), cursors.1.max(seen));
            }
            _ => {}
        }
    }

    fn sent(&mut self, request: Option<u32>, message: client::Message) {
        let known = {
            let mut state = self.state.borrow_mut();
            let is_it = |waiting: &Unanswered| Some(waiting.request) == request;
            // An answer to an earlier try is as good.
            let is_same = |waiting: &Unanswered| waiting.client_message == message.client_message_id;
            let place = state.unanswered.iter().position(|waiting| is_it(waiting) || is_same(waiting));
            place.and_then(|place| state.unanswered.remove(place))
        };
        if known.as_ref().is_some_and(|waiting| waiting.client_message != message.client_message_id) {
            self.world.find("protocol", format!("{}: {request:?} was answered for another message", self.name()));
        }
        self.own.push((message.conversation_id.clone(), message.message_id.clone()));
        self.world.observe(Observation::Sent {
            client_message: message.client_message_id,
            conversation: message.conversation_id,
            message: message.message_id,
            seq: message.seq,
        });
    }

    fn refused(&mut self, request: Option<u32>, error: &client::Error) {
        if let Some(request) = request {
            self.receipts.remove(&request);
        }
        let refused = {
            let mut state = self.state.borrow_mut();
            let place = state.unanswered.iter().position(|waiting| Some(waiting.request) == request);
            let Some(place) = place else { return };
            if error.retryable {
                let wait = error.retry_after_ms.map_or(self.random.between(20, 500), u64::from);
                state.unanswered[place].retry_at = Instant::now() + Duration::from_millis(wait);
                return;
            }
            state.unanswered.remove(place)
        };
        if let Some(refused) = refused {
            self.verdict_is_no(&refused.client_message, error.code.clone());
        }
    }

    fn rejected(&mut self, client_message: &str, code: String) {
        let known = {
            let mut state = self.state.borrow_mut();
            let place = state.unanswered.iter().position(|waiting| waiting.client_message == client_message);
            place.and_then(|place| state.unanswered.remove(place))
        };
        if known.is_some() {
            self.verdict_is_no(client_message, code);
        }
    }

    fn verdict_is_no(&self, client_message: &str, code: String) {
        self.world.observe(Observation::Rejected { client_message: client_message.to_owned(), code });
    }

    fn updated(&mut self, update: client::Update) {
        let device = self.name();
        let offset = update.offset;
        {
            let mut state = self.state.borrow_mut();
            state.offset = state.offset.max(offset);
        }
        self.world.observe(match update.kind {
            Some(Kind::Message(message)) => {
                if message.sender_id != self.state.borrow().user_id {
                    let newest = self.newest.entry(message.conversation_id.clone()).or_default();
                    *newest = message.seq.max(*newest);
                }
                Observation::Message {
                    device,
                    offset,
                    conversation: message.conversation_id,
                    seq: message.seq,
                    message: message.message_id,
                    client_message: message.client_message_id,
                }
            }
            // Where members come and go, the least of all the others' cursors may go back.
            Some(Kind::Receipt(receipt)) if !self.is_open(&receipt.conversation_id) => Observation::Receipt {
                device,
                offset,
                conversation: receipt.conversation_id,
                user: receipt.user_id,
                cursors: [
                    receipt.delivered_seq,
                    receipt.seen_seq,
                    receipt.delivered_to_all_seq,
                    receipt.seen_by_all_seq,
                ],
            },
            _ => Observation::Other { device, offset },
        });
    }
}
