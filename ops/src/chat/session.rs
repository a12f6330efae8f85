//! The connection of the terminal client: kept up with resume, sends tried again under the same id.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use anyhow::{Context, Result};
use hyper::Method;
use tidings_schemas::{
    client::{self, ServerFrame, client_frame::Command, server_frame::Body, update::Kind},
    clock::{Entropy, SystemEntropy},
    ids::UserId,
    limits,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    SignedIn,
    commands::{self, Typed},
    view::{self, Print},
};
use crate::client::{
    Api, Format, Server, Socket,
    socket::{Closed, Resume},
};

const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);
/// Texts that wait for a connection or an answer. More: typing waits.
const UNANSWERED_MAX: usize = 1_000;
const NO_CONVERSATION: &str = "no conversation is open (hint: /with NAME, or /list and /open N)";

struct Chat {
    server: Server,
    api: Api,
    me: SignedIn,
    print: Print,
    device_id: String,
    resume: Resume,
    request: u32,
    open: Option<client::Conversation>,
    listed: Vec<client::Conversation>,
    titles: HashMap<String, String>,
    names: HashMap<String, String>,
    /// The newest message shown of each conversation: what was read as history may come as an update, too.
    shown: HashMap<String, u64>,
    /// Sends without an answer, oldest first.
    unanswered: VecDeque<(u32, client::Send)>,
}

enum Next {
    Frame(Box<ServerFrame>),
    Lost(anyhow::Error),
    Line(Option<String>),
    Heartbeat,
}

/// Chats until the input ends.
pub(crate) async fn chat(
    server: Server,
    api: Api,
    me: SignedIn,
    with: Option<String>,
    mut typed: mpsc::Receiver<String>,
    print: Print,
) -> Result<()> {
    let device_id = format!("terminal-{:016x}", SystemEntropy.next_u64());
    let mut chat = Chat {
        server,
        api,
        me,
        print,
        device_id,
        resume: Resume::default(),
        request: 0,
        open: None,
        listed: Vec::new(),
        titles: HashMap::new(),
        names: HashMap::new(),
        shown: HashMap::new(),
        unanswered: VecDeque::new(),
    };
    chat.names.insert(chat.me.user_id.clone(), chat.me.username.clone());
    let mut socket = chat.connect().await?;
    chat.say(format!("signed in as {} (hint: /help)", chat.me.username));
    match with {
        Some(name) => chat.perform(Typed::With(name)).await,
        None => chat.perform(Typed::List).await,
    }
    let mut heartbeat_at = Instant::now() + limits::HEARTBEAT_INTERVAL;
    let mut input_open = true;
    // After the end of the input, what was typed is still to be answered.
    while input_open || !chat.unanswered.is_empty() {
        let next = tokio::select! {
            frame = socket.next() => frame.map_or_else(Next::Lost, |frame| Next::Frame(Box::new(frame))),
            line = typed.recv(), if input_open && chat.unanswered.len() < UNANSWERED_MAX => Next::Line(line),
            () = sleep_until(heartbeat_at) => Next::Heartbeat,
        };
        let done = match next {
            Next::Frame(frame) => chat.handle(&mut socket, *frame).await,
            Next::Lost(error) => Err(error),
            Next::Line(None) => {
                input_open = false;
                Ok(())
            }
            Next::Line(Some(line)) => match commands::parse(&line) {
                Ok(Typed::Quit) => break,
                Ok(Typed::Text(text)) if text.is_empty() => Ok(()),
                Ok(Typed::Text(text)) => chat.send_text(&mut socket, text).await,
                Ok(other) => {
                    chat.perform(other).await;
                    Ok(())
                }
                Err(hint) => {
                    chat.say(hint);
                    Ok(())
                }
            },
            Next::Heartbeat => {
                heartbeat_at = Instant::now() + limits::HEARTBEAT_INTERVAL;
                socket.send(0, Command::Heartbeat(client::Heartbeat::default())).await
            }
        };
        if let Err(error) = done {
            if error.downcast_ref::<Closed>().is_some_and(|closed| !closed.may_come_back()) {
                chat.say(format!("! {error:#} (hint: Enter leaves)"));
                return Err(error);
            }
            chat.say("the connection is lost: connecting again".to_owned());
            socket = chat.connect().await?;
            chat.say("connected".to_owned());
        }
    }
    socket.close().await;
    Ok(())
}

impl Chat {
    fn say(&mut self, text: String) {
        (self.print)(text);
    }

    async fn connect(&mut self) -> Result<Socket> {
        let mut delay = Duration::from_millis(200);
        loop {
            let connected =
                Socket::connect(&self.server, Format::Json, &self.me.token, &self.device_id, &self.resume).await;
            match connected {
                Ok((mut socket, welcome)) => {
                    if self.resume.epoch.is_empty() || welcome.resync_required {
                        self.resume = Resume { epoch: welcome.epoch, offset: welcome.offset };
                    }
                    let again: Vec<_> = self.unanswered.iter().cloned().collect();
                    let mut kept = true;
                    for (request, send) in again {
                        kept = kept && socket.send(request, Command::Send(send)).await.is_ok();
                    }
                    if kept {
                        return Ok(socket);
                    }
                }
                Err(error) if self.resume.epoch.is_empty() => return Err(error),
                Err(error) if error.downcast_ref::<Closed>().is_some_and(|closed| !closed.may_come_back()) => {
                    return Err(error);
                }
                Err(_) => {}
            }
            sleep(delay).await;
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }

    async fn send_text(&mut self, socket: &mut Socket, text: String) -> Result<()> {
        let Some(open) = &self.open else {
            self.say(NO_CONVERSATION.to_owned());
            return Ok(());
        };
        let send = client::Send {
            conversation_id: open.conversation_id.clone(),
            client_message_id: UserId::random(SystemEntropy.next_u128()).to_string(),
            text,
            ..Default::default()
        };
        self.request = self.request.wrapping_add(1).max(1);
        self.unanswered.push_back((self.request, send.clone()));
        socket.send(self.request, Command::Send(send)).await
    }

    async fn handle(&mut self, socket: &mut Socket, frame: ServerFrame) -> Result<()> {
        match frame.body {
            Some(Body::Sent(_) | Body::Queued(_)) => {
                self.unanswered.retain(|(request, _)| Some(*request) != frame.id);
            }
            Some(Body::Error(error)) => {
                let refused = self.unanswered.iter().find(|(request, _)| Some(*request) == frame.id).cloned();
                match refused {
                    Some((request, send)) if error.retryable => {
                        sleep(Duration::from_millis(error.retry_after_ms.unwrap_or(500).into())).await;
                        socket.send(request, Command::Send(send)).await?;
                    }
                    _ => {
                        self.unanswered.retain(|(request, _)| Some(*request) != frame.id);
                        self.say(format!("! {} ({})", error.message, error.code));
                    }
                }
            }
            Some(Body::Rejected(rejected)) => {
                let error = rejected.error.unwrap_or_default();
                self.say(format!("! not sent: {} ({})", error.message, error.code));
            }
            Some(Body::Update(update)) => self.updated(socket, update).await?,
            Some(Body::Typing(typing)) if self.is_open(&typing.conversation_id) => {
                let name = self.name(&typing.user_id).await;
                self.say(format!("  … {name} is typing"));
            }
            Some(Body::Goaway(_)) => self.say("the server is going away for a moment".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn is_open(&self, conversation_id: &str) -> bool {
        self.open.as_ref().is_some_and(|open| open.conversation_id == conversation_id)
    }

    async fn updated(&mut self, socket: &mut Socket, update: client::Update) -> Result<()> {
        self.resume.offset = self.resume.offset.max(update.offset);
        match update.kind {
            Some(Kind::Message(message)) => {
                if self.shown.get(&message.conversation_id).is_none_or(|shown| message.seq > *shown) {
                    self.show(&message).await;
                }
                if message.sender_id != self.me.user_id {
                    let seen_seq = if self.is_open(&message.conversation_id) { message.seq } else { 0 };
                    let conversation_id = message.conversation_id;
                    let receipt = client::SendReceipt { conversation_id, delivered_seq: message.seq, seen_seq };
                    socket.send(0, Command::Receipt(receipt)).await?;
                }
            }
            Some(Kind::MessageChanged(message)) => self.show(&message).await,
            Some(Kind::Conversation(conversation)) => {
                self.titles.insert(conversation.conversation_id.clone(), view::title(&conversation));
            }
            _ => {}
        }
        Ok(())
    }

    async fn show(&mut self, message: &client::Message) {
        let shown = self.shown.entry(message.conversation_id.clone()).or_default();
        *shown = message.seq.max(*shown);
        let title = self.title_of(&message.conversation_id).await;
        let membership = message.membership.as_ref();
        let users = [Some(&message.sender_id), membership.map(|m| &m.by), membership.and_then(|m| m.user_id.as_ref())];
        for user in users.into_iter().flatten() {
            self.name(user).await;
        }
        let names = &self.names;
        let line = view::message(message, &title, |id| names.get(id).cloned().unwrap_or_else(|| "somebody".to_owned()));
        self.say(line);
    }

    async fn name(&mut self, user_id: &str) -> String {
        if let Some(name) = self.names.get(user_id) {
            return name.clone();
        }
        let user = self.api.get::<client::User>(&format!("/v1/users/{user_id}"), &self.me.token).await;
        let name = user.map_or_else(|_| "somebody".to_owned(), |user| user.username);
        self.names.insert(user_id.to_owned(), name.clone());
        name
    }

    async fn title_of(&mut self, conversation_id: &str) -> String {
        if let Some(title) = self.titles.get(conversation_id) {
            return title.clone();
        }
        let path = format!("/v1/conversations/{conversation_id}");
        match self.api.get::<client::Conversation>(&path, &self.me.token).await {
            Ok(conversation) => {
                let title = view::title(&conversation);
                self.titles.insert(conversation_id.to_owned(), title.clone());
                title
            }
            Err(_) => "?".to_owned(),
        }
    }

    /// Does what was typed; what goes wrong is shown, and the chat goes on.
    async fn perform(&mut self, typed: Typed) {
        if let Err(error) = self.try_perform(typed).await {
            self.say(format!("! {error:#}"));
        }
    }

    async fn try_perform(&mut self, typed: Typed) -> Result<()> {
        match typed {
            Typed::List => self.list().await,
            Typed::Open(number) => {
                let place = number.checked_sub(1).and_then(|index| self.listed.get(index));
                let conversation = place.cloned().context("the list has no such number (hint: /list)")?;
                self.open(conversation).await
            }
            Typed::With(name) => {
                let user = self.user(&name).await?;
                self.create(client::conversation_kind::Value::Direct, "", vec![user.user_id]).await
            }
            Typed::Group(title, names) => {
                let mut members = Vec::new();
                for name in names {
                    members.push(self.user(&name).await?.user_id);
                }
                self.create(client::conversation_kind::Value::Group, &title, members).await
            }
            Typed::Add(name) => {
                let user = self.user(&name).await?;
                let body = client::PutMemberRequest::default();
                self.change_member(Method::PUT, &user.user_id, Some(&body)).await
            }
            Typed::Remove(name) => {
                let user = self.user(&name).await?;
                self.change_member(Method::DELETE, &user.user_id, None).await
            }
            Typed::Leave => {
                let me = self.me.user_id.clone();
                self.change_member(Method::DELETE, &me, None).await?;
                self.open = None;
                Ok(())
            }
            Typed::Members => self.members().await,
            Typed::History(count) => self.history(count).await,
            Typed::Who(name) => {
                let user = self.user(&name).await?;
                let path = format!("/v1/users/{}/presence", user.user_id);
                let presence: client::Presence = self.api.get(&path, &self.me.token).await?;
                let text = match (presence.online, presence.last_seen_at) {
                    (true, _) => "online".to_owned(),
                    (false, Some(at)) => format!("last seen {at}"),
                    (false, None) => "never seen".to_owned(),
                };
                self.say(format!("{name}: {text}"));
                Ok(())
            }
            Typed::Help => {
                self.say(commands::HELP.to_owned());
                Ok(())
            }
            Typed::Text(_) | Typed::Quit => Ok(()),
        }
    }

    async fn list(&mut self) -> Result<()> {
        let page: client::ListConversationsResponse = self.api.get("/v1/conversations", &self.me.token).await?;
        self.listed = page.conversations;
        if self.listed.is_empty() {
            self.say("no conversations yet (hint: /with NAME)".to_owned());
        }
        let lines: Vec<String> = self.listed.iter().enumerate().map(|(n, c)| view::conversation(n + 1, c)).collect();
        for line in lines {
            self.say(line);
        }
        Ok(())
    }

    async fn user(&mut self, name: &str) -> Result<client::User> {
        let query: String = name
            .bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
            .collect();
        self.api
            .get(&format!("/v1/users?username={query}"), &self.me.token)
            .await
            .with_context(|| format!("cannot find {name}"))
    }

    async fn create(
        &mut self,
        kind: client::conversation_kind::Value,
        title: &str,
        member_ids: Vec<String>,
    ) -> Result<()> {
        let request = client::CreateConversation { kind: kind.into(), title: title.to_owned(), member_ids };
        let made = self.api.call(Method::POST, "/v1/conversations", &self.me.token, Some(&request)).await?;
        self.open(made).await
    }

    async fn open(&mut self, conversation: client::Conversation) -> Result<()> {
        let title = view::title(&conversation);
        self.titles.insert(conversation.conversation_id.clone(), title.clone());
        self.open = Some(conversation);
        self.say(format!("--- {title} ---"));
        self.history(10).await
    }

    async fn history(&mut self, count: usize) -> Result<()> {
        let open = self.open.as_ref().context(NO_CONVERSATION)?;
        let path = format!("/v1/conversations/{}/messages?limit={count}", open.conversation_id);
        let page: client::ListMessagesResponse = self.api.get(&path, &self.me.token).await?;
        for message in page.messages.iter().rev() {
            self.show(message).await;
        }
        Ok(())
    }

    async fn members(&mut self) -> Result<()> {
        let open = self.open.as_ref().context(NO_CONVERSATION)?;
        let path = format!("/v1/conversations/{}/members", open.conversation_id);
        let page: client::ListMembersResponse = self.api.get(&path, &self.me.token).await?;
        for member in page.members {
            self.say(format!("{}  {}  (seen up to {})", member.username, member.role, member.seen_seq));
        }
        Ok(())
    }

    async fn change_member(
        &mut self,
        method: Method,
        user_id: &str,
        body: Option<&client::PutMemberRequest>,
    ) -> Result<()> {
        let open = self.open.as_ref().context(NO_CONVERSATION)?;
        let path = format!("/v1/conversations/{}/members/{user_id}", open.conversation_id);
        let _: serde_json::Value = self.api.call(method, &path, &self.me.token, body).await?;
        Ok(())
    }
}
