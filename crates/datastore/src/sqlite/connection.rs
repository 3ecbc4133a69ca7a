use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::{OpenError, StoreError};

/// "Mrgy" in the file's header tells our files from other SQLite databases.
const APPLICATION_ID: i64 = 0x4d72_6779;
const SCHEMA_VERSION: i64 = 1;
const BUSY_LIMIT: Duration = Duration::from_secs(3);

static OPENING: Mutex<()> = Mutex::new(());

/// `event` is the log, whose AUTOINCREMENT number is never used again, even when the newest rows are gone; a deletion
/// has no value. `item` holds what is current. `horizon` has one row: the newest revision that is no longer in the log.
const SCHEMA: &str = "
    CREATE TABLE event (revision INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, value BLOB);
    CREATE TABLE item (key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, revision INTEGER NOT NULL);
    CREATE TABLE horizon (compacted INTEGER NOT NULL);
    INSERT INTO horizon VALUES (0);
";

/// Tells whether a path still leads to the file that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Creates the file and its tables where they are absent, and refuses a file that isn't ours.
pub(super) fn prepare(path: &Path) -> Result<(), OpenError> {
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    // SQLite would create it with the umask's mode; its -wal and -shm take over the mode of the file. A file that is
    // there is left to SQLite: closing any descriptor of it drops the locks that this process holds by another one,
    // and the next process to leave would take the log away under us.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(file_error(path, &error)),
    }
    let mut connection = connect(path)?;
    let (id, version) = initialise(&mut connection).map_err(|error| open_error(path, &error))?;
    let reason = if id != APPLICATION_ID {
        "it is a database of another program"
    } else if version != SCHEMA_VERSION {
        "it was written by another version of Margay"
    } else {
        return Ok(());
    };
    Err(OpenError::File {
        path: path.into(),
        reason: reason.into(),
        advice: "name another file, or use the matching version".into(),
    })
}

/// Returns the application id and schema version that the file has after creation.
fn initialise(connection: &mut Connection) -> rusqlite::Result<(i64, i64)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if tables == 0 && pragma("application_id")? == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    let found = (pragma("application_id")?, pragma("user_version")?);
    transaction.commit()?;
    Ok(found)
}

/// Opens one connection to an existing file.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let deadline = Instant::now() + BUSY_LIMIT;
    loop {
        let attempt = Connection::open_with_flags(path, flags).and_then(configure);
        match attempt {
            Ok(connection) => return Ok(connection),
            // The switch to WAL and the recovery of a WAL report "busy" without asking the busy handler.
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(open_error(path, &error)),
        }
    }
}

fn configure(mut connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_handler(Some(busy_handler()))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(connection)
}

/// Waits 1 to 5 ms per turn for at most [`BUSY_LIMIT`]: the built-in handler sleeps up to 100 ms, which starves one of
/// several busy writers.
fn busy_handler() -> impl FnMut(i32) -> bool + Send + 'static {
    let mut rng = SmallRng::from_os_rng();
    let mut since = Instant::now();
    move |turn| {
        if turn == 0 {
            since = Instant::now();
        }
        if since.elapsed() >= BUSY_LIMIT {
            return false;
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(1000..=5000)));
        true
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn advice(path: &Path, error: &rusqlite::Error) -> String {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds its write lock; find it with fuser if this goes on".into()
        }
        Some(ErrorCode::DiskFull) => format!("free space on the file system of {path}"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            format!("make {path} and its directory writable for this user")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("stop all users of {path} and restore it from a copy")
        }
        _ => format!("check the disk and the file system of {path}"),
    }
}

pub(super) fn unavailable(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable { what: format!("{}: {error}", path.display()), advice: advice(path, error) }
}

fn open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::File { path: path.into(), reason: error.to_string(), advice: advice(path, error) }
}

pub(super) fn file_error(path: &Path, error: &std::io::Error) -> OpenError {
    let advice = match error.kind() {
        std::io::ErrorKind::NotFound => "create its directory first",
        std::io::ErrorKind::IsADirectory => "name a file, not a directory",
        _ => "make the file and its directory writable for this user",
    };
    OpenError::File { path: path.into(), reason: error.to_string(), advice: advice.into() }
}
