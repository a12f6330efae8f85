//! `tidings chat`: the terminal client. Lines typed are sent; lines that begin with a slash are commands.
//!
//! - [`session`]: the connection, kept up with resume. [`commands`]: what can be typed. [`view`]: how things look.

mod commands;
mod session;
mod view;

use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

use anyhow::{Context, Result, bail};
use rustyline::{DefaultEditor, ExternalPrinter, error::ReadlineError};
use tokio::sync::mpsc;

use crate::client::{Api, ServerArgs, http::ApiError};

/// What to do, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct ChatArgs {
    /// Where to.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Your user name. A new one makes an account.
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// Your password. Without it, you are asked for it.
    #[arg(long, env = "TIDINGS_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Start in the direct chat with this user.
    #[arg(long, value_name = "NAME")]
    pub with: Option<String>,
}

/// Lines to type at most ahead of what the connection takes.
const LINES_AHEAD_MAX: usize = 64;

/// Signs in (or up) and chats until the end of input.
pub fn run(args: &ChatArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let server = args.server.server()?;
    let api = Api::new(server.clone());
    let password = match &args.password {
        Some(password) => password.clone(),
        None => ask_password()?,
    };
    let account = runtime.block_on(sign_in(&api, &args.user, &password))?;
    let (lines, typed) = mpsc::channel(LINES_AHEAD_MAX);
    if stdin().is_terminal() {
        let mut editor = DefaultEditor::new().context("cannot read from the terminal")?;
        let mut printer = editor.create_external_printer().context("cannot print to the terminal")?;
        let print: view::Print = Box::new(move |text| {
            // A terminal that is gone ends the input, too.
            let _ = printer.print(format!("{text}\n"));
        });
        let chat = runtime.spawn(session::chat(server, api, account, args.with.clone(), typed, print));
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    // History is a comfort, not a need.
                    let _ = editor.add_history_entry(&line);
                    if lines.blocking_send(line).is_err() {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted | ReadlineError::Eof) => break,
                Err(error) => return Err(error).context("cannot read from the terminal"),
            }
        }
        drop(lines);
        return runtime.block_on(chat).context("the chat failed")?;
    }
    let print: view::Print = Box::new(|text| {
        // A closed pipe ends the program through the input.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    });
    let chat = runtime.spawn(session::chat(server, api, account, args.with.clone(), typed, print));
    for line in stdin().lock().lines() {
        if lines.blocking_send(line.context("cannot read the input")?).is_err() {
            break;
        }
    }
    drop(lines);
    runtime.block_on(chat).context("the chat failed")?
}

/// Who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    pub(crate) username: String,
    pub(crate) user_id: String,
    pub(crate) token: String,
}

async fn sign_in(api: &Api, username: &str, password: &str) -> Result<SignedIn> {
    let signed_in = match api.create_token(username, password).await {
        Ok(response) => response,
        Err(error) => match ApiError::of(&error) {
            // Either the password is wrong or nobody has the name: the second shows when it can be taken.
            Some(refusal) if refusal.error.code == "unauthenticated" => {
                match api.create_account(username, password, username).await {
                    Ok(response) => {
                        let _ = writeln!(stderr(), "made the account {username}");
                        response
                    }
                    Err(error) => match ApiError::of(&error) {
                        Some(refusal) if refusal.error.code == "already_exists" => {
                            bail!("the password of {username} is another one")
                        }
                        _ => return Err(error),
                    },
                }
            }
            _ => return Err(error),
        },
    };
    Ok(SignedIn { username: username.to_owned(), user_id: signed_in.user_id, token: signed_in.token })
}

fn ask_password() -> Result<String> {
    if !stdin().is_terminal() {
        bail!("no password (hint: --password, or the environment variable TIDINGS_PASSWORD)");
    }
    let mut editor = DefaultEditor::new().context("cannot read from the terminal")?;
    editor.readline("password (shown as typed): ").context("cannot read the password")
}
