//! Why an event was refused, with the text that the client reads.

use tidings_schemas::wire::ErrorCode;

/// A reason to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: &'static str,
}

const fn refusal(code: ErrorCode, message: &'static str) -> Refusal {
    Refusal { code, message }
}

pub(super) const NO_SUBJECT: Refusal =
    refusal(ErrorCode::InvalidArgument, "the event names no conversation or no actor");
pub(super) const NOT_FOUND: Refusal = refusal(ErrorCode::NotFound, "there is no such conversation");
pub(super) const NOT_A_MEMBER: Refusal = refusal(ErrorCode::NotAMember, "you are not a member of this conversation");
pub(super) const NO_CLIENT_MESSAGE_ID: Refusal =
    refusal(ErrorCode::InvalidArgument, "client_message_id is missing: choose a UUID for each message");
pub(super) const NO_TARGET: Refusal = refusal(ErrorCode::InvalidArgument, "the event does not name its message");
pub(super) const NOT_THE_SENDER: Refusal = refusal(ErrorCode::PermissionDenied, "only the sender can edit a message");
pub(super) const MAY_NOT_DELETE: Refusal =
    refusal(ErrorCode::PermissionDenied, "only the sender, the owner or an admin can delete a message");
pub(super) const NO_SUCH_MESSAGE: Refusal = refusal(ErrorCode::NotFound, "there is no such message, or it was deleted");
pub(super) const UNKNOWN_KIND: Refusal = refusal(ErrorCode::InvalidArgument, "kind must be \"direct\" or \"group\"");
pub(super) const NOT_TWO: Refusal =
    refusal(ErrorCode::InvalidArgument, "a direct chat has exactly two members: name one user who is not yourself");
pub(super) const WRONG_DIRECT_ID: Refusal =
    refusal(ErrorCode::InvalidArgument, "the id of a direct chat follows from its two users, and this one does not");
pub(super) const ALREADY_EXISTS: Refusal = refusal(ErrorCode::AlreadyExists, "this conversation id is taken");
pub(super) const TITLE_TOO_LONG: Refusal =
    refusal(ErrorCode::InvalidArgument, "the title is too long: at most 128 characters");
pub(super) const FULL: Refusal = refusal(ErrorCode::ConversationFull, "the group is full");
pub(super) const DIRECT: Refusal = refusal(ErrorCode::PermissionDenied, "a direct chat has exactly two members");
pub(super) const NO_USER: Refusal = refusal(ErrorCode::InvalidArgument, "the event names no user");
pub(super) const UNKNOWN_ROLE: Refusal =
    refusal(ErrorCode::InvalidArgument, "role must be \"owner\", \"admin\" or \"member\"");
pub(super) const NOT_A_MANAGER: Refusal = refusal(ErrorCode::PermissionDenied, "only the owner and admins can do this");
pub(super) const NOT_THE_OWNER: Refusal = refusal(ErrorCode::PermissionDenied, "only the owner can do this");
pub(super) const LAST_OWNER: Refusal =
    refusal(ErrorCode::LastOwner, "a group has an owner: make another member the owner first");
pub(super) const TARGET_NOT_A_MEMBER: Refusal =
    refusal(ErrorCode::NotFound, "this user is not a member of the conversation");
