//! The database: its statements, its outside, and what happens when it is newer, damaged, shared or raced for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailintake::mailbox::MailboxId;
use mailintake::store::view::issue;
use mailintake::store::{Store, StoreError, mailbox};
use mailintake::time::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};

use crate::support::binary::project;
use crate::support::scene::{SOON, Scene, mail, query};

/// Tables that grow with the mail. None may be read from end to end by what runs for each message.
const GROWING: [&str; 16] = [
    "message",
    "original",
    "issue",
    "comment",
    "event",
    "participant",
    "link",
    "carrier",
    "content",
    "attachment",
    "attempt",
    "outgoing",
    "sent",
    "original_more",
    "original_part",
    "content_more",
];
/// Lists for people, which read from the newest on until there is enough.
const MAY_SCAN: [&str; 3] = [
    "SELECT v.* FROM issues v",
    "SELECT v.* FROM messages v",
    // Of `--since`, which reads the mail of days anyway.
    "SELECT m.id FROM message m JOIN original o",
];

async fn connect(directory: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(directory.join(mailintake::store::FILE_NAME))
        .busy_timeout(Duration::from_secs(10));
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn change(directory: &Path, sql: &str) {
    let mut connection = connect(directory).await;
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The literals of `sqlx::query("…")`, which is how each statement is written.
fn statements() -> Vec<(String, String)> {
    let pattern = regex::Regex::new(r#"(?s)sqlx::query\(\s*(?:r#)?"((?:[^"\\]|\\.)*)""#).unwrap();
    let mut found = Vec::new();
    for path in sources(&project("src/store")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for statement in pattern.captures_iter(&text) {
            found.push((name.clone(), statement[1].replace("\\\"", "\"").replace("\\\n", "\n")));
        }
    }
    found
}

#[tokio::test]
async fn every_statement_fits_the_schema_and_none_of_the_frequent_ones_scans_a_table_that_grows() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(directory.path()).await.unwrap().close().await;
    let statements = statements();
    assert!(statements.len() > 60, "{} statements were found", statements.len());
    let scans = regex::Regex::new(r"^SCAN (\w+)( USING .*)?$").unwrap();
    let mut scanning = Vec::new();
    for (file, statement) in statements {
        // Compiling it is what finds a wrong name.
        let plan: Vec<_> = statement
            .split(";\n")
            .flat_map(|part| query(&database(directory.path()), &format!("EXPLAIN QUERY PLAN {part}")))
            .collect();
        if MAY_SCAN
            .iter()
            .any(|beginning| statement.trim_start().starts_with(beginning))
        {
            continue;
        }
        for step in plan.iter().filter_map(|row| row.last()) {
            let Some(scan) = scans.captures(step) else { continue };
            let table = unaliased(&statement, &scan[1]);
            // The check of references to a new row, which runs only while one is broken.
            let is_check = statement.trim_start().starts_with("INSERT") && !reads(&statement, &table);
            if GROWING.contains(&table.as_str()) && !is_check {
                scanning.push(format!("{file}: {step}: {statement}"));
            }
        }
    }
    assert!(scanning.is_empty(), "{}", scanning.join("\n"));
}

/// Whether a statement names a table to read from.
fn reads(statement: &str, table: &str) -> bool {
    let pattern = regex::Regex::new(&format!(r"(?:FROM|JOIN)\s+{table}\b")).unwrap();
    pattern.is_match(statement)
}

/// The table that an alias of a statement stands for.
fn unaliased(statement: &str, name: &str) -> String {
    let pattern = regex::Regex::new(&format!(r"(?:FROM|JOIN)\s+(\w+)\s+(?:AS\s+)?{name}\b")).unwrap();
    pattern
        .captures(statement)
        .map_or_else(|| name.to_owned(), |found| found[1].to_owned())
}

fn database(directory: &Path) -> PathBuf {
    directory.join(mailintake::store::FILE_NAME)
}

#[tokio::test]
async fn an_issue_is_found_by_its_key_without_reading_all() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(directory.path()).await.unwrap().close().await;
    let fill = "INSERT INTO project VALUES ('SUP', 20000);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO issue (project, number, state, summary, description, created_at, updated_at)
             SELECT 'SUP', i, 'open', 's', 'd', 1, 1 FROM n";
    change(directory.path(), fill).await;
    let store = Store::open(directory.path()).await.unwrap();
    let begun = std::time::Instant::now();
    // Nothing fits, so that all are looked at, each once.
    let filter = issue::Filter {
        project: None,
        state: Some("closed".into()),
        limit: 50,
    };
    assert_eq!(issue::list(store.readers(), &filter).await.unwrap(), []);
    let shown = issue::show(store.readers(), ("SUP", 777)).await.unwrap().unwrap();
    assert_eq!(shown.issue.key, "SUP-777");
    // Read once for each, they would take minutes.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn all_tables_are_strict_and_the_views_have_the_promised_columns() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(directory.path()).await.unwrap().close().await;
    let ask = |sql: &str| query(&database(directory.path()), sql);
    let loose = ask("SELECT name FROM pragma_table_list
         WHERE schema = 'main' AND type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx%'");
    assert_eq!(loose, [] as [Vec<String>; 0]);
    for (view, columns) in [
        (
            "issues",
            "key project state summary reporter_name reporter_address created_at updated_at comment_count \
             attachment_count description description_elided",
        ),
        (
            "comments",
            "id issue author_name author_address trust body elided created_at message",
        ),
        ("attachments", "id issue comment filename media_type size sha256 inline"),
        (
            "messages",
            "id mailbox source remote_id folder uidvalidity uid message_id sha256 size class verdict reason issue \
             comment received_at ingested_at server_action",
        ),
    ] {
        let found: BTreeSet<String> = ask(&format!("SELECT name FROM pragma_table_info('{view}')"))
            .concat()
            .into_iter()
            .collect();
        let missing: Vec<_> = columns
            .split_whitespace()
            .filter(|column| !found.contains(*column))
            .collect();
        assert!(missing.is_empty(), "{view}: {missing:?}");
    }
    assert_eq!(ask("PRAGMA journal_mode"), [["wal"]]);
}

#[tokio::test]
async fn a_transaction_that_is_given_up_leaves_nothing_and_one_that_is_committed_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let now = Timestamp(1_793_610_000);
    let mut write = store.write().await.unwrap();
    mailbox::ensure(write.connection().unwrap(), "a@example.org", "a", "SUP", now)
        .await
        .unwrap();
    drop(write);
    assert_eq!(mailbox::find(store.readers(), "a@example.org").await.unwrap(), None);
    let mut write = store.write_lightly().await.unwrap();
    mailbox::ensure(write.connection().unwrap(), "B@example.org", "b", "SUP", now)
        .await
        .unwrap();
    write.commit().await.unwrap();
    let found = mailbox::find(store.readers(), "b@EXAMPLE.org").await.unwrap();
    assert!(matches!(found, Some(MailboxId(_))), "{found:?}");
    store.close().await;
    let again = Store::open(directory.path()).await.unwrap();
    assert_eq!(mailbox::find(again.readers(), "b@example.org").await.unwrap(), found);
}

#[tokio::test]
async fn others_may_read_in_the_midst_of_a_transaction_and_may_not_write_through_a_reader() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let mut write = store.write().await.unwrap();
    let now = Timestamp(1_793_610_000);
    mailbox::ensure(write.connection().unwrap(), "a@example.org", "a", "SUP", now)
        .await
        .unwrap();
    let count = query(&database(directory.path()), "SELECT count(*) FROM mailbox");
    assert_eq!(count, [["0"]], "what is not committed is not seen");
    write.commit().await.unwrap();
    let count = query(&database(directory.path()), "SELECT count(*) FROM mailbox");
    assert_eq!(count, [["1"]]);
    let refused = sqlx::query("DELETE FROM mailbox").execute(store.readers()).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(directory.path()).await.unwrap().close().await;
    change(
        directory.path(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of the future', 1, x'00', 1)",
    )
    .await;
    let refused = Store::open(directory.path()).await.err().unwrap();
    assert!(matches!(refused, StoreError::Newer { .. }), "{refused:?}");
    assert!(refused.to_string().contains("newer"), "{refused}");
}

#[test]
fn what_cannot_be_used_as_a_database_ends_every_command_with_74() {
    let scene = Scene::support("");
    std::fs::create_dir(scene.program.state_dir()).unwrap();
    std::fs::write(
        scene.program.database(),
        "this is no database, but long enough to look like one".repeat(100),
    )
    .unwrap();
    for command in [
        &["run"][..],
        &["issue", "list"],
        &["status"],
        &["alert", "list"],
        &["audit"],
    ] {
        let output = scene.program.run(command);
        assert_eq!(output.code, Some(74), "{command:?}: {}", output.stderr);
        assert!(
            output.stderr.contains("is no database of mailintake"),
            "{command:?}: {}",
            output.stderr
        );
    }
}

#[test]
fn a_database_that_is_damaged_while_in_use_ends_the_daemon_with_74() {
    let scene = Scene::support("watch = \"poll\"\npoll_interval = \"1s\"");
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(change(&scene.program.state_dir(), "ALTER TABLE issue RENAME TO lost"));
    scene.deliver(&mail("one"));
    assert_eq!(daemon.ended(SOON), Some(74), "{}", daemon.log());
}

#[test]
fn a_second_daemon_on_the_same_directory_ends_with_75_and_disturbs_nothing() {
    let scene = Scene::support("");
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    let second = scene.program.run(&["run"]);
    assert_eq!(second.code, Some(75), "{}", second.stderr);
    scene.deliver(&mail("one"));
    scene.wait_rows(&mut daemon, 1);
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn processes_that_make_the_database_at_once_make_one() {
    let scene = Scene::support("");
    std::fs::create_dir(scene.program.state_dir()).unwrap();
    let directory = scene.program.state_dir();
    let migrations = std::fs::read_dir(project("migrations")).unwrap().count();
    for _ in 0..5 {
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let directory = directory.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async { Store::open(&directory).await.unwrap().close().await });
                })
            })
            .collect();
        let mut daemon = scene.program.daemon();
        for opened in opening {
            opened.join().unwrap();
        }
        scene.wait_state(&mut daemon, "support", "watching", SOON);
        daemon.kill();
        assert_eq!(
            scene.query("SELECT count(*) FROM _sqlx_migrations WHERE success"),
            [[migrations.to_string()]]
        );
        for name in ["mailintake.db", "mailintake.db-wal", "mailintake.db-shm"] {
            drop(std::fs::remove_file(directory.join(name)));
        }
    }
}

#[tokio::test]
async fn a_database_that_was_taken_away_takes_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    store.write().await.unwrap().commit().await.unwrap();
    let aside = directory.path().join("aside");
    std::fs::rename(store.path(), &aside).unwrap();
    let refused = store.write().await.err().unwrap();
    assert!(matches!(refused, StoreError::Removed { .. }), "{refused}");
    std::fs::write(store.path(), "another").unwrap();
    assert!(store.write_lightly().await.is_err());
    std::fs::rename(&aside, store.path()).unwrap();
    store.write().await.unwrap().commit().await.unwrap();
}
