//! From a client's frame to the command, and from its result to the reply. Sends and receipts are taken at once and
//! answered by a call back; what has to read first gets a task of its own.

use std::{future::Future, sync::Arc};

use tidings_schemas::{
    client::{self, ClientFrame, client_frame::Command, server_frame::Body},
    ids::UserId,
    limits::PRESENCE_WATCHES_MAX,
};

use super::{
    format::{notice, reply},
    queue::{Connection, InFlight},
    task::Context,
};
use crate::{
    commands::{SendEvent, validate},
    error::ApiError,
    metrics::Door,
    sessions::Session,
};

/// Does what a frame asks for. `hello` has been dealt with before.
pub(super) fn dispatch(context: &Arc<Context>, session: &Arc<Session>, frame: ClientFrame) {
    let connection = session.connection();
    let id = frame.id;
    let Some(command) = frame.command else {
        let error = ApiError::invalid_argument("the frame has no command that this server knows");
        return connection.reply_error(id, &error);
    };
    match command {
        Command::Hello(_) => {
            connection.reply_error(id, &ApiError::invalid_argument("hello was said already: open another connection"));
        }
        // The sign of life is noted with every frame.
        Command::Heartbeat(_) => {}
        Command::Send(send) => submit_send(context, session, id, send),
        Command::Receipt(receipt) => submit_receipt(context, session, id, &receipt),
        Command::Typing(typing) => type_in(context, session, id, typing),
        Command::WatchPresence(watch) => respond(session, id, || watch_presence(context, session, id, &watch)),
        Command::UnwatchPresence(watch) => respond(session, id, || unwatch_presence(context, session, id, &watch)),
        command => spawn_change(context, session, id, command),
    }
}

fn submit_send(context: &Arc<Context>, session: &Arc<Session>, id: u32, send: client::Send) {
    let client_message_id = send.client_message_id.clone();
    let mut in_flight = Some(session.connection().command_begins());
    let (event_context, event_session) = (Arc::clone(context), Arc::clone(session));
    let on_event = move |event| {
        let connection = event_session.connection();
        match event {
            SendEvent::Sent(message) => connection.reply(id, sent(message)),
            SendEvent::Queued(message_id) => {
                connection.reply(id, Body::Queued(client::Queued { message_id: message_id.to_string() }));
            }
            SendEvent::Refused(error) => connection.reply_error(id, &error),
            SendEvent::Rejected(error) => {
                event_context.metrics.error(Door::WebSocket, error.code);
                let rejected =
                    client::Rejected { client_message_id: client_message_id.clone(), error: Some(error.to_client()) };
                connection.send(&notice(Body::Rejected(rejected)));
            }
            SendEvent::Repeat { conversation, seq } => {
                let commands = Arc::clone(&event_context.commands);
                let repeated = async move { commands.repeated(conversation, seq).await.map(sent) };
                spawn_reply(connection, id, in_flight.take(), repeated);
            }
        }
        in_flight = None;
    };
    if let Err(error) = context.commands.submit_send(session.user_id(), send, on_event) {
        session.connection().reply_error(id, &error);
    }
}

fn sent(message: client::Message) -> Body {
    Body::Sent(client::Sent { message: Some(message) })
}

fn submit_receipt(context: &Arc<Context>, session: &Arc<Session>, id: u32, receipt: &client::SendReceipt) {
    let connection = Arc::clone(session.connection());
    let in_flight = connection.command_begins();
    let on_done = move |result| {
        match result {
            Ok(()) => connection.reply(id, Body::Ok(client::Ok {})),
            Err(error) => connection.reply_error(id, &error),
        }
        drop(in_flight);
    };
    context.commands.receipts.submit(session.user_id(), receipt, Box::new(on_done));
}

/// No reply, except to say what is wrong.
fn type_in(context: &Arc<Context>, session: &Arc<Session>, id: u32, typing: client::SendTyping) {
    let conversation = match validate::conversation_id(&typing.conversation_id) {
        Ok(conversation) => conversation,
        Err(error) => return session.connection().reply_error(id, &error),
    };
    if !session.may_type(conversation) {
        return context.metrics.dropped("typing_too_often");
    }
    let in_flight = session.connection().command_begins();
    let (context, session) = (Arc::clone(context), Arc::clone(session));
    tokio::spawn(async move {
        let user = session.user_id();
        let recipients = async {
            context.commands.membership.check(user, conversation).await?;
            context.commands.reads.member_ids(conversation).await
        };
        match recipients.await {
            Ok(mut recipients) => {
                recipients.retain(|recipient| *recipient != user);
                context.signals.typing(conversation, user, &recipients);
            }
            Err(error) => session.connection().reply_error(id, &error),
        }
        drop(in_flight);
    });
}

fn watch_presence(
    context: &Context,
    session: &Session,
    id: u32,
    watch: &client::WatchPresence,
) -> Result<(), ApiError> {
    let users = user_ids(watch)?;
    context.commands.take_from_rate(session.user_id())?;
    session.watched().watch(&users, || {
        // The reply first: the presence of those watched comes after it.
        session.connection().reply(id, Body::Ok(client::Ok {}));
        context.signals.watch(session.session_id(), &users, true);
    })
}

fn unwatch_presence(
    context: &Context,
    session: &Session,
    id: u32,
    watch: &client::WatchPresence,
) -> Result<(), ApiError> {
    let users = user_ids(watch)?;
    context.commands.take_from_rate(session.user_id())?;
    session.watched().unwatch(&users, || context.signals.watch(session.session_id(), &users, false));
    session.connection().reply(id, Body::Ok(client::Ok {}));
    Ok(())
}

fn user_ids(watch: &client::WatchPresence) -> Result<Vec<UserId>, ApiError> {
    if watch.user_ids.len() > PRESENCE_WATCHES_MAX {
        let message = format!("user_ids may have at most {PRESENCE_WATCHES_MAX} entries");
        return Err(ApiError::invalid_argument(message));
    }
    watch.user_ids.iter().map(|id| validate::user_id(id)).collect()
}

/// The commands that change a conversation or a message.
fn spawn_change(context: &Arc<Context>, session: &Arc<Session>, id: u32, command: Command) {
    let connection = session.connection();
    let in_flight = connection.command_begins();
    let (context, actor) = (Arc::clone(context), session.user_id());
    spawn_reply(connection, id, Some(in_flight), async move { change(&context, actor, command).await });
}

async fn change(context: &Context, actor: UserId, command: Command) -> Result<Body, ApiError> {
    use validate::{conversation_id, message_id, role, user_id};
    let commands = &context.commands;
    match command {
        Command::CreateConversation(request) => {
            commands.create_conversation(actor, request).await.map(Body::Conversation)
        }
        Command::AddMember(client::AddMember { conversation_id: conversation, user_id: user, role: name }) => {
            let (conversation, user, role) = (conversation_id(&conversation)?, user_id(&user)?, role(&name)?);
            commands.put_member(actor, conversation, user, role).await.map(Body::Conversation)
        }
        Command::SetRole(client::SetRole { conversation_id: conversation, user_id: user, role: name }) => {
            if name.is_empty() {
                return Err(ApiError::invalid_argument("role must be one of owner, admin, member"));
            }
            let (conversation, user, role) = (conversation_id(&conversation)?, user_id(&user)?, role(&name)?);
            commands.put_member(actor, conversation, user, role).await.map(Body::Conversation)
        }
        Command::RemoveMember(client::RemoveMember { conversation_id: conversation, user_id: user }) => {
            let (conversation, user) = (conversation_id(&conversation)?, user_id(&user)?);
            commands.remove_member(actor, conversation, user).await.map(Body::Conversation)
        }
        Command::RenameConversation(client::RenameConversation { conversation_id: conversation, title }) => {
            let conversation = conversation_id(&conversation)?;
            commands.rename_conversation(actor, conversation, title).await.map(Body::Conversation)
        }
        Command::DeleteConversation(client::DeleteConversation { conversation_id: conversation }) => {
            let conversation = conversation_id(&conversation)?;
            commands.delete_conversation(actor, conversation).await.map(Body::Conversation)
        }
        Command::EditMessage(client::EditMessage { conversation_id: conversation, message_id: message, text }) => {
            let (conversation, message) = (conversation_id(&conversation)?, message_id(&message)?);
            commands.edit_message(actor, conversation, message, text).await.map(Body::Message)
        }
        Command::DeleteMessage(client::DeleteMessage { conversation_id: conversation, message_id: message }) => {
            let (conversation, message) = (conversation_id(&conversation)?, message_id(&message)?);
            commands.delete_message(actor, conversation, message).await.map(Body::Message)
        }
        Command::Hello(_)
        | Command::Send(_)
        | Command::Receipt(_)
        | Command::Heartbeat(_)
        | Command::Typing(_)
        | Command::WatchPresence(_)
        | Command::UnwatchPresence(_) => Err(ApiError::internal("the command went the wrong way inside the edge")),
    }
}

fn respond(session: &Session, id: u32, command: impl FnOnce() -> Result<(), ApiError>) {
    if let Err(error) = command() {
        session.connection().reply_error(id, &error);
    }
}

/// Replies with what becomes of `result`. The command counts as in flight until then, even if it panics.
fn spawn_reply(
    connection: &Arc<Connection>,
    id: u32,
    in_flight: Option<InFlight>,
    result: impl Future<Output = Result<Body, ApiError>> + Send + 'static,
) {
    let connection = Arc::clone(connection);
    tokio::spawn(async move {
        match result.await {
            Ok(body) => connection.send(&reply(id, body)),
            Err(error) => connection.reply_error(id, &error),
        }
        drop(in_flight);
    });
}
