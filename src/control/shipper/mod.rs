//! Ships records, and spans, to receivers on other machines.
//!
//! Floor 5. One [`Shipper`] for each sink: records come in through a bounded ring, become entries, wait for others, and
//! travel in batches, oldest first, one at a time. What is not taken is sent again after a pause that grows and is never
//! twice the same; meanwhile what comes waits in memory, and on disk if there is a spool. A record may come twice, which its
//! id tells. At the end what is left goes out within [`ENDING`] or to the spool. Deliberately absent: anything that a worker
//! or another sink could ever wait for.

mod backlog;
mod courier;
mod frame;
mod intake;
mod kafka;
mod left;
mod spool;
mod stream;
mod unsettled;
mod wire;
mod work;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::supervisor::{Policy, Supervisor};
use super::transport::TransportError;
use crate::config::Sink;
use crate::telemetry::access_log::Consumer;
use crate::telemetry::metrics::LogMetrics;
use crate::telemetry::parcel::Machine;
use crate::telemetry::redact::Redactor;
use courier::Courier;
use intake::Intake;
pub use left::tell_of_left;
use work::Work;

/// Time in which a sink that ends tries to send what it has.
pub const ENDING: Duration = Duration::from_secs(3);

/// One sink on another machine.
#[derive(Debug)]
pub struct Shipper {
    sink: Sink,
    redactor: Redactor,
    intake: Arc<Intake>,
    /// A courier that takes over as soon as nothing is under way.
    relief: Relief,
    tasks: Supervisor,
}

type Relief = Arc<Mutex<Option<Courier>>>;

/// What a shipper needs of the files and secrets that its sink names, read and found good.
#[derive(Debug)]
pub struct Ready(Courier);

impl Ready {
    /// Reads what `sink` names; `None` for a sink of this machine.
    ///
    /// # Errors
    /// A file or a secret that cannot be used.
    pub fn read(sink: &Sink) -> Result<Option<Self>, TransportError> {
        Ok(Courier::new(sink)?.map(Self))
    }
}

impl Shipper {
    /// Starts shipping on the current runtime.
    pub fn start(sink: &Sink, ready: Ready, redactor: Redactor, machine: &Machine, metrics: &Arc<LogMetrics>) -> Self {
        let intake = Arc::new(Intake::new(sink, Arc::clone(metrics)));
        let relief = Relief::new(Mutex::new(Some(ready.0)));
        let mut tasks = Supervisor::new();
        let turn = metrics.begin(sink.spool.as_ref().map_or(0, |spool| spool.size));
        let parts = (sink.clone(), redactor.clone(), machine.clone(), Arc::clone(metrics));
        let ends = (Arc::clone(&intake), Arc::clone(&relief));
        tasks.start("log-shipper", Policy::Restart, move |stop| {
            let (sink, redactor, machine, metrics) = &parts;
            let (intake, relief) = &ends;
            Work::new(sink, redactor.clone(), machine, intake, relief, (metrics, turn)).run(stop)
        });
        Self { sink: sink.clone(), redactor, intake, relief, tasks }
    }

    /// Whether it is what `sink` asks for.
    pub fn is_for(&self, sink: &Sink, redactor: &Redactor) -> bool {
        self.sink == *sink && self.redactor == *redactor
    }

    /// The directory that it has its spool in.
    pub fn spools(&self) -> Option<PathBuf> {
        self.sink.spool.as_ref().map(|spool| spool.dir.clone())
    }

    /// Uses files and secrets as they are now.
    pub fn renew(&self, ready: Ready) {
        *self.relief.lock().unwrap_or_else(PoisonError::into_inner) = Some(ready.0);
    }

    /// The end for the access log.
    pub fn consumer(&self) -> Arc<dyn Consumer> {
        Arc::clone(&self.intake) as _
    }

    /// Asks it to send or store what it has, and to end.
    pub fn ask_to_end(&self) {
        self.tasks.ask_to_finish();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.tasks.running().is_empty()
    }

    /// Ends it; what it does not do within `deadline` is not done.
    pub async fn end(self, deadline: Duration) {
        self.tasks.shut_down(deadline).await;
    }
}

/// The name of this machine, as the kernel knows it.
pub fn host_name() -> String {
    let name = std::fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname")).unwrap_or_default();
    name.trim().to_owned()
}
