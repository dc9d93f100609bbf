//! Network namespaces: a zone is one, joined to the proxy's by a wire that can be cut and made bad.
//!
//! The suite enters a network and a mount namespace of its own at its start ([`enter`]), so that nothing of it is seen
//! from outside and all of it is gone when it ends. `ip`, `tc` and `nft` do the work.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode, Stdio};

use super::Stage;

/// The word that says that the namespaces have been entered.
pub(crate) const INSIDE: &str = "--inside";

/// A zone: a namespace and the wire to it.
pub(crate) struct Zone {
    /// The namespace's name.
    pub(crate) namespace: String,
    /// The address inside.
    pub(crate) host: IpAddr,
    /// Our end of the wire.
    wire: String,
}

/// Starts the suite again in namespaces of its own; `None` when there are none to be had.
pub(crate) fn enter(words: &[String]) -> Option<ExitCode> {
    let program = std::env::current_exe().expect("this program");
    let ways: [&[&str]; 2] = [&["--net", "--mount"], &["--map-root-user", "--net", "--mount"]];
    for way in ways {
        let works = Command::new("unshare").args(way).arg("true").stderr(Stdio::null()).status();
        if works.is_ok_and(|status| status.success()) {
            let status = Command::new("unshare").args(way).arg(&program).arg(INSIDE).args(words).status();
            let passed = status.expect("unshare").success();
            return Some(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    None
}

/// Makes the new namespaces a place to live in.
pub(crate) fn settle() {
    // Without these, scenarios with wires are skipped; see `available`.
    drop(run("ip link set lo up"));
    drop(run("mkdir -p /run/netns && mount -t tmpfs none /run/netns"));
}

/// Whether wires can be had; why not.
pub(crate) fn available() -> Result<(), String> {
    if !std::env::args().any(|word| word == INSIDE) {
        return Err("the kernel gives this user no network namespace (unshare --net)".to_owned());
    }
    let name = format!("trial-{}", std::process::id());
    run(&format!("ip netns add {name}-{0} && ip netns del {name}-{0}", fastrand::u32(..)))
        .map_err(|why| format!("no named network namespace: {why}"))
}

impl Zone {
    /// Zone `number` of the stage, with a wire to it.
    pub(crate) fn new(stage: &Stage, number: u8) -> Self {
        let namespace = format!("z{}-{number}", stage.number);
        let (wire, end) = (format!("w{}-{number}", stage.number), format!("e{}-{number}", stage.number));
        let net = format!("10.{}.{number}", 100 + stage.number);
        must(&format!(
            "ip netns add {namespace} && ip link add {wire} type veth peer name {end} netns {namespace} \
             && ip addr add {net}.1/24 dev {wire} && ip link set {wire} up \
             && ip -n {namespace} link set lo up && ip -n {namespace} addr add {net}.2/24 dev {end} \
             && ip -n {namespace} link set {end} up"
        ));
        Self { namespace, host: IpAddr::V4(Ipv4Addr::new(10, 100 + stage.number, number, 2)), wire }
    }

    /// Cuts the wire: whatever is sent is lost, and nobody is told.
    pub(crate) fn cut(&self) {
        self.rules("drop", "drop");
    }

    /// Joins the wire again.
    pub(crate) fn join(&self) {
        must(&format!("ip netns exec {} nft flush ruleset", self.namespace));
    }

    /// Answers every packet with a reset.
    pub(crate) fn reset(&self) {
        self.rules("ip protocol tcp reject with tcp reset", "accept");
    }

    /// Loses every packet that would open a connection, and none else.
    pub(crate) fn drop_opening(&self) {
        self.rules("tcp flags & (syn | ack) == syn drop", "accept");
    }

    /// Loses so many of a hundred packets, both ways.
    pub(crate) fn lose(&self, percent: u32) {
        let some = format!("numgen random mod 100 < {percent} drop");
        self.rules(&some, &some);
    }

    /// Lets packets come late; says how.
    pub(crate) fn delay(&self, milliseconds: u32) -> String {
        if run(&format!("tc qdisc add dev {} root netem delay {milliseconds}ms", self.wire)).is_ok() {
            return format!("netem delays packets by {milliseconds} ms");
        }
        must(&format!("tc qdisc add dev {} root tbf rate 4mbit burst 1600 latency 2s", self.wire));
        "the kernel has no netem; a token bucket of 4 Mbit/s lets packets queue instead".to_owned()
    }

    /// What happens to packets that come into the zone, and to those that go out.
    fn rules(&self, enter: &str, leave: &str) {
        let chain =
            |hook: &str, rule: &str| format!("chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}\n");
        let chains = chain("input", enter) + &chain("output", leave);
        let rules = format!("flush ruleset\ntable ip chaos {{\n{chains}}}\n");
        must(&format!("ip netns exec {} nft -f - <<'END'\n{rules}END\n", self.namespace));
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        // The wire goes with it; whatever stays goes with the suite.
        drop(run(&format!("ip netns del {}", self.namespace)));
    }
}

fn must(script: &str) {
    if let Err(why) = run(script) {
        panic!("{script}: {why}");
    }
}

fn run(script: &str) -> Result<(), String> {
    let output = Command::new("sh").args(["-c", script]).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
