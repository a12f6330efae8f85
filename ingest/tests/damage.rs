//! Damage that no crash explains is an error that names the file and the place, never skipped; a full disk is an error
//! to the appender, and over when there is room again.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use support::{append, read_from, record};
use tempfile::TempDir;
use tidings_ingest::embedded::config::PartitionCounts;
use tidings_ingest::{AppendError, EmbeddedConfig, EmbeddedLog, Log, LogError};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

struct Fixture {
    config: EmbeddedConfig,
    _folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig {
            directory: folder.path().join("log"),
            journal_segment_bytes: 128 * 1024,
            partition_segment_bytes: 16 * 1024,
            ..EmbeddedConfig::default()
        };
        Self { config, _folder: folder }
    }

    fn open(&self) -> Result<EmbeddedLog, LogError> {
        EmbeddedLog::open(&self.config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
    }

    /// Appends records one by one, each with its number.
    fn fill(&self, count: u32, bytes: usize) {
        let log = self.open().unwrap();
        for _ in 0..count {
            let number = log.range(Topic::Events, 0).unwrap().end;
            let mut value = number.to_le_bytes().to_vec();
            value.resize(bytes, 0);
            append(&log, vec![record(Topic::Events, 0, value)]).unwrap();
        }
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.config.directory.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| !path.to_str().unwrap().ends_with(".spare"));
        files.sort();
        files
    }

    fn refused(&self) -> LogError {
        match self.open() {
            Ok(_) => panic!("it opened, damaged as it is"),
            Err(error) => error,
        }
    }

    /// Opens to a refusal that names this file.
    fn refused_as_corrupt(&self, damaged: &Path) -> String {
        match self.refused() {
            LogError::Corrupt { file, what, .. } if file == damaged => what,
            error => panic!("{error}"),
        }
    }
}

fn flip(path: &Path, position: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], position).unwrap();
}

/// One page for the header, then one for each lone append.
fn frame_at(number: u64) -> u64 {
    4096 * (number + 1)
}

#[test]
fn a_torn_tail_is_cut_and_appending_goes_on() {
    let fixture = Fixture::new();
    fixture.fill(5, 100);
    flip(fixture.files("journal").last().unwrap(), frame_at(4) + 80);
    let log = fixture.open().unwrap();
    assert_eq!(log.range(Topic::Events, 0).unwrap().end, 4);
    assert_eq!(append(&log, vec![record(Topic::Events, 0, "again")]).unwrap(), [4]);
    drop(log);
    let log = fixture.open().unwrap();
    assert_eq!(read_from(&log, Topic::Events, 0, 0)[4].value, "again");
}

#[test]
fn a_bad_frame_with_good_ones_after_it_is_damage() {
    for (part, byte) in [("head", 8), ("directory", 50), ("records", 80)] {
        let fixture = Fixture::new();
        fixture.fill(5, 100);
        let journal = fixture.files("journal").pop().unwrap();
        flip(&journal, frame_at(2) + byte);
        let what = fixture.refused_as_corrupt(&journal);
        assert!(what.contains("commit 2 is damaged"), "{part}: {what}");
    }
}

#[test]
fn a_damaged_or_missing_journal_segment_is_damage() {
    let fixture = Fixture::new();
    fixture.fill(5, 100);
    let journal = fixture.files("journal").pop().unwrap();
    flip(&journal, 33);
    fixture.refused_as_corrupt(&journal);
    flip(&journal, 33);
    fs::rename(&journal, journal.with_extension("elsewhere")).unwrap();
    fixture.refused();
}

#[test]
fn a_damaged_block_is_reported_to_who_reads_it_and_counted() {
    let fixture = Fixture::new();
    fixture.fill(100, 1_000);
    let log = fixture.open().unwrap();
    log.maintain().unwrap();
    let file = fixture.files("partitions/events.v1-0").swap_remove(0);
    // Far behind the first block's header.
    flip(&file, 3_000);
    let mut reader = log.reader(Topic::Events, 0, 0).unwrap();
    let error = reader.poll(usize::MAX, &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, LogError::Corrupt { file: named, .. } if *named == file), "{error}");
    assert_eq!(reader.position(), 0);
    assert_eq!(log.stats().corruptions_total, 1);
    flip(&file, 3_000);
    assert!(reader.poll(usize::MAX, &mut Vec::new()).unwrap() > 0, "it was the disk, and it is well again");
}

#[test]
fn a_damaged_or_missing_partition_file_is_damage() {
    let fixture = Fixture::new();
    fixture.fill(100, 1_000);
    fixture.open().unwrap().maintain().unwrap();
    // Of the journal, what was split is gone: these files are all there is.
    let files = fixture.files("partitions/events.v1-0");
    assert!(files.len() > 3, "{files:?}");
    let trailer = fs::metadata(&files[1]).unwrap().len() - 40;
    flip(&files[1], trailer);
    fixture.refused_as_corrupt(&files[1]);
    flip(&files[1], trailer);
    flip(&files[0], 5);
    fixture.refused_as_corrupt(&files[0]);
    flip(&files[0], 5);
    let cut = File::options().write(true).open(files.last().unwrap()).unwrap();
    let bytes = cut.metadata().unwrap().len();
    let last = fs::read(files.last().unwrap()).unwrap();
    cut.set_len(bytes - 30).unwrap();
    fixture.refused_as_corrupt(files.last().unwrap());
    fs::write(files.last().unwrap(), last).unwrap();
    fs::rename(&files[1], files[1].with_extension("elsewhere")).unwrap();
    fixture.refused_as_corrupt(&files[0]);
    fs::rename(files[1].with_extension("elsewhere"), &files[1]).unwrap();
    assert_eq!(read_from(&fixture.open().unwrap(), Topic::Events, 0, 0).len(), 100);
}

#[test]
fn a_damaged_newer_or_missing_manifest_is_refused() {
    let fixture = Fixture::new();
    fixture.fill(50, 4_000);
    let manifest = fixture.config.directory.join("log.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replacen("\"created_at_ms\": 1", "\"created_at_ms\": 2", 1)).unwrap();
    assert!(fixture.refused_as_corrupt(&manifest).contains("checksum"));
    fs::write(&manifest, text.replacen("\"format\": 1", "\"format\": 9", 1)).unwrap();
    assert!(fixture.refused().to_string().contains("newer program"));
    fs::write(&manifest, "not JSON").unwrap();
    fixture.refused_as_corrupt(&manifest);
    fs::remove_file(&manifest).unwrap();
    fixture.refused_as_corrupt(&manifest);
    fs::write(&manifest, text).unwrap();
    fixture.open().unwrap();
}

#[test]
fn other_numbers_of_partitions_are_refused_and_none_means_those_it_was_made_with() {
    let mut fixture = Fixture::new();
    let counts = PartitionCounts { conversations: 3, recipients: 4, edges: 5, directory: 1 };
    fixture.config.partitions = Some(counts);
    fixture.fill(1, 10);
    fixture.config.partitions = None;
    assert_eq!(fixture.open().unwrap().partitions(Topic::Inbox), 4);
    fixture.config.partitions = Some(PartitionCounts { conversations: 2, ..counts });
    let error = fixture.refused().to_string();
    assert!(error.contains("events.v1 has 3 partitions, and 2 are set"), "{error}");
}

/// On a real, small file system, if this machine lets us make one.
#[test]
fn a_full_disk_refuses_appends_until_there_is_room_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(folder.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        println!("skipped: a tmpfs cannot be mounted here (needs root)");
        return;
    }
    let ballast = folder.path().join("ballast");
    fs::write(&ballast, vec![1; 700 * 1024]).unwrap();
    let config = EmbeddedConfig {
        directory: folder.path().join("log"),
        journal_segment_bytes: 128 * 1024,
        ..EmbeddedConfig::default()
    };
    let open = || EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    let mut acknowledged = 0_u32;
    {
        let log = open();
        let one = |number: u32| append(&log, vec![record(Topic::Events, 0, number.to_le_bytes().repeat(500))]);
        let error = loop {
            match one(acknowledged) {
                Ok(offsets) => assert_eq!(offsets, [u64::from(acknowledged)]),
                Err(error) => break error,
            }
            acknowledged += 1;
            assert!(acknowledged < 10_000, "2 MiB hold no such amount");
        };
        assert!(matches!(error, AppendError::Unavailable { .. }) && error.is_retryable(), "{error}");
        assert!(error.to_string().contains("No space left"), "{error}");
        assert_eq!(read_from(&log, Topic::Events, 0, 0).len(), acknowledged as usize, "it can still be read");
        fs::remove_file(&ballast).unwrap();
        // The background, too, must first get over its full disk.
        while one(acknowledged).is_err() {}
        acknowledged += 1;
    }
    let log = open();
    for (number, record) in (0..acknowledged).zip(read_from(&log, Topic::Events, 0, 0)) {
        assert_eq!(record.value, number.to_le_bytes().repeat(500));
    }
    assert_eq!(log.range(Topic::Events, 0).unwrap().end, u64::from(acknowledged));
    drop(log);
    let unmounted = Command::new("umount").arg(folder.path()).status().unwrap();
    assert!(unmounted.success());
}
