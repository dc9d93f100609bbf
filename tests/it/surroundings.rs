//! What stands around the proxy: commands that ask how it is, and the service manager that is told.

use std::process::Output;

use tokio::net::UnixDatagram;
use tokio::process::Command;

use crate::rig::{Rig, Upstream, soon};

/// Runs `sluicegate health` against `rig`.
async fn health(rig: &Rig, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("health").arg("--admin").arg(rig.admin.to_string()).arg("--timeout").arg("10s").args(arguments);
    soon("sluicegate health", command.output()).await.unwrap()
}

#[tokio::test]
async fn health_command_tells_ready_from_draining_and_draining_from_dead() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().process("unready_for = \"10m\"").endpoint(&upstream).start().await;

    let running = health(&rig, &[]).await;
    rig.signal("TERM").await;
    rig.status_where("unready", |status| status["phase"] == "unready").await;
    let (draining, living) = (health(&rig, &[]).await, health(&rig, &["--live"]).await);
    rig.signal("TERM").await;
    rig.signal("TERM").await;
    rig.ended().await;
    let dead = health(&rig, &["--live"]).await;

    assert_eq!((running.status.code(), running.stdout.as_slice()), (Some(0), &b"ready\n"[..]));
    assert_eq!(draining.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&draining.stderr), "sluicegate: not ready: unready\n");
    assert_eq!((living.status.code(), dead.status.code()), (Some(0), Some(1)));
}

#[tokio::test]
async fn process_takes_no_huge_pages() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.pid())).unwrap();

    assert!(!status.contains("THP_enabled:\t1"), "{status}");
}

#[tokio::test]
async fn process_1_of_a_container_reloads_and_drains_when_told() {
    let upstream = Upstream::named("a").await;
    let mut rig = Rig::setup().endpoint(&upstream).in_a_container().start().await;
    assert_eq!(rig.get("/").await.text(), "a");

    rig.signal("HUP").await;
    rig.status_where("the next generation", |status| status["generation"] == 2).await;
    rig.signal("TERM").await;

    // The kernel hands no signal to process 1 that it has no handler for.
    assert_eq!(rig.ended().await.code(), Some(0));
}

#[tokio::test]
async fn configuration_in_a_volume_of_kubernetes_is_followed() {
    let old = Upstream::named("old").await;
    let new = Upstream::named("new").await;
    let rig = Rig::setup().endpoint(&old).in_a_volume().start().await;
    let text = rig.config().replace(&old.address.to_string(), &new.address.to_string());

    // The kubelet puts a new directory in place by renaming one link, and removes the old one.
    let volume = rig.directory.path();
    std::fs::create_dir(volume.join("..second")).unwrap();
    std::fs::write(volume.join("..second/sluicegate.toml"), text).unwrap();
    std::os::unix::fs::symlink("..second", volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    std::fs::remove_dir_all(volume.join("..first")).unwrap();

    rig.status_where("the next generation", |status| status["generation"].as_u64() > Some(1)).await;
    assert_eq!(rig.get("/").await.text(), "new");
}

/// A service manager's end of the notifications.
struct Manager {
    socket: UnixDatagram,
    seen: String,
}

impl Manager {
    /// Waits until a line has come since the last one waited for.
    async fn hears(&mut self, wanted: &str) {
        soon(wanted, async {
            loop {
                if let Some((_, rest)) = self.seen.split_once(wanted) {
                    self.seen = rest.to_owned();
                    return;
                }
                let mut datagram = [0; 4096];
                let length = self.socket.recv(&mut datagram).await.unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&datagram[..length]));
                self.seen.push('\n');
            }
        })
        .await;
    }
}

#[tokio::test]
async fn service_manager_hears_of_start_reload_life_and_end() {
    let upstream = Upstream::named("a").await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let mut manager = Manager { socket: UnixDatagram::bind(&path).unwrap(), seen: String::new() };

    let mut rig = Rig::setup().endpoint(&upstream).environment("NOTIFY_SOCKET", &path).start().await;
    manager.hears("READY=1").await;
    rig.signal("HUP").await;
    manager.hears("RELOADING=1").await;
    manager.hears("MONOTONIC_USEC=").await;
    manager.hears("READY=1").await;
    manager.hears("STATUS=generation 2").await;

    rig.write_config("[nonsense]");
    rig.signal("HUP").await;
    manager.hears("READY=1").await;
    manager.hears("STATUS=generation 2, a reload was refused").await;

    rig.signal("TERM").await;
    manager.hears("STOPPING=1").await;
    assert_eq!(rig.ended().await.code(), Some(0));
}

#[tokio::test]
async fn watchdog_of_the_service_manager_is_fed() {
    let upstream = Upstream::named("a").await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let mut manager = Manager { socket: UnixDatagram::bind(&path).unwrap(), seen: String::new() };

    let setup = Rig::setup().endpoint(&upstream).environment("NOTIFY_SOCKET", &path);
    let _rig = setup.environment("WATCHDOG_USEC", "30000000").start().await;

    manager.hears("WATCHDOG=1").await;
    manager.hears("WATCHDOG=1").await;
}
