//! The systemd units: they drain, come back, and are kept apart; and systemd itself reads them.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use tidings_schemas::limits;

use crate::files::{names, read};

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[test]
fn units_drain_and_come_back() {
    let drain = limits::DRAIN_TIMEOUT + limits::SHARD_SETTLE_PATIENCE + limits::SHARD_LAST_CHECKPOINT_PATIENCE;
    for name in names("ops/systemd", ".service") {
        let text = read(&format!("ops/systemd/{name}"));
        assert_eq!(value(&text, "Restart"), Some("always"), "{name}");
        assert_eq!(value(&text, "KillSignal"), Some("SIGTERM"), "{name}");
        assert_eq!(value(&text, "StartLimitIntervalSec"), Some("0"), "{name} gives up");
        let patience: u64 = value(&text, "TimeoutStopSec").unwrap().parse().unwrap();
        assert!(patience > drain.as_secs(), "{name}: killed before it has gone away in good order");
        for hardened in ["NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "DynamicUser"] {
            assert_eq!(value(&text, hardened), Some("yes"), "{name} {hardened}");
        }
        assert_eq!((value(&text, "ProtectSystem"), value(&text, "CapabilityBoundingSet")), (Some("strict"), Some("")));
        // Its data is where it may write.
        let state = value(&text, "StateDirectory").unwrap();
        let command = value(&text, "ExecStart").unwrap();
        assert!(command.ends_with(&format!("--data /var/lib/{state}")), "{name}: {command}");
    }
}

#[test]
fn systemd_reads_the_units() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("SKIPPED: there is no systemd-analyze here");
        return;
    };
    assert!(version.status.success());
    // It looks whether there is such a program.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tidings");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for name in names("ops/systemd", ".service") {
        let text = read(&format!("ops/systemd/{name}")).replace("/usr/bin/tidings", &program.display().to_string());
        let unit = folder.path().join(&name);
        fs::write(&unit, text).unwrap();
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        let about_it: Vec<&str> = said.lines().filter(|line| line.contains("tidings")).collect();
        assert!(verified.status.success() && about_it.is_empty(), "{name}: {said}");
    }
}
