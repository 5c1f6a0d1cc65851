//! What every command needs: the configuration, the right user, the database; and how commands fail.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Uid, User};

use super::print;
use crate::broker::Broker;
use crate::config::{self, Config};
use crate::daemon;
use crate::fault::chain;
use crate::grant::GrantRef;
use crate::mailbox::Mailbox;
use crate::store::{Store, StoreError};
use crate::telling::Teller;
use crate::time::Clock;

/// All went well.
pub const OK: u8 = 0;
/// The answer is no, or something failed.
pub const NO: u8 = 1;
/// The arguments make no sense.
pub const USAGE: u8 = 2;
/// The database or the disk.
const DATABASE: u8 = 74;
/// Try again later.
pub const TRY_AGAIN: u8 = 75;
/// Not for this user.
const PERMISSION: u8 = 77;
/// The configuration.
const CONFIGURATION: u8 = 78;

/// Why a command ends without having done its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is refused.
    #[error("{0}")]
    Configuration(config::Refused),
    /// The configuration is sound, but what it asks for cannot be had, such as the token key.
    #[error("{0}")]
    Unusable(String),
    /// The database.
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    /// Another daemon runs on the state directory.
    #[error("another mailintake runs on {0} already")]
    Running(PathBuf),
    /// The command is for root or the owner of the state directory.
    #[error("{0}")]
    Permission(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Something failed.
    #[error("{0}")]
    Failed(String),
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// A file that was named.
    #[error("{}", chain(.0))]
    File(#[from] crate::files::FileError),
    /// Standard output or input.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// The exit code of the process.
    pub fn code(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::Unusable(_) => CONFIGURATION,
            Self::Store(_) => DATABASE,
            Self::Running(_) => TRY_AGAIN,
            Self::Permission(_) => PERMISSION,
            Self::NotFound(_) | Self::Failed(_) | Self::File(_) | Self::Output(_) => NO,
            Self::Usage(_) => USAGE,
        }
    }
}

/// What a command works with.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The wall clock.
    pub clock: Clock,
}

impl Context {
    /// The database, which must be there.
    ///
    /// # Errors
    /// [`Failure::Store`].
    pub async fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open_existing(&self.config.daemon.state_dir).await?)
    }

    /// The database, made if it is not there.
    ///
    /// # Errors
    /// [`Failure::Store`].
    pub async fn make_store(&self) -> Result<Store, Failure> {
        make_state_dir(&self.config.daemon.state_dir)?;
        Ok(Store::open(&self.config.daemon.state_dir).await?)
    }
}

impl Context {
    /// A broker over a database, with the configured token key.
    ///
    /// # Errors
    /// [`Failure::Unusable`] for a token key that cannot be used.
    pub async fn broker(&self, store: &Store) -> Result<Broker, Failure> {
        let opened = daemon::open_broker(&self.config, store, &self.clock).await;
        opened.map_err(|error| Failure::Unusable(chain(&error)))
    }

    /// The address under which others know the listener.
    pub fn public_url(&self) -> Option<url::Url> {
        self.config
            .daemon
            .public_url
            .as_deref()
            .and_then(|text| url::Url::parse(text).ok())
    }

    /// The grants that the mailboxes sign in with, each once, with the name of its first mailbox.
    pub fn grants(&self) -> Vec<(GrantRef, String)> {
        self.config.grants()
    }

    /// The mailboxes of these names; all where none is named.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a name that is no mailbox's.
    pub fn mailboxes(&self, names: &[String]) -> Result<Vec<Arc<Mailbox>>, Failure> {
        if names.is_empty() {
            return Ok(self.config.mailboxes.clone());
        }
        let find = |name: &String| {
            let found = self.config.mailbox_named(name).cloned();
            found.ok_or_else(|| Failure::Usage(format!("no mailbox is called {name}; `mailintake status` lists all")))
        };
        names.iter().map(find).collect()
    }

    /// The mailbox of this name; where none is named, the only one.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a name that is no mailbox's, or where there are several.
    pub fn mailbox(&self, name: Option<&str>) -> Result<Arc<Mailbox>, Failure> {
        let names: Vec<String> = name.map(str::to_owned).into_iter().collect();
        match self.mailboxes(&names)?.as_slice() {
            [mailbox] => Ok(Arc::clone(mailbox)),
            [] => Err(Failure::Usage("no mailbox is configured".to_owned())),
            [_, _, ..] => Err(Failure::Usage(
                "there are several mailboxes; name one with --mailbox".to_owned(),
            )),
        }
    }
}

/// Reads the configuration.
///
/// # Errors
/// [`Failure::Configuration`] with all of its faults.
pub fn load(path: &Path) -> Result<Config, Failure> {
    config::load(path).map_err(Failure::Configuration)
}

/// Reads the configuration, becomes the owner of the state directory, and runs a command.
///
/// # Errors
/// Any [`Failure`].
pub fn with_config<F>(path: &Path, command: F) -> Result<u8, Failure>
where
    F: AsyncFnOnce(&Context) -> Result<u8, Failure>,
{
    with_opened(path, |_| Ok(()), async |context, ()| command(context).await)
}

/// As [`with_config`], and opens files while it is still the user who named them.
///
/// # Errors
/// Any [`Failure`].
pub fn with_opened<T, O, F>(path: &Path, open: O, command: F) -> Result<u8, Failure>
where
    O: FnOnce(&Config) -> Result<T, Failure>,
    F: AsyncFnOnce(&Context, T) -> Result<u8, Failure>,
{
    let config = load_or_explain(path)?;
    admit(&config.daemon.state_dir)?;
    let opened = open(&config)?;
    become_owner(&config.daemon.state_dir)?;
    let context = Context {
        config,
        clock: Clock::system(),
    };
    block_on(command(&context, opened))
}

/// What a command about the database alone works with.
pub struct Database {
    state_dir: PathBuf,
    /// The wall clock.
    pub clock: Clock,
    /// Who tells those outside; nobody where the configuration is refused.
    pub teller: Teller,
    /// The configuration; `None` where it is refused.
    pub config: Option<Config>,
}

impl Database {
    /// Where the database is, or will be.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The database, which must be there.
    ///
    /// # Errors
    /// [`Failure::Store`].
    pub async fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open_existing(&self.state_dir).await?)
    }
}

/// Finds the state directory, becomes its owner, and runs a command about the database alone. A refused
/// configuration is told aside: while somebody mends it, the outcome can be looked at.
///
/// # Errors
/// Any [`Failure`].
pub fn with_database<F>(path: &Path, command: F) -> Result<u8, Failure>
where
    F: AsyncFnOnce(&Database) -> Result<u8, Failure>,
{
    with_database_and(path, |_| Ok(()), async |database, ()| command(database).await)
}

/// The same for a command that names files: `open` opens them as whoever types it, before it becomes the owner
/// of the state directory.
///
/// # Errors
/// Any [`Failure`].
pub fn with_database_and<T, F>(
    path: &Path,
    open: impl FnOnce(&Path) -> Result<T, Failure>,
    command: F,
) -> Result<u8, Failure>
where
    F: AsyncFnOnce(&Database, T) -> Result<u8, Failure>,
{
    let teller = Teller::default();
    let mut loaded = None;
    let state_dir = match load_or_explain(path) {
        Ok(config) => {
            teller.set(config.receivers());
            let state_dir = config.daemon.state_dir.clone();
            loaded = Some(config);
            state_dir
        }
        Err(Failure::Configuration(refused)) => {
            let Some(state_dir) = refused.state_dir.clone() else {
                return Err(Failure::Configuration(refused));
            };
            print::aside(&format!("mailintake: the configuration is refused: {refused}"));
            state_dir
        }
        Err(other) => return Err(other),
    };
    admit(&state_dir)?;
    let opened = open(&state_dir)?;
    become_owner(&state_dir)?;
    let database = Database {
        state_dir,
        clock: Clock::system(),
        teller,
        config: loaded,
    };
    block_on(command(&database, opened))
}

/// Runs a command to its end. A read of standard input that nobody answers does not hold up the exit.
fn block_on(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(command);
    runtime.shutdown_background();
    done
}

/// Reads the configuration. A user who may read neither it nor the secrets is told what to type, not what is
/// unreadable.
///
/// # Errors
/// [`Failure::Configuration`], [`Failure::Permission`].
pub fn load_or_explain(path: &Path) -> Result<Config, Failure> {
    let loaded = load(path);
    let Err(Failure::Configuration(refused)) = &loaded else {
        return loaded;
    };
    if Uid::effective().is_root() {
        return loaded;
    }
    let is_closed = std::fs::File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let packaged = Path::new("/var/lib/mailintake");
    match &refused.state_dir {
        Some(state_dir) if !owns(state_dir) => Err(not_for_you(state_dir)),
        None if is_closed || (path.starts_with("/etc/mailintake") && !owns(packaged)) => Err(not_for_you(packaged)),
        Some(_) | None => loaded,
    }
}

/// Refuses whoever is neither root nor the owner of the state directory.
///
/// # Errors
/// [`Failure::Permission`].
pub fn admit(state_dir: &Path) -> Result<(), Failure> {
    if owns(state_dir) || Uid::effective().is_root() {
        return Ok(());
    }
    Err(not_for_you(state_dir))
}

/// Whether a directory is this user's own, or not there.
pub fn owns(directory: &Path) -> bool {
    std::fs::metadata(directory).map_or(true, |metadata| metadata.uid() == Uid::effective().as_raw())
}

/// As root, becomes the owner of the state directory, so that nothing there is left owned by root; anybody
/// else must be the owner. A directory that is missing belongs to whoever runs the command.
///
/// # Errors
/// [`Failure::Permission`].
pub fn become_owner(state_dir: &Path) -> Result<(), Failure> {
    let Ok(metadata) = std::fs::metadata(state_dir) else {
        return Ok(());
    };
    let (owner, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    if owner == Uid::effective() {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        return Err(not_for_you(state_dir));
    }
    let become_ = || -> nix::Result<()> {
        match User::from_uid(owner)? {
            Some(user) => {
                let name = std::ffi::CString::new(user.name).map_err(|_| nix::errno::Errno::EINVAL)?;
                nix::unistd::initgroups(&name, user.gid)?;
            }
            None => nix::unistd::setgroups(&[group])?,
        }
        nix::unistd::setgid(group)?;
        nix::unistd::setuid(owner)
    };
    become_()
        .map_err(|errno| Failure::Permission(format!("cannot become the owner of {}: {errno}", state_dir.display())))
}

fn not_for_you(state_dir: &Path) -> Failure {
    let owner = std::fs::metadata(state_dir)
        .ok()
        .and_then(|metadata| User::from_uid(Uid::from_raw(metadata.uid())).ok().flatten())
        .map_or_else(|| "mailintake".to_owned(), |user| user.name);
    let typed: Vec<String> = std::env::args().skip(1).collect();
    Failure::Permission(format!(
        "this command is for root and for {owner}, who owns {}; type `sudo mailintake {}`",
        state_dir.display(),
        typed.join(" ")
    ))
}

/// Makes the state directory, closed to others, where it is missing.
///
/// # Errors
/// [`Failure::Store`].
pub fn make_state_dir(state_dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(|source| {
            Failure::Store(StoreError::File {
                path: state_dir.to_owned(),
                source,
            })
        })
}
