//! Files that `issue …` reads and writes, opened as whoever types the command.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::cli::context::{Database, Failure, OK};
use crate::cli::output::Output;
use crate::cli::print;
use crate::store::view::issue as view;

/// Longest comment in bytes; what is longer is a file, and no comment.
const TEXT_LIMIT: u64 = 1 << 20;

/// Opens a file to read.
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))
}

/// The text of a comment, from a file or standard input.
pub(super) fn text(file: Option<File>) -> Result<String, Failure> {
    match file {
        Some(file) => read(file),
        None => read(std::io::stdin().lock()),
    }
}

fn read(from: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(TEXT_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Failed(format!("cannot read the comment: {error}")))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > TEXT_LIMIT) {
        return Err(Failure::Failed(
            "the comment is longer than 1 MiB; nothing was added".into(),
        ));
    }
    String::from_utf8(bytes).map_err(|_| Failure::Failed("the comment is no UTF-8 text; nothing was added".into()))
}

/// Prints the bytes of an attachment, or writes them to the file that was made for them.
pub(super) async fn attachment(database: &Database, id: i64, output: Option<Output>) -> Result<u8, Failure> {
    let bytes = find(database, id).await?;
    let Some(mut output) = output else {
        print::bytes(&bytes)?;
        return Ok(OK);
    };
    let written = output.file().write_all(&bytes);
    written.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", output.path().display())))?;
    output.keep()?;
    Ok(OK)
}

async fn find(database: &Database, id: i64) -> Result<Vec<u8>, Failure> {
    let store = database.store().await?;
    let bytes = view::attachment(store.readers(), id).await?;
    bytes.ok_or_else(|| {
        Failure::NotFound(format!(
            "there is no attachment {id}; `mailintake issue show KEY` lists those of an issue"
        ))
    })
}
