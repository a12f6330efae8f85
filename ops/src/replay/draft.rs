//! A file that has its name once it is whole: what was interrupted is never taken for all there was.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::exit::{Code, Failure, Outcome, WithCode};

/// A file that is being written, named `FILE.part` until then. An attempt after an interruption begins it anew.
pub struct Draft {
    name: PathBuf,
    part: PathBuf,
    is_whole: bool,
}

impl Draft {
    /// Begins to write what becomes `name`.
    ///
    /// # Errors
    /// There is a file of that name, which is never written over; it cannot be made.
    pub fn create(name: &Path) -> Result<(Self, File), Failure> {
        if name.exists() {
            let error =
                format!("{} is there already (hint: nothing is written over; name another file)", name.display());
            return Err(Failure::new(Code::Target, error));
        }
        let mut part = name.as_os_str().to_owned();
        part.push(".part");
        let draft = Self { name: name.to_owned(), part: part.into(), is_whole: false };
        let file = File::create(&draft.part);
        let file = file.with_context(|| format!("cannot create {}", draft.part.display())).code(Code::Target)?;
        Ok((draft, file))
    }

    /// All was written: durable, and then under its own name.
    ///
    /// # Errors
    /// The folder's.
    pub fn finish(mut self) -> Outcome {
        let finished =
            File::open(&self.part).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&self.part, &self.name));
        finished.with_context(|| format!("cannot write {}", self.name.display())).code(Code::Target)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Draft {
    /// A part is of no use.
    fn drop(&mut self) {
        if !self.is_whole {
            // It may be gone already.
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("all.jsonl");
        let in_folder = || fs::read_dir(folder.path()).unwrap().count();
        // What an interruption left is of no interest.
        fs::write(folder.path().join("all.jsonl.part"), "half a li").unwrap();
        let (draft, mut file) = Draft::create(&name).unwrap();
        file.write_all(b"a").unwrap();
        assert!(!name.exists());
        drop(draft);
        assert_eq!(in_folder(), 0, "a failure leaves nothing");

        let (draft, mut file) = Draft::create(&name).unwrap();
        file.write_all(b"all").unwrap();
        draft.finish().unwrap();
        assert_eq!((fs::read(&name).unwrap(), in_folder()), (b"all".to_vec(), 1));
        let refused = Draft::create(&name).err().unwrap();
        assert!(refused.code == Code::Target && refused.error.to_string().contains("there already"));
    }
}
