//! Error codes of the client contract: one closed list, with the HTTP status and whether a retry can help; and the
//! WebSocket close codes.

use crate::wire::ErrorCode;

impl ErrorCode {
    /// All codes that a client can meet.
    pub const ALL: [Self; 13] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotAMember,
        Self::NotFound,
        Self::AlreadyExists,
        Self::ConversationFull,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::RateLimited,
        Self::Unavailable,
        Self::Internal,
        Self::LastOwner,
    ];

    /// The code as clients read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotAMember => "not_a_member",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::ConversationFull => "conversation_full",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Internal | Self::Unspecified => "internal",
            Self::LastOwner => "last_owner",
        }
    }

    /// The HTTP status that goes with it.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied | Self::NotAMember => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::ConversationFull | Self::LastOwner => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RateLimited => 429,
            Self::Unavailable => 503,
            Self::Internal | Self::Unspecified => 500,
        }
    }

    /// Whether the same request can succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Internal | Self::Unspecified)
    }
}

/// Why the server closed a WebSocket. 4000–4499: come back, with back-off and jitter. 4500–4999: do not come back
/// unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The edge is being drained.
    GoingAway = 4000,
    /// The client read too slowly and its outgoing queue was full.
    SlowConsumer = 4001,
    /// Two pings went unanswered.
    PingTimeout = 4002,
    /// The edge has no room for another connection.
    Overloaded = 4003,
    /// No valid token in the first frame, or no first frame in time.
    Unauthenticated = 4500,
    /// A frame that is not of the protocol.
    ProtocolError = 4501,
    /// The token expired.
    TokenExpired = 4502,
    /// The same device opened a newer session.
    SessionReplaced = 4503,
    /// A frame over the limit.
    TooLarge = 4504,
}

impl CloseCode {
    /// The reason text that goes with the code.
    pub fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "going_away",
            Self::SlowConsumer => "slow_consumer",
            Self::PingTimeout => "ping_timeout",
            Self::Overloaded => "overloaded",
            Self::Unauthenticated => "unauthenticated",
            Self::ProtocolError => "protocol_error",
            Self::TokenExpired => "token_expired",
            Self::SessionReplaced => "session_replaced",
            Self::TooLarge => "too_large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_enum_names_in_lower_case() {
        for code in ErrorCode::ALL {
            let expected = code.as_str_name().trim_start_matches("ERROR_CODE_").to_lowercase();
            assert_eq!(code.name(), expected);
        }
    }
}
