//! The prompt: statements over several lines, each ended by a semicolon, with a history that is kept.

use std::{
    env,
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use rustyline::{Config, DefaultEditor, error::ReadlineError};
use tokio::runtime::Runtime;

use super::{
    connection::{Connection, Failed},
    say, say_if_empty, statements,
};

/// Statements that are remembered.
const HISTORY_MAX: usize = 1_000;

const HELP: &str = "End a statement with a semicolon. DESCRIBE messages; says what the columns are; SHOW TABLES; what there \
                    is; FORMAT Vertical at its end shows wide rows. Ctrl-C cancels, Ctrl-D ends, help says this.";

/// Asks what is typed until the end of input.
pub(super) fn run(runtime: &Runtime, connection: &Connection) -> Result<ExitCode> {
    let config = Config::builder().max_history_size(HISTORY_MAX).context("the history cannot be that long")?.build();
    let mut editor = DefaultEditor::with_config(config).context("cannot read from the terminal")?;
    let history = history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    say(HELP);
    let mut typed = String::new();
    loop {
        let prompt = if typed.trim().is_empty() { "tidings> " } else { "    ...> " };
        match editor.readline(prompt) {
            Ok(line) => {
                typed.push_str(&line);
                typed.push('\n');
                match typed.trim().trim_end_matches(';') {
                    "exit" | "quit" => break,
                    "help" => {
                        say(HELP);
                        typed.clear();
                        continue;
                    }
                    _ => {}
                }
                let (ended, rest) = statements::ended(&typed);
                let rest = rest.trim_start().to_owned();
                for statement in ended {
                    // History is a comfort, not a need.
                    let _ = editor.add_history_entry(format!("{statement};"));
                    if let Some(file) = &history {
                        let _ = editor.save_history(file);
                    }
                    ask(runtime, connection, &statement);
                }
                typed = rest;
            }
            Err(ReadlineError::Interrupted) => typed.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("cannot read from the terminal"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(runtime: &Runtime, connection: &Connection, statement: &str) {
    match runtime.block_on(connection.ask(statement)) {
        Ok(answer) => {
            let mut to = stdout().lock();
            // A terminal that is gone ends the input, too.
            let _ = to.write_all(&answer).and_then(|()| to.flush());
            say_if_empty(&answer);
        }
        Err(Failed::Cancelled) => say("cancelled"),
        Err(Failed::Error(error)) => say(&format!("error: {error:#}")),
    }
}

/// Where the history is kept: `$XDG_STATE_HOME/tidings/sql-history`, else below `~/.local/state`. None without a home.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    let folder = state.join("tidings");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql-history"))
}
