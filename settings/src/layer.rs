//! Where values come from: a file, then the environment.

use crate::error::Error;
use crate::section::Config;
use crate::strict;
use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name under which a configuration file is looked for.
pub const FILE_NAME: &str = "p2pNetwork.toml";

/// What every variable of ours starts with.
const PREFIX: &str = "NTCP_";

/// The layers above the defaults. [`Config::load`] and [`Config::find`] are the usual way; this is
/// for callers that bring their own environment.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

impl Config {
    /// Reads this file, then the environment.
    ///
    /// # Errors
    /// The file cannot be read, or it or the environment says something that cannot be.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        Layers::from_environment().file(path).load()
    }

    /// Reads the first file found at `NTCP_CONFIG`, `./p2pNetwork.toml` or `ntcp/p2pNetwork.toml`
    /// in the user's configuration folder, then the environment. No file at all is fine.
    ///
    /// # Errors
    /// As [`Config::load`]; also when `NTCP_CONFIG` names a file that cannot be read.
    pub fn find() -> Result<Self, Error> {
        Layers::from_environment().find_file().load()
    }

    /// Reads TOML text alone, without environment.
    ///
    /// # Errors
    /// The text says something that cannot be.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let source = File::from_str(text, FileFormat::Toml);
        let config = strict::read(tree(source.collect())?)?;
        config.check()?;
        Ok(config)
    }
}

/// The folder `ntcp` in the user's configuration folder, by the environment of this process; `None` for
/// a user who has neither a configuration folder nor a home to make one in.
#[must_use]
pub fn user_folder() -> Option<PathBuf> {
    let folder = Layers::from_environment().user_folder()?;
    let above = folder.ancestors().skip(1).take(2).any(|it| it.is_dir() && it.parent().is_some());
    above.then_some(folder)
}

impl Layers {
    /// The environment of this process, and no file.
    #[must_use]
    pub fn from_environment() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self::new(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    /// This environment, and no file. An empty value counts as not set.
    #[must_use]
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = environment.into_iter().filter(|(_, value)| !value.is_empty());
        Self { file: None, environment: set.collect() }
    }

    /// Reads this file.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// Reads the first file that exists among the usual places.
    #[must_use]
    pub fn find_file(mut self) -> Self {
        let named = self.environment.get("NTCP_CONFIG").map(PathBuf::from);
        let mut usual = [Some(PathBuf::from(FILE_NAME)), self.user_file()].into_iter().flatten();
        self.file = named.or_else(|| usual.find(|path| path.is_file()));
        self
    }

    /// Merges the layers and checks the result.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(self) -> Result<Config, Error> {
        self.environment.keys().try_for_each(|variable| refuse_near_miss(variable))?;
        let mut builder = config::Config::builder();
        if let Some(path) = &self.file {
            let unreadable = |source| Error::Unreadable { path: path.clone(), source };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            builder = builder.add_source(FileText { place: path.display().to_string(), text });
        }
        let file = self.file.clone();
        let merged = builder.add_source(self).build().and_then(|merged| merged.collect());
        let mut config = strict::read(tree(merged)?)?;
        config.file = file;
        config.check()?;
        Ok(config)
    }

    /// `ntcp/p2pNetwork.toml` in the user's configuration folder.
    fn user_file(&self) -> Option<PathBuf> {
        Some(self.user_folder()?.join(FILE_NAME))
    }

    fn user_folder(&self) -> Option<PathBuf> {
        let variable = |name: &str| self.environment.get(name).map(PathBuf::from);
        let folder = variable("XDG_CONFIG_HOME")
            .or_else(|| variable("APPDATA"))
            .or_else(|| Some(variable("HOME")?.join(".config")))?;
        Some(folder.join("ntcp"))
    }
}

/// The text of a file whose values remember the file.
#[derive(Debug, Clone)]
struct FileText {
    place: String,
    text: String,
}

impl Source for FileText {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let values = File::from_str(&self.text, FileFormat::Toml).collect();
        let mut values = values.map_err(|error| error_in(&self.place, error))?;
        values.values_mut().for_each(|value| settle(value, &self.place));
        Ok(values)
    }
}

/// The environment as a source: each value remembers its variable.
impl Source for Layers {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut sections: Map<String, Map<String, Value>> = Map::new();
        for (name, value) in &self.environment {
            let Some((section, key)) = section_and_key(name) else { continue };
            let place = format!("environment variable {name}");
            let value = Value::new(Some(&place), ValueKind::String(value.clone()));
            sections.entry(section).or_default().insert(key, value);
        }
        Ok(sections.into_iter().map(|(name, table)| (name, Value::from(table))).collect())
    }
}

/// `NTCP_HOLE_PUNCH__BROKER` is `broker` in `[hole_punch]`. Other variables are not settings.
fn section_and_key(variable: &str) -> Option<(String, String)> {
    let name = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let (section, key) = name.split_once("__")?;
    Some((section.to_owned(), key.to_owned()))
}

/// `NTCP_NODE_NAME` lacks an underscore: it would be overlooked, so it is refused.
fn refuse_near_miss(variable: &str) -> Result<(), Error> {
    let name = variable.strip_prefix(PREFIX).unwrap_or_default();
    for (section, keys) in strict::sections() {
        for key in keys {
            let [section, key] = [section, key].map(str::to_ascii_uppercase);
            if name == format!("{section}_{key}") {
                let (variable, meant) = (variable.to_owned(), format!("{PREFIX}{section}__{key}"));
                return Err(Error::Variable { variable, meant });
            }
        }
    }
    Ok(())
}

/// Gives a value and everything inside it the place it came from.
fn settle(value: &mut Value, place: &str) {
    match &mut value.kind {
        ValueKind::Table(table) => table.values_mut().for_each(|inner| settle(inner, place)),
        ValueKind::Array(elements) => elements.iter_mut().for_each(|inner| settle(inner, place)),
        _ => {}
    }
    *value = Value::new(Some(&place.to_owned()), value.kind.clone());
}

fn error_in(place: &str, error: ConfigError) -> ConfigError {
    match error {
        ConfigError::FileParse { cause, .. } => {
            ConfigError::FileParse { uri: Some(place.to_owned()), cause }
        }
        other => other,
    }
}

/// Unwraps what `config` collected: it can only fail on syntax.
fn tree(collected: Result<Map<String, Value>, ConfigError>) -> Result<Map<String, Value>, Error> {
    collected.map_err(|error| {
        let (place, problem) = match error {
            ConfigError::FileParse { uri, cause } => (uri, cause.to_string()),
            other => (None, other.to_string()),
        };
        let place = place.unwrap_or_else(|| "configuration".to_owned());
        Error::Syntax { place, problem: problem.trim_end().to_owned() }
    })
}
