//! What stands below the options in the help and the manual page of each command: examples, signals, exit codes.
//!
//! Floor 8.

pub(super) const AFTER_HELP: &str = "\
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

pub(super) const AFTER_RUN: &str = "\
Signals:
  SIGHUP            read the configuration again; an error in it leaves the old one in place
  SIGTERM, SIGINT   drain: finish what is open, refuse what is new; a second one ends at once
  SIGUSR1           reopen log files

The configuration and the files it names are watched, too: a changed certificate is in use a second later.

Examples:
  sluicegate run --config /etc/sluicegate/sluicegate.toml
  SLUICEGATE_CONFIG=/etc/sluicegate/sluicegate.toml sluicegate run

Exit codes: 0 drained, 1 failed while running, 2 wrong usage, 78 configuration refused.";

pub(super) const AFTER_CHECK: &str = "\
All findings are shown at once, each with its line. Warnings do not fail the check.

Examples:
  sluicegate check sluicegate.toml
  sluicegate check new.toml && mv new.toml sluicegate.toml      (the proxy notices by itself)

Exit codes: 0 good, perhaps with warnings, 78 refused.";

pub(super) const AFTER_DRAIN: &str = "\
No new exchange goes there; what is under way is finished. A drain outlives reloads, but not the process.
The proxy is found by --config (its [admin] section names socket, or address and token) or by --admin.

Examples:
  sluicegate drain superset/10.0.0.1:8088 --wait 60s && systemctl restart superset
  sluicegate drain --zone a --for 15m
  sluicegate undrain superset/10.0.0.1:8088

Exit codes: 0 done, 1 refused or not reached, 2 wrong usage, 78 configuration refused.";

pub(super) const AFTER_BAN: &str = "\
The proxy is found by --config (its [admin] section names socket, or address and token) or by --admin. With [redis] a
ban holds on every proxy of the fleet.

Examples:
  sluicegate ban 203.0.113.9 --for 2h --reason 'scans'
  sluicegate unban 203.0.113.9 --login
  sluicegate bans

Exit codes: 0 done, 1 refused or not reached, 2 wrong usage, 78 configuration refused.";

pub(super) const AFTER_WHY: &str = "\
The proxy keeps errors, refusals, slow exchanges and a sample of the others in memory ([recorder]); with several proxies,
ask the one that answered.

Examples:
  sluicegate why 0197c2f0-6b1e-7c3a-9d55-3f1e2a4b5c6d --config /etc/sluicegate/sluicegate.toml
  sluicegate why 0197c2f0-6b1e-7c3a-9d55-3f1e2a4b5c6d --json --admin unix:/run/sluicegate/admin.sock

Exit codes: 0 told, 1 unknown or not reached, 2 wrong usage, 78 configuration refused.";

pub(super) const AFTER_LOGS: &str = "\
Each filter narrows. Secrets are redacted as in the access log. Colours are left out where NO_COLOR is set and where
the output is no terminal.

Examples:
  sluicegate logs --status 5xx
  sluicegate logs --pool superset --min 2s
  sluicegate logs --verdict any --client 203.0.113.0/24 --json | jq .path

Exit codes: 0 the reader had enough, 1 the proxy ended it or was not reached, 2 wrong usage, 78 configuration refused.";

pub(super) const AFTER_HEALTH: &str = "\
The configuration is not read: a broken edit must not make a proxy that serves by its old one look dead.

Examples:
  sluicegate health                                  is it ready for traffic?
  sluicegate health --live                           does it run?
  sluicegate health --admin 10.0.0.5:9901 --timeout 500ms

Exit codes: 0 yes, 1 no, or no answer.";

pub(super) const AFTER_TOP: &str = "\
Keys: q ends, s sorts, arrows choose an endpoint, d drains it, e enables it again.
The proxy is found by --config (its [admin] section names socket, or address and token) or by --admin; to look takes
neither token nor socket.

Examples:
  sluicegate top --admin 127.0.0.1:9901
  sluicegate top --config /etc/sluicegate/sluicegate.toml
  sluicegate top --once | grep down

Exit codes: 0 done, 1 not reached, 2 wrong usage, 78 configuration refused.";

pub(super) const AFTER_DEMO: &str = "\
Starts three embedded endpoints that behave like Superset, makes a self-signed certificate, serves HTTPS on port 8443 (or
a free one) and the admin listener, and prints what to try. Log in as admin / admin. Ctrl-C drains.";

pub(super) const AFTER_COMPLETIONS: &str = "\
Examples:
  sluicegate completions bash > /usr/share/bash-completion/completions/sluicegate
  sluicegate completions zsh > /usr/share/zsh/vendor-completions/_sluicegate
  sluicegate completions fish > /usr/share/fish/vendor_completions.d/sluicegate.fish";

pub(super) const AFTER_MAN: &str = "\
Examples:
  sluicegate man | man -l -
  sluicegate man run > /usr/share/man/man1/sluicegate-run.1";

pub(super) const AFTER_SCHEMA: &str = "\
Example:
  sluicegate schema > sluicegate.schema.json
  then, as the first line of the configuration:  #:schema ./sluicegate.schema.json";

pub(super) const AFTER_EXPLAIN: &str = "\
Examples:
  sluicegate explain                            the reference of all keys, as Markdown
  sluicegate explain pools.superset.health      a section, with the names of its keys
  sluicegate explain health.interval            the end of a path is enough when it is clear";
