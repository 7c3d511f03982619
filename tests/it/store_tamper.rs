//! Whatever is changed in the database behind purser's back stops its next start, with an error
//! that says where.

use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::kit::docker::{docker, docker_with};
use crate::kit::purser::Purser;
use crate::kit::scratch::Scratch;
use crate::kit::start::Places;

/// The rows' numbers are in this column.
const TABLES: [(&str, &str, &[&str]); 2] = [
    ("keyring", "id", &["id", "usage", "made_at", "sealed"]),
    ("objects", "row", &["row", "kind", "id", "version", "key_id", "data_key", "sealed"]),
];
const KEYRING: usize = 0;
const OBJECTS: usize = 1;

/// Bytes of a sealed value: format, key id, commitment, nonce, and the first of what is sealed; a
/// negative one counts from the end.
const OFFSETS: [isize; 6] = [0, 4, 5, 37, 61, -1];

/// One thing that is done to a copy of the database.
#[derive(Debug, Clone)]
enum Damage {
    /// A bit of a value is turned.
    Flip { table: usize, row: i64, column: &'static str, offset: isize },
    /// The sealed values of two rows change places.
    Swap { table: usize, row: i64, other_table: usize, other: i64 },
    /// A row is taken out.
    Delete { table: usize, row: i64 },
    /// These tables are emptied.
    Empty { tables: &'static [&'static str] },
    /// A row is put back as it was in an earlier copy.
    Revive { table: usize, row: i64 },
}

/// A database file, open for damage.
struct Database {
    runtime: tokio::runtime::Runtime,
    connection: Option<SqliteConnection>,
}

impl Database {
    fn open(path: &Path) -> Database {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let options = SqliteConnectOptions::new().filename(path);
        let connection = runtime.block_on(options.connect()).expect("a database");
        Database { runtime, connection: Some(connection) }
    }

    #[track_caller]
    fn run(&mut self, sql: String) {
        assert!(self.run_any(sql.clone()) > 0, "{sql} changes nothing");
    }

    /// Runs statements; returns how many rows they changed.
    #[track_caller]
    fn run_any(&mut self, sql: String) -> u64 {
        let connection = self.connection.as_mut().expect("open until dropped");
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.clone()));
        let done = self.runtime.block_on(statements.execute(connection));
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }

    /// The first column of every row that a query finds, as text.
    #[track_caller]
    fn ask(&mut self, sql: &str) -> Vec<String> {
        let connection = self.connection.as_mut().expect("open until dropped");
        let query = sqlx::query(AssertSqlSafe(format!("SELECT CAST(x AS TEXT) FROM ({sql})")));
        let rows = self.runtime.block_on(query.fetch_all(connection)).expect("an answer");
        rows.iter().map(|row| row.get(0)).collect()
    }

    #[track_caller]
    fn numbers(&mut self, sql: &str) -> Vec<i64> {
        self.ask(sql).iter().map(|text| text.parse().expect("a number")).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(connection.close());
        }
    }
}

impl Damage {
    /// The statements that do it. `old` is the path of the earlier copy.
    fn sql(&self, database: &mut Database, old: &Path) -> String {
        match *self {
            Damage::Flip { table, row, column, offset } => {
                let (table, number, _) = TABLES[table];
                let of = format!("{column} AS x FROM {table} WHERE {number} = {row}");
                let kind = database.ask(&format!(
                    "SELECT typeof({column}) AS x FROM {table} WHERE {number} = {row}"
                ));
                let value = match kind[0].as_str() {
                    // Far from all others, since most of these numbers may be there only once.
                    "integer" if column == number => format!("{}", row + 1000),
                    "integer" => format!("{}", database.numbers(&format!("SELECT {of}"))[0] ^ 1),
                    "text" => flip_letter(&database.ask(&format!("SELECT {of}"))[0]),
                    _ => flip_bit(
                        &database.ask(&format!(
                            "SELECT hex({column}) AS x FROM {table} WHERE {number} = {row}"
                        ))[0],
                        offset,
                    ),
                };
                format!("UPDATE {table} SET {column} = {value} WHERE {number} = {row}")
            }
            Damage::Swap { table, row, other_table, other } => {
                let (one, one_number, _) = TABLES[table];
                let (two, two_number, _) = TABLES[other_table];
                format!(
                    "CREATE TEMP TABLE t AS SELECT sealed FROM {one} WHERE {one_number} = {row};
                     UPDATE {one} SET sealed = (SELECT sealed FROM {two} WHERE {two_number} = {other})
                         WHERE {one_number} = {row};
                     UPDATE {two} SET sealed = (SELECT sealed FROM t) WHERE {two_number} = {other}"
                )
            }
            Damage::Delete { table, row } => {
                let (table, number, _) = TABLES[table];
                format!("DELETE FROM {table} WHERE {number} = {row}")
            }
            Damage::Empty { tables } => {
                tables.iter().map(|table| format!("DELETE FROM {table};")).collect()
            }
            Damage::Revive { table, row } => {
                let (table, number, _) = TABLES[table];
                format!(
                    "ATTACH '{}' AS old;
                     REPLACE INTO {table} SELECT * FROM old.{table} WHERE {number} = {row}",
                    old.display()
                )
            }
        }
    }

    /// Texts of which the error has to have one.
    fn names(&self) -> Vec<String> {
        let place = |table: usize, row: i64| match TABLES[table].0 {
            "keyring" => "key ".to_owned(),
            name => format!("row {row} of {name}, "),
        };
        // All rows are there as they were sealed: only together are they wrong.
        let whole = "not as it was last written".to_owned();
        match *self {
            // The head names the store in everything that is sealed, the keys first of all.
            Damage::Flip { table: OBJECTS, row: 0, column: "id", .. } => vec!["keyring".into()],
            Damage::Empty { .. } => vec![whole, "the keyring has no key".to_owned()],
            Damage::Delete { table: OBJECTS, row: 0 } => vec![whole],
            Damage::Flip { table: OBJECTS, row: 0, column: "row", .. } => vec![whole],
            Damage::Flip { table, column: "row", row, .. } => {
                vec![whole, place(table, row + 1000), place(table, row + 1)]
            }
            // The key of a payload shows where it does not open.
            Damage::Flip { table, row, column: "data_key", .. } => vec![place(table, row + 1)],
            Damage::Flip { table, row, .. } => vec![place(table, row)],
            Damage::Swap { table, row, other_table, other } => {
                vec![place(table, row), place(other_table, other)]
            }
            Damage::Delete { table: KEYRING, row } => vec![place(KEYRING, row)],
            // An object that is missing shows at its payload, if it has one.
            Damage::Delete { table, row } => vec![whole, place(table, row + 1)],
            Damage::Revive { .. } => vec![whole],
        }
    }
}

fn flip_letter(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("'{}{rest}'", if first == "a" { "b" } else { "a" })
}

fn flip_bit(hex: &str, offset: isize) -> String {
    let at = if offset < 0 { hex.len() / 2 - 1 } else { offset.unsigned_abs() };
    let byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal digits");
    format!("x'{}{:02x}{}'", &hex[..2 * at], byte ^ 1, &hex[2 * at + 2..])
}

/// Everything that is tried on a database.
fn damages(database: &mut Database) -> Vec<Damage> {
    let mut all = Vec::new();
    let mut sealed = Vec::new();
    for (table, (name, number, columns)) in TABLES.into_iter().enumerate() {
        for row in database.numbers(&format!("SELECT {number} AS x FROM {}", rows_of(name))) {
            for column in columns {
                let offsets: &[isize] = match *column {
                    "sealed" => &OFFSETS,
                    // Only what has a payload has a key for it.
                    "data_key" if !has_data_key(database, row) => &[],
                    "data_key" => &OFFSETS,
                    _ => &[0],
                };
                all.extend(offsets.iter().map(|&offset| Damage::Flip {
                    table,
                    row,
                    column,
                    offset,
                }));
            }
            if columns.contains(&"sealed") {
                sealed.push((table, row));
            }
            all.push(Damage::Delete { table, row });
        }
    }
    for tables in [&["keyring"][..], &["objects"]] {
        all.push(Damage::Empty { tables });
    }
    // Every row with the next, so with one of its own kind, of another kind and of another table.
    for (at, (table, row)) in sealed.iter().copied().enumerate() {
        for step in [1, 2] {
            let (other_table, other) = sealed[(at + step) % sealed.len()];
            all.push(Damage::Swap { table, row, other_table, other });
        }
    }
    all
}

/// A table without the records of the audit, whose chain is checked elsewhere.
fn rows_of(table: &str) -> String {
    match table {
        "objects" => "objects WHERE kind <> 255".into(),
        other => other.into(),
    }
}

fn has_data_key(database: &mut Database, row: i64) -> bool {
    let of = format!("SELECT data_key IS NOT NULL AS x FROM objects WHERE row = {row}");
    database.numbers(&of) == [1]
}

/// A store with every kind of row: a copy of its database, and an earlier one.
fn make_store(dir: &Path) -> (Purser, PathBuf, PathBuf) {
    let mut purser = Purser::swarm("tamper");
    let socket = purser.socket();
    let create = docker_with(&socket, "secret create --label a=b one -", b"the first");
    create.ok();
    docker_with(&socket, "secret create two -", &[7; 3000]).ok();
    docker(&socket, "service create -d --name web --secret one redis:alpine").ok();
    crate::kit::eventually("the task is there", std::time::Duration::from_secs(20), || {
        (purser.client().get("/tasks").json().as_array()?.len() == 1).then_some(())
    });
    purser.stop();
    let old = dir.join("old.db");
    copy_alone(&purser.data_dir(), &old);
    purser.start();
    docker(&socket, "service update -d --label-add c=d --label-rm a web").ok();
    purser.stop();
    let made = dir.join("made.db");
    copy_alone(&purser.data_dir(), &made);
    (purser, made, old)
}

/// Copies a database, with what may still be in its log, into one file.
#[track_caller]
fn copy_alone(data_dir: &Path, to: &Path) {
    let mut database = Database::open(&data_dir.join("purser.db"));
    database.run_any(format!("VACUUM INTO '{}'", to.display()));
}

/// Rows that differ from the earlier copy; each is put back, alone.
fn revivals(database: &mut Database, old: &Path) -> Vec<Damage> {
    let mut all = Vec::new();
    for (table, (name, number, columns)) in TABLES.into_iter().enumerate() {
        let sealed = columns.last().expect("columns");
        let now: Vec<i64> =
            database.numbers(&format!("SELECT {number} AS x FROM {}", rows_of(name)));
        for row in now {
            let of = format!("SELECT hex({sealed}) AS x FROM {name} WHERE {number} = {row}");
            if database.ask(&of) != Database::open(old).ask(&of) {
                all.push(Damage::Revive { table, row });
            }
        }
    }
    assert!(all.len() >= 2, "the service and the head have changed: {all:?}");
    all
}

#[test]
fn no_change_to_the_database_goes_unnoticed() {
    let scratch = Scratch::new("tamper");
    let (purser, made, old) = make_store(&scratch);
    let places = Places { key: purser.dir().join("unlock.key"), ..Places::below(&scratch) };
    std::fs::create_dir(&places.data).expect("a directory");
    let copy = places.data.join("purser.db");
    let fresh = || {
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(places.data.join(format!("purser.db{ending}")));
        }
        std::fs::copy(&made, &copy).expect("a copy");
    };
    fresh();
    places.start().check_serves();

    fresh();
    let mut database = Database::open(&copy);
    let mut all = damages(&mut database);
    all.extend(revivals(&mut database, &old));
    drop(database);
    println!("{} ways of damage", all.len());
    assert!((100..300).contains(&all.len()), "{}", all.len());
    let mut wrong = Vec::new();
    for damage in all {
        fresh();
        let mut database = Database::open(&copy);
        let sql = damage.sql(&mut database, &old);
        database.run(sql);
        drop(database);
        let started = places.start();
        let text = started.text();
        let is_named = damage.names().iter().any(|name| text.contains(name));
        if started.code != Some(1) || !is_named {
            wrong.push(format!("{damage:?}: {:?}, {text}", started.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    fresh();
    places.start().check_serves();
}
