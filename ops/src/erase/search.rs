//! Looking for bytes that must be nowhere: in every record of the log, every row of the views and of the archive, and every
//! file of the data folder as it lies on the disk.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use aho_corasick::AhoCorasick;
use bytes::Bytes;
use tidings_ingest::Log;
use tidings_replay::{
    Scan, ScanError,
    erasure::{Needles, Rules, words_of_others},
};
use tidings_schemas::topics::Topic;

/// What is read of a file at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Finds needles.
pub(super) struct Search {
    needles: Vec<Bytes>,
    finder: AhoCorasick,
    longest: usize,
    /// Needles that others wrote, too: they may stand in the log.
    pub(super) said_by_others: usize,
}

impl Search {
    /// For what was found before the erasure, without what stands in others' words, too.
    pub(super) fn new(needles: &Needles, log: &dyn Log, rules: &Rules) -> Result<Self, ScanError> {
        let all: Vec<Bytes> = needles.found.iter().cloned().collect();
        let finder = finder_of(&all);
        let mut others = BTreeSet::new();
        words_of_others(log, rules, |words| {
            others.extend(finder.find_overlapping_iter(words).map(|found| found.pattern().as_usize()));
        })?;
        let needles: Vec<Bytes> = all
            .into_iter()
            .enumerate()
            .filter(|(index, _)| !others.contains(index))
            .map(|(_, needle)| needle)
            .collect();
        let longest = needles.iter().map(Bytes::len).max().unwrap_or(0);
        Ok(Self { finder: finder_of(&needles), needles, longest, said_by_others: others.len() })
    }

    /// How many are searched for.
    pub(super) fn len(&self) -> usize {
        self.needles.len()
    }

    /// As the archive takes them.
    pub(super) fn as_slices(&self) -> Vec<&[u8]> {
        self.needles.iter().map(AsRef::as_ref).collect()
    }

    /// Whether one of them stands in there.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        self.finder.is_match(bytes)
    }

    /// Records of a topic in which one stands.
    pub(super) fn in_topic(&self, log: &dyn Log, topic: Topic) -> Result<u64, ScanError> {
        let mut found = 0;
        for partition in 0..log.partitions(topic) {
            for record in Scan::new(log, topic, partition, 0..u64::MAX)? {
                let record = record?;
                found += u64::from(self.is_in(&record.value) || self.is_in(&record.key));
            }
        }
        Ok(found)
    }

    /// Files below the folder in which one stands, as they are on the disk; and how many were looked at.
    pub(super) fn in_files(&self, folder: &Path) -> io::Result<(u64, Vec<PathBuf>)> {
        let (mut looked_at, mut found, mut folders) = (0, Vec::new(), vec![folder.to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    match self.is_in_file(&entry.path()) {
                        Ok(true) => found.push(entry.path()),
                        Ok(false) => {}
                        // The engine's own housekeeping goes on meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    }
                    looked_at += 1;
                }
            }
        }
        found.sort_unstable();
        Ok((looked_at, found))
    }

    fn is_in_file(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; READ_BYTES];
        let mut kept = 0;
        loop {
            let read = file.read(&mut buffer[kept..])?;
            let filled = kept + read;
            if self.is_in(&buffer[..filled]) {
                return Ok(true);
            }
            if read == 0 {
                return Ok(false);
            }
            // What may be the beginning of one that goes on in the next part.
            kept = self.longest.saturating_sub(1).min(filled);
            buffer.copy_within(filled - kept..filled, 0);
        }
    }
}

#[allow(clippy::expect_used, reason = "ERASURE_NEEDLES_MAX and ERASURE_NEEDLE_BYTES keep it far below its limits")]
fn finder_of(needles: &[Bytes]) -> AhoCorasick {
    AhoCorasick::new(needles).expect("few enough patterns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_is_found_across_two_reads_and_below_folders() {
        let needles = vec![Bytes::from_static(b"needle-1"), Bytes::from_static(b"a longer needle")];
        let search = Search { finder: finder_of(&needles), longest: 15, needles, said_by_others: 0 };
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for (name, at) in [("a", READ_BYTES - 7), ("below/b", 0), ("c", 3 * READ_BYTES - 40)] {
            let mut bytes = vec![b'x'; at];
            bytes.extend(b"a longer needle");
            bytes.extend(vec![b'x'; 100]);
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        std::fs::write(folder.path().join("clean"), vec![b'n'; 3 * READ_BYTES]).unwrap();
        let (looked_at, found) = search.in_files(folder.path()).unwrap();
        let expected: Vec<PathBuf> = ["a", "below/b", "c"].iter().map(|name| folder.path().join(name)).collect();
        assert_eq!((looked_at, found), (4, expected));
    }
}
