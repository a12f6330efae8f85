//! What can be typed.

/// A typed line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Text for the open conversation.
    Text(String),
    /// The conversations.
    List,
    /// Open conversation number N of the list.
    Open(usize),
    /// Open (or begin) the direct chat with a user.
    With(String),
    /// Begin a group: title, then members.
    Group(String, Vec<String>),
    /// Add a user to the open group.
    Add(String),
    /// Remove a user from the open group.
    Remove(String),
    /// Leave the open group.
    Leave,
    /// The open conversation's members.
    Members,
    /// The newest N messages of the open conversation.
    History(usize),
    /// Whether a user is online.
    Who(String),
    /// What can be typed.
    Help,
    /// Goodbye.
    Quit,
}

/// Shown by `/help`.
pub(crate) const HELP: &str = "\
/list                     your conversations
/open N                   open number N of the list
/with NAME                open the direct chat with NAME
/group TITLE: NAME, NAME  begin a group
/add NAME   /remove NAME  change the open group's members
/members    /leave        its members; leave it
/history [N]              its newest messages
/who NAME                 whether NAME is online
/quit                     goodbye
anything else             is sent to the open conversation (// begins a text with a slash)";

const HISTORY_DEFAULT: usize = 20;

/// Understands a line, or says what is wrong with it.
pub(crate) fn parse(line: &str) -> Result<Typed, String> {
    let line = line.trim_end();
    let Some(command) = line.strip_prefix('/') else { return Ok(Typed::Text(line.to_owned())) };
    if command.starts_with('/') {
        return Ok(Typed::Text(command.to_owned()));
    }
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let name = || {
        if rest.is_empty() {
            Err(format!("/{word} needs a user name (hint: /{word} ann)"))
        } else {
            Ok(rest.to_owned())
        }
    };
    match word {
        "list" => Ok(Typed::List),
        "open" => rest.parse().map(Typed::Open).map_err(|_| "/open needs a number of /list (hint: /open 1)".to_owned()),
        "with" => name().map(Typed::With),
        "group" => match rest.split_once(':') {
            Some((title, members)) => Ok(Typed::Group(
                title.trim().to_owned(),
                members.split(',').map(|member| member.trim().to_owned()).filter(|member| !member.is_empty()).collect(),
            )),
            None => Err("/group needs a title and members (hint: /group Lunch: ann, bob)".to_owned()),
        },
        "add" => name().map(Typed::Add),
        "remove" => name().map(Typed::Remove),
        "leave" => Ok(Typed::Leave),
        "members" => Ok(Typed::Members),
        "history" if rest.is_empty() => Ok(Typed::History(HISTORY_DEFAULT)),
        "history" => rest.parse().map(Typed::History).map_err(|_| "/history takes a number".to_owned()),
        "who" => name().map(Typed::Who),
        "help" => Ok(Typed::Help),
        "quit" | "exit" => Ok(Typed::Quit),
        _ => Err(format!("there is no /{word} (hint: /help)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_or_explained() {
        assert_eq!(parse("hello there"), Ok(Typed::Text("hello there".to_owned())));
        assert_eq!(parse("//help"), Ok(Typed::Text("/help".to_owned())));
        assert_eq!(parse("/open 3"), Ok(Typed::Open(3)));
        assert_eq!(
            parse("/group Lunch: ann, bob"),
            Ok(Typed::Group("Lunch".to_owned(), vec!["ann".to_owned(), "bob".to_owned()]))
        );
        assert_eq!(parse("/history"), Ok(Typed::History(20)));
        for bad in ["/open", "/open x", "/with", "/group Lunch", "/dance"] {
            assert!(parse(bad).unwrap_err().contains("hint"), "{bad}");
        }
    }
}
