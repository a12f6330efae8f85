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
    let mut running = 0;
    for name in names("ops/systemd", ".service") {
        let text = read(&format!("ops/systemd/{name}"));
        if value(&text, "Type") != Some("oneshot") {
            running += 1;
            assert_eq!(value(&text, "Restart"), Some("always"), "{name}");
            assert_eq!(value(&text, "KillSignal"), Some("SIGTERM"), "{name}");
            assert_eq!(value(&text, "StartLimitIntervalSec"), Some("0"), "{name} gives up");
            let patience: u64 = value(&text, "TimeoutStopSec").unwrap().parse().unwrap();
            assert!(patience > drain.as_secs(), "{name}: killed before it has gone away in good order");
        }
        for hardened in ["NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "DynamicUser"] {
            assert_eq!(value(&text, hardened), Some("yes"), "{name} {hardened}");
        }
        assert_eq!((value(&text, "ProtectSystem"), value(&text, "CapabilityBoundingSet")), (Some("strict"), Some("")));
        // Its data is where it may write.
        let state = value(&text, "StateDirectory").unwrap();
        let command = value(&text, "ExecStart").unwrap();
        assert!(command.ends_with(&format!("--data /var/lib/{state}")), "{name}: {command}");
    }
    assert_eq!(running, 4);
}

#[test]
fn the_nightly_erasure_is_the_program_s_user_s_on_its_folder() {
    let (nightly, program) = (read("ops/systemd/tidings-erase.service"), read("ops/systemd/tidings.service"));
    // A dynamic user is named after the unit where nothing else is said, and is one with another unit's of that name.
    assert_eq!((value(&nightly, "User"), value(&program, "User")), (Some("tidings"), None));
    for same in ["DynamicUser", "StateDirectory", "EnvironmentFile", "UMask", "ProtectProc"] {
        assert!(value(&program, same).is_some_and(|value| !value.is_empty()), "{same}");
        assert_eq!(value(&nightly, same), value(&program, same), "{same}");
    }
    let config = |text: &str| value(text, "ExecStart").unwrap().split_once("--config ").unwrap().1.to_owned();
    let of_program = config(&program).replace("--listen 0.0.0.0:8080 ", "");
    assert_eq!(config(&nightly), of_program, "the same settings and folder");
    for timer in names("ops/systemd", ".timer") {
        let service = timer.replace(".timer", ".service");
        assert!(names("ops/systemd", ".service").contains(&service), "{timer} starts nothing");
        let text = read(&format!("ops/systemd/{timer}"));
        assert!(value(&text, "OnCalendar").is_some() && value(&text, "WantedBy") == Some("timers.target"), "{timer}");
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
    // A timer names a service, which is there then.
    for name in names("ops/systemd", ".service").into_iter().chain(names("ops/systemd", ".timer")) {
        let text = read(&format!("ops/systemd/{name}")).replace("/usr/bin/tidings", &program.display().to_string());
        let unit = folder.path().join(&name);
        fs::write(&unit, text).unwrap();
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        let about_it: Vec<&str> = said.lines().filter(|line| line.contains("tidings")).collect();
        assert!(verified.status.success() && about_it.is_empty(), "{name}: {said}");
    }
}
