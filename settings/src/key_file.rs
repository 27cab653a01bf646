//! Private keys in files of their own: 64 hexadecimal digits that nobody but the owner may read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why there is no key. Each message ends with what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read or made.
    #[error("key file {}: {source}; name another one with [security] key", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not hold a key.
    #[error("key file {} does not hold 64 hexadecimal digits; remove it to have one made", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the file.
    #[error(
        "key file {} can be read by others (mode {mode:03o}): the key may be known; remove the file, or chmod 600 it if nobody has looked",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Reads the key in `path`; `None` if there is no such file.
///
/// # Errors
/// The file is not fit to hold a key, or holds none.
pub fn read(path: &Path) -> Result<Option<[u8; 32]>, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = permissions(path).map_err(failed)?;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let key = parse_hex(text.trim());
    key.map(Some).ok_or_else(|| KeyFileError::NoKey { path: path.to_owned() })
}

/// Reads the key in `path`, or makes the file, with its folder, around the key that `draw` draws.
/// Of several who make it at once one wins, and all get its key.
///
/// # Errors
/// As [`read`], what `draw` says, or the file cannot be made.
pub fn read_or_make(
    path: &Path,
    draw: impl FnOnce() -> io::Result<[u8; 32]>,
) -> Result<[u8; 32], KeyFileError> {
    if let Some(key) = read(path)? {
        return Ok(key);
    }
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let key = draw().map_err(failed)?;
    make(path, &key).map_err(failed)?;
    read(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Writes a whole file beside, and gives it its name if that is still free.
fn make(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    let unique: String = key.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let draft = path.with_extension(format!("{}-{unique}.new", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    fs::remove_file(&draft).and(linked)
}

/// The permissions of a file with secrets that every user of this system may read or change; `None` if only its
/// owner and its group may.
///
/// # Errors
/// Those of asking the system about the file.
pub fn open_to_everybody(path: &Path) -> io::Result<Option<u32>> {
    Ok(Some(permissions(path)?).filter(|mode| mode & 0o006 != 0))
}

#[cfg(unix)]
fn permissions(path: &Path) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn permissions(_path: &Path) -> io::Result<u32> {
    Ok(0o600)
}

/// 32 bytes from 64 hexadecimal digits.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|it| it.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect();
    let digits = digits.filter(|it| it.len() == 64)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("ntcp-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_is_made_once_with_its_folder_and_for_its_owner_alone() {
        let folder = Folder::new("key-made");
        let path = folder.0.join("below").join("node.key");
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(read_or_make(&path, || Ok([0xA7; 32])).unwrap(), [0xA7; 32]);
        assert_eq!(read_or_make(&path, || panic!("there is one")).unwrap(), [0xA7; 32]);
        assert_eq!(permissions(&path).unwrap(), 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn of_several_who_make_a_key_at_once_all_have_the_same() {
        let folder = Folder::new("key-race");
        let path = folder.0.join("node.key");
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let makers = (0..8u8).map(|number| {
                let path = &path;
                scope.spawn(move || read_or_make(path, || Ok([number; 32])).unwrap())
            });
            let makers: Vec<_> = makers.collect();
            makers.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|it| *it == keys[0]), "{keys:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("key-bad");
        let path = folder.0.join("node.key");
        read_or_make(&path, || Ok([1; 32])).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::Open { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key").unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::NoKey { .. })));
    }
}
