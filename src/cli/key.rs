//! `key rotate`: all tokens sealed with a new key, beside a running daemon.
//! It never leaves a moment at which neither the key file nor the database has the key that the tokens need.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::context::{self, Context, Failure, OK};
use super::print;
use crate::authorize;
use crate::broker::TokenError;
use crate::broker::keyring::Current;
use crate::broker::rotate::rotate;
use crate::config::Config;
use crate::fault::chain;
use crate::seal::Key;
use crate::secret::SecretSource;
use crate::store::{FILE_NAME, StoreError};

/// What is done to the key.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Seal all tokens with a new key; the daemon may run
    Rotate {
        /// A file with the new key: 32 bytes in base64 or hex. Needed where the key is a credential; else one is made
        #[arg(long, value_name = "FILE")]
        new: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
/// Any [`Failure`].
pub fn command(config: &Path, command: &KeyCommand) -> Result<u8, Failure> {
    let KeyCommand::Rotate { new } = command;
    context::with_opened(
        config,
        |config| Staged::prepare(config, new.as_deref()),
        async |context, staged| {
            let is_in_file = matches!(staged.place, Place::File { .. });
            let done = run(context, staged).await;
            if done.is_err() && is_in_file {
                // The file may be where its owner alone can write; with both keys in it all goes on as before.
                print::aside("the key file holds a new key beside the old one now, which does no harm");
            }
            done
        },
    )
}

/// The new key, and where it goes.
struct Staged {
    new: Key,
    place: Place,
}

/// Where the configured key is.
enum Place {
    /// A file, which holds the new key and the old ones until the database has the new; its path.
    File { file: File, path: PathBuf },
    /// What is read at a restart only; in words.
    UntilRestart(String),
}

impl Staged {
    /// Opens what is needed, while we are still the user who typed the command.
    fn prepare(config: &Config, new: Option<&Path>) -> Result<Self, Failure> {
        let state_dir = &config.daemon.state_dir;
        let database = state_dir.join(FILE_NAME);
        if !database.exists() {
            return Err(Failure::Store(StoreError::Missing { path: database }));
        }
        let source = config.daemon.token_key_source();
        let new = match new {
            Some(path) => read_new(path)?,
            None if source.path().is_some() => Key::generate("the new key"),
            None => return Err(needs_new(&source)),
        };
        let place = match source.path() {
            Some(path) => stage(path, &new)?,
            None => Place::UntilRestart(source.describe()),
        };
        Ok(Self { new, place })
    }
}

fn needs_new(source: &SecretSource) -> Failure {
    Failure::Usage(format!(
        "the token key is {}, which only you can change: write the new key into a file with \
         `(umask 077; openssl rand -base64 32 > new.key)` and name it with --new new.key",
        source.describe()
    ))
}

fn read_new(path: &Path) -> Result<Key, Failure> {
    let own_group = nix::unistd::Gid::effective().as_raw();
    let secret = SecretSource::File(path.to_owned()).read(own_group);
    let secret = secret.map_err(|error| Failure::Failed(format!("--new: {}", chain(&error))))?;
    let keys = Key::from_secret(&secret).map_err(|error| Failure::Failed(format!("--new: {}", chain(&error))))?;
    match keys.as_slice() {
        [key] => Ok(key.clone()),
        _ => Err(Failure::Failed(format!(
            "--new: {} holds several keys; one is needed",
            path.display()
        ))),
    }
}

/// Puts a file with the new key and the old ones in the place of the key file: whoever reads it meanwhile finds
/// the one that fits.
fn stage(path: &Path, new: &Key) -> Result<Place, Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Failure::NotFound(format!(
            "there is no token key at {} yet: it is made at the first sign-in, and nothing is sealed before",
            path.display()
        )),
        ErrorKind::PermissionDenied => Failure::Permission(format!(
            "cannot write the token key {}: {error}; run this as root",
            path.display()
        )),
        _ => Failure::Failed(format!("cannot write the token key {}: {error}", path.display())),
    };
    let path = path.canonicalize().map_err(failed)?;
    let old = crate::seal::read_again(&path).map_err(|error| Failure::Unusable(chain(&error)))?;
    if old.iter().any(|old| old.is_same(new)) {
        return Err(Failure::Usage("the new key is the old one; nothing was changed".into()));
    }
    let file = replace(&path, new, &old).map_err(failed)?;
    Ok(Place::File { file, path })
}

/// The same owner and mode as before, whole or not at all.
fn replace(path: &Path, new: &Key, old: &[Key]) -> std::io::Result<File> {
    let was = std::fs::metadata(path)?;
    let draft = path.with_extension("rotating");
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    for key in std::iter::once(new).chain(old) {
        file.write_all(key.line().as_bytes())?;
    }
    let is_ours = was.uid() == nix::unistd::Uid::effective().as_raw();
    if !is_ours {
        fchown(&file, Some(was.uid()), Some(was.gid()))?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(was.mode() & 0o7777))?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()?;
    Ok(file)
}

async fn run(context: &Context, staged: Staged) -> Result<u8, Failure> {
    let store = context.store().await?;
    let broker = context.broker(&store).await?;
    let old = broker.key().await.map_err(|error| failure(&error))?;
    // Of a file that was looked at before: where no token needed the old key, the new one is in force already.
    if matches!(staged.place, Place::UntilRestart(_)) && old.key.is_same(&staged.new) {
        return Err(Failure::Usage("the new key is the old one; nothing was changed".into()));
    }
    let count = seal_anew(&store, &old, &staged).await?;
    print::line(&format!("sealed the tokens of {count} grants with the new key"))?;
    match staged.place {
        Place::File { file, path } => {
            // The first line: the old keys go.
            let length = u64::try_from(staged.new.line().len()).unwrap_or(u64::MAX);
            file.set_len(length).and_then(|()| file.sync_all())?;
            print::line(&format!(
                "the new key is in {}; a running daemon uses it from now on",
                path.display()
            ))?;
            print::aside("copies of the database from before need the old key, which is gone: make a new `backup`");
        }
        Place::UntilRestart(source) => {
            print::line(&format!(
                "now make the new key {source} and restart: `systemctl restart mailintake`. Until then the database \
                 keeps the new key, sealed with the old"
            ))?;
            print::aside("keep the old key for copies of the database from before");
        }
    }
    Ok(OK)
}

async fn seal_anew(store: &crate::store::Store, old: &Current, staged: &Staged) -> Result<usize, Failure> {
    let bridge = match &staged.place {
        Place::File { .. } => None,
        Place::UntilRestart(_) => Some(&old.configured),
    };
    let mut write = store.write().await?;
    let count = rotate(&mut write, old, &staged.new, bridge)
        .await
        .map_err(|error| failure(&error))?;
    let resealed = authorize::reseal(&mut write, &old.key, &staged.new).await;
    resealed.map_err(|error| failure(&error))?;
    write.commit().await?;
    Ok(count)
}

fn failure(error: &TokenError) -> Failure {
    Failure::Failed(format!("{}; the tokens are as they were", chain(error)))
}
