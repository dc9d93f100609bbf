//! The command line: arguments in, a command run, an exit code out.
//!
//! Floor 8. Each command is one file. Deliberately absent: anything a command does beyond saying what it found; that is
//! `app`'s and `config`'s.

mod bans;
mod check;
mod client;
mod demo;
mod drain;
mod explain;
mod health;
mod output;
mod run;
mod shell;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::units::Span;
use bans::Whom;
use client::Reach;
use drain::{How, What};
use health::Question;
use output::Output;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: something failed while running.
    Failed,
    /// 2: the command line makes no sense.
    Usage,
    /// 78, `EX_CONFIG`: the configuration was refused.
    Configuration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Configuration => 78,
        })
    }
}

/// Reads the arguments of this process and runs the command that they name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version arrive here as well, for stdout. An unwritable terminal leaves nobody to tell.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let mut output = Output::new();
    match arguments.command {
        Command::Run { config } => run::run(&config, &mut output),
        Command::Check { file } => check::run(&file, &mut output),
        Command::Drain { reach, what, how } => drain::drain(&reach, &what, &how, &mut output),
        Command::Undrain { reach, what } => drain::undrain(&reach, &what, &mut output),
        Command::Ban { reach, whom, lasting, reason } => {
            bans::ban(&reach, &whom, lasting.as_deref(), reason.as_deref(), &mut output)
        }
        Command::Unban { reach, whom } => bans::unban(&reach, &whom, &mut output),
        Command::Bans { reach, json } => bans::list(&reach, json, &mut output),
        Command::Health { admin, live, timeout } => {
            let question = if live { Question::Live } else { Question::Ready };
            health::run(question, &admin, timeout.0, &mut output)
        }
        Command::Top { reach, once, every } => top::run(&reach, once, every.0, &mut output),
        Command::Demo { rows_to_stdout } => demo::run(rows_to_stdout, &mut output),
        Command::Schema => explain::schema(&mut output),
        Command::Explain { key } => explain::run(key.as_deref(), &mut output),
        Command::Completions { shell } => shell::completions(shell, &mut output),
        Command::Man { command } => shell::man(command.as_deref(), &mut output),
        Command::Version => explain::version(&mut output),
    }
    .into()
}

/// High-availability reverse proxy and load balancer for Apache Superset.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as the configuration says
    #[command(after_help = AFTER_RUN)]
    Run {
        /// The configuration (TOML)
        #[arg(long, short, value_name = "FILE", env = "SLUICEGATE_CONFIG")]
        config: PathBuf,
    },
    /// Say everything that is wrong or unwise in a configuration
    #[command(after_help = AFTER_CHECK)]
    Check {
        /// The configuration (TOML)
        #[arg(value_name = "FILE", env = "SLUICEGATE_CONFIG")]
        file: PathBuf,
    },
    /// Take an endpoint or a zone out of service, on a running proxy
    #[command(after_help = AFTER_DRAIN)]
    Drain {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        reach: Reach,
    },
    /// Put back what was drained
    #[command(after_help = AFTER_DRAIN)]
    Undrain {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        reach: Reach,
    },
    /// Shut an address or a TLS fingerprint out of a running proxy, and of its fleet
    #[command(after_help = AFTER_BAN)]
    Ban {
        #[command(flatten)]
        whom: Whom,
        /// How long, e.g. 2h; an hour if it is not said
        #[arg(long = "for", value_name = "DURATION")]
        lasting: Option<String>,
        /// Why, for those who read the list
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Let in again who is banned
    #[command(after_help = AFTER_BAN)]
    Unban {
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        reach: Reach,
    },
    /// List who is banned, from what, for how long and why
    #[command(after_help = AFTER_BAN)]
    Bans {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Ask a running proxy whether it is ready, for container and keepalived checks
    #[command(after_help = AFTER_HEALTH)]
    Health {
        /// Its admin listener, HOST:PORT or unix:PATH
        #[arg(long, value_name = "PLACE", env = "SLUICEGATE_ADMIN", default_value = "127.0.0.1:9901")]
        admin: String,
        /// Ask only whether it lives: a proxy in a drain is not ready, and lives
        #[arg(long)]
        live: bool,
        /// Longest wait for the answer
        #[arg(long, value_name = "DURATION", default_value = "2s")]
        timeout: Span,
    },
    /// Show what a running proxy does, live in the terminal
    #[command(after_help = AFTER_TOP)]
    Top {
        /// Print one picture and end; also what happens when the output is no terminal
        #[arg(long)]
        once: bool,
        /// Time between two looks
        #[arg(long, value_name = "DURATION", default_value = "1s")]
        every: Span,
        #[command(flatten)]
        reach: Reach,
    },
    /// Show it all at work, with nothing to install or configure
    #[command(after_help = AFTER_DEMO)]
    Demo {
        /// Print access records to standard output instead of the live table
        #[arg(long = "records")]
        rows_to_stdout: bool,
    },
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = AFTER_SCHEMA)]
    Schema,
    /// Say what a configuration key does: unit, default, range
    #[command(after_help = AFTER_EXPLAIN)]
    Explain {
        /// A key, with as much of its path as makes it clear, e.g. `health.interval`; without it, the reference of all keys
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
    /// Print the completions for a shell
    #[command(after_help = AFTER_COMPLETIONS)]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = AFTER_MAN)]
    Man {
        /// A command with a page of its own, e.g. `run`
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
    /// Print the version
    Version,
}

const AFTER_HELP: &str = "\
Start here:
  sluicegate demo                        see it work: three replicas, HTTPS, a dashboard
  sluicegate check sluicegate.toml       is my configuration right?
  sluicegate run --config sluicegate.toml

The smallest configuration:
  [[listeners]]
  address = \"0.0.0.0:443\"
  certificate = \"tls.crt\"
  key = \"tls.key\"

  [pools.superset]
  endpoints = [\"10.0.0.1:8088\", \"10.0.0.2:8088\"]

Exit codes: 0 done, 1 failed while running, 2 wrong usage, 78 configuration refused.";

const AFTER_RUN: &str = "\
Signals:
  SIGHUP            read the configuration again; an error in it leaves the old one in place
  SIGTERM, SIGINT   drain: finish what is open, refuse what is new; a second one ends at once
  SIGUSR1           reopen log files

The configuration and the files it names are watched, too: a changed certificate is in use a second later.

Examples:
  sluicegate run --config /etc/sluicegate/sluicegate.toml
  SLUICEGATE_CONFIG=/etc/sluicegate/sluicegate.toml sluicegate run

Exit codes: 0 drained, 1 failed while running, 2 wrong usage, 78 configuration refused.";

const AFTER_CHECK: &str = "\
All findings are shown at once, each with its line. Warnings do not fail the check.

Examples:
  sluicegate check sluicegate.toml
  sluicegate check new.toml && mv new.toml sluicegate.toml      (the proxy notices by itself)

Exit codes: 0 good, perhaps with warnings, 78 refused.";

const AFTER_DRAIN: &str = "\
No new exchange goes there; what is under way is finished. A drain outlives reloads, but not the process.
The proxy is found by --config (its [admin] section names socket, or address and token) or by --admin.

Examples:
  sluicegate drain superset/10.0.0.1:8088 --wait 60s && systemctl restart superset
  sluicegate drain --zone a --for 15m
  sluicegate undrain superset/10.0.0.1:8088

Exit codes: 0 done, 1 refused or not reached, 2 wrong usage, 78 configuration refused.";

const AFTER_BAN: &str = "\
The proxy is found by --config (its [admin] section names socket, or address and token) or by --admin. With [redis] a
ban holds on every proxy of the fleet.

Examples:
  sluicegate ban 203.0.113.9 --for 2h --reason 'scans'
  sluicegate unban 203.0.113.9 --login
  sluicegate bans

Exit codes: 0 done, 1 refused or not reached, 2 wrong usage, 78 configuration refused.";

const AFTER_HEALTH: &str = "\
The configuration is not read: a broken edit must not make a proxy that serves by its old one look dead.

Examples:
  sluicegate health                                  is it ready for traffic?
  sluicegate health --live                           does it run?
  sluicegate health --admin 10.0.0.5:9901 --timeout 500ms

Exit codes: 0 yes, 1 no, or no answer.";

const AFTER_TOP: &str = "\
Keys: q ends, s sorts, arrows choose an endpoint, d drains it, e enables it again.
The proxy is found by --config (its [admin] section names socket, or address and token) or by --admin; to look takes
neither token nor socket.

Examples:
  sluicegate top --admin 127.0.0.1:9901
  sluicegate top --config /etc/sluicegate/sluicegate.toml
  sluicegate top --once | grep down

Exit codes: 0 done, 1 not reached, 2 wrong usage, 78 configuration refused.";

const AFTER_DEMO: &str = "\
Starts three embedded endpoints that behave like Superset, makes a self-signed certificate, serves HTTPS on port 8443 (or
a free one) and the admin listener, and prints what to try. Log in as admin / admin. Ctrl-C drains.";

const AFTER_COMPLETIONS: &str = "\
Examples:
  sluicegate completions bash > /usr/share/bash-completion/completions/sluicegate
  sluicegate completions zsh > /usr/share/zsh/vendor-completions/_sluicegate
  sluicegate completions fish > /usr/share/fish/vendor_completions.d/sluicegate.fish";

const AFTER_MAN: &str = "\
Examples:
  sluicegate man | man -l -
  sluicegate man run > /usr/share/man/man1/sluicegate-run.1";

const AFTER_SCHEMA: &str = "\
Example:
  sluicegate schema > sluicegate.schema.json
  then, as the first line of the configuration:  #:schema ./sluicegate.schema.json";

const AFTER_EXPLAIN: &str = "\
Examples:
  sluicegate explain                            the reference of all keys, as Markdown
  sluicegate explain pools.superset.health      a section, with the names of its keys
  sluicegate explain health.interval            the end of a path is enough when it is clear";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn definition_of_the_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_manual_page_and_every_shell_completions() {
        let mut whole = Arguments::command();
        whole.build();
        for command in whole.get_subcommands() {
            let mut page = Vec::new();
            clap_mangen::Man::new(command.clone()).render(&mut page).unwrap();
            assert!(String::from_utf8_lossy(&page).contains(command.get_name()));
        }
        for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "sluicegate", &mut script);
            assert!(String::from_utf8_lossy(&script).contains("health"), "{shell}");
        }
    }

    #[test]
    fn keys_in_the_help_exist() {
        for key in ["pools.superset.health", "health.interval"] {
            assert!(AFTER_EXPLAIN.contains(key) && crate::config::explain(key).is_ok(), "{key}");
        }
    }

    #[test]
    fn run_without_a_configuration_is_wrong_usage() {
        let error = Arguments::try_parse_from(["sluicegate", "run"]);

        // The environment of a developer may name one.
        assert!(error.is_err() || std::env::var_os("SLUICEGATE_CONFIG").is_some());
    }
}
