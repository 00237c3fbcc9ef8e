use std::sync::{Arc, Mutex, mpsc};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tempfile::TempDir;

use super::*;
use crate::engine::sqlite::{read, schema};

/// Readers of an empty store.
fn readers(connections: usize) -> (TempDir, Connection, Readers) {
    let directory = TempDir::new().unwrap();
    let writer = Connection::open(read::file(directory.path())).unwrap();
    schema::prepare_writer(&writer, 1 << 20).unwrap();
    schema::migrate(&writer).unwrap();
    let readers = Readers::open(directory.path(), connections, 1 << 20, Committed::default()).unwrap();
    (directory, writer, readers)
}

fn marks(connection: &View<'_>) -> Result<i64, EngineError> {
    connection.query_row("SELECT count(*) FROM marks", [], |row| row.get(0)).map_err(crate::engine::sqlite::fault)
}

/// A read that has begun, and ends when it is let go.
fn hold(readers: &Readers) -> (mpsc::Sender<()>, BoxFuture<'_, Result<i64, EngineError>>) {
    let (begun, begins) = mpsc::channel();
    let (let_go, waits) = mpsc::channel();
    let read = move |connection: &View<'_>| {
        let before = marks(connection)?;
        begun.send(()).unwrap();
        waits.recv().unwrap();
        assert_eq!(marks(connection)?, before, "it is not of one moment");
        Ok(before)
    };
    let mut read = readers.read(read).boxed();
    assert!((&mut read).now_or_never().is_none());
    begins.recv().unwrap();
    (let_go, read)
}

#[tokio::test]
async fn as_many_are_under_way_as_there_are_connections_and_the_others_follow_in_order() {
    let (_directory, _writer, readers) = readers(2);
    let (first_ends, first) = hold(&readers);
    let (second_ends, second) = hold(&readers);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |number: usize| {
        let order = order.clone();
        readers.read(move |_| {
            order.lock().unwrap().push(number);
            Ok(())
        })
    };
    let mut others: Vec<_> = (0..20).map(|number| Box::pin(note(number))).collect();
    for other in &mut others {
        assert!(other.now_or_never().is_none());
    }
    assert!(order.lock().unwrap().is_empty(), "both connections are held");
    first_ends.send(()).unwrap();
    assert!(first.await.is_ok());
    for answered in join_all(others).await {
        answered.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    second_ends.send(()).unwrap();
    assert!(second.await.is_ok());
}

#[tokio::test]
async fn a_read_is_of_one_moment_that_is_not_before_it_was_asked_for() {
    let (_directory, writer, readers) = readers(2);
    let add = |name: i64| writer.execute("INSERT INTO marks VALUES (?1, 1)", [name.to_string()]).unwrap();
    let (ends, long) = hold(&readers);
    for number in 1..=50 {
        add(number);
        let found = readers.read(marks).await.unwrap();
        assert!(found >= number, "{number} are there, {found} are seen");
    }
    ends.send(()).unwrap();
    assert!(long.await.is_ok());
}

#[tokio::test]
async fn a_read_that_panics_is_told_to_who_asked_and_to_nobody_else() {
    let (_directory, _writer, readers) = readers(1);
    for _ in 0..3 {
        let panics = |connection: &View<'_>| -> Result<(), EngineError> {
            marks(connection)?;
            panic!("as it is meant to");
        };
        assert!(matches!(readers.read(panics).await, Err(EngineError::Unavailable(_))));
        let in_transaction = |connection: &View<'_>| Ok(!connection.is_autocommit());
        assert!(readers.read(in_transaction).await.unwrap(), "the next one has a transaction of its own");
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_read() {
    let (_directory, _writer, readers) = readers(1);
    let (ends, long) = hold(&readers);
    let (reads, was_read) = mpsc::channel();
    let given_up = readers.read(move |_| {
        reads.send(()).unwrap();
        Ok(())
    });
    assert!(given_up.now_or_never().is_none());
    ends.send(()).unwrap();
    assert!(long.await.is_ok());
    readers.read(marks).await.unwrap();
    assert_eq!(was_read.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[tokio::test]
async fn closing_lets_those_end_that_were_asked_for_and_refuses_others() {
    let (_directory, _writer, readers) = readers(1);
    let (ends, long) = hold(&readers);
    let mut next = Box::pin(readers.read(marks));
    assert!((&mut next).now_or_never().is_none());
    thread::scope(|scope| {
        scope.spawn(|| readers.close());
        // What is asked for before it closes waits, and is given up.
        let refused = loop {
            if let Some(answer) = readers.read(marks).now_or_never() {
                break answer;
            }
            thread::yield_now();
        };
        assert!(matches!(refused, Err(EngineError::Unavailable(_))));
        ends.send(()).unwrap();
    });
    assert!(long.await.is_ok());
    assert!(next.await.is_ok());
    assert!(matches!(readers.read(marks).await, Err(EngineError::Unavailable(_))));
}
