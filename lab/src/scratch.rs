//! Files and folders that are gone when their owner is.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place in the folder for temporary files that nobody else has. A file or a folder that is made
/// there goes away with this value.
#[derive(Debug)]
pub struct Scratch(String);

impl Scratch {
    /// A place of its own each time; there is nothing yet. `what` is for people who find it there.
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ntcp-{what}-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name).to_string_lossy().into_owned())
    }

    /// With a file in it.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn holding(what: &str, content: &str) -> io::Result<Self> {
        let scratch = Self::new(what);
        fs::write(&scratch, content)?;
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// What a program has written there as JSON.
    ///
    /// # Errors
    ///
    /// If there is no such file, or no JSON in it.
    pub fn json(&self) -> io::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&fs::read(self)?)?)
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made, or be somebody else's by now: then it is no harm.
        let _ = fs::remove_file(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_there_is_gone_with_it() {
        let (file, folder) = (Scratch::holding("file", "{}").unwrap(), Scratch::new("folder"));
        assert_ne!(file.path(), folder.path());
        fs::create_dir(&folder).unwrap();
        fs::write(Path::new(folder.path()).join("more"), "").unwrap();
        assert_eq!(file.json().unwrap(), serde_json::json!({}));
        let paths = [&file, &folder].map(|it| it.path().to_owned());
        drop((file, folder));
        assert!(paths.iter().all(|path| !Path::new(path).exists()));
    }
}
