//! `completions SHELL`, `man [COMMAND]`: what shells and manuals know of the command line, generated from its definition.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::output::Output;
use super::{Arguments, Exit};

/// Prints the completions for `shell`.
pub(super) fn completions(shell: Shell, output: &mut Output) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sluicegate", &mut text);
    output.text(String::from_utf8_lossy(&text));
    Exit::Done
}

/// Prints the manual page, in roff: that of the whole, or of one command.
pub(super) fn man(command: Option<&str>, output: &mut Output) -> Exit {
    let mut whole = Arguments::command();
    // Gives each command its full name and the options that it inherits.
    whole.build();
    let page = match command {
        None => Some(whole),
        Some(name) => whole.find_subcommand(name).cloned(),
    };
    let mut text = Vec::new();
    match page.map(|page| clap_mangen::Man::new(page).section("1").render(&mut text)) {
        Some(Ok(())) => {
            output.text(String::from_utf8_lossy(&text));
            Exit::Done
        }
        Some(Err(error)) => {
            output.error(format_args!("sluicegate: manual page: {error}"));
            Exit::Failed
        }
        None => {
            output.error(format_args!("sluicegate: there is no command {}", command.unwrap_or_default()));
            Exit::Usage
        }
    }
}
